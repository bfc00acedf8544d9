"""How the records of a WARC file are packed: each by itself, as a member (gzip) or a frame (zstd)."""

from __future__ import annotations

import enum
import sys
import zlib
from typing import Final

try:
    from isal import igzip_lib
except ImportError:  # it is not built for every machine; the standard library's takes twice as long
    HAS_ISAL = False
else:
    HAS_ISAL = True

_ISAL_LEVEL: Final = 2  # of 0 to 3: as quick as 1, and smaller; 3 takes half as long again for 3 % less
_ZLIB_LEVEL: Final = 1
_ZSTD_LEVEL: Final = 3


class Coding(enum.StrEnum):
    """A way of packing."""

    GZIP = "gzip"
    ZSTD = "zstd"

    @property
    def ending(self) -> str:
        """Of the name of a file that is packed so."""
        return ".warc.gz" if self is Coding.GZIP else ".warc.zst"

    def pack(self, record: bytes) -> bytes:
        """One member (RFC 1952) or frame (RFC 8878) of a record, with its checksum."""
        if self is Coding.ZSTD:
            return _zstd_frame(record)
        return igzip_lib.compress(record, _ISAL_LEVEL, igzip_lib.COMP_GZIP) if HAS_ISAL else zlib_member(record)


def zlib_member(record: bytes, level: int = _ZLIB_LEVEL) -> bytes:
    """A gzip member by the standard library."""
    packer = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return packer.compress(record) + packer.flush()


def _zstd_frame(record: bytes) -> bytes:
    if sys.version_info >= (3, 14):  # here: few ask for it
        from compression import zstd
    else:
        from backports import zstd
    parameter = zstd.CompressionParameter
    return zstd.compress(record, options={parameter.compression_level: _ZSTD_LEVEL, parameter.checksum_flag: 1})
