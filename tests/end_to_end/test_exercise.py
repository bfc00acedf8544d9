"""The exercise that this crawler began as, step by step, by its own command lines: docs/exercise.md as one script.

Whoever follows the exercise sees what is asserted here. Queue, table and function are those of an engine that
stands in for AWS; consumers are processes; a small site on this machine answers them.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from sqspider.frontier import FrontierSettings
from sqspider.frontier.aws.transport import CLOUDWATCH, SQS
from tests.aws.faults import FaultProxy
from tests.aws.store import client_for, create, drop

CONSUME: Final = "consume --continuous --worker-id={} --log-format=json --log-level=debug --batch-size=10"
"""The exercise's own command line, to the letter."""

# What a site on this machine needs, and the shortest lease that goes with the queue's visibility timeout.
HERE: Final = " --allow-private --timeout=10 --lease=26"
VISIBILITY_SECONDS: Final = 26
WON: Final = "WON race — claimed for processing: "
LOST: Final = "LOST race — already claimed by another consumer: "
SQS_METRICS: Final = {
    "ApproximateNumberOfMessagesVisible": 4.0,
    "ApproximateNumberOfMessagesNotVisible": 3.0,
    "NumberOfMessagesReceived": 2.0,
    "ApproximateAgeOfOldestMessage": 1.0,
}
INVOKE: Final = """
import json, sys, types
from sqspider.lambda_handler import handler
context = types.SimpleNamespace(
    aws_request_id="1", function_name="crawl", get_remaining_time_in_millis=lambda: 600_000
)
print(json.dumps(handler(json.load(sys.stdin), context)))
"""


class Pages:
    """A site in this process: every page is short but ``/slow``, which nobody gets who asks for it first."""

    def __init__(self) -> None:
        self.slow_asked = asyncio.Event()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        try:
            yield f"http://{host}:{port}/"
        finally:
            server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /slow ") and not self.slow_asked.is_set():
            self.slow_asked.set()
            await reader.read()  # until whoever asked has gone
        else:
            status = b"404 Not Found" if head.startswith(b"GET /robots.txt ") else b"200 OK"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Type: text/html\r\nContent-Length: 2\r\n")
            writer.write(b"Connection: close\r\n\r\nhi")
        writer.close()


class Consumer:
    """A consumer at work, and what it logs."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        try:
            async for line in self.process.stderr:
                if not line.startswith(b"stopping: "):  # the word to whoever pressed Ctrl-C: all else is JSON
                    self.events.append(json.loads(line))
                self._changed.set()
        finally:
            self._changed.set()  # whoever waits sees that no more comes

    async def until(self, is_enough: Callable[[], bool]) -> None:
        """Wait for what it logs."""
        while not is_enough():
            if self._reading.done():
                self._reading.result()  # raises what was wrong with a line
                raise AssertionError(f"it has ended: {self.events[-3:]}")
            self._changed.clear()
            await self._changed.wait()

    async def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """Ctrl-C, as a rule; its exit status."""
        self.process.send_signal(how)
        await self._reading
        return await self.process.wait()

    def told(self, beginning: str) -> list[str]:
        """What follows the beginning, in each event that begins so."""
        return [event["event"].removeprefix(beginning) for event in self.events if event["event"].startswith(beginning)]


async def until_any(consumers: Iterable[Consumer], is_enough: Callable[[], bool]) -> None:
    """Wait for what any of them logs."""
    waiting = [asyncio.create_task(consumer.until(is_enough)) for consumer in consumers]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    assert is_enough()


class Exercise:
    """A queue, a table, terminals in one folder, and what was asked of AWS."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self._folder = folder
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._started: list[Process] = []

    async def start(self, line: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sqspider", *shlex.split(line)),
            cwd=self._folder, env=self.environment, stdin=DEVNULL, stdout=PIPE, stderr=PIPE,
        )  # fmt: skip
        self._started.append(process)
        return process

    async def close(self) -> None:
        """Leave nothing running, whatever went wrong."""
        for process in self._started:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def run(self, line: str) -> str:
        """What a command prints that ends well."""
        process = await self.start(line)
        out, said = await process.communicate()
        assert process.returncode == 0, (line, out.decode(), said.decode())
        return out.decode()

    async def consumer(self, worker_id: str) -> Consumer:
        """A consumer that has found the queue empty once."""
        consumer = Consumer(await self.start(CONSUME.format(worker_id) + HERE))
        await consumer.until(lambda: bool(consumer.told("No messages")))
        return consumer

    async def status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(await self.run("status --json"))
        return status

    async def show(self, url: str) -> dict[str, Any]:
        shown: dict[str, Any] = json.loads(await self.run(f"show {url} --json"))
        return shown

    async def send(self, bodies: Sequence[str]) -> None:
        """As anybody may who knows nothing of sqspider: ``aws sqs send-message``."""
        for body in bodies:
            await self.call(SQS, "SendMessage", {"QueueUrl": self.environment["QUEUE_URL"], "MessageBody": body})

    async def call(self, service: Any, action: str, request: dict[str, Any]) -> dict[str, Any]:
        client = client_for(self.environment)
        try:
            answer: dict[str, Any] = (await client.call(service, action, request)).body
        finally:
            await client.close()
        return answer


