"""A document under extraction: rules are followed where that is possible, and where it is not, it is told why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Final

from sqspider.archive.errors import DamagedError, NoArchiveError
from sqspider.extract.document import MAX_TAGS, BinaryError, Document
from sqspider.extract.page import Page, SlowExpressionError, TooMuchError
from sqspider.extract.tally import Trouble
from sqspider.patterns import Search, TooSlowError
from sqspider.web.body import DecodeError

if TYPE_CHECKING:
    import turbohtml

    from sqspider.extract.facts import FactColumn
    from sqspider.extract.paths import Elements, Path
    from sqspider.tables.columns import Row

MAX_ERROR_CHARACTERS: Final = 500
MAX_SECONDS: Final = 20.0  # of work, that all rules have at one page; one of 16 MB takes two


class Reading:
    """One document, and what was wrong with it so far."""

    def __init__(self, document: Document, max_bytes: int) -> None:
        self.document = document
        self.troubles: set[Trouble] = set()
        self._said: dict[str, None] = {}  # in order, each once
        self._max_bytes = max_bytes
        self._time = Search(MAX_SECONDS)

    @property
    def error(self) -> str | None:
        """What is wrong with the whole of it."""
        return "; ".join(self._said)[:MAX_ERROR_CHARACTERS] or None

    @property
    def charset(self) -> str | None:
        """By which it was read; none: nothing needed that."""
        return vars(self.document).get("encoding")

    def note(self, trouble: Trouble, why: str) -> None:
        self.troubles.add(trouble)
        self._said[why] = None

    @cached_property
    def page(self) -> Page:
        return Page(self.document)

    def facts(self, facts: Sequence[FactColumn], *, nothing_follows: bool) -> Row:
        """A value for each; none: the page does not say. ``nothing_follows``: nobody asks for the tree after that."""
        if self._why_none is not None:
            return tuple([self._beside(fact, *self._why_none) for fact in facts])
        values: list[object] = [None] * len(facts)
        with self.limited():
            for at in sorted(range(len(facts)), key=lambda at: facts[at].is_of_shown):
                if nothing_follows and facts[at].is_of_shown:
                    self.document.give_up_tree()
                try:
                    values[at] = facts[at].of(self.page)
                except TooMuchError as error:
                    self._note_too_much(error)
        return tuple(values)

    def _beside(self, fact: FactColumn, trouble: Trouble, why: str) -> object:
        """A fact of what is no page."""
        if fact.beside is None:
            self.note(trouble, why)
            return None
        try:
            return fact.beside(self.page)
        except _UNREADABLE as error:
            self.note(*_trouble(error))
            return None

    def elements(self, path: Elements) -> list[turbohtml.Element]:
        if not self._is_page():
            return []
        try:
            return path.of(self.page)
        except TooSlowError:
            raise
        except ValueError as error:
            self.note(Trouble.PATH, f"each: {error}")
            return []

    def value(self, name: str, path: Path, within: turbohtml.Element | None) -> object:
        """What a field's path gives; none: nothing."""
        if path.needs_page and not self._is_page():
            return None
        try:
            return path.value(self.page, within)
        except TooSlowError:
            raise  # of the time for all of them
        except _UNREADABLE as error:
            self.note(*_trouble(error))
        except ValueError as error:
            trouble = Trouble.SLOW if isinstance(error, SlowExpressionError) else Trouble.PATH
            self.note(trouble, f"{name}: {error}")
        return None

    @contextmanager
    def limited(self) -> Iterator[None]:
        """Ends what takes too long within it, or finds too much, and tells it."""
        try:
            with self._time.limited():
                yield
        except TooSlowError:
            self.note(Trouble.SLOW, f"the rules take longer than {MAX_SECONDS:g} s on this page")
        except TooMuchError as error:
            self._note_too_much(error)

    def _note_too_much(self, error: TooMuchError) -> None:
        self.note(Trouble.SLOW, f"{error}: elements lie within one another")

    def _is_page(self) -> bool:
        if self._why_none is not None:
            self.note(*self._why_none)
        return self._why_none is None

    @cached_property
    def _why_none(self) -> tuple[Trouble, str] | None:
        """Why there is no page to be read."""
        document = self.document
        if not document.may_be_page:
            return Trouble.NO_PAGE, f"no page, but {document.media_type}"  # its body is not looked at
        try:
            if document.captured.kind == "revisit" and document.captured.original is None:
                return Trouble.NO_ORIGINAL, "the capture that this revisit refers to is not in the archive"
            if not document.markup or not document.is_page:
                return Trouble.NO_PAGE, "no page" if document.body else "no page: the body is empty"
        except _UNREADABLE as error:
            return _trouble(error)
        if len(document.body) >= self._max_bytes:
            self.note(Trouble.TOO_LARGE, f"of the body only the first {self._max_bytes:,} bytes are looked at")
        if document.has_more_tags:
            self.note(Trouble.TOO_LARGE, f"of the page only the first {MAX_TAGS:,} tags are looked at")
        return None


_UNREADABLE: Final = (DecodeError, BinaryError, DamagedError, NoArchiveError)


def _trouble(error: Exception) -> tuple[Trouble, str]:
    if isinstance(error, DecodeError):
        return Trouble.DECODE, f"the body is not what its Content-Encoding says: {error}"
    if isinstance(error, BinaryError):
        return Trouble.BINARY, "no page: the body is no text"
    return Trouble.NO_ORIGINAL, f"the capture that this revisit refers to cannot be read: {error}"
