"""What a body says: what is a message, and that none raises, or is more than a worker and a frontier can take."""

from __future__ import annotations

import json
import math
import re
import string
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqspider.checks import Range
from sqspider.crawl_row import CrawlRef
from sqspider.crawl_settings import (
    MAX_DEPTH,
    MAX_PATTERN_CHARACTERS,
    MAX_PATTERNS,
    MAX_PATTERNS_BYTES,
    CrawlSettings,
    compiled,
)
from sqspider.message import MAX_BODY_CHARACTERS, BadBody, Message, decode_message, encode_message
from sqspider.url import FIRST_MAX_URL_BYTES, MAX_URL_BYTES, canonicalize
from sqspider.web.options import FetchOptions
from sqspider.work.options import WorkerOptions

URL: Final = "http://example.com/"
DEEP: Final = "[" * 100_000 + "]" * 100_000  # within the limit of a body

_numbers = st.integers() | st.floats() | st.sampled_from([0, 1, MAX_DEPTH, 2**53, 10**40, -1, 1e300, -1e300])
_texts = st.text(max_size=40) | st.sampled_from(["", "(", "(a+)+$", "a{2,1}", "(?i)a", "[[a]", URL, "x" * 5000])
_anything = st.none() | st.booleans() | _numbers | _texts | st.lists(_texts, max_size=3)


def _object(kind: type[msgspec.Struct], fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """JSON objects with the fields of a record, good and bad, and some more."""
    names = {name: fields.get(name, _anything) for name in kind.__struct_fields__}
    return st.fixed_dictionaries({}, optional={**names, "unknown": _anything})


_messages = _object(Message, {"url": st.just(URL) | _texts, "settings": _object(CrawlSettings, {})})
_bodies = st.text() | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")) | _messages.map(json.dumps)


def _is_within(record: Message | CrawlSettings) -> bool:
    numbers = [(getattr(record, name), bounds) for name, bounds in record.ranges.items()]
    return all(value is None or bounds.least <= value <= bounds.most for value, bounds in numbers)


_crawl_settings = st.builds(
    CrawlSettings,
    max_depth=st.none() | st.integers(0, 9),
    include=st.lists(st.text().map(re.escape), max_size=2).map(tuple),
    delay_seconds=st.floats(0, 86_400),
    per_host=st.integers(1, 9),
)


@given(st.integers(0, 1000), st.none() | st.text(), _crawl_settings, st.none() | st.floats(0, 1e11))
def test_a_message_survives_its_journey(
    depth: int, parent: str | None, settings: CrawlSettings, slot: float | None
) -> None:
    message = Message(url="http://example.com/", depth=depth, parent=parent, settings=settings, slot=slot)
    try:
        body = encode_message(message)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return  # a lone surrogate in a text: no frontier can hold it either
    assert decode_message(body) == message


def test_a_plain_url_is_a_message() -> None:
    assert decode_message(" HTTP://Example.com \n") == Message(url="http://example.com/")


@pytest.mark.parametrize(
    "body", ["", "hello", "ftp://example.com/", "{", "{}", '{"url": 1}', '{"url":"http://e.com/","depth":-1}', "[1]"]
)
def test_what_is_neither_is_no_message(body: str) -> None:
    assert isinstance(decode_message(body), BadBody)


@settings(deadline=None, max_examples=400)
@given(_bodies)
def test_no_body_raises_and_what_is_taken_is_bounded_and_survives_its_journey(body: str) -> None:
    message = decode_message(body)
    if isinstance(message, BadBody):
        assert message.why
        return
    assert canonicalize(message.url) == message.url
    assert _is_within(message)
    assert _is_within(message.settings)
    assert len(message.parent or "") <= FIRST_MAX_URL_BYTES
    for expressions in (message.settings.include, message.settings.exclude):
        assert len(compiled(expressions)) <= MAX_PATTERNS
    encoded = encode_message(message)
    encoded.encode()  # any frontier can hold it
    assert decode_message(encoded) == message


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"depth": 10**40}, "depth: from 0 to 1,000,001"),
        ({"depth": -1}, "depth: from 0"),
        ({"lastmod": 1e300}, "lastmod: from"),
        ({"lastmod": -1e300}, "lastmod: from"),
        ({"slot": 1e300}, "slot: from 0"),
        ({"generation": 2**60}, "generation: 0 or more"),
        ({"parent": "x" * 450_000}, "longer than"),
        ({"parent": "x" * 2049}, "parent: longer than 2,048"),
        ({"settings": {"seed": "x"}}, "seed: a URL in canonical form"),
        ({"settings": {"seed": "http://u:secret@example.com/"}}, "***@example.com"),
        ({"settings": {"delay_seconds": -1}}, "delay_seconds: from 0 to 86,400, not -1"),
        ({"settings": {"delay_seconds": 1e300}}, "delay_seconds: from 0"),
        ({"settings": {"host_bytes": 10**40}}, "host_bytes: 1 or more"),
        ({"settings": {"include": ["("]}}, "include: '(' is no regular expression"),
        ({"settings": {"include": ["(" * 1999]}}, "include: "),
        ({"settings": {"exclude": ["a" * (MAX_PATTERN_CHARACTERS + 1)]}}, "exclude: a regular expression of more than"),
        ({"settings": {"exclude": ["a"] * (MAX_PATTERNS + 1)}}, "exclude: at most 100 regular expressions, not 101"),
        ({"settings": {"scope": "world"}}, "scope"),
    ],
)
def test_what_is_out_of_bounds_is_said_in_words(fields: dict[str, Any], says: str) -> None:
    found = decode_message(json.dumps({"url": URL, **fields}))
    assert isinstance(found, BadBody)
    assert says in found.why
    assert "secret" not in found.why
    assert len(found.why) < 500


