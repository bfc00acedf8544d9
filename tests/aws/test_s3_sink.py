"""Keeping captures in a bucket: an object a batch, whole and begun by its own warcinfo, whatever S3 does meanwhile."""

from __future__ import annotations

import asyncio
import io
import random
import re
import time
from collections.abc import AsyncIterator
from typing import Final

import msgspec
import pytest

from sqspider.archive.bucket import Bucket
from sqspider.archive.bucket_sink import BATCH_BYTES, BucketSink
from sqspider.archive.coding import Coding
from sqspider.archive.members import check_whole, members
from sqspider.archive.s3 import S3Client
from sqspider.archive.s3_place import S3Place
from sqspider.archive.store import ArchiveStore, open_store
from sqspider.archive.warc import Origin
from sqspider.capture import Capture, FullError, StoreError
from sqspider.record import CapturePlace
from tests.archive.captures import capture_of

from . import s3_faults
from .s3_faults import S3Proxy, always, refusal

ORIGIN: Final = Origin("host", "me@example.com")
NAME: Final = re.compile(r"\d{8}/\d{6}-[a-z2-7]{8}\.warc\.gz")


@pytest.fixture
async def sink(s3_proxy: S3Proxy, place: S3Place) -> AsyncIterator[BucketSink]:
    sink = BucketSink.at(str(place), Coding.GZIP, ORIGIN, environment=s3_proxy.environment)
    yield sink
    s3_proxy.fault = None
    await sink.close()


def pages(number: int, size: int = 3000, *, first: int = 0) -> list[Capture]:
    """Of different URLs and bytes."""
    return [
        capture_of(random.Random(at).randbytes(size), url=f"http://site.example/{at}", at=time.time())
        for at in range(first, first + number)
    ]


async def walked(place: S3Place, environment: dict[str, str]) -> dict[str, list[tuple[str, int, int]]]:
    """All objects of a place, whole: the kinds of their records, and where each lies."""

    def walk() -> dict[str, list[tuple[str, int, int]]]:
        files = Bucket.at(str(place), environment)
        found = {}
        for file in files.all():
            with files.opened(file.name) as stream:
                heads = []
                for member in members(stream):
                    head = check_whole(member)
                    kind = re.search(rb"\r\nWARC-Type: (\w+)\r\n", head)
                    assert kind is not None
                    member.skip()
                    heads.append((kind[1].decode(), member))
                found[file.name] = [(kind, member.offset, member.length) for kind, member in heads]
        files.close()
        return found

    return await asyncio.to_thread(walk)


async def read(client: S3Client, found: CapturePlace | None) -> bytes:
    """The record at a place."""
    assert found is not None
    part = await client.get(found.file, found.offset, found.length)
    return next(members(io.BytesIO(part.content))).read(10**8)


async def test_a_batch_is_one_object_that_begins_with_its_own_warcinfo(
    sink: BucketSink, s3_proxy: S3Proxy, place: S3Place
) -> None:
    store = ArchiveStore(sink)
    batches = [pages(3), pages(2, first=3)]
    for batch in batches:
        places = await store.keep(batch)
        assert len({found.file for found in places if found}) == 1
        client = S3Client.open(place, s3_proxy.environment)
        for kept, found in zip(batch, places, strict=True):
            record = await read(client, found)
            assert f"WARC-Target-URI: {kept.url}\r\n".encode() in record
            assert record.endswith(kept.fetched.payload + b"\r\n\r\n")
        await client.close()
    assert s3_proxy.counts["PUT"] == 2
    there = await walked(place, s3_proxy.environment)
    # Names are in their order by the second; within one, as chance has it.
    assert sorted([kind for kind, _, _ in records].count("response") for records in there.values()) == [2, 3]
    for name, records in there.items():
        assert NAME.fullmatch(name)
        assert records[0][:2] == ("warcinfo", 0)
        assert [kind for kind, _, _ in records].count("warcinfo") == 1


async def test_a_place_is_short_in_a_row(sink: BucketSink) -> None:
    (found,) = await ArchiveStore(sink).keep(pages(1))
    assert len(msgspec.json.encode(found)) <= 110  # two fields of it are left out in a row


async def test_the_next_object_is_the_same_until_something_is_put(sink: BucketSink) -> None:
    first = await sink.begun()
    assert await sink.begun() == first
    await sink.append(b"")
    assert (await sink.begun()).name != first.name


@pytest.mark.parametrize("name", list(s3_faults.ALL))
async def test_whatever_s3_does_what_has_a_place_is_there(s3_proxy: S3Proxy, place: S3Place, name: str) -> None:
    """And what was refused has none, and is kept the next time."""
    sink = BucketSink.at(str(place), Coding.GZIP, ORIGIN, environment=s3_proxy.environment)
    store = ArchiveStore(sink)
    s3_proxy.fault, s3_proxy.chance = s3_faults.ALL[name], 0.4
    kept: dict[str, CapturePlace] = {}
    refused = 0
    for one in pages(15):
        while one.url not in kept:
            try:
                (found,) = await store.keep([one])
            except StoreError as error:
                refused += "lack the permission s3:" in str(error)
            else:
                assert found is not None
                kept[one.url] = found
    assert s3_proxy.injected >= 3
    assert (refused > 0) == (name == "refuse")
    s3_proxy.fault = None
    await store.close()
    client = S3Client.open(place, s3_proxy.environment)
    for url, found in kept.items():
        assert f"WARC-Target-URI: {url}\r\n".encode() in await read(client, found)
    await client.close()
    assert {found.file for found in kept.values()} <= (await walked(place, s3_proxy.environment)).keys()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (refusal("AccessDenied", 403), "lack the permission s3:PutObject on .*grant it"),
        (refusal("NoSuchBucket", 404), "there is no bucket"),
        (refusal("PermanentRedirect", 301, x_amz_bucket_region="eu-west-3"), "lies in eu-west-3"),
    ],
)
async def test_what_cannot_be_kept_is_told_as_the_stores_trouble(
    sink: BucketSink, s3_proxy: S3Proxy, answer: s3_faults.Answered, says: str
) -> None:
    store = ArchiveStore(sink)
    s3_proxy.fault = always(answer)
    with pytest.raises(StoreError, match=says):
        await store.keep(pages(1))
    s3_proxy.fault = None
    assert await store.keep(pages(1))


