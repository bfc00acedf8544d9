"""A crawl: a named job, what it may do and how it goes about it. No I/O lives here.

It is a row in the frontier that every worker reads, and that changes while it runs; a message names it, and carries
none of its settings. What is written in the row is a wish: what goes beyond the ordinary holds only where the worker's
own start allows it, too, so that whoever can write rows gains nothing.

    state    who says so                  its messages
    -------  ---------------------------  ---------------------------------------------------------------
    running  `crawl`, `crawls resume`     are worked on; with none left open it is finished
    paused   `crawls pause`               are put aside, and come back when it runs again
    stopped  `crawls stop`                the same; what says so differs: it is not meant to go on by itself

A crawl's records are its own: the same URL in two crawls is two records, told apart by their keys.
"""

from __future__ import annotations

import enum
import re
from typing import ClassVar, Final, NamedTuple

import msgspec

from sqspider.checks import Range, check_numbers, optional, shown
from sqspider.crawls import CrawlSettings
from sqspider.record import Reason

_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")
_ID: Final = re.compile(r"[0-9a-f]{1,32}")


class CrawlRef(NamedTuple):
    """By which messages and records name a crawl."""

    name: str
    id: str  # never used twice: a crawl that is removed and made anew has another

    def __str__(self) -> str:
        return f"{self.name}.{self.id}"

    @classmethod
    def parse(cls, text: str) -> CrawlRef:
        """Back from its text. Raises ``ValueError``."""
        name, _, id_ = text.partition(".")
        if not _NAME.fullmatch(name) or not _ID.fullmatch(id_):
            raise ValueError(f"crawl: NAME.ID, not {shown(text)}")
        return cls(name, id_)


def check_name(name: object) -> None:
    """Raise ``TypeError`` or ``ValueError`` for what names no crawl."""
    if not isinstance(name, str):
        raise TypeError(f"crawl: a name, not {shown(name)}")
    if not _NAME.fullmatch(name):
        raise ValueError(f"crawl: a name of 1 to 64 of a-z, 0-9, - and _, not {shown(name)}")


class State(enum.StrEnum):
    """Whether a crawl is worked on: see the module's docstring."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much a crawl takes in all, over all of its runs. What is reached stops it; it is raised by `crawls set`."""

    pages: int | None = None  # fetched, redirects not counted
    bytes: int | None = None  # decoded
    seconds: float | None = None  # since it was made
    dollars: float | None = None  # of the frontier's bill since it was made; where nobody charges it means nothing

    ranges: ClassVar[dict[str, Range]] = {
        "pages": optional(1),
        "bytes": optional(1),
        "seconds": Range(1, is_whole=False, may_be_none=True),
        "dollars": Range(0.01, is_whole=False, may_be_none=True),
    }

    def __post_init__(self) -> None:
        check_numbers(self, self.ranges)


class Identity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a crawl fetches, and as whom. What is secret stands here only as where it is to be found
    (see :mod:`sqspider.secret`). None: as the worker does by itself.
    """

    user_agent: str | None = None
    contact: str | None = None
    proxy: str | None = None  # a URL without a password, or where one is to be found
    headers: tuple[tuple[str, str], ...] = ()  # sent to ``origins`` alone, as are the next three
    cookies: tuple[tuple[str, str], ...] = ()
    login: str | None = None  # of HTTP's basic authentication: USER:PASSWORD, the password a secret (RFC 7617)
    bearer: str | None = None  # a token (RFC 6750)
    origins: tuple[str, ...] = ()
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    http2: bool = False
    allow_private: bool = False  # good only where the worker's start allows it, as are the next one and ``proxy``
    allow_any_port: bool = False
    timeout_seconds: float | None = None
    max_bytes: int | None = None


class Widening(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a wider limit lets come back, as long as that is not done (see :mod:`sqspider.widening`)."""

    at: float  # seconds since the epoch: what ended before this moment comes back
    reasons: tuple[Reason, ...] = ()  # what was blocked for one of these
    pages_from_depth: int | None = None  # and pages that are so deep, whose links were not followed


class Crawl(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The row of a crawl.

    Raises ``TypeError`` or ``ValueError`` for what is out of bounds, in words that begin with the field's name.
    """

    name: str
    id: str
    version: int = 0  # raised by every write; 0: it is not in a frontier yet
    state: State = State.RUNNING
    settings: CrawlSettings = CrawlSettings()  # without a seed: the scope is measured from all seeds of the crawl
    identity: Identity = Identity()
    limits: Limits = Limits()
    seeds: tuple[str, ...] = ()  # the first that were given, for a person
    seeds_version: int = 0  # raised when its scope grew by a seed: what was found to lie outside may lie within
    created_at: float = 0.0
    widening: Widening | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        if not _ID.fullmatch(self.id):
            raise ValueError(f"id: hexadecimal digits, not {shown(self.id)}")

    @property
    def ref(self) -> CrawlRef:
        return CrawlRef(self.name, self.id)


_decoder: Final = msgspec.json.Decoder(Crawl)
_encoder: Final = msgspec.json.Encoder()


def encode_crawl(crawl: Crawl) -> str:
    """A row as JSON, for a frontier to keep."""
    return _encoder.encode(crawl).decode()


def decode_crawl(text: str | bytes) -> Crawl:
    """Back from :func:`encode_crawl`. Raises ``msgspec.MsgspecError``."""
    return _decoder.decode(text)
