"""Workers as processes of their own: started, replaced when they die, and stopped.

The first are forked where that can be, see ``forking``. Those that take the place of dead ones are started as
programs: by then this process has a loop and threads, and must not fork.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

from sqspider.cli.exit_status import GOOD, INTERRUPTED, NO_FRONTIER, USAGE
from sqspider.cli.forking import Forked
from sqspider.cli.shared import Shared
from sqspider.cli.start import arguments
from sqspider.frontier import FrontierUnavailableError
from sqspider.log import get_logger
from sqspider.orders.start import Start
from sqspider.work.options import WorkerOptions

log = get_logger(__name__)
SELF: Final = (sys.executable, "-P", "-m", "sqspider")  # -P: no module of the folder we are in takes another's place
AT_ONCE_SECONDS: Final = 10.0  # a worker that dies sooner after its start has died at once
MAX_AT_ONCE: Final = 5  # such deaths in a row, and it is not replaced any more
PAUSE_SECONDS: Final = 0.1  # before a worker is replaced; each such death doubles it


def consume_command(shared: Shared, options: WorkerOptions, start: Start, crawl: str) -> list[str]:
    """`consume` with what was given to `crawl`, until nothing is left or standard input ends."""
    command = [*SELF, *shared.arguments(), "consume", "--until-empty", "--with-parent", "--crawl", crawl]
    for flag, value in (
        ("--concurrency", options.concurrency),
        ("--batch-size", options.batch_size),
        ("--lease", options.lease_seconds),
        ("--robots-grace", options.robots_grace_seconds),
        ("--new-host-grace", options.new_host_grace_seconds),
        ("--host-grace", options.host_grace_seconds),
        ("--max-pages", options.max_pages),
        ("--run", options.run),
    ):
        if value is not None:
            command += [flag, str(value)]
    return command + arguments(start)


class Started:
    """A worker that was started as a program; as :class:`Forked` otherwise."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, command: Sequence[str], accounts: int) -> Started:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,  # its end tells it to stop, even if this process was killed
            stdout=accounts,
            # A Ctrl-C reaches it through us, and only once.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()

    async def wait(self) -> int:
        return await self._process.wait()


class WorkerProcesses:
    """So many processes of one command; one that dies is replaced by another.

    ``forked``: those that are there already, and do the same by what they are ``told``. What they did, each tells in
    the pipe ``accounts``.
    """

    def __init__(
        self, command: list[str], number: int, accounts: int, forked: Sequence[Forked] = (), told: bytes = b""
    ) -> None:
        self._command = command
        self._accounts = accounts
        self._told = told
        self._number = number
        self._forked = list(forked)
        self._stopping = asyncio.Event()
        self._processes: set[Forked | Started] = set()

    def stop(self) -> None:
        """Let them finish what they have in flight, and start no other."""
        self._stopping.set()
        for process in self._processes:
            process.stop()

    def kill(self) -> None:
        """End them at once."""
        for process in self._processes:
            process.kill()

    async def run(self) -> int:
        """Run them until they end; how many died and were not replaced.

        Raises :class:`FrontierUnavailableError` once one of them has lost the frontier; the others are stopped.
        """
        statuses = await asyncio.gather(*(self._keep_one() for _ in range(self._number)))
        if NO_FRONTIER in statuses:
            raise FrontierUnavailableError("the workers have lost the frontier: what they said of it stands above")
        return sum(status != GOOD for status in statuses)

    async def _keep_one(self) -> int:
        """Run one worker, and another when it has died; the exit status of the last."""
        at_once = 0
        while True:
            started = time.monotonic()
            pid, status = await self._run_one()
            if status == GOOD or (status == INTERRUPTED and self._stopping.is_set()):
                return GOOD
            at_once = at_once + 1 if time.monotonic() - started < AT_ONCE_SECONDS else 0
            # What is wrong with its arguments or with the frontier it has said, and so would the next one.
            is_replaced = status not in (USAGE, NO_FRONTIER) and at_once < MAX_AT_ONCE and not self._stopping.is_set()
            log.warning("worker_died", pid=pid, **_named(status), is_replaced=is_replaced)
            if status == NO_FRONTIER:
                self.stop()
            if not is_replaced or await self._is_stopped_within(PAUSE_SECONDS * 2**at_once):
                return status

    async def _run_one(self) -> tuple[int, int]:
        """Run one to its end; its process' number, and how it ended."""
        process = await self._begin_one()
        log.info("worker_started", pid=process.pid)
        self._processes.add(process)
        try:
            if self._stopping.is_set():
                process.stop()
            return process.pid, await process.wait()
        finally:
            self._processes.discard(process)

    async def _begin_one(self) -> Forked | Started:
        if not self._forked:
            return await Started.start(self._command, self._accounts)
        forked = self._forked.pop()
        forked.begin(self._told)
        return forked

    async def _is_stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True


def _named(status: int) -> dict[str, int | str]:
    """How a process ended, as fields of a log line."""
    if status >= 0:
        return {"status": status}
    try:
        return {"signal": signal.Signals(-status).name}
    except ValueError:  # one that has no name
        return {"signal": -status}
