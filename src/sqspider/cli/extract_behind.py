"""Extraction behind a crawl: the process that does it (``extract_process``) is begun, told of the end, begun again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import click
import msgspec

from sqspider.cli.exit_status import GOOD
from sqspider.cli.shortcomings import shortcomings
from sqspider.cli.wording import counted
from sqspider.extract.harvest import Came, Order
from sqspider.extract.rules_said import rules_of_table
from sqspider.extract.selection import Selection
from sqspider.log import get_logger
from sqspider.tables.opening import PARQUET, format_of, is_folder

log = get_logger(__name__)

MAX_DEATHS: Final = 5
_COMMAND: Final = (sys.executable, "-P", "-m", "sqspider.cli.extract_process")


def order_by(told: Mapping[str, Any], where: str, *, archive: str, to: str, frontier: str, crawl: str) -> Order:
    """What is to be extracted of a crawl, by rules that stand somewhere. What cannot be gone on with becomes a folder
    of parts. Raises ``ValueError`` and :class:`sqspider.tables.table.TableError`."""
    is_folder_of_parts = is_folder(to) or os.path.isdir(to) or format_of(to) == PARQUET
    order = Order(
        archive=archive,
        to=to,
        rules=rules_of_table(told, where),
        selection=Selection(crawl=crawl),
        frontier=frontier,
        parts=is_folder_of_parts,
    )
    order.check()
    return order


class Following:
    """The process behind a crawl: begun, told of its end, and begun again when it has died."""

    def __init__(self, order: Order, words: str) -> None:
        """``words``: what was said for it."""
        self.words = words
        self.to = order.to
        self._order = order
        self._process: asyncio.subprocess.Process | None = None
        self._is_over = False

    async def along(self, work: Awaitable[bool], say: Callable[[str], None]) -> bool:
        """Extract while a crawl works, and to the end of what it has kept; whether both went well."""
        if self._order.parts and not is_folder(self._order.to):
            say(f"{self._order.to} is a folder of parts: a Parquet file cannot be gone on with")
        is_good, came = await self._beside(work)
        for line in self._lines(came) if came is not None else ():
            say(line)
        return is_good and came is not None and not came.damage

    async def before_visiting_again(self, say: Callable[[str], None]) -> None:
        """Extract what is kept by now: afterwards records tell of a later visit, and which captures counted is not
        known any more. Raises ``click.ClickException`` where it cannot be done."""
        say("rows of what is kept by now come first")
        _, came = await self._beside(asyncio.sleep(0, result=True))
        if came is None:
            raise click.ClickException(
                "nothing is visited again, for what is kept by now would get no rows: mend that, or leave out --extract"
            )

    async def _beside(self, work: Awaitable[bool]) -> tuple[bool, Came | None]:
        """What came of some work, and of extraction meanwhile and to the end; none: it could not be done."""
        self._is_over = False
        self._process = await self._start()
        kept = asyncio.create_task(self._keep(self._process))
        try:
            try:
                is_good = await work
            finally:
                self._is_over = True
                self._tell_the_end()
            return is_good, await kept
        except asyncio.CancelledError:  # a Ctrl-C of who does not want to wait for its end
            kept.cancel()  # first: what was killed is not begun again
            with suppress(ProcessLookupError):
                self._process.kill()
            raise

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

    def _lines(self, came: Came) -> list[str]:
        """What came of it, for a person."""
        return [f"{counted(came.rows_there, 'row', 'rows')} in {self._order.to}", *shortcomings(came)]
