"""Lists with more than a URL in a line: CSV and JSON lines, as spreadsheets and programs write them, and worse."""

from __future__ import annotations

import csv
import io
import json
import string
import tracemalloc
from contextlib import suppress
from itertools import islice
from typing import Any, Final, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqspider.meta import MAX_META_BYTES, MAX_META_DEPTH, MetaError, decode_meta, encode_meta
from sqspider.work.lists import MAX_ROW_CHARACTERS, Listed, ListError, RefusedLine, list_format_of, read_list
from tests.unit.test_seeds import Dribbling

URL: Final = "http://e.com/"
_texts = st.text(st.characters(codec="utf-8", exclude_characters="\r\ufeff"), max_size=12)
_names = st.lists(st.text(string.ascii_letters, min_size=1, max_size=5), min_size=1, max_size=5, unique_by=str.casefold)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=5,
)


def read(data: str | bytes, form: str, column: str | None = None) -> list[Listed | RefusedLine]:
    return list(read_list(io.BytesIO(data.encode() if isinstance(data, str) else data), form, column))


def said(lines: list[Listed | RefusedLine]) -> list[tuple[str, dict[str, Any]]]:
    """URLs and their fields; all of them must have been read."""
    return [(line.text, decode_meta(line.meta) if line.meta else {}) for line in lines if isinstance(line, Listed)]


def refused(lines: list[Listed | RefusedLine]) -> dict[int, str]:
    return {line.line: str(line.refused) for line in lines if isinstance(line, RefusedLine)}


@settings(deadline=None)
@given(
    _names.filter(lambda names: not {"url", "link"} & {name.casefold() for name in names}), st.data(),
    st.sampled_from([",", ";", "\t"]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    st.sampled_from(["\r\n", "\n"]), st.booleans(), st.integers(1, 7),
)  # fmt: skip
def test_what_is_written_as_csv_is_read(
    names: list[str], data: st.DataObject, delimiter: str, encoding: str, end: str, quotes_all: bool, size: int
) -> None:
    rows = data.draw(st.lists(st.fixed_dictionaries(dict.fromkeys(names, _texts)), max_size=5))
    out = io.StringIO()
    quoting: Literal[0, 1] = csv.QUOTE_ALL if quotes_all else csv.QUOTE_MINIMAL
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow([*names, "URL"])
    writer.writerows([[*(row[name] for name in names), URL] for row in rows])
    file = Dribbling(out.getvalue().encode(encoding), size)
    found = said(list(read_list(file, "csv")))
    assert found == [(URL, {name: value for name, value in row.items() if value}) for row in rows]


@settings(deadline=None)
@given(st.lists(st.dictionaries(_texts.filter(lambda name: name != "url"), _values, max_size=4), max_size=5))
def test_what_is_written_as_json_is_read(rows: list[dict[str, Any]]) -> None:
    lines = "".join(json.dumps({"url": URL, **row}) + "\n" for row in rows)
    assert said(read(lines, "jsonl")) == [(URL, row) for row in rows]
    assert said(read(json.dumps(URL), "jsonl")) == [(URL, {})]


@settings(deadline=None)
@given(st.binary(max_size=300) | st.text(st.sampled_from('url,;\t"\r\n\0\udc80{}[]'), max_size=60).map(
    lambda text: text.encode(errors="surrogateescape")), st.sampled_from(["csv", "tsv", "jsonl"]))  # fmt: skip
def test_whatever_comes_is_read_or_refused(data: bytes, form: str) -> None:
    try:
        lines = read(b"url,x\n" + data, form)
    except ListError:
        return
    numbers = [line.line for line in lines]
    assert numbers == sorted(set(numbers))
    for line in lines:
        assert isinstance(line, Listed) or str(line.refused).isprintable()
    said(lines)  # what is kept can be read


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.csv", "csv"),
        ("A.CSV.GZ", "csv"),
        ("a.tab", "tsv"),
        ("a.ndjson", "jsonl"),
        ("a.txt.gz", "text"),
        ("-", "text"),
    ],
)
def test_the_name_of_a_file_says_its_format(name: str, form: str) -> None:
    assert list_format_of(name) == form


