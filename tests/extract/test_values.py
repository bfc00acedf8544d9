"""What filters make of what pages hold."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqspider.extract.values import MAX_INTEGER, text_of_value, to_integer, to_number, to_time, writable

NBSP, THIN, NARROW = "\u00a0", "\u2009", "\u202f"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        # Of a comma and a point, the last begins the fraction.
        ("1.234,56 €", 1234.56), ("$1,234.56", 1234.56), ("EUR 1.234.567,8", 1_234_567.8), ("1,234,567.89", 1_234_567.89),
        # Alone, a comma does, but for one before just three digits; a point always.
        ("12,5", 12.5), ("0,125", 0.125), ("1,234", 1234.0), ("12,3456", 12.3456), ("1234,567", 1234.567), ("1.234", 1.234),
        # Several of one sign part groups of three, if they do.
        ("1,234,567", 1_234_567.0), ("1.234.567", 1_234_567.0), ("1.2.3", 1.2), ("1,2,3", 1.2),
        # Blanks and apostrophes part groups of three.
        ("1 234,50", 1234.5), (f"1{NBSP}234", 1234.0), (f"1{THIN}234{THIN}567", 1_234_567.0), (f"9{NARROW}999,99 €", 9999.99),
        ("1'234.50", 1234.5), ("1’234", 1234.0), ("3 4", 3.0), ("12 3456", 12.0), ("5'10", 5.0), ("2 100 items", 2100.0),
        # What stands around it.
        ("from 99 € to 120 €", 99.0), ("5,- €", 5.0), ("(45 %)", 45.0), (".5", 0.5), ("Preis:19,90", 19.9), ("4.8/5", 4.8),
        ("-7", -7.0), ("\u22127,5", -7.5), ("+3", 3.0), ("A-200", 200.0), ("10-20", 10.0), ("...7", 7.0), ("1e3", 1000.0), ("2.5E-1", 0.25), ("3em", 3.0),
        ("٣", 3.0), ("00012", 12.0),
        # None.
        ("", None), ("sold out", None), ("½", None), ("-", None), (".", None), ("1e999", None), ("9" * 500, None),
    ],
)  # fmt: skip
def test_the_first_number_of_a_text(text: str, number: float | None) -> None:
    assert to_number(text) == number


@pytest.mark.parametrize(
    ("text", "sign", "number"),
    [("1.234", ",", 1234.0), ("1.234,5", ",", 1234.5), ("1,234", ".", 1234.0), ("1,5", ".", 15.0), ("12.50", ".", 12.5), ("1,234", ",", 1.234)],
)  # fmt: skip
def test_a_sign_that_is_said_begins_the_fraction(text: str, sign: str, number: float) -> None:
    assert to_number(text, sign) == number


@pytest.mark.parametrize(
    ("value", "integer"),
    [
        ("1,204 reviews", 1204), ("12.0", 12), ("3.7", None), (7, 7), (7.0, 7), (7.5, None), (True, None), (None, None),
        (MAX_INTEGER, MAX_INTEGER), (MAX_INTEGER + 1, None), ("9223372036854775808", None), ({"a": 1}, 1),
    ],
)  # fmt: skip
def test_integers_are_whole_and_fit_into_files(value: object, integer: int | None) -> None:
    assert to_integer(value) == integer


@pytest.mark.parametrize(
    ("text", "form", "moment"),
    [
        ("2024-02-29", None, datetime(2024, 2, 29, tzinfo=UTC)),
        ("2024-02-29T12:30:00+02:00", None, datetime(2024, 2, 29, 10, 30, tzinfo=UTC)),
        (" 2024-02-29 12:30\n", None, datetime(2024, 2, 29, 12, 30, tzinfo=UTC)),
        ("2024-02", None, datetime(2024, 2, 1, tzinfo=UTC)),
        ("Thu, 29 Feb 2024 12:30:00 GMT", None, datetime(2024, 2, 29, 12, 30, tzinfo=UTC)),
        ("29.2.2024", "%d.%m.%Y", datetime(2024, 2, 29, tzinfo=UTC)),
        ("29.2.2024", None, None), ("2023-02-29", None, None), ("yesterday", None, None), ("", None, None),
        ("0001-01-01T00:00:00+14:00", None, None), ("9999-12-31T23:59:59-12:00", None, None), ("x", "%", None), ("29", "%d.%m", None),
    ],
)  # fmt: skip
def test_dates(text: str, form: str | None, moment: datetime | None) -> None:
    assert to_time(text, form) == (moment.timestamp() if moment else None)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0, "2"), (2.5, "2.5"), (True, "true"), ({"a": [1]}, '{"a":[1]}'), ([], "[]"), (None, None),
        (float("nan"), None), (float("inf"), None), (float("-inf"), None), (10**30, str(10**30)),
    ],
)  # fmt: skip
def test_what_is_no_text_is_written_as_json_has_it(value: object, text: str | None) -> None:
    assert text_of_value(value) == text


def test_texts_can_be_written_into_any_file() -> None:
    assert writable("a\0b\x1b[1m\ud800c\r\n\td") == "ab[1m\ufffdc\r\n\td"


@given(st.text() | st.text(alphabet="0123456789.,'-+eE \u00a0\u2009\u202f٣", max_size=600))
def test_no_text_makes_a_number_raise_or_be_infinite(text: str) -> None:
    for sign in (None, ".", ","):
        number = to_number(text, sign)
        assert number is None or abs(number) < float("inf")
        assert to_integer(text, sign) is None or number == to_integer(text, sign)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15))
def test_a_number_as_programs_write_it_is_read_back(number: float) -> None:
    if "e" not in repr(number):
        assert to_number(repr(number)) == number
        assert to_number(f"{number:,.3f}", ".") == float(f"{number:.3f}")


@given(st.text(), st.text(max_size=8) | st.sampled_from(["%Y", "%y-%m", "%z", "%c"]))
def test_no_text_and_no_form_make_a_date_raise(text: str, form: str) -> None:
    for moment in (to_time(text), to_time(text, form)):
        assert moment is None or datetime.fromtimestamp(moment, UTC).year >= 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_whatever_json_has_is_a_text_or_nothing(value: object) -> None:
    assert isinstance(text_of_value(value), str | None)
