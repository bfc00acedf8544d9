"""A check of links as JSON, for a program. Its names do not change."""

from __future__ import annotations

import json

from sqspider.extract.report_findings import Finding, Report, counts


def as_json(report: Report) -> str:
    """The whole report, as one object."""
    return json.dumps(
        {
            "seeds": report.seeds,
            "is_clean": report.is_clean,
            "pages": report.pages,
            "targets": report.targets,
            "seconds": round(report.seconds, 3),
            "left": report.left,
            "ignored": report.ignored,
            **{verdict.value: number for verdict, number in counts(report).items()},
            "findings": [_finding(finding) for finding in report.findings],
        }
    )


def _finding(finding: Finding) -> dict[str, object]:
    return {
        "verdict": finding.verdict.value,
        "target": finding.target,
        "reason": finding.reason,
        "http_status": finding.http_status,
        "detail": finding.detail,
        "leads_to": finding.leads_to,
        "sources": [source._asdict() for source in finding.sources],
    }
