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
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.corpus import BUILD, EXCLUDE, Corpus
from bench.usage import ROOT, Usage, run

PEERS: Final = ROOT / "bench" / "peers"
PEERS_ENVIRONMENT: Final = ROOT / ".engines" / "peers"
NODE_ENVIRONMENT: Final = ROOT / ".engines" / "peers-node"
PERFORMANCE: Final = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- bench.run: begin -->", "<!-- bench.run: end -->"
CONCURRENCY: Final = 32
NODE_CRAWLER: Final = "crawlee_cheerio.js"


class Contender(NamedTuple):
    """One crawler: how it is called, run and asked for its version."""

    title: str
    command: Callable[[str, Path], list[str]]  # from the corpus' URL and an empty folder
    version: Callable[[], str]
    good_statuses: tuple[int, ...] = (0,)
    program: str = sys.executable  # what must be on this machine
    prepare: Callable[[], None] = lambda: None  # installs what it runs on


class Crawl(NamedTuple):
    """What one crawl took."""

    usage: Usage
    requests: Counter[str]  # "status path" as the server saw them

    @property
    def pages(self) -> int:
        return len(self.requests)

    @property
    def cores_busy(self) -> float:
        return self.usage.cpu_seconds / self.usage.seconds


def crawl_command(python: Path | str, url: str, folder: Path, *options: str) -> list[str]:
    """A crawl of the corpus by the sqspider of an environment, its frontier in a folder."""
    return [
        str(python), "-m", "sqspider", "--frontier", f"sqlite:{folder / 'frontier.db'}",
        "crawl", url, "--quiet", "--delay", "0", "--concurrency", str(CONCURRENCY),
        "--allow-private", "--ignore-robots", "--exclude", EXCLUDE, *options,
    ]  # fmt: skip


def _sqspider(*options: str) -> Callable[[str, Path], list[str]]:
    return lambda url, folder: crawl_command(sys.executable, url, folder, *options)


def _sqspider_keeping(url: str, folder: Path) -> list[str]:
    return crawl_command(sys.executable, url, folder, "--archive", str(folder / "archive"))


def _wget(url: str, folder: Path) -> list[str]:
    return [
        "wget", "--recursive", "--level=inf", "--quiet", "--execute=robots=off", "--no-cookies",
        "--follow-tags=a,area", f"--reject-regex={EXCLUDE}", f"--directory-prefix={folder}", url,
    ]  # fmt: skip


def _wget2(url: str, folder: Path) -> list[str]:
    # Its --follow-tags only adds to what it follows by itself, and without --filter-urls it tells what to leave out by
    # what was downloaded. Level 0 is without end; "inf" it does not know.
    return [
        "wget2", "--recursive", "--level=0", "--quiet", "--robots=off", "--no-cookies", "--delete-after",
        "--follow-tags=a/href,area/href", "--ignore-tags=img,link,script,object,style,body,input",
        "--filter-urls", f"--reject-regex={EXCLUDE}", f"--max-threads={CONCURRENCY}",
        f"--directory-prefix={folder}", url,
    ]  # fmt: skip


def _peer(file: str, python: Path) -> Callable[[str, Path], list[str]]:
    return lambda url, _: [str(python), str(PEERS / file), url, EXCLUDE]


def _crawlee_node(url: str, folder: Path) -> list[str]:
    del folder
    return ["node", str(NODE_ENVIRONMENT / NODE_CRAWLER), url, EXCLUDE]


def _versions(python: Path | str, package: str, *libraries: str) -> str:
    """The version of a package and of what it runs on, as an environment has them."""
    code = "import importlib.metadata as m, sys; print(*map(m.version, sys.argv[1:]))"
    own, *others = _first_line([str(python), "-c", code, package, *libraries]).split()
    return f"{own} ({', '.join(map(' '.join, zip(libraries, others, strict=True)))})"


def _peer_version(package: str, *libraries: str) -> Callable[[], str]:
    return lambda: _versions(PEERS_ENVIRONMENT / "bin" / "python", package, *libraries)


def _own_version() -> str:
    from sqspider.version import VERSION

    libraries = ("pycurl", "uvloop")
    on = ", ".join(f"{library} {version(library)}" for library in libraries)
    return f"{VERSION} at {_first_line(['git', '-C', str(ROOT), 'rev-parse', '--short', 'HEAD'])} ({on})"


def _bare_version() -> str:
    return ", ".join(f"{library} {version(library)}" for library in ("aiohttp", "selectolax", "uvloop"))


def _node_version() -> str:
    package = json.loads((NODE_ENVIRONMENT / "node_modules/@crawlee/cheerio/package.json").read_text(encoding="utf-8"))
    return f"{package['version']} (node {_first_line(['node', '--version']).removeprefix('v')})"


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