@pytest.mark.parametrize(
    ("head", "column", "index"),
    [
        ("name,url", None, 1), ("name,URL", None, 1), ("Link,name", None, 0), ("link, Url ", None, 1),
        ("name,Address", "Address", 1), ("name,Address", "address", 1), ("b,B", "B", 1), ("a,b", "2", 1),
    ],
)  # fmt: skip
def test_the_column_is_found(head: str, column: str | None, index: int) -> None:
    row = ["x", "x"]
    row[index] = URL
    ((text, fields),) = said(read(f"{head}\n{','.join(row)}\n", "csv", column))
    assert text == URL
    assert list(fields.values()) == ["x"]


def test_a_column_by_its_number_needs_no_head() -> None:
    assert said(read(f"a,{URL},b\nc,{URL}d,\n", "csv", "2")) == [(URL, {"1": "a", "3": "b"}), (f"{URL}d", {"1": "c"})]
    assert said(read(f"name,where\na,{URL}\n", "csv", "2")) == [(URL, {"name": "a"})]
    assert [line.text for line in read("e.com/a,1\ne.com/b,2\n", "csv", "1") if isinstance(line, Listed)] == [
        "e.com/a", "e.com/b",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "form", "column", "says"),
    [
        ("a,b\n", "csv", None, "no column is called url or link: its first row says 'a, b'"),
        ("url,b\n", "csv", "c", "no column is called 'c'"),
        ("a,b\n", "csv", "3", "there is no column 3: its first row has 2"),
        ("a,b\n", "csv", "0", "there is no column 0"),
        ('"a,b\n', "csv", None, "a quote is opened and not closed"),
        ("http://a/\n", "text", "url", "has no columns"),
    ],
)
def test_a_list_that_cannot_be_read_says_what_to_do(data: str, form: str, column: str | None, says: str) -> None:
    with pytest.raises(ListError) as told:
        read_list(io.BytesIO(data.encode()), form, column)  # before the first line is asked for
    assert says in str(told.value)


@pytest.mark.parametrize("data", ["", "\n\n", "url\n", "\ufeffurl\r\n\r\n"])
def test_a_list_of_nothing_is_none(data: str) -> None:
    assert read(data, "csv") == []


def test_columns_without_a_name_or_with_that_of_another_go_by_their_number() -> None:
    assert said(read(f"url,a,,a\n{URL},1,2,3,4\n{URL}\n", "csv")) == [
        (URL, {"a": "1", "3": "2", "4": "3", "5": "4"}), (URL, {}),
    ]  # fmt: skip


def test_what_is_wrong_in_a_row_is_named_by_its_line_and_the_others_go_on() -> None:
    rows = f'name,url\na,{URL}1\n\n"line\nend",{URL}2\nb\nc,\n,,\n"d"x,{URL}3\n\xe4,{URL}4\ne,{URL}5\n'
    lines = read(rows.encode("latin-1"), "csv")
    assert said(lines) == [(f"{URL}1", {"name": "a"}), (f"{URL}2", {"name": "line\nend"}), (f"{URL}5", {"name": "e"})]
    told = refused(lines)
    assert list(told) == [6, 7, 9, 10]
    for line, says in ((6, "nothing stands in the column"), (9, "no CSV"), (10, "no UTF-8")):
        assert says in told[line]


