"""What is to be extracted: said once, in a file (TOML) or on a command line, and the columns that follow from it."""

from __future__ import annotations

import enum
import re
from typing import Any, Final

import msgspec

from sqspider.checks import Range, check_number, proposal, shown
from sqspider.extract.document import MAX_BODY_BYTES
from sqspider.extract.fetch_columns import FETCH_COLUMNS
from sqspider.tables.columns import Kind


class Fact(enum.StrEnum):
    """What is known of nearly every page; a column of its name."""

    TITLE = "title"
    LANGUAGE = "language"  # as the page says it
    CANONICAL = "canonical"
    DESCRIPTION = "description"
    HEADINGS = "headings"
    PUBLISHED = "published"
    NOINDEX = "noindex"
    TEXT = "text"
    MARKDOWN = "markdown"
    MAIN = "main"  # the main content's text
    LINKS = "links"


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A column of one's own: ``price = 'css:.price::text | number'``."""

    name: str
    path: str  # where it is found, and what is made of it: see ``paths``
    is_required: bool = False  # a page without it is counted, and named


ELEMENT: Final = "element"
"""The column that counts the rows of a page, where it may have several."""

APPLY_KINDS: Final = tuple(kind.value for kind in Kind if kind is not Kind.STRUCTS)
"""What columns of one's own code may hold."""

MAX_BYTES: Final = Range(1, 1024 * 1024 * 1024)
_NAME: Final = re.compile(r"[^\W\d][\w-]{0,63}")
_FUNCTION: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class Rules(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that is to be extracted. It can be sent to another process.

    Raises ``TypeError`` or ``ValueError`` for what is none, in words that begin with the field's name.
    """

    facts: tuple[Fact, ...] = ()
    fields: tuple[Field, ...] = ()
    each: str | None = None  # a row for each element that this path finds, not one a page
    apply: str | None = None  # ``module:function``: a document in, rows out
    apply_columns: tuple[tuple[str, str], ...] = ()  # what that function gives: names, and kinds of columns
    main_by: str = "turbohtml"  # who finds the main content
    max_bytes: int = MAX_BODY_BYTES  # of a body that are looked at

    def __post_init__(self) -> None:
        check_number("max_bytes", self.max_bytes, MAX_BYTES)
        if len(set(self.facts)) < len(self.facts):
            raise ValueError("facts: one is named twice")
        taken = {column.name: "what was fetched" for column in FETCH_COLUMNS}
        taken |= {ELEMENT: "the number of a row in its page"} | {str(fact.value): "a fact" for fact in self.facts}
        for field in self.fields:
            check_name(field.name, taken)
            taken[field.name.lower()] = "another field"
        for name, kind in self.apply_columns:
            check_name(name, taken)
            taken[name.lower()] = "another column"
            check_kind(name, kind)
        if self.apply is None:
            if self.apply_columns:
                raise ValueError("apply_columns: there is no function to apply that gives them")
        elif not _FUNCTION.fullmatch(self.apply):
            raise ValueError(f"apply: a module and a function, as in 'prices:offers', not {shown(self.apply)}")
        elif self.each is not None:
            raise ValueError(
                "apply: one's own function gives the rows of a page, or each of its elements is one: not both"
            )


def check_name(name: str, taken: dict[str, str]) -> None:
    """Raises ``ValueError`` for what is no name of a column, or that of another. Case makes no difference: there are
    files for which it makes none."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name or repr(name)}: a name is letters, digits, _ and -, at most 64, and begins with a letter"
        )
    if other := taken.get(name.lower()):
        raise ValueError(f"{name}: that is the column of {other}; take another name")


def check_kind(name: str, kind: Any) -> None:
    """Raises ``ValueError`` for no kind of column that one's own code may fill."""
    if kind not in APPLY_KINDS:
        raise ValueError(f"{name}: {shown(kind)} is no kind of column.{proposal(str(kind), APPLY_KINDS) or _kinds()}")


def _kinds() -> str:
    return f" They are {', '.join(APPLY_KINDS)}."
