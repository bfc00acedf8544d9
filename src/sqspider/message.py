"""What travels in the queue: one URL, and the name of the crawl it belongs to.

A message says "look at this URL", never "this URL is yours". A body is a JSON object, or a plain
URL that anybody may send: whatever is in it is bounded here, so that no message can harm a worker
or be more than a frontier can hold. No I/O lives here.

    {"u": URL, "c": CRAWL, …}   a crawl's: its settings stand in the crawl's row. Workers of the first
                                version, which know of no crawls, refuse it
    {"url": URL, …}             of the first version: it carries its settings itself
    URL                         one page, with a delay of a second
"""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple

import msgspec

from sqspider.checks import MAX_COUNT, Range, check_numbers
from sqspider.crawl_row import CrawlRef
from sqspider.crawl_settings import CrawlSettings
from sqspider.record import DEFAULT_CRAWL, REQUISITE_DEPTH, record_key
from sqspider.url import FIRST_MAX_URL_BYTES, MAX_URL_BYTES, Refused, canonicalize

MAX_BODY_CHARACTERS: Final = 256 * 1024
_FIRST_MOMENT: Final = -62_135_596_800.0  # the year 1
_LAST_MOMENT: Final = 253_402_300_799.0  # the year 9999


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One URL to look at."""

    url: str  # canonical
    depth: int = 0
    parent: str | None = None
    settings: CrawlSettings = CrawlSettings()  # of a crawl's message: as the worker has read them in the crawl's row
    redirects: int = 0  # on the way from the last page to this URL
    lastmod: float | None = None  # what a sitemap said of it, seconds since the epoch
    slot: float | None = None  # the moment that was reserved at the URL's host
    generation: int = 0  # of the host row when the slot was reserved
    crawl: CrawlRef | None = None  # none: it goes by its own settings, and its record is one of the default crawl's

    ranges: ClassVar[dict[str, Range]] = {  # of what may come in a body
        "depth": Range(0, REQUISITE_DEPTH),
        "redirects": Range(0, MAX_COUNT),
        "lastmod": Range(_FIRST_MOMENT, _LAST_MOMENT, is_whole=False, may_be_none=True),
        "slot": Range(0, _LAST_MOMENT, is_whole=False, may_be_none=True),
        "generation": Range(0, MAX_COUNT),
    }

    @property
    def key(self) -> str:
        """By what its record is found."""
        return self.url if self.crawl is None else record_key(self.url, self.crawl.name)

    @property
    def crawl_name(self) -> str:
        """The crawl in whose place its record is."""
        return DEFAULT_CRAWL if self.crawl is None else self.crawl.name

    def key_of(self, url: str) -> str:
        """By what the record of another URL in the same crawl is found."""
        return url if self.crawl is None else record_key(url, self.crawl.name)

    @property
    def keeps_skipped(self) -> bool:
        """What is not followed is recorded, too. Not of a message that names no crawl: there are workers that would
        fetch it."""
        return self.settings.keep_skipped and self.crawl is not None

    @property
    def checks_external(self) -> bool:
        """What lies outside of the scope is recorded, to be asked for once. As :attr:`keeps_skipped`."""
        return self.settings.check_external and self.crawl is not None

    @property
    def fetches_assets(self) -> bool:
        """What pages need to be shown is recorded, to be fetched. As :attr:`keeps_skipped`."""
        return self.settings.assets and self.crawl is not None

    @property
    def is_requisite(self) -> bool:
        """A page needs it to be shown, and nothing else led to it: as :attr:`UrlRecord.is_requisite`."""
        return self.depth == REQUISITE_DEPTH

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


class _OfCrawl(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A crawl's message, as its body has it. A field that is not known is refused: it may mean something."""

    u: str
    c: str
    d: int = 0
    p: str | None = None
    r: int = 0
    l: float | None = None  # noqa: E741 - the bodies are short
    s: float | None = None
    g: int = 0


class _Loose(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message of the first version, as its body has it."""

    url: str
    depth: int = 0
    parent: str | None = None
    settings: CrawlSettings = CrawlSettings()
    redirects: int = 0
    lastmod: float | None = None
    slot: float | None = None
    generation: int = 0


_encoder = msgspec.json.Encoder()
_of_crawl_decoder = msgspec.json.Decoder(_OfCrawl)
_loose_decoder = msgspec.json.Decoder(_Loose)
_kind_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def encode_message(message: Message) -> str:
    """The JSON body of a message; what has its default value is left out."""
    if message.crawl is None:
        body: _OfCrawl | _Loose = _Loose(
            url=message.url,
            depth=message.depth,
            parent=message.parent,
            settings=message.settings,
            redirects=message.redirects,
            lastmod=message.lastmod,
            slot=message.slot,
            generation=message.generation,
        )
    else:
        body = _OfCrawl(
            u=message.url,
            c=str(message.crawl),
            d=message.depth,
            p=message.parent,
            r=message.redirects,
            l=message.lastmod,
            s=message.slot,
            g=message.generation,
        )
    return _encoder.encode(body).decode()


def _decoded(text: str) -> Message:
    """A message from a JSON object, not yet looked at. Raises ``msgspec.MsgspecError``, ``ValueError``."""
    if '"u"' in text and "u" in _kind_decoder.decode(text):
        short = _of_crawl_decoder.decode(text)
        return Message(
            url=short.u,
            crawl=CrawlRef.parse(short.c),
            depth=short.d,
            parent=short.p,
            redirects=short.r,
            lastmod=short.l,
            slot=short.s,
            generation=short.g,
        )
    loose = _loose_decoder.decode(text)
    return Message(**msgspec.structs.asdict(loose))


def decode_message(body: str) -> Message | BadBody:
    """A message from a body: a JSON object with at least ``url``, or a plain URL.

    Never raises. Whatever is out of its bounds makes the whole body a bad one.
    """
    if len(body) > MAX_BODY_CHARACTERS:
        return BadBody(f"not a message: longer than {MAX_BODY_CHARACTERS:,} characters")
    text = body.strip()
    if text.startswith("{"):
        try:
            message = _decoded(text)
            check_numbers(message, Message.ranges)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return BadBody(f"not a message: {error}")
        if message.parent is not None and len(message.parent) > FIRST_MAX_URL_BYTES:
            return BadBody(f"not a message: parent: longer than {FIRST_MAX_URL_BYTES:,} characters")
        most_bytes = FIRST_MAX_URL_BYTES if message.crawl is None else MAX_URL_BYTES
    else:
        message, most_bytes = Message(url=text), MAX_URL_BYTES
    url = canonicalize(message.url, drop_tracking=message.settings.drop_tracking, most_bytes=most_bytes)
    if isinstance(url, Refused):
        return BadBody(str(url))
    return message if url == message.url else msgspec.structs.replace(message, url=url)
