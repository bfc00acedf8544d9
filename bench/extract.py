"""What it costs to make rows of what is kept: ``python -m bench.extract``.

The corpus is crawled once into an archive, which stays in build/bench. Then it is extracted, in processes of their own:
text and links into Parquet, Markdown, fields, JSON lines; and beside it what a loop of one's own takes with the same
files.
``--captures 1000000`` extracts an archive of so many small pages instead, and tells whether memory grows.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from bench.corpus import BUILD, Corpus
from bench.run import PEERS, crawl_command
from bench.usage import ROOT, Usage, run
from sqspider.archive.packing import gzip_member

ARCHIVE: Final = BUILD / "extract"
ENVIRONMENT: Final = ROOT / ".engines" / "peers-extract"
REQUIREMENTS: Final = PEERS / "requirements-extract.txt"
GROWTH_BYTES: Final = 20_000_000  # more than this, between a tenth of the captures and all of them, is growth
SAMPLE_SECONDS: Final = 0.25
FILES: Final = 4  # of the archive that is made up
OURS: Final[dict[str, tuple[str, ...]]] = {
    "`--text --links`, Parquet": ("--text", "--links", "--to", "rows.parquet"),
    "`--text --links`, Parquet, one process": ("--text", "--links", "--to", "rows.parquet", "--processes", "1"),
    "`--text --links`, JSON lines": ("--text", "--links", "--to", "rows.jsonl"),
    "`--markdown`, JSON lines": ("--markdown", "--to", "rows.jsonl"),
    "`--main`, JSON lines": ("--main", "--to", "rows.jsonl"),
    "`--title` and two fields, CSV": (
        "--title", "--field", "h2=css:h2", "--field", "code=css:pre::text | list", "--to", "rows.csv",
    ),
    "`--title` and two fields, SQLite": (
        "--title", "--field", "h2=css:h2", "--field", "code=css:pre::text | list", "--to", "rows.db",
    ),
}  # fmt: skip
PEER_KINDS: Final = {
    "warcio + selectolax: text, links": "warcio+selectolax",
    "fastwarc + resiliparse: text": "fastwarc+resiliparse",
    "warcio + trafilatura: main": "warcio+trafilatura",
}
PAGE: Final = """<!DOCTYPE html><html lang="en"><head><title>Page {number}</title></head><body>
<nav><a href="/">Start</a> <a href="/page/{before}">Before</a> <a href="/page/{after}">After</a></nav>
<main><h1>Page {number}</h1>{paragraphs}</main></body></html>
"""
PARAGRAPHS: Final = "<p>A worker claims a page, and holds a lease until it has finished it.</p>\n" * 12


class Line(NamedTuple):
    """What one run took."""

    title: str
    pages: int
    usage: Usage

    def __str__(self) -> str:
        usage = self.usage
        return (
            f"| {self.title} | {self.pages / usage.seconds:,.0f} | {1000 * usage.cpu_seconds / self.pages:.2f} | "
            f"{usage.peak_bytes / 1e6:,.0f} |"
        )


def archive_of_corpus(*, anew: bool) -> Path:
    """The folder with the archive of the corpus and its frontier; crawled, if it is not there."""
    if anew:
        shutil.rmtree(ARCHIVE, ignore_errors=True)
    if not (ARCHIVE / "archive").is_dir():
        ARCHIVE.mkdir(parents=True, exist_ok=True)
        with Corpus() as corpus:
            print("crawling the corpus into an archive ...", file=sys.stderr)
            options = ("--workers", "2", "--archive", str(ARCHIVE / "archive"))
            run(
                crawl_command(sys.executable, corpus.url, ARCHIVE, *options),
                ARCHIVE / "crawl.out",
                good_statuses=(0, 1),
            )
    return ARCHIVE


def files_in(folder: Path) -> list[str]:
    return sorted(str(file) for file in (folder / "archive").glob("*.warc*"))


def extract_command(source: Path, options: Sequence[str], folder: Path) -> list[str]:
    """Extract from an archive by itself, into a folder."""
    said = [str(folder / each) if each.startswith("rows.") else each for each in options]
    return [sys.executable, "-m", "sqspider", "extract", str(source / "archive"), *said, "--overwrite", "--json"]


def loop_command(source: Path, kind: str, folder: Path) -> list[str]:
    """The loop of one's own with the same files."""
    python, loop = str(ENVIRONMENT / "bin" / "python"), str(PEERS / "extract_loop.py")
    return [python, loop, kind, str(folder / "rows.jsonl"), *files_in(source)]


def made_by(command: Sequence[str], folder: Path) -> tuple[int, Usage]:
    """How many pages it had, as it says at its end."""
    usage = run(command, folder / "out")
    said = (folder / "out").read_text(encoding="utf-8").strip().splitlines()[-1]
    return (int(said) if said.isdigit() else int(json.loads(said)["documents"])), usage


def measure(rounds: int, *, anew: bool, peers: bool) -> None:
    source = archive_of_corpus(anew=anew)
    commands = {title: partial(extract_command, source, options) for title, options in OURS.items()}
    if peers:
        make_environment()
        commands |= {title: partial(loop_command, source, kind) for title, kind in PEER_KINDS.items()}
    best: dict[str, Line] = {}
    for _ in range(rounds):
        for title, command in commands.items():
            with tempfile.TemporaryDirectory(dir=BUILD) as folder:
                line = Line(title, *made_by(command(Path(folder)), Path(folder)))
            if title not in best or line.usage.cpu_seconds < best[title].usage.cpu_seconds:
                best[title] = line
    pages = next(iter(best.values())).pages
    print(f"{pages:,} pages, {os.cpu_count()} cores, by processor time the best of {rounds} rounds\n")
    print("| | pages/s | ms of CPU a page | MB at most, of one process |\n|---|--:|--:|--:|")
    for line in best.values():
        print(line)