async def test_what_is_not_put_by_its_end_is_given_up(sink: BucketSink, s3_proxy: S3Proxy, place: S3Place) -> None:
    """So that an invocation can give back what is in hand."""
    store = ArchiveStore(sink)
    loop = asyncio.get_running_loop()
    sink.end_at = loop.time() + 0.2
    s3_proxy.fault = s3_faults.hold
    with pytest.raises(StoreError, match="within the time that was left"):
        await store.keep(pages(1))
    assert s3_proxy.counts["PUT"] <= 1
    s3_proxy.fault, sink.end_at = None, None
    (found,) = await store.keep(pages(1))
    assert found is not None
    assert found.file in await walked(place, s3_proxy.environment)


async def test_what_is_still_packed_when_its_time_is_over_is_not_put_later(sink: BucketSink, s3_proxy: S3Proxy) -> None:
    """A process that is frozen goes on with it as the next invocation begins, whose time it would use up."""
    store, loop = ArchiveStore(sink), asyncio.get_running_loop()
    sink.end_at = loop.time() + 60
    await sink.begun()
    await sink.settle()
    with pytest.raises(StoreError, match="within the time that was left"):
        await store.keep(pages(1))
    assert s3_proxy.counts["PUT"] == 0
    sink.end_at = loop.time() + 60
    assert await store.keep(pages(1))


async def test_where_the_bucket_deletes_by_age_nothing_refers_to_what_is_old(s3_proxy: S3Proxy, place: S3Place) -> None:
    """Else a page that never changes would be gone from the archive, and only references to it would be kept."""
    now = 1_793_000_000.0
    client = S3Client.open(place, s3_proxy.environment)
    origin = Origin("host")
    forever, sink = (
        BucketSink(client, Coding.GZIP, origin, days=days, clock=lambda: now, rng=random.Random(1)) for days in (0, 30)
    )
    store = ArchiveStore(sink)
    (first,) = await store.keep([capture_of(at=now)])
    assert first is not None
    stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime(now))
    for name in (first.file, f"sqspider-{stamp}-00001-host-1a2b3c4d.warc.gz"):
        now = 1_793_000_000.0 + 14.9 * 86_400
        assert sink.holds(name)
        assert store.has(msgspec.structs.replace(first, file=name))
        now = 1_793_000_000.0 + 15.1 * 86_400
        assert not sink.holds(name)
        assert forever.holds(name)
    again = capture_of(at=now, before=first)
    (anew,) = await store.keep([again])
    assert anew is not None
    assert anew.payload is None, "it is kept as a whole"
    await client.close()
    with pytest.raises(StoreError, match="SQSPIDER_ARCHIVE_DAYS is '-1'"):
        BucketSink.at(
            str(place), Coding.GZIP, origin, environment={**s3_proxy.environment, "SQSPIDER_ARCHIVE_DAYS": "-1"}
        )


async def test_what_may_lie_there_is_not_gone_beyond(
    s3_proxy: S3Proxy, place: S3Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever else puts something."""
    monkeypatch.setattr("sqspider.archive.bucket_sink.LOOK_BYTES", 1)
    limit = 20_000
    sinks = [BucketSink.at(str(place), Coding.GZIP, ORIGIN, limit, environment=s3_proxy.environment) for _ in range(2)]
    stores = [ArchiveStore(sink) for sink in sinks]
    first, *others = pages(20)
    await stores[1].keep([first])

    async def keep_all() -> tuple[int, str]:
        for number, one in enumerate(others):
            try:
                await stores[number % 2].keep([one])
            except FullError as error:
                return number, str(error)
        return len(others), ""

    number, said = await keep_all()
    assert 3 <= number <= 5
    assert re.search(r"has [\d,]+ bytes, and may have 20,000: raise --archive-max-bytes", said)
    for store in stores:
        await store.close()


async def test_a_store_of_an_address_of_s3_gathers(
    monkeypatch: pytest.MonkeyPatch, place: S3Place, s3_proxy: S3Proxy
) -> None:
    for name, value in s3_proxy.environment.items():
        monkeypatch.setenv(name, value)
    store = open_store(str(place))
    assert (store.gather_seconds, store.most_bytes) == (5.0, BATCH_BYTES)
    (found,) = await store.keep(pages(1))
    assert found is not None
    await store.close()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "nowhere")
    with pytest.raises(StoreError, match="no URL of a server"):
        open_store(str(place))
