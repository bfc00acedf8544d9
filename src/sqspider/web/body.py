"""Decodes the content codings of a body, in bounded memory.

Knows ``gzip`` (several members), ``deflate`` (with and without its zlib frame), ``br``, ``zstd``,
and a few of them on top of one another. Character sets are in ``charset``.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from copy import copy
from functools import partial
from typing import Final, Protocol

MAX_CODINGS: Final = 3  # on top of one another
STEP: Final = 64 * 1024  # bytes that one step of a decoder may yield
_ZSTD_WINDOW_LOG: Final = 23  # 8 MiB: what RFC 9659 lets a server ask of a client


class DecodeError(Exception):
    """The body is not what its Content-Encoding says."""


_Errors = tuple[type[Exception], ...]


class _Layer(Protocol):
    errors: _Errors  # what it raises for what cannot be decoded
    is_complete: bool  # what came so far is a whole

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decode some more, in pieces of at most :data:`STEP` bytes."""


BodySink = Callable[[bytes], bool]
"""Takes the decoded bytes of a body as they come; False: no more is wanted."""


class Body:
    """Takes a body as it arrives; keeps its decoded bytes up to ``limit``, or hands them to a sink.

    Codings that are not known are taken for ``identity``, as browsers do. Raises
    :class:`DecodeError` for more than :data:`MAX_CODINGS`.
    """

    def __init__(self, content_encoding: str | None, limit: int, sink: BodySink | None = None) -> None:
        names = [name.strip().lower() for name in (content_encoding or "").split(",")]
        codings = [name for name in names if name in _LAYERS]
        if len(codings) > MAX_CODINGS:
            raise DecodeError(f"{len(codings)} content codings on top of one another")
        self._layers = [_LAYERS[name]() for name in reversed(codings)]  # the last applied comes off first
        self._limit = limit
        self._pieces: list[bytes] = []
        self._sink = sink
        self.is_coded = bool(codings)
        self.size = 0  # decoded bytes so far
        self.size_as_sent = 0  # of what they were decoded from
        self.is_truncated = False  # there was more than the limit
        self.is_short = False  # it stopped amid its coding

    def feed(self, data: bytes) -> bool:
        """Take some bytes; False when the limit is reached and no more is wanted.

        Raises :class:`DecodeError`.
        """
        self.size_as_sent += len(data)
        try:
            for piece in self._decode(data, 0):
                room = self._limit - self.size
                wants_more = self._take(piece[:room])
                self.size = min(self.size + len(piece), self._limit)
                if len(piece) > room:
                    self.is_truncated = True
                    return False
                if not wants_more:
                    return False
        except tuple(kind for layer in self._layers for kind in layer.errors) as error:
            raise DecodeError(str(error)) from error
        return True

    def _take(self, piece: bytes) -> bool:
        if self._sink is not None:
            return self._sink(piece)
        self._pieces.append(piece)
        return True

    def _decode(self, data: bytes, depth: int) -> Iterator[bytes]:
        if depth == len(self._layers):
            yield data
            return
        for piece in self._layers[depth].feed(data):
            yield from self._decode(piece, depth + 1)

    def end(self) -> bytes:
        """The decoded bytes. A coded body that stopped in its middle is kept."""
        is_complete = all(layer.is_complete for layer in self._layers)
        self.is_short = self.size > 0 and not is_complete and not self.is_truncated
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)


class Zlib:
    """``gzip`` and ``deflate``."""

    errors: _Errors = (zlib.error,)

    def __init__(self, *, is_gzip: bool) -> None:
        self._is_gzip = is_gzip
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16) if is_gzip else None
        self._is_garbage = False
        self._held = b""
        self.is_complete = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._held:
            data, self._held = self._held + data, b""
        if self._inflater is None:
            if len(data) < 2:
                self._held = data
                return
            self._inflater = zlib.decompressobj(zlib.MAX_WBITS if _is_zlib(data) else -zlib.MAX_WBITS)
        while data and not self._is_garbage:
            if self.is_complete:
                # Another member (RFC 1952 section 2.2), or rubbish after the end: that is ignored.
                if not self._is_gzip or (data[:1] == b"\x1f" and len(data) < 2):
                    self._held = data if self._is_gzip else b""
                    return
                if data[:2] != b"\x1f\x8b":
                    self._is_garbage = True
                    return
                self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
                self.is_complete = False
            out = self._inflater.decompress(data, STEP)
            while out:
                yield out
                data = self._inflater.unconsumed_tail
                out = self._inflater.decompress(data, STEP) if data or len(out) == STEP else b""
            self.is_complete = self._inflater.eof
            data = self._inflater.unused_data if self.is_complete else self._inflater.unconsumed_tail

    def copy(self) -> Zlib:
        """Another one that goes on from here by itself."""
        other = copy(self)
        if self._inflater is not None:
            other._inflater = self._inflater.copy()
        return other


def _is_zlib(data: bytes) -> bool:
    """Whether data begins with a zlib header (RFC 1950 section 2.2)."""
    return data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0


class _Brotli:
    def __init__(self) -> None:
        import brotli  # here, as zstd below: only what a server uses is loaded

        self._decoder = brotli.Decompressor()
        self.errors: _Errors = (brotli.error,)
        self.is_complete = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self.is_complete:
            return
        yield self._decoder.process(data, output_buffer_limit=STEP)
        while not self._decoder.can_accept_more_data():
            yield self._decoder.process(b"", output_buffer_limit=STEP)
        self.is_complete = self._decoder.is_finished()


class _Zstd:
    def __init__(self) -> None:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
        options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        self._new = partial(zstd.ZstdDecompressor, options=options)
        self._decoder = self._new()
        self.errors: _Errors = (zstd.ZstdError, EOFError)
        self.is_complete = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self._decoder.eof:
                if not data:
                    return
                self._decoder = self._new()
            yield self._decoder.decompress(data, max_length=STEP)
            self.is_complete = self._decoder.eof
            if self._decoder.eof:
                data = self._decoder.unused_data
            elif self._decoder.needs_input:
                return
            else:
                data = b""


_LAYERS: Final[dict[str, Callable[[], _Layer]]] = {
    "gzip": lambda: Zlib(is_gzip=True),
    "x-gzip": lambda: Zlib(is_gzip=True),
    "deflate": lambda: Zlib(is_gzip=False),
    "br": _Brotli,
    "zstd": _Zstd,
}

ACCEPT_ENCODING: Final = "gzip, deflate, br, zstd"
