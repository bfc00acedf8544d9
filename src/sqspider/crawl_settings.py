"""A crawl's settings: how it goes on from a URL, and every check of what they may be. No I/O lives here."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Iterable
from itertools import chain
from typing import ClassVar, Final

import msgspec

from sqspider.checks import Range, check_flags, check_numbers, optional, seconds, shown, texts_of
from sqspider.patterns import Search, TooSlowError
from sqspider.record import REQUISITE_DEPTH
from sqspider.redact import redact_url
from sqspider.url import FIRST_MAX_URL_BYTES, Scope, canonicalize

MAX_DEPTH: Final = REQUISITE_DEPTH - 1  # links from a seed; whoever goes deeper is in a trap
MAX_PATTERNS: Final = 100  # that a crawl includes, and as many that it excludes
MAX_PATTERN_CHARACTERS: Final = 2000  # of one of them
MAX_PATTERNS_BYTES: Final = 128 * 1024  # of all of them in a message: each URL carries them
MAX_KEPT_TYPES: Final = 100  # media types that a crawl names
MAX_TYPE_CHARACTERS: Final = 100  # of one of them
KEEPS_NOTHING: Final = ("none",)
SHORT_NAMES: Final = {
    "html": ("text/html", "application/xhtml+xml"),
    "pdf": ("application/pdf",),
    "image": ("image/*",),
    "audio": ("audio/*",),
    "video": ("video/*",),
    "text": ("text/*",),
    "json": ("application/json",),
    "xml": ("application/xml", "text/xml"),
    "zip": ("application/zip",),
}
"""What may be said for media types."""
_TOKEN: Final = r"[!#$%&'+.^_`|~0-9a-z-]+"  # of RFC 9110 section 5.6.2, in lower case and without the asterisk
_MEDIA_TYPE: Final = re.compile(rf"\*/\*|{_TOKEN}/(?:\*|{_TOKEN})")


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
    keep_skipped: bool = False  # record what is not followed, too, to end as blocked for that: where a crawl has a row
    check_external: bool = False  # ask once for what lies outside of the scope: where a crawl has a row
    assets: bool = False  # fetch what pages need to be shown, wherever it lies: where a crawl has a row
    obey_robots: bool = True
    delay_seconds: float = 1.0  # between two requests to one host; 0 only for one's own site
    max_crawl_delay_seconds: float = 60.0  # the most that a Crawl-delay in robots.txt can ask for
    per_host: int = 1  # requests to one host at a time, if there is a delay
    host_pages: int | None = None  # pages of one host
    host_bytes: int | None = None  # decoded bytes of one host
    max_repeats: int | None = None  # of one path segment in a URL
    max_parameters: int | None = None  # in a URL's query
    keep: tuple[str, ...] = ()  # media types that are archived ("text/html", "image/*"); empty: all; ("none",): nothing
    only: tuple[str, ...] = ()  # media types that are wanted, as in ``keep``: of others only pages are read, for links
    keep_bytes: int | None = None  # of a payload, as it was sent, that are archived; the rest is cut off and marked

    ranges: ClassVar[dict[str, Range]] = {
        "max_depth": optional(0, MAX_DEPTH),
        "max_crawl_delay_seconds": seconds(0, 86_400),
        "delay_seconds": seconds(0, 86_400),
        "per_host": Range(1, 1000),
        "host_pages": optional(1),
        "host_bytes": optional(1),
        "max_repeats": optional(1),
        "max_parameters": optional(0),
        "keep_bytes": optional(1),
    }
    flags: ClassVar[tuple[str, ...]] = (
        "drop_tracking", "meta_refresh", "srcset", "obey_nofollow", "keep_skipped", "check_external", "assets",
        "obey_robots",
    )  # fmt: skip

    def __post_init__(self) -> None:
        check_numbers(self, self.ranges)
        check_flags(self, self.flags)
        if not isinstance(self.scope, Scope):
            raise TypeError(f"scope: a Scope, not {shown(self.scope)}")
        if self.assets and (self.keep_skipped or self.check_external):
            other = "keep_skipped" if self.keep_skipped else "check_external"
            raise ValueError(
                f"assets: not together with {other}: what a page needs from outside could be only one of both. Make "
                "two crawls, each with a name of its own"
            )
        if self.seed is not None:
            _check_seed(self.seed)
        for name, expressions in (("include", self.include), ("exclude", self.exclude)):
            if expressions != ():
                _check_patterns(name, expressions)
        if self.include or self.exclude:
            _check_size(self.include, self.exclude)
        if self.keep not in ((), KEEPS_NOTHING):
            _check_media_types("keep", self.keep)
        if self.only != ():
            _check_media_types("only", self.only)

    def wants(self, media_type: str) -> bool:
        """Whether what is of a media type is what the crawl is for."""
        return not self.only or keeps_type(self.only, media_type)

    def keeps(self, media_type: str) -> bool:
        """Whether it is archived."""
        return keeps_type(self.keep, media_type) and self.wants(media_type)


def keeps_type(keep: tuple[str, ...], media_type: str) -> bool:
    """Whether a crawl with this ``keep`` wants pages of a media type archived."""
    if not keep or keep == KEEPS_NOTHING:
        return not keep
    kind = media_type.partition("/")[0]
    return any(wanted in (media_type, f"{kind}/*", "*/*") for wanted in keep)


def named_types(values: Iterable[str]) -> tuple[str, ...]:
    """Media types as they are written in settings: a short name stands for what it is of."""
    return tuple(dict.fromkeys(chain.from_iterable(SHORT_NAMES.get(value, (value,)) for value in values)))


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(CrawlSettings)


def encode_settings(settings: CrawlSettings) -> str:
    """The settings as JSON, for a frontier to keep beside a record."""
    return _encoder.encode(settings).decode()


@functools.lru_cache(maxsize=1024)
def measured_from(settings: CrawlSettings, seed: str) -> CrawlSettings:
    """The settings with a scope that is measured from a seed: what its pages' links inherit."""
    return settings if settings.seed == seed else msgspec.structs.replace(settings, seed=seed)


