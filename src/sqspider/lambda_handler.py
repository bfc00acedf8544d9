"""The doors of AWS Lambda: :func:`handler` for the queue's messages, :func:`sweep` for the schedule.

Both are thin: the same worker and sweeper work behind them as on the command line. Lambda freezes
the process between two invocations, so nothing may be under way then; the event loop, connections
and caches live on, and are made anew after an invocation that ran out of time.

What was ended is deleted from the queue at once, and not only by Lambda afterwards: a timeout or a
crash brings back what is unfinished, no more.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Protocol

import msgspec
import structlog  # here: an invocation has a share of a processor, and what begins a process a whole one

from sqspider.capture import Store
from sqspider.checks import Range, check_header, check_numbers
from sqspider.figures import embedded, metric_name
from sqspider.frontier import Delivery, FrontierSettings, FrontierUnavailableError
from sqspider.frontier.aws import AwsFrontier
from sqspider.frontier.aws.bill import OF_ARCHIVE, Usage
from sqspider.log import adopt_standard_logging, get_logger, start_logging
from sqspider.web.fetch import Fetcher
from sqspider.web.options import DEFAULT_USER_AGENT, FetchOptions
from sqspider.work.allowed import Allowed
from sqspider.work.desk import STOP_MARGIN_SECONDS
from sqspider.work.options import WorkerOptions
from sqspider.work.upkeep import BATCH
from sqspider.work.worker import Worker

if TYPE_CHECKING:
    from sqspider.archive.bucket_sink import BucketSink

ENDING_SECONDS: Final = 6.0  # to end what was fetched last (a large page is slow to parse), and give back the rest
GIVE_BACK_SECONDS: Final = 5.0  # before the end nothing is put into the archive any more: what is not is given back
ABANDON_SECONDS: Final = 1.5  # before the end all is dropped: the answer must be out in time
SWEEPS_WAITED_FOR: Final = 2.5  # periods of the schedule without a sweep, before other workers sweep themselves
SWEEP_SECONDS: Final = 10.0  # of one round of a sweep, at the most
LARGE_BODIES: Final = 1  # at a time: the least memory
GATHER_SECONDS: Final = math.inf  # what is kept in an invocation is one object
SEEN_URLS: Final = 20_000  # about 4 MB

if os.environ.get("SQSPIDER_ARCHIVE"):  # as structlog, above
    import sqspider.archive.bucket_sink
    import sqspider.archive.packing
    import sqspider.archive.store  # noqa: F401

log = get_logger(__name__)


class FunctionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the function's environment says, each as ``SQSPIDER_`` and the name in capitals.

    Raises ``TypeError`` or ``ValueError`` for what is out of bounds, in words that begin with the field's name.
    """

    lease_seconds: float = 180.0
    fetch_seconds: float = 10.0
    max_body_bytes: int = 2 * 1024 * 1024
    user_agent: str = DEFAULT_USER_AGENT
    contact: str = ""
    log_level: Literal["debug", "info", "warn", "error"] = "info"
    allow_private: bool = False  # also connect to addresses that are not public
    allow_any_port: bool = False  # and to ports of other services
    proxies: str = ""  # that crawls may ask for, as their rows name them; blanks between them
    send_to: str = ""  # origins that secrets of crawls (SQSPIDER_SECRET_…) may be sent to, likewise
    sweep_seconds: float = 60.0  # between two sweeps, by the schedule
    archive: str = ""  # s3://BUCKET/PREFIX, where what is fetched is kept; none: nowhere

    ranges: ClassVar[dict[str, Range]] = {  # those of the records that these settings become
        "lease_seconds": WorkerOptions.ranges["lease_seconds"],
        "fetch_seconds": FetchOptions.ranges["timeout_seconds"],
        "max_body_bytes": FetchOptions.ranges["max_bytes"],
        "sweep_seconds": WorkerOptions.ranges["sweep_seconds"],
    }

    def __post_init__(self) -> None:
        check_numbers(self, self.ranges)
        check_header("user_agent", self.user_agent)
        if self.contact:
            check_header("contact", self.contact)
        if self.archive:
            _check_archive(self.archive)

    def to_environment(self) -> dict[str, str]:
        """The variables that say the same."""
        fields = msgspec.to_builtins(self)
        return {
            _variable(name): str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in fields.items()
        }

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> FunctionSettings:
        """Raises ``msgspec.ValidationError`` for a value that cannot be read or is out of bounds."""
        names = (name for name in cls.__struct_fields__ if _variable(name) in environment)
        return msgspec.convert({name: environment[_variable(name)] for name in names}, cls, strict=False)


