"""The frontier on AWS: messages in SQS, everything else in one DynamoDB table.

Each operation is a few batch calls in the safe order; what dies half-way is found again by its
lease or by ``due_at``. A throttled, failed or unclear call is tried again or raised, never taken
for a lost race. How batches are tried again in part is in ``aws_calls``, how requests are signed in
``aws_client`` and sent in ``aws_transport``, what hosts are asked for in ``aws_hosts``.

The table's items, by their key ``url``:

    http(s)://…     a URL record
    host NAME       a host row, and the requests under way to it
    robots ORIGIN   a robots.txt row and its lease
    worker ID       a worker that checked in
    counter N       a part of the sums of records by status
    sweeper         who sweeps, until when
    generation      how often the table was cleared: it stays

One table, because it is one name to configure, to permit and to clear; a canonical URL can never be
one of the other keys. The index ``due`` holds open records alone, keys only: its hash key
``due_shard`` spreads them (q0–q7 have a message, p0–p7 are parked), its range key is ``due_at``.
Hosts (h) and workers (w) stand in it too, so that they can be listed without reading the table; a
host in trouble has 1 as its ``due_at`` there, any other one 0.
A claim leaves ``due_at`` as it is, since moving it costs two more write units: the sweep looks at
the lease instead.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
import os
import random
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec
import structlog

from sqspider.crawls import decode_settings, encode_settings
from sqspider.figures import COUNTED, NAMESPACE, Point, Sample, embedded, metric_name
from sqspider.frontier import (
    CHANCE,
    Admission,
    Bill,
    ClaimRequest,
    Clock,
    Counts,
    DeadLetter,
    Deferral,
    Delivery,
    Entrance,
    Entry,
    Exit,
    Finish,
    FrontierBusyError,
    FrontierError,
    FrontierSettings,
    FrontierUnavailableError,
    Lost,
    LostReason,
    PurgedLatelyError,
    QueueStats,
    Retry,
    RobotsRow,
    SlotDemand,
    Traits,
    Won,
    WorkerRow,
    first_of_each,
)
from sqspider.frontier.aws.calls import (
    INDEX,
    SQS_BATCH,
    WRITE_BATCH,
    Item,
    Outgoing,
    Queue,
    Statement,
    Table,
    Usage,
    Written,
    batches,
    key_of,
    live_messages,
    mark_by,
    n,
    number,
    optional,
    s,
    text,
    together,
)
from sqspider.frontier.aws.client import (
    GIVE_UP_SECONDS,
    AwsClient,
    AwsError,
    find_keys,
)
from sqspider.frontier.aws.clock import AwsClock
from sqspider.frontier.aws.hosts import GENERATION, Hosts
from sqspider.frontier.aws.network import Network, endpoint_of, is_server, variant_asked_for
from sqspider.frontier.aws.prices import DOLLARS_A_READ_UNIT, DOLLARS_A_WRITE_UNIT
from sqspider.frontier.aws.sums import BILL, Sums, sums_of_record
from sqspider.frontier.aws.transport import CLOUDWATCH, DYNAMODB, SQS, HttpTransport, Service, Transport
from sqspider.host import HostRow, whole_lines
from sqspider.message import BadBody, Message, decode_message, encode_message
from sqspider.record import Outcome, Reason, Status, UrlRecord, decode_outcome
from sqspider.url import host_of

T = TypeVar("T")

SHARDS: Final = 8  # of the index: a thousand writes a second each
KEY: Final = "url (S, HASH)"
INDEX_KEY: Final = "due_shard (S, HASH), due_at (N, RANGE)"
MAX_DELAY_SECONDS: Final = 900  # SQS: DelaySeconds
NOT_IN_SQS: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # SQS: SendMessage
EMPTY_BODY: Final = "{}"  # what stands for an empty body, which SQS does not take: no message either
RELEASE_AHEAD_SECONDS: Final = 60.0  # parked records go out this early, delayed: they are on time
ENQUEUE_BATCH: Final = 500  # URLs under way at a time: one takes some 4 KB of memory
QUIET_SECONDS: Final = 60.0  # after its last change a worker has written its sums: it polls, or ends a fetch
EXACT_OPEN: Final = 100  # up to so many open records are counted one by one
OLDEST_AGE_SECONDS: Final = 300  # CloudWatch's figures for a queue come every minute or five
MAX_ROBOTS_BYTES: Final = 380_000  # compressed; an item has 400 KB
MAX_RECORD_BYTES: Final = 180_000  # of a new record: a parked body and an outcome come to it
MAX_PARKED_BYTES: Final = 180_000  # of a body
MAX_PARKED_SECONDS: Final = 30 * 86_400.0  # then it is looked at again, however far its moment is
DEAD_LETTER_SECONDS: Final = 60  # how long dead letters are hidden while they are read
OPEN_SECONDS: Final = 8.0  # of trying to reach AWS at all
CLAIM_ROUNDS: Final = 4
TRAITS: Final = Traits(
    lag_seconds=3.0,  # SQS's counts are approximate, and the index is behind by less than that
    poll_seconds=10.0,  # SQS bills each poll; but who stops waits for its end
    purge_seconds=60.0,  # SQS takes so long to purge a queue, and does it once in that time
    removal_dollars=DOLLARS_A_WRITE_UNIT + DOLLARS_A_READ_UNIT,
    finest_period_seconds=60,  # CloudWatch keeps no finer points of a queue
    max_points=1440,  # and gives no more at once
)

IAM_ACTIONS: Final = (
    "cloudwatch:GetMetricStatistics",
    "dynamodb:BatchGetItem",
    "dynamodb:BatchWriteItem",
    "dynamodb:DeleteItem",
    "dynamodb:DescribeTable",
    "dynamodb:PartiQLInsert",
    "dynamodb:PartiQLUpdate",
    "dynamodb:Query",
    "dynamodb:Scan",
    "dynamodb:UpdateItem",
    "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:PurgeQueue",
    "sqs:ReceiveMessage",
    "sqs:SendMessage",
)
"""Everything that this adapter may ask of AWS: on the table and its index, on the queue and its
dead-letter queue."""

KEPT: Final = ("worker ", GENERATION)  # beginnings of keys that stay when the table is cleared
SWEEPER: Final = "sweeper"  # the key of the lease on sweeping
QUEUE_METRICS: Final = {  # field of a point: SQS's own metric, and which statistic of it
    "visible": ("ApproximateNumberOfMessagesVisible", "Average"),
    "in_flight": ("ApproximateNumberOfMessagesNotVisible", "Average"),
    "received": ("NumberOfMessagesReceived", "Sum"),
    "oldest_age_seconds": ("ApproximateAgeOfOldestMessage", "Maximum"),
}

CLAIM: Final = """
UPDATE "{table}"
SET "status" = 'processing' SET "attempt" = "attempt" + 1 SET "unended" = "unended" + 1
SET "worker_id" = ? SET "claim_id" = ? SET "lease_until" = ? SET "claimed_at" = ?
WHERE "url" = ? AND "lease_until" < ?
RETURNING ALL NEW *
"""
FINISH: Final = """
UPDATE "{table}"
SET "status" = ? SET "outcome" = ? SET "finished_at" = ? SET "unended" = 0
REMOVE "lease_until" REMOVE "due_at" REMOVE "due_shard" REMOVE "parked_body"
WHERE "url" = ? AND "attempt" = ? AND "claim_id" = ? AND "status" = 'processing'
"""
GIVE_BACK: Final = """
UPDATE "{table}"
SET "status" = 'queued' SET "lease_until" = 0 SET "unended" = ? SET "tries" = "tries" + ?
SET "due_at" = ? SET "due_shard" = ?{more}
WHERE "url" = ? AND "attempt" = ? AND "claim_id" = ? AND "status" = 'processing'
"""
PARK: Final = """
UPDATE "{table}" SET "due_at" = ? SET "due_shard" = ? SET "parked_body" = ?
WHERE "url" = ? AND "status" = 'queued'
"""
MOVE_DUE_ON: Final = """
UPDATE "{table}" SET "due_at" = ? SET "due_shard" = ? REMOVE "parked_body"
WHERE "url" = ? AND "due_at" = ?
"""


_robots_decoder = msgspec.msgpack.Decoder(RobotsRow)

log = structlog.stdlib.get_logger(__name__)


class AwsFrontier:
    """The :class:`~sqspider.frontier.Frontier` on SQS and DynamoDB. Made by :meth:`open`."""

    def __init__(
        self, place: Place, client: AwsClient, settings: FrontierSettings, clock: AwsClock, rng: random.Random
    ) -> None:
        self.usage = Usage()
        client.observers.append(self.usage.see)
        self.client = client
        self._place = place
        self._queue = Queue(client, place.queue_url)
        self._dead_letters: Queue | None = None
        self.table = Table(client, place.table)
        self._hosts = Hosts(self.table, client, clock, rng)
        self._settings = settings
        self._clock = clock
        self._rng = rng
        # Those of the queue, once it was looked at.
        self._visibility_seconds = settings.visibility_seconds
        self._max_receives = settings.max_receives
        self._sums = Sums(self.table, client, self.usage, clock, rng)
        self._doubts: list[_Doubt] = []
        self._settling = asyncio.Lock()
        self._enqueueing = asyncio.Lock()
        self._started: dict[tuple[str, str], float] = {}  # workers that checked in here
        self._is_without_age = False  # CloudWatch did not tell a message's age the last time

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
        frontier = cls(place, client, settings, shared_clock, rng)
        try:
            await asyncio.gather(frontier._look_at_queue(), frontier._look_at_table())
        except FrontierBusyError as error:
            await client.close()
            raise FrontierUnavailableError(
                f"AWS cannot be reached in {place.region}: {error} (see AWS_REGION and AWS_ENDPOINT_URL)"
            ) from error
        except BaseException:
            await client.close()
            raise
        client.give_up_seconds = GIVE_UP_SECONDS
        return frontier

    @property
    def queue_name(self) -> str:
        return self._queue.name

    @property
    def place(self) -> str:
        account = urlsplit(self._place.queue_url).path.split("/")[1]
        return f"queue {self.queue_name} and table {self.table.name} of account {account} in {self._place.region}"

    async def close(self) -> None:
        """Write the sums that are still here, and let go of the connections."""
        try:
            await self.flush()
        finally:
            await self.client.close()

    async def _look_at_queue(self) -> None:
        attributes = await self._queue.attributes()
        self._visibility_seconds = float(attributes["VisibilityTimeout"])
        policy = msgspec.json.decode(attributes.get("RedrivePolicy") or "{}")
        if "deadLetterTargetArn" in policy:  # always of the same account and region
            name = policy["deadLetterTargetArn"].rpartition(":")[2]
            self._dead_letters = Queue(self.client, self._queue.url.rpartition("/")[0] + "/" + name)
            self._max_receives = int(policy["maxReceiveCount"])
        else:
            log.warning(
                "no_dead_letter_queue",
                queue=self.queue_name,
                why="a message that nobody can end is delivered again and again: give the queue a redrive policy",
            )

    async def _look_at_table(self) -> None:
        table = await self.table.describe()
        if _key_of(table) != KEY:
            raise FrontierUnavailableError(
                f"the table {self.table.name} has the key {_key_of(table)}, not {KEY}: name another table"
            )
        keys = {index["IndexName"]: _key_of(table, index) for index in table.get("GlobalSecondaryIndexes") or []}
        if keys.get(INDEX) != INDEX_KEY:
            raise FrontierUnavailableError(
                f"the table {self.table.name} has no index {INDEX!r} with the key {INDEX_KEY}: name another table"
            )

    @property
    def traits(self) -> Traits:
        return TRAITS

    @property
    def generation(self) -> int:
        return self._hosts.generation

    def now(self) -> float:
        return self._clock()

    # Work.

    async def enqueue(self, entries: Sequence[Entry]) -> list[bool]:
        answers: list[bool] = []
        for part in batches(entries, ENQUEUE_BATCH):
            answers += await self._enqueue(part)
        await self._flush_if_due()
        return answers

    async def _enqueue(self, entries: Sequence[Entry]) -> list[bool]:
        by_url = first_of_each(entries)
        # Reading first: a known URL then costs half a read unit, not the whole write unit of a
        # condition that fails. One at a time, so that two pages of this worker do not both find a
        # link missing. What somebody puts in is not read: just after a clearing a read may still find it.
        links = [url for url, entry in by_url.items() if entry.parent is not None]
        async with self._enqueueing:
            known = await self.table.read(links, projection="url")
            new = (await self._record([entry for url, entry in by_url.items() if url not in known])).new
        # What a record can hold, a message can.
        await self._queue.send([_outgoing(by_url[url].to_message()) for url in new])
        answers = []
        for entry in entries:
            answers.append(entry.url in new)
            new.pop(entry.url, None)
        return answers

    async def _record(
        self, entries: Sequence[Entry], *, parked: Mapping[str, tuple[float, str]] | None = None
    ) -> _Recorded:
        """Insert records that are missing; which were new, in order. ``parked``: until when, and the body.

        One that DynamoDB does not take is left out, and named in the log.
        """
        now, mark = self._clock(), mark_by(self._rng)
        statements = []
        refused: dict[str, str] = {}
        for entry in entries:
            until = (parked or {}).get(entry.url)
            item: Item = {
                "url": s(entry.url),
                "status": s(Status.QUEUED),
                "depth": n(entry.depth),
                "attempt": n(0),
                "unended": n(0),
                "tries": n(0),
                "claim_id": s(mark),  # tells an own insert whose answer was lost from another's
                "lease_until": n(0),
                "enqueued_at": n(now),
                "due_at": n(until[0] if until else now + self._settings.due_seconds),
                "due_shard": s(_shard_of(entry.url, is_parked=until is not None)),
            }
            if until:
                item["parked_body"] = s(until[1])
            if entry.parent is not None:
                item["parent"] = s(entry.parent)
            if entry.redirects:
                item["redirects"] = n(entry.redirects)
            if entry.lastmod is not None:
                item["lastmod"] = n(entry.lastmod)
            settings = encode_settings(entry.settings)
            if settings != "{}":
                item["settings"] = s(settings)
            if _size_of(item) > MAX_RECORD_BYTES:
                refused[entry.url] = f"a record of more than {MAX_RECORD_BYTES:,} bytes: its settings are too long"
            else:
                statements.append(self.table.insert(item))

        def is_own(item: Item) -> bool:
            return text(item, "claim_id") == mark

        with self._doubted(_Doubt(it.url, is_own, lambda _: self._count_new(1)) for it in statements):
            written = await self.table.write(statements)
            unsure = [s.url for s, w in zip(statements, written, strict=True) if w.is_unsure and not w.is_done]
            own = {url for url, item in (await self.table.read(unsure)).items() if is_own(item)}
        refused |= {it.url: result.refusal for it, result in zip(statements, written, strict=True) if result.refusal}
        for url, why in refused.items():
            log.error("record_refused", url=url, why=why)
        new = {s.url: None for s, result in zip(statements, written, strict=True) if result.is_done or s.url in own}
        self._count_new(len(new))
        return _Recorded(new, refused)

    def _count_new(self, count: int) -> None:
        self._sums.add({Status.QUEUED: count})

    async def send(self, bodies: Sequence[str]) -> None:
        sendable = [NOT_IN_SQS.sub("\N{REPLACEMENT CHARACTER}", body) or EMPTY_BODY for body in bodies]
        messages = [decode_message(body) for body in sendable]
        hosts = [None if isinstance(message, BadBody) else host_of(message.url) for message in messages]
        outgoing = [Outgoing(body, host) for body, host in zip(sendable, hosts, strict=True)]
        refusals = list(filter(None, await self._queue.send(outgoing)))
        if refusals:
            raise FrontierError(f"SQS does not take {len(refusals)} of {len(bodies)} messages: {refusals[0]}")

    async def receive(self, limit: int, *, wait_seconds: float = 0.0) -> list[Delivery]:
        if self._visibility_seconds < self._settings.visibility_seconds:
            raise FrontierUnavailableError(
                f"the queue's visibility timeout is {self._visibility_seconds:g} s, the lease needs "
                f"{self._settings.visibility_seconds:g} s: raise it, or the same message is delivered twice"
            )
        wait = min(math.ceil(wait_seconds), 20)
        messages = batch = await self._queue.receive(limit, wait)
        while len(batch) == SQS_BATCH and len(messages) < limit:
            try:
                batch = await self._queue.receive(limit - len(messages), 0)
            except FrontierBusyError:  # what is here already would be hidden for nothing
                break
            messages = messages + batch
        if not messages:
            await self.flush()
        else:
            await self._flush_if_due()
        stale_at = self._clock() + self._visibility_seconds
        return [
            Delivery(
                message_id=message["MessageId"],
                receipt=f"{stale_at:.3f} {message['ReceiptHandle']}",
                body=message["Body"],
                receive_count=int(message["Attributes"]["ApproximateReceiveCount"]),
                sent_at=int(message["Attributes"]["SentTimestamp"]) / 1000,
            )
            for message in messages
        ]

    async def claim(
        self, requests: Sequence[ClaimRequest], *, worker_id: str, claim_id: str, lease_seconds: float
    ) -> list[Won | Lost]:
        messages = {request.message.url: request.message for request in reversed(requests)}
        answers: dict[str, Won | Lost] = {}
        waiting = list(messages)

        def is_own(item: Item) -> bool:
            return (text(item, "worker_id"), text(item, "claim_id")) == (worker_id, claim_id)

        for _ in range(CLAIM_ROUNDS):
            now = self._clock()
            lease_until = now + lease_seconds
            values = [s(worker_id), s(claim_id), n(lease_until), n(now)]
            with self._doubted(_Doubt(url, is_own, self._count_claim) for url in waiting):
                written = await self.table.write(
                    [self.table.statement(CLAIM, url, [*values, s(url), n(now)]) for url in waiting]
                )
                # One consistent read says why some were lost.
                lost = [url for url, w in zip(waiting, written, strict=True) if not w.is_done and not w.refusal]
                found = await self.table.read(lost)
            items = {url: w.item for url, w in zip(waiting, written, strict=True) if w.is_done and w.item is not None}
            refused = {url: w.refusal for url, w in zip(waiting, written, strict=True) if w.refusal}
            waiting = []
            missing = []
            for url in lost:
                item = found.get(url)
                if item is None:
                    missing.append(url)
                elif "lease_until" not in item:
                    answers[url] = Lost(url=url, why=LostReason.FINISHED)
                elif is_own(item):
                    items[url] = item  # my own: the answer was lost
                elif (held_until := number(item, "lease_until")) >= now:
                    answers[url] = Lost(url=url, why=LostReason.HELD, lease_until=held_until)
                else:
                    waiting.append(url)  # it became free between the write and the read
            for url, item in items.items():
                answers[url] = _won(url, item)
                self._count_claim(item)
            if missing:  # a message whose URL has no record is a way in
                refused |= (await self._record([Entry.of(messages[url]) for url in missing])).refused
                waiting += [url for url in missing if url not in refused]
            for url, why in refused.items():
                answers[url] = Lost(url=url, why=LostReason.REFUSED, detail=why)
            if not waiting:
                break
        for url in waiting:  # changing hands all the time: look again soon
            answers[url] = Lost(url=url, why=LostReason.HELD, lease_until=self._clock())
        await self._flush_if_due()
        in_order = []
        for request in requests:
            answer = answers[request.message.url]
            in_order.append(answer)
            if isinstance(answer, Won):  # the next request for the same URL comes too late
                answers[answer.url] = Lost(url=answer.url, why=LostReason.HELD, lease_until=answer.lease_until)
        return in_order

    def _count_claim(self, item: Item) -> None:
        if _was_queued(item):
            self._sums.add({Status.QUEUED: -1, Status.PROCESSING: 1})

    async def finish(self, finishes: Sequence[Finish]) -> list[bool]:
        linked = [finish for finish in finishes if finish.links]
        if linked:
            # Links go first, so that a crash loses none; those of a claim that is over stay out.
            current = await self.table.read(finish.claim.url for finish in linked)
            links = [
                link
                for finish in linked
                if _is_held(current.get(finish.claim.url), finish.claim)
                for link in finish.links
            ]
            if links:
                await self.enqueue(links)
        now = self._clock()

        def is_mine(item: Item) -> bool:
            return "finished_at" in item and number(item, "finished_at") == now

        with self._doubted(_Doubt.of(it.claim, is_mine, partial(self._count_finish, it)) for it in finishes):
            written = await self.table.write([self._finish(finish, now) for finish in finishes])
            ended = await self._ended([finish.claim for finish in finishes], written, is_mine)
        for finish, is_ended in zip(finishes, ended, strict=True):
            if is_ended:
                self._count_finish(finish)
        over = [f.delivery for f, is_ended in zip(finishes, ended, strict=True) if is_ended and f.delivery is not None]
        try:
            await self.delete(over)
        except FrontierBusyError as error:  # they come back, are found finished, and go then
            log.warning("frontier_busy", during="delete", error=str(error))
        await self._flush_if_due()
        return ended

    def _finish(self, finish: Finish, now: float) -> Statement:
        outcome = finish.outcome
        parameters = [s(outcome.status), s(_encode_outcome(outcome)), n(now), *_fence(finish.claim)]
        return self.table.statement(FINISH, finish.claim.url, parameters)

    async def _ended(self, claims: list[Won], written: list[Written], is_mine: Callable[[Item], bool]) -> list[bool]:
        """Which claims were ended. One whose answer was lost has ended if its record says what was written."""
        unsure = [claim.url for claim, w in zip(claims, written, strict=True) if w.is_unsure and not w.is_done]
        found = await self.table.read(unsure)
        return [
            w.is_done or ((item := found.get(claim.url)) is not None and _is_of(item, claim) and is_mine(item))
            for claim, w in zip(claims, written, strict=True)
        ]

    def _count_finish(self, finish: Finish, _: Item | None = None) -> None:
        outcome = finish.outcome
        self._sums.add({Status.PROCESSING: -1})
        self._sums.add(sums_of_record(outcome))
        self._hosts.add_finished(host_of(finish.claim.url), outcome)

    async def retry(self, retries: Sequence[Retry]) -> list[bool]:
        now = self._clock()

        def is_mine(item: Item) -> bool:
            return text(item, "status") == Status.QUEUED

        with self._doubted(_Doubt.of(it.claim, is_mine, lambda _: self._count_given_back(1)) for it in retries):
            written = await self.table.write([self._give_back(retry, now) for retry in retries])
            ended = await self._ended([retry.claim for retry in retries], written, is_mine)
        given_back = [retry for retry, is_ended in zip(retries, ended, strict=True) if is_ended]
        self._count_given_back(len(given_back))
        await self._resend(
            [
                (
                    retry.delivery,
                    None
                    if _parks(retry.at, now, retry.delivery.body)
                    else Outgoing(retry.delivery.body, host_of(retry.claim.url), _delay_until(retry.at, now)),
                )
                for retry in given_back
            ]
        )
        await self._flush_if_due()
        return ended

    def _count_given_back(self, count: int) -> None:
        self._sums.add({Status.PROCESSING: -count, Status.QUEUED: count})

    def _give_back(self, retry: Retry, now: float) -> Statement:
        is_parked = _parks(retry.at, now, retry.delivery.body)
        # NaN, too, is now.
        due_at = _parked_until(retry.at, now) if is_parked else max(now, retry.at) + self._settings.due_seconds
        unended = retry.claim.unended - 1 if retry.is_unused else 0
        parameters = [n(unended), n(int(retry.tried)), n(due_at), s(_shard_of(retry.claim.url, is_parked=is_parked))]
        more = ""
        if retry.outcome is not None:
            more += ' SET "outcome" = ?'
            parameters.append(s(_encode_outcome(retry.outcome)))
        if retry.is_unused:
            more += ' SET "unused" = ?'
            parameters.append(n(retry.claim.attempt))
        if is_parked:
            more += ' SET "parked_body" = ?'
            parameters.append(s(retry.delivery.body))
        text = GIVE_BACK.format(table=self.table.name, more=more)
        return Statement(retry.claim.url, text, [*parameters, *_fence(retry.claim)])

    async def _resend(self, moves: Sequence[tuple[Delivery, Outgoing | None]]) -> None:
        """Send messages anew, then delete the ones that they stand for; none: only delete."""
        now = self._clock()
        live = [move for move in moves if not _is_stale(move[0], now)]
        replaced = [move for move in live if move[1] is not None]
        refusals = await self._queue.send([outgoing for _, outgoing in replaced if outgoing is not None])
        # What SQS does not take comes back as it was, and reaches the dead letters.
        left = {move[0].receipt for move, refusal in zip(replaced, refusals, strict=True) if refusal}
        for refusal in filter(None, refusals):
            log.error("message_refused", why=refusal)
        await self.delete([delivery for delivery, _ in live if delivery.receipt not in left])

    async def defer(self, deferrals: Sequence[Deferral]) -> None:
        now = self._clock()
        live = [deferral for deferral in deferrals if not _is_stale(deferral.delivery, now)]
        kept = await self._park([it for it in live if _parks(it.until, now, _body_of(it))])
        await self._resend(
            [
                (
                    deferral.delivery,
                    None if deferral.delivery.receipt in kept else _deferred(deferral, now),
                )
                for deferral in live
            ]
        )

    async def _park(self, deferrals: Sequence[Deferral]) -> set[str]:
        """Keep far deferrals in their records; receipts of those whose message need not wait.

        A record that is being worked on is not parked: its message waits as long as SQS lets it.
        """
        now = self._clock()
        by_url: dict[str, Deferral] = {}
        for deferral in deferrals:
            message = deferral.message or decode_message(deferral.delivery.body)
            if isinstance(message, Message):
                by_url[message.url] = deferral
        statements = [
            self.table.statement(
                PARK,
                url,
                [
                    n(_parked_until(deferral.until, now)),
                    s(_shard_of(url, is_parked=True)),
                    s(_body_of(deferral)),
                    s(url),
                ],
            )
            for url, deferral in by_url.items()
        ]
        written = await self.table.write(statements)
        kept = {url for url, w in zip(by_url, written, strict=True) if w.is_done}
        others = await self.table.read(url for url in by_url if url not in kept)
        kept |= {url for url, item in others.items() if "lease_until" not in item}  # finished
        missing = {
            url: (_parked_until(deferral.until, now), _body_of(deferral))
            for url, deferral in by_url.items()
            if url not in kept and url not in others
        }
        if missing:
            messages = (decode_message(body) for _, body in missing.values())
            entries = [Entry.of(message) for message in messages if isinstance(message, Message)]
            kept |= set((await self._record(entries, parked=missing)).new)
        return {by_url[url].delivery.receipt for url in kept}

    async def delete(self, deliveries: Sequence[Delivery]) -> None:
        await self._queue.delete([_handle_of(delivery.receipt) for delivery in deliveries])

    async def sweep(self, limit: int = 1000) -> int:
        now = self._clock()
        parked, ordinary = await together([self._due_parked(now, limit), self._due_orphans(now, limit)])
        due = dict(sorted([*parked, *ordinary], key=lambda found: found[1])[:limit])
        items = await self.table.read(due)
        statements: list[Statement] = []
        messages: list[Outgoing | None] = []
        for url, due_at in due.items():
            item = items.get(url)
            if item is None or "due_at" not in item or number(item, "due_at") != due_at:
                continue  # the index was behind
            held_until = number(item, "lease_until")
            message = None
            if held_until >= now:
                next_due = held_until + self._settings.due_seconds
            elif "parked_body" in item:
                next_due = max(due_at, now) + self._settings.due_seconds
                message = Outgoing(item["parked_body"]["S"], host_of(url), _delay_until(due_at, now))
            else:
                next_due = now + self._settings.due_seconds
                message = _outgoing(_entry_of(item).to_message())
            shard = _shard_of(url, is_parked=False)
            parameters = [n(next_due), s(shard), s(url), n(due_at)]
            statements.append(self.table.statement(MOVE_DUE_ON, url, parameters))
            messages.append(message)
        # First the new due_at, then the message: who dies in between is found again later.
        written = await self.table.write(statements)
        released = [m for m, w in zip(messages, written, strict=True) if m is not None and w.is_done]
        await self._queue.send(released)
        return len(released)

    async def lease_sweep(self, *, until: float, by_schedule: bool = False) -> bool:
        now = self._clock()
        if not by_schedule:  # looking costs an eighth of trying in vain
            item = (await self.table.read([SWEEPER], projection="lease_until")).get(SWEEPER, {})
            if number(item, "lease_until") >= now:
                return False
        request: dict[str, Any] = {
            "UpdateExpression": "SET lease_until = :until",
            "ExpressionAttributeValues": {":until": n(until)},
        }
        if not by_schedule:
            request["ConditionExpression"] = "attribute_not_exists(lease_until) OR lease_until < :now"
            request["ExpressionAttributeValues"][":now"] = n(now)
        return await self.table.change("UpdateItem", SWEEPER, request)

    async def _due_parked(self, now: float, limit: int) -> list[tuple[str, float]]:
        parts = await together(
            self.table.query(f"p{shard}", limit, before=now + RELEASE_AHEAD_SECONDS) for shard in range(SHARDS)
        )
        return [found for part in parts for found in part]

    async def _due_orphans(self, now: float, limit: int) -> list[tuple[str, float]]:
        """Records past their time whose message is lost: they are older than every message that waits."""
        before = now
        if any(live_messages(await self._queue.attributes())):
            age = await self._oldest_age(now)
            if age is None:
                return []
            # due_at is due_seconds after the record was queued; a minute more for what figures lag.
            before = min(now, now - age - 60.0 + self._settings.due_seconds)
        parts = await together(self.table.query(f"q{shard}", limit, before=before) for shard in range(SHARDS))
        return [found for part in parts for found in part]

    async def _oldest_age(self, now: float) -> float | None:
        """The age in seconds of the oldest message that waits, by CloudWatch; none if it has no figure."""
        metric, statistic = QUEUE_METRICS["oldest_age_seconds"]
        since = now - OLDEST_AGE_SECONDS
        try:
            ages = await self._statistics("AWS/SQS", metric, statistic, since, now, TRAITS.finest_period_seconds)
        except FrontierError as error:  # it is one figure: all the rest is done without it
            if not self._is_without_age:
                log.warning("no_figure", figure="oldest_age_seconds", why=str(error))
            self._is_without_age = True
            return None
        self._is_without_age = False
        return max(ages.values(), default=None)

    # Politeness: see ``aws_hosts``.

    async def hosts(self, hosts: Sequence[str]) -> dict[str, HostRow]:
        return await self._hosts.get(hosts)

    async def scan_hosts(self) -> list[HostRow]:
        return await self._hosts.scan()

    async def hosts_in_trouble(self) -> list[HostRow]:
        return await self._hosts.in_trouble()

    async def save_hosts(self, rows: Sequence[HostRow]) -> list[bool]:
        return await self._hosts.save(rows)

    async def reserve(self, demands: Sequence[SlotDemand]) -> list[float | None]:
        return await self._hosts.reserve(demands)

    async def enter(self, entrances: Sequence[Entrance]) -> list[Admission]:
        return await self._hosts.enter(entrances)

    async def leave(self, exits: Sequence[Exit]) -> None:
        await self._hosts.leave(exits)

    async def release_host(self, host: str) -> int:  # noqa: ARG002 - the port's signature
        return 0  # SQS cannot look for messages: they come back at their time

    async def robots(self, origins: Sequence[str]) -> dict[str, RobotsRow]:
        items = await self.table.read(_robots_key(origin) for origin in origins)
        rows = {}
        for origin in origins:
            item = items.get(_robots_key(origin))
            if item is not None and "row" in item:
                packed = base64.b64decode(item["row"]["B"])
                rows[origin] = _robots_decoder.decode(zlib.decompress(packed))
        return rows

    async def lease_robots(self, origin: str, *, until: float) -> bool:
        token = mark_by(self._rng)
        return await self.table.change(
            "UpdateItem",
            _robots_key(origin),
            {
                "UpdateExpression": "SET lease_until = :until, lease_id = :id",
                "ConditionExpression": "attribute_not_exists(lease_until) OR lease_until < :now OR lease_id = :id",
                "ExpressionAttributeValues": {":until": n(until), ":now": n(self._clock()), ":id": s(token)},
            },
        )

    async def save_robots(self, row: RobotsRow) -> None:
        packed = zlib.compress(msgspec.msgpack.encode(row), 6)
        while len(packed) > MAX_ROBOTS_BYTES:  # no rules in words are so long when compressed
            row = msgspec.structs.replace(row, body=whole_lines(row.body, len(row.body) * 3 // 4))
            packed = zlib.compress(msgspec.msgpack.encode(row), 6)
        await self.table.change(
            "UpdateItem",
            _robots_key(row.origin),
            {
                "UpdateExpression": "SET #row = :row, lease_until = :zero",
                "ExpressionAttributeNames": {"#row": "row"},
                "ExpressionAttributeValues": {
                    ":row": {"B": base64.b64encode(packed).decode()},
                    ":zero": n(0),
                },
            },
        )

    # Sums.

    async def _flush_if_due(self) -> None:
        if self._sums.are_due or self._hosts.unwritten >= WRITE_BATCH:
            await self.flush()

    @contextlib.contextmanager
    def _doubted(self, doubts: Iterable[_Doubt]) -> Iterator[None]:
        """Within it records are written. If that ends without an answer, what was made is counted by :meth:`flush`."""
        try:
            yield
        except BaseException:
            self._doubts += doubts
            raise

    async def _settle_doubts(self) -> None:
        """Count what was made, though whoever made it was not told."""
        async with self._settling:
            doubts = list(self._doubts)
            items = await self.table.read(doubt.url for doubt in doubts)
            del self._doubts[: len(doubts)]
        for doubt in doubts:
            if doubt.url in items and doubt.is_made(items[doubt.url]):
                doubt.add(items[doubt.url])

    async def flush(self) -> None:
        """Write the sums that were gathered here. If AWS is too busy, they are kept for the next time."""
        try:
            if self._doubts:
                await self._settle_doubts()
            await self._sums.flush()
            await self._hosts.flush()
        except FrontierBusyError as error:
            log.warning("frontier_busy", during="sums", error=str(error))

    async def counts(self, *, exact: bool = False) -> Counts:
        """Records by status and reason.

        Quick: the sums that workers write every few seconds, and the index of open records. Up to
        :data:`EXACT_OPEN` open records are counted exactly, so "none open" is never a guess. Sums
        are behind by what other workers have gathered for a few seconds, and off by as much
        for each that was killed. ``exact`` reads the whole table, and mends the sums where nobody
        has changed a record for :data:`QUIET_SECONDS`.
        """
        await self.flush()
        if exact:
            return await self._recount()
        numbers, open_records = (await self._sums.read()).records, await self._open_records()
        by_status = {status: max(0, numbers.get(status, 0)) for status in Status}
        if open_records is not None:
            exactly = Counter(text(item, "status") for item in (await self.table.read(open_records)).values())
            for status in (Status.QUEUED, Status.PROCESSING):
                by_status[status] = exactly[status]
        elif by_status[Status.QUEUED] + by_status[Status.PROCESSING] <= EXACT_OPEN:
            by_status[Status.QUEUED] = EXACT_OPEN + 1
        return _counts(by_status, numbers)

    async def bill(self) -> Bill:
        await self.flush()
        numbers = (await self._sums.read()).numbers
        usage = Usage(**{name: numbers.get(f"{BILL}{name}", 0.0) for name in Usage.__struct_fields__})
        parts = msgspec.structs.asdict(usage)
        return Bill(calls=round(parts.pop("calls")), dollars=usage.dollars, parts=parts)

    async def _open_records(self) -> list[str] | None:
        """The URLs of open records; none if there are many."""
        found: list[str] = []
        for kind in "qp":
            shards = [f"{kind}{shard}" for shard in range(SHARDS)]
            for part in await together(self.table.query(shard, EXACT_OPEN + 1) for shard in shards):
                found += [url for url, _ in part]
            if len(found) > EXACT_OPEN:
                return None
        return found

    async def _recount(self) -> Counts:
        """Count all records, and mend the sums if all is quiet.

        Where somebody works, what is not written yet would be added once more: then the sums stay as they are.
        """
        numbers: Counter[str] = Counter()
        seen, quiet_since = await self._sums.read(), self._clock() - QUIET_SECONDS
        is_quiet = True
        async for records in self.scan():
            for record in records:
                is_quiet = is_quiet and self._changed_at(record) < quiet_since
                outcome = record.outcome if record.status.is_final else None
                numbers.update({record.status: 1} if outcome is None else sums_of_record(outcome))
        if is_quiet and await self._sums.read() == seen:
            await self._sums.mend(seen, numbers)
        return _counts({status: numbers[status] for status in Status}, numbers)

    def _changed_at(self, record: UrlRecord) -> float:
        """When a record was changed last, or a little later: what gave it back moved ``due_at`` on."""
        moments = [record.enqueued_at, record.claimed_at or 0.0, record.finished_at or 0.0]
        if record.attempt and record.due_at is not None:
            moments.append(record.due_at - self._settings.due_seconds)
        return max(moments)

    # Looking.

    async def get(self, urls: Sequence[str]) -> dict[str, UrlRecord]:
        items = await self.table.read(urls)
        return {url: _record_of(items[url]) for url in urls if url in items}

    async def scan(self, *, status: Status | None = None, host: str | None = None) -> AsyncIterator[list[UrlRecord]]:
        async for items in self.table.scan():
            records = [_record_of(item) for item in items if item["url"]["S"].startswith("http")]
            yield [
                record
                for record in records
                if (status is None or record.status is status) and (host is None or record.host == host)
            ]

    async def queue_stats(self) -> QueueStats:
        """Messages by kind. SQS's figures are approximate, and about a minute behind under load."""
        visible, in_flight, delayed = live_messages(await self._queue.attributes())
        dead = sum(live_messages(await self._dead_letters.attributes())) if self._dead_letters else 0
        age = await self._oldest_age(self._clock()) if visible or in_flight or delayed else None
        return QueueStats(visible=visible, in_flight=in_flight, delayed=delayed, dead=dead, oldest_age_seconds=age)

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        letters = []
        handles = []
        async for messages in self._receive_dead(limit):
            handles += [message["ReceiptHandle"] for message in messages]
            letters += [
                DeadLetter(
                    message_id=message["MessageId"],
                    body=message["Body"],
                    receive_count=self._max_receives,  # SQS counts on when they are looked at
                    sent_at=int(message["Attributes"]["SentTimestamp"]) / 1000,
                )
                for message in messages
            ]
        if self._dead_letters is not None:
            await self._dead_letters.show(handles)
        return sorted(letters, key=lambda letter: letter.sent_at)

    async def _receive_dead(self, limit: int) -> AsyncIterator[list[dict[str, Any]]]:
        left = limit
        while self._dead_letters is not None and left > 0:
            # Waiting a second asks all of SQS's servers, not a few.
            messages = await self._dead_letters.receive(left, 1, visibility_seconds=DEAD_LETTER_SECONDS)
            if not messages:
                return
            left -= len(messages)
            yield messages

    async def redrive(self, limit: int = 1000) -> int:
        moved = 0
        async for messages in self._receive_dead(limit):
            await self.send([message["Body"] for message in messages])
            if self._dead_letters is not None:
                await self._dead_letters.delete([message["ReceiptHandle"] for message in messages])
            moved += len(messages)
        return moved

    # Workers.

    async def check_in(self, worker_id: str, *, session: str, ttl_seconds: float) -> bool:
        now = self._clock()
        started_at = self._started.setdefault((worker_id, session), now)
        return await self.table.change(
            "UpdateItem",
            key_of("worker", worker_id),
            {
                "UpdateExpression": (
                    "SET #session = :session, started_at = :started, seen_at = :now, expires_at = :expires, "
                    "due_shard = :shard, due_at = :zero"
                ),
                "ConditionExpression": ("attribute_not_exists(#session) OR #session = :session OR expires_at < :now"),
                "ExpressionAttributeNames": {"#session": "session"},
                "ExpressionAttributeValues": {
                    ":session": s(session),
                    ":started": n(started_at),
                    ":now": n(now),
                    ":expires": n(now + ttl_seconds),
                    ":shard": s("w"),
                    ":zero": n(0),
                },
            },
        )

    async def check_out(self, worker_id: str, *, session: str) -> None:
        self._started.pop((worker_id, session), None)
        await self.table.change(
            "DeleteItem",
            key_of("worker", worker_id),
            {
                "ConditionExpression": "#session = :session",
                "ExpressionAttributeNames": {"#session": "session"},
                "ExpressionAttributeValues": {":session": s(session)},
            },
        )

    async def workers(self) -> list[WorkerRow]:
        now = self._clock()
        keys = [key for key, _ in await self.table.query("w", 2**53)]
        return sorted(
            (
                WorkerRow(
                    worker_id=key.removeprefix("worker "),
                    started_at=number(item, "started_at"),
                    seen_at=number(item, "seen_at"),
                )
                for key, item in (await self.table.read(keys)).items()
                if number(item, "expires_at") >= now
            ),
            key=lambda row: row.worker_id,
        )

    # What it took, over time.

    async def save_sample(self, sample: Sample) -> None:
        """Published as CloudWatch's embedded metrics, by the log: no call is made.

        Whatever brings the log (in JSON) to CloudWatch Logs, makes them metrics there.
        """
        log.info("sample", **embedded(sample.named(), at=sample.at, QueueName=self._queue.name))

    async def points(self, *, since: float, until: float, period_seconds: int) -> list[Point]:
        wanted = [
            *(("AWS/SQS", metric, statistic, field) for field, (metric, statistic) in QUEUE_METRICS.items()),
            *((NAMESPACE, metric_name(field), "Sum", field) for field in COUNTED if field != "received"),
            (NAMESPACE, metric_name("fetch_seconds"), "Average", "fetch_seconds"),
        ]
        series = await together(
            self._statistics(namespace, metric, statistic, since, until, period_seconds)
            for namespace, metric, statistic, _ in wanted
        )
        found: defaultdict[float, dict[str, float]] = defaultdict(dict)
        for (_, _, _, field), values in zip(wanted, series, strict=True):
            for at, value in values.items():
                found[at][field] = value
        return [Point(at=at, **fields) for at, fields in sorted(found.items())]

    async def _statistics(
        self, namespace: str, metric: str, statistic: str, since: float, until: float, period_seconds: int
    ) -> dict[float, float]:
        """Values of a metric of the queue by the start of their period."""
        answer = await self.client.call(
            CLOUDWATCH,
            "GetMetricStatistics",
            {
                "Namespace": namespace,
                "MetricName": metric,
                "Dimensions": [{"Name": "QueueName", "Value": self._queue.name}],
                "StartTime": int(since),
                "EndTime": math.ceil(until),
                "Period": period_seconds,
                "Statistics": [statistic],
            },
        )
        points = answer.body.get("Datapoints") or []
        return {_seconds(point["Timestamp"]): float(point[statistic]) for point in points}

    # Clearing.

    async def purge_queue(self) -> int:
        removed = 0
        for queue in (self._queue, self._dead_letters):
            if queue is None:
                continue
            removed += sum(live_messages(await queue.attributes()))
            try:
                await queue.purge()
            except AwsError as error:
                if error.code == "PurgeQueueInProgress":
                    raise PurgedLatelyError(
                        f"{queue.name} was purged less than {TRAITS.purge_seconds:.0f} s ago; "
                        "AWS allows it once in that time"
                    ) from error
                raise
        return removed

    async def clear_table(self, on_removed: Callable[[int], None] = lambda _: None) -> int:
        self._doubts.clear()
        self._sums.forget()
        self._hosts.forget()
        await self._hosts.raise_generation()  # first, in case it is left half-way
        names = {"#url": "url"}
        removed = 0

        async def clear(segment: int) -> None:
            nonlocal removed
            pages = self.table.scan(
                Segment=segment,
                TotalSegments=4,
                ProjectionExpression="#url",
                ExpressionAttributeNames=names,
            )
            async for items in pages:
                keys = [key for item in items if not (key := item["url"]["S"]).startswith(KEPT)]
                await together(self.table.delete_items(part) for part in batches(keys, WRITE_BATCH))
                removed += sum(key.startswith("http") for key in keys)
                on_removed(removed)

        await together(clear(segment) for segment in range(4))
        await self._hosts.raise_generation()  # and last: what was remembered meanwhile may be gone
        return removed


