"""Lists of URLs with what else is said of each: a URL a line, CSV, JSON lines.

They are read in constant memory, whatever comes; what cannot be read is named by its line, and the others go on.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import PurePath
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec

from sqspider.meta import MetaError, encode_meta
from sqspider.redact import redact
from sqspider.url import Refused
from sqspider.work.seeds import bare, is_passed_over, read_lines, read_url

LIST_FORMATS: Final = ("text", "csv", "tsv", "jsonl")
MAX_ROW_CHARACTERS: Final = 128 * 1024  # of CSV, or a line of JSON: no field of `csv` may be longer
_SUFFIXES: Final = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_DELIMITERS: Final = ",;\t"  # of several that are as frequent in the first line the first
_URL_COLUMNS: Final = ("url", "link")  # where none is named, in any case of letters
_TOO_LONG: Final = f"more than {MAX_ROW_CHARACTERS:,} characters"
_OPEN_QUOTE: Final = "a quote is opened and not closed"
_json_decoder = msgspec.json.Decoder()


class Listed(NamedTuple):
    """What a list says in one place."""

    line: int  # counted from 1; 0: it is no list's, but was given by itself
    text: str  # of the URL, as it came
    meta: str | None = None  # the other fields: see ``meta``


class BadLine(NamedTuple):
    """What no URL can be read from, or what says more of one than a record keeps."""

    text: str  # as it came
    why: str

    @property
    def reason(self) -> str:
        """As what it is counted."""
        return "bad_line"

    def __str__(self) -> str:
        return f"{self.why}: {redact(self.text[:500])[:80]!r}"


class RefusedLine(NamedTuple):
    """A text that is no URL to crawl."""

    line: int  # as of what is listed
    refused: Refused | BadLine

    def __str__(self) -> str:
        return f"line {self.line}: {self.refused}" if self.line else str(self.refused)


class ListError(ValueError):
    """A list cannot be read at all; the text says why, and what to do."""


def list_format_of(name: str) -> str:
    """The format that a file's name says; one of lines where it says none."""
    path = PurePath(name.lower())
    return _SUFFIXES.get((path.with_suffix("") if path.suffix == ".gz" else path).suffix, "text")


def read_list(file: BinaryIO, form: str = "text", column: str | None = None) -> Iterator[Listed | RefusedLine]:
    """What a list says, in its order; ``form``: one of :data:`LIST_FORMATS`.

    ``column``: the name of the column or field that has the URL; of CSV also its number, counted from 1. The others
    are what is kept of it. Raises :class:`ListError` before the first, ``OSError`` at any time.
    """
    if form == "text":
        if column is not None:
            raise ListError("a list of lines has no columns: say --format csv, or name it .csv")
        return (Listed(n, line) for n, line in enumerate(read_lines(file), 1) if not is_passed_over(line))
    if form == "jsonl":
        return _read_json(file, "url" if column is None else column)
    return _read_csv(file, "\t" if form == "tsv" else None, column)


def _listed(line: int, text: str, fields: Mapping[str, Any]) -> Listed | RefusedLine:
    try:
        return Listed(line, text, encode_meta(fields))
    except MetaError as error:
        return RefusedLine(line, BadLine(text, f"what is said of the URL cannot be kept ({error})"))


# JSON lines


def _read_json(file: BinaryIO, name: str) -> Iterator[Listed | RefusedLine]:
    for number, line in enumerate(read_lines(file, most=MAX_ROW_CHARACTERS), 1):
        if text := bare(line):
            yield _of_json(number, text, name)


def _of_json(number: int, line: str, name: str) -> Listed | RefusedLine:
    def refused(why: str) -> RefusedLine:
        return RefusedLine(number, BadLine(line, why))

    if len(line) > MAX_ROW_CHARACTERS:
        return refused(_TOO_LONG)
    try:
        value = _json_decoder.decode(line)
    except UnicodeEncodeError:
        return refused("no UTF-8")
    except RecursionError:
        return refused("no JSON that can be read: too deep")
    except ValueError as error:
        return refused(f"no JSON ({error})")
    if isinstance(value, str):
        return Listed(number, value)
    if not isinstance(value, dict):
        return refused("neither a JSON object nor a text")
    url = value.pop(name, None)
    if not isinstance(url, str):
        return refused(f"no text is called {name!r} in it")
    return _listed(number, url, value)


# CSV (RFC 4180, and what spreadsheets make of it)


