"""How fast one process crawls many hosts with a delay, beside the same crawl without one: ``python -m bench.rate``.

Each host is a loopback address, served by one nginx: a robots.txt, an index and pages that link to one another. Rounds
of both kinds follow each other, so that what else the machine does falls on both. What the server saw is looked at too:
no request may have come too soon after the one before to the same host.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Final, NamedTuple

from bench.nginx import Nginx
from bench.politeness import Request, Verdict, address, judge
from bench.usage import LIMIT_SECONDS, run

WORDS: Final = "the quick brown fox jumps over the lazy dog and comes back to where it began, "
PAGE_BYTES: Final = 8_000
LINKS: Final = 40  # on a page, to those of its host

HTTP: Final = """
    types { text/html html; text/plain txt; }
    log_format seen '$msec $request_time $server_addr $uri';
    keepalive_timeout 10s;
"""


class ManyHosts(Nginx):
    """nginx at every loopback address; each has so many pages."""

    def __init__(self, folder: Path, pages: int) -> None:
        log, listen = "seen buffer=64k flush=1s", "PORT backlog=4096"
        super().__init__(folder, http=HTTP, listen=listen, log=log, connections=32768)
        (self.docroot / "robots.txt").write_text("User-agent: *\nDisallow: /private/\n")
        links = (
            "".join(f'<li><a href="/{n % (pages - 1)}.html">page {n}</a>\n' for n in range(LINKS)) if pages > 1 else ""
        )
        text = WORDS * ((PAGE_BYTES - len(links)) // len(WORDS))
        page = f"<!doctype html><title>a page</title><ul>{links}</ul><p>{text}"
        for name in ("index", *range(pages - 1)):
            (self.docroot / f"{name}.html").write_text(page)

    def url(self, number: int) -> str:
        """The first page of a host."""
        return f"http://{address(number)}:{self.port}/"

    def seen(self) -> list[Request]:
        """What was asked for since the last call."""
        self.write_log()
        lines = self.requests()
        self.forget()
        return [_request(*line.split(" ", 3)) for line in lines]


def _request(ended: str, took: str, host: str, path: str) -> Request:
    return Request(host, path, float(ended) - float(took), float(ended))


class Round(NamedTuple):
    """One crawl."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    verdict: Verdict

    @property
    def pages(self) -> int:
        return self.verdict.requests - self.verdict.robots

    @property
    def rate(self) -> float:
        return self.pages / self.verdict.seconds

    @property
    def cpu_ms(self) -> float:
        return 1000 * self.cpu_seconds / self.pages

    def __str__(self) -> str:
        return (
            f"{self.pages:,} pages, {self.rate:.0f} a second, {self.cpu_ms:.2f} ms of CPU each, "
            f"{self.cpu_seconds / self.seconds:.2f} cores, {self.peak_bytes / 1e6:.0f} MB; {self.verdict}"
        )


def crawl(
    server: ManyHosts,
    folder: Path,
    hosts: int,
    delay: float,
    python: str,
    flags: list[str],
    *,
    limit_seconds: float = LIMIT_SECONDS,
) -> Round:
    """Crawl all hosts to their ends."""
    file = folder / "frontier.db"
    file.unlink(missing_ok=True)
    urls = "\n".join(server.url(number) for number in range(hosts))
    command = [python, "-m", "sqspider", "--frontier", f"sqlite:{file}", "--log-level", "error"]
    subprocess.run(
        [*command, "enqueue", "-f", "-", "--scope", "host", "--delay", str(delay)],
        input=urls.encode(), check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    server.seen()
    usage = run([*command, "crawl", "--allow-private", "--quiet", *flags], folder / "out", limit_seconds=limit_seconds)
    for left in folder.glob("frontier.db*"):
        left.unlink()
    return Round(usage.seconds, usage.cpu_seconds, usage.peak_bytes, judge(server.seen(), delay))


def main() -> int:
    """Measure; 1 if a request came too soon."""
    parser = argparse.ArgumentParser(prog="python -m bench.rate", description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--pages", type=int, default=10, help="of each host (default: 10)")
    parser.add_argument("--delay", type=float, default=1.0, help="seconds between requests to a host (default: 1)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", action="append", help="an interpreter whose sqspider is measured; again: each")
    parser.add_argument("flags", nargs="*", help="of crawl")
    given = parser.parse_args()
    pythons, delays = given.python or [sys.executable], list(dict.fromkeys((given.delay, 0.0)))
    rounds: dict[tuple[str, float], list[Round]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, ManyHosts(Path(folder) / "nginx", given.pages) as server:
        for _, python, delay in itertools.product(range(given.rounds), pythons, delays):
            made = crawl(server, Path(folder), given.hosts, delay, python, given.flags)
            rounds[python, delay].append(made)
            print(f"{python}, delay {delay:g} s: {made}", flush=True)
    for python in pythons:
        pairs = list(zip(rounds[python, given.delay], rounds[python, 0.0], strict=True))
        print(
            f"{python}: with the delay {statistics.median(a.rate / b.rate for a, b in pairs):.2f} of the rate without, "
            f"{statistics.median(a.cpu_ms for a, _ in pairs):.2f} ms of CPU a page with it, "
            f"{statistics.median(b.cpu_ms for _, b in pairs):.2f} without"
        )
    return int(any(made.verdict.too_close for (_, delay), all_made in rounds.items() if delay for made in all_made))


if __name__ == "__main__":
    sys.exit(main())