class _Doubt(NamedTuple):
    """A write of a record of which nobody knows whether it was made, and what it would have counted."""

    url: str
    is_made: Callable[[Item], bool]  # by the record
    add: Callable[[Item], None]

    @classmethod
    def of(cls, claim: Won, is_made: Callable[[Item], bool], add: Callable[[Item], None]) -> _Doubt:
        """Of the end of a claim."""
        return cls(claim.url, lambda item: _is_of(item, claim) and is_made(item), add)


class _Recorded(NamedTuple):
    """What became of records that were to be inserted."""

    new: dict[str, None]  # URLs, in order
    refused: dict[str, str]  # URLs that no record can be made of, and why


class Place(NamedTuple):
    """Where the queue and the table are, by the environment."""

    queue_url: str
    table: str
    region: str

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Place:
        queue_url, table = environment.get("QUEUE_URL", ""), environment.get("TABLE_NAME", "")
        if not queue_url or not table:
            raise FrontierUnavailableError("aws: needs QUEUE_URL and TABLE_NAME: set both in the environment or .env")
        if not is_server(queue_url) or queue_url.count("/") < 4:
            raise FrontierUnavailableError(
                f"QUEUE_URL is {queue_url!r}: it must look like https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"
            )
        if queue_url.endswith(".fifo"):  # as AWS names all of them, and no other
            raise FrontierUnavailableError(
                f"QUEUE_URL is {queue_url!r}, a FIFO queue, which cannot delay single messages: name a standard one"
            )
        own = region_of(queue_url)
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or own
        if region is None:
            raise FrontierUnavailableError("no AWS region: set AWS_REGION")
        if own is not None and region != own:
            raise FrontierUnavailableError(
                f"QUEUE_URL is in {own}, but AWS_REGION is {region}: the queue and the table must share a region"
            )
        return cls(queue_url, table, region)


