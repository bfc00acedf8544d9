"""The key of a URL, by which its record is found. It must never change: the files that are there are searched by it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from types import MappingProxyType
from typing import Final

import msgspec

from sqspider.url import host_of

_URL_BITS: Final = 40
_NONE_KNOWN: Final[Mapping[str, int]] = MappingProxyType({})
_json_encoder = msgspec.json.Encoder()


@functools.lru_cache(maxsize=16_384)
def _host_bits(host: str) -> bytes:
    return blake2b(host.encode(), digest_size=3).digest()


@functools.lru_cache(maxsize=1024)  # what a turn takes is asked for again in its claim and in its end
def key_of(url: str) -> int:
    """64 bits by which a canonical URL's record is found: 24 of its host, 40 of itself.

    What belongs to a host lies together, so that the links of a page touch few pages of the file. Two URLs may
    have one key: whoever finds a record by it compares the URL.
    """
    rest = blake2b(url.encode(), digest_size=_URL_BITS // 8).digest()
    return int.from_bytes(_host_bits(host_of(url)) + rest, "big", signed=True)


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


def with_keys(urls: Iterable[str], keys: Mapping[str, int] = _NONE_KNOWN) -> str:
    """URLs as the statements take them that look for several; ``keys``: those that are known already."""
    return _json_encoder.encode([(keys.get(url) or key_of(url), url) for url in urls]).decode()
