"""The embedded frontier: queue, URL records and host rows in one SQLite file.

Several processes may share the file. Every operation is one write transaction for its whole batch,
so there is no half-way: an operation that dies has not happened. WAL with ``synchronous=FULL``:
what was answered survives a loss of power.
"""

from __future__ import annotations

from sqspider.frontier.runner import Runner
from sqspider.frontier.sqlite.claims import Claims
from sqspider.frontier.sqlite.clearing import Clearing
from sqspider.frontier.sqlite.connection import OpenFile
from sqspider.frontier.sqlite.crawls import Crawls
from sqspider.frontier.sqlite.enqueue import Records
from sqspider.frontier.sqlite.hosts import Hosts
from sqspider.frontier.sqlite.looking import Looking
from sqspider.frontier.sqlite.messages import Messages
from sqspider.frontier.sqlite.moving import Moving
from sqspider.frontier.sqlite.reopening import Reopening
from sqspider.frontier.sqlite.robots import Robots
from sqspider.frontier.sqlite.runs import Runs
from sqspider.frontier.sqlite.sweep import Sweeps
from sqspider.frontier.sqlite.turns import Turns
from sqspider.frontier.sqlite.upkeep import Upkeep
from sqspider.frontier.values import Clock, FrontierSettings, Traits


class SqliteFrontier(
    Records, Reopening, Messages, Claims, Turns, Crawls, Runs, Hosts, Robots, Looking, Sweeps, Upkeep, Moving, Clearing
):
    """The :class:`~sqspider.frontier.TurningFrontier` in a SQLite file. Made by :meth:`open`."""

    @classmethod
    async def open(
        cls,
        path: str,
        settings: FrontierSettings,
        *,
        clock: Clock,
        runner: Runner | None = None,
        looking: bool = False,
    ) -> SqliteFrontier:
        """Open a file, made if it is absent; ``:memory:`` for none. See :mod:`sqspider.frontier.sqlite.file`.

        ``runner`` runs its steps; none: the event loop, and a thread for what waits for the disk. ``looking``:
        nothing will be written; the file must be there. Raises :class:`FrontierUnavailableError` if it is no frontier,
        of another version, damaged, or cannot be opened or written.
        """
        file = OpenFile(path, settings, clock=clock, runner=runner)
        await file.open(looking=looking)
        return cls(file)

    async def close(self) -> None:
        await self._file.close()

    @property
    def place(self) -> str:
        return f"sqlite:{self._file.path}"

    @property
    def traits(self) -> Traits:
        return Traits(has_turns=True, tells_crawls_apart=True)

    @property
    def generation(self) -> int:
        return self._file.generation

    def now(self) -> float:
        return self._file.clock()
