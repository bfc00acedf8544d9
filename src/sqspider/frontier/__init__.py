"""The frontier: queue, URL records and host rows behind one port.

``port`` says what it can do, ``values`` what goes in and out, ``address`` which one is meant, ``answers`` what all
adapters do alike; ``sqlite``, ``aws`` and ``memory`` are the adapters. Nothing here knows how a page is fetched.
"""

from __future__ import annotations

import importlib
import random

from sqspider.frontier.address import IN_MEMORY as IN_MEMORY
from sqspider.frontier.address import check_address as check_address
from sqspider.frontier.address import sqlite_path as sqlite_path
from sqspider.frontier.port import Crawls as Crawls
from sqspider.frontier.port import Frontier as Frontier
from sqspider.frontier.port import Hosts as Hosts
from sqspider.frontier.port import Looking as Looking
from sqspider.frontier.port import TurningFrontier as TurningFrontier
from sqspider.frontier.port import Upkeep as Upkeep
from sqspider.frontier.port import Work as Work
from sqspider.frontier.values import CHANCE
from sqspider.frontier.values import MAX_RECEIVES as MAX_RECEIVES
from sqspider.frontier.values import Bill as Bill
from sqspider.frontier.values import ClaimRequest as ClaimRequest
from sqspider.frontier.values import Clock as Clock
from sqspider.frontier.values import Counts as Counts
from sqspider.frontier.values import DeadLetter as DeadLetter
from sqspider.frontier.values import Deferral as Deferral
from sqspider.frontier.values import Delivery as Delivery
from sqspider.frontier.values import Ends as Ends
from sqspider.frontier.values import Entry as Entry
from sqspider.frontier.values import Finish as Finish
from sqspider.frontier.values import FrontierBusyError as FrontierBusyError
from sqspider.frontier.values import FrontierError as FrontierError
from sqspider.frontier.values import FrontierSettings as FrontierSettings
from sqspider.frontier.values import FrontierUnavailableError as FrontierUnavailableError
from sqspider.frontier.values import Hold as Hold
from sqspider.frontier.values import Lost as Lost
from sqspider.frontier.values import LostReason as LostReason
from sqspider.frontier.values import Onward as Onward
from sqspider.frontier.values import Outlinks as Outlinks
from sqspider.frontier.values import PurgedLatelyError as PurgedLatelyError
from sqspider.frontier.values import QueueStats as QueueStats
from sqspider.frontier.values import Retry as Retry
from sqspider.frontier.values import RobotsRow as RobotsRow
from sqspider.frontier.values import Taken as Taken
from sqspider.frontier.values import Taking as Taking
from sqspider.frontier.values import Traits as Traits
from sqspider.frontier.values import Turned as Turned
from sqspider.frontier.values import Won as Won
from sqspider.frontier.values import WorkerRow as WorkerRow
from sqspider.frontier.values import no_passage as no_passage
from sqspider.host import Admission as Admission
from sqspider.host import Entered as Entered
from sqspider.host import Entrance as Entrance
from sqspider.host import Exit as Exit
from sqspider.host import SlotDemand as SlotDemand


async def open_frontier(
    address: str, settings: FrontierSettings, *, clock: Clock, rng: random.Random = CHANCE, looking: bool = False
) -> Frontier:
    """Open a frontier by its address. ``rng`` makes its receipts, marks and stamps, where it needs any.

    ``sqlite:PATH`` (``sqlite::memory:`` keeps it in memory), or ``aws:``, the queue ``QUEUE_URL`` and
    the table ``TABLE_NAME`` of the environment. ``looking``: nothing will be written; a file must be
    there, and need not be one that can be written.

    Raises :class:`FrontierUnavailableError` if it cannot be opened, ``ValueError`` for an address
    of another kind.
    """
    check_address(address)
    path = sqlite_path(address)
    if path is None:
        from sqspider.frontier.aws import AwsFrontier

        return await AwsFrontier.open(settings, clock=clock, rng=rng)
    from sqspider.frontier.sqlite import SqliteFrontier

    return await SqliteFrontier.open(path, settings, clock=clock, looking=looking)


def import_adapter(address: str) -> None:
    """Import what :func:`open_frontier` needs for a frontier of this address, so that processes share it."""
    importlib.import_module(f"{__name__}.{'aws' if sqlite_path(address) is None else 'sqlite'}")
