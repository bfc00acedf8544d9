"""Rows of documents, by rules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from sqspider.extract.document import Document
from sqspider.extract.fetch_columns import FETCH_COLUMNS, fetch_values
from sqspider.extract.reading import Reading
from sqspider.extract.rules import ELEMENT, Rules
from sqspider.extract.tally import Tally, Trouble
from sqspider.tables.columns import Column, Kind, Row

if TYPE_CHECKING:
    import turbohtml

    from sqspider.extract.applying import Application
    from sqspider.extract.facts import FactColumn
    from sqspider.extract.paths import Elements, Path

MAX_ROWS: Final = 100_000  # of one document


class Extractor:
    """Makes rows. Raises ``ValueError`` for rules that cannot be followed here: a path that does not parse, a module
    that does not import, a library that is not installed."""

    def __init__(self, rules: Rules) -> None:
        self._max_bytes = rules.max_bytes
        self._facts = _facts_of(rules)
        self._paths = _paths_of(rules)
        self._required = tuple(field.name for field in rules.fields if field.is_required)
        self._elements = _elements_of(rules)
        self._application = _application_of(rules)
        self._facts_alone = not (self._paths or self._elements or self._application)
        self._has_several = self._elements is not None or self._application is not None
        self.columns: tuple[Column, ...] = (
            *FETCH_COLUMNS,
            *((Column(ELEMENT, Kind.INTEGER, is_key=True),) if self._has_several else ()),
            *(fact.column for fact in self._facts),
            *(Column(name, path.kind) for name, path in self._paths),
            *(self._application.columns if self._application else ()),
        )
        self._tally = Tally()

    def take_tally(self) -> Tally:
        """What became of the documents since this was asked last."""
        tally, self._tally = self._tally, Tally()
        return tally

    def rows(self, document: Document) -> list[Row]:
        """The rows of a document. What a page does wrong is in its ``error``, and raises nothing."""
        reading = Reading(document, self._max_bytes)
        facts = reading.facts(self._facts, nothing_follows=self._facts_alone)
        found = self._found(reading)
        self._count(reading, found)
        if not found and reading.error and self._elements:  # it stands somewhere
            found = [((None,) * len(self._paths), None)]
        rows = []
        for number, (values, wrong) in enumerate(found):
            error = "; ".join(filter(None, (reading.error, wrong))) or None
            ordinal = (number,) if self._has_several else ()
            rows.append((*fetch_values(document, reading.charset, error), *ordinal, *facts, *values))
        self._tally.rows += len(rows)
        return rows

    def _found(self, reading: Reading) -> list[tuple[Row, str | None]]:
        """What the columns behind the facts hold, row by row, and what is wrong with a row alone."""
        found: list[tuple[Row, str | None]] = []
        rows = self._element_rows(reading) if self._elements else self._page_rows(reading)
        with reading.limited() if self._elements else nullcontext():  # one's own code takes its time
            for row in rows:
                if len(found) == MAX_ROWS:
                    reading.note(Trouble.TOO_MANY, f"more than {MAX_ROWS:,} rows: the others are left out")
                    break
                found.append(row)
        return found

    def _element_rows(self, reading: Reading) -> Iterator[tuple[Row, None]]:
        assert self._elements is not None
        for element in reading.elements(self._elements):
            yield self._field_values(reading, element), None

    def _page_rows(self, reading: Reading) -> Iterator[tuple[Row, str | None]]:
        fields: Row = (None,) * len(self._paths)  # of what takes too long
        if fields:
            with reading.limited():
                fields = self._field_values(reading, None)
        if self._application is None:
            yield fields, None
            return
        for row in self._application.rows(reading.document):
            if row.trouble is not None:
                reading.troubles.add(row.trouble)
            yield (*fields, *row.values), row.why

    def _field_values(self, reading: Reading, element: turbohtml.Element | None) -> Row:
        return tuple(reading.value(name, path, element) for name, path in self._paths)

    def _count(self, reading: Reading, found: list[tuple[Row, str | None]]) -> None:
        tally = self._tally
        tally.documents += 1
        tally.errors.update(str(trouble.value) for trouble in reading.troubles)
        for at, (name, _) in enumerate(self._paths):
            has = [values[at] is not None for values, _ in found]
            if any(has):
                tally.found[name] += 1
            if name in self._required and not all(has):
                tally.missing[name] += 1
                tally.first_missing.setdefault(name, reading.document.url)


def _facts_of(rules: Rules) -> tuple[FactColumn, ...]:
    if not rules.facts:
        return ()
    from sqspider.extract.facts import fact_column  # here, as below: what is not asked for is not loaded

    return tuple(fact_column(fact, rules.main_by) for fact in rules.facts)


def _paths_of(rules: Rules) -> tuple[tuple[str, Path], ...]:
    if not rules.fields:
        return ()
    from sqspider.extract.paths import Path

    paths = []
    for field in rules.fields:
        try:
            paths.append((field.name, Path(field.path)))
        except ValueError as error:
            raise ValueError(f"{field.name}: {error}") from None
    return tuple(paths)


def _elements_of(rules: Rules) -> Elements | None:
    if rules.each is None:
        return None
    from sqspider.extract.paths import Elements

    try:
        return Elements(rules.each)
    except ValueError as error:
        raise ValueError(f"each: {error}") from None


def _application_of(rules: Rules) -> Application | None:
    if rules.apply is None:
        return None
    from sqspider.extract.applying import Application

    taken = {column.name: "what was fetched" for column in FETCH_COLUMNS} | {ELEMENT: "the number of a row in its page"}
    taken |= {str(fact.value): "a fact" for fact in rules.facts}
    taken |= {field.name.lower(): "a field" for field in rules.fields}
    return Application(rules.apply, rules.apply_columns, taken)
