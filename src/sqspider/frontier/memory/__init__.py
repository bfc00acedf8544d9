"""The frontier in this process's memory: what the words of the port mean, in dictionaries and heaps.

For looks ahead, tests, simulators and readers: nothing is kept when the process ends. What is there is one
:class:`MemoryStore`; each worker has a handle on it, a :class:`MemoryFrontier` with a clock of its own. Every
operation is one step: nobody sees the middle of it, one that raises has not happened, and none costs more when more
is waiting.
"""

from __future__ import annotations

from sqspider.frontier.memory.crawls import Crawls
from sqspider.frontier.memory.looking import Looking
from sqspider.frontier.memory.store import MemoryStore as MemoryStore
from sqspider.frontier.memory.turns import Turns
from sqspider.frontier.memory.upkeep import Upkeep
from sqspider.frontier.values import Traits


class MemoryFrontier(Turns, Crawls, Looking, Upkeep):
    """A handle on a store: the :class:`~sqspider.frontier.TurningFrontier` of one worker."""

    @property
    def traits(self) -> Traits:
        return Traits(has_turns=True, tells_crawls_apart=True)

    @property
    def generation(self) -> int:
        return self._generation

    def now(self) -> float:
        return self._clock()
