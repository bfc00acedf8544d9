"""Proving an archive: what is wrong is found, and what only looks so is not."""

from __future__ import annotations

import base64
import contextlib
import random
import tracemalloc
from pathlib import Path

import pytest

from sqspider.archive.cdxj import write_index
from sqspider.archive.errors import DamagedError
from sqspider.archive.folder import Folder
from sqspider.archive.reading import read_archive
from sqspider.archive.verify import Verification
from tests.archive.mutations import FAULTY, GOOD, SPOILED_PACKED, SPOILED_PLAIN, Change, Spoil, archive_of
from tests.archive.warcs import good, packed, plain, response
from tests.conftest import load_cases


def faults_in(folder: Path) -> list[str]:
    with Verification(Folder(str(folder))) as run:
        return [str(fault) for fault in run.faults()]


def faults_of(tmp_path: Path, content: bytes, name: str) -> list[str]:
    (tmp_path / name).write_bytes(content)
    return faults_in(tmp_path)


@pytest.mark.parametrize("ending", [".warc.gz", ".warc"])
@pytest.mark.parametrize("change", FAULTY.values(), ids=FAULTY.keys())
def test_a_record_that_is_wrong_is_found(tmp_path: Path, change: Change, ending: str) -> None:
    records = good()
    change(records)
    assert faults_of(tmp_path, archive_of(records, is_packed=ending == ".warc.gz"), f"made{ending}")


@pytest.mark.parametrize("ending", [".warc.gz", ".warc"])
@pytest.mark.parametrize("change", GOOD.values(), ids=GOOD.keys())
def test_what_is_right_passes(tmp_path: Path, change: Change, ending: str) -> None:
    records = good()
    change(records)
    assert faults_of(tmp_path, archive_of(records, is_packed=ending == ".warc.gz"), f"made{ending}") == []


@pytest.mark.parametrize("spoil", SPOILED_PACKED.values(), ids=SPOILED_PACKED.keys())
def test_a_packed_file_that_is_spoiled_is_found(tmp_path: Path, spoil: Spoil) -> None:
    assert faults_of(tmp_path, spoil(packed(good().values())), "made.warc.gz")


@pytest.mark.parametrize("spoil", SPOILED_PLAIN.values(), ids=SPOILED_PLAIN.keys())
def test_a_plain_file_that_is_spoiled_is_found(tmp_path: Path, spoil: Spoil) -> None:
    assert faults_of(tmp_path, spoil(plain(good().values())), "made.warc")


def test_the_cases_of_others_are_told_apart(tmp_path: Path) -> None:
    cases = load_cases("practice/09_warc_mutations.json")["cases"]
    assert cases
    for case in cases:
        folder = tmp_path / case["id"]
        folder.mkdir()
        found = faults_of(folder, base64.b64decode(case["warc_b64"]), f"case{case['ext']}")
        assert bool(found) == case["invalid"], f"{case['name']} ({case['why']}): {found}"


@pytest.mark.parametrize("ending", [".warc.gz", ".warc"])
def test_a_file_that_is_cut_anywhere_is_found(tmp_path: Path, ending: str) -> None:
    """But where a record ends: such a file is right."""
    records = good()
    write = packed if ending == ".warc.gz" else plain
    whole = write(records.values())
    ends = {len(write(list(records.values())[:number])) for number in range(1, len(records) + 1)}
    for size in range(1, len(whole)):
        found = faults_of(tmp_path, whole[:size], f"made{ending}")
        assert bool(found) == (size not in ends), f"{size}: {found}"


def test_a_proof_takes_little_memory_whatever_is_in_a_file(tmp_path: Path) -> None:
    message = b"HTTP/1.1 200 OK\r\nContent-Length: 40000000\r\n\r\n" + bytes(40_000_000)
    (tmp_path / "large.warc.gz").write_bytes(packed([response(message=message)]))
    del message
    tracemalloc.start()
    try:
        found = faults_in(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == []
    assert peak < 10_000_000


@pytest.mark.parametrize("seed", range(8))
def test_whatever_lies_there_is_told_and_breaks_nothing(tmp_path: Path, seed: int) -> None:
    """Bytes changed, left out, put in and said twice: there is a fault, or none, and never an error of our own."""
    rng = random.Random(seed)
    for _ in range(50):
        content = bytearray(rng.choice((packed, plain))(good().values()))
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.randrange(len(content))
            signs = bytes(rng.choices(b"\r\n\t :<>/\x00\xff5", k=rng.randrange(6)))
            content[at : at + rng.randrange(9)] = rng.choice((signs, content[max(0, at - 40) : at]))
        faults_of(tmp_path, bytes(content), "made.warc.gz" if content[:2] == b"\x1f\x8b" else "made.warc")
        with contextlib.suppress(DamagedError):
            for captured in read_archive(str(tmp_path)):
                assert (captured.payload, captured.headers, captured.at) is not None
        with contextlib.suppress(DamagedError):
            write_index(Folder(str(tmp_path)))
        for file in tmp_path.iterdir():
            file.unlink()
