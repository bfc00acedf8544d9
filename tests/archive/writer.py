"""A process that keeps captures and commits their places, as a worker does, until it is killed.

python -m tests.archive.writer FOLDER DATABASE LARGE_BYTES
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import sys
import time
from pathlib import Path
from typing import Final

from sqspider.archive.coding import Coding
from sqspider.archive.folder_sink import FolderSink, Limits
from sqspider.archive.store import ArchiveStore
from sqspider.archive.warc import Origin
from sqspider.capture import Hop, StoreError

from .captures import LARGE, capture_of

PLACES: Final = (
    "CREATE TABLE IF NOT EXISTS place (url TEXT, file TEXT, offset INTEGER, length INTEGER, digest TEXT, "
    "payload_file TEXT, payload_offset INTEGER, payload_length INTEGER)"
)
NO_SPARE: Final = -(1 << 60)


def opened(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(database, timeout=60, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(PLACES)
    return connection


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def write(folder: Path, database: Path, large_bytes: int) -> None:
    rng = random.Random(os.getpid())
    connection = opened(database)
    sink = FolderSink(folder, Coding.GZIP, Origin("host"), Limits(file_bytes=3 * large_bytes, spare_bytes=NO_SPARE))
    store = ArchiveStore(sink)
    number = 0
    while True:
        captures = []
        for _ in range(rng.randint(1, 12)):
            number += 1
            size = rng.choice([0, 50, 3000, 20_000, 100_000])
            payload = LARGE if rng.random() < 0.2 else rng.randbytes(size)
            captures.append(capture_of(payload, url=f"http://{os.getpid()}.example/{number}", at=time.time()))
        if rng.random() < 0.3:
            captures.append(capture_of(rng.randbytes(large_bytes), url=f"http://{os.getpid()}.example/large{number}"))
        if rng.random() < 0.5:
            store.note(capture_of(rng.randbytes(2000), url=f"http://{os.getpid()}.example/robots.txt", hop=Hop.ROBOTS))
        say("begins")
        try:
            places = await store.keep(captures)
        except StoreError as error:
            if "No space left" not in str(error):
                raise
            say("full")
            continue
        rows = []
        for capture, place in zip(captures, places, strict=True):
            assert place is not None
            original = place.payload or place
            rows.append(
                (
                    capture.url,
                    place.file,
                    place.offset,
                    place.length,
                    place.digest,
                    original.file,
                    original.offset,
                    original.length,
                )
            )
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO place VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute("COMMIT")


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
