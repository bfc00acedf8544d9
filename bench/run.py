"""sqspider and its peers, side by side on one corpus: ``python -m bench.run``, or ``make bench``.

Each crawler is a process of its own, run in turn and in rounds; what it asked for is counted at
the server. The table that stands in docs/performance.md is written by ``--write``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.corpus import BUILD, EXCLUDE, Corpus
from bench.usage import ROOT, Usage, run

PEERS: Final = ROOT / "bench" / "peers"
PEERS_ENVIRONMENT: Final = ROOT / ".engines" / "peers"
PERFORMANCE: Final = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- bench.run: begin -->", "<!-- bench.run: end -->"
CONCURRENCY: Final = 32


class Contender(NamedTuple):
    """One crawler: how it is called, run and asked for its version."""

    title: str
    command: Callable[[str, Path], list[str]]  # from the corpus' URL and an empty folder
    version: Callable[[], str]
    good_statuses: tuple[int, ...] = (0,)
    needs_peers: bool = False


class Crawl(NamedTuple):
    """What one crawl took."""

    usage: Usage
    requests: Counter[str]  # "status path" as the server saw them

    @property
    def pages(self) -> int:
        return len(self.requests)


def _sqspider(url: str, folder: Path) -> list[str]:
    return [
        sys.executable, "-m", "sqspider", "--frontier", f"sqlite:{folder / 'frontier.db'}",
        "crawl", url, "--quiet", "--delay", "0", "--concurrency", str(CONCURRENCY),
        "--allow-private", "--ignore-robots", "--exclude", EXCLUDE,
    ]  # fmt: skip


def _wget(url: str, folder: Path) -> list[str]:
    return [
        "wget", "--recursive", "--level=inf", "--quiet", "--execute=robots=off", "--no-cookies",
        "--follow-tags=a,area", f"--reject-regex={EXCLUDE}", f"--directory-prefix={folder}", url,
    ]  # fmt: skip


def _peer(file: str, python: Path) -> Callable[[str, Path], list[str]]:
    return lambda url, _: [str(python), str(PEERS / file), url, EXCLUDE]


def _peer_version(package: str) -> Callable[[], str]:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return lambda: _first_line([str(PEERS_ENVIRONMENT / "bin" / "python"), "-c", code])


def _own_version() -> str:
    from sqspider.version import VERSION

    return f"{VERSION} ({_first_line(['git', '-C', str(ROOT), 'rev-parse', '--short', 'HEAD'])})"


def _library_versions() -> str:
    from importlib.metadata import version

    return f"aiohttp {version('aiohttp')}, selectolax {version('selectolax')}"


CONTENDERS: Final = {
    "sqspider": Contender("sqspider, durable SQLite frontier", _sqspider, _own_version),
    "scrapy": Contender(
        "Scrapy",
        _peer("scrapy_spider.py", PEERS_ENVIRONMENT / "bin" / "python"),
        _peer_version("scrapy"),
        needs_peers=True,
    ),
    "crawlee": Contender(
        "Crawlee (Parsel)",
        _peer("crawlee_crawler.py", PEERS_ENVIRONMENT / "bin" / "python"),
        _peer_version("crawlee"),
        needs_peers=True,
    ),
    "wget": Contender(
        "wget -r (one at a time)",
        _wget,
        lambda: _first_line(["wget", "--version"]).split()[2],
        good_statuses=(0, 8),  # 8: some answers were no success, as in this corpus
    ),
    "bare": Contender(
        "bare loop, no frontier",
        _peer("bare_loop.py", Path(sys.executable)),
        _library_versions,
    ),
}


def _first_line(command: Sequence[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.partition("\n")[0].strip()


def make_peers_environment() -> None:
    """The peers' virtual environment, made anew if its requirements have changed."""
    wanted = (PEERS / "requirements.txt").read_text(encoding="utf-8")
    stamp = PEERS_ENVIRONMENT / "requirements.txt"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    print(f"installing the peers into {PEERS_ENVIRONMENT.relative_to(ROOT)} ...", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", PEERS_ENVIRONMENT], check=True)
    pip = [str(PEERS_ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--requirement", str(PEERS / "requirements.txt")], check=True)
    stamp.write_text(wanted, encoding="utf-8")


def measure(contender: Contender, corpus: Corpus) -> Crawl:
    """One crawl of the corpus, in a process of its own. Raises ``SystemExit`` if it goes wrong."""
    BUILD.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=BUILD))
    corpus.forget()
    try:
        usage = run(contender.command(corpus.url, folder), folder / "output", good_statuses=contender.good_statuses)
    finally:
        shutil.rmtree(folder)
    return Crawl(usage, corpus.requests())


class Result(NamedTuple):
    """All rounds of one crawler."""

    name: str
    version: str
    crawls: list[Crawl]

    def median(self, what: Callable[[Crawl], float]) -> float:
        return statistics.median(what(crawl) for crawl in self.crawls)

    @property
    def pages_per_second(self) -> float:
        return self.median(lambda crawl: crawl.pages / crawl.usage.seconds)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "pages_per_second": round(self.pages_per_second, 1),
            "crawls": [
                {
                    "seconds": round(crawl.usage.seconds, 3),
                    "cpu_seconds": round(crawl.usage.cpu_seconds, 3),
                    "peak_bytes": crawl.usage.peak_bytes,
                    "distinct_pages": crawl.pages,
                    "requests": crawl.requests.total(),
                }
                for crawl in self.crawls
            ],
        }


