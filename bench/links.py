"""`sqspider check` and LinkChecker on one corpus, in rounds: ``python -m bench.links``.

Both look at the same pages and ask for all of their own site that these refer to, at the same number of requests at a
time. What each asked for is counted at the server, which tells LinkChecker that it may ask without pauses. What they
find is held against each other in tests/judges; here it is counted.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import sys
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urljoin

from bench.corpus import BUILD, EXCLUDE, Corpus
from bench.run import machine, write_performance
from bench.usage import ROOT, Usage, run

BEGIN, END = "<!-- bench.links: begin -->", "<!-- bench.links: end -->"
CONCURRENCY: Final = 32
WELCOME: Final = "    add_header LinkChecker welcome always;\n"
SETTINGS: Final = "[checking]\nmaxrequestspersecond=100000\n"
"""Of LinkChecker: no pauses."""

ANCHORS: Final = "[AnchorCheck]\n"
"""That it checks anchors: then it asks for a page once for each anchor that is named in it, which is not measured."""


class Checked(NamedTuple):
    """What one check took, and found."""

    usage: Usage
    requests: Counter[str]  # "status path" as the server saw them
    broken: dict[str, set[str]]  # targets, and pages that name them
    anchors: dict[str, set[str]]


def linkchecker_command(program: Path | str, url: str, folder: Path, *more: str, settings: str = SETTINGS) -> list[str]:
    """A check by LinkChecker, which prints CSV."""
    file = folder / "linkcheckerrc"
    file.write_text(settings, encoding="utf-8")
    return [
        str(program), "--config", str(file), "--no-robots", "--ignore-url", "^mailto:", "--ignore-url", EXCLUDE,
        "--timeout", "10", "--threads", str(CONCURRENCY), "--no-status", "--verbose", "--output", "csv/utf-8", *more,
        url,
    ]  # fmt: skip


def sqspider_command(url: str) -> list[str]:
    """The same by us, which prints JSON."""
    return [
        sys.executable, "-m", "sqspider", "check", url, "--allow-private", "--ignore-robots",
        "--no-external", "--exclude", EXCLUDE, "--timeout", "10", "--concurrency", str(CONCURRENCY), "--json",
        "--quiet",
    ]  # fmt: skip


def found_by_linkchecker(text: str) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Broken targets and missing anchors, by LinkChecker's CSV."""
    lines = text[max(0, text.find("urlname;")) :].splitlines()  # before it stands what it says of itself
    lines = [line for line in lines if line and not line.startswith("#")]
    broken: dict[str, set[str]] = {}
    anchors: dict[str, set[str]] = {}
    for row in csv.DictReader(lines, delimiter=";"):
        if row["valid"] == "False":
            broken.setdefault(_target_of(row), set()).add(row["parentname"].partition("#")[0])
        elif "Anchor `" in row["warningstring"]:
            anchors.setdefault(_target_of(row), set()).add(row["parentname"].partition("#")[0])
    return broken, anchors


def _target_of(row: dict[str, str]) -> str:
    """What the link leads to; its column ``url`` says where redirects led from there."""
    try:
        return urljoin(row["base"] or row["parentname"], row["urlname"])
    except ValueError:  # it is no URL
        return row["urlname"]


def found_by_sqspider(text: str) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """The same by ours."""
    report = json.loads(text)
    told: dict[str, dict[str, set[str]]] = {"broken": {}, "anchor": {}}
    for finding in report["findings"]:
        if finding["verdict"] in told:
            told[finding["verdict"]][finding["target"]] = {source["page"] for source in finding["sources"]}
    return told["broken"], told["anchor"]


def check_corpus(corpus: Corpus, linkchecker: Path | str | None, folder: Path) -> Checked:
    """One check, by LinkChecker where its program is given, else by us."""
    corpus.forget()
    output = folder / "output"
    if linkchecker is None:
        usage = run(sqspider_command(corpus.url), output, good_statuses=(0, 1), limit_seconds=3600)
        found = found_by_sqspider(output.read_text(encoding="utf-8"))
    else:
        command = linkchecker_command(linkchecker, corpus.url, folder)
        usage = run(command, output, good_statuses=(0, 1), limit_seconds=3600)
        found = found_by_linkchecker(output.read_text(encoding="utf-8"))
    return Checked(usage, corpus.requests(), *found)


def _row(title: str, checks: list[Checked]) -> str:
    number = len(checks[0].requests)
    seconds = statistics.median(check.usage.seconds for check in checks)
    cpu_seconds = statistics.median(check.usage.cpu_seconds for check in checks)
    peak = max(check.usage.peak_bytes for check in checks) / 1e6
    return (
        f"| {title} | {number:,} | {number / seconds:,.1f} | {cpu_seconds / number * 1000:.2f} | {peak:,.0f} "
        f"| {len(checks[0].broken):,} |"
    )


def main() -> int:
    """Run the measurement."""
    parser = argparse.ArgumentParser(prog="python -m bench.links", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="how often each is run (default: 1)")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    given = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    program = next((ROOT / ".engines").glob("judge-linkchecker-*/venv/bin/linkchecker"), None)
    if program is None:
        raise SystemExit("LinkChecker is not here: python -m tests.aws.install installs it, where it can")
    load = os.getloadavg()[0]
    ours: list[Checked] = []
    theirs: list[Checked] = []
    with Corpus(more_http=WELCOME) as corpus, tempfile.TemporaryDirectory(dir=BUILD) as folder:
        for number in range(given.rounds):
            ours.append(check_corpus(corpus, None, Path(folder)))
            theirs.append(check_corpus(corpus, program, Path(folder)))
            ratio = _pages_a_second(ours[-1]) / _pages_a_second(theirs[-1])
            print(f"round {number + 1}: {ours[-1].usage}  {theirs[-1].usage}  ratio {ratio:.1f}", file=sys.stderr)
    ratios = [_pages_a_second(our) / _pages_a_second(their) for our, their in zip(ours, theirs, strict=True)]
    markdown = "\n".join(
        [
            "| | URLs | URLs/s | CPU ms a URL | peak MB | broken |",
            "|---|--:|--:|--:|--:|--:|",
            _row("`sqspider check`", ours),
            _row("LinkChecker 10.6", theirs),
            "",
            f"{statistics.median(ratios):.1f} times as many URLs a second, in {given.rounds} rounds, "
            f"{datetime.now(UTC):%Y-%m-%d}, on {machine()}; load before the first: {load:.2f}.",
        ]
    )
    print(markdown)
    if given.write:
        write_performance(markdown, BEGIN, END)
    return 0


def _pages_a_second(check: Checked) -> float:
    return len(check.requests) / check.usage.seconds


if __name__ == "__main__":
    sys.exit(main())