def _check_archive(address: str) -> None:
    """Raises ``ValueError`` for what is no place in S3."""
    from sqspider.archive.errors import ArchiveError  # here and below: not every function has one
    from sqspider.archive.s3_place import S3Place

    try:
        S3Place.read(address)
    except ArchiveError as error:
        raise ValueError(f"archive: {error}") from error


def _variable(name: str) -> str:
    return f"SQSPIDER_{name.upper()}"


def end_seconds(fetch_seconds: float) -> float:
    """How long before its end an invocation begins no more fetches."""
    return fetch_seconds + STOP_MARGIN_SECONDS + ENDING_SECONDS


class Context(Protocol):
    """What Lambda tells about an invocation."""

    aws_request_id: str
    function_name: str

    def get_remaining_time_in_millis(self) -> int: ...


class _Attributes(msgspec.Struct, rename="pascal"):
    approximate_receive_count: int
    sent_timestamp: int  # milliseconds since the epoch


class _Record(msgspec.Struct, rename="camel"):
    message_id: str
    receipt_handle: str
    body: str
    attributes: _Attributes


class _QueueEvent(msgspec.Struct, rename="pascal"):
    records: list[_Record]


def handler(event: dict[str, Any], context: Context) -> dict[str, Any]:
    """Work on a batch of messages. Those that were not ended are named, and Lambda lets them come back.

    Raises ``msgspec.ValidationError`` for an event that is not a queue's, and
    :class:`sqspider.frontier.FrontierError` where no work is possible: then all of them come back.
    """
    deliveries = _deliveries(event)

    async def work(live: _Live) -> None:
        left = context.get_remaining_time_in_millis() / 1000
        if live.sink is not None:
            live.sink.end_at = live.loop.time() + left - GIVE_BACK_SECONDS
        await live.worker.work_on(deliveries, until=live.frontier.now() + left - live.end_seconds)
        if live.sink is not None:
            await live.sink.settle()
        await live.frontier.flush()  # this process may never run again

    live = _run(work, context)
    unended = [delivery.message_id for delivery in live.worker.unended.values()]
    _report(live, context, Unended=len(unended))
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in unended]}


