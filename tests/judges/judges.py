"""The judges of archives: tools of others, each in an environment of its own below ``.engines/`` (``tests/aws/install``).

A test that asks for one that is not installed is skipped, and says so.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.aws.engines import free_port
from tests.aws.install import installed


class Said(NamedTuple):
    """What a judge says of some files."""

    is_right: bool
    text: str


def tool(judge: str, name: str) -> str:
    """The path of a tool of a judge's environment. Raises ``EngineMissingError`` where it is not installed."""
    return str(installed(f"judge-{judge}", may_install=False) / "venv" / "bin" / name)


def asked(judge: str, name: str, *arguments: object, folder: Path | None = None) -> Said:
    """Run a tool, and hear what it says."""
    command = [tool(judge, name), *map(str, arguments)]
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    return Said(said.returncode == 0, said.stdout + said.stderr)


def index_lines(*files: Path) -> list[bytes]:
    """The lines that cdxj-indexer makes of some files."""
    command = [tool("warcio", "cdxj-indexer"), "-s", *map(str, files)]
    return subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True).stdout.splitlines()


class Replayed(NamedTuple):
    """An answer of a replay."""

    http_status: int
    headers: dict[str, str]  # by their names in small letters
    body: bytes  # as it came over the wire


class Replay:
    """pywb, with some files in its collection."""

    def __init__(self, port: int) -> None:
        self._port = port

    def get(self, url: str, time14: str) -> Replayed:
        """A capture as it was, without anything that replay would add."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.putrequest("GET", f"/all/{time14}id_/{url}", skip_accept_encoding=True)
            connection.putheader("Accept-Encoding", "gzip, deflate, br")
            connection.endheaders()
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Replayed(answer.status, headers, answer.read())
        finally:
            connection.close()

    def is_there(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except OSError:
            return False
        finally:
            connection.close()
        return True


@contextmanager
def replaying(folder: Path, *files: Path) -> Iterator[Replay]:
    """pywb at work on some files, in this folder."""
    for arguments in (("init", "all"), ("add", "all", *files)):
        said = asked("pywb", "wb-manager", *arguments, folder=folder)
        assert said.is_right, said.text
    port = free_port()
    log = folder / "pywb.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [tool("pywb", "wayback"), "-b", "127.0.0.1", "-p", str(port), "-t", "2"],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        try:
            replay = Replay(port)
            while not replay.is_there():
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
            yield replay
        finally:
            process.terminate()
            process.wait()
