"""What a process of its own does for the link table: captures in, what the table keeps of them out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from http import HTTPStatus
from typing import Final, NamedTuple

import msgspec

from sqspider.archive.errors import DamagedError, NoArchiveError
from sqspider.archive.files import FileInfo
from sqspider.archive.reading import Captured, capture_at, captures_from, files_to_read
from sqspider.archive.records import without_brackets
from sqspider.extract.document import Document
from sqspider.extract.link_originals import Found, Revisit, bare, capture_key
from sqspider.extract.linked_page import LinkedPage, linked_page
from sqspider.extract.selection import is_robots
from sqspider.extract.working import Result, Task, captures_in_range


class LinkWork(NamedTuple):
    """What all tasks have in common."""

    archive: str

    def worker(self, note: Callable[[int], None]) -> AbstractContextManager[LinkWorker]:
        """Who does it."""
        return nullcontext(LinkWorker(self.archive, note))


class FoundTask(Task):
    """Revisits whose originals were found."""

    found: tuple[Found, ...] = ()


class Links(Result):
    """What came of a task."""

    packed: bytes = b""  # its pages: they are sent in a tenth of the time that pickle takes for as many links
    revisits: list[Revisit] = msgspec.field(default_factory=list)  # whose originals are to be found
    killing: list[str] = msgspec.field(default_factory=list)  # URLs at which two processes have died

    def pages(self) -> list[LinkedPage]:
        """What the table keeps of what was read."""
        return _PAGES.decode(self.packed)


_PAGES: Final = msgspec.msgpack.Decoder(list[LinkedPage])


class LinkWorker:
    """Does tasks. ``note`` is told which capture is looked at, before it is."""

    def __init__(self, archive: str, note: Callable[[int], None]) -> None:
        self._files = files_to_read(archive)
        self._note = note

    def do(self, task: Task) -> Links:
        """Raises :class:`sqspider.ArchiveError`."""
        result = Links(task.number)
        pages = self._found(task, result) if isinstance(task, FoundTask) else self._in_range(task, result)
        result.packed = msgspec.msgpack.encode(list(pages))
        self._note(-1)
        return result

    def _in_range(self, task: Task, result: Links) -> Iterator[LinkedPage]:
        for number, captured in captures_in_range(self._files, task, result, self._note):
            if number in task.killing:
                result.killing.append(captured.url)
                yield LinkedPage(url=captured.url, at=captured.at)
            elif (revisit := _revisit_of(captured)) is not None:
                result.revisits.append(revisit)
                yield LinkedPage(url=captured.url, at=captured.at, links=None)
            elif (page := linked_page(Document(captured))) is not None:
                yield page

    def _found(self, task: FoundTask, result: Links) -> Iterator[LinkedPage]:
        for number, found in enumerate(task.found):
            self._note(number)
            if number in task.killing:
                result.killing.append(found.url)
                yield LinkedPage(url=found.url, at=found.at)
                continue
            try:
                captured = self._with_original(found)
            except DamagedError as error:
                result.damage[found.place.file] = str(error)
                continue
            if captured is not None and (page := linked_page(Document(captured))) is not None:
                yield page

    def _with_original(self, found: Found) -> Captured | None:
        """A revisit, as it lies there, with the capture that has its body; none: one of them was moved since."""
        try:
            there = captures_from(self._files, FileInfo(found.file, 0, 0.0), found.offset)
            captured = next((captured for captured, _, _ in there), None)
            if captured is None or capture_key(captured.identity) != found.capture:
                return None
            if captured.kind == "revisit":  # `archive forget` makes full answers of some
                captured.original = capture_at(self._files, found.place)
        except NoArchiveError:
            return None
        return captured


def _revisit_of(captured: Captured) -> Revisit | None:
    """None: its own record says all that is kept of it, or does not say whose body it has."""
    if captured.kind != "revisit" or captured.digest is None or is_robots(captured):
        return None
    is_unchanged = captured.http_status in (None, HTTPStatus.NOT_MODIFIED)
    if captured.http_status is not None and not is_unchanged and not 200 <= captured.http_status < 300:
        return None
    original = next((value for name, value in captured.fields if name.lower() == "warc-refers-to"), None)
    return Revisit(
        capture_key(captured.identity),
        captured.url,
        captured.at,
        captured.file,
        captured.offset,
        bare(captured.digest),
        # A 304 says nothing of its answer: that is in the capture that it means, and in no other with the same body.
        capture_key(without_brackets(original)) if is_unchanged and original is not None else None,
    )
