"""Rows of what is known: what of a capture programs are told."""

from __future__ import annotations

import msgspec
import pytest

from sqspider.export import FIELDS, row_of
from sqspider.record import CapturePlace, Outcome, Status, UrlRecord

PLACE = CapturePlace(file="a.warc.gz", offset=417, length=8_123, digest="3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ", at=1.5)
DONE = Outcome(status=Status.DONE, http_status=200)


def record_with(place: CapturePlace | None) -> UrlRecord:
    outcome = msgspec.structs.replace(DONE, capture=place)
    return UrlRecord(url="https://example.com/", status=Status.DONE, outcome=outcome)


def test_a_row_says_where_its_answer_is_to_be_found() -> None:
    """By that the record is read from the archive, and its payload held against the digest."""
    row = row_of(record_with(PLACE))
    assert tuple(row) == FIELDS
    told = ("a.warc.gz", 417, 8_123, "sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ")
    assert tuple(row.values())[-4:] == told


@pytest.mark.parametrize("record", [record_with(None), UrlRecord(url="https://example.com/", status=Status.QUEUED)])
def test_a_row_without_a_capture_says_nothing(record: UrlRecord) -> None:
    assert tuple(row_of(record).values())[-4:] == (None,) * 4
