"""Runs one process and tells what it took: time, CPU, peak memory."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
LIMIT_SECONDS: Final = 600.0
_PLAIN: Final = {"SQSPIDER_ARCHIVE": "none"}  # pages are kept where that is what is measured


class Usage(NamedTuple):
    """What one process and those that it started took."""

    seconds: float
    cpu_seconds: float  # user and system
    peak_bytes: int  # resident, of the largest of them


def run(
    command: Sequence[str],
    output: Path,
    *,
    good_statuses: Collection[int] = (0,),
    limit_seconds: float = LIMIT_SECONDS,
) -> Usage:
    """Run a command to its end; what it prints goes to a file.

    Raises ``SystemExit`` with the end of that file if the exit status is none of the good ones, or
    if it takes longer than its limit.
    """
    with output.open("wb") as file:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=ROOT, env=os.environ | _PLAIN)
        timer = threading.Timer(limit_seconds, process.kill)
        timer.start()
        # wait4, because it tells the usage of this one child. Its peak is at least what this
        # process had when it forked, which is less than any crawler needs.
        _, wait_status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(wait_status)
    if process.returncode not in good_statuses:
        said = output.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise SystemExit(f"{' '.join(command)}\nended with status {process.returncode}:\n{said}")
    return Usage(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
