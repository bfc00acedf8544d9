"""A check of links as JUnit XML, which continuous integration shows as tests.

A suite for each kind of finding, and in it a case for each target: failed where the check fails for it, else skipped.
A kind without any has one case that passed: a file without tests is taken for a fault by those who read it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from sqspider.checks import printable
from sqspider.extract.report_findings import ADVICE, FAILING, TITLES, Finding, Report, Verdict

_NAME: Final = "sqspider check"


def as_junit(report: Report) -> Iterator[str]:
    """The lines of the file."""
    failures = sum(finding.verdict in FAILING for finding in report.findings)
    cases = sum(max(1, len(report.of(verdict))) for verdict in Verdict) + (report.left is not None)
    errors = int(report.left is not None)
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield (
        f'<testsuites name="{_NAME}" tests="{cases}" failures="{failures}" errors="{errors}" '
        f'time="{report.seconds:.3f}">'
    )
    for verdict in Verdict:
        yield from _suite(verdict, report)
    if report.left is not None:
        yield f'<testsuite name="{_NAME}: whole" tests="1" failures="0" errors="1" skipped="0" time="0">'
        yield f'<testcase classname="{_NAME}" name="all was checked" time="0"><error message={_quoted(report.left)}/>'
        yield "</testcase></testsuite>"
    yield "</testsuites>"


def _suite(verdict: Verdict, report: Report) -> Iterator[str]:
    findings = report.of(verdict)
    number, failing = len(findings), verdict in FAILING
    yield (
        f'<testsuite name="{_NAME}: {TITLES[verdict].lower()}" tests="{max(1, number)}" '
        f'failures="{number if failing else 0}" errors="0" skipped="{0 if failing else number}" time="0">'
    )
    for finding in findings:
        yield f'<testcase classname="{_NAME}.{verdict.value}" name={_quoted(finding.target)} time="0">'
        if failing:
            yield f"<failure type={_quoted(finding.reason)} message={_quoted(finding.says)}>{_body(finding)}</failure>"
        else:  # in the schema that is used most, what is skipped has no text of its own
            yield f"<skipped message={_quoted(finding.says)}/><system-out>{_body(finding)}</system-out>"
        yield "</testcase>"
    if not findings:
        among = f"none among {report.targets:,} targets on {report.pages:,} pages"
        yield f'<testcase classname="{_NAME}.{verdict.value}" name="{among}" time="0"/>'
    yield "</testsuite>"


def _body(finding: Finding) -> str:
    lines = [f"{finding.target}", finding.says]
    lines += [f"leads to {url}" for url in finding.leads_to]
    lines += [f"on {source.page} ({source.kind}) {source.text}".rstrip() for source in finding.sources]
    lines.append(ADVICE[finding.verdict])
    return "\n".join(escape(printable(line)) for line in lines)


def _quoted(text: str) -> str:
    """As an attribute's value: what XML cannot hold at all is written as JSON writes it."""
    return quoteattr(printable(text))
