"""Writes the pages of an archive as files: of each URL its last good capture, decoded, by paths as ``wget -m`` does.

All files are read twice: first it is noted what there is, then each gets its name, so that pages can lead to one
another, and then they are written in the order in which they lie there. What is noted lies in a scratch database.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from sqspider.archive.dates import microseconds, seconds_of
from sqspider.archive.errors import ArchiveError, DamagedError
from sqspider.archive.export_links import can_be_relinked, relinked
from sqspider.archive.export_names import Path as Parts
from sqspider.archive.export_names import folded, link_between, mark_of, marked, path_of
from sqspider.archive.export_tree import InTheWayError, Tree
from sqspider.archive.files import FileInfo, Files, warc_files
from sqspider.archive.reading import Captured, captures_in
from sqspider.archive.records import without_brackets
from sqspider.archive.scratch import key_of, scratch
from sqspider.url import canonicalize
from sqspider.web.body import DecodeError

MAX_RELINKED_BYTES: Final = 32 * 1024 * 1024  # of a page whose links are written anew: it is held in memory
_MAX_URL_BYTES: Final = 65_536  # of other tools' archives
_MAX_HOPS: Final = 10
_ALL: Final = 1 << 62
_NOT_GOOD, _CUT, _GOOD = -1, 0, 1  # how good a capture is

_TABLES: Final = """
CREATE TABLE page (
    key BLOB PRIMARY KEY, url TEXT, rank INTEGER, at INTEGER, status INTEGER, leads_to TEXT,
    file TEXT, offset INTEGER, original BLOB, path TEXT, came_by INTEGER
) WITHOUT ROWID;
CREATE TABLE payload (capture BLOB PRIMARY KEY, file TEXT, offset INTEGER) WITHOUT ROWID;
CREATE TABLE folder (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE taken (name TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_NOTE: Final = """
INSERT INTO page (key, url, rank, at, status, leads_to, file, offset, original) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET
    rank = excluded.rank, at = excluded.at, status = excluded.status, leads_to = excluded.leads_to,
    file = excluded.file, offset = excluded.offset, original = excluded.original
WHERE (excluded.rank, excluded.at) > (page.rank, page.at)
"""
_NOTE_PAYLOAD: Final = "INSERT OR IGNORE INTO payload VALUES (?, ?, ?)"
_TAKE: Final = (
    "INSERT INTO taken SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM folder WHERE name = ?1) ON CONFLICT DO NOTHING"
)
_RESOLVE: Final = """
UPDATE page SET (file, offset) = (SELECT file, offset FROM payload WHERE capture = page.original)
WHERE original IS NOT NULL
"""
_GOOD_ONES: Final = "SELECT key, url FROM page WHERE rank >= 0 AND file IS NOT NULL ORDER BY url"
_OTHERS: Final = "SELECT url, rank, status FROM page WHERE rank < 0 OR file IS NULL ORDER BY url"
_AT_PLACE: Final = "SELECT url, path, rank, at FROM page WHERE file = ? AND offset = ? AND path IS NOT NULL"
_CAME_BY: Final = "UPDATE page SET came_by = 1 WHERE file = ? AND offset = ?"
_LOST: Final = "SELECT url FROM page WHERE path IS NOT NULL AND came_by IS NULL ORDER BY url"
_BY_URL: Final = "SELECT path, leads_to FROM page WHERE key = ?"


class Skipped(NamedTuple):
    """A URL of which there is no file."""

    url: str
    why: str


class Written(NamedTuple):
    """A file that was written."""

    url: str
    path: str  # below the folder
    bytes: int
    is_cut: bool  # there was more of it than was kept


class Exported(NamedTuple):
    """What was done."""

    files: int
    bytes: int
    cut: int  # of the files
    skipped: Counter[str]  # URLs, by why


def export_files(
    files: Files,
    folder: Path,
    *,
    convert_links: bool = False,
    overwrite: bool = False,
    on_file: Callable[[FileInfo], None] = lambda _: None,
    on_written: Callable[[Written], None] = lambda _: None,
    on_skipped: Callable[[Skipped], None] = lambda _: None,
) -> Exported:
    """Write the pages of an archive into a folder. ``on_file`` is called before each WARC file that is read.

    Raises :class:`sqspider.archive.errors.ArchiveError`; what was written until then stays. Damage in a WARC file hides
    what lies behind it in this file, and is said as skipped.
    """
    archive = Path(files.address)
    if archive.exists() and folder.resolve().is_relative_to(archive.resolve()):
        raise ArchiveError(f"{folder} is in the archive itself, where pages would lie among its files: name another")
    with scratch() as connection, Tree(folder) as tree:
        export = _Export(files, tree, connection, on_written, on_skipped, convert_links, overwrite)
        export.note(on_file)
        export.name()
        export.write(on_file)
        return export.done()


class _Export:
    def __init__(
        self,
        files: Files,
        tree: Tree,
        connection: sqlite3.Connection,
        on_written: Callable[[Written], None],
        on_skipped: Callable[[Skipped], None],
        convert_links: bool,
        overwrite: bool,
    ) -> None:
        self._files = files
        self._tree = tree
        self._connection = connection
        self._on_written = on_written
        self._on_skipped = on_skipped
        self._converts = convert_links
        self._overwrites = overwrite
        self._skipped = Counter[str]()
        self._number = self._bytes = self._cut = 0
        connection.executescript(_TABLES)

    def done(self) -> Exported:
        return Exported(self._number, self._bytes, self._cut, self._skipped)

    def note(self, on_file: Callable[[FileInfo], None]) -> None:
        """Note the best capture of each URL."""
        self._connection.execute("BEGIN")
        for info in warc_files(self._files):
            on_file(info)
            for captured in self._captures(info, says=True):
                self._note(captured)
        self._connection.execute(_RESOLVE)
        self._connection.execute("COMMIT")
        self._connection.execute("CREATE INDEX page_at ON page (file, offset)")

    def _note(self, captured: Captured) -> None:
        url = canonicalize(captured.url, most_bytes=_MAX_URL_BYTES)
        if not isinstance(url, str):
            return  # of a name that was looked up, say
        status, at = captured.http_status, microseconds(captured.at)
        original = _original_of(captured)
        is_good = captured.kind == "resource" or (status is None and original is not None)
        is_good |= status is not None and 200 <= status < 300 and status != 206
        is_cut = captured.truncated is not None and original is None
        rank = (_CUT if is_cut else _GOOD) if is_good else _NOT_GOOD
        leads_to = None
        if status is not None and 300 <= status < 400 and (location := captured.header("location")):
            target = canonicalize(location, url, most_bytes=_MAX_URL_BYTES)
            leads_to = target if isinstance(target, str) else None
        place = (captured.file, captured.offset)
        row = (key_of(url), url, rank, at, status, leads_to, *(place if original is None else (None, None)), original)
        self._connection.execute(_NOTE, row)
        if original is None and is_good:
            self._connection.execute(
                "INSERT OR IGNORE INTO payload VALUES (?, ?, ?)", (key_of(captured.url, at), *place)
            )

    def name(self) -> None:
        """Give each file its name: one that is no other's on any system, and no folder's."""
        for url, rank, status in self._connection.execute(_OTHERS):
            if rank >= 0:
                self._skip(url, "its payload is in a capture that is not there")
            else:
                self._skip(url, "no good answer" if status is None else f"HTTP status {status}")
        self._connection.execute("BEGIN")
        for _, url in self._connection.execute(_GOOD_ONES):
            path = path_of(url)
            for end in range(1, len(path)):
                self._connection.execute("INSERT OR IGNORE INTO folder VALUES (?)", (folded(path[:end]),))
        for key, url in self._connection.execute(_GOOD_ONES):  # sorted aside, so it can be written to
            path = self._free(path_of(url), url)
            self._connection.execute("UPDATE page SET path = ? WHERE key = ?", ("/".join(path), key))
        self._connection.execute("COMMIT")

    def _free(self, path: Parts, url: str) -> Parts:
        tries, wanted = 0, path
        while not self._connection.execute(_TAKE, (folded(wanted),)).rowcount:
            tries += 1
            wanted = marked(path, mark_of(url if tries == 1 else f"{url} {tries}"))
        return wanted

    def write(self, on_file: Callable[[FileInfo], None]) -> None:
        """Write each file when its capture comes by. Where somebody packs or erases meanwhile, it may not."""
        self._connection.execute("BEGIN")
        for info in warc_files(self._files):
            on_file(info)
            for captured in self._captures(info, says=False):
                rows = self._connection.execute(_AT_PLACE, (captured.file, captured.offset)).fetchall()
                for url, path, rank, at in rows:
                    self._write(captured, url, tuple(path.split("/")), at / 1_000_000, is_cut=rank == _CUT)
                if rows:
                    self._connection.execute(_CAME_BY, (captured.file, captured.offset))
        for (url,) in self._connection.execute(_LOST):
            self._skip(url, "its WARC file was removed or written anew meanwhile: export again")
        self._connection.execute("COMMIT")

    def _write(self, captured: Captured, url: str, path: Parts, at: float, *, is_cut: bool) -> None:
        def fill(file: BinaryIO) -> None:
            if self._converts and can_be_relinked(captured.headers):
                body = captured.body(MAX_RELINKED_BYTES + 1)
                if len(body) <= MAX_RELINKED_BYTES:
                    file.write(relinked(body, url, captured.headers, lambda target: self._link(path, target)))
                    return
            captured.decode(_ALL, lambda piece: file.write(piece) >= 0)

        try:
            size = self._tree.write(path, fill, at=at, overwrite=self._overwrites)
        except InTheWayError as error:
            self._skip(url, str(error))
        except DecodeError:
            self._skip(url, "its body does not decode as its Content-Encoding says")
        else:
            self._number += 1
            self._bytes += size
            self._cut += is_cut
            self._on_written(Written(url, "/".join(path), size, is_cut))

    def _link(self, page: Parts, target: str) -> str | None:
        """What a page writes to lead to a URL, by what that redirects to, too; none: there is no file."""
        url: str | None = target
        for _ in range(_MAX_HOPS):
            if url is None:
                return None
            found = self._connection.execute(_BY_URL, (key_of(url),)).fetchone()
            if found is None:
                return None
            path, url = found
            if path is not None:
                return link_between(page, tuple(path.split("/")))
        return None

    def _captures(self, info: FileInfo, *, says: bool) -> Iterator[Captured]:
        try:
            yield from captures_in(self._files, info)
        except DamagedError as error:
            if says:
                self._skip(info.name, f"damaged: {error}")

    def _skip(self, url: str, why: str) -> None:
        self._skipped[why.partition(":")[0] if why.startswith("damaged") else why] += 1
        self._on_skipped(Skipped(url, why))


def _original_of(captured: Captured) -> bytes | None:
    """The name of the capture whose payload a revisit has; none: it has its own."""
    if captured.kind != "revisit":
        return None
    said = {name.lower(): value for name, value in captured.fields}
    url = without_brackets(said.get("warc-refers-to-target-uri", "")) or captured.url
    at = seconds_of(said.get("warc-refers-to-date", ""))
    if at is not None:
        return key_of(url, microseconds(at))
    original = captured.original  # wget names it by its id alone
    return key_of("nothing") if original is None else key_of(original.url, microseconds(original.at))
