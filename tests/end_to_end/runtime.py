"""Lambda on this machine: the function's zip under AWS's own runtime client and interface emulator,
and a poller that treats the queue and the function's answers as AWS does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from sqspider.frontier.aws.transport import SQS
from tests.aws.engines import free_port
from tests.aws.install import EMULATOR
from tests.aws.store import client_for

CGROUPS: Final = Path("/sys/fs/cgroup")  # of version 1; elsewhere there is no limit, only a measure
PROCESSOR_MB: Final = 1769  # of memory, for which Lambda gives one whole processor
START_SECONDS: Final = 120.0  # on a busy machine, before an answer is no more waited for


class FunctionError(Exception):
    """The invocation failed: the function raised, ran out of time, or its process died."""


class FunctionRuntime:
    """A function that can be invoked, one invocation at a time. Its process is started anew when it has died."""

    def __init__(
        self,
        emulator: Path,
        root: Path,
        environment: Mapping[str, str],
        *,
        handler: str = "sqspider.lambda_handler.handler",
        timeout_seconds: int = 30,
        memory_mb: int | None = None,
        is_as_slow: bool = False,
    ) -> None:
        """``emulator``: its folder; ``root``: the unpacked zip. ``memory_mb`` is a limit where one can be set; ``is_as_slow``: with Lambda's share of a processor, too."""
        ports = [free_port(), free_port()]
        self._url = f"http://127.0.0.1:{ports[0]}/2015-03-31/functions/function/invocations"
        self._pids = root.parent / f"pids-{ports[0]}"
        self._log = (root.parent / f"log-{ports[0]}").open("w+")
        self._timeout_seconds = timeout_seconds
        self._cgroups = _limited(memory_mb, is_as_slow=is_as_slow) if memory_mb is not None else []
        self.is_limited = bool(self._cgroups)
        enter = f'echo $$ >> "{self._pids}"; '
        enter += "".join(f'echo $$ > "{cgroup}/cgroup.procs"; ' for cgroup in self._cgroups)
        python = str(emulator / "venv" / "bin" / "python")
        self._process = subprocess.Popen(
            [
                str(emulator / EMULATOR),
                "--runtime-interface-emulator-address", f"127.0.0.1:{ports[0]}",
                "--runtime-api-address", f"127.0.0.1:{ports[1]}",
                "--log-level", "error",
                "sh", "-c", enter + 'exec "$@"', "sh", python, "-m", "awslambdaric", handler,
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=root,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(root),
                "PYTHONDONTWRITEBYTECODE": "1",
                "LAMBDA_TASK_ROOT": str(root),
                "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout_seconds),
                **environment,
            },
            start_new_session=True,
        )  # fmt: skip
        _wait_for_port(ports[0], self._process)

    @property
    def log(self) -> str:
        """All that it wrote so far."""
        return Path(self._log.name).read_text()

    @property
    def pid(self) -> int:
        """Of the function's own process, the latest one."""
        return int(self._pids.read_text().split()[-1])

    @property
    def peak_memory_mb(self) -> float:
        """The most memory that the latest process had resident."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def invoke(self, event: Mapping[str, Any]) -> Any:
        """The function's answer. Raises :class:`FunctionError`."""
        request = Request(self._url, data=json.dumps(event).encode(), method="POST")
        try:
            with urlopen(request, timeout=self._timeout_seconds + START_SECONDS) as response:
                text = response.read().decode()
        except HTTPError as error:
            raise FunctionError(error.read().decode()) from error
        if text.startswith("Task timed out"):
            raise FunctionError(text)
        answer = json.loads(text) if text else None
        if isinstance(answer, dict) and "errorType" in answer:
            raise FunctionError(text)
        return answer

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # a session of its own: its children, too
        self._process.wait()
        self._log.close()
        for cgroup in self._cgroups:
            _remove(cgroup)


def _limited(memory_mb: int, *, is_as_slow: bool = False) -> list[Path]:
    """Cgroups with so much memory, and its share of a processor; none where none can be made."""
    limits = {"memory": ("memory.limit_in_bytes", memory_mb * 2**20)}
    if is_as_slow:
        limits["cpu"] = ("cpu.cfs_quota_us", 100_000 * memory_mb // PROCESSOR_MB)
    made = []
    for controller, (file, limit) in limits.items():
        folder = CGROUPS / controller / f"sqspider-{os.getpid()}-{random.getrandbits(32):08x}"
        try:
            folder.mkdir()
            made.append(folder)
            (folder / file).write_text(str(limit))
        except OSError:
            for cgroup in made:
                _remove(cgroup)
            return []
    return made


def _remove(cgroup: Path) -> None:
    give_up_at = time.monotonic() + 5
    while time.monotonic() < give_up_at:
        try:
            cgroup.rmdir()
        except FileNotFoundError:
            return
        except OSError:  # its processes take a moment to go
            time.sleep(0.05)
        else:
            return


def _wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None:
            raise RuntimeError("the runtime interface emulator does not start")
        time.sleep(0.02)


class Poller:
    """What Lambda does with a queue: takes batches, invokes, deletes what the answer does not name."""

    def __init__(self, runtime: FunctionRuntime, environment: Mapping[str, str]) -> None:
        self._runtime = runtime
        self._queue_url = environment["QUEUE_URL"]
        self._client = client_for(environment)
        self.malformed = 0  # answers that failed their whole batch
        self.errors: list[str] = []  # of invocations that failed

    async def __aenter__(self) -> Poller:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._client.close()

    async def poll(self, *, wait_seconds: int = 1) -> int:
        """One batch; how many messages there were."""
        request = {
            "QueueUrl": self._queue_url,
            "MaxNumberOfMessages": 10,
            "WaitTimeSeconds": wait_seconds,
            "AttributeNames": ["All"],
        }
        received = await self._client.call(SQS, "ReceiveMessage", request, wait_seconds=wait_seconds)
        messages = received.body.get("Messages") or []
        if not messages:
            return 0
        try:
            answer = await asyncio.to_thread(self._runtime.invoke, event_of(messages))
        except FunctionError as error:
            self.errors.append(str(error))
            return len(messages)
        failed = failures(answer, [message["MessageId"] for message in messages])
        if failed is None:
            self.malformed += 1
            return len(messages)
        entries = [
            {"Id": str(i), "ReceiptHandle": message["ReceiptHandle"]}
            for i, message in enumerate(messages)
            if message["MessageId"] not in failed
        ]
        if entries:
            await self._client.call(SQS, "DeleteMessageBatch", {"QueueUrl": self._queue_url, "Entries": entries})
        return len(messages)


def event_of(messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The event that Lambda makes of messages.

    https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html#example-standard-queue-message-event
    """
    return {
        "Records": [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
                "messageAttributes": {},
                "md5OfBody": message.get("MD5OfBody", ""),
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:queue",
                "awsRegion": "us-east-1",
            }
            for message in messages
        ]
    }


def failures(answer: Any, message_ids: Sequence[str]) -> set[str] | None:
    """Which messages an answer says have failed; none if it is malformed: then all have.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
    """
    if answer is None or answer == "" or answer == {}:
        return set()  # taken for a complete success
    if not isinstance(answer, dict) or "batchItemFailures" not in answer:
        return None
    failed = set()
    for failure in answer["batchItemFailures"] or []:
        identifier = failure.get("itemIdentifier") if isinstance(failure, dict) else None
        if not identifier or identifier not in message_ids:
            return None
        failed.add(identifier)
    return failed


__all__ = ["FunctionError", "FunctionRuntime", "Poller", "failures"]
