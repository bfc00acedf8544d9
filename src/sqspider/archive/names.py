"""How the files of an archive are named that this program writes.

sqspider-20261130174501-00001-HOST-1f0c9a3e.warc.gz   what a crawl keeps in a folder; with .open while it is written
20261130/174501-k3v9q2pa.warc.gz                      and in a bucket: short, for the record of each page has it
packed-…, kept-…                                      what `archive pack` and `archive forget` made of others
index.cdxj, moves-….jsonl.gz                          the index; the journal of a packing, or an erasing
"""

from __future__ import annotations

import re
import socket
import time
from typing import Final

WRITTEN: Final = "sqspider"
PACKED: Final = "packed"
KEPT: Final = "kept"
INDEX: Final = "index.cdxj"
JOURNAL: Final = "moves-"
JOURNAL_ENDING: Final = ".jsonl.gz"

_FILE: Final = re.compile(
    rf"(?P<kind>{WRITTEN}|{PACKED}|{KEPT})-\d{{14}}-\d{{5,}}-(?P<host>.+)-(?P<mark>[0-9a-f]{{8}})\.warc(?:\.gz|\.zst)?"
)
_OBJECT: Final = re.compile(r"(?:.*/)?\d{8}/\d{6}-[0-9A-Za-z]+\.warc(?:\.gz|\.zst)?")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9.-]")
_MAX_HOST_CHARACTERS: Final = 64


def file_name(kind: str, at: float, serial: int, mark: str, ending: str) -> str:
    """Of a file that is begun at a time. ``mark``: eight digits in hex by which it is nobody else's."""
    return f"{kind}-{time.strftime('%Y%m%d%H%M%S', time.gmtime(at))}-{serial:05d}-{safe_host()}-{mark}{ending}"


def object_name(at: float, mark: str, ending: str) -> str:
    """Of an object of a bucket. In their order names are by time."""
    return f"{time.strftime('%Y%m%d/%H%M%S', time.gmtime(at))}-{mark}{ending}"


def host_of_file(name: str) -> str | None:
    """On which machine a file was written; none: it is none of ours."""
    found = _FILE.fullmatch(name.rpartition("/")[2])
    return None if found is None else found["host"]


def is_ours(name: str) -> bool:
    """Whether a file, named without ``.open``, was written by this program."""
    own = name.rpartition("/")[2]
    is_journal = own.startswith(JOURNAL) and own.endswith(JOURNAL_ENDING)
    return name == INDEX or is_journal or host_of_file(name) is not None or _OBJECT.fullmatch(name) is not None


def mark_of_rewritten(name: str) -> str | None:
    """The mark of the round in which `archive pack` or `archive forget` made a file of others; none: they did not."""
    found = _FILE.fullmatch(name.rpartition("/")[2])
    return found["mark"] if found is not None and found["kind"] != WRITTEN else None


def safe_host(host: str | None = None) -> str:
    """The name of this machine (or another), as it may stand in the name of a file."""
    name = socket.gethostname() if host is None else host
    return _UNSAFE.sub("_", name)[:_MAX_HOST_CHARACTERS].strip(".-_") or "host"
