"""A check of links as Markdown: a summary that continuous integration shows beside its steps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from sqspider.checks import printable
from sqspider.extract.report_findings import ADVICE, FAILING, TITLES, Finding, Report, Verdict, asked_for, counts

MOST_BYTES: Final = 900_000  # GitHub takes a megabyte of a step, and of a larger one nothing
_AUTOLINK: Final = re.compile(r"https?://[!-;=?-~]+")  # a URL that CommonMark takes between < and > as it stands


def as_markdown(report: Report) -> Iterator[str]:
    """The lines of the file. What is too much for it is left out, and that is said."""
    numbers = counts(report)
    yield f"## Links: {'all is well' if report.is_clean and report.left is None else _failed(report)}"
    yield ""
    yield f"{asked_for(report)}, checked in {report.seconds:.1f} s."
    if report.left is not None:
        yield f"It is not whole: {_code(report.left)}"
    if report.ignored:
        yield f"Known findings that were ignored: {report.ignored:,}."
    yield ""
    if report.findings:
        yield "| | |"
        yield "|---|--:|"
        yield from (f"| {TITLES[verdict]} | {number:,} |" for verdict, number in numbers.items() if number)
    room, shown = MOST_BYTES, 0
    for verdict in Verdict:
        for number, finding in enumerate(report.of(verdict)):
            lines = [] if number else ["", f"### {TITLES[verdict]}", "", f"{ADVICE[verdict].capitalize()}.", ""]
            lines += _finding(finding)
            room -= sum(len(line.encode()) + 1 for line in lines)
            if room < 0:
                yield f"\n… and {len(report.findings) - shown:,} more: `--json` and `--junit` have all of them."
                return
            shown += 1
            yield from lines


def _failed(report: Report) -> str:
    numbers = counts(report)
    parts = [
        f"{numbers[verdict]:,} {TITLES[verdict].lower().removesuffix('s' if numbers[verdict] == 1 else '')}"
        for verdict in Verdict
        if verdict in FAILING
    ]
    return ", ".join(parts)


def _finding(finding: Finding) -> Iterator[str]:
    yield f"- {_url(finding.target)}: {_code(finding.says)}"
    if finding.leads_to:
        yield f"  - leads to {', then '.join(map(_url, finding.leads_to))}"
    for source in finding.shown_sources:
        yield f"  - on {_url(source.page)} as {_code(source.kind)}" + (f" {_code(source.text)}" if source.text else "")
    if finding.more_sources:
        yield f"  - {finding.more_sources}"


def _url(url: str) -> str:
    return f"<{url}>" if _AUTOLINK.fullmatch(url) else _code(url)


def _code(text: str) -> str:
    """A code span that shows a text as it is, whatever a stranger wrote there: nothing in it is markup, nor can it end
    it (CommonMark 6.1)."""
    text = printable(text)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, pad = "`" * (longest + 1), " " if text[:1] in "` " or text[-1:] in "` " else ""
    return f"{fence}{pad}{text}{pad}{fence}"