def region_of(queue_url: str) -> str | None:
    """The region in the URL of a queue on AWS; none for another host."""
    parts = (urlsplit(queue_url).hostname or "").split(".")
    is_aws = len(parts) >= 4 and parts[0] in ("sqs", "sqs-fips") and parts[2] in ("amazonaws", "api")
    return parts[1] if is_aws else None


def endpoints_for(region: str, environment: Mapping[str, str], queue_url: str | None = None) -> dict[Service, str]:
    """Where each service answers: as the environment says, else as AWS names it.

    Raises :class:`FrontierUnavailableError` where the environment contradicts itself.
    """
    endpoints = {}
    variant = variant_asked_for(environment)
    for service, name in ((SQS, "SQS"), (DYNAMODB, "DYNAMODB"), (CLOUDWATCH, "CLOUDWATCH")):
        named = environment.get(f"AWS_ENDPOINT_URL_{name}") or environment.get("AWS_ENDPOINT_URL")
        if service is SQS and queue_url is not None and not named:
            parts = urlsplit(queue_url)
            named = f"{parts.scheme}://{parts.netloc}"
        if named and (not is_server(named) or "@" in urlsplit(named).netloc):  # AWS knows no user's password
            raise FrontierUnavailableError(
                f"the endpoint of {service.name} is no URL of a server, or a user stands in it: write "
                "https://HOST or https://HOST:PORT (see AWS_ENDPOINT_URL and QUEUE_URL)"
            )
        if variant and named and region_of(named) is None:
            raise FrontierUnavailableError(
                f"{variant} is true, but the endpoint {named} is named: unset one of the two (see QUEUE_URL and "
                "AWS_ENDPOINT_URL)"
            )
        endpoint = named if named and not variant else endpoint_of(service.name, region, environment)
        endpoints[service] = endpoint.rstrip("/") + "/"
    return endpoints


