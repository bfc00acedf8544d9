"""What is kept of captures, in which order, and what a failure leaves of it."""

from __future__ import annotations

import asyncio
import errno
import io
import math
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sqspider.archive.coding import Coding
from sqspider.archive.dates import microseconds
from sqspider.archive.folder import Folder
from sqspider.archive.folder_sink import Calls, FolderSink, Limits
from sqspider.archive.members import content_length_of, members
from sqspider.archive.payloads import LEAST_BYTES, Payloads
from sqspider.archive.store import NOTES_THAT_WAIT_BYTES, ArchiveStore, Dates, open_store
from sqspider.archive.warc import Origin, digest_of, record_id
from sqspider.capture import Capture, FullError, Hop, StoreError
from sqspider.crawl_settings import CrawlSettings
from sqspider.record import CapturePlace
from sqspider.web.fetch import Cut

from .captures import AT, HTML, LARGE, capture_of


def sink_at(folder: Path, **more: Any) -> FolderSink:
    return FolderSink(folder, Coding.GZIP, Origin("host"), Limits(spare_bytes=0), **more)


def record_at(folder: Path, place: CapturePlace | None) -> tuple[bytes, bytes]:
    """The head and the block of the one record that lies at a place."""
    assert place is not None
    data = Folder(str(folder)).read(place.file, place.offset, place.length)
    (found,) = list(records_in(data))
    return found


