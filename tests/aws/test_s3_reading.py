"""An archive in a bucket is read, indexed, and proved as one in a folder is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from sqspider.archive.addresses import files_at
from sqspider.archive.cdxj import Index, write_index
from sqspider.archive.errors import DamagedError
from sqspider.archive.reading import capture_at, captures_of, read_archive
from sqspider.archive.store import open_store
from sqspider.archive.verify import Verification
from sqspider.record import CapturePlace
from tests import forked
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


async def test_rows_and_links_of_a_bucket_are_those_of_the_same_files_in_a_folder(address: str, tmp_path: Path) -> None:
    """And what comes into the bucket later is gone on with."""
    await kept(address)
    folder = tmp_path / "folder"
    folder.mkdir()
    for info in files_at(address).all():
        (folder / info.name.replace("/", "-")).write_bytes(files_at(address).read(info.name))

    def sqspider(*arguments: str) -> str:
        done = forked.run(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rows(name: str) -> list[dict[str, object]]:
        found = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        return sorted(({**row, "warc_filename": None} for row in found), key=json.dumps)

    def extract(source: str, to: str, *how: str) -> None:
        sqspider("extract", source, "--title", "--links", "--text", "--type", "*/*", "--to", to, *how)

    def look() -> None:
        extract(address, "of_bucket.jsonl")
        extract(str(folder), "of_folder.jsonl")
        assert rows("of_bucket.jsonl") == rows("of_folder.jsonl")
        assert len(rows("of_bucket.jsonl")) > len(pages()) / 2
        asked = ("--external", "--json")
        told = sqspider("links", "--archive", address, "--links", "links.db", *asked)
        assert told == sqspider("links", "--archive", str(folder), *asked)

    await aside(look)
    before = rows("of_bucket.jsonl")
    await later(address)
    await aside(lambda: extract(address, "of_bucket.jsonl", "--append"))
    assert len(rows("of_bucket.jsonl")) == len(before) + 1


async def later(address: str) -> None:
    store = open_store(address)
    await store.keep([capture_of(b"<title>Later</title>", url=f"{SITE}/later")])
    await store.close()


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
