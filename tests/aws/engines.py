"""Installs and starts the engines that stand in for AWS: ministack, DynamoDB Local, fauxqs.

Each is installed once, under ``.engines/``, by the pins in ``engines.txt``, and started on a free
port of loopback. What they do not imitate (throttling, lost answers,
duplicates) is in ``faults``.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

PINS: Final = Path(__file__).parent / "engines.txt"
MINISTACK: Final = Path(__file__).parent / "ministack_with_clock.py"
ROOT: Final = Path(__file__).parent.parent.parent / ".engines"
START_SECONDS: Final = 60.0
EMULATOR: Final = "aws-lambda-rie-x86_64"


class EngineMissingError(Exception):
    """An engine cannot be had here; the text says why."""


def pinned(kind: str) -> list[str]:
    """What is pinned for one kind of installer."""
    for line in PINS.read_text().splitlines():
        first, *packages = line.split()
        if first == kind:
            return packages
    raise AssertionError(f"no {kind} in {PINS}")


@contextlib.contextmanager
def _install(kind: str) -> Iterator[tuple[Path, bool]]:
    """The folder of an installation and whether it is still to be made; one process at a time."""
    packages = pinned(kind)
    name = packages[0].rpartition("@")[0] or packages[0].partition("=")[0]
    folder = ROOT / f"{name}-{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:8]}"
    ROOT.mkdir(exist_ok=True)
    with (ROOT / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "installed"
        if done.exists():
            yield folder, False
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        yield folder, True
        done.touch()


def _run(command: list[str], folder: Path) -> None:
    try:
        result = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineMissingError(f"{command[0]}: {error}") from error
    if result.returncode:
        raise EngineMissingError(f"{' '.join(command[:3])} failed: {result.stderr.strip()[-300:]}")


def _need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            raise EngineMissingError(f"there is no {program} here")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Engine:
    """A running engine; stopped by its own process id."""

    def __init__(self, name: str, command: list[str], port: int, **environment: str) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self._log = (ROOT / f"{name}-{port}.log").open("w+")
        self._process = subprocess.Popen(
            command,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
            cwd=ROOT,
        )
        give_up_at = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                self._log.seek(0)
                said = self._log.read()[-500:]
                self.stop()
                raise RuntimeError(f"{name} does not start: {said}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            urlopen(self.url, timeout=5).close()
        except HTTPError as error:  # any answer will do
            error.close()
        except (URLError, OSError):
            return False
        return True

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
        Path(self._log.name).unlink(missing_ok=True)


class EngineClock:
    """A clock that tests can move ahead, for an engine and for who talks to it alike."""

    def __init__(self) -> None:
        ROOT.mkdir(exist_ok=True)
        self.file = ROOT / f"clock-{os.getpid()}-{id(self):x}"
        self.file.write_bytes(bytes(8))
        self._ahead_seconds = 0.0

    def __call__(self) -> float:
        return time.time() + self._ahead_seconds

    def advance(self, seconds: float) -> None:
        self._ahead_seconds += seconds
        with self.file.open("r+b") as file:  # in place: the engine has it mapped
            file.write(struct.pack("d", self._ahead_seconds))


def start_ministack(clock: EngineClock) -> Engine:
    """SQS, DynamoDB and more. In an environment of its own: it pins versions that are not ours."""
    with _install("pip") as (folder, is_new):
        if is_new:
            _run([sys.executable, "-m", "venv", "venv"], folder)
            _run(["venv/bin/python", "-m", "pip", "install", "--quiet", *pinned("pip")], folder)
    port = free_port()
    command = [str(folder / "venv" / "bin" / "python"), str(MINISTACK), str(clock.file)]
    return Engine(
        "ministack", command, port, BIND_HOST="127.0.0.1", GATEWAY_PORT=str(port), AWS_EC2_METADATA_DISABLED="true"
    )


def start_dynamodb_local() -> Engine:
    """DynamoDB only. Its licence forbids to hand it on: it is fetched, never vendored."""
    _need("java", "npm")
    with _install("npm-pack") as (folder, is_new):
        if is_new:
            _run(["npm", "pack", *pinned("npm-pack")], folder)
            archive = next(folder.glob("*.tgz"))
            _run(["tar", "xzf", archive.name, "package/emulator"], folder)
            archive.unlink()
    emulator = folder / "package" / "emulator"
    port = free_port()
    command = ["java", "-Xmx512m", f"-Djava.library.path={emulator / 'DynamoDBLocal_lib'}"]
    command += ["-jar", str(emulator / "DynamoDBLocal.jar"), "-inMemory", "-sharedDb", "-disableTelemetry"]
    engine = Engine("dynamodb-local", [*command, "-port", str(port)], port)
    _warm_up(engine.url)
    return engine


def _warm_up(url: str) -> None:
    """Let DynamoDB Local do each kind of thing once: its first statements take seconds, AWS's do not."""
    key = {"url": {"S": "warm"}}
    scope = "key/20260101/us-east-1/dynamodb/aws4_request"
    calls: list[tuple[str, dict[str, Any]]] = [
        (
            "CreateTable",
            {
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{"AttributeName": "url", "AttributeType": "S"}],
                "KeySchema": [{"AttributeName": "url", "KeyType": "HASH"}],
            },
        ),
        ("INSERT", {"Statement": "INSERT INTO \"warm\" VALUE {'url': ?}", "Parameters": [{"S": "warm"}]}),
        ("UPDATE", {"Statement": 'UPDATE "warm" SET "a" = 1 WHERE "url" = ?', "Parameters": [{"S": "warm"}]}),
        ("UpdateItem", {"Key": key, "UpdateExpression": "ADD b :b", "ExpressionAttributeValues": {":b": {"N": "1"}}}),
        ("DeleteTable", {}),
    ]
    for action, document in calls:
        is_statement = "Statement" in document
        body = {"Statements": [document]} if is_statement else {"TableName": "warm", **document}
        headers = {
            "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=none",
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"DynamoDB_20120810.{'BatchExecuteStatement' if is_statement else action}",
        }
        urlopen(Request(url, json.dumps(body).encode(), headers)).close()


