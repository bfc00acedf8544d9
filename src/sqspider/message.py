"""What travels in the queue: one URL and the settings of the crawl it belongs to.

A message says "look at this URL", never "this URL is yours". A body is a JSON object, or a plain
URL that anybody may send: whatever is in it is bounded here, so that no message can harm a worker
or be more than a frontier can hold. No I/O lives here.
"""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple

import msgspec

from sqspider.checks import MAX_COUNT, Range, check_numbers
from sqspider.crawls import MAX_DEPTH, CrawlSettings
from sqspider.url import MAX_URL_BYTES, Refused, canonicalize

MAX_BODY_CHARACTERS: Final = 256 * 1024
_FIRST_MOMENT: Final = -62_135_596_800.0  # the year 1
_LAST_MOMENT: Final = 253_402_300_799.0  # the year 9999


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

    ranges: ClassVar[dict[str, Range]] = {  # of what may come in a body
        "depth": Range(0, MAX_DEPTH),
        "redirects": Range(0, MAX_COUNT),
        "lastmod": Range(_FIRST_MOMENT, _LAST_MOMENT, is_whole=False, may_be_none=True),
        "slot": Range(0, _LAST_MOMENT, is_whole=False, may_be_none=True),
        "generation": Range(0, MAX_COUNT),
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
            check_numbers(message, Message.ranges)
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
