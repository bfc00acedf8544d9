"""Fingerprints of texts that differ in few bits where the texts differ in few words; and how to find those that do.

Charikar, "Similarity estimation techniques from rounding algorithms" (2002); Manku, Jain and Das Sarma, "Detecting
near-duplicates for web crawling" (2007).
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterator
from functools import cache, lru_cache
from hashlib import blake2b
from itertools import combinations, pairwise
from typing import Final

BITS: Final = 64
MOST_DISTANCE: Final = 6  # bits: of 10 million pages more than that are alike by chance
LEAST_WORDS: Final = 20  # of a text that has a fingerprint: of fewer, every word turns many bits

_ALL: Final = (1 << BITS) - 1
_MOST_CHARACTERS: Final = 1_000_000  # that are looked at
# Where no blanks stand between words each character is one: Thai, Lao, Burmese, Khmer, Japanese, Chinese.
_WORD: Final = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]|[^\W_]+"
)
_LANE_BITS: Final = 24  # of a count for each bit: more than there are shingles
_LANE: Final = (1 << _LANE_BITS) - 1


def fingerprint(text: str) -> int | None:
    """64 bits of a text's shingles of three words, each of which counts once; none, if it has too few words."""
    hashed = [_hash_of(word) for word in _WORD.findall(text[:_MOST_CHARACTERS].lower())]
    if len(hashed) < LEAST_WORDS:
        return None
    threes = zip(hashed, hashed[1:], hashed[2:], strict=False)
    shingles = array("Q", {(one + 3 * two + 5 * three) & _ALL for one, two, three in threes})
    if sys.byteorder == "big":
        shingles.byteswap()
    octets = shingles.tobytes()
    bits = 0
    for at in range(BITS // 8):
        counts = sum(map(_lanes().__getitem__, octets[at :: BITS // 8]))
        for bit in range(8):
            is_set = 2 * (counts >> (bit * _LANE_BITS) & _LANE) > len(shingles)
            bits |= is_set << (at * 8 + bit)
    return bits


@lru_cache(100_000)
def _hash_of(word: str) -> int:
    return int.from_bytes(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=BITS // 8).digest(), "little")


@cache
def _lanes() -> tuple[int, ...]:
    """Of each byte its bits, each in a lane of its own: eight counts are added at once."""
    return tuple(sum((byte >> bit & 1) << (bit * _LANE_BITS) for bit in range(8)) for byte in range(256))


def masks(most: int) -> Iterator[int]:
    """Bits of which two fingerprints that differ in no more than ``most`` agree in those of one mask at least.

    The fingerprint is cut into two blocks more than bits may differ, so two blocks at least are untouched.
    """
    blocks = most + 2
    ends = [BITS * at // blocks for at in range(blocks + 1)]
    cut = [(1 << end) - (1 << start) for start, end in pairwise(ends)]
    for one, other in combinations(cut, 2):
        yield one | other
