"""What passes does not end a consumer, and what it does not need it does not ask for."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from sqspider import lambda_handler
from sqspider.frontier import Finish, Frontier, FrontierSettings, FrontierUnavailableError, Won
from sqspider.frontier.aws import AwsFrontier
from sqspider.frontier.aws import transport as aws_transport
from sqspider.frontier.aws.bill import Usage
from sqspider.frontier.aws.client import AwsClient, Call
from sqspider.frontier.aws.clock import AwsClock
from sqspider.frontier.aws.credentials import BotocoreKeys, EnvironmentKeys, Keys
from sqspider.frontier.aws.errors import CODES, MEANINGS, Meaning, meaning_of
from sqspider.frontier.aws.transport import CLOUDWATCH, DYNAMODB, IDLE_SECONDS, SQS, HttpTransport
from sqspider.host_trouble import after_success, after_trouble
from sqspider.record import Reason
from sqspider.web.fetch import Fetcher, FetchOptions
from sqspider.work.desk import STOP_MARGIN_SECONDS
from sqspider.work.options import WorkerOptions
from sqspider.work.upkeep import keep_sweeping
from sqspider.work.worker import Mode, Worker
from tests.frontier.kit import A_LITTLE, DONE, DUE, entries, take, url

from . import faults
from .engines import Engines
from .faults import FaultProxy
from .store import TABLE, AwsStore, client_for


@pytest.fixture
async def patient_store(engines: Engines) -> AsyncIterator[AwsStore]:
    """A store with the timeouts of a real one, which a whole worker needs."""
    store = await AwsStore.create(engines.ministack(), engines.clock, FrontierSettings())
    yield store
    await store.close()


async def work(frontier: Frontier, mode: Mode, *, poll_seconds: float = 0.0) -> tuple[Worker, asyncio.Task[None]]:
    """A worker at work, and what it runs in; the fetcher lives as long as that."""
    fetcher = await Fetcher(FetchOptions()).__aenter__()
    options = WorkerOptions(worker_id="w", poll_seconds=poll_seconds)
    worker = Worker(frontier, fetcher, options, clock=frontier.now, rng=random.Random(1))

    async def run() -> None:
        try:
            await worker.run(mode)
        finally:
            await fetcher.__aexit__(None, None, None)

    return worker, asyncio.create_task(run())


# What AWS says.


@pytest.mark.parametrize(
    ("code", "status", "meaning"),
    [
        ("com.amazonaws.sqs#KmsThrottled", 400, Meaning.LATER),
        ("AWS.SimpleQueueService.KmsThrottled", 400, Meaning.LATER),
        ("com.amazon.coral.availability#ThrottlingException", 400, Meaning.LATER),
        ("com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException", 400, Meaning.LATER),
        ("ProvisionedThroughputExceeded", 400, Meaning.LATER),
        ("SomethingNew", 429, Meaning.LATER),
        ("ThrottlingException", 503, Meaning.LATER),
        ("SomethingNew", 502, Meaning.UNSURE),
        ("ValidationException", 500, Meaning.UNSURE),
        ("InternalServerError", 400, Meaning.UNSURE),
        ("ConditionalCheckFailedException", 400, Meaning.OUTCOME),
        ("com.amazon.coral.validate#ValidationException", 400, Meaning.REFUSED),
        ("AWS.SimpleQueueService.NonExistentQueue", 400, Meaning.GONE),
        ("ExpiredTokenException", 400, Meaning.CREDENTIALS),
        ("AccessDenied", 403, Meaning.DENIED),
        ("KmsAccessDenied", 400, Meaning.FATAL),
        ("SomethingNew", 400, Meaning.FATAL),
    ],
)
def test_codes_are_known_however_they_are_written(code: str, status: int, meaning: Meaning) -> None:
    assert meaning_of(code, status) is meaning


def test_no_code_has_two_meanings() -> None:
    written = Counter(code for codes in CODES.values() for code in codes.split())
    assert written.total() == len(MEANINGS)


async def test_a_key_service_that_throttles_is_waited_for(store: AwsStore, proxy: FaultProxy) -> None:
    frontier = await store.open_in(proxy.environment)

    async def throttled(
        _: FaultProxy, action: str, document: faults.Document, forward: faults.Forward
    ) -> faults.Answer:
        if action == "SendMessageBatch" and not proxy.injected[action]:
            proxy.injected[action] += 1
            return faults.refusal("KmsThrottled")
        return await forward(document)

    proxy.fault = throttled
    assert await frontier.enqueue(entries(3)) == [True] * 3
    assert proxy.injected["SendMessageBatch"] == 1
    assert len(await take(frontier, 3)) == 3


@pytest.mark.parametrize("kind", ["AccessDeniedException", "ThrottlingException"])
async def test_a_figure_that_cannot_be_had_is_missing(store: AwsStore, proxy: FaultProxy, kind: str) -> None:
    """A role without CloudWatch works; what it would have told is left open."""
    frontier = await store.open_in(proxy.environment)
    frontier.client.give_up_seconds = 0.2

    async def refuse(_: FaultProxy, action: str, document: faults.Document, forward: faults.Forward) -> faults.Answer:
        return faults.refusal(kind) if action == "GetMetricStatistics" else await forward(document)

    proxy.fault = refuse
    await frontier.enqueue(entries(2))
    await store.elapse(DUE + A_LITTLE)
    with capture_logs() as logs:
        for _ in range(2):
            stats = await frontier.queue_stats()
            assert (stats.visible, stats.oldest_age_seconds) == (2, None)
            assert await frontier.sweep() == 0
    assert [log["event"] for log in logs].count("no_figure") == 1
    with pytest.raises(Exception, match="GetMetricStatistics"):  # here they are what was asked for
        await frontier.points(since=0, until=60, period_seconds=60)


async def test_what_is_deleted_is_named_as_at_the_start(patient_store: AwsStore) -> None:
    store = patient_store
    frontier = await store.open(FrontierSettings())
    client = client_for(store.environment)
    queue_url, table = store.environment["QUEUE_URL"], store.environment["TABLE_NAME"]

    async def at_start() -> str:
        with pytest.raises(FrontierUnavailableError) as refusal:
            await AwsFrontier.open(FrontierSettings(), clock=store.clock, environment=store.environment)
        return str(refusal.value)

    await client.call(SQS, "DeleteQueue", {"QueueUrl": queue_url})
    with pytest.raises(FrontierUnavailableError, match=f"no queue {queue_url} in us-east-1: see QUEUE_URL") as at_work:
        await frontier.receive(1)
    assert str(at_work.value) == await at_start()
    await client.call(SQS, "CreateQueue", {"QueueName": queue_url.rpartition("/")[2]})

    await client.call(DYNAMODB, "DeleteTable", {"TableName": table})
    missing = await at_start()
    assert f"no table {table} in us-east-1: see TABLE_NAME" in missing
    for operation in (
        frontier.enqueue(entries(2)),
        frontier.counts(),
        frontier.check_in("w", session="s", ttl_seconds=1),
    ):
        with pytest.raises(FrontierUnavailableError) as at_work:
            await operation
        assert str(at_work.value) == missing
    # A statement in a batch is told so by itself.
    claim = Won(url=url(0), attempt=1, unended=1, tries=0, worker_id="w", claim_id="c", lease_until=0)
    with pytest.raises(FrontierUnavailableError) as at_work:
        await frontier.finish([Finish(claim=claim, delivery=None, outcome=DONE)])
    assert str(at_work.value) == missing
    await client.call(DYNAMODB, "CreateTable", {"TableName": table, **TABLE})
    await client.close()


PROGRAM = """
import datetime, json, pathlib, sys
place = pathlib.Path(__file__).with_name("keys")
if not place.exists():
    sys.exit("the sign-on has run out")
