"""How the records of a WARC file are packed: each by itself, as a member (gzip) or a frame (zstd)."""

from __future__ import annotations

import enum


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
        from sqspider.archive.packing import gzip_member, zstd_frame  # here: who only names a way loads no library

        return gzip_member(record) if self is Coding.GZIP else zstd_frame(record)
