"""An archive in a bucket, as whoever reads or rewrites it has it: the same words as for a folder."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, TypeVar

import pytest

from sqspider.archive.addresses import files_at
from sqspider.archive.bucket import FIRST_BYTES, Bucket
from sqspider.archive.bucket_ahead import OBJECTS
from sqspider.archive.errors import ArchiveError, DamagedError, NoArchiveError, NotAllowedError
from sqspider.archive.files import Files
from sqspider.archive.s3 import S3Client
from sqspider.archive.s3_place import S3Place
from sqspider.archive.s3_upload import Upload

from . import s3_faults
from .engines import Engines
from .s3_faults import Answered, Asked, S3Proxy, always, refusal

MOST_BYTES: Final = 4 * FIRST_BYTES
PART_BYTES: Final = 5 * 2**20  # the least that S3 takes
T = TypeVar("T")


@pytest.fixture(autouse=True)
def _less_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqspider.archive.bucket.MOST_BYTES", MOST_BYTES)
    monkeypatch.setattr("sqspider.archive.bucket.PART_BYTES", PART_BYTES)


@pytest.fixture
async def files(s3_proxy: S3Proxy, place: S3Place) -> AsyncIterator[Bucket]:
    files = Bucket.at(str(place), s3_proxy.environment)
    yield files
    s3_proxy.fault = None
    await asyncio.to_thread(files.close)


async def within(work: Callable[[], T]) -> T:
    """What blocks, beside the loop in which the proxy answers."""
    return await asyncio.to_thread(work)


async def test_files_are_written_listed_read_and_removed(files: Bucket) -> None:
    def use() -> None:
        files.write("20261130/b.warc.gz", iter([b"one", b"", b"two"]))
        files.write("index.cdxj", [])
        files.write("20261130/a.warc.gz", [b"first"])
        files.write("20261130/a.warc.gz", [b"again"])
        found = list(files.all())
        names = ["20261130/a.warc.gz", "20261130/b.warc.gz", "index.cdxj"]
        assert [(one.name, one.size, one.is_open) for one in found] == list(
            zip(names, (5, 6, 0), (False,) * 3, strict=True)
        )
        assert files.read("20261130/b.warc.gz") == b"onetwo"
        assert files.read("20261130/b.warc.gz", 2, 3) == b"etw"
        assert files.read("20261130/b.warc.gz", 2, 0) == b""
        assert files.read("20261130/b.warc.gz", 4, 100) == b"wo"
        assert files.read("20261130/b.warc.gz", 100) == b""
        assert files.read("index.cdxj") == b""
        for _ in range(2):
            files.remove("index.cdxj")
        assert [one.name for one in files.all()] == names[:2]

    await within(use)


async def test_what_is_not_there_is_told(files: Bucket, place: S3Place) -> None:
    def use() -> None:
        for length in (None, 4):
            with pytest.raises(NoArchiveError, match=re.escape(f"{place.url('other')} is not there")):
                files.read("other", 3, length)
        with pytest.raises(NoArchiveError), files.opened("other") as stream:
            stream.read(1)
        assert list(files.all()) == []

    await within(use)


@pytest.mark.parametrize("name", ["", "../x", "a//b", "a/./b", "/a", "a/", "a\nb"])
async def test_names_that_lead_elsewhere_are_refused(files: Bucket, name: str) -> None:
    def use() -> None:
        for act in (lambda: files.read(name), lambda: files.remove(name), lambda: files.write(name, [])):
            with pytest.raises(NoArchiveError, match="is no name of a file"):
                act()

    await within(use)


async def test_a_stream_is_read_range_by_range(files: Bucket, s3_proxy: S3Proxy) -> None:
    content = random.Random(1).randbytes(3 * MOST_BYTES)

    def use() -> None:
        files.write("large", [content])
        before = s3_proxy.counts["GET"]
        with files.opened("large", 1000) as stream:
            assert stream.read(10) == content[1000:1010]
            assert s3_proxy.counts["GET"] - before == 1
            pieces = [stream.read(size) for size in (1, FIRST_BYTES, 3, 2 * MOST_BYTES)]
            assert b"".join(pieces) == content[1010 : 1014 + FIRST_BYTES + 2 * MOST_BYTES]
            assert stream.read() == content[1014 + FIRST_BYTES + 2 * MOST_BYTES :]
            assert stream.read(1) == b""
        assert s3_proxy.counts["GET"] - before <= 8
        assert files.read("large", 5, 2 * MOST_BYTES) == content[5 : 5 + 2 * MOST_BYTES]

    await within(use)


async def test_whoever_reads_one_file_after_the_other_does_not_wait_for_each(files: Bucket, s3_proxy: S3Proxy) -> None:
    """Each answer is held back until the next files have been asked for, too; and nothing is asked for twice."""
    names = [f"{number:02}.warc.gz" for number in range(3 * OBJECTS)]
    asked, most, all_asked = 0, 0, asyncio.Event()

    async def hold(s3_proxy: S3Proxy, asking: Asked) -> Answered:
        nonlocal asked, most
        if "list-type" not in asking.target:
            asked, most = asked + 1, max(most, asked + 1)
            if most > OBJECTS:
                all_asked.set()
            await all_asked.wait()
            asked -= 1
        return await s3_proxy.forward(asking)

    def use() -> None:
        for name in names:
            files.write(name, [name.encode()])
        s3_proxy.fault, before = hold, s3_proxy.counts["GET"]
        for info, name in zip(files.all(), names, strict=True):
            if all_asked.is_set():
                assert files.read(info.name, 0, 2) == name[:2].encode()
            with files.opened(info.name) as stream:
                assert stream.read() == name.encode()
        assert s3_proxy.counts["GET"] - before == len(names) + 1

    await within(use)
    assert most == OBJECTS + 1


async def test_a_list_by_itself_reads_no_file_ahead(files: Bucket, s3_proxy: S3Proxy) -> None:
    def use() -> None:
        for number in range(3):
            files.write(f"{number}.warc.gz", [b"x"])
        before = s3_proxy.counts["GET"]
        assert len(list(files.all())) == 3
        assert s3_proxy.counts["GET"] - before == 1

    await within(use)


async def test_what_is_read_ahead_is_what_lies_there_then(files: Bucket, s3_proxy: S3Proxy) -> None:
    """What was written, removed or refused meanwhile is asked for anew."""
    names = [f"{number}.warc.gz" for number in range(4)]

    async def refuse_one(s3_proxy: S3Proxy, asking: Asked) -> Answered:
        if asking.method == "GET" and "3.warc" in asking.target:
            s3_proxy.fault = None
            return refusal("AccessDenied", 403)
        return await s3_proxy.forward(asking)

    def use() -> None:
        for name in names:
            files.write(name, [b"old"])
        s3_proxy.fault = refuse_one
        listed = files.all()
        with files.opened(next(listed).name) as stream:
            assert stream.read() == b"old"
        files.write("1.warc.gz", [b"new"])
        files.remove("2.warc.gz")
        with files.opened(next(listed).name) as stream:
            assert stream.read() == b"new"
        with pytest.raises(NoArchiveError), files.opened(next(listed).name) as stream:
            stream.read()
        with files.opened(next(listed).name) as stream:
            assert stream.read() == b"old"
        assert list(listed) == []

    await within(use)


async def test_a_file_that_is_written_anew_while_it_is_read_is_told(files: Bucket) -> None:
    def use() -> None:
        files.write("one", [bytes(2 * FIRST_BYTES)])
        with files.opened("one") as stream:
            stream.read(10)
            files.write("one", [b"\1" * 2 * FIRST_BYTES])
            with pytest.raises(DamagedError, match="written anew while it was read"):
                stream.read()

    await within(use)


@pytest.mark.parametrize("fault", [None, "throttle", "fail", "lose_answer"])
async def test_a_large_file_is_written_part_by_part(files: Bucket, s3_proxy: S3Proxy, fault: str | None) -> None:
    """Whatever is lost on the way, and in memory for two parts."""
    content = random.Random(1).randbytes(2 * PART_BYTES + 5)
    pieces = [content[at : at + 1_000_003] for at in range(0, len(content), 1_000_003)]

    def use() -> None:
        s3_proxy.fault = s3_faults.ALL[fault] if fault else None
        files.write("large", iter(pieces))
        s3_proxy.fault = None
        assert [(one.name, one.size) for one in files.all()] == [("large", len(content))]
        assert files.read("large") == content

    await within(use)
    assert s3_proxy.counts["POST"] >= 2


async def test_a_completion_whose_answer_is_lost_is_known_again(
    files: Bucket, s3_proxy: S3Proxy, place: S3Place
) -> None:
    async def lose(_: S3Proxy, asked: s3_faults.Asked) -> s3_faults.Answered:
        if asked.method != "POST" or "uploadId" not in asked.target:
            return await s3_proxy.forward(asked)
        s3_proxy.injected += 1
        if s3_proxy.injected > 1:  # ministack takes it twice
            return refusal("NoSuchUpload", 404)
        await s3_proxy.forward(asked)
        return s3_faults.Answered(0)

    s3_proxy.fault = lose
    content = bytes(PART_BYTES + 1)
    await within(lambda: files.write("large", [content]))
    assert s3_proxy.injected == 2
    assert await within(lambda: files.read("large")) == content
    s3_proxy.fault = always(refusal("NoSuchUpload", 404))
    upload = Upload(S3Client.open(place, s3_proxy.environment), "other")
    with pytest.raises(ArchiveError, match="did not put its parts together"):
        await upload.complete()


async def test_a_completion_that_fails_under_a_good_status_is_told(files: Bucket, s3_proxy: S3Proxy) -> None:
    async def fail(_: S3Proxy, asked: s3_faults.Asked) -> s3_faults.Answered:
        if asked.method == "POST" and "uploadId" in asked.target:
            return refusal("InternalError", 200)
        return await s3_proxy.forward(asked)

    s3_proxy.fault = fail
    with pytest.raises(ArchiveError, match="did not put its parts together"):
        await within(lambda: files.write("large", [bytes(PART_BYTES + 1)]))
    assert await within(lambda: list(files.all())) == []


async def test_what_breaks_off_leaves_neither_a_file_nor_parts(
    files: Bucket, s3_proxy: S3Proxy, place: S3Place
) -> None:
    def broken() -> Iterator[bytes]:
        yield bytes(2 * PART_BYTES + 1)
        raise RuntimeError("whoever writes broke off")

    with pytest.raises(RuntimeError, match="broke off"):
        await within(lambda: files.write("large", broken()))
    assert await within(lambda: list(files.all())) == []
    uploads = await s3_proxy.forward(
        s3_faults.Asked("GET", f"/{place.bucket}?uploads", s3_proxy.asked[-1].headers, b"")
    )
    assert uploads.status == 200
    assert b"<Upload>" not in uploads.body
    assert s3_proxy.counts["DELETE"] == 1


async def test_refusals_are_those_of_the_client(files: Bucket, s3_proxy: S3Proxy) -> None:
    s3_proxy.fault = always(refusal("AccessDenied", 403))

    def use() -> None:
        with pytest.raises(NotAllowedError, match="s3:ListBucket"):
            list(files.all())
        with pytest.raises(NotAllowedError, match="s3:GetObject"):
            files.read("one")
        with pytest.raises(NotAllowedError, match="s3:DeleteObject"):
            files.remove("one")
        with pytest.raises(NotAllowedError, match="s3:PutObject"):
            files.write("one", [b"1"])

    await within(use)


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "sqspider-s3"]


async def test_whoever_forgets_it_leaves_no_thread(s3_proxy: S3Proxy, place: S3Place) -> None:
    def use() -> None:
        files = Bucket.at(str(place), s3_proxy.environment)
        assert list(files.all()) == []
        assert len(_threads()) == 1

    await within(use)
    await within(gc.collect)
    assert _threads() == []


async def test_a_list_may_be_left_before_its_end(files: Bucket) -> None:
    def use() -> None:
        for number in range(3):
            files.write(f"{number}", [b"x"])
        for found in files.all():
            assert found.name == "0"
            break
        assert files.read("2") == b"x"

    await within(use)


async def test_it_may_be_read_where_a_loop_runs(engines: Engines, place: S3Place) -> None:
    """The command line does."""
    files = Bucket.at(str(place), engines.ministack())
    files.write("one", [b"1"])
    assert files.read("one") == b"1"
    files.close()


def test_an_address_leads_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    assert os.environ["AWS_REGION"] == "us-east-1"
    found: Files = files_at("s3://pages/crawl/")
    assert isinstance(found, Bucket)
    assert found.address == "s3://pages/crawl"