until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=5)
print(json.dumps({"Version": 1, "AccessKeyId": place.read_text(), "SecretAccessKey": "s", "Expiration": until.isoformat()}))
"""


async def test_good_keys_are_kept_when_new_ones_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that end within ten minutes are renewed; until they end they are good."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "keys").write_text("FIRST")
    (tmp_path / "config").write_text(f"[profile p]\ncredential_process = {sys.executable} {tmp_path / 'program.py'}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "p")
    monkeypatch.setattr("sqspider.frontier.aws.credentials.CREDENTIALS_KEPT_SECONDS", -1.0)
    source = BotocoreKeys()
    first = await source.keys()
    assert first.access_key_id == "FIRST"
    (tmp_path / "keys").unlink()
    with capture_logs() as logs:
        assert await source.keys() == first
    # botocore's own lines come along where another test of this process has adopted them.
    assert "credentials_not_renewed" in [log["event"] for log in logs]
    with pytest.raises(FrontierUnavailableError, match="sign-on has run out"):
        await source.keys(refused=first)  # AWS does not take them any more
    (tmp_path / "keys").write_text("SECOND")
    assert (await source.keys(refused=first)).access_key_id == "SECOND"


async def test_keys_that_have_ended_are_exchanged_in_the_middle_of_a_call(store: AwsStore, proxy: FaultProxy) -> None:
    class Exchanged:
        """A source that has others as soon as its first ones are refused."""

        def __init__(self) -> None:
            self.asked: list[Keys | None] = []

        async def keys(self, refused: Keys | None = None) -> Keys:
            self.asked.append(refused)
            return Keys("new" if any(self.asked) else "old", "secret")

    async def expire(_: FaultProxy, action: str, document: faults.Document, forward: faults.Forward) -> faults.Answer:
        proxy.injected[action] += 1
        return faults.refusal("ExpiredTokenException") if proxy.injected[action] == 1 else await forward(document)

    proxy.fault = expire
    client = client_for(proxy.environment, Exchanged())
    request = {"TableName": store.environment["TABLE_NAME"]}
    assert (await client.call(DYNAMODB, "DescribeTable", request)).body["Table"]
    await client.close()


# Connections.


class Server:
    """Answers a connection's first request, and is silent afterwards if it is told so."""

    def __init__(self, *, silent: bool) -> None:
        self.connections = 0
        self.unanswered = 0
        self._silent = silent
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await asyncio.gather(*self._serving)  # the client has hung up

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._answer(reader, writer)
        except asyncio.IncompleteReadError:
            pass  # the client has hung up
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        answered = 0
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
            if answered and self._silent:
                self.unanswered += 1
                await reader.read()  # until the other end hangs up
                return
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            answered += 1


