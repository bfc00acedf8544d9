"""Processes that do tasks, and are replaced when a page kills them. Results come in the order of their tasks.

A process that dies (no memory, a fault of a library) had said which capture it was at. Its tasks are done again by
others; a capture at which two have died is not looked at any more, and what comes of it says so.

The first processes are forked, before anything has threads; those that take the place of dead ones are spawned.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkContext, SpawnContext
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawArray, SynchronizedArray
from typing import Any, Final, Generic, Protocol, TypeVar

from sqspider.archive.errors import ArchiveError
from sqspider.extract.working import Result, ResultT, Task
from sqspider.frontier import FrontierError

MAX_DEATHS: Final = 2  # at one capture
MAX_IDLE_DEATHS: Final = 5  # in a row, of processes that were at none
_AHEAD: Final = 2  # tasks that a process has, so that it need not wait for the next
_WINDOW: Final = 4  # tasks, for each process, whose results may wait for those before them
_OBJECTS: Final = 100_000  # that come before cycles are looked for: rows have none, and are many
_CAPTURES: Final = 1 << 20  # of a task: what a process is at is one number, written at once


_ResultT = TypeVar("_ResultT", bound=Result, covariant=True)


class Doing(Protocol[_ResultT]):
    """Does tasks."""

    def do(self, task: Task) -> _ResultT:
        """Raises :class:`ArchiveError`, :class:`FrontierError` and ``ValueError``."""


class ToDo(Protocol[_ResultT]):
    """What all tasks have in common. It can be sent to another process."""

    def worker(self, note: Callable[[int], None]) -> AbstractContextManager[Doing[_ResultT]]:
        """Who does it. ``note`` is to be told which capture is looked at, before it is."""


class PoolError(ArchiveError):
    """What a process says that it cannot go on with."""


class _Process:
    """One of them, with the tasks that it has."""

    def __init__(self, process: BaseProcess, pipe: Connection, slot: int) -> None:
        self.process = process
        self.pipe = pipe
        self.slot = slot
        self.tasks: deque[Task] = deque()


class Here(Generic[ResultT]):
    """Does tasks in this process: for few, where none can be forked, and to start one takes longer. A page that kills
    it ends all."""

    def __init__(self, work: ToDo[ResultT]) -> None:
        self._work = work

    def results(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, ResultT]]:
        """As :meth:`Pool.results`. Raises what whoever does them raises."""
        with self._work.worker(lambda _: None) as worker:
            for task in tasks:
                yield task, worker.do(task)


class Pool(Generic[ResultT]):
    """A context manager: at its end the processes are gone, whatever they were at."""

    def __init__(self, work: ToDo[ResultT], processes: int, *, forks: bool) -> None:
        self._work = work
        self._at = RawArray("q", [-1] * processes)  # by slot: what each is at
        self._processes: list[_Process] = []
        self._deaths: Counter[tuple[int, int]] = Counter()  # by task and capture
        self._idle_deaths = 0
        self._window = processes * _WINDOW
        context = multiprocessing.get_context("fork") if forks else multiprocessing.get_context("spawn")
        gc.freeze()  # what is there stays: to look through it would be to copy it
        for slot in range(processes):
            self._start(context, slot)

    def __enter__(self) -> Pool[ResultT]:
        return self

    def __exit__(self, *error: object) -> None:
        for one in self._processes:
            one.process.kill()
        for one in self._processes:
            one.process.join()
            one.pipe.close()

    def results(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, ResultT]]:
        """Do tasks, whose numbers follow on each other. Raises :class:`PoolError`."""
        coming = iter(tasks)
        lost: deque[Task] = deque()  # of processes that died
        due: deque[int] = deque()  # the numbers of tasks whose results are to be handed out, in their order
        done: dict[int, tuple[Task, ResultT]] = {}
        while True:
            while (one := self._free()) is not None:
                task = lost.popleft() if lost else next(coming, None) if len(due) < self._window else None
                if task is None:
                    break
                if task.number not in due:
                    due.append(task.number)
                self._hand(one, task)
            if due and due[0] in done:
                yield done.pop(due.popleft())
            elif due:
                for one, result in self._received(lost):
                    done[result.number] = one.tasks.popleft(), result
            else:
                return

    def _free(self) -> _Process | None:
        one = min(self._processes, key=lambda one: len(one.tasks))
        return one if len(one.tasks) < _AHEAD else None

    def _hand(self, one: _Process, task: Task) -> None:
        one.tasks.append(task)
        with suppress(BrokenPipeError):  # it has died, which shows when it is listened to
            one.pipe.send(task)

    def _received(self, lost: deque[Task]) -> Iterator[tuple[_Process, ResultT]]:
        """What those who work have to say; the tasks of those that died are put to the ``lost`` ones."""
        busy = {one.pipe: one for one in self._processes if one.tasks}
        ready = set(wait(list(busy)))
        for one in [one for pipe, one in busy.items() if pipe in ready]:
            try:
                said = one.pipe.recv()
            except (EOFError, ConnectionResetError):
                lost.extend(self._buried(one))
                continue
            if isinstance(said, Exception):
                raise said
            self._idle_deaths = 0
            yield one, said

    def _buried(self, one: _Process) -> Sequence[Task]:
        """The tasks of one that died; another is in its place."""
        one.process.join()
        number, capture = divmod(self._at[one.slot], _CAPTURES)
        at = next((task for task in one.tasks if task.number == number), None)
        if at is None:
            self._idle_deaths += 1
            if self._idle_deaths > MAX_IDLE_DEATHS:
                raise PoolError(
                    f"the processes that read die at once, the last with {one.process.exitcode}: there is not "
                    "memory enough, perhaps. Ask for fewer with --processes"
                )
        else:
            self._deaths[number, capture] += 1
            if self._deaths[number, capture] >= MAX_DEATHS:
                if capture in at.killing:  # it was not looked at, and they die of it even so
                    raise PoolError(
                        f"the processes that read {at.file or 'what waited'} die, at offset {at.start:,} or behind it: "
                        "put that file elsewhere, and the others are read"
                    )
                at.killing.add(capture)
        self._processes.remove(one)
        one.pipe.close()
        self._at[one.slot] = -1
        self._start(multiprocessing.get_context("spawn"), one.slot)
        return one.tasks

    def _start(self, context: ForkContext | SpawnContext, slot: int) -> None:
        ours, theirs = context.Pipe()
        is_forked = isinstance(context, ForkContext)
        inherited = [*(one.pipe for one in self._processes), ours] if is_forked else []
        arguments = (self._work, theirs, inherited, self._at, slot)
        process = context.Process(target=_run, args=arguments, daemon=True)
        process.start()
        theirs.close()
        self._processes.append(_Process(process, ours, slot))


def cores() -> int:
    """How many processes can work at a time."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _speak_elsewhere() -> None:
    """What one's own code prints is no row, nor told to whoever reads what this program prints."""
    sys.stdout = sys.stderr
    with suppress(OSError):  # one of the two is closed
        os.dup2(2, 1)


def _end_with_parent() -> None:
    """One's own code may never come back to ask for the next task, and so not hear that nobody is there any more."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def end() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=end, name="parent", daemon=True).start()


def _run(
    work: ToDo[Result], pipe: Connection, inherited: Sequence[Connection], at: SynchronizedArray[Any], slot: int
) -> None:
    """A process: it ends with its pipe, and so with whoever started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it ends it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _speak_elsewhere()
    _end_with_parent()
    for other in inherited:  # while they were open here, the end of those who work would not be heard
        other.close()
    gc.set_threshold(_OBJECTS, 20, 100)
    number = 0

    def note(capture: int) -> None:
        at[slot] = -1 if capture < 0 else number * _CAPTURES + capture

    try:
        with work.worker(note) as worker:
            while True:
                task: Task = pipe.recv()
                number = task.number
                pipe.send(worker.do(task))
    except (EOFError, BrokenPipeError):
        return
    except (ArchiveError, FrontierError, ValueError) as error:
        with suppress(BrokenPipeError):
            pipe.send(PoolError(str(error)))
