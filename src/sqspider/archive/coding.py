"""How the records of a WARC file are packed: each by itself, as a member (gzip) or a frame (zstd)."""

from __future__ import annotations

import enum


class Coding(enum.StrEnum):
    """A way of packing."""

    GZIP = "gzip"
    ZSTD = "zstd"
