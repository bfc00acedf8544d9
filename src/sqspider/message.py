"""What travels in the queue: one URL and the settings of the crawl it belongs to.

A message says "look at this URL", never "this URL is yours". A body is a JSON object, or a plain
URL that anybody may send. No I/O lives here.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from sqspider.url import Refused, Scope, canonicalize


class CrawlSettings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a crawl goes on from a URL. It travels with every message, so any worker can work."""

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


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One URL to look at."""

    url: str  # canonical
    depth: int = 0
    parent: str | None = None
    settings: CrawlSettings = CrawlSettings()
    lastmod: float | None = None  # what a sitemap said of it, seconds since the epoch
    slot: float | None = None  # the moment that was reserved at the URL's host
    generation: int = 0  # of the host row when the slot was reserved

    @property
    def seed(self) -> str:
        """The URL that the scope is measured from."""
        return self.settings.seed or self.url

    @property
    def is_seed(self) -> bool:
        """It was put in by somebody, and not found on a page."""
        return self.depth == 0 and self.parent is None


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
    """A message from a body: a JSON object with at least ``url``, or a plain URL."""
    text = body.strip()
    if text.startswith("{"):
        try:
            message = _decoder.decode(text)
        except (msgspec.MsgspecError, UnicodeEncodeError) as error:
            return BadBody(f"not a message: {error}")
    else:
        message = Message(url=text)
    url = canonicalize(message.url, drop_tracking=message.settings.drop_tracking)
    if isinstance(url, Refused):
        return BadBody(str(url))
    if message.depth < 0 or message.settings.delay_seconds < 0 or message.settings.per_host < 1:
        return BadBody("not a message: a negative depth or delay, or per_host below 1")
    return message if url == message.url else msgspec.structs.replace(message, url=url)


def encode_settings(settings: CrawlSettings) -> str:
    """The settings as JSON, for a frontier to keep beside a record."""
    return _encoder.encode(settings).decode()


def decode_settings(text: str) -> CrawlSettings:
    """The settings back from :func:`encode_settings`. Raises ``msgspec.MsgspecError``."""
    return _settings_decoder.decode(text)
