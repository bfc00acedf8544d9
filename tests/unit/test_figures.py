"""One table of all that is counted, and the records and names that are made of it."""

from __future__ import annotations

import msgspec
import pytest

from sqspider.figures import COUNTED, FIGURES, OF_CRAWLS, OUTCOMES, SAMPLED, Counted, Joined, Point, Sample
from sqspider.frontier import QueueStats

BY_NAME = {figure.name: figure for figure in FIGURES}


def test_the_fields_of_points_and_samples_are_those_of_the_table() -> None:
    assert Point.__struct_fields__ == ("at", *BY_NAME)
    assert {*SAMPLED} == {*COUNTED, "fetches", "fetch_seconds"}
    # What no worker counts the queue tells.
    assert BY_NAME.keys() - {*SAMPLED} == BY_NAME.keys() & {*QueueStats.__struct_fields__}
    assert all(BY_NAME[name].sqs is not None for name in BY_NAME.keys() - {*SAMPLED})


def test_a_sample_tells_of_each_crawl() -> None:
    """One with no parts, as earlier versions left them, is all of it of the default crawl's place."""
    alone = Sample(at=1.0, seconds=10.0, done=3)
    assert [alone.of(crawl) for crawl in (None, "default", "news")] == [alone, alone, None]
    parts = {"news": Counted(done=2), "default": Counted(done=1)}
    mixed = msgspec.structs.replace(alone, crawls=parts)
    assert [mixed.of(crawl) for crawl in (None, *parts, "other")] == [mixed, *parts.values(), None]
    assert {figure.name for figure in OF_CRAWLS} == {*COUNTED, "fetch_seconds"}


def test_a_sample_is_published_with_all_that_is_counted() -> None:
    sample = Sample(at=1.0, seconds=10.0, received=3, bytes=7, fetches=4, fetch_seconds=2.0)
    named = sample.named()
    assert named.keys() == {BY_NAME[name].metric for name in [*COUNTED, "fetch_seconds"]}
    assert (named["Received"], named["Bytes"], named["FetchSeconds"]) == (3, 7, 0.5)
    assert "FetchSeconds" not in Sample(at=1.0, seconds=10.0).named()  # nothing was fetched: no figure, and not 0


def test_each_figure_has_names_of_its_own() -> None:
    for names in (BY_NAME, {f.metric for f in FIGURES}, {f.heading or f.name for f in FIGURES}):
        assert len(names) == len(FIGURES)
    assert [figure.metric for figure in OUTCOMES] == ["Done", "Failed", "Blocked", "Retried", "Deferred", "Lost"]


@pytest.mark.parametrize(
    ("name", "joined"), [("visible", 4.0), ("oldest_age_seconds", 7.0), ("done", 8.0), ("fetch_seconds", 4.0)]
)
def test_several_numbers_come_to_one(name: str, joined: float) -> None:
    figure = BY_NAME[name]
    assert figure.join([7.0, None, 1.0]) == joined
    assert figure.join([None]) is None


def test_joining_is_what_cloudwatch_has_a_statistic_for() -> None:
    assert {joined.value for joined in Joined} <= {"Sum", "Average", "Maximum", "Minimum", "SampleCount"}
