"""Rows of documents, by rules."""

from __future__ import annotations

from collections import Counter

import msgspec

from sqspider.extract.document import Document
from sqspider.extract.fetch_columns import FETCH_COLUMNS
from sqspider.extract.rules import Rules
from sqspider.tables.columns import Column, Row


class Tally(msgspec.Struct):
    """What became of documents: of several, the sum."""

    documents: int = 0
    rows: int = 0
    found: Counter[str] = msgspec.field(default_factory=Counter)  # by field: documents that have it
    missing: Counter[str] = msgspec.field(default_factory=Counter)  # by required field: documents that lack it
    errors: Counter[str] = msgspec.field(
        default_factory=Counter
    )  # by kind: what could not be read, or what code of one's own raised


class Extractor:
    """Makes rows. Raises ``ValueError`` for rules that cannot be followed here: a path that does not parse, a module
    that does not import, a library that is not installed."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.columns: tuple[Column, ...] = FETCH_COLUMNS

    def rows(self, document: Document) -> list[Row]:
        """The rows of a document. What a page does wrong is in its ``error``, and raises nothing."""
        raise NotImplementedError

    def take_tally(self) -> Tally:
        """What became of the documents since this was asked last."""
        raise NotImplementedError