def test_a_quote_that_is_left_open_costs_no_more_than_a_row_may_have() -> None:
    rows = [f"{URL}{number}" for number in range(20_000)]
    rows[3] = f'"{rows[3]}'
    lines = read("url\n" + "\n".join(rows), "csv")
    ((line, why),) = refused(lines).items()
    assert line == 5
    left_out = int(why.partition("the lines up to ")[2].partition(" ")[0].replace(",", "")) - line + 1
    assert len(said(lines)) == len(rows) - left_out
    assert "a quote is opened and not closed" in why
    ((line, why),) = refused(read(f'url\n{URL}\n"{URL}\n{URL}\n', "csv")).items()
    assert (line, "the lines up to 4 are left out with it" in why) == (3, True)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "no JSON"), ("[]", "neither a JSON object nor a text"), ("7", "neither"), ("{}", "no text is called 'url'"),
        ('{"url": 7}', "no text is called 'url'"), ('{"url": "http://a/", "x": NaN}', "no JSON"),
        ('{"url": "http://a/", "x": 1e999}', "no JSON"), ('{"url": "http://a/", "x": "\\ud800"}', "no JSON"),
        ("[" * 100_000, "too deep"), ('{"url": "http://a/", "x": ' + "[" * 21 + "]" * 21 + "}", "more than 20 deep"),
        (f'{{"url": "http://a/", "x": "{"a" * 10_000_000}"}}', "more than 131,072 characters"),
        (f'{{"url": "http://a/", "x": "{"a" * 2048}"}}', "at most 2,048 bytes"), ('"\udc80"', "no UTF-8"),
    ],
)  # fmt: skip
def test_json_that_is_no_row_is_refused(line: str, says: str) -> None:
    lines = read(f'"{URL}"\n\n{line}\n"{URL}"\n'.encode(errors="surrogateescape"), "jsonl")
    assert [text for text, _ in said(lines)] == [URL, URL]
    assert list(refused(lines)) == [3]
    assert says in refused(lines)[3]


def test_another_field_of_json_can_have_the_url() -> None:
    assert said(read(f'{{"link": "{URL}", "url": "x"}}', "jsonl", "link")) == [(URL, {"url": "x"})]


def test_a_password_is_not_said_with_what_is_refused() -> None:
    lines = [*read('url,x\n"http://u:hush@e.com/"x\n', "csv"), *read('{"a": "http://u:hush@e.com/"}', "jsonl")]
    assert len(refused(lines)) == 2
    assert "hush" not in str(lines[0].refused) + str(lines[1].refused)  # type: ignore[union-attr]


class Endless(io.RawIOBase):
    """A file of 100 MB, of one piece again and again."""

    def __init__(self, head: bytes, piece: bytes) -> None:
        self._head, self._piece, self._left = head, piece * (64 * 1024 // len(piece)), 100 * 1024**2

    def read(self, size: int = -1, /) -> bytes:
        assert 0 < size <= 1024**2
        if self._head:
            head, self._head = self._head, b""
            return head
        self._left -= len(self._piece)
        return self._piece if self._left > 0 else b""


@pytest.mark.parametrize(
    ("form", "head", "piece"),
    [
        ("csv", b'url\n"', b"a"), ("csv", b"url\n", b","), ("csv", b'url\n"', b"a\n"), ("csv", b"url\n", b'"\n",'),
        ("csv", b"", b"a"), ("jsonl", b"", b"["), ("jsonl", b"", b" "), ("csv", b"url\n", b"\0"),
    ],
)  # fmt: skip
def test_a_list_without_end_is_read_in_constant_memory(form: str, head: bytes, piece: bytes) -> None:
    tracemalloc.start()
    try:
        with suppress(ListError):
            for line in islice(read_list(Endless(head, piece), form), 50):  # type: ignore[arg-type]
                assert isinstance(line, RefusedLine) or len(line.text) <= MAX_ROW_CHARACTERS
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 30 * 1024**2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        '{"a":' + "[" * 100 + "]" * 100 + "}",
        '{"a":"' + "b" * MAX_META_BYTES + '"}',
        '{"a":' + "[" * 1000 + "]" * 1000 + "}",
    ],
)
def test_fields_that_somebody_damaged_are_told_apart(text: str) -> None:
    with pytest.raises(MetaError):
        decode_meta(text)


def test_fields_are_kept_within_their_bounds() -> None:
    assert encode_meta({}) is None
    deep: Any = 1
    for _ in range(MAX_META_DEPTH - 1):
        deep = [deep]
    assert decode_meta(encode_meta({"a": deep}) or "") == {"a": deep}
    for fields in ({"a": [deep]}, {"a": "\ud800"}, {"a": object()}, {"a": "b" * MAX_META_BYTES}):
        with pytest.raises(MetaError):
            encode_meta(fields)
