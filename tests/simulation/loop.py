"""Virtual time, and processes that can be killed or frozen at any moment.

The loop's clock jumps to the next timer. Every callback belongs to a process, by a context variable: those of a
dead one never run again, those of a frozen one run when it thaws. So a kill runs no ``finally``, no ``except``
and no done-callback, as SIGKILL runs none.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import random
from asyncio import base_events, events
from collections.abc import Callable, Coroutine
from typing import Any, Final

EPOCH: Final = 1_700_000_000.0  # what the clocks say when a history begins
GRAVEYARD: Final[list[object]] = []
"""What the dead held. Collecting a task closes its coroutine, which runs its ``finally``: so none of it is ever
given up, and a Python process that played histories ends by ``os._exit``."""

CURRENT: Final[contextvars.ContextVar[Process | None]] = contextvars.ContextVar("process", default=None)


class StuckError(Exception):
    """Nothing is going to happen any more, or the history does not come to its end."""


class _Handle(events.Handle):
    process: Process | None

    def _run(self) -> None:
        if self.process is None or self.process.may_run(self):
            super()._run()


class _Timer(events.TimerHandle):
    process: Process | None

    def _run(self) -> None:
        if self.process is None or self.process.may_run(self):
            super()._run()


class _Task(asyncio.Task[Any]):
    """A task whose place in a set does not depend on where it lies in memory."""

    _numbers: itertools.count[int] = itertools.count()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._number = next(_Task._numbers)
        super().__init__(*arguments, **named)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualLoop(base_events.BaseEventLoop):
    """No selector, no sockets, no threads: to wait is to move the clock."""

    _ready: Any
    _scheduled: list[Any]

    def __init__(self, *, most_seconds: float, most_events: int) -> None:
        super().__init__()
        self.now = 0.0
        self.events = 0
        self.skew = 0.0  # by which all clocks are wrong
        self._most_seconds, self._most_events = most_seconds, most_events
        self._clock_resolution = 1e-9
        self._selector = self
        _Task._numbers = itertools.count()
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self.now

    def select(self, timeout: float | None) -> list[Any]:
        """What the base class calls to wait for the network."""
        self.events += max(1, len(self._ready))
        if timeout is None:
            raise StuckError("nothing is going to happen any more")
        if timeout > 0:
            self.now = max(self.now, self._scheduled[0].when())
        if self.now > self._most_seconds or self.events > self._most_events:
            raise StuckError(f"no end after {self.now:,.0f} s and {self.events:,} events")
        return []

    def _process_events(self, event_list: list[Any]) -> None: ...

    def _write_to_self(self) -> None: ...

    def _call_soon(self, callback: Any, args: Any, context: Any) -> events.Handle:
        handle = _Handle(callback, args, self, context)
        handle.process = _process_of(context)
        self._ready.append(handle)
        return handle

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> events.TimerHandle:  # type: ignore[override]
        timer = _Timer(when, callback, args, self, context)
        timer.process = _process_of(context)
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def _make_task(self, _: object, coroutine: Any, *, context: Any = None) -> _Task:
        task = _Task(coroutine, loop=self, context=context)
        process = _process_of(context)
        if process is not None:
            process.tasks.add(task)
            task.add_done_callback(process.tasks.discard, context=contextvars.Context())
        return task


def _process_of(context: contextvars.Context | None) -> Process | None:
    return CURRENT.get() if context is None else context.get(CURRENT)


class Process:
    """One process of an operating system: its tasks, its clock, its death. ``offset``: how far its clock is wrong."""

    def __init__(self, loop: VirtualLoop, name: str, kills: Kills, *, offset: float = 0.0) -> None:
        self.loop, self.name, self.kills, self.offset = loop, name, kills, offset
        self.is_dead = False
        self.was_poisoned = False  # it died of what it fetched
        self.now: Callable[[], float] = self.clock  # as its frontier has it
        self.thawed_at = -1.0  # the last time
        self.frozen_at: list[float] = []
        self.tasks: set[_Task] = set()
        self.ended = asyncio.Event()
        self.on_death: list[Callable[[], None]] = []
        self._asleep_until = 0.0
        self._slept_through: list[Any] = []

    def clock(self) -> float:
        """Seconds since the epoch, as this process has it."""
        return EPOCH + self.loop.now + self.loop.skew + self.offset

    def may_run(self, handle: Any) -> bool:
        """Asked by each callback before it runs."""
        if self.is_dead:
            return False
        if self._asleep_until > self.loop.now:
            self._slept_through.append(handle)
            return False
        return True

    def freeze(self, seconds: float) -> None:
        """Run nothing for a while: SIGSTOP, or a closed lid. Timers that fall into it fire at its end."""
        if not self.is_dead and self._asleep_until <= self.loop.now:
            self._asleep_until = self.thawed_at = self.loop.now + seconds
            self.frozen_at.append(self.loop.now)
            self.loop.call_at(self._asleep_until, self._thaw, context=contextvars.Context())

    def _thaw(self) -> None:
        self._asleep_until = 0.0
        slept, self._slept_through = self._slept_through, []
        self.loop._ready.extend(slept)

    def die(self) -> None:
        """SIGKILL."""
        if not self.is_dead:
            self.is_dead = True
            GRAVEYARD.append(list(self.tasks))
            for told in self.on_death:
                told()
            contextvars.Context().run(self.ended.set)

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine as this process's own; ``ended`` is set when it returns."""
        context = contextvars.copy_context()
        context.run(CURRENT.set, self)
        task = self.loop.create_task(coroutine, context=context)
        task.add_done_callback(lambda _: self.ended.set(), context=contextvars.Context())
        return task


class Kills:
    """The points at which their process dies: before and after every call to the outside, numbered as they come."""

    def __init__(
        self, rng: random.Random, *, at: frozenset[int] = frozenset(), chance: float = 0.0, most: int = 0
    ) -> None:
        self.points = 0
        self.done = 0
        self._rng, self._at, self._chance, self._most = rng, at, chance, most

    def is_due(self) -> bool:
        due = self.points in self._at or (self.done < self._most and self._rng.random() < self._chance)
        self.points += 1
        self.done += due
        return due


async def point() -> None:
    """A point at which the process that runs may die: then this never returns."""
    process = CURRENT.get()
    if process is not None and process.kills.is_due():
        await die(process)


async def die(process: Process) -> None:
    """End the process that runs; never returns."""
    process.die()
    await process.loop.create_future()
