"""The commands that look into an archive: cat, show, index, verify, repair."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sqspider.archive.store import open_store
from sqspider.frontier import FrontierSettings, open_frontier
from sqspider.frontier.port import Frontier
from sqspider.record import Outcome, Place, Status
from tests.archive.captures import LARGE, capture_of
from tests.archive.ours import OTHER, SITE, an_archive
from tests.archive.warcs import good, packed, response
from tests.conftest import Run

BESIDE = "sqspider-archive"


def as_bytes(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "sqspider", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False, stdin=subprocess.DEVNULL)


def crawled(folder: Path) -> dict[str, Place]:
    """A frontier whose records have their captures in the archive beside it."""

    async def main() -> dict[str, Place]:
        places = await an_archive(folder / BESIDE)
        frontier = await open_frontier(f"sqlite:{folder / 'sqspider.db'}", FrontierSettings(), clock=time.time)
        try:
            for url, place in places.items():
                await finish(frontier, url, place)
        finally:
            await frontier.close()
        return places

    return asyncio.run(main())
