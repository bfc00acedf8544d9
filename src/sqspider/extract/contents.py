"""What is read of a content, so that pages can be compared: which URL it says is meant, and its text's fingerprint."""

from __future__ import annotations

from collections.abc import Callable

from sqspider.archive.errors import DamagedError, NoArchiveError
from sqspider.archive.files import Files
from sqspider.archive.reading import capture_at
from sqspider.extract.document import BinaryError, Document
from sqspider.extract.duplicates import Content, Read
from sqspider.extract.facts import canonical_of
from sqspider.extract.page import Page
from sqspider.extract.simhash import fingerprint
from sqspider.extract.texts import main_of, text_of
from sqspider.record import CapturePlace
from sqspider.web.body import DecodeError


def reader(files: Files, on_unreadable: Callable[[str], None], *, fingerprints: bool) -> Read:
    """Reads contents of an archive; what cannot be read is told, with its URL, and has no content."""

    def read(url: str, place: CapturePlace) -> Content | None:
        try:
            document = Document(capture_at(files, place, url))
            if not document.is_page:
                return None
            return Content(canonical_of(Page(document)), _fingerprint(document) if fingerprints else None)
        except BinaryError:
            return None
        except (DamagedError, NoArchiveError, DecodeError) as error:
            on_unreadable(f"{url}: {error}")
            return None

    return read


def _fingerprint(document: Document) -> int | None:
    """Of the main content; of a page that has hardly any, of all of it, so that pages of menus alone are alike."""
    found = fingerprint(main_of(document))
    return fingerprint(text_of(document)) if found is None else found
