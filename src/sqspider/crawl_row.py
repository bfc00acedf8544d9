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

from sqspider import secret
from sqspider.checks import Range, check_flags, check_header, check_line, check_numbers, optional, printable, shown
from sqspider.crawl_settings import CrawlSettings
from sqspider.record import Reason
from sqspider.redact import redact_url
from sqspider.url import canonicalize, origin_of

_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")
_ID: Final = re.compile(r"[0-9a-f]{1,32}")
MOST_WORDS: Final = 200  # characters of why a row cannot be read: whoever wrote it may have chosen them


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


def is_name(name: object) -> bool:
    """Whether it names a crawl."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


UNKNOWN_ID: Final = "0"  # of a crawl whose row cannot be read, where that does not even tell which it is


class State(enum.StrEnum):
    """Whether a crawl is worked on: see the module's docstring."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How much a crawl takes in all, over all of its runs. What is reached stops it; it is raised by `crawls set`."""

    pages: int | None = None  # fetched, redirects not counted
    bytes: int | None = None  # decoded
    seconds: float | None = None  # since it was made
    dollars: float | None = None  # of the frontier's whole bill; where nobody charges it means nothing

    ranges: ClassVar[dict[str, Range]] = {
        "pages": optional(1),
        "bytes": optional(1),
        "seconds": Range(1, is_whole=False, may_be_none=True),
        "dollars": Range(0.01, is_whole=False, may_be_none=True),
    }

    def __post_init__(self) -> None:
        check_numbers(self, self.ranges)

    @property
    def are_counted(self) -> bool:
        """Pages or bytes are limited: what is taken of them is counted."""
        return self.pages is not None or self.bytes is not None


class Identity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
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
    timeout_seconds: float | None = None  # the worker's own limits hold as well, as for the next one
    max_bytes: int | None = None

    ranges: ClassVar[dict[str, Range]] = {
        "timeout_seconds": Range(0.1, 3600, is_whole=False, may_be_none=True),
        "max_bytes": optional(1),
    }

    def __post_init__(self) -> None:
        check_numbers(self, self.ranges)
        check_flags(self, ("http2", "allow_private", "allow_any_port"))
        for name in ("user_agent", "contact"):
            if getattr(self, name) is not None:
                check_header(name, getattr(self, name))
        for name in ("ca_file", "client_cert", "client_key"):
            if getattr(self, name) is not None:
                check_line(name, getattr(self, name))
        if self.proxy is not None:
            _check_proxy(self.proxy)
        for name, value in self.headers:
            secret.check_field_name("headers", name)
            secret.check_value("headers", name, value)
        for name, value in self.cookies:
            secret.check_field_name("cookies", name)
            secret.check_secret(f"cookies {name}", value)
        if self.login is not None:
            secret.check_login("login", self.login)
        if self.bearer is not None:
            secret.check_secret("bearer", self.bearer)
        _check_credentials(self)

    @property
    def is_known_to_hosts(self) -> bool:
        """It shows hosts something that is meant for some of them alone."""
        return bool(self.headers or self.cookies or self.login or self.bearer)


def _check_proxy(proxy: str) -> None:
    if secret.is_reference(proxy):
        secret.check_secret("proxy", proxy)
        return
    check_line("proxy", proxy)
    if redact_url(proxy) != proxy:
        raise ValueError(f"proxy: a password is not written down: say where the whole URL is to be found, {secret.HOW}")


def _check_credentials(identity: Identity) -> None:
    """To whom they go is said, once and for all; and each header once."""
    for origin in identity.origins:
        url = canonicalize(f"{origin}/")
        if not isinstance(url, str) or origin_of(url) != origin:
            raise ValueError(f"origins: scheme, host and port alone, as https://example.com, not {shown(origin)}")
    if identity.is_known_to_hosts and not identity.origins:
        raise ValueError("origins: say to which origins headers, cookies and log-ins go: https://example.com")
    names = [name.lower() for name, _ in identity.headers]
    names += ["authorization"] * ((identity.login is not None) + (identity.bearer is not None))
    names += ["cookie"] * bool(identity.cookies)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"headers: {twice} is said twice")


class Widening(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a wider limit lets come back, as long as that is not done (see :mod:`sqspider.widening`)."""

    at: float  # seconds since the epoch: what was claimed before this moment comes back
    reasons: tuple[Reason, ...] = ()  # what was blocked for one of these
    pages_from_depth: int | None = None  # and pages that are so deep, whose links were not followed
    checked: bool = False  # and what was only checked, for it lay outside of the scope


class Crawl(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
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
    counted_since: int = 0  # the version that set limits of pages or bytes, after one without; the frontier says so
    widening: Widening | None = None  # what is still to come back by a limit that was widened
    unreadable: str = ""  # why the row cannot be read; all but name and id is made up then, and nobody works on it

    def __post_init__(self) -> None:
        check_name(self.name)
        if not _ID.fullmatch(self.id):
            raise ValueError(f"id: hexadecimal digits, not {shown(self.id)}")

    @property
    def ref(self) -> CrawlRef:
        return CrawlRef(self.name, self.id)

    @property
    def is_as_made(self) -> bool:
        """Nothing was written since it was made but where it is measured from: what was found goes by it still."""
        return self.version <= 1 + self.seeds_version

    @property
    def may_have_rested(self) -> bool:
        """Something of it may have been put aside: not where it has no limit, and nobody has said a word since."""
        return not self.is_as_made or self.limits != Limits()


class _Settings(msgspec.Struct):
    """The names of a row's settings."""

    settings: dict[str, msgspec.Raw] = {}


_decoder: Final = msgspec.json.Decoder(Crawl)
_settings_decoder: Final = msgspec.json.Decoder(_Settings)
_SETTINGS: Final = frozenset(CrawlSettings.__struct_fields__)
_encoder: Final = msgspec.json.Encoder()


def encode_crawl(crawl: Crawl) -> str:
    """A row as JSON, for a frontier to keep."""
    return _encoder.encode(crawl).decode()


def decode_crawl(text: str | bytes) -> Crawl:
    """Back from :func:`encode_crawl`. Raises ``msgspec.MsgspecError``; for a field that is not known, too: whoever
    writes the row would lose what a later version has said."""
    crawl = _decoder.decode(text)
    for name in _settings_decoder.decode(text).settings.keys() - _SETTINGS:
        raise msgspec.ValidationError(f"Object contains unknown field `{name}` - at `$.settings`")
    return crawl


def read_crawl(ref: CrawlRef, text: str | bytes) -> Crawl:
    """A crawl as its row says. One that cannot be read, or says that it is another one's, says so itself, so that it
    hides no other."""
    try:
        crawl = decode_crawl(text)
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        why = str(error)
    else:
        if crawl.name == ref.name and ref.id in (crawl.id, UNKNOWN_ID):
            return crawl
        why = f"it is that of {crawl.ref}"
    words = f"damaged, or a later version's: {printable(why[:MOST_WORDS])}"
    return Crawl(name=ref.name, id=ref.id, unreadable=words)


def unreadable_words(crawl: Crawl) -> str:
    """What is said to whoever gives an order for a crawl whose row cannot be read."""
    return (
        f"the row of the crawl {crawl.name} cannot be read: {crawl.unreadable}. Its URLs wait for a version that can, "
        f"and `sqspider crawls remove {crawl.name}` removes it"
    )
