"""What a setting may be: one table of bounds per record, checked wherever the record is made.

So Python, the command line and messages from strangers are held to the same rules, in the same
words. An error begins with the name of the field: ``delay_seconds: from 0 to 86,400, not -1``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from sqspider.redact import redact

MAX_COUNT: Final = 2**53 - 1  # the largest integer that every JSON reader keeps (RFC 8259 section 6)


class Range(NamedTuple):
    """The range of a number, both ends included."""

    least: float
    most: float = MAX_COUNT
    is_whole: bool = True
    may_be_none: bool = False


def seconds(least: float, most: float) -> Range:
    """The range of a duration."""
    return Range(least, most, is_whole=False)


def optional(least: float, most: float = MAX_COUNT) -> Range:
    """The range of a whole number that may also be left out."""
    return Range(least, most, may_be_none=True)


def check_numbers(record: object, ranges: Mapping[str, Range]) -> None:
    """Raise ``TypeError`` or ``ValueError`` for a field that is no number or out of its bounds."""
    for name, bound in ranges.items():
        check_number(name, getattr(record, name), bound)


def check_number(name: str, value: Any, bound: Range) -> None:
    """The same for one value, by the name that its giver knows."""
    if value is None and bound.may_be_none:
        return
    is_number = type(value) is int or (type(value) is float and not bound.is_whole)
    if not is_number:
        raise TypeError(f"{name}: a {'whole ' if bound.is_whole else ''}number, not {shown(value)}")
    if not bound.least <= value <= bound.most:  # NaN is in no range
        raise ValueError(f"{name}: {_worded(bound)}, not {shown(value)}")


def check_flags(record: object, names: Iterable[str]) -> None:
    """Raise ``TypeError`` for a field that is neither true nor false."""
    for name in names:
        check_flag(name, getattr(record, name))


def check_flag(name: str, value: object) -> None:
    """The same for one value."""
    if value is not True and value is not False:
        raise TypeError(f"{name}: True or False, not {shown(value)}")


def check_line(name: str, value: object) -> None:
    """Raise ``TypeError`` or ``ValueError`` for what is no text in one line."""
    if not isinstance(value, str):
        raise TypeError(f"{name}: a text, not {shown(value)}")
    if not value.strip():
        raise ValueError(f"{name}: must not be empty")
    if not value.isprintable():
        raise ValueError(f"{name}: printable characters in one line, not {shown(value)}")


def check_header(name: str, value: object) -> None:
    """Raise ``TypeError`` or ``ValueError`` for what cannot be the value of a header (RFC 9110 section 5.5)."""
    check_line(name, value)
    if not str(value).isascii():
        raise ValueError(f"{name}: ASCII characters only, not {shown(value)}")


def texts_of(name: str, value: Any) -> tuple[str, ...]:
    """Several texts as a tuple. Raises ``TypeError`` for anything else, a single text too."""
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        texts = tuple(value)
        if all(isinstance(text, str) for text in texts):
            return texts
        value = texts
    raise TypeError(f"{name}: a list of texts, not {shown(value)}")


def _worded(bound: Range) -> str:
    if bound.most == MAX_COUNT:
        return f"{bound.least:,} or more"
    return f"from {bound.least:,} to {bound.most:,}"


def proposal(name: str, known: Iterable[str]) -> str:
    """The names that were perhaps meant, as the end of a sentence on one that is not known."""
    from difflib import get_close_matches  # here: few names are wrong

    alike = get_close_matches(name, known)
    return f" Did you mean {' or '.join(repr(each) for each in alike)}?" if alike else ""


def printable(text: str) -> str:
    """What a stranger wrote, for a terminal: what it would obey in place of showing it, as JSON writes that."""
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def shown(value: object) -> str:
    """A value as an error names it, shortened, and without passwords of URLs in it."""
    text = redact(repr(value))
    return text if len(text) <= 80 else f"{text[:80]}…"
