"""What travels in the queue: one URL and the settings of the crawl it belongs to.

A message says "look at this URL", never "this URL is yours". A body is a JSON object, or a plain
URL that anybody may send: whatever is in it is bounded here, so that no message can harm a worker
or be more than a frontier can hold. No I/O lives here.
"""

from __future__ import annotations

import functools
import re
import warnings
from typing import ClassVar, Final, NamedTuple

import msgspec

from sqspider.checks import MAX_COUNT, Bounds, check_flags, check_numbers, optional, seconds, shown, texts_of
from sqspider.patterns import Search, TooSlowError
from sqspider.redact import redact_url
from sqspider.url import MAX_URL_BYTES, Refused, Scope, canonicalize

MAX_BODY_CHARACTERS: Final = 256 * 1024
MAX_DEPTH: Final = 1_000_000  # links from a seed; whoever goes deeper is in a trap
MAX_PATTERNS: Final = 100  # that a crawl includes, and as many that it excludes
MAX_PATTERN_CHARACTERS: Final = 2000  # of one of them
MAX_PATTERNS_BYTES: Final = 128 * 1024  # of all of them in a message: each URL carries them
_FIRST_MOMENT: Final = -62_135_596_800.0  # the year 1
_LAST_MOMENT: Final = 253_402_300_799.0  # the year 9999


class CrawlSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a crawl goes on from a URL. It travels with every message, so any worker can work.

    Raises ``TypeError`` or ``ValueError`` for what is out of bounds, in words that begin with the field's name.
    """

    scope: Scope = Scope.PAGE
    seed: str | None = None  # what the scope is measured from; none: the message's own URL
    max_depth: int | None = None  # links between a seed and the last page that is fetched
    include: tuple[str, ...] = ()  # a link must match one of these regular expressions, if any
    exclude: tuple[str, ...] = ()  # and none of these
    drop_tracking: bool = False  # take campaign parameters out of links
    meta_refresh: bool = False  # follow every refresh, not only one that is the only way on from a page
    srcset: bool = False  # follow srcset candidates
    obey_nofollow: bool = True  # leave out links that the page asks not to follow
    obey_robots: bool = True
    delay_seconds: float = 1.0  # between two requests to one host; 0 only for one's own site
    max_crawl_delay_seconds: float = 60.0  # the most that a Crawl-delay in robots.txt can ask for
    per_host: int = 1  # requests to one host at a time, if there is a delay
    host_pages: int | None = None  # pages of one host
    host_bytes: int | None = None  # decoded bytes of one host
    max_repeats: int | None = None  # of one path segment in a URL
    max_parameters: int | None = None  # in a URL's query

    bounds: ClassVar[dict[str, Bounds]] = {
        "max_depth": optional(0, MAX_DEPTH),
        "max_crawl_delay_seconds": seconds(0, 86_400),
        "delay_seconds": seconds(0, 86_400),
        "per_host": Bounds(1, 1000),
        "host_pages": optional(1),
        "host_bytes": optional(1),
        "max_repeats": optional(1),
        "max_parameters": optional(0),
    }
    flags: ClassVar[tuple[str, ...]] = ("drop_tracking", "meta_refresh", "srcset", "obey_nofollow", "obey_robots")

    def __post_init__(self) -> None:
        check_numbers(self, self.bounds)
        check_flags(self, self.flags)
        if not isinstance(self.scope, Scope):
            raise TypeError(f"scope: a Scope, not {shown(self.scope)}")
        if self.seed is not None:
            _check_seed(self.seed)
        for name, expressions in (("include", self.include), ("exclude", self.exclude)):
            if expressions != ():
                _check_patterns(name, expressions)
        if self.include or self.exclude:
            _check_size(self.include, self.exclude)


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One URL to look at."""

    url: str  # canonical
    depth: int = 0
    parent: str | None = None
    settings: CrawlSettings = CrawlSettings()
    redirects: int = 0  # on the way from the last page to this URL
    lastmod: float | None = None  # what a sitemap said of it, seconds since the epoch
    slot: float | None = None  # the moment that was reserved at the URL's host
    generation: int = 0  # of the host row when the slot was reserved

    bounds: ClassVar[dict[str, Bounds]] = {  # of what may come in a body
        "depth": Bounds(0, MAX_DEPTH),
        "redirects": Bounds(0, MAX_COUNT),
        "lastmod": Bounds(_FIRST_MOMENT, _LAST_MOMENT, is_whole=False, may_be_none=True),
        "slot": Bounds(0, _LAST_MOMENT, is_whole=False, may_be_none=True),
        "generation": Bounds(0, MAX_COUNT),
    }

    @property
    def seed(self) -> str:
        """The URL that the scope is measured from."""
        return self.settings.seed or self.url

    @property
    def is_seed(self) -> bool:
        """It was put in by somebody, and not found on a page; or that is where such a one redirects to."""
        return self.depth == 0 and (self.parent is None or self.redirects > 0)


