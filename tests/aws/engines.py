"""Starts the engines that stand in for AWS: ministack, DynamoDB Local, fauxqs.

Each is started on a free port of loopback; ``install`` has put it under ``.engines/``. What they do not
imitate (throttling, lost answers, duplicates) is in ``faults``.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from .install import ROOT, EngineMissingError, installed, need

MINISTACK: Final = Path(__file__).parent / "ministack_with_clock.py"


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
        while not self._answers():
            if self._process.poll() is not None:
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


class Engines:
    """The engines of a test run, each started when it is first asked for.

    Every method gives the environment in which the crawler talks to them, and raises
    :class:`EngineMissingError` where they cannot be had. ``may_install``: what is missing is
    installed first, which no test may do.
    """

    def __init__(self, *, may_install: bool = True) -> None:
        self.clock = EngineClock()  # of ministack
        self._may_install = may_install
        self._running: dict[str, Engine] = {}

    def ministack(self) -> dict[str, str]:
        """SQS, DynamoDB and more."""
        return {
            "AWS_ENDPOINT_URL": self._url("ministack", self._start_ministack),
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "000000000000",
            "AWS_SECRET_ACCESS_KEY": "test",
        }

    def dynamodb_local_and_fauxqs(self) -> dict[str, str]:
        """What those two do not imitate (CloudWatch) is asked of ministack."""
        return {
            **self.ministack(),
            "AWS_ENDPOINT_URL_DYNAMODB": self._url("dynamodb-local", self._start_dynamodb_local),
            "AWS_ENDPOINT_URL_SQS": self._url("fauxqs", self._start_fauxqs),
        }

    def emulator(self) -> Path:
        """The folder of Lambda's runtime client and interface emulator."""
        return self._installed("emulator")

    def _installed(self, engine: str) -> Path:
        return installed(engine, may_install=self._may_install)

    def _url(self, name: str, start: Callable[[], Engine]) -> str:
        if name not in self._running:
            self._running[name] = start()
        return self._running[name].url

    def _start_ministack(self) -> Engine:
        python = self._installed("ministack") / "venv" / "bin" / "python"
        port = free_port()
        command = [str(python), str(MINISTACK), str(self.clock.file)]
        environment = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port), "AWS_EC2_METADATA_DISABLED": "true"}
        return Engine("ministack", command, port, **environment)

    def _start_dynamodb_local(self) -> Engine:
        emulator = self._installed("dynamodb-local") / "package" / "emulator"
        need("java")
        port = free_port()
        # It lives for minutes: what a better compiler and collector bring costs more than they save.
        command = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m"]
        command += [f"-Djava.library.path={emulator / 'DynamoDBLocal_lib'}"]
        command += ["-jar", str(emulator / "DynamoDBLocal.jar"), "-inMemory", "-sharedDb", "-disableTelemetry"]
        engine = Engine("dynamodb-local", [*command, "-port", str(port)], port)
        _warm_up(engine.url)
        return engine

    def _start_fauxqs(self) -> Engine:
        program = self._installed("fauxqs") / "node_modules" / "fauxqs" / "dist" / "cli.js"
        need("node")
        port = free_port()
        return Engine("fauxqs", ["node", str(program)], port, FAUXQS_PORT=str(port), FAUXQS_HOST="127.0.0.1")

    def stop(self) -> None:
        for engine in self._running.values():
            engine.stop()
        self.clock.file.unlink()


__all__ = ["Engine", "EngineClock", "EngineMissingError", "Engines", "free_port"]
