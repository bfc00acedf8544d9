"""Workers forked from this process: they share what it has imported, and cost no start of their own.

Nothing may be open then that processes must not share: no event loop, no thread, no connection. So they are forked
first of all, and wait for the word to begin. See docs/decisions/015-forked-workers.md.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import NoReturn

from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD
from sqspider.cli.main import status_of


class Forked:
    """A worker that waits for the word to begin, or works."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self._pipe: int | None = pipe  # its standard input: the end tells it to stop, even if this process was killed
        self._has_ended = False

    def begin(self, told: bytes) -> None:
        """Let it work with what it is told, a line that a pipe takes at once."""
        assert self._pipe is not None
        with suppress(BrokenPipeError):  # it has died: who waits for it will know
            os.write(self._pipe, told + b"\n")

    def stop(self) -> None:
        """Let it finish what it has in flight, and end. It may have ended already."""
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def kill(self) -> None:
        """End it at once. It may have ended already."""
        if not self._has_ended:
            os.kill(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """End it at once, if it has not ended, and leave nothing of it."""
        if not self._has_ended:
            self.kill()
            self._reaped()

    async def wait(self) -> int:
        """How it ended: its exit status, or minus the signal that ended it."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="worker")
        seen = partial(os.waitid, os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        try:
            await asyncio.get_running_loop().run_in_executor(thread, seen)
        finally:
            thread.shutdown(wait=False)
        return self._reaped()

    def _reaped(self) -> int:
        """Not in the thread: until here nobody else can have its number, and be killed in its place."""
        self._has_ended = True
        self.stop()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def can_fork() -> bool:
    """Whether what is forked here can work. On macOS libraries of the system may end it; where threads run, what they
    have locked stays locked in it."""
    return hasattr(os, "fork") and sys.platform != "darwin" and threading.active_count() == 1


def fork_workers(number: int, work: Callable[[bytes], int]) -> list[Forked]:
    """Processes that wait for the word to begin, do ``work`` with it, and exit with the status that it gives.

    Only where :func:`can_fork` says so. The end of this process ends them, whether they have begun or not.
    """
    sys.stdout.flush()  # else each of them would write what is left there
    sys.stderr.flush()
    gc.freeze()  # what is there stays: to look through it would be to copy it
    workers: list[Forked] = []
    for _ in range(number):
        reading, writing = os.pipe()
        pid = os.fork()
        workers.append(Forked(pid, writing))
        if not pid:
            _be_worker(work, reading, workers)
        os.close(reading)
    return workers


def _be_worker(work: Callable[[bytes], int], pipe: int, pipes_of: Sequence[Forked]) -> NoReturn:
    status = NOT_ALL_GOOD
    try:
        os.setsid()  # a Ctrl-C reaches it through its parent, and only once
        for worker in pipes_of:  # while they were open here, their end would not be heard
            worker.stop()
        if pipe != 0:
            os.dup2(pipe, 0)
            os.close(pipe)
        status = status_of(lambda: work(told) if (told := line_of(0)) else GOOD)
        sys.stderr.flush()
    finally:
        os._exit(status)  # what its parent does after this is none of its business


def line_of(pipe: int) -> bytes:
    """A line without its end, and nothing more of what comes; empty where none comes."""
    line = b""
    while (byte := os.read(pipe, 1)) and byte != b"\n":
        line += byte
    return line if byte else b""