def client_of(server: Server, clock: AwsClock) -> AwsClient:
    endpoints = dict.fromkeys((SQS, DYNAMODB, CLOUDWATCH), server.url)
    keys = EnvironmentKeys(Keys("key", "secret"))
    transport = HttpTransport(endpoints, clock=clock.own)
    rng = random.Random(0)
    return AwsClient(
        keys, region="r", endpoints=endpoints, transport=transport, rng=rng, clock=clock, give_up_seconds=10.0
    )


async def test_a_kept_connection_that_is_silent_is_left_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # Longer than the call is tried in all: only the limit for DynamoDB's silence can save it.
    monkeypatch.setattr("sqspider.frontier.aws.transport.ANSWER_SECONDS", 60.0)
    monkeypatch.setattr("sqspider.frontier.aws.transport.SILENT_SECONDS", 0.3)
    async with Server(silent=True) as server:
        client = client_of(server, AwsClock(lambda: 0.0))
        await asyncio.gather(*(client.call(DYNAMODB, "Scan", {}) for _ in range(3)))
        kept = server.connections
        answer = await client.call(DYNAMODB, "Scan", {})
        assert answer.is_unsure
        assert (server.connections, server.unanswered) == (kept + 1, 1)  # the others are as dead: none is tried
        await client.close()


async def test_connections_that_were_idle_while_the_process_was_frozen_are_not_used() -> None:
    now = [1000.0]
    async with Server(silent=False) as server:
        client = client_of(server, AwsClock(lambda: now[0]))
        for seconds, connections in ((0.0, 1), (IDLE_SECONDS - 1, 1), (IDLE_SECONDS + 1, 2)):
            now[0] += seconds
            await client.wake()
            await client.call(SQS, "ListQueues", {})
            assert server.connections == connections
        await client.close()


