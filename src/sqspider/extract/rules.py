"""What is to be extracted: said once, in a file (TOML) or on a command line, and the columns that follow from it."""

from __future__ import annotations

import enum

import msgspec


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
    is_list: bool = False  # all that is found, not the first


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
    max_bytes: int = 16 * 1024 * 1024  # of a body that are looked at