def run_rounds(names: Sequence[str], rounds: int) -> list[Result]:
    """Every crawler in turn, ``rounds`` times: what changes on the machine meanwhile hits all alike."""
    results = [Result(name, CONTENDERS[name].version(), []) for name in names]
    with Corpus() as corpus:
        measure(CONTENDERS["bare"], corpus)  # so that the files lie in memory for all of them
        for number in range(1, rounds + 1):
            for result in results:
                crawl = measure(CONTENDERS[result.name], corpus)
                result.crawls.append(crawl)
                print(
                    f"round {number}  {result.name:<9} {crawl.usage.seconds:6.1f} s"
                    f"  {crawl.pages / crawl.usage.seconds:6.1f} pages/s"
                    f"  {crawl.usage.cpu_seconds / crawl.pages * 1000:5.1f} ms CPU a page"
                    f"  {crawl.usage.peak_bytes / 1e6:4.0f} MB  {crawl.pages:,} pages",
                    file=sys.stderr,
                )
    return results


def differences(results: Sequence[Result]) -> list[str]:
    """Where crawlers did not ask for the same, each URL once: one line for each."""
    kinds = Counter(frozenset(crawl.requests) for result in results for crawl in result.crawls)
    usual = kinds.most_common(1)[0][0]
    lines = []
    for result in results:
        for number, crawl in enumerate(result.crawls, 1):
            lines += [
                f"{result.name}, round {number}: not asked for: {it}" for it in sorted(usual - crawl.requests.keys())
            ]
            lines += [f"{result.name}, round {number}: only here: {it}" for it in sorted(crawl.requests.keys() - usual)]
            lines += [
                f"{result.name}, round {number}: asked for {times} times: {it}"
                for it, times in sorted(crawl.requests.items())
                if times > 1
            ]
    return lines


def machine() -> str:
    """This machine in one line."""
    info = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", info.read_text(encoding="utf-8")) if info.is_file() else None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({model[1] if model else platform.machine()}), {memory:.0f} GiB, "
        f"{platform.system()} {platform.release().partition('-')[0]}, Python {platform.python_version()}"
    )


def as_markdown(results: Sequence[Result], load: float) -> str:
    """The table, and what it was measured on."""
    scrapy = next((result.pages_per_second for result in results if result.name == "scrapy"), None)
    lines = [
        "| crawler | version | pages/s | × Scrapy | CPU ms a page | peak MB | distinct pages | requests |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for result in sorted(results, key=lambda result: -result.pages_per_second):
        times = f"{result.pages_per_second / scrapy:.1f}" if scrapy else ""
        cells = (
            CONTENDERS[result.name].title,
            result.version,
            f"{result.pages_per_second:.0f}",
            times,
            f"{result.median(lambda crawl: crawl.usage.cpu_seconds / crawl.pages * 1000):.1f}",
            f"{result.median(lambda crawl: crawl.usage.peak_bytes) / 1e6:.0f}",
            f"{result.median(lambda crawl: crawl.pages):,.0f}",
            f"{result.median(lambda crawl: crawl.requests.total()):,.0f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    rounds = len(results[0].crawls)
    lines += [
        "",
        f"Medians of {rounds} {'round' if rounds == 1 else 'rounds'}, {datetime.now(UTC):%Y-%m-%d}, on {machine()}; "
        f"load before the first round: {load:.2f}.",
    ]
    return "\n".join(lines)


def write_performance(markdown: str) -> None:
    """Put the table where docs/performance.md keeps it."""
    text = PERFORMANCE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PERFORMANCE.write_text(f"{head}{BEGIN}\n{markdown}\n{END}{tail}", encoding="utf-8")


def main() -> int:
    """Run the measurement; 1 if the crawlers did not do the same work."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each crawler is run (default: 3)")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, metavar="NAME", help=", ".join(CONTENDERS))
    parser.add_argument("--json", action="store_true", help="print all crawls as JSON instead of the table")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    given = parser.parse_args()
    names = given.only or list(CONTENDERS)
    if any(CONTENDERS[name].needs_peers for name in names):
        make_peers_environment()
    load = os.getloadavg()[0]
    results = run_rounds(names, given.rounds)
    if given.json:
        print(json.dumps([result.as_json() for result in results], indent=2))
    else:
        print(as_markdown(results, load))
    unlike = differences(results)
    if unlike:
        print("\nnot all did the same work:", *unlike, sep="\n  ", file=sys.stderr)
        return 1
    if given.write:
        write_performance(as_markdown(results, load))
    return 0


if __name__ == "__main__":
    sys.exit(main())
