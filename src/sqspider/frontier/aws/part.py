"""What the parts of a frontier on AWS share, and what each of them is built on."""

from __future__ import annotations

import random

import msgspec

from sqspider.frontier.aws.bill import Usage
from sqspider.frontier.aws.client import AwsClient
from sqspider.frontier.aws.clock import AwsClock
from sqspider.frontier.aws.doubts import Doubts
from sqspider.frontier.aws.holds import Holds
from sqspider.frontier.aws.host_rows import HostRows
from sqspider.frontier.aws.place import Place
from sqspider.frontier.aws.queue import Queue, Rules
from sqspider.frontier.aws.sums import Sums
from sqspider.frontier.aws.table import Table
from sqspider.frontier.values import FrontierBusyError, FrontierSettings
from sqspider.log import get_logger

log = get_logger(__name__)


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """One frontier's queue and table, what this process remembers of them, and whence its time and chance come."""

    place: Place
    client: AwsClient
    queue: Queue
    rules: Rules  # of the queue
    table: Table
    settings: FrontierSettings
    clock: AwsClock
    rng: random.Random
    usage: Usage
    sums: Sums
    host_rows: HostRows
    holds: Holds
    doubts: Doubts


class Part:
    """A part of the frontier: some of its operations."""

    def __init__(self, shared: Shared) -> None:
        self.client = shared.client
        self.usage = shared.usage
        self._place = shared.place
        self._queue = shared.queue
        self._rules = shared.rules
        self._table = shared.table
        self._settings = shared.settings
        self._clock = shared.clock
        self._rng = shared.rng
        self._sums = shared.sums
        self._host_rows = shared.host_rows
        self._holds = shared.holds
        self._doubts = shared.doubts

    async def flush(self, *, all_hosts: bool = False) -> None:
        """Write the sums that were gathered here, those of hosts if they are due or ``all_hosts`` says so. If AWS is
        too busy, they are kept for the next time."""
        writes = [self._doubts.settle, self._sums.flush]
        if all_hosts or self._host_rows.are_due:
            writes.append(self._host_rows.flush)
        for write in writes:
            try:
                await write()
            except FrontierBusyError as error:
                log.warning("frontier_busy", during="sums", error=str(error))

    async def _flush_if_due(self) -> None:
        if self._sums.are_due:
            await self.flush()
