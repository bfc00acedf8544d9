"""Packs a record by itself: as a member of gzip, or a frame of zstd; and unpacks a member. Who keeps nothing loads none
of it."""

from __future__ import annotations

import sys
import zlib
from typing import Any, Final

try:
    from isal import igzip_lib, isal_zlib
except ImportError:  # it is not built for every machine; the standard library's takes twice as long
    HAS_ISAL = False
else:
    HAS_ISAL = True

_ISAL_LEVEL: Final = 2  # of 0 to 3: as quick as 1, and smaller; 3 takes half as long again for 3 % less
_ZLIB_LEVEL: Final = 1
_ZSTD_LEVEL: Final = 3


def gzip_member(record: bytes) -> bytes:
    """One member (RFC 1952) of a record, with its checksum."""
    return igzip_lib.compress(record, _ISAL_LEVEL, igzip_lib.COMP_GZIP) if HAS_ISAL else zlib_member(record)


def gzip_unpacker() -> tuple[Any, Any]:
    """What unpacks one gzip member, as ``zlib.decompressobj`` does, and the error that a damaged one raises."""
    if HAS_ISAL:
        return isal_zlib.decompressobj(zlib.MAX_WBITS | 16), isal_zlib.error
    return zlib.decompressobj(zlib.MAX_WBITS | 16), zlib.error


def zlib_member(record: bytes, level: int = _ZLIB_LEVEL) -> bytes:
    """A gzip member by the standard library."""
    packer = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return packer.compress(record) + packer.flush()


def zstd_frame(record: bytes) -> bytes:
    """One frame (RFC 8878) of a record, with its checksum."""
    if sys.version_info >= (3, 14):  # here: few ask for it
        from compression import zstd
    else:
        from backports import zstd
    parameter = zstd.CompressionParameter
    return zstd.compress(record, options={parameter.compression_level: _ZSTD_LEVEL, parameter.checksum_flag: 1})
