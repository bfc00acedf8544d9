"""An archive in a bucket is read, indexed, and proved as one in a folder is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import pytest

from sqspider.archive.addresses import files_at
from sqspider.archive.cdxj import Index, write_index
from sqspider.archive.errors import DamagedError
from sqspider.archive.reading import capture_at, captures_of, read_archive
from sqspider.archive.store import open_store
from sqspider.archive.verify import Verification
from sqspider.record import CapturePlace
from tests.archive.captures import capture_of
from tests.archive.ours import SITE, again, pages

from .buckets import bucket
from .engines import Engines

T = TypeVar("T")


@pytest.fixture
async def address(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[str]:
    environment = engines.ministack()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    async with bucket(environment) as place:
        yield str(place)


async def kept(address: str) -> dict[str, CapturePlace]:
    store = open_store(address)
    found: dict[str, CapturePlace] = {}
    for later in (False, True):
        captures = again(found) if later else pages()
        for capture, place in zip(captures, await store.keep(captures), strict=True):
            assert place is not None
            found[capture.url] = place
    await store.close()
    return found


async def aside(work: Callable[[], T]) -> T:
    """What blocks, in a thread: commands have no loop that runs."""
    return await asyncio.to_thread(work)


async def test_an_archive_in_a_bucket_is_read_indexed_and_proved(address: str) -> None:
    places = await kept(address)

    def look() -> None:
        files = files_at(address)
        payloads = {captured.url: captured.payload for captured in read_archive(address) if captured.kind == "response"}
        assert payloads == {capture.url: capture.fetched.payload for capture in pages()}
        assert capture_at(files, places[f"{SITE}/same"], f"{SITE}/same").payload == payloads[f"{SITE}/page"]
        assert write_index(files) == len(pages()) + 2
        index = Index.of(files)
        assert index is not None
        assert [line.file for line in index.find(f"{SITE}/none")] == [places[f"{SITE}/none"].file]
        assert [captured.kind for captured in captures_of(files, f"{SITE}/gzip")] == ["response", "revisit"]
        with Verification(files) as run:
            assert list(run.faults()) == []
            assert run.tally.captures == len(pages()) + 2

    await aside(look)


async def test_damage_in_a_bucket_is_found(address: str) -> None:
    places = await kept(address)
    place = places[f"{SITE}/chunked"]

    def look() -> None:
        files = files_at(address)
        content = bytearray(files.read(place.file))
        content[place.offset + place.length // 2] ^= 4
        files.write(place.file, [bytes(content)])
        with pytest.raises(DamagedError):
            capture_at(files, place, f"{SITE}/chunked")
        with Verification(files) as run:
            assert list(run.faults())

    await aside(look)


async def test_a_torn_object_is_found(address: str) -> None:
    store = open_store(address)
    (place,) = await store.keep([capture_of()])
    await store.close()
    assert place is not None
    name = place.file

    def look() -> None:
        files = files_at(address)
        files.write(name, [files.read(name)[:-1]])
        with Verification(files) as run:
            assert len(list(run.faults())) >= 1

    await aside(look)