class Invocation:
    """What Lambda tells about one."""

    aws_request_id = "1"
    function_name = "sweep"

    def get_remaining_time_in_millis(self) -> int:
        return 25_000


@pytest.fixture
async def function(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The function's process, as it begins; closed at the end."""
    for name in ("QUEUE_URL", "TABLE_NAME", *(name for name in proxy.environment if name.startswith("AWS_"))):
        monkeypatch.setenv(name, proxy.environment[name])
    monkeypatch.setattr(lambda_handler, "_live", None)
    yield
    live = lambda_handler._live
    assert live is not None
    for closing in (live.frontier.close(), live.fetcher.__aexit__(None, None, None)):
        await asyncio.to_thread(live.loop.run_until_complete, closing)
    await asyncio.to_thread(live.abandon)
    structlog.reset_defaults()


@pytest.mark.usefixtures("function")
async def test_a_function_that_was_frozen_begins_with_fresh_connections(
    proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def invoke() -> set[int]:
        proxy.connections.clear()
        assert await asyncio.to_thread(lambda_handler.sweep, {}, Invocation()) == {"released": 0}
        return set(proxy.connections)

    first, second = await invoke(), await invoke()
    assert first & second
    monkeypatch.setattr(aws_transport, "IDLE_SECONDS", -1.0)  # however short the freeze was, it was too long
    assert not await invoke() & (first | second)


@pytest.mark.usefixtures("function")
async def test_workers_leave_sweeping_to_a_schedule_however_long_its_period_is(
    store: AwsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    frontier = await store.open()
    monkeypatch.setenv("SQSPIDER_SWEEP_SECONDS", "600")
    await asyncio.to_thread(lambda_handler.sweep, {}, Invocation())
    await store.elapse(600)
    assert not await frontier.lease_sweep(until=store.clock() + 30)
    await store.elapse(2 * 600)  # the schedule has ended
    assert await frontier.lease_sweep(until=store.clock() + 30)


# Stopping, and ending.


async def test_a_poll_that_is_left_when_told_to_stop_hides_no_message(patient_store: AwsStore) -> None:
    taken = asyncio.Event()

    async def answer_late(
        _: FaultProxy, action: str, document: faults.Document, forward: faults.Forward
    ) -> faults.Answer:
        answer = await forward(document)
        if action == "ReceiveMessage" and answer.document.get("Messages") and not taken.is_set():
            taken.set()
            await asyncio.sleep(STOP_MARGIN_SECONDS + 1)  # as a long poll is still open when it is stopped
        return answer

    async with FaultProxy(patient_store.environment) as proxy:
        proxy.fault = answer_late
        frontier = await patient_store.open_in(proxy.environment, FrontierSettings())
        await frontier.enqueue(entries(5))
        worker, running = await work(frontier, Mode.CONTINUOUS, poll_seconds=20.0)
        await taken.wait()
        worker.stop()
        await running
        stats = await frontier.queue_stats()
        assert (stats.visible, stats.in_flight) == (5, 0)
        assert {delivery.receive_count for delivery in await take(frontier, 5)} == {1}
        await patient_store.close_handles()


async def test_that_nothing_is_left_is_not_concluded_from_one_look(store: AwsStore, proxy: FaultProxy) -> None:
    """The index and SQS's figures are behind: a URL was enqueued just now, and nobody sees it yet."""
    looks = 0

    async def behind(_: FaultProxy, action: str, document: faults.Document, forward: faults.Forward) -> faults.Answer:
        nonlocal looks
        answer = await forward(document)
        if looks < 2 and action == "Query":
            answer.document["Items"] = []
        if looks < 2 and action == "GetQueueAttributes":
            looks += 1  # of the queue and its dead letters
            answer.document["Attributes"] |= {
                name: "0" for name in answer.document["Attributes"] if name.startswith("Approximate")
            }
        return faults.Answer(200, {}) if looks < 2 and action == "ReceiveMessage" else answer

    settings = FrontierSettings(visibility_seconds=2.0)
    frontier = await store.open_in(proxy.environment, settings)
    await frontier.send(["http://127.0.0.1/refused"])  # a private address: it is ended unfetched
    proxy.fault = behind
    _, running = await work(frontier, Mode.UNTIL_EMPTY)
    await running
    assert looks == 2
    assert (await frontier.get(["http://127.0.0.1/refused"])) != {}


# What is not asked for.


async def test_one_of_many_sweeps_and_none_where_a_schedule_does(store: AwsStore) -> None:
    many = [await store.open() for _ in range(10)]
    leases = [await frontier.lease_sweep(until=store.clock() + 30) for frontier in many]
    assert leases == [True] + [False] * 9
    await store.elapse(30 + A_LITTLE)
    assert await many[5].lease_sweep(until=store.clock() + 30)
    assert await many[0].lease_sweep(until=store.clock() + 150, by_schedule=True)
    await store.elapse(31)
    assert not any([await frontier.lease_sweep(until=store.clock() + 30) for frontier in many])


async def test_a_worker_that_has_no_lease_does_not_sweep(store: AwsStore, proxy: FaultProxy) -> None:
    frontier = await store.open_in(proxy.environment)
    assert await frontier.lease_sweep(until=store.clock() + 60, by_schedule=True)
    sweeping = asyncio.create_task(keep_sweeping(frontier, 0.01))
    proxy.calls.clear()
    while proxy.calls["BatchGetItem"] < 5:
        await asyncio.sleep(0.01)
    assert set(proxy.calls) == {"BatchGetItem"}
    await store.elapse(60 + A_LITTLE)
    while not proxy.calls["Query"]:
        await asyncio.sleep(0.01)
    sweeping.cancel()
    await asyncio.wait([sweeping])


async def test_only_hosts_in_trouble_are_read(store: AwsStore, proxy: FaultProxy) -> None:
    frontier = await store.open_in(proxy.environment)
    names = [f"h{i}.example" for i in range(120)]
    rows = await frontier.hosts(names)
    assert all(await frontier.save_hosts(list(rows.values())))
    assert await frontier.hosts_in_trouble() == []
    now = store.clock()
    for name in names[:3]:
        row = (await frontier.hosts([name]))[name]
        for _ in range(10):
            row = after_trouble(row, Reason.SERVER_ERROR, slows=True, fails=True, retry_after=None, now=now)
        assert await frontier.save_hosts([row]) == [True]
    read: list[str] = []

    def see(action: str, document: faults.Document, _: faults.Answer) -> None:
        if action == "BatchGetItem":
            read.extend(key["url"]["S"] for (asked,) in [document["RequestItems"].values()] for key in asked["Keys"])

    proxy.on_answer = see
    assert [row.host for row in await frontier.hosts_in_trouble()] == sorted(names[:3])
    assert len(read) == 3
    # It passes, and the mark goes with the next write.
    row = (await frontier.hosts([names[0]]))[names[0]]
    while row.penalty_seconds or row.failures:
        await store.elapse(4000)
        row = after_success(row, now=store.clock())
    assert await frontier.save_hosts([row]) == [True]
    read.clear()
    assert names[0] not in [row.host for row in await frontier.hosts_in_trouble()]
    assert f"host {names[0]}" not in read
    assert len(await frontier.scan_hosts()) == 120


# The bill.


def test_messages_are_billed_by_the_64_kib_of_bytes_either_way() -> None:
    def requests(action: str, request: dict[str, object], answer: dict[str, object]) -> float:
        usage = Usage()
        usage.see(Call(SQS, action, request, answer))
        return usage.sqs_requests

    assert requests("ReceiveMessage", {}, {}) == 1
    assert requests("ReceiveMessage", {}, {"Messages": [{"Body": "x" * 40_000}] * 3}) == 2
    assert requests("ReceiveMessage", {}, {"Messages": [{"Body": "x" * 65_536}]}) == 1
    assert requests("SendMessageBatch", {"Entries": [{"MessageBody": "é" * 40_000}]}, {"Successful": []}) == 2
    assert requests("DeleteMessageBatch", {"Entries": [{"ReceiptHandle": "r"}]}, {}) == 1
