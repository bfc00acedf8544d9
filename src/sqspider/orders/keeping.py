"""Where what is fetched is kept: which place is meant, whether it can be one, and how much lies there.

The place is the worker's, never a crawl's: whoever can write a crawl's row does not choose where files are written.
How files are written there is in ``archive``; nothing is made here.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from sqspider.archive.addresses import S3, is_bucket
from sqspider.archive.files import OPEN, WARC_ENDINGS
from sqspider.environment import ARCHIVE, NO_ARCHIVE
from sqspider.frontier import IN_MEMORY, sqlite_path

MARKS: Final = (*WARC_ENDINGS, *(f"{ending}{OPEN}" for ending in WARC_ENDINGS), ".wacz", ".cdxj")
"""How the files end by which an archive is known."""

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class Size(NamedTuple):
    """How much lies in an archive."""

    files: int  # WARC files, those that are being written among them
    bytes: int


def archive_of_frontier(frontier: str, env: Mapping[str, str]) -> str | None:
    """The address of the archive that belongs to a frontier where none is named; none: it has none.

    What the environment says, else a folder beside a SQLite file. One in memory has none, whatever the environment
    says: it is gone at its end, and what it fetched is not to lie among what others keep.
    """
    if frontier == IN_MEMORY:
        return None
    if named := env.get(ARCHIVE):
        return None if named == NO_ARCHIVE else named
    path = sqlite_path(frontier)
    return None if path is None else str(beside(Path(path)))


def beside(file: Path) -> Path:
    """The folder of the archive of a file: ``sqspider.db`` has ``sqspider-archive``."""
    return file.with_name(f"{file.stem}-archive")


def is_folder(address: str) -> bool:
    """Whether an archive lies in a folder, and not in a bucket."""
    return not is_bucket(address)


def check_archive(address: object) -> None:
    """Raise ``TypeError`` or ``ValueError`` for what can be no archive to write to, in words that begin with
    ``archive``. A folder need not be there; if it is, it is empty or holds an archive."""
    if not isinstance(address, str):
        raise TypeError(f"archive: a folder, or s3://BUCKET/PREFIX, not {address!r:.80}")
    try:
        if is_folder(address):
            _check_folder(address)
        else:
            _check_bucket(address)
    except OSError as error:
        raise ValueError(f"archive: {address} cannot be written: {error.strerror}") from None


def _check_bucket(address: str) -> None:
    if not _BUCKET.fullmatch(address.removeprefix(S3).partition("/")[0]):
        raise ValueError(f"archive: {address} names no bucket: write s3://BUCKET/PREFIX")


def _check_folder(address: str) -> None:
    if not address or "\0" in address or _SCHEME.match(address):
        raise ValueError(f"archive: {address!r} is neither a folder nor s3://BUCKET/PREFIX")
    if not _is_utf8(address):  # it is told to processes of our own
        raise ValueError(f"archive: {address!r} has a name that is no UTF-8")
    folder = Path(address)
    place = _nearest(folder)
    if not place.is_dir():
        what = "it is" if place == folder else f"{place} is"
        raise ValueError(f"archive: {address} can be no folder: {what} a file")
    if place == folder and not _may_be_archive(folder):
        raise ValueError(f"archive: {address} holds other things and no WARC file: name a folder that is new or empty")
    with tempfile.TemporaryFile(dir=place):  # nothing else tells for sure: of a file system that is mounted to be read
        pass


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _nearest(folder: Path) -> Path:
    """The folder, or if it is not there the nearest above it that is: in which it would be made."""
    return next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))


def _may_be_archive(folder: Path) -> bool:
    """It has a file of an archive, or nothing but what systems leave in every folder."""
    is_empty = True
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(MARKS):
                return True
            is_empty = is_empty and entry.name.startswith(".")
    return is_empty


def size_of(address: str) -> Size | None:
    """How much lies in an archive; none: it is in a bucket, where to count costs money. What is not there is empty."""
    if not is_folder(address):
        return None
    files = size = 0
    try:
        with os.scandir(address) as entries:
            for entry in entries:
                if entry.name.removesuffix(OPEN).endswith(WARC_ENDINGS):
                    try:
                        size += entry.stat().st_size
                    except FileNotFoundError:  # it was closed meanwhile, and has another name now
                        continue
                    files += 1
    except (FileNotFoundError, NotADirectoryError):
        return Size(0, 0)
    return Size(files, size)


def free_bytes(address: str) -> int | None:
    """How much room there is for more; none: as much as one pays for."""
    return shutil.disk_usage(_nearest(Path(address))).free if is_folder(address) else None
