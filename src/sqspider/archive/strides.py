"""Reads captures at places that come in the order in which they lie there: one that lies close behind the last is read
on to, and the file is opened for it only where it lies far off. In a bucket, opening is a request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

from sqspider.archive.addresses import is_bucket
from sqspider.archive.cdxj import CAPTURE_KINDS
from sqspider.archive.files import Files
from sqspider.archive.reading import Captured, checked, first_capture
from sqspider.archive.records import Record, RecordError, measured, records_of
from sqspider.record import CapturePlace

# That are passed over rather than opened anew: a kilobyte takes ten microseconds, to open a file a hundred; to ask a
# bucket takes tens of milliseconds, and is charged for.
CLOSE_BYTES: Final = 8 * 1024
CLOSE_IN_BUCKET: Final = 256 * 1024


class Strides:
    """A context manager. Places may come in any order; in that of the archive they cost least."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._close = CLOSE_IN_BUCKET if is_bucket(files.address) else CLOSE_BYTES
        self._opened = ExitStack()
        self._records: Iterator[tuple[Record, Captured | None]] = iter(())
        self._file = ""
        self._reached = 0  # offset in it
        self._wanted = 0  # offset of the one that is kept of those that are read

    def __enter__(self) -> Strides:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def capture_at(self, place: CapturePlace, url: str | None = None) -> Captured:
        """As :func:`sqspider.archive.reading.capture_at` does."""
        found = self._read_on_to(place) or self._opened_at(place)
        self._reached = found.offset + found.length
        return checked(self._files, found, place, url)

    def _read_on_to(self, place: CapturePlace) -> Captured | None:
        """The capture, where it lies close behind; none: nothing that can be read on to begins there."""
        if place.file != self._file or not 0 <= place.offset - self._reached <= self._close:
            return None
        self._wanted = place.offset
        try:
            for record, captured in self._records:
                if record.offset >= place.offset:
                    if captured is not None:
                        captured.length = record.length
                    return captured
        except RecordError:
            pass  # what is damaged before it is not asked for
        return None

    def _opened_at(self, place: CapturePlace) -> Captured:
        self._opened.close()
        self._file, self._wanted = "", place.offset
        stream = self._opened.enter_context(self._files.opened(place.file, place.offset))
        self._records = measured(records_of(stream, place.file, place.offset), self._taken)
        found = first_capture(self._files, place.file, place.offset, self._records)
        self._file = place.file
        return found

    def _taken(self, record: Record) -> Captured | None:
        is_wanted = record.offset == self._wanted and record.kind in CAPTURE_KINDS
        return Captured(record, self._files) if is_wanted else None