@pytest.mark.parametrize("body", [f'{{"url":"{URL}","x":{DEEP}}}', f'{{"url":{DEEP}}}', "{" * 10_000, "x" * 10_000_000])
def test_a_body_that_is_deep_or_long_is_no_message(body: str) -> None:
    assert isinstance(decode_message(body), BadBody)


def test_a_body_is_read_up_to_its_limit() -> None:
    blank = MAX_BODY_CHARACTERS - len(f'{{"url":"{URL}"}}')
    assert isinstance(decode_message(f'{{"url":"{URL}"{" " * blank}}}'), Message)
    assert isinstance(decode_message(f'{{"url":"{URL}"{" " * (blank + 1)}}}'), BadBody)


@pytest.mark.parametrize("kind", [CrawlSettings, FetchOptions, WorkerOptions, Message])
def test_every_number_of_a_record_has_bounds(kind: Any) -> None:
    numbers = {field.name for field in msgspec.structs.fields(kind) if _is_number(field.type)}
    assert numbers == set(kind.ranges)
    assert all(isinstance(bounds, Range) and math.isfinite(bounds.most) for bounds in kind.ranges.values())


def _is_number(kind: Any) -> bool:
    return bool({int, float} & set(getattr(kind, "__args__", (kind,))))


def test_the_longest_settings_that_are_taken_survive_their_journey() -> None:
    """Else each URL of such a crawl would be a record whose message nobody can read."""
    pattern = "\\\\" * (MAX_PATTERN_CHARACTERS // 2)  # twice as long in JSON
    half = MAX_PATTERNS_BYTES // 2 // (2 * len(pattern) + 3)
    crawl = CrawlSettings(include=(pattern,) * half, exclude=(pattern,) * half)
    message = Message(url=URL, parent=URL, settings=crawl)
    assert decode_message(encode_message(message)) == message
    with pytest.raises(ValueError, match="include: with exclude at most"):
        CrawlSettings(include=(pattern,) * (half + 1), exclude=(pattern,) * (half + 1))


def test_one_expression_does_not_reach_into_another() -> None:
    flagged, grouped, referring = compiled((r"(?i)upper", r"(?P<name>a)", r"(?P<name>b)\1"))
    assert flagged.search("UPPER")
    assert grouped.search("a")
    assert not referring.search("bab")
    assert referring.search("bb")


def test_letters_of_every_kind_survive() -> None:
    parent = f"http://example.com/{string.printable}é☃"
    message = Message(url=URL, parent=parent)
    assert decode_message(encode_message(message)) == message


# Crawls, and the first version, which knew of none.

LONGEST: Final = URL.ljust(MAX_URL_BYTES, "a")
LONGEST_OF_FIRST: Final = URL.ljust(FIRST_MAX_URL_BYTES, "a")


class _FirstMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message as the first version reads it."""

    url: str
    depth: int = 0
    parent: str | None = None
    settings: CrawlSettings = CrawlSettings()


def test_the_first_version_refuses_a_crawl_s_message() -> None:
    """It would go by settings that are not the crawl's."""
    body = encode_message(Message(url=URL, parent=URL, depth=2, crawl=CrawlRef("default", "a1")))
    with pytest.raises(msgspec.ValidationError, match="url"):
        msgspec.json.decode(body, type=_FirstMessage)


def test_the_first_version_reads_a_message_that_names_no_crawl() -> None:
    body = encode_message(Message(url=URL, depth=2, settings=CrawlSettings(max_depth=3)))
    assert msgspec.json.decode(body, type=_FirstMessage) == _FirstMessage(
        url=URL, depth=2, settings=CrawlSettings(max_depth=3)
    )


def test_a_crawl_s_message_survives_its_journey() -> None:
    crawl = CrawlRef("shop", "a1")
    for message in (
        Message(url=LONGEST, crawl=crawl),
        Message(url=URL, crawl=crawl, depth=3, parent=LONGEST, redirects=2, lastmod=5.0, slot=7.5, generation=4),
    ):
        assert decode_message(encode_message(message)) == message


def test_what_the_first_version_put_into_the_queue_stays_a_message() -> None:
    """Its URLs could be longer, and so could the seeds that its scopes are measured from."""
    settings = CrawlSettings(seed=LONGEST_OF_FIRST)
    body = json.dumps({"url": LONGEST_OF_FIRST, "parent": LONGEST_OF_FIRST, "settings": {"seed": settings.seed}})
    assert decode_message(body) == Message(url=LONGEST_OF_FIRST, parent=LONGEST_OF_FIRST, settings=settings)
    assert isinstance(decode_message(LONGEST_OF_FIRST), BadBody)
    assert isinstance(decode_message(json.dumps({"u": LONGEST_OF_FIRST, "c": "shop.a1"})), BadBody)


@pytest.mark.parametrize("crawl", ["", "shop", "shop.", ".a1", "Shop.a1", "shop.xyz", "s" * 65 + ".a1", "shop.a1.b"])
def test_a_message_names_its_crawl_well(crawl: str) -> None:
    assert isinstance(decode_message(json.dumps({"u": URL, "c": crawl})), BadBody)
