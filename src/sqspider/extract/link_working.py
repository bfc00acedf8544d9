"""What a process of its own does for the link table: captures in, what the table keeps of them out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Final, NamedTuple

import msgspec

from sqspider.archive.errors import ArchiveError
from sqspider.archive.reading import Captured, files_to_read
from sqspider.extract.document import Document
from sqspider.extract.linked_page import LinkedPage, linked_page
from sqspider.extract.working import Result, Task, captures_in_range
from sqspider.log import get_logger

log = get_logger(__name__)


class LinkWork(NamedTuple):
    """What all tasks have in common."""

    archive: str

    def worker(self, note: Callable[[int], None]) -> AbstractContextManager[LinkWorker]:
        """Who does it."""
        return nullcontext(LinkWorker(self.archive, note))


class Links(Result):
    """What came of a task."""

    packed: bytes = b""  # its pages: they are sent in a tenth of the time that pickle takes for as many links
    lost: list[str] = msgspec.field(default_factory=list)  # pages whose links are not known, each with the reason

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
        result.packed = msgspec.msgpack.encode(list(self._pages(task, result)))
        self._note(-1)
        return result

    def _pages(self, task: Task, result: Links) -> Iterator[LinkedPage]:
        for number, captured in captures_in_range(self._files, task, result, self._note):
            if number in task.killing:
                yield _lost(captured, "two processes died that read it", result)
            elif (page := _read(captured, result)) is not None:
                yield page


def _read(captured: Captured, result: Links) -> LinkedPage | None:
    try:
        return linked_page(Document(captured))
    except ArchiveError:
        raise
    except Exception as error:  # one page is no reason to lose all behind it
        log.exception("extraction_fault", url=captured.url)
        return _lost(captured, f"a fault of sqspider: {type(error).__name__}: {error}", result)


def _lost(captured: Captured, why: str, result: Links) -> LinkedPage:
    """What is kept of a page of which nothing else is known."""
    result.lost.append(f"{captured.url}: its links are not known: {why}")
    return LinkedPage(url=captured.url, at=captured.at)
