"""This checkout beside an earlier commit, in rounds that follow each other: ``python -m bench.beside COMMIT``.

What counts is the processor's time of the whole process, those that it started included, and of that the ratio of each
pair: a busy machine slows both. The commit's files and an environment of its own lie in ``build/bench/commit-HASH``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from bench.corpus import BUILD, Corpus
from bench.run import crawl_command, machine, write_performance
from bench.usage import ROOT, run

BEGIN, END = "<!-- bench.beside: begin -->", "<!-- bench.beside: end -->"
HERE: Final = Path(sys.executable)


class Measure(NamedTuple):
    """Something that both are asked for."""

    title: str
    options: tuple[str, ...]  # of the crawl, besides those of every one
    figure: Callable[[float, int], str]  # of CPU seconds and pages


def _a_page(cpu_seconds: float, pages: int) -> str:
    return f"{cpu_seconds / pages * 1000:.2f} ms a page"


MEASURES: Final = (
    Measure("the corpus, one process", (), _a_page),
    Measure("the corpus, `--workers 2`", ("--workers", "2"), _a_page),
    Measure("one page", ("--scope", "page"), lambda cpu_seconds, _: f"{cpu_seconds:.3f} s"),
)


class Rounds(NamedTuple):
    """CPU seconds of one measure, a pair for each round."""

    measure: Measure
    pages: int
    here: list[float]
    there: list[float]

    @property
    def ratios(self) -> list[float]:
        return [here / there for here, there in zip(self.here, self.there, strict=True)]

    def as_row(self) -> str:
        here, there = (self.measure.figure(statistics.median(of), self.pages) for of in (self.here, self.there))
        ratios = self.ratios
        return (
            f"| {self.measure.title} | {here} | {there} "
            f"| {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) |"
        )


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def environment_of(commit: str) -> Path:
    """The Python of an environment with the crawler of that commit in it; made if it is not there."""
    folder = BUILD / f"commit-{commit}"
    python = folder / ".venv" / "bin" / "python"
    if (folder / "installed").is_file():
        return python
    print(f"installing {commit} into {folder.relative_to(ROOT)} ...", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # An archive and no worktree: git need not know of it, and it may be deleted at any time.
    archive = folder / "archive.tar"
    _git("archive", "--format=tar", f"--output={archive}", commit)
    subprocess.run(["tar", "-xf", archive, "-C", folder], check=True)
    archive.unlink()
    subprocess.run([sys.executable, "-m", "venv", folder / ".venv"], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--constraint", "constraints.txt"]
    subprocess.run([*pip, "--editable", "."], cwd=folder, check=True)
    (folder / "installed").touch()
    return python


def cpu_seconds(python: Path, measure: Measure, corpus: Corpus) -> tuple[float, frozenset[str]]:
    """What one crawl took, and what it asked for."""
    folder = Path(tempfile.mkdtemp(dir=BUILD))
    corpus.forget()
    try:
        usage = run(crawl_command(python, corpus.url, folder, *measure.options), folder / "output")
    finally:
        shutil.rmtree(folder)
    return usage.cpu_seconds, frozenset(corpus.requests())


def run_rounds(there: Path, rounds: int) -> list[Rounds]:
    """Both in turn, each as often first. Raises ``SystemExit`` if they do not ask for the same."""
    results = []
    with Corpus() as corpus:
        for measure in MEASURES:
            _, pages = cpu_seconds(HERE, measure, corpus)  # so that the files lie in memory
            cpu_seconds(there, measure, corpus)
            result = Rounds(measure, len(pages), [], [])
            for number in range(rounds):
                pair = [(HERE, result.here), (there, result.there)]
                for python, taken in pair if number % 2 == 0 else reversed(pair):
                    seconds, asked = cpu_seconds(python, measure, corpus)
                    if asked != pages:
                        raise SystemExit(f"not the same work: {sorted(asked ^ pages)[:10]}")
                    taken.append(seconds)
                print(
                    f"{measure.title}: round {number + 1}  {result.here[-1]:.3f} s  {result.there[-1]:.3f} s"
                    f"  ratio {result.ratios[-1]:.3f}",
                    file=sys.stderr,
                )
            results.append(result)
    return results


def as_markdown(results: list[Rounds], commit: str, load: float) -> str:
    """The table, and what it was measured on."""
    lines = [
        f"| CPU of | {_git('rev-parse', '--short', 'HEAD')} | {commit} | ratio (least to most) |",
        "|---|--:|--:|--:|",
        *(result.as_row() for result in results),
        "",
        f"Medians of {len(results[0].here)} rounds (of ratios: the median of each round's), "
        f"{datetime.now(UTC):%Y-%m-%d}, on {machine()}; load before the first round: {load:.2f}.",
    ]
    return "\n".join(lines)


def main() -> int:
    """Run the measurement."""
    parser = argparse.ArgumentParser(prog="python -m bench.beside", description=__doc__)
    parser.add_argument("commit", metavar="COMMIT", help="what this checkout is measured beside")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is run (default: 5)")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    given = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    commit = _git("rev-parse", "--short", "--verify", f"{given.commit}^{{commit}}")
    there = environment_of(commit)
    # By hand, for where Python is told to write no bytecode the crawls leave none, and compile anew each time.
    for python, folder in ((HERE, ROOT), (there, there.parents[2])):
        subprocess.run([python, "-m", "compileall", "-q", folder / "src"], check=True)
    load = os.getloadavg()[0]
    markdown = as_markdown(run_rounds(there, given.rounds), commit, load)
    print(markdown)
    if given.write:
        write_performance(markdown, BEGIN, END)
    return 0


if __name__ == "__main__":
    sys.exit(main())
