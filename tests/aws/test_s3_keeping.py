"""Packing and erasing in a bucket: what Lambda has left there, an object for each invocation."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sqspider.archive import cdxj
from sqspider.archive.bucket import Bucket
from sqspider.archive.export_files import export_files
from sqspider.archive.files import warc_files
from sqspider.archive.forget import Forgetting, Wanted
from sqspider.archive.forget_references import References
from sqspider.archive.moves import journals_in
from sqspider.archive.pack import pack
from sqspider.archive.reading import capture_at, captures_in
from sqspider.archive.scratch import scratch
from sqspider.archive.wacz import write_wacz
from tests.archive.known import known, outcome_of
from tests.archive.small_warcs import NOON, Warc

from .buckets import bucket
from .engines import Engines


@pytest.fixture
async def files(engines: Engines) -> AsyncIterator[Bucket]:
    environment = engines.ministack()
    async with bucket(environment) as place:
        files = Bucket.at(str(place), environment)
        yield files
        await asyncio.to_thread(files.close)


async def test_an_archive_in_a_bucket_is_kept(files: Bucket, tmp_path: Path) -> None:
    def work() -> None:
        places = {}
        for number in range(5):
            warc = Warc(f"2026050{number}/{number}.warc.gz")
            for page in range(3):
                url = f"http://a.test/{number}/{page}"
                places[url] = warc.response(url, url.encode() * 100, NOON + number * 10 + page)
            files.write(warc.name, [warc.content])
        cdxj.write_index(files)
        with known(tmp_path) as frontier:
            frontier.finish({url: outcome_of(place) for url, place in places.items()})
            done = pack(files, frontier.tell, clock=time.time, rng=random.Random(1))
            assert (done.files, done.made, done.lines) == (5, 1, 15)
            for url in places:
                assert capture_at(files, frontier.capture(url), url).body() == url.encode() * 100
            with scratch() as connection:
                forgetting = Forgetting(files, Wanted(url="http://a.test/2/1"), References(connection))
                forgetting.erase(forgetting.plan(), frontier.tell, clock=time.time, rng=random.Random(2))
            del places["http://a.test/2/1"]
            for url in places:
                assert capture_at(files, frontier.capture(url), url).body() == url.encode() * 100
        (info,) = warc_files(files)
        assert [captured.url for captured in captures_in(files, info)] == list(places)
        assert journals_in(files) == []
        assert write_wacz(files, tmp_path / "all.wacz", now=NOON).captures == 14
        assert export_files(files, tmp_path / "out").files == 14

    await asyncio.to_thread(work)