def make_node_environment() -> None:
    """The same for what runs on Node. Its script lies beside its packages, for there they are looked for."""
    NODE_ENVIRONMENT.mkdir(parents=True, exist_ok=True)
    shutil.copy(PEERS / NODE_CRAWLER, NODE_ENVIRONMENT)
    wanted = (PEERS / "package.json").read_bytes()
    stamp = NODE_ENVIRONMENT / "installed.json"
    if stamp.is_file() and stamp.read_bytes() == wanted:
        return
    print(f"installing the peers into {NODE_ENVIRONMENT.relative_to(ROOT)} ...", file=sys.stderr)
    shutil.copy(PEERS / "package.json", NODE_ENVIRONMENT)
    npm = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel", "error"]
    subprocess.run([*npm, "--prefix", NODE_ENVIRONMENT], check=True)
    stamp.write_bytes(wanted)


CONTENDERS: Final = {
    "sqspider": Contender("sqspider, durable SQLite frontier", _sqspider(), _own_version),
    "sqspider-2": Contender("sqspider, `--workers 2`", _sqspider("--workers", "2"), _own_version),
    "sqspider-archive": Contender("sqspider, every page in a WARC archive", _sqspider_keeping, _own_version),
    "scrapy": Contender(
        "Scrapy",
        _peer("scrapy_spider.py", PEERS_ENVIRONMENT / "bin" / "python"),
        _peer_version("scrapy", "twisted", "parsel"),
        prepare=make_peers_environment,
    ),
    "crawlee": Contender(
        "Crawlee for Python (Parsel)",
        _peer("crawlee_crawler.py", PEERS_ENVIRONMENT / "bin" / "python"),
        _peer_version("crawlee", "impit", "parsel"),
        prepare=make_peers_environment,
    ),
    "crawlee-node": Contender(
        "Crawlee for Node (Cheerio)", _crawlee_node, _node_version, program="node", prepare=make_node_environment
    ),
    "wget": Contender(
        "wget -r (one at a time)",
        _wget,
        lambda: _first_line(["wget", "--version"]).split()[2],
        good_statuses=(0, 8),  # 8: some answers were no success, as in this corpus
        program="wget",
    ),
    "wget2": Contender(
        "wget2 -r (32 threads)",
        _wget2,
        lambda: _first_line(["wget2", "--version"]).split()[2],
        good_statuses=(0, 8),
        program="wget2",
    ),
    "bare": Contender(
        "bare loop, no frontier",
        _peer("bare_loop.py", Path(sys.executable)),
        _bare_version,
    ),
}


def _first_line(command: Sequence[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.partition("\n")[0].strip()


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
                    f"round {number}  {result.name:<12} {crawl.usage.seconds:6.1f} s"
                    f"  {crawl.pages / crawl.usage.seconds:6.1f} pages/s"
                    f"  {crawl.usage.cpu_seconds / crawl.pages * 1000:6.2f} ms CPU a page"
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
        "| crawler | version | pages/s | × Scrapy | CPU ms a page | cores busy | peak MB | distinct pages | requests |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for result in sorted(results, key=lambda result: -result.pages_per_second):
        times = f"{result.pages_per_second / scrapy:.1f}" if scrapy else ""
        cells = (
            CONTENDERS[result.name].title,
            result.version,
            f"{result.pages_per_second:.0f}",
            times,
            f"{result.median(lambda crawl: crawl.usage.cpu_seconds / crawl.pages * 1000):.2f}",
            f"{result.median(lambda crawl: crawl.cores_busy):.2f}",
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


def write_performance(markdown: str, begin: str = BEGIN, end: str = END) -> None:
    """Put a table where docs/performance.md keeps it."""
    text = PERFORMANCE.read_text(encoding="utf-8")
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    PERFORMANCE.write_text(f"{head}{begin}\n{markdown}\n{end}{tail}", encoding="utf-8")


def main() -> int:
    """Run the measurement; 1 if the crawlers did not do the same work."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each crawler is run (default: 3)")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, metavar="NAME", help=", ".join(CONTENDERS))
    parser.add_argument("--json", action="store_true", help="print all crawls as JSON instead of the table")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    given = parser.parse_args()
    names = given.only or list(CONTENDERS)
    if missing := sorted({CONTENDERS[name].program for name in names if not shutil.which(CONTENDERS[name].program)}):
        raise SystemExit(f"not on this machine: {', '.join(missing)}; install it, or leave it out by --only")
    for name in names:
        CONTENDERS[name].prepare()
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
