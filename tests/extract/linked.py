"""What tests of links share: documents made of a few lines, and archives of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from sqspider.archive.reading import read_archive
from sqspider.extract.document import Document
from tests.archive.warcs import DATE, Made, identity, packed, response, warcinfo

SITE: Final = "http://site.test"
PAGE: Final = f"{SITE}/dir/page"
HTML: Final = "Content-Type: text/html; charset=utf-8"


def answer(url: str, body: str | bytes = "", *lines: str, status: int = 200, date: str = DATE) -> Made:
    """A capture of an answer with these header lines; without any it is HTML."""
    head = "\r\n".join([f"HTTP/1.1 {status} Said", *(lines or (HTML,)), "", ""]).encode("latin-1")
    return response(url, head + (body if isinstance(body, bytes) else body.encode()), date=date)


def write(folder: Path, name: str, records: Iterable[Made]) -> Path:
    """A WARC file of these captures."""
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.warc.gz"
    info = warcinfo().set("WARC-Record-ID", identity(name))
    file.write_bytes(packed([info, *records]))
    return file


def document(folder: Path, body: str | bytes, *lines: str, url: str = PAGE, status: int = 200) -> Document:
    """A page, as it comes out of an archive."""
    file = write(folder, "one", [answer(url, body, *lines, status=status)])
    return Document(next(iter(read_archive(str(file)))))


def site(pages: Mapping[str, str]) -> list[Made]:
    """Captures of HTML pages, by their paths."""
    return [answer(f"{SITE}{path}", body) for path, body in pages.items()]
