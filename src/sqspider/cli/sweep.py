"""``sweep``: puts messages back for records that have lost theirs."""

from __future__ import annotations

import asyncio
import json

import click

from sqspider.cli.exit_status import GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.work.upkeep import sweep_all


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print the number as JSON.")
@pass_shared
def sweep(shared: Shared, /, as_json: bool) -> int:
    """Put back messages for records that are past their time and have none.

    Workers do so by themselves now and then.
    """

    async def main() -> int:
        async with opened(shared, mending=True) as frontier:
            return await sweep_all(frontier)

    released = asyncio.run(main())
    print(json.dumps({"released": released}) if as_json else f"{released:,} messages put back")
    return GOOD