def decode_settings(text: str) -> CrawlSettings:
    """The settings back from :func:`encode_settings`. Raises ``msgspec.MsgspecError``."""
    return _decoder.decode(text)


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


def _check_media_types(name: str, keep: tuple[str, ...]) -> None:
    if texts_of(name, keep) is not keep:
        raise TypeError(f"{name}: a tuple of media types, not {shown(keep)}")
    if len(keep) > MAX_KEPT_TYPES:
        raise ValueError(f"{name}: at most {MAX_KEPT_TYPES} media types, not {len(keep):,}")
    for media_type in keep:
        if len(media_type) > MAX_TYPE_CHARACTERS:
            raise ValueError(f"{name}: a media type of more than {MAX_TYPE_CHARACTERS} characters")
        if name == "keep" and media_type in KEEPS_NOTHING:
            raise ValueError("keep: none stands alone: what is to be kept beside it?")
        if not _MEDIA_TYPE.fullmatch(media_type):
            short = ", ".join(SHORT_NAMES)
            known = f"a media type in lower case, as text/html, image/* or */*, or one of {short}"
            known += ", or none alone" if name == "keep" else ""
            raise ValueError(f"{name}: {known}, not {shown(media_type)}")


def _check_seed(seed: object) -> None:
    if not isinstance(seed, str):
        raise TypeError(f"seed: a text, not {shown(seed)}")
    if not _is_canonical(seed):
        raise ValueError(f"seed: a URL in canonical form, not {shown(redact_url(seed))}")


@functools.lru_cache(maxsize=256)
def _is_canonical(url: str) -> bool:
    return canonicalize(url, most_bytes=FIRST_MAX_URL_BYTES) == url