def _key_of(table: Mapping[str, Any], index: Mapping[str, Any] | None = None) -> str:
    """The key of a table, or of one of its indexes: names, types and parts."""
    types = {part["AttributeName"]: part["AttributeType"] for part in table["AttributeDefinitions"]}
    parts = sorted((index or table)["KeySchema"], key=lambda part: str(part["KeyType"]))
    return ", ".join(f"{(name := part['AttributeName'])} ({types[name]}, {part['KeyType']})" for part in parts)


def _shard_of(url: str, *, is_parked: bool) -> str:
    return f"{'p' if is_parked else 'q'}{zlib.crc32(url.encode()) % SHARDS}"


def _robots_key(origin: str) -> str:
    return key_of("robots", origin)


# Records.


def _record_of(item: Item) -> UrlRecord:
    """A record; of a damaged one, or of a later version's that cannot be read, the URL and what is wrong with it."""
    try:
        return _read_record(item)
    except (msgspec.MsgspecError, KeyError, ValueError) as error:
        url = item["url"]["S"]
        return UrlRecord(url=url, status=Status.QUEUED, unreadable=f"its item is damaged: {error}")


def _read_record(item: Item) -> UrlRecord:
    url = item["url"]["S"]
    attempt = int(number(item, "attempt"))
    outcome = text(item, "outcome")
    return UrlRecord(
        url=url,
        status=Status(item["status"]["S"]),
        depth=int(number(item, "depth")),
        parent=text(item, "parent"),
        host=host_of(url),
        lastmod=optional(item, "lastmod"),
        attempt=attempt,
        unended=int(number(item, "unended")),
        tries=int(number(item, "tries")),
        redirects=int(number(item, "redirects")),
        worker_id=text(item, "worker_id"),
        claim_id=text(item, "claim_id") if attempt else None,
        lease_until=optional(item, "lease_until"),
        due_at=optional(item, "due_at"),
        parked="parked_body" in item,
        enqueued_at=number(item, "enqueued_at"),
        claimed_at=optional(item, "claimed_at"),
        finished_at=optional(item, "finished_at"),
        outcome=decode_outcome(outcome, url) if outcome is not None else None,
    )


