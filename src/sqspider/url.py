"""URLs: one canonical form per resource, the host and origin of it, and the scope of a crawl.

The canonical form is what the WHATWG URL standard serialises, without the fragment. Nothing is
folded beyond that (``docs/urls.md`` says why). No I/O lives here.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import re
from typing import TYPE_CHECKING, Final, NamedTuple

import ada_url

from sqspider.record import Reason
from sqspider.redact import redact_url

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

MAX_URL_BYTES: Final = 1980  # a crawl's name of 64 goes before it in a key, which DynamoDB lets be 2,048
FIRST_MAX_URL_BYTES: Final = 2048  # of the first version: what is recorded or in flight from then stays what it is
MAX_HOST_CHARACTERS: Final = 253  # RFC 1035 section 2.3.4: 255 octets, of which two are not written

# Parameters that name a campaign or a click, never a resource.
_TRACKING_PARAMETER: Final = re.compile(
    r"^(?:utm_[^=]*|gclid|gclsrc|dclid|gbraid|wbraid|fbclid|msclkid|yclid|twclid|ttclid|igshid"
    r"|mc_cid|mc_eid|_hsenc|_hsmi|mkt_tok)(?:=|$)"
)
_SCHEME: Final = re.compile(r"[\x00-\x20]*([A-Za-z][A-Za-z0-9+.\-]*):")


class Refused(NamedTuple):
    """A text that is not a URL we crawl, and why."""

    reason: Reason
    text: str  # as it came: it may hold a password, so people are shown ``shown``
    advice: str = ""  # what to do about it

    @property
    def explanation(self) -> str:
        return _REFUSALS[self.reason]

    @property
    def shown(self) -> str:
        """The text in quotes, shortened, without user name and password."""
        return repr(redact_url(self.text)[:200])

    def __str__(self) -> str:
        advice = f" ({self.advice})" if self.advice else ""
        return f"{self.explanation}: {self.shown}{advice}"

    def __repr__(self) -> str:
        return f"Refused({self.reason!r}, {self.shown})"


_REFUSALS: Final = {
    Reason.BAD_URL: "not a valid URL",
    Reason.BAD_SCHEME: "neither http nor https",
    Reason.NO_HOST: "no host",
    Reason.USER_INFO: "carries a user name or password",
    Reason.URL_TOO_LONG: f"longer than {MAX_URL_BYTES:,} bytes, or its host than {MAX_HOST_CHARACTERS}",
}


def canonicalize(
    text: str, base: str | None = None, *, drop_tracking: bool = False, most_bytes: int = MAX_URL_BYTES
) -> str | Refused:
    """The canonical form of a URL, or why it is refused.

    ``text`` may be relative if ``base`` (an absolute URL) is given. The result is what the WHATWG
    URL standard (https://url.spec.whatwg.org/) serialises, less the fragment; canonicalising it
    again changes nothing. ``drop_tracking`` takes out parameters that only name a campaign.
    """
    try:
        href = ada_url.join_url(base, text) if base is not None else ada_url.normalize_url(text)
    except ValueError:
        sound = _without_lone_surrogates(text)
        if sound != text:
            return canonicalize(sound, base, drop_tracking=drop_tracking, most_bytes=most_bytes)
        return Refused(_why_unparsable(text), text)
    return _accept(href, text, drop_tracking, most_bytes)


def _without_lone_surrogates(text: str) -> str:
    """The standard's UTF-8 encoder writes U+FFFD in place of a lone surrogate."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _why_unparsable(text: str) -> Reason:
    scheme = _SCHEME.match(text)
    if scheme is None:
        return Reason.BAD_URL
    if scheme[1].lower() not in ("http", "https"):
        return Reason.BAD_SCHEME
    return Reason.NO_HOST if not text[scheme.end() :].strip("/\\ \t\r\n") else Reason.BAD_URL


def _accept(href: str, text: str, drop_tracking: bool, most_bytes: int) -> str | Refused:
    if not href.startswith(("http://", "https://")):
        return Refused(Reason.BAD_SCHEME, text)
    fragment = href.find("#")
    if fragment >= 0:
        href = href[:fragment]
    if "@" in href and "@" in href.split("/", 3)[2]:
        return Refused(Reason.USER_INFO, text)
    if drop_tracking and "?" in href:
        href = without_tracking(href)
    # The serialisation is ASCII: characters are bytes.
    if len(href) > most_bytes or (len(href) > MAX_HOST_CHARACTERS and len(host_of(href)) > MAX_HOST_CHARACTERS):
        return Refused(Reason.URL_TOO_LONG, text)
    return href


_PLAIN: Final = re.compile(r"https?://[a-z0-9_.-]*[a-z0-9_-](?::[0-9]+)?/")  # it is canonical as far as its path
_MOST_BYTES: Final = 1_000_000  # of a URL whose host is looked for
_CUT: Final = re.compile(r"~cut-[0-9a-f]{64}")


def cut_to_length(text: str, base: str, *, drop_tracking: bool = False) -> str | None:
    """A name for a URL that :func:`canonicalize` refuses as too long, by which a record can tell of it: its
    beginning and a digest of the whole, in canonical form and of just the length that a URL may have.

    ``None`` if it is the host that is too long: there is no such machine for a record to be of.
    """
    href: str = ada_url.join_url(base, text).partition("#")[0]
    if drop_tracking and "?" in href:
        href = without_tracking(href)
    if len(host_of(href)) > MAX_HOST_CHARACTERS:
        return None
    mark = f"~cut-{hashlib.sha256(href.encode()).hexdigest()}"
    return href[: MAX_URL_BYTES - len(mark)] + mark


def is_cut(url: str) -> bool:
    """Whether a URL is a name that :func:`cut_to_length` gave."""
    return len(url) in (MAX_URL_BYTES, FIRST_MAX_URL_BYTES) and _CUT.fullmatch(url, len(url) - 69) is not None


def without_tracking(href: str) -> str:
    """A canonical URL without parameters that only name a campaign."""
    address, sign, query = href.partition("?")
    if not sign:
        return href
    kept = [part for part in query.split("&") if not _TRACKING_PARAMETER.match(part)]
    return f"{address}?{'&'.join(kept)}" if kept else address


def authority_of(url: str) -> str:
    """Host and port of a canonical URL, the port only where it is not the scheme's own.

    The dot that may end a name says nothing (RFC 1034 section 3.1), so it is left out here: with and
    without it, it is one machine. The URL keeps it, for a server may look at it.
    """
    authority = url.split("/", 3)[2]
    return authority.replace(".:", ":").removesuffix(".") or authority


def host_of(url: str) -> str:
    """The host of a canonical URL: a name without a dot at its end, an IPv4 address or a bracketed IPv6 one.

    Politeness counts by host, whatever the port: it is one machine that answers.
    """
    authority = authority_of(url)
    return authority if authority.endswith("]") else authority.rsplit(":", 1)[0]


def host_in(url: str) -> str:
    """The host of a URL as anybody may have written it, as :func:`host_of` has it; empty: it has none, as ``urn:`` and
    ``dns:`` ones, which stand in others' archives."""
    canonical = url if _PLAIN.match(url) else canonicalize(url, most_bytes=_MOST_BYTES)
    return host_of(canonical) if isinstance(canonical, str) else ""


def canonical_host(text: str) -> str | Refused:
    """The host that a person names, as :func:`host_of` has it of a URL, or why it is none.

    An IPv6 address may stand without its brackets; a scheme, a port, a path make it no host.
    """
    name = text.strip()
    if name.count(":") > 1 and "[" not in name:
        name = f"[{name}]"
    if set(name) & set("/\\?#@") or (":" in name and not name.endswith("]")):
        return Refused(Reason.NO_HOST, text)
    url = canonicalize(f"http://{name}/")
    if isinstance(url, Refused):
        return Refused(url.reason, text)
    host = host_of(url)
    is_name = host == "." or not host.endswith(".")  # of two dots at its end one is left
    return host if is_name else Refused(Reason.NO_HOST, text)


def origin_of(url: str) -> str:
    """Scheme, host and port of a canonical URL (RFC 6454), without a trailing slash."""
    return url[: url.index("/", 8)]


class Scope(enum.StrEnum):
    """Which links of a page are followed, measured from the seed."""

    PAGE = "page"  # none: only the URLs that were asked for
    PREFIX = "prefix"  # URLs that begin with the seed's directory
    HOST = "host"  # the seed's host and port, over http or https
    DOMAIN = "domain"  # the seed's registrable domain and all below it
    ANY = "any"  # everything


def in_scope(url: str, scope: Scope, seed: str) -> bool:
    """Whether a canonical URL lies in a scope that is measured from a canonical seed."""
    match scope:
        case Scope.ANY:
            return True
        case Scope.PAGE:
            return url == seed
        case Scope.PREFIX:
            return is_below(url, directory_of(seed))
        case Scope.HOST:
            return authority_of(url) == authority_of(seed)
        case Scope.DOMAIN:
            return registrable_domain(host_of(url)) == registrable_domain(host_of(seed))


def is_below(url: str, directory: str) -> bool:
    """Whether a canonical URL begins with what :func:`directory_of` gave for another."""
    return _undotted(url).startswith(directory)


def _undotted(url: str) -> str:
    """A canonical URL without the dot at the end of its host."""
    scheme, _, _, path = url.split("/", 3)
    return f"{scheme}//{authority_of(url)}/{path}"


@functools.lru_cache(maxsize=1024)
def directory_of(url: str) -> str:
    """A canonical URL up to the last slash of its path, without a dot at the end of its host."""
    return _undotted(url).partition("?")[0].rpartition("/")[0] + "/"


@functools.lru_cache(maxsize=8192)
def registrable_domain(host: str) -> str:
    """The part of a host that somebody registered, by the public suffix list (with its private
    part); the host itself where there is none: an address, a bare suffix, a single label."""
    if host.endswith("]") or host.rpartition(".")[2].isdigit():
        return host
    return _suffixes().privatesuffix(host) or host


@functools.cache
def _suffixes() -> PublicSuffixList:
    # Imported here: reading the list takes longer than all else at start-up, and only
    # the domain scope needs it.
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()
