"""What is read of contents, so that pages can be compared: which there are, which URL each says is meant, and the
fingerprint of its text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha1
from typing import Final

from sqspider.archive.digests import sha1_of
from sqspider.archive.errors import DamagedError, NoArchiveError
from sqspider.archive.files import Files, warc_files
from sqspider.archive.reading import Captured, captures_in
from sqspider.archive.strides import Strides
from sqspider.extract.document import BinaryError, Document, answered_by
from sqspider.extract.duplicates import Answer, Content, Read
from sqspider.extract.facts import canonical_of
from sqspider.extract.page import Page
from sqspider.extract.selection import Selector, crawl_of
from sqspider.extract.simhash import fingerprint
from sqspider.extract.texts import main_of, text_of
from sqspider.record import CapturePlace
from sqspider.web.body import DecodeError

_OF_NOTHING: Final = "3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ"  # SHA-1 of no bytes

Unreadable = Callable[[str], None]


@contextmanager
def reader(files: Files, on_unreadable: Unreadable, *, fingerprints: bool) -> Iterator[Read]:
    """Reads contents of an archive, best in its order; what cannot be read is told, with its URL, and has none."""
    with Strides(files) as strides:

        def read(url: str, place: CapturePlace) -> Content | None:
            try:
                document = Document(strides.capture_at(place, url))
                if not document.is_page:
                    return None
                return Content(canonical_of(Page(document)), _fingerprint(document) if fingerprints else None)
            except BinaryError:
                return None
            except (DamagedError, NoArchiveError, DecodeError) as error:
                on_unreadable(f"{url}: {error}")
                return None

        yield read


def answers_in(files: Files, selector: Selector, on_unreadable: Unreadable) -> Iterator[Answer]:
    """The answers of an archive: all that it has of a URL. Raises :class:`NoArchiveError`; what cannot be read is told.

    They are known by the digests that their records have, so that of a revisit nothing else need be found.
    """
    for info in warc_files(files):
        try:
            for captured in captures_in(files, info):
                if selector.takes(captured):
                    digest = _digest_of(captured)
                    if digest is None:
                        on_unreadable(f"{captured.url}: its record does not say what it is a revisit of")
                    else:
                        place = None if captured.kind == "revisit" else _place_of(captured)
                        yield Answer(captured.url, crawl_of(captured), digest, place, captured.at)
        except DamagedError as error:
            on_unreadable(str(error))


def _digest_of(captured: Captured) -> str | None:
    """Of the payload, ``sha1:`` and base32; another one as it is written. None: it is of a revisit that says none."""
    answered = answered_by(captured)
    said = answered.digest
    if answered.kind == "revisit":
        is_none = said is None or sha1_of(said) == _OF_NOTHING  # as some write of a 304
        return None if is_none else _labelled(said or "")
    if said is None:
        hashed = sha1(usedforsecurity=False)
        for piece in answered.payload_pieces():
            hashed.update(piece)
        said = f"sha1:{hashed.hexdigest()}"
    return _labelled(said)


def _labelled(digest: str) -> str:
    found = sha1_of(digest)
    return digest if found == digest else f"sha1:{found}"


def _place_of(captured: Captured) -> CapturePlace:
    digest = (captured.digest or "").removeprefix("sha1:")
    return CapturePlace(captured.file, captured.offset, captured.length, digest, captured.at)


def _fingerprint(document: Document) -> int | None:
    """Of the main content; of a page that has hardly any, of all of it, so that pages of menus alone are alike."""
    found = fingerprint(main_of(document))
    return fingerprint(text_of(document)) if found is None else found
