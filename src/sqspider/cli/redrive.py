"""``redrive``: dead letters, listed with why they died, or put back into the queue."""

from __future__ import annotations

import asyncio
import json
from typing import Final

import click

from sqspider.cli.exit_status import GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.wording import printable
from sqspider.export import iso
from sqspider.frontier import DeadLetter, Looking, Upkeep
from sqspider.message import BadBody, Message, decode_message
from sqspider.redact import redact

MAX_LISTED: Final = 10_000
BATCH: Final = 1000


@click.command(cls=Command)
@click.option("--list", "only_list", is_flag=True, help="List them with why they died, instead.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@pass_shared
def redrive(shared: Shared, /, only_list: bool, as_json: bool) -> int:
    """Put dead letters back into the queue."""

    async def main() -> None:
        async with opened(shared, looking=only_list, mending=not only_list) as frontier:
            await (_list(frontier, as_json=as_json) if only_list else _put_back(frontier, as_json=as_json))

    asyncio.run(main())
    return GOOD


async def _put_back(frontier: Upkeep, *, as_json: bool) -> None:
    revived = 0
    while some := await frontier.redrive(BATCH):
        revived += some
    print(json.dumps({"redriven": revived}) if as_json else f"{revived:,} messages put back")


async def _list(frontier: Looking, *, as_json: bool) -> None:
    letters = await frontier.dead_letters(MAX_LISTED)
    for letter, why in zip(letters, await _why_dead(frontier, letters), strict=True):
        body = redact(letter.body)
        if as_json:
            row = {"message_id": letter.message_id, "receives": letter.receive_count, "body": body}
            print(json.dumps({**row, "sent_at": iso(letter.sent_at), "why": why}))
        else:
            print(f"{letter.message_id}  {printable(body)}\n    {why}")


async def _why_dead(frontier: Looking, letters: list[DeadLetter]) -> list[str]:
    """Why each letter died, as far as its body and its URL's record tell."""
    messages = [decode_message(letter.body) for letter in letters]
    records = await frontier.get([message.key for message in messages if isinstance(message, Message)])
    lines = []
    for message, letter in zip(messages, letters, strict=True):
        if isinstance(message, BadBody):
            lines.append(f"it is no message: {message.why}")
            continue
        record = records.get(message.key)
        often = f"it was received {letter.receive_count} times"
        if record is None:
            lines.append(f"{often}, and its URL was never recorded")
        elif record.status.is_final:
            lines.append(f"{often}; its URL is {record.status.value}, so it is not needed any more")
        else:
            lines.append(
                f"{often}; its URL is {record.status.value}, after {record.unended} claims that were not ended"
            )
    return lines
