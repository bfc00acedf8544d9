"""How a record's row says where its capture lies.

Ten million records name a few hundred files: so each name stands once, in a table of its own, and rows have its number.
"""

from __future__ import annotations

import base64
import re
import sqlite3
from typing import Any, Final

import msgspec

from sqspider.record import CapturePlace

FILE_ID: Final = "SELECT id FROM capture_file WHERE name = ?"
ADD_FILE: Final = "INSERT INTO capture_file (name) VALUES (?)"
FILE_NAME: Final = "SELECT name FROM capture_file WHERE id = ?"

_SHA1: Final = re.compile("[A-Z2-7]{32}")
_DIGITS: Final = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789abcdefghijklmnopqrstuv")
UNKEPT: Final = b""  # in place of a capture: it is not to be archived


class CaptureFiles:
    """The numbers of files' names, as one transaction, or one read, finds them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._ids: dict[str, int] = {}
        self._names: dict[int, str] = {}

    def id_of(self, name: str) -> int:
        """The number of a name; it gets one, if it has none."""
        if name not in self._ids:
            found = self._connection.execute(FILE_ID, (name,)).fetchone()
            if found is None:
                found = (self._connection.execute(ADD_FILE, (name,)).lastrowid,)
            self._ids[name] = found[0]
        return self._ids[name]

    def name_of(self, id_: int) -> str:
        """The name of a number. Raises ``ValueError`` if there is none."""
        if id_ not in self._names:
            found = self._connection.execute(FILE_NAME, (id_,)).fetchone()
            if found is None or not isinstance(found[0], str):
                raise ValueError(f"no file of captures has the number {id_}")
            self._names[id_] = found[0]
        return self._names[id_]


class _Packed(msgspec.Struct, frozen=True, array_like=True):
    """A place as the file has it. New fields may come after these; these keep their places."""

    file: int
    offset: int
    length: int
    digest: Any  # its 20 bytes; a text, if it is no SHA-1
    at: float
    url: str = ""
    payload: _Packed | None = None


_packer: Final = msgspec.msgpack.Encoder()
_unpacker: Final = msgspec.msgpack.Decoder(_Packed)


def pack_place(place: CapturePlace, files: CaptureFiles) -> bytes:
    """A place as :func:`unpack_place` reads it."""
    return _packer.encode(_packed(place, files))


def _packed(place: CapturePlace, files: CaptureFiles) -> tuple[Any, ...]:
    values = (files.id_of(place.file), place.offset, place.length, _packed_digest(place.digest), place.at)
    if not place.url and place.payload is None:
        return values
    return (*values, place.url, None if place.payload is None else _packed(place.payload, files))


def _packed_digest(digest: str) -> bytes | str:
    """A SHA-1 as its bytes. (By its digits, because ``base64.b32decode`` takes as long as all the rest.)"""
    if _SHA1.fullmatch(digest) is None:
        return digest
    return int(digest.translate(_DIGITS), 32).to_bytes(20, "big")


def unpack_place(packed: bytes, files: CaptureFiles) -> CapturePlace:
    """It back. Raises ``ValueError``, ``TypeError`` or ``msgspec.MsgspecError`` if it is damaged."""
    return _place_of(_unpacker.decode(packed), files)


def _place_of(packed: _Packed, files: CaptureFiles) -> CapturePlace:
    digest = packed.digest
    if not isinstance(digest, (bytes, str)):
        raise TypeError(f"no digest is {digest!r}")
    return CapturePlace(
        file=files.name_of(packed.file),
        offset=packed.offset,
        length=packed.length,
        digest=digest if isinstance(digest, str) else base64.b32encode(digest).decode(),
        at=packed.at,
        url=packed.url,
        payload=None if packed.payload is None else _place_of(packed.payload, files),
    )
