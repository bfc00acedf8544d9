"""A database for what may not fit into memory while all files of an archive are looked through."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing

from sqspider.archive.errors import ArchiveError


def scratch() -> closing[sqlite3.Connection]:
    """One in a file without a name, in the folder for temporary files: whatever ends the process, nothing of it
    stays."""
    return closing(opened_scratch())


def opened_scratch() -> sqlite3.Connection:
    """The same, for who closes it by letting go of it. Any thread may use it."""
    connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA journal_mode = OFF")
    return connection


def no_room(error: sqlite3.Error) -> ArchiveError:
    """What is raised where one cannot take more."""
    return ArchiveError(
        f"the folder for temporary files cannot take what is to be noted: {error}; the variable SQLITE_TMPDIR names "
        "another folder"
    )


def key_of(*parts: object) -> bytes:
    """A short name for something that is looked up there."""
    return hashlib.blake2b("\n".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=16).digest()