@pytest.fixture
async def exercise(ministack: dict[str, str], tmp_path: Path) -> AsyncIterator[Exercise]:
    place = await create(ministack, FrontierSettings(visibility_seconds=VISIBILITY_SECONDS))
    async with FaultProxy(place) as proxy:
        exercise = Exercise(tmp_path, proxy.environment)
        proxy.on_answer = lambda action, document, _: exercise.asked.append((action, document))
        yield exercise
        await exercise.close()
    await drop(place)


async def test_two_consumers_race_and_one_wins_each_url(exercise: Exercise, tmp_path: Path) -> None:
    """Race proven; worker id; log format and level; batch size."""
    async with Pages().serving() as site:
        consumers = {name: await exercise.consumer(name) for name in ("worker-A", "worker-B")}
        urls = [f"{site}page/{number}" for number in range(12)]
        (tmp_path / "urls.txt").write_text("\n".join([*urls, urls[0]]))
        assert await exercise.run("enqueue --delay 0 -f urls.txt") == "12 new, 1 known, 0 refused\n"
        doubles = [f"{site}double/{number}" for number in range(3)]
        await exercise.send([url for url in doubles for _ in range(2)])

        def told(beginning: str) -> list[str]:
            return [url for consumer in consumers.values() for url in consumer.told(beginning)]

        await until_any(consumers.values(), lambda: len(told(WON)) >= 15 and set(told(LOST)) >= set(doubles))
        assert [await consumer.stop() for consumer in consumers.values()] == [0, 0]

    assert Counter(told(WON)) == dict.fromkeys([*urls, *doubles], 1)
    for name, consumer in consumers.items():
        assert all(event.keys() >= {"event", "level", "timestamp"} for event in consumer.events)
        assert {event["worker_id"] for event in consumer.events} == {name}
        assert {"debug", "info"} <= {event["level"] for event in consumer.events}
    polls = [document for action, document in exercise.asked if action == "ReceiveMessage"]
    assert {poll["MaxNumberOfMessages"] for poll in polls} == {10}
    status = await exercise.status()
    assert status["records"] == {"queued": 0, "processing": 0, "done": 15, "failed": 0, "blocked": 0}
    assert status["queue"] == {**status["queue"], "visible": 0, "in_flight": 0, "delayed": 0, "dead": 0}


async def test_what_a_dead_consumer_held_comes_back_with_the_visibility_timeout(exercise: Exercise) -> None:
    """Visibility timeout: hidden while it is worked on, and there again when its consumer died."""
    site = Pages()
    async with site.serving() as base:
        url = f"{base}slow"
        victim = await exercise.consumer("worker-A")
        await exercise.send([url])
        await site.slow_asked.wait()
        assert await victim.stop(signal.SIGKILL) == -signal.SIGKILL
        assert victim.told(WON) == [url]
        status = await exercise.status()
        assert (status["records"]["processing"], status["queue"]["in_flight"]) == (1, 1)
        assert (await exercise.show(url))["worker_id"] == "worker-A"

        rescuer = Consumer(await exercise.start(CONSUME.format("worker-B") + HERE))
        await rescuer.until(lambda: bool(rescuer.told("finished")))
        assert await rescuer.stop() == 0
    assert rescuer.told(WON) == [url]
    shown = await exercise.show(url)
    assert (shown["status"], shown["attempt"], shown["worker_id"]) == ("done", 2, "worker-B")


