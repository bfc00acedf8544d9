"""What the parts of the frontier in memory share: a handle on its store, with a clock of its own."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqspider.frontier.memory.store import MemoryStore
from sqspider.frontier.runner import Runner
from sqspider.frontier.values import CHANCE, Clock, FrontierSettings

P = ParamSpec("P")
T = TypeVar("T")


class _InTurn:
    """Lets others have their turn before each step, as they have it wherever an operation takes its time."""

    async def run(self, work: Callable[[], T], end: Callable[[], None] | None = None) -> T:  # noqa: ARG002 - no disk
        await asyncio.sleep(0)
        return work()

    def close(self) -> None: ...


class Part:
    """A handle on a store.

    Its ``runner`` runs each step: there a simulator lets time pass, or the worker die. ``rng`` makes its receipts.
    """

    def __init__(
        self,
        store: MemoryStore,
        settings: FrontierSettings,
        *,
        clock: Clock,
        rng: random.Random = CHANCE,
        runner: Runner | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._runner = runner or _InTurn()
        self._receipts = 0
        self._receipt_prefix = f"{rng.getrandbits(48):012x}"
        self._generation = store.generation

    async def _run(self, step: Callable[[], T]) -> T:
        """Run a step: nobody sees the middle of it, and if it raises, it has not happened."""
        return await self._runner.run(functools.partial(self._store.journal.whole, step))


S = TypeVar("S", bound=Part)


def operation(step: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """An operation of the port that is one step."""

    @functools.wraps(step)
    async def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(functools.partial(step, self, *args, **kwargs))

    return run
