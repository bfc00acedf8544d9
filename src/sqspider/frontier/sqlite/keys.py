"""The numbers of records' keys, by which they are found. They must never change: the files that are there are searched
by them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from types import MappingProxyType
from typing import Final

import msgspec

from sqspider.record import record_key
from sqspider.url import host_of

_URL_BITS: Final = 40
_NONE_KNOWN: Final[Mapping[str, int]] = MappingProxyType({})
_json_encoder = msgspec.json.Encoder()


@functools.lru_cache(maxsize=16_384)
def _host_bits(host: str) -> bytes:
    return blake2b(host.encode(), digest_size=3).digest()


def new_key_of(url: str) -> int:
    """64 bits by which the record of a canonical URL, or of "@NAME URL", is found: 24 of its host, 40 of itself.

    What belongs to a host lies together, so that the links of a page touch few pages of the file. Two records may
    have one number: whoever finds one by it compares the text.
    """
    rest = blake2b(url.encode(), digest_size=_URL_BITS // 8).digest()
    return int.from_bytes(_host_bits(host_of(url)) + rest, "big", signed=True)


key_of: Final = functools.lru_cache(maxsize=1024)(new_key_of)
"""The same: what a turn takes is asked for again in its claim and in its end. Links are not, and would fill it."""


def key_or_none(url: object) -> int | None:
    """The key of what lies in the place of a URL; none if that is damaged, and no URL."""
    try:
        return key_of(url) if isinstance(url, str) else None
    except (IndexError, UnicodeEncodeError):
        return None


def keys_of_host(host: str) -> tuple[int, int]:
    """The first and the last key that a URL of a host can have. Another host may share them."""
    first = int.from_bytes(_host_bits(host), "big", signed=True) << _URL_BITS
    return first, first + (1 << _URL_BITS) - 1


def keys_of_crawl(name: str | None) -> tuple[str, str]:
    """Between which texts the keys of a crawl's records lie, the second one not among them; none: those of all."""
    if name is None:
        return "", "\U0010ffff"
    first = record_key("", name)  # of the default crawl: URLs begin with a letter, and names with "@"
    return (first, first[:-1] + "!") if first else ("A", "\U0010ffff")


def with_keys(urls: Iterable[str], keys: Mapping[str, int] = _NONE_KNOWN) -> str:
    """URLs as the statements take them that look for several; ``keys``: those that are known already."""
    return _json_encoder.encode([(keys.get(url) or key_of(url), url) for url in urls]).decode()