class BadBody(NamedTuple):
    """A body that is no message: it is left to reach the dead-letter queue."""

    why: str


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Message)
_settings_decoder = msgspec.json.Decoder(CrawlSettings)


def encode_message(message: Message) -> str:
    """The JSON body of a message; what has its default value is left out."""
    return _encoder.encode(message).decode()


def decode_message(body: str) -> Message | BadBody:
    """A message from a body: a JSON object with at least ``url``, or a plain URL.

    Never raises. Whatever is out of its bounds makes the whole body a bad one.
    """
    if len(body) > MAX_BODY_CHARACTERS:
        return BadBody(f"not a message: longer than {MAX_BODY_CHARACTERS:,} characters")
    text = body.strip()
    if text.startswith("{"):
        try:
            message = _decoder.decode(text)
            check_numbers(message, Message.bounds)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return BadBody(f"not a message: {error}")
        if message.parent is not None and len(message.parent) > MAX_URL_BYTES:
            return BadBody(f"not a message: parent: longer than {MAX_URL_BYTES} characters")
    else:
        message = Message(url=text)
    url = canonicalize(message.url, drop_tracking=message.settings.drop_tracking)
    if isinstance(url, Refused):
        return BadBody(str(url))
    return message if url == message.url else msgspec.structs.replace(message, url=url)


def encode_settings(settings: CrawlSettings) -> str:
    """The settings as JSON, for a frontier to keep beside a record."""
    return _encoder.encode(settings).decode()


@functools.lru_cache(maxsize=1024)
def measured_from(settings: CrawlSettings, seed: str) -> CrawlSettings:
    """The settings with a scope that is measured from a seed: what its pages' links inherit."""
    return settings if settings.seed == seed else msgspec.structs.replace(settings, seed=seed)


def decode_settings(text: str) -> CrawlSettings:
    """The settings back from :func:`encode_settings`. Raises ``msgspec.MsgspecError``."""
    return _settings_decoder.decode(text)


@functools.lru_cache(maxsize=256)
def compiled(expressions: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """Regular expressions, ready to be searched for. Raises ``ValueError`` for one that is none.

    Each by itself: what one says of groups and flags must not reach another.
    """
    patterns = []
    search = Search()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a later Python may read otherwise: it is no news for a log
        for expression in expressions:
            try:
                expression.encode()  # no message can carry half a character, as of a byte that is no UTF-8
                with search.limited():
                    patterns.append(re.compile(expression))
            except TooSlowError:
                raise ValueError(f"{shown(expression)} takes too long to be read") from None
            except (re.error, OverflowError, RecursionError, UnicodeEncodeError) as error:
                raise ValueError(f"{shown(expression)} is no regular expression: {error}") from None
    return tuple(patterns)


def _check_patterns(name: str, expressions: tuple[str, ...]) -> None:
    if texts_of(name, expressions) is not expressions:
        raise TypeError(f"{name}: a tuple of regular expressions, not {shown(expressions)}")
    if len(expressions) > MAX_PATTERNS:
        raise ValueError(f"{name}: at most {MAX_PATTERNS} regular expressions, not {len(expressions):,}")
    if any(len(expression) > MAX_PATTERN_CHARACTERS for expression in expressions):
        raise ValueError(f"{name}: a regular expression of more than {MAX_PATTERN_CHARACTERS:,} characters")
    try:
        compiled(expressions)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _check_size(include: tuple[str, ...], exclude: tuple[str, ...]) -> None:
    size = len(msgspec.json.encode((include, exclude)))
    if size > MAX_PATTERNS_BYTES:
        raise ValueError(f"include: with exclude at most {MAX_PATTERNS_BYTES:,} bytes in a message, not {size:,}")


def _check_seed(seed: object) -> None:
    if not isinstance(seed, str):
        raise TypeError(f"seed: a text, not {shown(seed)}")
    if not _is_canonical(seed):
        raise ValueError(f"seed: a URL in canonical form, not {shown(redact_url(seed))}")


@functools.lru_cache(maxsize=256)
def _is_canonical(url: str) -> bool:
    return canonicalize(url) == url
