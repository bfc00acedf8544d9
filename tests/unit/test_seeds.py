"""Lists of URLs as people have them: every encoding and line end, and lines that hold more than a URL."""

from __future__ import annotations

import io
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqspider.record import Reason
from sqspider.url import Refused
from sqspider.work.seeds import MAX_LINE_CHARACTERS, is_passed_over, read_lines, read_url

MARKED: Final = {
    "utf-8": "utf-8", "utf-8-sig": "utf-8-sig", "utf-16": "utf-16", "utf-32": "utf-32",
    "utf-16-be": "utf-16-be", "utf-32-be": "utf-32-be", "utf-16-le": "utf-16-le", "utf-32-le": "utf-32-le",
}  # fmt: skip


class Dribbling(io.BytesIO):
    """A file that is read a few bytes at a time, as a pipe may be."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._size = size

    def read(self, size: int | None = -1, /) -> bytes:
        del size
        return super().read(self._size)


# (A NUL behind the mark of UTF-16 is that of UTF-32.)
_lines = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n\ufeff"), max_size=20), max_size=8)


@settings(deadline=None)
@given(_lines, st.sampled_from(list(MARKED)), st.sampled_from(["\n", "\r\n", "\r"]), st.integers(1, 7))
def test_every_line_comes_whatever_the_encoding_and_the_line_end(
    lines: list[str], encoding: str, end: str, size: int
) -> None:
    text = "".join(f"{line}{end}" for line in lines)
    needs_mark = encoding.endswith(("-be", "-le"))
    data = (f"\ufeff{text}" if needs_mark else text).encode(encoding)
    found = [line.removeprefix("\ufeff") for line in read_lines(Dribbling(data, size))]
    # Blanks at the beginning of an unfinished line may be dropped: a URL has none.
    assert [line.strip() for line in found] == [line.strip() for line in lines]


def test_a_list_is_read_in_constant_memory_and_its_lines_keep_their_numbers() -> None:
    class Endless(io.RawIOBase):
        """A line of 2 GB, if it were read to its end at once."""

        left = 2 * 1024**3

        def read(self, size: int = -1, /) -> bytes:
            assert 0 < size <= 1024**2
            taken, self.left = min(size, self.left), self.left - min(size, self.left)
            return b"a" * taken

    first = next(read_lines(Endless()))  # type: ignore[arg-type] # what of a file is needed is there
    assert MAX_LINE_CHARACTERS < len(first) < 4 * MAX_LINE_CHARACTERS
    long = "a" * 1_000_000
    found = list(read_lines(io.BytesIO(f"http://a/\n#{long}\n   {long}\nhttp://b/\n{long}".encode())))
    assert [line[:9] for line in found] == ["http://a/", "#aaaaaaaa", "aaaaaaaaa", "http://b/", "aaaaaaaaa"]
    refused = read_url(f"http://h/{long}"[:MAX_LINE_CHARACTERS])
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.URL_TOO_LONG


@pytest.mark.parametrize(
    ("data", "url"),
    [
        (b"http://e.com/caf\xe9?\xe4=\xff", "http://e.com/caf%E9?%E4=%FF"),
        ("http://e.com/café".encode(), "http://e.com/caf%C3%A9"),
        ("http://e.com/é".encode() + b"/\xe9", "http://e.com/%C3%A9/%E9"),
        (b"  http://e.com/a \t", "http://e.com/a"),
        (b"http://e.com/a#" + b"x" * 3000, "http://e.com/a"),
        ("\ufeffhttp://e.com/".encode(), "http://e.com/"),
    ],
)
def test_bytes_are_kept_as_they_are(data: bytes, url: str) -> None:
    (line,) = read_lines(io.BytesIO(data))
    assert read_url(line) == url


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("http://e.com/a\ttitle", "a tab ends a URL"),
        ("http://e.com/a title", "a blank ends a URL"),
        ("http://e.com/a # comment", "%20"),
        ("h\0t\0t\0p\0", "UTF-16 without a byte order mark"),
        ("http://e.com/\x1b[0m", "a control character ends a URL"),
        ("http://e.com/a\nhttp://e.com/b", "a line end ends a URL"),
        ("example.com/x", "no scheme: did you mean http://example.com/x?"),
        ("//example.com/x", "no scheme: did you mean http://example.com/x?"),
        ("localhost:8080/x", "no scheme: did you mean http://localhost:8080/x?"),
        ("example.com:443", "no scheme: did you mean http://example.com:443?"),
        ("192.0.2.1/x", "no scheme: did you mean http://192.0.2.1/x?"),
        ("bücher.example?q", "no scheme: did you mean http://bücher.example?q?"),
        ("", "not a valid URL"),
        ("nonsense", "not a valid URL: 'nonsense'"),
        ("mailto:a@example.com", "neither http nor https"),
        ("user:hush@example.com/", "neither http nor https"),
    ],
)
def test_what_is_no_url_is_refused_in_words(text: str, says: str) -> None:
    refused = read_url(text)
    assert isinstance(refused, Refused)
    assert says in str(refused)
    assert "hush" not in str(refused)


@pytest.mark.parametrize("text", ["example.com/x", "//example.com/x", "http://example.com/x", " example.com/x\r"])
def test_http_is_assumed_where_it_was_asked_for(text: str) -> None:
    assert read_url(text, assume_http=True) == "http://example.com/x"


@pytest.mark.parametrize("line", ["", "  ", "\t", "# a comment", "  #", "\ufeff", "\ufeff# a comment"])
def test_what_says_nothing_is_passed_over(line: str) -> None:
    assert is_passed_over(line)
    assert not is_passed_over(f"x{line}")