def sweep(event: dict[str, Any], context: Context) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Put messages back for records past their time. What it does not get to, the next one does.

    Raises :class:`sqspider.frontier.FrontierError`.
    """
    released = 0

    async def work(live: _Live) -> None:
        nonlocal released
        until = live.frontier.now() + SWEEPS_WAITED_FOR * live.settings.sweep_seconds
        await live.frontier.lease_sweep(until=until, by_schedule=True)
        while context.get_remaining_time_in_millis() / 1000 > SWEEP_SECONDS:
            swept = await live.frontier.sweep(BATCH)
            released += swept
            if not swept:
                return

    live = _run(work, context)
    if released:  # nothing to say, most of the time, and metrics cost
        _report(live, context, Released=released)
    return {"released": released}


def _deliveries(event: dict[str, Any]) -> list[Delivery]:
    return [
        Delivery(
            message_id=record.message_id,
            receipt=record.receipt_handle,
            body=record.body,
            receive_count=record.attributes.approximate_receive_count,
            sent_at=record.attributes.sent_timestamp / 1000,
        )
        for record in msgspec.convert(event, _QueueEvent, strict=False).records
    ]


class _Live:
    """What lives on from one invocation to the next."""

    frontier: AwsFrontier
    fetcher: Fetcher
    worker: Worker
    sink: BucketSink | None = None  # of the archive, where there is one

    def __init__(self) -> None:
        self.settings = FunctionSettings.read(os.environ)
        start_logging(self.settings.log_level, "json")
        adopt_standard_logging()
        self.end_seconds = end_seconds(self.settings.fetch_seconds)
        self.is_open = False
        self.reported = Usage()  # how much of it is in the log
        self.loop = asyncio.new_event_loop()
        gc.freeze()  # what was imported stays: no collection looks at it again

    async def open(self) -> None:
        """Open what the work needs. Raises :class:`sqspider.frontier.FrontierError`."""
        settings = self.settings
        lease = settings.lease_seconds
        self.frontier = await AwsFrontier.open(
            FrontierSettings(visibility_seconds=lease, due_seconds=2 * lease), clock=time.time
        )
        fetch = FetchOptions(
            timeout_seconds=settings.fetch_seconds,
            max_bytes=settings.max_body_bytes,
            allow_private=settings.allow_private,
            allow_any_port=settings.allow_any_port,
            user_agent=settings.user_agent,
            contact=settings.contact or None,
            captures=bool(settings.archive),
        )
        rng = random.Random()
        options = WorkerOptions(
            worker_id=f"lambda-{rng.getrandbits(32):08x}",
            lease_seconds=lease,
            seen_urls=SEEN_URLS,
            large_bodies=LARGE_BODIES,
        )
        self.fetcher = await Fetcher(fetch, connections=options.concurrency).__aenter__()
        allowed = Allowed.by(fetch, origins=settings.send_to.split(), proxies=settings.proxies.split())
        self.worker = Worker(
            self.frontier,
            self.fetcher,
            options,
            clock=self.frontier.now,
            rng=rng,
            store=self._open_store() if settings.archive else None,
            allowed=allowed,
        )
        self.is_open = True

    def _open_store(self) -> Store:
        """What is kept in an invocation is one object, but for what is more than a write may have."""
        from sqspider.archive.bucket_sink import BucketSink
        from sqspider.archive.coding import Coding
        from sqspider.archive.store import ArchiveStore
        from sqspider.archive.warc import Origin

        settings = self.settings
        name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "lambda")
        origin = Origin(name, settings.contact or None, settings.user_agent)
        self.sink = BucketSink.at(settings.archive, Coding.GZIP, origin, gather_seconds=GATHER_SECONDS)
        self.sink.observers.append(self.frontier.usage.see)
        return ArchiveStore(self.sink)

    def abandon(self) -> None:
        """Drop all that is under way, without waiting for it: what is claimed is left to its lease."""
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=ABANDON_SECONDS / 5))
        self.loop.close()


_live: _Live | None = None


def _run(work: Callable[[_Live], Awaitable[None]], context: Context) -> _Live:
    """Do some work within the invocation's time. What it raises is raised; running out of time is logged."""
    global _live  # Lambda keeps the module, and nothing else, between invocations
    if _live is None:
        _live = _Live()
    live = _live

    async def main() -> None:
        if live.is_open:
            await live.frontier.client.wake()
            if live.sink is not None:
                await live.sink.wake()
        else:
            await live.open()
        await work(live)

    with structlog.contextvars.bound_contextvars(request_id=context.aws_request_id):
        task = live.loop.create_task(main())
        seconds = context.get_remaining_time_in_millis() / 1000 - ABANDON_SECONDS
        live.loop.run_until_complete(asyncio.wait((task,), timeout=seconds))
        is_in_time = task.done()
        if not is_in_time or task.exception() is not None:
            _live = None  # another one is made next time
            live.abandon()
        if not is_in_time:
            log.error("out_of_time", is_open=live.is_open)
            if not live.is_open:
                raise FrontierUnavailableError("AWS could not be reached within the time of the invocation")
        else:
            task.result()
    return live


def _report(live: _Live, context: Context, **numbers: float) -> None:
    """One line in the log, that is metrics too: what was asked of AWS, besides what the worker did."""
    used, live.reported = live.frontier.usage.minus(live.reported), msgspec.structs.replace(live.frontier.usage)
    of_archive = () if live.settings.archive else OF_ARCHIVE  # each metric costs
    numbers |= {
        metric_name(name): number for name, number in msgspec.structs.asdict(used).items() if name not in of_archive
    }
    log.info(
        "invocation",
        request_id=context.aws_request_id,
        function_name=context.function_name,
        **embedded(numbers, at=time.time(), QueueName=live.frontier.queue_name),
    )
