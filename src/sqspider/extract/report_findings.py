"""What a check of links found, as values: each target that is not well, with every page that names it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final, NamedTuple

import msgspec


class Verdict(enum.StrEnum):
    """What is the matter with a target. These names do not change."""

    BROKEN = "broken"  # it cannot be had: whoever follows the link is lost
    ANCHOR = "anchor"  # the page is there, and the place in it is not
    UNSURE = "unsure"  # another site turned us away, which may be for being a program
    UNCHECKED = "unchecked"  # nobody asked for it: robots.txt or a limit forbids it
    REDIRECT = "redirect"  # it is there, and has moved


FAILING: Final = frozenset({Verdict.BROKEN, Verdict.ANCHOR})
"""Those that a check ends in failure for."""

MOST_SOURCES: Final = 20  # of a target that a person is shown
MISSING_ANCHOR: Final = "missing_anchor"
MOVED: Final = "moved"
NOT_REACHED: Final = "not_reached"
"""The reasons that no record has."""


class Source(NamedTuple):
    """A page that names a target."""

    page: str  # its URL
    kind: str  # as what it names it: a, img, link, ...
    text: str = ""  # of the link


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A target that is not well."""

    verdict: Verdict
    target: str  # its URL, with a fragment where that is what is missing; what is no URL as it is written
    reason: str  # by the names of ``sqspider.record.Reason``, or one of the three above
    http_status: int | None = None
    detail: str = ""  # for a person
    leads_to: tuple[str, ...] = ()  # the redirects from it on
    sources: tuple[Source, ...] = ()  # all of them

    @property
    def says(self) -> str:
        """What is wrong with it, in a line."""
        if self.http_status is not None and not 200 <= self.http_status < 400:
            known = self.http_status in HTTPStatus._value2member_map_
            words = f"{self.http_status} {HTTPStatus(self.http_status).phrase}" if known else str(self.http_status)
        else:
            words = self.reason.replace("_", " ")
        says_more = self.detail and self.detail != f"HTTP status {self.http_status}"
        return f"{words}: {self.detail}" if says_more else words

    @property
    def shown_sources(self) -> tuple[Source, ...]:
        """As many as a person looks at: what stands in the footer of a site has its every page."""
        return self.sources[:MOST_SOURCES]

    @property
    def more_sources(self) -> str | None:
        """How many others there are, for a person; none: none."""
        more = len(self.sources) - MOST_SOURCES
        return f"… and {more:,} more: --json and --junit have all" if more > 0 else None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole check."""

    seeds: tuple[str, ...]
    pages: int  # that were read
    targets: int  # URLs that were asked for
    seconds: float
    findings: tuple[Finding, ...]
    ignored: int = 0  # findings that were known before, and are not among them
    left: str | None = None  # why it is not whole; none: it is

    def of(self, verdict: Verdict) -> list[Finding]:
        """The findings of a kind."""
        return [finding for finding in self.findings if finding.verdict is verdict]

    @property
    def is_clean(self) -> bool:
        """Nothing is broken, as far as it goes."""
        return not any(finding.verdict in FAILING for finding in self.findings)


ADVICE: Final = {
    Verdict.BROKEN: "mend the link, or take it out",
    Verdict.ANCHOR: "give the target that id, or mend the part behind #",
    Verdict.UNSURE: "look at it in a browser; --strict counts it as broken, --ignore forgets it",
    Verdict.UNCHECKED: "look at it yourself, or lift what forbids it",
    Verdict.REDIRECT: "link to where it leads",
}
"""What to do, for each kind."""

TITLES: Final = {
    Verdict.BROKEN: "Broken",
    Verdict.ANCHOR: "Missing anchors",
    Verdict.UNSURE: "Perhaps broken: another site turned us away",
    Verdict.UNCHECKED: "Not checked",
    Verdict.REDIRECT: "Moved",
}
"""How each kind is headed."""


def counts(report: Report) -> dict[Verdict, int]:
    """How many findings there are of each kind."""
    return {verdict: len(report.of(verdict)) for verdict in Verdict}


def asked_for(report: Report) -> str:
    """How much was looked at: ``1 page and 12 targets``."""
    pages = f"{report.pages:,} {'page' if report.pages == 1 else 'pages'}"
    return f"{pages} and {report.targets:,} {'target' if report.targets == 1 else 'targets'}"


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """By what is worst, then by target; each with its sources by page, every one once."""
    order = list(Verdict)
    tidy = (msgspec.structs.replace(finding, sources=tuple(sorted(set(finding.sources)))) for finding in findings)
    return tuple(sorted(tidy, key=lambda finding: (order.index(finding.verdict), finding.target)))
