"""The frontier on AWS: messages in SQS, everything else in one DynamoDB table.

``items`` tells what stands in the table. Each operation is a few batch calls in the safe order; what dies half-way is
found again by its lease or by ``due_at``. A throttled, failed or unclear call is tried again or raised, never taken
for a lost race.

The operations of the port, by what they are about: ``records``, ``claims``, ``messages``, ``parking``, ``aside``,
``dead_letters``, ``sweep``, ``crawl_rows``, ``crawls``, ``runs``, ``hosts``, ``robots``, ``counts``, ``points``,
``workers``, ``moving``, ``clearing``. Below them:
``table`` and ``queue`` (batches), ``sums``, ``host_rows``, ``holds`` and ``doubts`` (what this process remembers),
``client`` (one call), ``transport`` (one request).
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping
from typing import Final

from sqspider.frontier.aws.bill import Usage
from sqspider.frontier.aws.claims import Claims
from sqspider.frontier.aws.clearing import Clearing
from sqspider.frontier.aws.client import GIVE_UP_SECONDS, AwsClient
from sqspider.frontier.aws.clock import AwsClock
from sqspider.frontier.aws.counts import Counting
from sqspider.frontier.aws.crawls import Crawls
from sqspider.frontier.aws.credentials import find_keys
from sqspider.frontier.aws.dead_letters import DeadLetters
from sqspider.frontier.aws.doubts import Doubts
from sqspider.frontier.aws.holds import Holds
from sqspider.frontier.aws.host_rows import HostRows
from sqspider.frontier.aws.hosts import Hosts
from sqspider.frontier.aws.moving import Moving
from sqspider.frontier.aws.network import Network
from sqspider.frontier.aws.part import Shared
from sqspider.frontier.aws.place import Place, endpoints_for
from sqspider.frontier.aws.queue import Queue
from sqspider.frontier.aws.robots import Robots
from sqspider.frontier.aws.sums import Sums
from sqspider.frontier.aws.sweep import Sweep
from sqspider.frontier.aws.table import Table
from sqspider.frontier.aws.traits import TRAITS
from sqspider.frontier.aws.transport import HttpTransport, Transport
from sqspider.frontier.aws.workers import Workers
from sqspider.frontier.values import (
    CHANCE,
    Clock,
    FrontierBusyError,
    FrontierSettings,
    FrontierUnavailableError,
    Traits,
)
from sqspider.log import get_logger

OPEN_SECONDS: Final = 8.0  # of trying to reach AWS at all

log = get_logger(__name__)


class AwsFrontier(Claims, Crawls, Counting, DeadLetters, Sweep, Hosts, Robots, Workers, Moving, Clearing):
    """The :class:`~sqspider.frontier.Frontier` on SQS and DynamoDB. Made by :meth:`open`."""

    @classmethod
    async def open(
        cls,
        settings: FrontierSettings,
        *,
        clock: Clock,
        rng: random.Random = CHANCE,
        environment: Mapping[str, str] = os.environ,
        transport: Transport | None = None,
    ) -> AwsFrontier:
        """Open the queue ``QUEUE_URL`` and the table ``TABLE_NAME`` of the environment.

        Also read: ``AWS_REGION`` or ``AWS_DEFAULT_REGION`` (else the queue's own region),
        ``AWS_ENDPOINT_URL`` and ``AWS_ENDPOINT_URL_SQS``, ``_DYNAMODB``, ``_CLOUDWATCH``, and the
        credentials. ``transport``: what reaches AWS, closed with the frontier; none: HTTP, as the
        environment says. All chance is ``rng``'s. Raises :class:`FrontierUnavailableError` if either
        is not there, not allowed, or not as the crawler needs it.
        """
        place = Place.read(environment)
        shared_clock = AwsClock(clock)
        endpoints = endpoints_for(place.region, environment, place.queue_url)
        client = AwsClient(
            find_keys(environment),
            region=place.region,
            endpoints=endpoints,
            transport=transport or HttpTransport(endpoints, network=Network.read(environment), clock=clock),
            rng=rng,
            clock=shared_clock,
            give_up_seconds=OPEN_SECONDS,
        )
        try:
            return cls(await _shared(place, client, settings, shared_clock, rng))
        except FrontierBusyError as error:
            await client.close()
            raise FrontierUnavailableError(
                f"AWS cannot be reached in {place.region}: {error} (see AWS_REGION and AWS_ENDPOINT_URL)"
            ) from error
        except BaseException:
            await client.close()
            raise

    @property
    def place(self) -> str:
        return str(self._place)

    @property
    def queue_name(self) -> str:
        return self._queue.name

    @property
    def traits(self) -> Traits:
        return TRAITS

    def now(self) -> float:
        return self._clock()

    async def close(self) -> None:
        """Write the sums that are still here, and let go of the connections."""
        try:
            await self.flush(all_hosts=True)
        finally:
            await self.client.close()


async def _shared(
    place: Place, client: AwsClient, settings: FrontierSettings, clock: AwsClock, rng: random.Random
) -> Shared:
    """Look at queue and table, and make what all parts share."""
    usage = Usage()
    client.observers.append(usage.see)
    queue, table = Queue(client, place.queue_url), Table(client, place.table)
    host_rows, sums = HostRows(table, client, clock, rng), Sums(table, client, usage, clock, rng)
    rules, _ = await asyncio.gather(queue.rules(), table.check())
    if rules.redrive is None:
        log.warning(
            "no_dead_letter_queue",
            queue=queue.name,
            why="a message that nobody can end is delivered again and again: give the queue a redrive policy",
        )
    client.give_up_seconds = GIVE_UP_SECONDS
    return Shared(
        place=place,
        client=client,
        queue=queue,
        rules=rules,
        table=table,
        settings=settings,
        clock=clock,
        rng=rng,
        usage=usage,
        sums=sums,
        host_rows=host_rows,
        holds=Holds(),
        doubts=Doubts(table),
    )
