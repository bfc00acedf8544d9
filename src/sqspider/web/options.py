"""The limits of a fetch, and how we call ourselves. Apart from ``fetch``: no HTTP client is loaded."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

import msgspec

from sqspider.checks import Range, check_flags, check_header, check_numbers, seconds, shown
from sqspider.redact import redact_url
from sqspider.version import VERSION

DEFAULT_USER_AGENT: Final = f"sqspider/{VERSION}"
_PROXIES: Final = ("http://", "https://", "socks5://", "socks5h://")
_IN_COMMENT: Final = re.compile(r"[()\\]")  # what is quoted there (RFC 9110 section 5.6.5)
_PRODUCT_TOKEN: Final = re.compile(r"[A-Za-z_-]+")
_COMPATIBLE: Final = re.compile(r"\s*Mozilla/[^(]*\(compatible; *([A-Za-z_-]+)")


class FetchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of every fetch, and how we call ourselves.

    Raises ``TypeError`` or ``ValueError`` for what is out of bounds, in words that begin with the field's name.
    """

    timeout_seconds: float = 10.0  # one request, from the connection to the end of its body
    max_bytes: int = 10 * 1024 * 1024  # decoded bytes kept of a body; the rest is cut off and marked
    allow_private: bool = False  # connect to addresses that are not public, too
    allow_any_port: bool = False  # and to ports of other services
    user_agent: str = DEFAULT_USER_AGENT
    contact: str | None = None  # sent as From (RFC 9110 section 10.1.2), and along with the default user agent
    proxy: str | None = None  # the environment's proxies are always ignored
    ca_file: str | None = None  # a file of certificates (PEM) to trust in place of the system's
    client_cert: str | None = None  # a file (PEM) with the certificate that hosts are shown, and those above it
    client_key: str | None = None  # a file (PEM) with its key; none: it lies with the certificate
    http2: bool = False  # speak HTTP/2 with https hosts that do; what fails by it is asked for by HTTP/1.1
    captures: bool = False  # keep what was on the wire, for an archive: the request's head, the payload as it was sent

    ranges: ClassVar[dict[str, Range]] = {
        "timeout_seconds": seconds(0.1, 3600),
        "max_bytes": Range(1),
    }

    def __post_init__(self) -> None:
        check_numbers(self, self.ranges)
        check_flags(self, ("allow_private", "allow_any_port", "http2", "captures"))
        check_header("user_agent", self.user_agent)
        if self.contact is not None:
            check_header("contact", self.contact)
        if self.proxy is not None:
            _check_proxy(self.proxy)
        _check_certificates(self)
        if self.http2:
            _check_http2()

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The fields as they may be shown: a proxy's password is not."""
        fields = [(name, getattr(self, name)) for name in self.__struct_fields__]
        return [(name, redact_url(value) if name == "proxy" and value else value) for name, value in fields]

    def __repr__(self) -> str:
        return f"FetchOptions({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    @property
    def sent_user_agent(self) -> str:
        """The header. Servers write it down, and seldom From: so our own name goes with whom to write to."""
        if self.contact is None or self.user_agent != DEFAULT_USER_AGENT:
            return self.user_agent
        contact = _IN_COMMENT.sub(r"\\\g<0>", self.contact)
        return f"{self.user_agent} (+{contact})"

    @property
    def product_token(self) -> str:
        """What robots.txt groups and directives in pages are looked up by: see :func:`product_token_of`."""
        return product_token_of(self.user_agent)


def product_token_of(user_agent: str) -> str:
    """The product token of a user agent (RFC 9309 section 2.2.1): the letters, ``_`` and ``-`` that it
    begins with, or, where it calls itself compatible as browsers do, those that come after that word.

    ``*``, the token of all, where there are none.
    """
    match = _COMPATIBLE.match(user_agent) or _PRODUCT_TOKEN.match(user_agent.strip())
    return match[match.lastindex or 0] if match else "*"


def _check_proxy(url: str) -> None:
    if not isinstance(url, str):
        raise TypeError(f"proxy: a text, not {shown(url)}")
    try:
        parts = urlsplit(url)
        # In small letters, as the transport reads it: it looks names up by it.
        is_good = url.startswith(_PROXIES) and bool(parts.hostname) and parts.port != 0
        is_good = is_good and url.isascii() and url.isprintable() and " " not in url
    except ValueError:  # a port that is none
        is_good = False
    if not is_good:
        raise ValueError(f"proxy: write http://HOST:PORT (or https, socks5, socks5h), not {redact_url(url)!r}")


def _check_certificates(options: FetchOptions) -> None:
    named = {name: getattr(options, name) for name in ("ca_file", "client_cert", "client_key")}
    for name, path in named.items():
        if path is not None and not isinstance(path, str):
            raise TypeError(f"{name}: a path as a text, not {shown(path)}")
    if named["client_key"] is not None and named["client_cert"] is None:
        raise ValueError("client_key: of no use without a client certificate")
    if all(path is None for path in named.values()):
        return
    from sqspider.transport import certificates  # here: most runs name no file

    name = "ca_file"
    try:
        if options.ca_file is not None:
            certificates.check_trusted(options.ca_file)
        name = "client_cert"
        if options.client_cert is not None:
            certificates.check_own(options.client_cert, options.client_key)
    except certificates.UnusableError as error:
        raise ValueError(f"{'client_key' if error.is_key else name}: {error}") from None


def _check_http2() -> None:
    from sqspider.transport.curl import speaks_http2  # here: it is the HTTP client

    if not speaks_http2():
        raise ValueError("http2: the libcurl that is installed was built without it; the one in pycurl's wheels has it")
