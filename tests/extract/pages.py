"""Documents for tests: answers as an archive has them, and real pages of this machine and of this repository."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

from sqspider.archive.reading import Captured
from sqspider.archive.records import records_of
from sqspider.extract.document import MAX_BODY_BYTES, Document
from sqspider.extract.extractor import Extractor
from sqspider.extract.rules import Field, Rules
from tests.archive.warcs import response

CASES: Final = Path(__file__).parent / "cases"
FOLDERS: Final = (Path("/usr/share/doc/python3.11/html"), Path("/usr/share/doc/postgresql-doc-15/html"))
"""Documentation that Debian's packages have, where they are installed."""

URL: Final = "https://shop.example/things/page?size=2&colour=red"
HTML: Final = "text/html; charset=utf-8"


def captured(body: bytes | str, *headers: tuple[str, str], url: str = URL, content_type: str = HTML) -> Captured:
    """What was answered, out of a WARC record."""
    payload = body.encode() if isinstance(body, str) else body
    lines = (("Content-Type", content_type), *headers) if content_type else headers
    head = "".join(f"{name}: {value}\r\n" for name, value in lines)
    message = f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(payload)}\r\n\r\n".encode() + payload
    for record in records_of(io.BytesIO(response(url, message).written()), "made.warc"):
        return Captured(record)
    raise AssertionError("it has one record")


def document(
    body: bytes | str,
    *headers: tuple[str, str],
    url: str = URL,
    content_type: str = HTML,
    max_bytes: int = MAX_BODY_BYTES,
) -> Document:
    """The same as rules see it."""
    return Document(captured(body, *headers, url=url, content_type=content_type), max_bytes=max_bytes)


def extracted(rules: Rules, *documents: Document) -> list[dict[str, object]]:
    """The rows of documents, by the names of their columns."""
    extractor = Extractor(rules)
    names = [column.name for column in extractor.columns]
    return [dict(zip(names, row, strict=True)) for each in documents for row in extractor.rows(each)]


def value(path: str, of: Document | str) -> object:
    """What a path gives at a page, on which nothing is wrong."""
    rules = Rules(fields=(Field(name="it", path=path),))
    (row,) = extracted(rules, document(of) if isinstance(of, str) else of)
    assert row["error"] is None
    return row["it"]


def own_pages() -> dict[str, bytes]:
    """The pages of this repository."""
    return {file.name: file.read_bytes() for file in sorted(CASES.glob("*.html"))}


def real_pages(most: int) -> dict[str, bytes]:
    """So many pages of documentation, or all if there are fewer, picked evenly; none where it is not installed."""
    files = [file for folder in FOLDERS for file in sorted(folder.rglob("*.html"))]
    number = min(most, len(files))
    picked = (files[at * len(files) // number] for at in range(number))
    return {str(file): file.read_bytes() for file in picked}
