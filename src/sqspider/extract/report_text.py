"""A check of links as text, for a person at a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from sqspider.checks import printable
from sqspider.extract.report_findings import ADVICE, TITLES, Report, Verdict, asked_for, counts


def as_text(report: Report) -> Iterator[str]:
    """The lines: each target with what is wrong, and the pages that name it; at the end, how many of what."""
    for verdict in Verdict:
        findings = report.of(verdict)
        if not findings:
            continue
        yield f"{TITLES[verdict]} ({len(findings):,}): {ADVICE[verdict]}"
        for finding in findings:
            yield f"\n  {printable(finding.target)}"
            yield f"    {printable(finding.says)}"
            yield from (f"    -> {printable(url)}" for url in finding.leads_to)
            for source in finding.shown_sources:
                words = f' "{printable(source.text)}"' if source.text else ""
                yield f"    on {printable(source.page)} ({source.kind}){words}"
            if finding.more_sources:
                yield f"    {finding.more_sources}"
        yield ""
    yield _last_line(report)


def _last_line(report: Report) -> str:
    numbers = counts(report)
    anchors = "anchor" if numbers[Verdict.ANCHOR] == 1 else "anchors"
    words = {
        Verdict.BROKEN: "broken",
        Verdict.ANCHOR: f"{anchors} missing",
        Verdict.UNSURE: "perhaps broken",
        Verdict.UNCHECKED: "not checked",
        Verdict.REDIRECT: "moved",
    }
    found = [f"{number:,} {words[verdict]}" for verdict, number in numbers.items() if number]
    if report.ignored:
        found.append(f"{report.ignored:,} ignored")
    what = ", ".join(found) or "all is well"
    return f"{asked_for(report)} in {report.seconds:.1f} s: {what}"
