"""robots.txt: what an answer for it means, and what its rules say of a URL (RFC 9309).

No I/O lives here: fetching and keeping the file is done elsewhere.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Final, Generic, NamedTuple, TypeVar
from urllib.parse import quote_from_bytes

from sqspider.host import RobotsAccess, whole_lines
from sqspider.record import BLOCKING_REASONS, Reason
from sqspider.web.fetch import Fetched

T = TypeVar("T")

MAX_ROBOTS_BYTES: Final = 500 * 1024  # RFC 9309 section 2.5
MAX_RULE_SHOWN: Final = 200  # characters of a rule that are told
# A chain of redirects that leads nowhere is an unavailable file (section 2.3.1.2).
_NOWHERE: Final = frozenset({Reason.TOO_MANY_REDIRECTS, Reason.REDIRECT_LOOP, Reason.BAD_REDIRECT})


def access_for(fetched: Fetched, *, is_redirected: bool = False) -> RobotsAccess:
    """What an answer for robots.txt, or for where it redirected to, means: RFC 9309 section 2.3.1.

    2xx is obeyed; 4xx, and redirects that lead nowhere or where we do not go, mean that there is
    no file; 429, 5xx and everything that kept us from an answer mean that nothing is allowed. So does a file
    that ended before its end: what it forbids may stand in the rest.
    """
    reason = fetched.reason
    if reason is None:
        return RobotsAccess.UNREACHABLE if fetched.is_short else RobotsAccess.OBEY
    if reason is Reason.CLIENT_ERROR or reason in _NOWHERE:
        return RobotsAccess.ALLOW_ALL
    is_3xx = fetched.http_status is not None and 300 <= fetched.http_status < 400
    if (is_redirected or is_3xx) and reason in BLOCKING_REASONS:
        return RobotsAccess.ALLOW_ALL
    if is_3xx and reason is Reason.UNEXPECTED_STATUS:
        return RobotsAccess.ALLOW_ALL
    return RobotsAccess.UNREACHABLE


class Verdict(NamedTuple):
    """Whether a URL may be fetched, and by which rule not."""

    allowed: bool
    rule: str = ""  # "Disallow: " and the beginning of the path as it is written
    line: int | None = None  # counted from 1


_ALLOWED: Final = Verdict(allowed=True)


class RobotsRules:
    """The rules of one robots.txt. Made by :meth:`parse`.

    A product token is that of a user agent, or any text that begins with one.
    """

    def __init__(self, reader: _Reader) -> None:
        self._rules = reader.rules
        self._delays = reader.delays
        self._sitemaps = tuple(dict.fromkeys(reader.sitemaps))
        self._matchers: dict[str, _Matcher] = {}  # by product token: there is one in a crawler

    @classmethod
    def parse(cls, body: bytes) -> RobotsRules:
        """Read a file; of a longer one, the whole lines of its first 500 KiB. Nothing in it is an error."""
        reader = _Reader()
        for number, line in enumerate(_LINE_END.split(_text_of(body)), 1):
            if line:
                reader.read(number, line)
        return cls(reader)

    def prepare(self, product_token: str) -> RobotsRules:
        """Do at once what else the first verdict for a product token does; it takes the longest."""
        if product_token not in self._matchers:
            self._matchers[product_token] = _Matcher(self._rules.said_to(product_token))
        return self

    def verdict(self, url: str, product_token: str) -> Verdict:
        """What the rules say of a canonical URL. ``/robots.txt`` itself is always allowed."""
        self.prepare(product_token)
        path = url[url.index("/", 8) :]
        rule = self._matchers[product_token].deciding(_normal_path(path))
        if rule is None or rule.allows or path == "/robots.txt":
            return _ALLOWED
        return Verdict(allowed=False, rule=f"Disallow: {rule.written[:MAX_RULE_SHOWN]}", line=-rule.minus_line)

    def sitemaps(self) -> tuple[str, ...]:
        """What its ``Sitemap`` lines say, each once; they belong to no group (section 2.2.4)."""
        return self._sitemaps

    def crawl_delay(self, product_token: str) -> float | None:
        """Seconds between two requests that the file asks for (no part of the RFC, but used).

        The last number that is not negative; it may be any, even infinite.
        """
        delays = self._delays.said_to(product_token)
        return delays[-1] if delays else None


def token_in(text: str) -> str:
    """The product token that a text begins with, in lower case; ``*`` for all; empty for none.

    It ends before the first character that can be in none (section 2.2.1), so a version after it
    is no part of it.
    """
    match = _TOKEN.match(text)
    return match[0].lower() if match else ""


class _Rule(NamedTuple):
    """An allow or disallow line. Of those that match the greatest decides: the longest, then an allow
    line (section 2.2.2), then the first."""

    octets: int  # of its pattern
    allows: bool
    minus_line: int  # the line's number, counted from 1, negated: the first is the greatest
    pattern: str  # in normal form
    written: str


class _Groups(Generic[T]):
    """What stands below runs of agent lines. A group is shared by all its agents, so that many of
    them with many lines take no more memory than the file."""

    def __init__(self) -> None:
        self._groups_of: defaultdict[str, list[list[T]]] = defaultdict(list)
        self._current: list[T] = []
        self._is_closed = True  # the next agent line begins another group

    def begin(self, agent: str) -> None:
        """An agent joins those of the lines before it, unless something was said to them since.
        One whose name is none (empty) is not remembered, and what is said to it is said to nobody else."""
        if self._is_closed:
            self._current, self._is_closed = [], False
        if agent:
            groups = self._groups_of[agent]
            if not groups or groups[-1] is not self._current:
                groups.append(self._current)

    def say(self, *items: T) -> None:
        """Say something, or nothing, to the agents of the lines before; to nobody if there are none."""
        self._is_closed = True
        self._current += items

    def said_to(self, product_token: str) -> list[T]:
        """All that is said to a product token; if it is not named, what is said to all (section 2.2.1)."""
        groups = self._groups_of.get(token_in(product_token)) or self._groups_of.get("*") or []
        return [item for group in groups for item in group]


class _Reader:
    """Takes the lines of a file in order, and gathers what they say."""

    def __init__(self) -> None:
        self.rules: _Groups[_Rule] = _Groups()
        # Apart: a Crawl-delay is said to the agents before it, and yet ends no group (section 2.2.4).
        self.delays: _Groups[float] = _Groups()
        self.sitemaps: list[str] = []

    def read(self, number: int, line: str) -> None:
        """Lines of other kinds change nothing, wherever they stand (section 2.2.4)."""
        field, value = _field_in(line)
        if field == "user-agent":
            self.rules.begin(token_in(value))
            self.delays.begin(token_in(value))
        elif field == "disallow" or field == "allow":
            self.rules.say(*_rules_in(field, value, number))
            self.delays.say()
        elif field == "crawl-delay":
            self.delays.say(*(float(number) for number in _NUMBER.findall(value)))
        elif field == "sitemap" and value:
            self.sitemaps.append(value)


def _rules_in(field: str, value: str, line: int) -> Iterator[_Rule]:
    """The rule of an allow or disallow line; an empty one says nothing."""
    if value:
        pattern = _normal_pattern(value)
        yield _Rule(len(pattern), field == "allow", -line, pattern, value)


class _Matcher:
    """Finds the rule that decides about a path, at about the same cost whatever it says.

    Patterns that are plain beginnings lie in a table: one look for each length that occurs. The
    others are tried by rank, until none can outrank what was found.
    """

    def __init__(self, rules: list[_Rule]) -> None:
        self._beginnings: dict[str, _Rule] = {}
        globs = []
        for rule in sorted(rules):
            if "*" in rule.pattern or rule.pattern.endswith("$"):
                globs.append(rule)
            else:
                self._beginnings[rule.pattern] = rule  # a greater one takes the place of a lesser one
        self._lengths = sorted({len(pattern) for pattern in self._beginnings}, reverse=True)
        self._globs = [(rule, _Glob(rule.pattern)) for rule in reversed(globs)]

    def deciding(self, path: str) -> _Rule | None:
        found = None
        for length in self._lengths:
            found = self._beginnings.get(path[:length])
            if found is not None:
                break
        least = found or ()
        for rule, glob in self._globs:
            if rule < least:
                break
            if glob.longest in path and glob.matches(path):
                return rule
        return found


class _Glob:
    """A pattern with ``*`` (anything) or with ``$`` at its end (the end of the path): section 2.2.3."""

    def __init__(self, pattern: str) -> None:
        self._is_anchored = pattern.endswith("$")
        pieces = pattern.removesuffix("$").split("*")
        self.longest = max(pieces, key=len)  # what has it not does not match: the quickest question
        self._first, *rest = pieces
        self._last = rest.pop() if rest and self._is_anchored else None  # of an anchored pattern with stars
        self._between = [piece for piece in rest if piece]

    def matches(self, path: str) -> bool:
        """Each piece is looked for once, after the one before it: no time is exponential."""
        if not path.startswith(self._first):
            return False
        at = len(self._first)
        for piece in self._between:
            at = path.find(piece, at)
            if at < 0:
                return False
            at += len(piece)
        if not self._is_anchored:
            return True
        if self._last is None:
            return at == len(path)
        return len(path) - len(self._last) >= at and path.endswith(self._last)


# How a file is read.

_LINE_END: Final = re.compile(r"\r\n|\r|\n")  # and nothing else: section 2.2
_BLANKS: Final = " \t\v\f"
_TOKEN: Final = re.compile(r"\*(?!\S)|[A-Za-z_-]+")
_NUMBER: Final = re.compile(r"\A(?:[0-9]++\.?[0-9]*+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?\Z")
_COLONLESS: Final = re.compile(r"([A-Za-z-]+)[ \t]+(\S+)")
# As they are written by mistake, and read by others all the same.
_FIELDS: Final = {
    **{name: name for name in ("user-agent", "disallow", "allow", "crawl-delay", "sitemap")},
    **dict.fromkeys(("useragent", "user agent"), "user-agent"),
    "crawl delay": "crawl-delay",
    **dict.fromkeys(("dissallow", "dissalow", "disalow", "diasllow", "disallaw"), "disallow"),
    **dict.fromkeys(("sitemaps", "site-map"), "sitemap"),
}


def _text_of(body: bytes) -> str:
    text = whole_lines(body, MAX_ROBOTS_BYTES)
    return text.decode("utf-8", "replace").removeprefix("\ufeff").replace("\x00", "")


def _field_in(line: str) -> tuple[str | None, str]:
    """The field of a line in its proper spelling, if it is one of ours, and its value."""
    line = line.partition("#")[0]
    name, colon, value = line.partition(":")
    if not colon:
        words = _COLONLESS.fullmatch(line.strip(_BLANKS))
        if words is None:
            return None, ""
        name, value = words.groups()
    return _FIELDS.get(name.strip(_BLANKS).lower()), value.strip(_BLANKS)


# Paths and patterns in one normal form (section 2.2.2): what is unreserved is unencoded, all other
# octets that are no delimiters are encoded.

_ODD: Final = re.compile(r"[^A-Za-z0-9._~:/?#\[\]@!&'()+,;=-]")
_TO_CHANGE: Final = re.compile(r"%[0-9A-Fa-f]{2}|[^A-Za-z0-9._~:/?#\[\]@!&'()+,;=%*$-]+")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def _normal_path(path: str) -> str:
    if _ODD.search(path) is None:
        return path
    return _TO_CHANGE.sub(_changed, path).replace("*", "%2A").replace("$", "%24")


def _normal_pattern(value: str) -> str:
    """A star stays a wildcard, and a dollar at the end an anchor; encoded they are themselves."""
    if _ODD.search(value) is None:
        return value
    pattern = _TO_CHANGE.sub(_changed, value)
    return pattern[:-1].replace("$", "%24") + pattern[-1]


def _changed(match: re.Match[str]) -> str:
    text = match[0]
    if not text.startswith("%"):
        return quote_from_bytes(text.encode("utf-8", "surrogatepass"))
    octet = chr(int(text[1:], 16))
    return octet if octet in _UNRESERVED else text.upper()
