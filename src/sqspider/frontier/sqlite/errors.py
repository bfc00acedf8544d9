"""What SQLite's errors mean, in the frontier's own, and what to do then."""

from __future__ import annotations

import os
import sqlite3
from typing import Final

from sqspider.frontier.values import FrontierBusyError, FrontierError, FrontierUnavailableError

BUSY_SECONDS: Final = 30.0  # how long to wait for other processes' transactions
NOT_UTF8: Final = "Could not decode to UTF-8"  # how the driver begins to say so; SQLite has no code for it


def is_busy(error: sqlite3.Error) -> bool:
    """Whether others were in the way."""
    name = getattr(error, "sqlite_errorname", "") or ""
    return name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL"))


def damaged(path: str, what: str) -> FrontierUnavailableError:
    """The error that ends the work on a file which is not what it should be."""
    return FrontierUnavailableError(
        f"{path} is damaged: {what}. `sqspider status --check` says more and `sqspider export` writes what can "
        "still be read; go on with a copy from before, or with another file"
    )


def classify(error: sqlite3.Error, path: str) -> FrontierError:
    """What a fault of SQLite means, and what to do. https://sqlite.org/rescode.html"""
    code = getattr(error, "sqlite_errorname", "") or ""
    if is_busy(error):
        return FrontierBusyError(
            f"{path} was locked by another process for {BUSY_SECONDS:g} s: see what holds it, or try again"
        )
    if code.startswith("SQLITE_NOTADB"):
        return FrontierUnavailableError(f"{path} is no SQLite database: name another file")
    if code.startswith("SQLITE_READONLY"):
        return FrontierUnavailableError(f"{path} cannot be written: see its permissions, or name another file")
    if code.startswith("SQLITE_CANTOPEN"):
        return FrontierUnavailableError(f"{path} cannot be opened: {_why_not_opened(path)}")
    if code.startswith("SQLITE_FULL"):
        return FrontierUnavailableError(
            f"the disk that holds {path} is full: make room and go on with the same command; nothing is lost"
        )
    if code.startswith("SQLITE_CORRUPT"):
        return damaged(path, str(error))
    if str(error).startswith(NOT_UTF8):
        return damaged(path, str(error))
    if code.startswith("SQLITE_IOERR"):
        return FrontierUnavailableError(f"reading or writing {path} failed ({error}, {code}): see the disk")
    return FrontierError(f"{path}: {error} ({code or type(error).__name__})")


def folder_of(path: str) -> str:
    """The folder that a file lies in, or would."""
    return os.path.dirname(os.path.abspath(path))


def has_frames(path: str) -> bool:
    """Whether a log of changes lies beside the file: it is open, or whoever had it open last died."""
    try:
        return os.path.getsize(f"{path}-wal") > 0
    except OSError:
        return False


def _why_not_opened(path: str) -> str:
    folder = folder_of(path)
    if os.path.isdir(path):
        return "it is a folder; name a file"
    if not os.path.isdir(folder):
        return f"there is no folder {folder}"
    if os.path.exists(path) and not os.access(folder, os.W_OK):
        return f"{folder} cannot be written, where SQLite needs a {os.path.basename(path)}-shm: copy {_and_log(path)}"
    return "see its permissions and those of its folder"


def _and_log(path: str) -> str:
    return f"it and {os.path.basename(path)}-wal to another folder" if has_frames(path) else "it to another folder"
