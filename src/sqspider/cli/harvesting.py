"""Extraction while a crawl runs: its options, and the process that does it, begun, listened to, and begun again when it
has died."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from sqspider.cli.exit_status import GOOD
from sqspider.cli.sections import section
from sqspider.cli.wording import counted, printable
from sqspider.extract.harvest import Came, Order
from sqspider.extract.rules_said import rules_of_table, table_in
from sqspider.extract.selection import Selection
from sqspider.log import get_logger
from sqspider.orders.order import ConfigFile
from sqspider.orders.start import ArchivePlace
from sqspider.tables.opening import PARQUET, format_of, is_folder
from sqspider.tables.table import TableError

log = get_logger(__name__)

TO: Final = "to"  # in the rules' file: where rows go
MAX_DEATHS: Final = 5
_COMMAND: Final = (sys.executable, "-P", "-m", "sqspider.cli.extractor")

extract_options = section(
    "Extracting",
    click.option(
        "--extract", "extract", type=click.Path(path_type=Path), metavar="RULES",
        help="Make rows of the pages as they come, by the rules of a file (TOML), as `extract --rules` does.  "
        "[default: the table [extract] of --config]",
    ),
    click.option(
        "--extract-to", metavar="FILE",
        help="Where they go: JSON lines, CSV, SQLite, or a folder of parts; gone on with when the crawl is.  "
        "[default: what the rules say as `to`]",
    ),
)  # fmt: skip


def to_order(
    given: dict[str, Any], config: ConfigFile | None, frontier: str, place: ArchivePlace | None, crawl: str
) -> Order | None:
    """What is to be extracted while a crawl runs; none: nothing. Raises ``click.UsageError``."""
    path, to = given.pop("extract"), given.pop("extract_to")
    if path is None and (config is None or config.extract is None):
        if to is not None:
            raise click.UsageError("--extract-to: say with --extract what is to be extracted.")
        return None
    if place is None:
        raise click.UsageError("--extract: rows are made of what is kept, and here nothing is: leave out --no-archive.")
    try:
        told = dict(table_in(path) if path is not None or config is None else config.extract or {})
        where = str(path) if path is not None or config is None else f"{config.path}: [extract]"
        to = to or told.pop(TO, None)
        told.pop(TO, None)
        if not isinstance(to, str) or not to or to == "-":
            raise click.UsageError(f"--extract-to: say which file rows go to, or in {where} as `to`.")
        rules = rules_of_table(told, where)
        is_file = not is_folder(to) and not Path(to).is_dir()
        order = Order(
            archive=place.address, to=to, rules=rules, selection=Selection(crawl=crawl), frontier=frontier,
            parts=not is_file or format_of(to) == PARQUET,
        )  # fmt: skip
        order.check()
    except (TableError, ValueError) as error:
        raise click.UsageError(f"--extract: {error}.") from None
    return order


class Extracting:
    """The process behind a crawl."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._process: asyncio.subprocess.Process | None = None
        self._kept: asyncio.Task[Came | None] | None = None
        self._is_over = False

    async def begin(self) -> None:
        """From here on rows follow the archive."""
        self._process = await self._start()
        self._kept = asyncio.create_task(self._keep(self._process))

    async def end(self) -> Came | None:
        """The crawl is over: all that it has kept is read, then it ends. None: it could not, and has said why."""
        assert self._kept is not None
        self._is_over = True
        self._tell_the_end()
        return await self._kept

    async def _keep(self, process: asyncio.subprocess.Process) -> Came | None:
        for _ in range(MAX_DEATHS):
            assert process.stdout is not None
            told = await process.stdout.read()
            status = await process.wait()
            if status == GOOD and told:
                return msgspec.json.decode(told, type=Came, dec_hook=lambda _, value: Counter(value))
            if status >= 0:
                return None  # it has said why
            log.warning("extractor_died", pid=process.pid, signal=-status)
            self._process = process = await self._start()
        return None

    async def _start(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *_COMMAND,
            stdin=asyncio.subprocess.PIPE,  # its end tells it that the crawl is over, even if this process was killed
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is the crawl's
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(self._order) + b"\n")
        if self._is_over:
            process.stdin.close()
        return process

    def _tell_the_end(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def lines(self, came: Came) -> list[str]:
        """What came of it, for a person."""
        tally = came.tally
        lines = [f"{counted(came.rows_there, 'row', 'rows')} in {self._order.to}"]
        if tally.errors:
            kinds = ", ".join(f"{number:,} {kind}" for kind, number in tally.errors.most_common())
            lines.append(f"pages with an error: {kinds}; the column error says what of each")
        for name, number in tally.missing.most_common():
            first = printable(tally.first_missing.get(name, ""))
            lines.append(f"{name} is missing on {counted(number, 'page', 'pages')}, the first of them {first}")
        return lines + [f"damaged: {printable(why)}" for why in came.damage.values()]