def make_environment() -> None:
    """The environment of the loops, made anew if its requirements have changed."""
    stamp, wanted = ENVIRONMENT / "requirements.txt", REQUIREMENTS.read_text(encoding="utf-8")
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    print(f"installing the loops' libraries into {ENVIRONMENT.relative_to(ROOT)} ...", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
    pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--requirement", str(REQUIREMENTS)], check=True)
    stamp.write_text(wanted, encoding="utf-8")


def make_up(folder: Path, captures: int) -> None:
    """An archive of so many small pages, all of them different."""
    folder.mkdir(parents=True)
    each = -(-captures // FILES)
    for at in range(FILES):
        with (folder / f"made-20261130180000-{at:05}-bench-0000000{at}.warc.gz").open("wb") as file:
            for record in _records(range(at * each, min(captures, (at + 1) * each)), f"{at}"):
                file.write(gzip_member(record))


def _records(numbers: range, name: str) -> Iterator[bytes]:
    info = _urn(f"info {name}")
    yield _record("warcinfo", info, "application/warc-fields", b"software: bench\r\n")
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    for number in numbers:
        body = PAGE.format(number=number, before=number - 1, after=number + 1, paragraphs=PARAGRAPHS).encode()
        digest = base64.b32encode(hashlib.sha1(body, usedforsecurity=False).digest()).decode()
        yield _record(
            "response", _urn(f"page {number}"), "application/http; msgtype=response", head.encode() + body,
            f"WARC-Target-URI: http://host-{number % 997}.example/page/{number}\r\nWARC-Warcinfo-ID: {info}\r\n"
            f"WARC-Payload-Digest: sha1:{digest}\r\n",
        )  # fmt: skip


def _record(kind: str, identity: str, content_type: str, block: bytes, more: str = "") -> bytes:
    return (
        (
            f"WARC/1.1\r\nWARC-Type: {kind}\r\nWARC-Record-ID: {identity}\r\n"
            f"WARC-Date: 2026-11-30T18:00:00.000000Z\r\n{more}"
            f"Content-Type: {content_type}\r\nContent-Length: {len(block)}\r\n\r\n"
        ).encode()
        + block
        + b"\r\n\r\n"
    )


def _urn(name: str) -> str:
    return f"<{uuid.uuid5(uuid.NAMESPACE_URL, name).urn}>"


class Watched(NamedTuple):
    """The memory of a command and of all that it started, over its time."""

    seconds: float
    samples: list[tuple[float, int]]  # when, seconds from its start; bytes

    def peak(self, since: float, until: float) -> int:
        """Between two shares of the time."""
        return max((size for at, size in self.samples if since <= at / self.seconds <= until), default=0)


def watched(command: Sequence[str], output: Path) -> Watched:
    """Run a command to its end, and look at its memory. Raises ``SystemExit`` if it ends badly."""
    samples: list[tuple[float, int]] = []
    with output.open("wb") as file:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(SAMPLE_SECONDS):
                samples.append((time.monotonic() - started, _memory_of_session(process.pid)))

        looking = threading.Thread(target=look)
        looking.start()
        status = process.wait()
        seconds = time.monotonic() - started
        ended.set()
        looking.join()
    if status:
        raise SystemExit(f"{' '.join(command)}\nended with status {status}:\n{output.read_text()[-2000:]}")
    return Watched(seconds, samples)


def _memory_of_session(leader: int) -> int:
    """What the processes of a session have for themselves, and their shares of what they have together."""
    total = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if os.getsid(int(folder.name)) == leader:
                    lines = (folder / "smaps_rollup").read_text().splitlines()
                    total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            except (OSError, ValueError):  # it has ended meanwhile
                continue
    return total


def measure_memory(captures: int) -> int:
    """1 if memory grows with the number of captures."""
    BUILD.mkdir(parents=True, exist_ok=True)
    status = 0
    with tempfile.TemporaryDirectory(dir=BUILD) as name:
        folder = Path(name)
        started = time.monotonic()
        make_up(folder / "archive", captures)
        size = sum(file.stat().st_size for file in (folder / "archive").iterdir())
        print(
            f"{captures:,} captures made up, {size / 1e6:,.0f} MB, in {time.monotonic() - started:,.0f} s", flush=True
        )
        for to in ("rows.parquet", "rows.jsonl", "rows.db"):
            command = extract_command(folder, ("--text", "--links", "--to", to), folder)
            seen = watched(command, folder / "out")
            tenth, end = seen.peak(0.05, 0.15), seen.peak(0.85, 1.0)
            is_flat = end - tenth < GROWTH_BYTES
            status |= not is_flat
            print(
                f"{'good' if is_flat else 'NOT GOOD'}: {to}: {captures / seen.seconds:,.0f} pages/s; all its processes "
                f"together {tenth / 1e6:,.0f} MB at a tenth, {end / 1e6:,.0f} MB at the end, at most "
                f"{seen.peak(0, 1) / 1e6:,.0f} MB",
                flush=True,
            )
    return status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--anew", action="store_true", help="crawl the corpus again")
    parser.add_argument("--no-peers", action="store_true", help="without the loops of others")
    parser.add_argument("--captures", type=int, help="look at memory instead, with so many small pages")
    given = parser.parse_args()
    if given.captures is not None:
        return measure_memory(given.captures)
    measure(given.rounds, anew=given.anew, peers=not given.no_peers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
