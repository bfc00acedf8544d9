"""Digests as records say them: ``sha1:`` and base32, ``sha256:`` and base16, and what else is in use.

By the recommendations of the standard's community (issues 48 and 80 of its specifications): labels in any case, with
and without a hyphen; base16 and base32 told by their length.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import re
from collections.abc import Iterable
from typing import Final

_LABELLED: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([!#$%&'*+.^_`|~0-9A-Za-z/=-]+)")
_COMPATIBLE: Final = re.compile(r"sha-(1|224|256|384|512)")
_ALGORITHMS: Final = {
    **{name: name for name in ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "blake2s", "blake2b")},
    **{f"sha3-{size}": f"sha3_{size}" for size in (224, 256, 384, 512)},
}


def is_digest(value: str) -> bool:
    """Whether a value is a digest; of an algorithm that is not known here, by its form alone."""
    found = _LABELLED.fullmatch(value)
    return found is not None and (_algorithm_of(found[1]) is None or _bytes_of(value) is not None)


def same(one: str, other: str) -> bool:
    """Whether two digests are one, however they are written. Of different algorithms: nobody can say, so they are."""
    if one == other:
        return True
    first, second = _LABELLED.fullmatch(one), _LABELLED.fullmatch(other)
    if first is None or second is None:
        return False
    if _algorithm_of(first[1]) != _algorithm_of(second[1]):
        return True
    return _bytes_of(one) == _bytes_of(other)


class Check:
    """Holds some bytes against a digest that was said of them."""

    def __init__(self, said: str | None) -> None:
        found = _LABELLED.fullmatch(said or "")
        name = _algorithm_of(found[1]) if found else None
        self._wanted = _bytes_of(said or "") if name else None
        self._hash = hashlib.new(name, usedforsecurity=False) if name and self._wanted is not None else None

    @property
    def is_needed(self) -> bool:
        """There is a digest, of an algorithm that is known here."""
        return self._hash is not None

    def update(self, data: bytes) -> None:
        if self._hash is not None:
            self._hash.update(data)

    def feed(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self.update(piece)

    @property
    def is_right(self) -> bool:
        """The bytes are those, as far as can be told."""
        return self._hash is None or self._hash.digest() == self._wanted


def normal(digest: str) -> str:
    """One way to write a digest, of all that there are; what is none stays as it is."""
    found, raw = _LABELLED.fullmatch(digest), _bytes_of(digest)
    return digest if found is None or raw is None else f"{_algorithm_of(found[1])}:{raw.hex()}"


def sha1_of(digest: str) -> str:
    """A SHA-1 digest as places have it: in base32, without its label; others as they are."""
    raw = _bytes_of(digest)
    if raw is None or len(raw) != hashlib.sha1(usedforsecurity=False).digest_size:
        return digest
    return base64.b32encode(raw).decode()


def _algorithm_of(label: str) -> str | None:
    """Its name in hashlib; none: it is not known here."""
    return _ALGORITHMS.get(_COMPATIBLE.sub(r"sha\1", label.lower()))


@functools.lru_cache(256)  # it is asked several times of one record
def _bytes_of(value: str) -> bytes | None:
    """The bytes of a digest; none: it cannot be read, or has the wrong length."""
    found = _LABELLED.fullmatch(value)
    name = _algorithm_of(found[1]) if found else None
    if found is None or name is None:
        return None
    text, size = found[2], hashlib.new(name, usedforsecurity=False).digest_size
    try:
        if len(text) == 2 * size and not text.endswith("="):
            return bytes.fromhex(text)
        padded = text.upper().rstrip("=")
        raw = base64.b32decode(padded + "=" * (-len(padded) % 8))
        return raw if len(raw) == size else _base64(text, size)
    except (ValueError, binascii.Error):
        return _base64(text, size)


def _base64(text: str, size: int) -> bytes | None:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        return None
    return raw if len(raw) == size else None
