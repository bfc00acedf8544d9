"""What keeping the pages costs: crawls with an archive and without one, in turn. ``python -m bench.keeping``.

What counts is the processor's time of the whole process, and of that the difference of each pair: a busy machine slows
both. How much smaller the files would be at gzip's level 9 is measured on the same members.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from bench.corpus import BUILD, INDEX, SOURCES, Corpus
from bench.run import CONCURRENCY, machine, write_performance
from bench.usage import ROOT, run

BEGIN, END = "<!-- bench.keeping: begin -->", "<!-- bench.keeping: end -->"
SMALL: Final = "small"
SMALL_BYTES: Final = 12_000
MOST_SMALL: Final = 2000
_BEGINNING: Final = b"<!DOCTYPE html><meta charset=utf-8><title>A part of a page</title>\n"


class Pages(NamedTuple):
    """What is crawled."""

    title: str
    path: str
    options: tuple[str, ...]


PAGES: Final = (
    Pages("pages of 12 kB", f"{SMALL}/", ("--depth", "1")),
    Pages("the corpus, pages of 38 kB", "", ("--exclude", "/_sources/|/_downloads/")),
)


class Taken(NamedTuple):
    """What the crawls of some pages took."""

    pages: Pages
    number: int
    page_bytes: float  # decoded, on average
    without: list[float]  # CPU seconds of a crawl, one a round
    with_it: list[float]
    archive_bytes: int
    at_level_9: int  # bytes of the same members

    @property
    def more(self) -> list[float]:
        """Milliseconds a page, one a round."""
        return [(kept - plain) / self.number * 1000 for kept, plain in zip(self.with_it, self.without, strict=True)]

    def as_row(self) -> str:
        plain, kept = (statistics.median(of) / self.number * 1000 for of in (self.without, self.with_it))
        more = self.more
        return (
            f"| {self.pages.title} | {self.number:,} | {self.page_bytes / 1000:.1f} kB | {plain:.2f} | {kept:.2f} "
            f"| {statistics.median(more):.2f} ({min(more):.2f} to {max(more):.2f}) "
            f"| {self.archive_bytes / self.number / 1000:.1f} kB | {self.archive_bytes / self.at_level_9 - 1:+.1%} |"
        )


def lay_small_pages(docroot: Path) -> None:
    """Pages of twelve kilobytes, cut from the corpus, and one that links to all of them."""
    folder = docroot / SMALL
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    number = 0
    for source in SOURCES:
        for path in sorted(source.folder.rglob("*.html")):
            text = path.read_bytes()
            for begin in range(0, len(text) - SMALL_BYTES, SMALL_BYTES):
                if number < MOST_SMALL:
                    number += 1
                    (folder / f"{number}.html").write_bytes(_BEGINNING + text[begin : begin + SMALL_BYTES])
    items = "\n".join(f'<li><a href="{one}.html">{one}</a></li>' for one in range(1, number + 1))
    (folder / "index.html").write_text(INDEX.format(items=items), encoding="utf-8")


def members(path: Path) -> Iterator[bytes]:
    """The records of a file of the archive, unpacked."""
    data = path.read_bytes()
    while data:
        inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        yield inflater.decompress(data)
        data = inflater.unused_data


def crawl(corpus: Corpus, pages: Pages, *, is_kept: bool) -> tuple[float, int, int, int, int]:
    """CPU seconds, pages, their bytes, the archive's bytes, and those at level 9 (0: it was not asked for)."""
    folder = Path(tempfile.mkdtemp(dir=BUILD))
    archive = folder / "archive"
    kept = ("--archive", str(archive)) if is_kept else ("--no-archive",)
    command = [
        sys.executable, "-m", "sqspider", "--frontier", f"sqlite:{folder / 'frontier.db'}", "crawl",
        corpus.url + pages.path, "--quiet", "--delay", "0", "--concurrency", str(CONCURRENCY), "--allow-private",
        "--ignore-robots", *kept, *pages.options,
    ]  # fmt: skip
    corpus.forget()
    try:
        usage = run(command, folder / "output", good_statuses=(0, 1))
        files = sorted(archive.glob("*.warc.gz")) if is_kept else []
        requests = corpus.requests()
        return (
            usage.cpu_seconds,
            len(requests),
            sum(len(record) for file in files for record in members(file) if b"\r\nWARC-Type: response\r\n" in record),
            sum(file.stat().st_size for file in files),
            sum(len(gzip.compress(record, 9)) for file in files for record in members(file)),
        )
    finally:
        shutil.rmtree(folder)


def measure(rounds: int) -> list[Taken]:
    """Both in turn, each as often first."""
    results = []
    with Corpus() as corpus:
        lay_small_pages(BUILD / "corpus" / "docroot")
        for pages in PAGES:
            _, number, page_bytes, archive_bytes, at_level_9 = crawl(corpus, pages, is_kept=True)
            taken = Taken(pages, number, page_bytes / number, [], [], archive_bytes, at_level_9)
            for round_number in range(rounds):
                order = [(False, taken.without), (True, taken.with_it)]
                for is_kept, seconds in order if round_number % 2 == 0 else reversed(order):
                    seconds.append(crawl(corpus, pages, is_kept=is_kept)[0])
                print(f"{pages.title}: round {round_number + 1}: {taken.more[-1]:.3f} ms a page more", file=sys.stderr)
            results.append(taken)
    return results


def as_markdown(results: list[Taken], load: float) -> str:
    """The table, and what it was measured on."""
    rounds = len(results[0].without)
    return "\n".join(
        [
            "| what | pages | bytes a page | CPU ms a page without | with the archive | more (least to most) "
            "| archive a page | than at gzip level 9 |",
            "|---|--:|--:|--:|--:|--:|--:|--:|",
            *(result.as_row() for result in results),
            "",
            f"Medians of {rounds} rounds, {datetime.now(UTC):%Y-%m-%d}, on {machine()}; load before the first round: "
            f"{load:.2f}.",
        ]
    )


def main() -> int:
    """Run the measurement."""
    parser = argparse.ArgumentParser(prog="python -m bench.keeping", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often each is run (default: 5)")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    given = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "compileall", "-q", ROOT / "src"], check=True)
    load = os.getloadavg()[0]
    markdown = as_markdown(measure(given.rounds), load)
    print(markdown)
    if given.write:
        write_performance(markdown, BEGIN, END)
    return 0


if __name__ == "__main__":
    sys.exit(main())
