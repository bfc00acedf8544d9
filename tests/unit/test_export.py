"""Rows of what is known: what of a capture programs are told."""

from __future__ import annotations

import msgspec
import pytest

from sqspider.export import FIELDS, _Rows, row_of
from sqspider.record import CapturePlace, Outcome, Status, UrlRecord

PLACE = CapturePlace(file="a.warc.gz", offset=417, length=8_123, digest="3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ", at=1.5)
OF_CAPTURE = ("capture_file", "capture_offset", "capture_length", "payload_digest")
DONE = Outcome(status=Status.DONE, http_status=200)


def record_with(place: CapturePlace | None) -> UrlRecord:
    outcome = msgspec.structs.replace(DONE, capture=place)
    return UrlRecord(url="https://example.com/", status=Status.DONE, outcome=outcome)


def test_a_row_says_where_its_answer_is_to_be_found() -> None:
    """By that the record is read from the archive, and its payload held against the digest."""
    row = row_of(record_with(PLACE))
    assert tuple(row) == FIELDS
    told = ("a.warc.gz", 417, 8_123, "sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ")
    assert tuple(map(row.get, OF_CAPTURE)) == told


@pytest.mark.parametrize("record", [record_with(None), UrlRecord(url="https://example.com/", status=Status.QUEUED)])
def test_a_row_without_a_capture_says_nothing(record: UrlRecord) -> None:
    assert tuple(map(row_of(record).get, OF_CAPTURE)) == (None,) * 4


def test_one_that_no_column_takes_hides_no_other() -> None:
    """DynamoDB keeps numbers of 38 digits, whoever has written them."""
    good = record_with(PLACE)
    bad = msgspec.structs.replace(good, url="https://example.com/1", attempt=2**70)
    told: list[str] = []
    first, other, last = _Rows(("url", "attempt", "error"), told.append).of([good, bad, good], {})
    assert (first, last) == ((good.url, 0, None), (good.url, 0, None))
    assert other[:2] == (bad.url, None)
    assert str(other[2]).startswith("attempt: ")
    assert told == [bad.url]


def test_times_have_milliseconds_and_no_more() -> None:
    """So they had when they were first promised; what is less is let go of, not rounded."""
    record = msgspec.structs.replace(record_with(None), finished_at=1_790_000_000.9999)
    assert row_of(record)["finished_at"] == "2026-09-21T14:13:20.999Z"
    for moment in (1e18, float("nan"), -1e300):
        damaged = row_of(msgspec.structs.replace(record, finished_at=moment))
        assert str(damaged["error"]).startswith("one of its times is none: ")
        assert damaged["status"] is None
