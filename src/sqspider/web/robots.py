"""robots.txt: what an answer for it means, and what its rules say of a URL (RFC 9309).

The rules are ``protego``'s. Fetching and keeping the file is done elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from protego import Protego

from sqspider.host import RobotsAccess
from sqspider.record import BLOCKING_REASONS, Reason
from sqspider.web.fetch import Fetched

MAX_ROBOTS_BYTES: Final = 500 * 1024  # RFC 9309 section 2.5
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_FIELD: Final = re.compile(r"\s*([A-Za-z][A-Za-z -]*?)\s*:\s*(.*?)\s*(?:#.*)?", re.S)
_AGENT_FIELDS: Final = frozenset({"user-agent", "useragent", "user agent"})
_RULE_FIELDS: Final = frozenset({"allow", "disallow"})
# A chain of redirects that leads nowhere is an unavailable file (section 2.3.1.2).
_NOWHERE: Final = frozenset({Reason.TOO_MANY_REDIRECTS, Reason.REDIRECT_LOOP, Reason.BAD_REDIRECT})


def access_for(fetched: Fetched) -> RobotsAccess:
    """What an answer for robots.txt means: RFC 9309 section 2.3.1.

    2xx is obeyed; 4xx, and redirects that lead nowhere or where we do not go, mean that there is
    no file; 429, 5xx and everything that kept us from an answer mean that nothing is allowed.
    """
    reason = fetched.reason
    if reason is None:
        return RobotsAccess.OBEY
    if reason is Reason.CLIENT_ERROR or reason in _NOWHERE:
        return RobotsAccess.ALLOW_ALL
    if fetched.redirects and reason in BLOCKING_REASONS:
        return RobotsAccess.ALLOW_ALL
    if reason is Reason.UNEXPECTED_STATUS and fetched.http_status and 300 <= fetched.http_status < 400:
        return RobotsAccess.ALLOW_ALL
    return RobotsAccess.UNREACHABLE


class Verdict(NamedTuple):
    """Whether a URL may be fetched, and by which rule not."""

    allowed: bool
    rule: str = ""  # as it is written: "Disallow: /private"
    line: int | None = None  # counted from 1


class RobotsRules:
    """The rules of one robots.txt. Made by :meth:`parse`."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._rules = Protego.parse(text)

    @classmethod
    def parse(cls, body: bytes) -> RobotsRules:
        """Read a file; of a longer one, the first 500 KiB. Nothing in it is an error."""
        text = body[:MAX_ROBOTS_BYTES].decode("utf-8", "replace")
        return cls(text.removeprefix("\ufeff").replace("\x00", ""))

    def verdict(self, url: str, product_token: str) -> Verdict:
        """What the rules say of a canonical URL. ``/robots.txt`` itself is always allowed."""
        path = url[url.index("/", 8) :]
        if path == "/robots.txt" or self._rules.can_fetch(url, product_token):
            return Verdict(allowed=True)
        return self._deciding(url, product_token)

    def sitemaps(self) -> tuple[str, ...]:
        """What its ``Sitemap`` lines say, each once; they belong to no group (section 2.2.4)."""
        return tuple(dict.fromkeys(self._rules.sitemaps))

    def crawl_delay(self, product_token: str) -> float | None:
        """Seconds between two requests that the file asks for (no part of the RFC, but used)."""
        delay = self._rules.crawl_delay(product_token)
        return float(delay) if delay is not None else None

    def _deciding(self, url: str, product_token: str) -> Verdict:
        """The longest of our group's rules that disallows a URL, each asked by itself."""
        token = product_token.lower()
        groups = list(_rules_by_line(self._text))
        ours = [rule for rule in groups if token in rule.agents] or [rule for rule in groups if "*" in rule.agents]
        longest: _Rule | None = None
        for rule in ours:
            if rule.field != "disallow" or (longest and len(rule.value) <= len(longest.value)):
                continue
            alone = Protego.parse(f"User-agent: *\nDisallow: {rule.value}")
            if not alone.can_fetch(url, product_token):
                longest = rule
        if longest is None:
            return Verdict(allowed=False, rule="Disallow")
        return Verdict(allowed=False, rule=f"Disallow: {longest.value}", line=longest.line)


class _Rule(NamedTuple):
    line: int
    agents: frozenset[str]
    field: str
    value: str


def _rules_by_line(text: str) -> Iterator[_Rule]:
    """The allow and disallow lines, each with the agents of its group, in lower case."""
    agents: set[str] = set()
    is_in_rules = False
    for number, line in enumerate(_LINE_END.split(text), 1):
        match = _FIELD.fullmatch(line)
        if match is None:
            continue
        field, value = match[1].lower(), match[2]
        if field in _AGENT_FIELDS:
            if is_in_rules:
                agents, is_in_rules = set(), False
            agents.add(value.lower())
        elif field in _RULE_FIELDS:
            is_in_rules = True
            yield _Rule(number, frozenset(agents), field, value)
