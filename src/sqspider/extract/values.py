"""What is made of a thing that was found: a text, a number, a time, an address, or nothing.

Each function takes whatever a page, its JSON or its headers hold, and gives None for what is not of its kind. None of
them raises anything for it.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sqspider.extract.element_text import element_text
from sqspider.extract.linked_data import json_of
from sqspider.web.sitemap import parse_date

if TYPE_CHECKING:
    from sqspider.extract.page import Page

MAX_INTEGER: Final = 2**63 - 1  # what files of tables keep
LEAST_TIME: Final = -62_135_510_400.0  # a day within the years 1 and 9999: no zone leads out of them
MOST_TIME: Final = 253_402_214_400.0

# A number in a text: digits in groups of three with blanks or apostrophes between them, or with points and commas.
_NUMBER: Final = re.compile(
    r"((?<![\w.,])[-+\u2212])?(?<!\d)("
    r"\d{1,3}(?P<part>[ '\u00a0\u2009\u202f\u2019])\d{3}(?!\d)(?:(?P=part)\d{3}(?!\d))*(?:[.,]\d+)*"
    r"|\d+(?:[.,]\d+)*|(?<![.,])[.,]\d+)(?:[eE]([-+]?\d{1,3})(?![.,\w]))?"
)
_GROUPED: Final = re.compile(r"[1-9]\d{0,2}(?:([.,])\d{3})(?:\1\d{3})*")
MAX_NUMBER_CHARACTERS: Final = 400  # of a number; what is longer is none

_YES: Final = frozenset(("true", "yes", "on", "1"))
_NO: Final = frozenset(("false", "no", "off", "0"))


_UNWRITABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def writable(text: str) -> str:
    """A text that every file and database takes: without control characters, and with no half of a character."""
    if text.isprintable():  # nearly all are
        return text
    return _UNWRITABLE.sub(lambda found: "\ufffd" if found[0] >= "\ud800" else "", text)


def text_of_value(value: Any) -> str | None:
    """A text as it was found; of an element, what is read there; of what JSON has, as JSON writes it."""
    if isinstance(value, str):
        return value
    if value is None or value != value:  # not a number: it is equal to nothing
        return None
    if isinstance(value, bool | int | float | dict | list):
        whole = int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value
        return None if whole in (math.inf, -math.inf) else msgspec.json.encode(whole).decode()
    if hasattr(value, "tag"):
        return element_text(value)
    data = getattr(value, "data", None)  # a comment; a document has all of its text
    return str(value.text) if data is None else str(data)


def to_text(value: Any, page: Page) -> str | None:  # noqa: ARG001 - filters are called alike
    """Its text, white space collapsed."""
    text = text_of_value(value)
    return None if text is None else " ".join(text.split())


def to_trimmed(value: Any, page: Page) -> str | None:  # noqa: ARG001 - likewise
    text = text_of_value(value)
    return None if text is None else text.strip()


def to_lower(value: Any, page: Page) -> str | None:  # noqa: ARG001 - likewise
    text = text_of_value(value)
    return None if text is None else text.lower()


def to_html(value: Any, page: Page) -> str | None:  # noqa: ARG001 - likewise
    """An element with all that is in it."""
    return str(value.html) if hasattr(value, "tag") else text_of_value(value)


def to_url(value: Any, page: Page) -> str | None:
    """Where a reference leads, in canonical form."""
    text = text_of_value(value)
    return page.absolute(text) if text and text.strip() else None


def to_boolean(value: Any, page: Page) -> bool | None:
    text = to_text(value, page)
    if text is None:
        return None
    return True if text.lower() in _YES else False if text.lower() in _NO else None


def to_json(value: Any, page: Page) -> object:  # noqa: ARG001 - likewise
    """What JSON has; of a text or an element, what its JSON says."""
    if isinstance(value, bool | int | float | dict | list):
        return value if not isinstance(value, float) or math.isfinite(value) else None
    return json_of(value.text if hasattr(value, "tag") else text_of_value(value) or "")


def to_number(value: Any, decimal: str | None = None) -> float | None:
    """The first number in a text. ``decimal``: the sign that begins its fraction; else the text decides.

    Of a comma and a point, the last begins the fraction. A comma that stands alone does, but for one before just three
    digits; a point does, unless several part groups of three.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return _finite(value)
    found = _NUMBER.search(text_of_value(value) or "")
    if found is None or len(found[0]) > MAX_NUMBER_CHARACTERS:
        return None
    number = _finite(_plain(found[2], decimal) + (f"e{found[4]}" if found[4] else ""))
    return None if number is None else -number if found[1] in ("-", "\u2212") else number


def to_integer(value: Any, decimal: str | None = None) -> int | None:
    """The same, if it is whole and no larger than files of tables keep."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) <= MAX_INTEGER else None
    number = to_number(value, decimal)
    if number is None or not number.is_integer() or abs(number) >= MAX_INTEGER:
        return None
    return int(number)


def _finite(value: str | float) -> float | None:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _plain(digits: str, decimal: str | None) -> str:
    """Digits with signs between them as Python reads them."""
    digits = re.sub("[^\\d.,]", "", digits)
    if decimal is None:
        if _GROUPED.fullmatch(digits) and ("," in digits or digits.count(".") > 1):
            return re.sub("[.,]", "", digits)
        decimal = max(".,", key=digits.rfind) if "." in digits and "," in digits else "," if "," in digits else "."
    whole, _, fraction = digits.partition(decimal)
    fraction = re.split("[.,]", fraction)[0]
    return f"{re.sub('[.,]', '', whole) or '0'}.{fraction or '0'}"


def to_time(value: Any, form: str | None = None) -> float | None:
    """A date in seconds since the epoch: by ISO 8601, as HTTP and mail write it, or by a form of ``strptime``."""
    text = " ".join((text_of_value(value) or "").split())
    if form is None:
        moment = parse_date(text)
    else:
        try:
            when = datetime.strptime(text, form)  # noqa: DTZ007 - without a zone it is UTC, as in all dates here
            moment = parse_date(when.isoformat())
        except (ValueError, OverflowError, re.error):
            return None
    return moment if moment is not None and LEAST_TIME <= moment <= MOST_TIME else None