def _size_of(item: Item) -> int:
    """About what DynamoDB counts of an item: the bytes of its names and values."""
    return sum(len(name) + len(value.encode()) for name, typed in item.items() for value in typed.values())


def _encode_outcome(outcome: Outcome) -> str:
    return msgspec.json.encode(outcome).decode()


def _entry_of(item: Item) -> Entry:
    return Entry(
        url=item["url"]["S"],
        depth=int(number(item, "depth")),
        parent=text(item, "parent"),
        settings=decode_settings(text(item, "settings") or "{}"),
        redirects=int(number(item, "redirects")),
        lastmod=optional(item, "lastmod"),
    )


def _won(url: str, item: Item) -> Won:
    return Won(
        url=url,
        attempt=int(number(item, "attempt")),
        unended=int(number(item, "unended")),
        tries=int(number(item, "tries")),
        worker_id=item["worker_id"]["S"],
        claim_id=item["claim_id"]["S"],
        lease_until=number(item, "lease_until"),
    )


def _was_queued(item: Item) -> bool:
    """Whether a record was queued before the claim that it shows: the claim before that one was ended, or given
    back unused. (Else its lease ran out while it was in ``processing``.)"""
    return number(item, "unended") == 1 or ("unused" in item and number(item, "unused") == number(item, "attempt") - 1)