class _RowTooLongError(Exception):
    """A row does not end."""


class _Lines:
    """Lines for a reader that asks for more of them while a quote is open."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._characters = 0  # of this row
        self.first = 1  # line of this row
        self.text = ""  # of that line
        self.last = 0  # line that was given

    def begin_row(self) -> None:
        self.first, self._characters, self.text = self.last + 1, 0, ""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.last += 1
        if not self._characters:
            self.text = line
        self._characters += len(line) + 1
        if self._characters > MAX_ROW_CHARACTERS:
            raise _RowTooLongError
        return f"{line}\n"


def _read_csv(file: BinaryIO, delimiter: str | None, column: str | None) -> Iterator[Listed | RefusedLine]:
    lines = read_lines(file, most=MAX_ROW_CHARACTERS, keeps_blanks=True)
    first = next(lines, "")
    if delimiter is None:
        delimiter = max(_DELIMITERS, key=first[:MAX_ROW_CHARACTERS].count)
    rows = _rows(_Lines(chain((first,), lines)), delimiter)
    number, head = next(rows, (0, []))
    while not isinstance(head, BadLine) and not any(head) and number:  # empty lines before it
        number, head = next(rows, (0, []))
    if isinstance(head, BadLine):
        raise ListError(f"its first row cannot be read: {head}")
    if not number:
        return iter(())
    index = _index_of(head, column)
    if column is not None and column.isdecimal() and not isinstance(read_url(head[index], assume_http=True), Refused):
        return _of_rows(chain(((number, head),), rows), index, [])
    return _of_rows(rows, index, head)


def _rows(lines: _Lines, delimiter: str) -> Iterator[tuple[int, list[str] | BadLine]]:
    """Rows with the numbers of their first lines."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.begin_row()
        row: list[str] | BadLine
        try:
            row = next(reader)
        except StopIteration:
            return
        except (csv.Error, _RowTooLongError) as error:  # the reader begins anew with the next line
            row = BadLine(lines.text, _why(error, lines))
        yield lines.first, row


def _why(error: Exception, lines: _Lines) -> str:
    left_out = f"; the lines up to {lines.last:,} are left out with it" if lines.last > lines.first else ""
    if isinstance(error, _RowTooLongError):
        return f"{_TOO_LONG} in a row{f': {_OPEN_QUOTE}' if left_out else ''}{left_out}"
    if "end of data" in str(error):
        return f"{_OPEN_QUOTE}{left_out}"
    return f"no CSV ({error}){left_out}"


def _index_of(head: Sequence[str], column: str | None) -> int:
    """The place of the column with the URL, counted from 0. Raises :class:`ListError`."""
    names = [bare(name) for name in head]
    folded = [name.casefold() for name in names]
    if column is not None and column.isdecimal():
        if not 1 <= int(column) <= len(head):
            raise ListError(f"there is no column {column}: its first row has {len(head):,}")
        return int(column) - 1
    for sought, there in ((column, names), (column and column.casefold(), folded)):
        if sought is not None and sought in there:
            return there.index(sought)
    for name in _URL_COLUMNS if column is None else ():
        if name in folded:
            return folded.index(name)
    wanted = "url or link" if column is None else repr(column)
    shown = redact(", ".join(names))
    raise ListError(
        f"no column is called {wanted}: its first row says {shown[:200]!r}. --column NAME names the one with the URL, "
        "--column NUMBER counts it, where the first row may be no head"
    )


def _of_rows(
    rows: Iterator[tuple[int, list[str] | BadLine]], index: int, head: Sequence[str]
) -> Iterator[Listed | RefusedLine]:
    names = _names(head)
    for number, row in rows:
        if isinstance(row, BadLine):
            yield RefusedLine(number, row)
        elif index < len(row) and row[index]:
            said = {_name(names, n): value for n, value in enumerate(row) if value and n != index}
            yield _listed(number, row[index], said)
        elif any(row):  # else it is an empty line, or a spreadsheet's empty row
            why = f"nothing stands in the column of the URL, number {index + 1}"
            yield RefusedLine(number, BadLine(",".join(row), why))


def _names(head: Sequence[str]) -> list[str]:
    """Names of columns, each once: one without, or with that of another, goes by its number."""
    names: list[str] = []
    for number, name in enumerate(map(bare, head), 1):
        names.append(str(number) if not name or name in names else name)
    return names


def _name(names: Sequence[str], place: int) -> str:
    return names[place] if place < len(names) else str(place + 1)