def records_in(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    for member in members(io.BytesIO(data)):
        head = member.read_head()
        yield head, member.read(content_length_of(head) or 0)


def field(head: bytes, name: str) -> str:
    return head.partition(f"\r\n{name}: ".encode())[2].partition(b"\r\n")[0].decode()


def all_in(folder: Path) -> list[tuple[str, str]]:
    """Types and URLs of all records but warcinfo, in the order of their files."""
    files = Folder(str(folder))
    heads = [head for file in files.all() for head, _ in records_in(files.read(file.name))]
    found = [(field(head, "WARC-Type"), field(head, "WARC-Target-URI")) for head in heads]
    return [one for one in found if one[0] != "warcinfo"]


async def keep(store: ArchiveStore, *captures: Capture) -> Sequence[CapturePlace | None]:
    return await store.keep(captures)


async def test_a_capture_lies_at_its_place(tmp_path: Path) -> None:
    store = ArchiveStore(sink_at(tmp_path))
    captures = [capture_of(b"%d" % n, url=f"http://site.example/{n}", at=AT + n) for n in range(3)]
    places = await store.keep(captures)
    for capture, place in zip(captures, places, strict=True):
        head, block = record_at(tmp_path, place)
        assert place is not None
        assert field(head, "WARC-Type") == "response"
        assert field(head, "WARC-Target-URI") == capture.url
        assert field(head, "WARC-Payload-Digest") == f"sha1:{place.digest}"
        assert field(head, "WARC-Record-ID") == record_id("response", capture.url, microseconds(place.at))
        assert place.at == capture.at
        assert block.endswith(b"\r\n\r\n" + capture.fetched.payload)
        assert place.payload is None
    await store.close()
    assert [record_at(tmp_path, place)[1][-1:] for place in places] == [b"0", b"1", b"2"]


async def test_what_was_noted_goes_before_what_is_kept(tmp_path: Path) -> None:
    store = ArchiveStore(sink_at(tmp_path))
    store.note(capture_of(url="http://site.example/robots.txt", hop=Hop.ROBOTS))
    assert os.listdir(tmp_path) == []  # nobody waits for it
    (place,) = await keep(store, capture_of())
    assert field(record_at(tmp_path, place)[0], "WARC-Target-URI") == "http://site.example/page"
    assert [url for kind, url in all_in(tmp_path) if kind in ("response", "revisit")] == [
        "http://site.example/robots.txt", "http://site.example/page",
    ]  # fmt: skip
    store.note(capture_of(url="http://other.example/robots.txt", hop=Hop.ROBOTS))
    await store.close()
    assert all_in(tmp_path)[-1] == ("metadata", "http://other.example/robots.txt")


async def test_a_note_that_can_never_be_written_is_dropped_aloud_and_nothing_else_with_it(tmp_path: Path) -> None:
    store = ArchiveStore(sink_at(tmp_path))
    for host, at in (("one", AT), ("odd", math.nan), ("two", AT)):
        store.note(capture_of(url=f"http://{host}.example/robots.txt", hop=Hop.ROBOTS, at=at))
    with capture_logs() as logs:
        (place,) = await keep(store, capture_of())
    assert field(record_at(tmp_path, place)[0], "WARC-Target-URI") == "http://site.example/page"
    assert [(line["event"], line["url"]) for line in logs] == [("note_dropped", "http://odd.example/robots.txt")]
    with pytest.raises(ValueError, match="NaN"):  # a capture that somebody waits for is not dropped
        await keep(store, capture_of(at=math.nan))
    await store.close()
    assert [url for kind, url in all_in(tmp_path) if kind in ("response", "revisit")] == [
        "http://one.example/robots.txt", "http://two.example/robots.txt", "http://site.example/page",
    ]  # fmt: skip


async def test_nothing_is_made_where_nothing_is_kept(tmp_path: Path) -> None:
    store = ArchiveStore(sink_at(tmp_path))
    assert await store.keep([]) == []
    unwanted = capture_of(settings=CrawlSettings(keep=("none",)))
    assert await keep(store, unwanted, unwanted) == [None, None]
    store.note(unwanted)
    await store.close()
    assert os.listdir(tmp_path) == []


PDF = b"content-type:  Application/PDF; a=b\r\n"


@pytest.mark.parametrize(
    ("keep", "lines", "more", "is_kept"),
    [
        ((), HTML, {}, True),
        ((), b"A: b\r\n", {}, True),
        (("text/html",), HTML, {}, True),
        (("text/*",), HTML, {}, True),
        (("image/*", "application/pdf"), PDF, {}, True),
        (("application/pdf",), HTML, {}, False),
        (("text/htm",), HTML, {}, False),
        (("text/html",), b"A: b\r\n", {}, False),
        (("*/*",), b"A: b\r\n", {}, True),
        (("image/*",), HTML, {"hop": Hop.ROBOTS}, True),
        (("image/*",), HTML, {"status": b"HTTP/1.1 301 Moved\r\n"}, True),
        (("image/*",), HTML, {"status": b"HTTP/1.1 404 Not Found\r\n"}, True),
        (("image/*",), HTML, {"status": b"HTTP/1.1 304 Not Modified\r\n"}, True),
        (("none",), HTML, {"status": b"HTTP/1.1 404 Not Found\r\n"}, False),
        (("none",), HTML, {"hop": Hop.ROBOTS}, False),
        ((), HTML, {"wire": {"http_status": None}}, False),  # no answer
    ],
)
async def test_a_crawl_says_what_is_kept(
    tmp_path: Path, keep: tuple[str, ...], lines: bytes, more: dict[str, Any], is_kept: bool
) -> None:
    store = ArchiveStore(sink_at(tmp_path))
    wanted = capture_of(url="http://site.example/wanted")
    places = await store.keep([capture_of(LARGE, lines, settings=CrawlSettings(keep=keep), **more), wanted])
    assert [place is not None for place in places] == [is_kept, True]
    assert field(record_at(tmp_path, places[1])[0], "WARC-Target-URI") == wanted.url
    await store.close()


async def test_a_payload_is_cut_where_its_crawl_says(tmp_path: Path) -> None:
    store = ArchiveStore(sink_at(tmp_path))
    settings = CrawlSettings(keep_bytes=10)
    cut, whole, robots = await keep(
        store,
        capture_of(b"0123456789A", settings=settings),
        capture_of(b"0123456789", settings=settings),
        capture_of(b"0123456789A", settings=settings, hop=Hop.ROBOTS),
    )
    head, block = record_at(tmp_path, cut)
    assert field(head, "WARC-Truncated") == "length"
    assert block.endswith(b"X-Crawler-Content-Length: 11\r\nContent-Length: 10\r\n\r\n0123456789")
    assert cut is not None
    assert cut.digest == digest_of(b"0123456789")
    assert b"WARC-Truncated" not in record_at(tmp_path, whole)[0]
    assert record_at(tmp_path, robots)[1].endswith(b"0123456789A")
    await store.close()


# Revisits


async def test_the_same_payload_is_kept_once(tmp_path: Path) -> None:
    """Within a batch, and from one to the next; of other URLs, too."""
    store = ArchiveStore(sink_at(tmp_path))
    urls = [f"http://site.example/{n}" for n in range(4)]
    first, second = await keep(store, *(capture_of(url=url, at=AT + n) for n, url in enumerate(urls[:2])))
    third, again = await keep(store, capture_of(url=urls[2], at=AT + 2), capture_of(url=urls[0], at=AT + 3))
    assert first is not None
    assert first.payload is None
    for place, url in ((second, urls[0]), (third, urls[0]), (again, "")):
        assert place is not None
        assert place.digest == first.digest
        assert place.payload == CapturePlace(first.file, first.offset, first.length, first.digest, first.at, url=url)
        head, block = record_at(tmp_path, place)
        assert field(head, "WARC-Type") == "revisit"
        assert field(head, "WARC-Refers-To-Target-URI") == urls[0]
        assert field(head, "WARC-Refers-To") == field(record_at(tmp_path, first)[0], "WARC-Record-ID")
        assert field(head, "WARC-Refers-To-Date") == field(record_at(tmp_path, first)[0], "WARC-Date")
        assert block.endswith(b"\r\n\r\n")
        assert record_at(tmp_path, place.payload)[1].endswith(LARGE)
    await store.close()


@pytest.mark.parametrize(
    "odd",
    [
        {"payload": b"x" * LEAST_BYTES},  # a reference is no smaller
        {"fetched": {"cut": Cut.TIME}},
        {"settings": CrawlSettings(keep_bytes=2000)},
    ],
)
async def test_what_is_small_or_not_whole_refers_to_nothing_and_is_referred_to_by_none(
    tmp_path: Path, odd: dict[str, Any]
) -> None:
    store = ArchiveStore(sink_at(tmp_path))
    for _ in range(2):
        places = await keep(store, capture_of(**{"payload": LARGE, **odd}), capture_of(**{"payload": LARGE, **odd}))
        assert [place.payload for place in places if place] == [None, None]
    await store.close()


async def test_a_later_visit_refers_to_the_one_before(tmp_path: Path) -> None:
    """Of another process, which knows it by the record alone."""
    store = ArchiveStore(sink_at(tmp_path))
    (first,) = await keep(store, capture_of())
    await store.close()
    store = ArchiveStore(sink_at(tmp_path))
    (same,) = await keep(store, capture_of(at=AT + 10, before=first))
    assert same is not None
    assert same.payload == first
    (third,) = await keep(store, capture_of(at=AT + 20, before=same))  # which is a revisit itself
    assert third is not None
    assert third.payload == first
    (changed,) = await keep(store, capture_of(LARGE + b".", at=AT + 30, before=third))
    assert changed is not None
    assert changed.payload is None
    await store.close()


UNCHANGED: dict[str, Any] = {"status": b"HTTP/1.1 304 Not Modified\r\n"}


async def test_what_has_not_changed_refers_to_what_it_was(tmp_path: Path) -> None:
    store = ArchiveStore(sink_at(tmp_path))
    (first,) = await keep(store, capture_of(b"small"))
    (same,) = await keep(store, capture_of(b"", at=AT + 10, before=first, **UNCHANGED))
    assert first is not None
    assert same is not None
    assert same.payload == first
    assert same.digest == first.digest
    head, block = record_at(tmp_path, same)
    assert field(head, "WARC-Type") == "revisit"
    assert field(head, "WARC-Payload-Digest") == f"sha1:{first.digest}"
    assert block == b""
    await store.close()


@pytest.mark.parametrize("before", [None, CapturePlace("elsewhere.warc.gz", 0, 9, digest_of(LARGE), AT - 99)])
async def test_nothing_refers_to_what_is_not_there(tmp_path: Path, before: CapturePlace | None) -> None:
    """The visit before was kept in another archive, or was forgotten."""
    store = ArchiveStore(sink_at(tmp_path))
    places = await keep(store, capture_of(before=before), capture_of(b"", before=before, **UNCHANGED))
    for place in places:
        assert place is not None
        assert place.payload is None
        assert field(record_at(tmp_path, place)[0], "WARC-Type") == "response"
    await store.close()


async def test_what_was_packed_meanwhile_is_not_referred_to(tmp_path: Path) -> None:
    store = ArchiveStore(sink_at(tmp_path))
    (first,) = await keep(store, capture_of())
    assert first is not None
    (tmp_path / (first.file + ".open")).rename(tmp_path / "moved.warc.gz")
    with pytest.raises(StoreError, match="somebody removed"):
        await keep(store, capture_of(at=AT + 1))
    (again,) = await keep(store, capture_of(at=AT + 2))
    assert again is not None
    assert again.payload is None
    await store.close()


def test_payloads_are_remembered_as_far_as_there_is_room() -> None:
    known = Payloads(lambda _: True, most=3)
    places = [CapturePlace("a", n, 1, f"D{n}", AT) for n in range(5)]
    for place in (*places, places[4]):
        known.learn(place, "http://site.example/")
    found = [known.of(f"D{n}", "http://site.example/") for n in range(5)]
    assert found == [None, None, *places[2:]]


@given(st.lists(st.integers(0, 5).map(lambda n: AT + n / 1_000_000), max_size=40))
def test_no_two_captures_have_one_date(times: list[float]) -> None:
    dates = Dates()
    found = [dates.next(at) for at in times]
    assert len(set(found)) == len(times)
    for at, date in zip(times, found, strict=True):
        assert microseconds(at) <= date < microseconds(at) + len(times)


# Failures


class Failing:
    """A disk that is full for a while."""

    def __init__(self) -> None:
        self.is_full = False

    def write(self, descriptor: int, data: memoryview) -> int:
        if self.is_full:
            os.write(descriptor, data[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(descriptor, data)


async def test_after_a_failure_the_next_batch_works_and_no_note_is_lost(tmp_path: Path) -> None:
    failing = Failing()
    store = ArchiveStore(sink_at(tmp_path, calls=Calls(write=failing.write)))
    await keep(store, capture_of(b"0", url="http://site.example/0"))
    store.note(capture_of(b"robots", url="http://site.example/robots.txt", hop=Hop.ROBOTS))
    failing.is_full = True
    for _ in range(3):
        with pytest.raises(StoreError, match="No space left"):
            await keep(store, capture_of(url="http://site.example/1"))
    failing.is_full = False
    (place,) = await keep(store, capture_of(url="http://site.example/2", at=AT + 1))
    assert place is not None
    assert place.payload is None  # what failed was not learned
    await store.close()
    assert [url[20:] for kind, url in all_in(tmp_path) if kind == "response"] == ["0", "robots.txt", "2"]
    assert field(record_at(tmp_path, place)[0], "WARC-Target-URI") == "http://site.example/2"


async def test_notes_that_cannot_be_kept_at_the_end_are_told(tmp_path: Path) -> None:
    failing = Failing()
    store = ArchiveStore(sink_at(tmp_path, calls=Calls(write=failing.write)))
    failing.is_full = True
    store.note(capture_of())
    with pytest.raises(StoreError, match="No space left"):
        await store.close()
    assert os.listdir(tmp_path) == []


async def test_what_was_noted_is_written_when_that_is_asked_for(tmp_path: Path) -> None:
    store = ArchiveStore(sink_at(tmp_path))
    store.note(capture_of())
    assert await store.keep([]) == []
    assert [kind for kind, _ in all_in(tmp_path)] == ["response", "request", "metadata"]
    assert await store.keep([]) == []
    assert len(all_in(tmp_path)) == 3
    await store.close()


async def test_many_notes_wait_for_no_page(tmp_path: Path) -> None:
    store = ArchiveStore(sink_at(tmp_path))
    unwanted = capture_of(settings=CrawlSettings(keep=("none",)))
    store.note(capture_of(os.urandom(NOTES_THAT_WAIT_BYTES // 2)))
    assert await keep(store, unwanted) == [None]
    assert os.listdir(tmp_path) == []
    store.note(capture_of(os.urandom(NOTES_THAT_WAIT_BYTES // 2)))
    assert await keep(store, unwanted) == [None]
    assert [kind for kind, _ in all_in(tmp_path)] == ["response", "request", "metadata"] * 2
    await store.close()


async def test_notes_that_cannot_be_written_for_long_do_not_fill_the_memory(tmp_path: Path) -> None:
    store = ArchiveStore(sink_at(tmp_path))
    with capture_logs() as logs:
        for number in range(12):
            store.note(capture_of(bytes(NOTES_THAT_WAIT_BYTES // 4), url=f"http://site.example/{number}"))
    assert [line["event"] for line in logs] == ["notes_dropped"]
    await store.close()
    kept = [int(url[-2:].strip("/")) for kind, url in all_in(tmp_path) if kind in ("response", "revisit")]
    assert kept == list(range(12))[-len(kept) :]
    assert 3 <= len(kept) <= 8


async def test_who_is_cancelled_leaves_the_store_in_order(tmp_path: Path) -> None:
    held, go_on = threading.Event(), threading.Event()
    calls = 0

    def write(descriptor: int, data: memoryview) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:  # the first is of the file's beginning
            held.set()
            go_on.wait()
        return os.write(descriptor, data)

    store = ArchiveStore(sink_at(tmp_path, calls=Calls(write=write)))
    store.note(capture_of(b"robots", url="http://site.example/robots.txt", hop=Hop.ROBOTS))
    first = asyncio.ensure_future(keep(store, capture_of(b"1", url="http://site.example/1")))
    await asyncio.to_thread(held.wait)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.ensure_future(keep(store, capture_of(b"2", url="http://site.example/2")))
    go_on.set()
    (place,) = await second
    assert record_at(tmp_path, place)[1].endswith(b"2")
    await store.close()
    assert [url[20:] for kind, url in all_in(tmp_path) if kind == "response"] == ["robots.txt", "1", "2"]


async def test_many_who_keep_at_once_wait_for_one_another(tmp_path: Path) -> None:
    store = ArchiveStore(sink_at(tmp_path))

    async def one(n: int) -> bool:
        places = await keep(store, capture_of(b"%d" % n, url=f"http://site.example/{n}"))
        return record_at(tmp_path, places[0])[1].endswith(b"\r\n\r\n%d" % n)

    assert all(await asyncio.gather(*(one(n) for n in range(30))))
    await store.close()


# Opening


@pytest.mark.parametrize("coding", list(Coding))
async def test_a_store_is_opened_by_the_address_of_a_folder(tmp_path: Path, coding: Coding) -> None:
    folder = tmp_path / "archive"
    store = open_store(str(folder), coding, operator="us@example.org")
    assert os.listdir(folder) == []
    (place,) = await keep(store, capture_of())
    assert place is not None
    assert place.file.endswith(coding.ending)
    await store.close()
    first, *_ = records_in(Folder(str(folder)).read(place.file))
    assert b"operator: us@example.org\r\n" in first[1]


async def test_where_nothing_can_be_kept_is_said_when_it_is_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1")
    with pytest.raises(StoreError, match="is no folder"):
        open_store(str(tmp_path / "file"))
    store = open_store(str(tmp_path / "archive"), max_bytes=10)
    with pytest.raises(FullError, match="raise --archive-max-bytes"):
        await keep(store, capture_of())
    await store.close()