def _fence(claim: Won) -> list[dict[str, Any]]:
    """The parameters of ``WHERE url AND attempt AND claim_id``."""
    return [s(claim.url), n(claim.attempt), s(claim.claim_id)]


def _is_of(item: Item, claim: Won) -> bool:
    """Whether no later claim of a record was made."""
    return (number(item, "attempt"), text(item, "claim_id")) == (claim.attempt, claim.claim_id)


def _is_held(item: Item | None, claim: Won) -> bool:
    return item is not None and text(item, "status") == Status.PROCESSING and _is_of(item, claim)


def _seconds(timestamp: float | str) -> float:
    """A time in CloudWatch's answer, which is a number in JSON 1.0, as seconds since the epoch."""
    return timestamp if isinstance(timestamp, float | int) else datetime.fromisoformat(timestamp).timestamp()


def _counts(by_status: dict[Status, int], numbers: Mapping[str, int]) -> Counts:
    return Counts(
        by_status=by_status,
        by_reason={reason: n for reason in Reason if (n := numbers.get(f"reason:{reason}", 0)) > 0},
        bytes=max(0, numbers.get("bytes", 0)),
        redirects=max(0, numbers.get("redirects", 0)),
    )


# Messages.


def _outgoing(message: Message, delay_seconds: int = 0) -> Outgoing:
    return Outgoing(_encoded(message), host_of(message.url), delay_seconds)


