"""Runs ministack under a clock that is ahead by what a file says: ``ministack_with_clock.py FILE``.

So tests need not wait for visibility timeouts and delays. It runs in ministack's own environment.
"""

from __future__ import annotations

import mmap
import struct
import sys
import time
from pathlib import Path

real_time = time.time

with Path(sys.argv.pop()).open("r+b") as file:
    ahead = mmap.mmap(file.fileno(), 8)

time.time = lambda: real_time() + struct.unpack("d", ahead[:8])[0]

# Imported after the clock is in place; a package of its own environment, so mypy may not find it.
from ministack.app import main  # type: ignore[import-not-found,unused-ignore]  # noqa: E402

main()