async def test_levels_batches_metrics_and_a_fresh_state(exercise: Exercise) -> None:
    """Log level; batch size; the four metrics of the queue; clean-up."""
    async with Pages().serving() as site:
        await exercise.send([f"{site}{number}" for number in range(2)])
        process = await exercise.start(f"consume --log-format=json --log-level=info --batch-size=3 {HERE}")
        _, said = await process.communicate()
        assert process.returncode == 0, said
        assert {json.loads(line)["level"] for line in said.splitlines()} == {"info"}
    assert {d["MaxNumberOfMessages"] for action, d in exercise.asked if action == "ReceiveMessage"} == {3}

    # CloudWatch has these of AWS's SQS by itself; an engine must be told.
    at = int(time.time()) // 60 * 60 - 300
    name = exercise.environment["QUEUE_URL"].rpartition("/")[2]
    data = [
        {"MetricName": metric, "Timestamp": at, "Value": value, "Dimensions": [{"Name": "QueueName", "Value": name}]}
        for metric, value in SQS_METRICS.items()
    ]
    await exercise.call(CLOUDWATCH, "PutMetricData", {"Namespace": "AWS/SQS", "MetricData": data})
    [row] = json.loads(await exercise.run("metrics --since 15m --period 60s --json"))
    assert {metric: row[metric] for metric in SQS_METRICS} == SQS_METRICS
    table = await exercise.run("metrics --since 15m --period 60s")
    assert all(metric in table for metric in SQS_METRICS)

    await exercise.send(["http://example.com/left"])
    await exercise.run("cleanup --table --yes")
    status = await exercise.status()
    assert (sum(status["records"].values()), status["queue"]["visible"]) == (0, 1)
    await exercise.run("cleanup --all --yes")
    status = await exercise.status()
    assert (sum(status["records"].values()), status["queue"]["visible"]) == (0, 0)


async def test_the_function_does_what_a_consumer_does(exercise: Exercise) -> None:
    """Lambda handler: what it has not ended it names, and nothing else."""
    async with Pages().serving() as site:
        await exercise.send([f"{site}a", '{"url": not even JSON', f"{site}b", f"{site}b"])
        request = {
            "QueueUrl": exercise.environment["QUEUE_URL"], "MaxNumberOfMessages": 10, "AttributeNames": ["All"],
        }  # fmt: skip
        messages = (await exercise.call(SQS, "ReceiveMessage", request))["Messages"]
        keys = {"MessageId": "messageId", "ReceiptHandle": "receiptHandle", "Body": "body", "Attributes": "attributes"}
        event = {"Records": [{keys[k]: v for k, v in message.items() if k in keys} for message in messages]}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", INVOKE),
            env={**exercise.environment, "SQSPIDER_ALLOW_PRIVATE": "true", "SQSPIDER_LOG_LEVEL": "debug"},
            stdin=PIPE, stdout=PIPE, stderr=PIPE,
        )  # fmt: skip
        out, said = await process.communicate(json.dumps(event).encode())
    assert process.returncode == 0, said.decode()
    [poison] = [message["MessageId"] for message in messages if "not even JSON" in message["Body"]]
    assert json.loads(out) == {"batchItemFailures": [{"itemIdentifier": poison}]}
    events = [json.loads(line)["event"] for line in said.splitlines()]
    assert sorted(event for event in events if event.startswith(WON)) == [f"{WON}{site}a", f"{WON}{site}b"]
    assert [event for event in events if event.startswith(LOST)] == [f"{LOST}{site}b"]
    assert (await exercise.status())["records"]["done"] == 2