def _encoded(message: Message) -> str:
    """The body of a message. Characters that SQS does not take stand in strings alone, and are escaped."""
    return NOT_IN_SQS.sub(lambda found: f"\\u{ord(found[0]):04x}", encode_message(message))


def _deferred(deferral: Deferral, now: float) -> Outgoing:
    delay = _delay_until(deferral.until, now)
    if deferral.message is not None:
        return _outgoing(deferral.message, delay)
    message = decode_message(deferral.delivery.body)
    host = None if isinstance(message, BadBody) else host_of(message.url)
    return Outgoing(deferral.delivery.body, host, delay)


def _body_of(deferral: Deferral) -> str:
    return _encoded(deferral.message) if deferral.message is not None else deferral.delivery.body


def _parks(moment: float, now: float, body: str) -> bool:
    """Whether a message is kept in its record until a moment: SQS cannot delay it so long, and it fits there."""
    return moment > now + MAX_DELAY_SECONDS and len(body.encode()) <= MAX_PARKED_BYTES


def _parked_until(moment: float, now: float) -> float:
    return min(moment, now + MAX_PARKED_SECONDS)


def _delay_until(moment: float, now: float) -> int:
    """Whole seconds, not too few; as many as SQS takes. NaN, too, is now."""
    return min(math.ceil(moment - now), MAX_DELAY_SECONDS) if moment > now else 0


def _is_stale(delivery: Delivery, now: float) -> bool:
    """Whether a delivery's time is up: its message is visible again, or somebody else's."""
    stale_at, separator, _ = delivery.receipt.partition(" ")
    return bool(separator) and float(stale_at) <= now


def _handle_of(receipt: str) -> str:
    """SQS's own receipt handle. Ours has before it when it goes stale."""
    return receipt.rpartition(" ")[2]