def start_fauxqs() -> Engine:
    """SQS only."""
    _need("node", "npm")
    with _install("npm") as (folder, is_new):
        if is_new:
            _run(["npm", "install", "--no-audit", "--no-fund", *pinned("npm")], folder)
    port = free_port()
    program = str(folder / "node_modules" / "fauxqs" / "dist" / "cli.js")
    return Engine("fauxqs", ["node", program], port, FAUXQS_PORT=str(port), FAUXQS_HOST="127.0.0.1")


class Engines:
    """The engines of a test run, each started when it is first asked for.

    Every method gives the environment in which the crawler talks to them, and raises
    :class:`EngineMissingError` where they cannot be had.
    """

    def __init__(self) -> None:
        self.clock = EngineClock()  # of ministack
        self._running: dict[str, Engine] = {}

    def _url(self, name: str, start: Callable[[], Engine]) -> str:
        if name not in self._running:
            self._running[name] = start()
        return self._running[name].url

    def ministack(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self._url("ministack", lambda: start_ministack(self.clock)),
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "000000000000",
            "AWS_SECRET_ACCESS_KEY": "test",
        }

    def dynamodb_local_and_fauxqs(self) -> dict[str, str]:
        """What those two do not imitate (CloudWatch) is asked of ministack."""
        return {
            **self.ministack(),
            "AWS_ENDPOINT_URL_DYNAMODB": self._url("dynamodb-local", start_dynamodb_local),
            "AWS_ENDPOINT_URL_SQS": self._url("fauxqs", start_fauxqs),
        }

    def stop(self) -> None:
        for engine in self._running.values():
            engine.stop()
        self.clock.file.unlink()


def install_emulator() -> Path:
    """Lambda's runtime client in ``venv``, and AWS's interface emulator, which its SAM command line carries."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise EngineMissingError("the runtime interface emulator is here for Linux on x86_64 only")
    with _install("emulator") as (folder, is_new):
        if is_new:
            client, carrier = pinned("emulator")
            _run([sys.executable, "-m", "venv", "venv"], folder)
            _run(["venv/bin/python", "-m", "pip", "install", "--quiet", client], folder)
            _run(["venv/bin/python", "-m", "pip", "download", "--quiet", "--no-deps", carrier], folder)
            (wheel,) = folder.glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                binary = archive.read(f"samcli/local/rapid/{EMULATOR}")
            wheel.unlink()
            (folder / EMULATOR).write_bytes(binary)
            (folder / EMULATOR).chmod(0o755)
    return folder
