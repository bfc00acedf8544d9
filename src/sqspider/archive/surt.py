"""The keys by which indexes of archives are sorted: SURT, a URL whose host is turned around.

``http://www.example.org:8080/A?b&a`` is ``org,example:8080)/a?a&b``: what is of one host stands together, and small
differences that most servers make nothing of are gone. Written as pywb and cdxj-indexer do, whose indexes ours is held
against; they do more than the SURT of Heritrix's documentation says. A key is for looking up, never for fetching.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

_SCHEME: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*):")
_KEPT: Final = (
    b"dns:",
    b"warcinfo:",
    b"mailto:",
    b"urn:",
    b"filedesc:",
)  # names of other things: they stay as they are
_WITH_HOST: Final = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*):/+")
_PARTS: Final = re.compile(rb"([^/?]*)([^?]*)(\?.*)?", re.DOTALL)
_HOST_AND_PORT: Final = re.compile(rb"(\[[^\]]*\]|.*?)(?::(\d*))?", re.DOTALL)
_WWW: Final = re.compile(rb"www\d*\.")
_DEFAULT_PORTS: Final = {b"http": b"80", b"https": b"443"}

# What names a visitor's session, never a page: the path of ASP.NET, and parameters of the older servers.
_SESSIONS_IN_PATH: Final = (
    re.compile(rb"(.*/)\([a-z]\([0-9a-z]{24}\)\)/([^?]+\.aspx.*)", re.IGNORECASE | re.DOTALL),
    re.compile(rb"(.*/)\([0-9a-z]{24}\)/([^?]+\.aspx.*)", re.IGNORECASE | re.DOTALL),
)
_SESSIONS_IN_QUERY: Final = tuple(
    re.compile(rb"(.*)(?:" + parameter + rb")(?:&(.*))?", re.IGNORECASE | re.DOTALL)
    for parameter in (
        rb"jsessionid=[0-9a-z]{32}",
        rb"phpsessid=[0-9a-z]{32}",
        rb"sid=[0-9a-z]{32}",
        rb"aspsessionid[a-z]{8}=[a-z]{24}",
        rb"cfid=[^&]+&cftoken=[^&]+",
    )
)


def surt_of(url: str) -> str:
    """The key of a URL, in ASCII."""
    raw = re.sub(rb"[\t\r\n]", b"", url.encode("utf-8", "surrogateescape").strip(b" \t\r\n"))
    if raw.lower().startswith(_KEPT):
        return _escaped(raw).decode("ascii")
    scheme, rest = b"http", raw
    if found := _WITH_HOST.match(raw):
        scheme, rest = found[1].lower(), raw[found.end() :]
    authority, path, query = _parts(rest.partition(b"#")[0])
    return (_host_key(authority, scheme) + b")" + _path_key(path) + _query_key(query)).decode("ascii")


def _parts(rest: bytes) -> tuple[bytes, bytes, bytes]:
    """Authority, path and query, the query with its question mark."""
    found = _PARTS.fullmatch(rest)
    assert found is not None, "its parts may be empty"
    return found[1], found[2], found[3] or b""


def _host_key(authority: bytes, scheme: bytes) -> bytes:
    found = _HOST_AND_PORT.fullmatch(authority.rpartition(b"@")[2])
    assert found is not None, "its parts may be empty"
    host, port = _unescaped(found[1]), found[2] or b""
    if not host.isascii():
        host = _punycode(host)
    host = re.sub(rb"\.\.+", b".", host).strip(b".").lower()
    if www := _WWW.match(host):
        host = host[www.end() :]
    if host.isdigit() and len(host) < 100 and int(host) < 1 << 32:  # an IPv4 address as one number
        host = b".".join(b"%d" % octet for octet in int(host).to_bytes(4, "big"))
    turned = host[1:-1] if host.startswith(b"[") else b",".join(reversed(_escaped(host).split(b".")))
    return turned + (b":" + port if port and port != _DEFAULT_PORTS.get(scheme) else b"")


def _punycode(host: bytes) -> bytes:
    try:
        return host.decode().encode("idna")
    except UnicodeError:  # no name of a host
        return _escaped(host)


def _path_key(path: bytes) -> bytes:
    kept: list[bytes] = []
    for segment in _minimal(path).split(b"/")[1:]:
        if segment == b".." and kept:
            del kept[-1]
        elif segment != b".":
            kept.append(segment)
    path = b"/" + b"/".join(filter(None, kept))
    for session in _SESSIONS_IN_PATH:
        if found := session.fullmatch(path):
            path = found[1] + found[2]
    return path.lower()


def _query_key(query: bytes) -> bytes:
    asked = _minimal(query[1:])
    for session in _SESSIONS_IN_QUERY:
        if found := session.fullmatch(asked):
            asked = found[1] + (found[2] or b"")
    parameters = [parameter.partition(b"=") for parameter in asked.lower().split(b"&")]
    asked = b"&".join(b"".join(parameter) for parameter in sorted(parameters))
    return b"?" + asked if asked else b""


def _minimal(part: bytes) -> bytes:
    """With all escapes undone, and those made again that must be."""
    return _escaped(_unescaped(part))


def _unescaped(part: bytes) -> bytes:
    """What is escaped several times over, too."""
    while b"%" in part:
        once = unquote_to_bytes(part)
        if once == part:
            break
        part = once
    return part


def _escaped(part: bytes) -> bytes:
    return b"".join(_ESCAPES[octet] for octet in part)


_ESCAPES: Final = [
    b"%%%02x" % octet if octet <= 0x20 or octet >= 0x7F or octet in b"#%" else bytes([octet]) for octet in range(256)
]
