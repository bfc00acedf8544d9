"""Writes an archive into one WACZ file (1.1.1): a ZIP of its WARC files, their index and a list of pages, for replay in
a browser. https://specs.webrecorder.net/wacz/1.1.1/

Entries are stored as they are, so whoever replays reads what it needs out of the midst of the file. It is written under
another name and renamed when it is whole. The index is sorted on disk; everything else is a stream.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from sqspider.archive.cdxj import lines_of, seconds_of_digits
from sqspider.archive.errors import ArchiveError, NotAllowedError
from sqspider.archive.files import FileInfo, Files, warc_files
from sqspider.archive.sorting import Sorter
from sqspider.record import Status, UrlRecord
from sqspider.version import VERSION

WACZ_VERSION: Final = "1.1.1"
ENDING: Final = ".wacz"
LISTED_PAGES: Final = 10_000  # that are in the list which a replay shows at once; further ones are in another
BLOCK_LINES: Final = 3000  # of the index, that are packed together
_STEP: Final = 256 * 1024
_PAGE_TYPES: Final = ("text/html", "application/xhtml+xml")
_PAGE_IDS: Final = uuid.UUID("7d0f6f0c-88f2-5a44-9c1e-0e4b3a9a4d10")
_EARLIEST: Final = 315_532_800.0  # seconds since the epoch: a ZIP knows no time before 1980


class Page(NamedTuple):
    """A page in the list of a WACZ."""

    url: str
    at: float  # its capture: seconds since the epoch
    title: str | None = None
    is_seed: bool = False
    file: str = ""  # that has its capture: of another archive it is not listed; empty: that is not known


class Wacz(NamedTuple):
    """What was written."""

    bytes: int
    files: int  # WARC files in it
    captures: int  # in its index
    pages: int
    left_out: tuple[str, ...]  # WARC files that are being written


class _Resource(NamedTuple):
    """An entry, as the package tells of it."""

    path: str
    hash: str
    bytes: int


def pages_of(records: Iterable[UrlRecord]) -> Iterator[Page]:
    """The pages among the records of a frontier, for :func:`write_wacz`."""
    for record in records:
        outcome = record.outcome
        if record.status is not Status.DONE or outcome is None or outcome.capture is None or outcome.is_redirect:
            continue
        if outcome.content_type in _PAGE_TYPES:
            is_seed = record.depth == 0 and record.parent is None
            yield Page(record.url, outcome.capture.at, outcome.title, is_seed, outcome.capture.file)


def write_wacz(
    files: Files,
    to: Path,
    *,
    now: float,
    pages: Iterable[Page] | None = None,
    title: str = "",
    on_file: Callable[[FileInfo], None] = lambda _: None,
) -> Wacz:
    """Write the WARC files of an archive into one file, in place of what was there. ``pages``: none, those that the
    index says; without titles then. ``on_file`` is called before each file that is read; each is twice.

    Raises :class:`ArchiveError`: then there is no file, or the old one still.
    """
    infos = list(warc_files(files))
    chosen = [info for info in infos if not info.is_open]
    if not chosen:
        raise ArchiveError(
            f"{files.address}: all its WARC files are being written: stop the crawl, or wait for its end"
        )
    packed_otherwise = next((info.name for info in chosen if info.name.endswith(".zst")), None)
    if packed_otherwise is not None:
        raise ArchiveError(
            f"{files.address}: {packed_otherwise} is packed with zstd, which no WACZ may have: crawl with "
            "--archive-coding gzip, or unpack it with `zstd -d`, and pack that with `warcio recompress`"
        )
    hidden = to.with_name(f".{to.name}.{secrets.token_hex(4)}")
    try:
        with open(hidden, "xb") as file:
            writing = _Writing(files, file, now, on_file)
            written = writing.write(chosen, pages, title)
            file.flush()
            os.fsync(file.fileno())
        hidden.replace(to)
    except PermissionError as error:
        raise NotAllowedError(f"{to} cannot be written: {error.strerror}") from error
    except OSError as error:
        raise ArchiveError(f"{to} cannot be written: {error.strerror}") from error
    finally:
        with suppress(FileNotFoundError):
            hidden.unlink()
    return written._replace(bytes=to.stat().st_size, left_out=tuple(info.name for info in infos if info.is_open))


class _Writing:
    """A WACZ that is being written."""

    def __init__(self, files: Files, file: IO[bytes], now: float, on_file: Callable[[FileInfo], None]) -> None:
        self._files = files
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED)
        self._now = now
        self._on_file = on_file
        self._resources: list[_Resource] = []

    def write(self, infos: list[FileInfo], pages: Iterable[Page] | None, title: str) -> Wacz:
        names = _flat([info.name for info in infos])
        with self._zip, Sorter() as sorter, tempfile.TemporaryFile() as found:
            for info in infos:
                self._on_file(info)
                for line in lines_of(self._files, info):
                    sorter.add(_named(line, names[info.name]))
            for info in infos:
                self._on_file(info)
                self._add(f"archive/{names[info.name]}", self._content(info), info.modified)
            index = _Index(sorter.sorted(), found if pages is None else None)
            self._add("indexes/index.cdx.gz", index.blocks())
            self._add("indexes/index.idx", index.heads())
            told = _read_pages(found) if pages is None else pages
            listed = _Pages(page for page in told if not page.file or page.file in names)
            self._add("pages/pages.jsonl", listed.first())
            if listed.has_more:
                self._add("pages/extraPages.jsonl", listed.rest())
            self._end(title or self._files.address.rstrip("/").rpartition("/")[2], listed.main)
        return Wacz(0, len(infos), index.lines, listed.number, ())

    def _content(self, info: FileInfo) -> Iterator[bytes]:
        with self._files.opened(info.name) as stream:
            while piece := stream.read(_STEP):
                yield piece

    def _add(self, path: str, content: Iterable[bytes], modified: float | None = None) -> str:
        """Write an entry; its digest."""
        hashed, size = hashlib.sha256(), 0
        moment = max(self._now if modified is None else modified, _EARLIEST)
        entry = zipfile.ZipInfo(path, time.gmtime(moment)[:6])
        entry.external_attr = 0o644 << 16
        with self._zip.open(entry, "w", force_zip64=True) as file:
            for piece in content:
                hashed.update(piece)
                size += len(piece)
                file.write(piece)
        digest = f"sha256:{hashed.hexdigest()}"
        self._resources.append(_Resource(path, digest, size))
        return digest

    def _end(self, title: str, main: Page | None) -> None:
        package: dict[str, Any] = {
            "profile": "data-package",
            "wacz_version": WACZ_VERSION,
            "title": title,
            "software": f"sqspider {VERSION}",
            "created": utc(self._now),
            "resources": [{"name": each.path.rpartition("/")[2].lower(), **each._asdict()} for each in self._resources],
        }
        if main is not None:
            package |= {"mainPageUrl": main.url, "mainPageDate": utc(main.at)}
        digest = self._add("datapackage.json", [json.dumps(package, indent=2).encode()])
        said = {"path": "datapackage.json", "hash": digest}
        self._add("datapackage-digest.json", [json.dumps(said, indent=2).encode()])


class _Index:
    """The index in blocks of lines, and what finds the block: as ``cdxj-indexer --compress`` writes them."""

    def __init__(self, lines: Iterator[bytes], found: IO[bytes] | None) -> None:
        self.lines = 0
        self._sorted = lines
        self._found = found  # takes the pages that the lines tell of
        self._heads = [b'!meta 0 {"format": "cdxj-gzip-1.0", "filename": "index.cdx.gz"}\n']  # few: one of 3,000 lines

    def blocks(self) -> Iterator[bytes]:
        block: list[bytes] = []
        at, last = 0, b""
        for line in self._sorted:
            if line == last:
                continue
            last = line
            self.lines += 1
            block.append(line)
            self._note_page(line)
            if len(block) == BLOCK_LINES:
                at += len(packed := self._packed(block, at))
                yield packed
                block = []
        if block:
            yield self._packed(block, at)

    def heads(self) -> Iterator[bytes]:
        """Once all blocks are written."""
        yield from self._heads

    def _packed(self, block: list[bytes], at: int) -> bytes:
        packer = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS | 16)
        packed = packer.compress(b"\n".join(block) + b"\n") + packer.flush()
        place = {
            "offset": at, "length": len(packed), "digest": f"sha256:{hashlib.sha256(packed).hexdigest()}",
            "filename": "index.cdx.gz",
        }  # fmt: skip
        self._heads.append(b" ".join(block[0].split(b" ", 2)[:2]) + b" " + json.dumps(place).encode() + b"\n")
        return packed

    def _note_page(self, line: bytes) -> None:
        if self._found is None:
            return
        _, digits, fields = line.split(b" ", 2)
        said = json.loads(fields)
        if said.get("status") == "200" and said.get("mime") in _PAGE_TYPES:
            self._found.write(json.dumps([said["url"], digits.decode()]).encode() + b"\n")


class _Pages:
    """The lists of pages: what a replay shows at once, and what goes on behind it."""

    def __init__(self, pages: Iterable[Page]) -> None:
        self.number = 0
        self.has_more = False
        self.main: Page | None = None  # where to begin: a seed, else the first
        self._pages = iter(pages)
        self._next: Page | None = None

    def first(self) -> Iterator[bytes]:
        yield _line({"format": "json-pages-1.0", "id": "pages", "title": "Pages"})
        for page in self._pages:
            if self.number == LISTED_PAGES:
                self.has_more, self._next = True, page
                return
            yield self._line_of(page)

    def rest(self) -> Iterator[bytes]:
        yield _line({"format": "json-pages-1.0", "id": "extra", "title": "Further pages"})
        if self._next is not None:
            yield self._line_of(self._next)
        for page in self._pages:
            yield self._line_of(page)

    def _line_of(self, page: Page) -> bytes:
        self.number += 1
        if self.main is None or (page.is_seed and not self.main.is_seed):
            self.main = page
        ts = utc(page.at)
        named = f"{page.url} {ts}".encode("utf-8", "backslashreplace").decode()  # a URL of others need not be UTF-8
        said = {"id": str(uuid.uuid5(_PAGE_IDS, named)), "url": page.url, "ts": ts}
        if page.title:
            said["title"] = page.title
        return _line(said | ({"seed": True} if page.is_seed else {}))


def _line(said: dict[str, Any]) -> bytes:
    return json.dumps(said).encode() + b"\n"


def _read_pages(found: IO[bytes]) -> Iterator[Page]:
    """What the index told of: of each URL the last capture. Its lines are in the order of URLs and times."""
    found.seek(0)
    last: Page | None = None
    for line in found:
        url, digits = json.loads(line)
        page = Page(url, seconds_of_digits(digits) or 0.0)
        if last is not None and last.url != url:
            yield last
        last = page
    if last is not None:
        yield last


def utc(at: float) -> str:
    """A moment as ISO 8601 has it, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _flat(names: list[str]) -> dict[str, str]:
    """Names without folders: a WACZ knows none below ``archive``."""
    flat: dict[str, str] = {}
    taken = set()
    for name in names:
        wanted, number = name.replace("/", "-"), 0
        while wanted.lower() in taken:
            number += 1
            wanted = f"{number}-{name.replace('/', '-')}"
        taken.add(wanted.lower())
        flat[name] = wanted
    return flat


def _named(line: bytes, name: str) -> bytes:
    """A line of the index, with the name that its file has in the WACZ."""
    key, digits, fields = line.split(b" ", 2)
    said = json.loads(fields)
    if said["filename"] == name:
        return line
    return b" ".join((key, digits, json.dumps({**said, "filename": name}).encode()))
