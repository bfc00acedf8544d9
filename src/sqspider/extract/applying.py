"""One's own code: a function that makes rows of a document.

It gives nothing (None), a row (a dict), or several. What it raises, and a value that its column does not hold, is told
at the row, and ends nothing.
"""

from __future__ import annotations

import importlib
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from sqspider.checks import printable, proposal, shown
from sqspider.extract import values
from sqspider.extract.document import Document
from sqspider.extract.rules import check_kind, check_name
from sqspider.extract.tally import Trouble
from sqspider.tables.columns import Column, Kind

_ENDED: Final = (Exception, SystemExit)  # what modules of strangers may raise


class Applied(NamedTuple):
    """A row of one's own, or what became of it."""

    values: tuple[object, ...]
    trouble: Trouble | None = None
    why: str = ""


class Application:
    """A function that is ready. Raises ``ValueError`` where there is none, with what its module raised."""

    def __init__(self, said: str, columns: Iterable[tuple[str, str]], taken: Mapping[str, str]) -> None:
        module, _, name = said.partition(":")
        self._name = said
        self._function, self._file = _loaded(module, name)
        self.columns = _columns(said, self._function, tuple(columns), dict(taken))
        self._names = {column.name: at for at, column in enumerate(self.columns)}
        self.nothing = (None,) * len(self.columns)

    def rows(self, document: Document) -> Iterator[Applied]:
        """The rows of a document. Raises nothing of what the function raises."""
        try:
            given = self._function(document)
            for each in (given,) if given is None or isinstance(given, Mapping) else given:
                if each is not None:
                    yield self._row(each)
        except GeneratorExit:  # nobody asks for more
            raise
        except BaseException as error:  # of strangers' code: it ends a row, not the run
            if isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                raise  # somebody's Ctrl-C
            yield Applied(self.nothing, Trouble.APPLY, f"{self._name}: {_told(error)}{self._place(error)}")

    def _row(self, given: Any) -> Applied:
        if not isinstance(given, Mapping):
            why = f"{self._name}: a row is a dict, not {shown(given)}"
            return Applied(self.nothing, Trouble.VALUE, why)
        row: list[object] = list(self.nothing)
        wrong = ""
        for name, value in given.items():
            at = self._names.get(name)
            if at is None:
                wrong = wrong or f"there is no column {shown(name)}.{proposal(str(name), self._names)}"
                continue
            try:
                row[at] = None if value is None else held(value, self.columns[at].kind)
            except (TypeError, ValueError, OverflowError, RecursionError):
                wrong = wrong or f"{name}: a column of kind {self.columns[at].kind} does not hold {shown(value)}"
        return Applied(tuple(row), Trouble.VALUE, f"{self._name}: {wrong}") if wrong else Applied(tuple(row))

    def _place(self, error: BaseException) -> str:
        """The file and line where it was raised: the last of the function's own."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename == self._file] or frames[-1:]
        return f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""


def held(value: Any, kind: Kind) -> object:
    """A value as a column of a kind holds it. Raises ``TypeError`` or ``ValueError`` for what it does not hold."""
    match kind:
        case Kind.TEXT if isinstance(value, str):
            return _text(value)
        case Kind.BOOLEAN if isinstance(value, bool):
            return value
        case Kind.INTEGER if isinstance(value, int | float) and (whole := values.to_integer(value)) is not None:
            return int(whole)
        case Kind.NUMBER if isinstance(value, int | float) and (number := values.to_number(value)) is not None:
            return number
        case Kind.TIME if (moment := _moment(value)) is not None and values.LEAST_TIME <= moment <= values.MOST_TIME:
            return moment
        case Kind.TEXTS if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
            return tuple(map(_text, value))
        case Kind.JSON:
            return msgspec.json.decode(msgspec.json.encode(value))
    raise TypeError


def _text(value: str) -> str:
    """Of a kind of text that a library has, too."""
    return values.writable(str.__str__(value))


def _moment(value: Any) -> float | None:
    """A time in seconds since the epoch. Without a zone it is UTC, as all dates here."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    return values.to_number(value) if isinstance(value, int | float) else None


def _loaded(module: str, name: str) -> tuple[Callable[[Document], Any], str]:
    """The function, and the file that it stands in."""
    folder = str(Path.cwd())
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)
    try:
        with redirect_stdout(sys.stderr):  # what is printed may be rows
            found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise ValueError(f"apply: there is no module {module!r} here, nor where Python looks for one") from None
        raise ValueError(f"apply: the module {module!r} does not import: {_told(error)}{_last(error)}") from None
    except _ENDED as error:
        raise ValueError(f"apply: the module {module!r} does not import: {_told(error)}{_last(error)}") from None
    file = str(getattr(found, "__file__", ""))
    for part in name.split("."):
        names = [each for each in dir(found) if not each.startswith("_")]
        if not hasattr(found, part):
            raise ValueError(f"apply: there is no {name!r} in {module!r}.{proposal(part, names)}")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"apply: {module}:{name} is no function, but {shown(found)}")  # noqa: TRY004 - one kind, for whoever shows it
    return found, file


def _columns(said: str, function: Any, told: tuple[tuple[str, str], ...], taken: dict[str, str]) -> tuple[Column, ...]:
    """Those that the rules name, or else the function's own attribute ``columns``."""
    if not told:
        own = getattr(function, "columns", None)
        if not isinstance(own, Mapping) or not own:
            raise ValueError(
                f"apply: {said} does not say its columns: beside the function stands "
                f'{said.rpartition(":")[2]}.columns = {{"name": "text", "price": "number"}}'
            )
        told = tuple(own.items())
    for name, kind in told:
        if not isinstance(name, str):
            raise ValueError(f"apply: {said}: a column's name is a text, not {shown(name)}")  # noqa: TRY004 - likewise
        try:
            check_kind(name, kind)
            check_name(name, taken)
        except ValueError as error:
            raise ValueError(f"apply: {said}: {error}") from None
        taken[name.lower()] = "another column"
    return tuple(Column(name, Kind(kind)) for name, kind in told)


def _told(error: BaseException) -> str:
    return printable(f"{type(error).__name__}: {_words(error)}".rstrip(": "))[:300]


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except _ENDED:  # it is their class
        return ""


def _last(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return ""  # its text says where
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if len(frames) > 1 else ""
