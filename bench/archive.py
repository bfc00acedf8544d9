"""What it costs to keep a page: CPU time of the archive's store, and the size of what it writes. What it costs a whole
crawl is told by ``bench.keeping``.

``python -m bench.archive`` cuts pages of 12 and 38 kB out of HTML files, as a server sends them with and without gzip,
and keeps them in a temporary folder by batches of 20, each with its fsync. Nothing is fetched. The size is held against
the same records at gzip's level 9.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import platform
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from bench.corpus import SOURCES
from sqspider.archive.coding import Coding
from sqspider.archive.folder import Folder
from sqspider.archive.folder_sink import FolderSink, Limits
from sqspider.archive.members import members
from sqspider.archive.packing import zlib_member
from sqspider.archive.store import ArchiveStore
from sqspider.archive.warc import Origin
from sqspider.capture import Capture, Hop
from sqspider.transport import Exchange, Request
from sqspider.web.fetch import Fetched

BATCH: Final = 20
HEAD: Final = (
    b"HTTP/1.1 200 OK\r\n", b"Date: Mon, 30 Nov 2026 18:00:00 GMT\r\n", b"Server: nginx/1.25.3\r\n",
    b"Content-Type: text/html; charset=utf-8\r\n", b"Vary: Accept-Encoding\r\n", b'ETag: "5f3c-abc"\r\n',
    b"Cache-Control: max-age=3600, must-revalidate\r\n", b"Transfer-Encoding: chunked\r\n",
)  # fmt: skip
ASKED: Final = (
    b"GET /page HTTP/1.1\r\nHost: site.example\r\nUser-Agent: sqspider/0.1.0\r\n"
    b"Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\r\n"
)


class Cost(NamedTuple):
    """Of one page."""

    milliseconds: float  # of CPU time, of all threads
    written: float  # bytes
    over_level_9: float  # share


def html_of(folders: list[Path]) -> bytes:
    """Text enough to cut pages out of. Raises ``SystemExit`` where there is none."""
    files = [file for folder in folders for file in sorted(folder.rglob("*.html"))]
    text = b"".join(file.read_bytes() for file in files[:400])
    if len(text) < 1_000_000:
        raise SystemExit(f"there are no HTML files below {', '.join(map(str, folders))}: name a folder with --from")
    return text


def captures_of(text: bytes, size: int, pages: int, *, is_coded: bool) -> list[Capture]:
    rng = random.Random(1)
    captures = []
    for number in range(pages):
        start = rng.randrange(len(text) - size)
        payload = text[start : start + size]
        if is_coded:
            payload = gzip.compress(payload, 6)
        url = f"https://site.example/page/{number}"
        captures.append(
            Capture(
                url=url,
                fetched=_fetched(url, payload, is_coded=is_coded),
                at=1_790_000_000.5 + number / 71,
                hop=Hop.LINK,
                via="https://site.example/",
                depth=2,
            )
        )
    return captures


def _fetched(url: str, payload: bytes, *, is_coded: bool) -> Fetched:
    exchange = Exchange(Request(url, keeps_request_head=True))
    coding = [b"Content-Encoding: gzip\r\n"] if is_coded else []
    exchange.head = [*HEAD, *coding, b"\r\n"]
    exchange.http_status = 200
    exchange.protocol, exchange.address = "HTTP/1.1", "192.0.2.7"
    exchange.tls = "TLSv1.3 / TLS_AES_256_GCM_SHA384 / X25519 / RSASSA-PSS"
    exchange.request_head = ASKED
    return Fetched(
        url=url, http_status=200, headers=(), body=b"", truncated=False, reason=None, detail="", elapsed_seconds=0.2,
        sent_seconds=0.01, exchange=exchange, payload=payload,
    )  # fmt: skip


async def cost_of(captures: list[Capture], coding: Coding) -> Cost:
    """The least of five runs."""
    least = float("inf")
    size = over = 0.0
    for _ in range(5):
        with tempfile.TemporaryDirectory() as folder:
            store = ArchiveStore(FolderSink(folder, coding, Origin("bench"), Limits(spare_bytes=0)), coding)
            started = time.process_time()
            for at in range(0, len(captures), BATCH):
                await store.keep(captures[at : at + BATCH])
            least = min(least, time.process_time() - started)
            await store.close()
            records = list(_records(Folder(folder)))
        size = sum(packed for packed, _ in records)
        over = size / sum(len(zlib_member(record, 9)) for _, record in records) - 1
    return Cost(1000 * least / len(captures), size / len(captures), over)


def _records(folder: Folder) -> Iterator[tuple[int, bytes]]:
    """The size of each record as it lies there, and the record."""
    for file in folder.all():
        with folder.opened(file.name) as stream:
            held = None
            for member in members(stream):
                if held is not None:
                    yield held[0].length, held[1]
                held = (member, member.read(file.size * 100))
            if held is not None:
                yield held[0].length, held[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=400)
    parser.add_argument("--from", dest="folders", type=Path, action="append", help="a folder with HTML files")
    given = parser.parse_args()
    text = html_of(given.folders or [source.folder for source in SOURCES])
    print(f"Python {platform.python_version()}, {given.pages} pages by batches of {BATCH}, least of five runs")
    print(f"{'page':>9} {'sent as':>8} {'packed by':>9} {'ms of CPU':>10} {'bytes':>8} {'over level 9':>13}")
    for size in (12_000, 38_000):
        for is_coded in (False, True):
            for coding in Coding:
                cost = asyncio.run(cost_of(captures_of(text, size, given.pages, is_coded=is_coded), coding))
                print(
                    f"{size:>9,} {'gzip' if is_coded else 'text':>8} {coding:>9} {cost.milliseconds:>10.3f} "
                    f"{cost.written:>8,.0f} {cost.over_level_9:>13.1%}"
                )


if __name__ == "__main__":
    main()
