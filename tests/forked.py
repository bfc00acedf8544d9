"""Runs the command in processes that are forked from one which has imported it: most of a start is importing.

Each is a process of its own, with its folder, environment and streams, and is ended by what it does alone. What a
start from nothing imports, and that it imports all it needs, is for ``tests/cli/test_start.py``.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import os
import pickle
import pkgutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final, NoReturn

ROOT: Final = Path(__file__).parent.parent
Start = tuple[list[bytes], Path, dict[str, str]]
"""What a process is told beside its streams: its arguments, folder and environment."""

NUMBER: Final = struct.Struct("i")
OTHERS: Final = ("asyncio", "email", "multiprocessing", "rich", "sqlite3", "structlog", "urllib.request")


def run(
    *arguments: str, cwd: Path, stdin: str | None = None, env: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[str]:
    """Run ``sqspider`` with these arguments, to its end."""
    done = run_for_bytes(*arguments, cwd=cwd, stdin=stdin, env=env)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def run_for_bytes(
    *arguments: str, cwd: Path, stdin: str | None = None, env: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[bytes]:
    """Likewise; its output as it came."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write((stdin or "").encode())
        given.seek(0)
        status = _started(([os.fsencode(argument) for argument in arguments], cwd, dict(env)), (given, out, err))
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(["sqspider", *arguments], status, out.read(), err.read())


def _started(what: Start, streams: tuple[IO[bytes], ...]) -> int:
    """Have a process started, and wait for its end: its exit status."""
    ends, told = os.pipe()
    with tempfile.TemporaryFile() as order, open(ends, "rb", buffering=0) as answer:
        pickle.dump(what, order)
        order.seek(0)
        try:
            socket.send_fds(_parent(), [b"."], [told, order.fileno(), *(stream.fileno() for stream in streams)])
        finally:
            os.close(told)
        pid = _number(answer)
        try:
            return _number(answer)
        except BaseException:  # a test that is given up leaves nothing behind
            os.kill(pid, signal.SIGKILL)
            raise


def _number(answer: IO[bytes]) -> int:
    number: int = NUMBER.unpack(answer.read(NUMBER.size))[0]
    return number


@functools.cache
def _parent() -> socket.socket:
    """The process that has imported all; it ends when this one does."""
    ours, its = socket.socketpair()
    with its:
        command = [sys.executable, "-m", "tests.forked", str(its.fileno())]
        process = subprocess.Popen(command, cwd=ROOT, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL)

    def end() -> None:
        ours.shutdown(socket.SHUT_RDWR)  # whatever has been forked from here, and holds it, too
        process.wait()

    atexit.register(end)
    return ours


def _fork_for_each(requests: socket.socket) -> None:
    """Fork for each request: this returns in the process that is to run the command, or when no more can come."""
    below: set[int] = set()
    while True:
        asked, files, *_ = socket.recv_fds(requests, 1, 5)
        below -= {pid for pid in below if os.waitpid(pid, os.WNOHANG)[0]}
        if not asked:
            os._exit(0)
        if pid := os.fork():
            below.add(pid)
        else:
            requests.close()
            told, order, *streams = files
            _become(told, order, streams)
            return
        for file in files:
            os.close(file)


def _become(told: int, order: int, streams: list[int]) -> None:
    """Fork once more, for the command; the process above waits for it, and tells its exit status."""
    if pid := os.fork():
        os.write(told, NUMBER.pack(pid))
        os.write(told, NUMBER.pack(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
        os._exit(0)
    os.close(told)
    with open(order, "rb") as file:
        arguments, folder, environment = pickle.load(file)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv[1:] = map(os.fsdecode, arguments)


def _import_all() -> None:
    import sqspider

    for module in pkgutil.walk_packages(sqspider.__path__, "sqspider."):
        if not module.name.endswith(("__main__", "lambda_handler")):
            importlib.import_module(module.name)
    for name in OTHERS:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # so that no collection writes to what is shared


def _end(status: object) -> NoReturn:
    """End as the interpreter does, but for taking its modules apart: that would take longer than most commands do."""
    threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter calls them
    atexit._run_exitfuncs()
    gc.collect()
    sys.stdout.flush()
    sys.stderr.flush()
    assert isinstance(status, int)
    os._exit(status)


if __name__ == "__main__":
    _import_all()
    _fork_for_each(socket.socket(fileno=int(sys.argv[1])))
    from sqspider.__main__ import main

    try:
        main()
    except SystemExit as ended:
        _end(ended.code)
