"""Walking the members of a file: whole ones, torn ends, and what is none."""

from __future__ import annotations

import gzip
import io
import random
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqspider.archive.coding import Coding
from sqspider.archive.members import (
    MARK_BYTES,
    STEP,
    Member,
    MemberError,
    TornError,
    check_whole,
    content_length_of,
    members,
    whole_from,
)
from sqspider.archive.packing import zlib_member

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Pack = Callable[[bytes], bytes]


def plain(record: bytes) -> bytes:
    return record


PACKS: Final[dict[str, Pack]] = {
    "isal": Coding.GZIP.pack,
    "zlib": zlib_member,
    "zstd": Coding.ZSTD.pack,
    "plain": plain,
}
every_packing = pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS.keys())


def record(block: bytes, kind: str = "resource") -> bytes:
    head = f"WARC/1.1\r\nWARC-Type: {kind}\r\nContent-Length: {len(block)}\r\n\r\n"
    return head.encode() + block + b"\r\n\r\n"


def walk(data: bytes) -> list[tuple[int, int, bytes]]:
    found = []
    stream = io.BytesIO(data)
    held: Member | None = None
    content = b""
    for member in members(stream):
        if held is not None:
            found.append((held.offset, held.length, content))
        held, content = member, member.read(10**9)
    if held is not None:
        found.append((held.offset, held.length, content))
    return found


def check_all(data: bytes) -> list[bytes]:
    """The heads of all members, each whole."""
    return [check_whole(member) for member in members(io.BytesIO(data))]


def whole_until(data: bytes) -> tuple[int, int]:
    """How many members are whole, and where the last of them ends."""
    count = 0
    try:
        for member in members(io.BytesIO(data)):
            check_whole(member)
            count += 1
    except MemberError as error:
        return count, error.offset
    return count, len(data)


@every_packing
def test_members_are_found_where_they_lie(pack: Pack) -> None:
    records = [record(bytes([n]) * n * 7000) for n in range(1, 12)]
    packed = [pack(one) for one in records]
    found = walk(b"".join(packed))
    assert [content for _, _, content in found] == records
    assert [length for _, length, _ in found] == [len(one) for one in packed]
    at = 0
    for (offset, length, _), one in zip(found, packed, strict=True):
        assert offset == at
        assert length == len(one)
        at += len(one)


@every_packing
@given(blocks=st.lists(st.binary(max_size=300), min_size=1, max_size=6), step=st.integers(1, 50))
def test_members_are_read_in_pieces_of_any_size(pack: Pack, blocks: list[bytes], step: int) -> None:
    data = b"".join(pack(record(block)) for block in blocks)
    for member, block in zip(members(io.BytesIO(data)), blocks, strict=True):
        head = member.read_head()
        assert content_length_of(head) == len(block)
        got = b""
        while piece := member.read(step):
            got += piece
        assert got == block + b"\r\n\r\n"
        assert member.read_head() == b""


@every_packing
def test_a_cut_at_every_byte_is_told_with_the_end_of_the_last_whole_member(pack: Pack) -> None:
    rng = random.Random(7)
    packed = [pack(record(rng.randbytes(size))) for size in (40, 0, 120, 1)]
    data = b"".join(packed)
    ends = [sum(map(len, packed[:n])) for n in range(len(packed) + 1)]
    for cut in range(len(data) + 1):
        whole = max(end for end in ends if end <= cut)
        if cut in ends:
            assert whole_until(data[:cut]) == (ends.index(cut), cut)
            continue
        with pytest.raises(TornError) as told:
            check_all(data[:cut])
        assert told.value.offset == whole, cut


@pytest.mark.parametrize("pack", [PACKS["isal"], PACKS["zlib"], PACKS["zstd"]], ids=["isal", "zlib", "zstd"])
def test_a_changed_byte_is_never_taken_for_whole(pack: Pack) -> None:
    first, second, third = (pack(record(random.Random(n).randbytes(90))) for n in range(3))
    for at in range(len(second)):
        changed = bytearray(second)
        changed[at] ^= 0x55
        # A time or a system in the member's head says nothing of the record.
        expected = [(1, len(first))] if at >= 10 else [(1, len(first)), (3, len(first) + len(changed) + len(third))]
        assert whole_until(first + changed + third) in expected


@every_packing
def test_a_large_record_takes_constant_memory(pack: Pack) -> None:
    data = pack(record(random.Random(1).randbytes(1000) * 8_000))
    stream = io.BytesIO(data)
    tracemalloc.start()
    try:
        for member in members(stream):
            check_whole(member)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_one_member_of_many_records_is_readable() -> None:
    blocks = [b"a" * 10, b"", b"b" * 200_000]
    data = gzip.compress(b"".join(record(block) for block in blocks))
    member = next(members(io.BytesIO(data)))
    got = []
    while head := member.read_head():
        got.append(b"".join(member.blocks(content_length_of(head) or 0)))
        assert member.read(4) == b"\r\n\r\n"
    assert got == blocks
    assert whole_until(data) == (1, len(data))


def test_a_member_that_was_not_read_is_checked_all_the_same() -> None:
    data = bytearray(zlib_member(record(b"x" * 100)))
    data[-5] ^= 1  # of its checksum
    with pytest.raises(MemberError):
        list(members(io.BytesIO(bytes(data) + zlib_member(record(b"y")))))


@pytest.mark.parametrize(
    "foreign",
    [
        zlib_member(b"no record at all"),
        zlib_member(b""),
        zlib_member(b"WARC/1.1\r\nWARC-Type: response\r\n\r\nno length\r\n\r\n"),
        zlib_member(record(b"x")[:-2]),
        zlib_member(record(b"x") + b"and more"),
        b"<html>no WARC file</html>",
        b"WARC/1.1\r\nWARC-Type: response\r\n\r\n",
        b"\0" * 100,
    ],
)
def test_what_is_no_record_is_told(foreign: bytes) -> None:
    with pytest.raises(MemberError) as told:
        check_all(foreign)
    assert not isinstance(told.value, TornError)
    assert told.value.offset == 0


def test_fields_without_an_end_are_not_read_forever() -> None:
    data = zlib_member(b"WARC/1.1\r\n" + b"x" * 5_000_000)
    with pytest.raises(MemberError, match="no end"):
        next(members(io.BytesIO(data))).read_head()
    with pytest.raises(MemberError, match="no record"):
        next(members(io.BytesIO(b"WARC/1.1\r\n" + b"x" * 5_000_000))).read_head()


def test_a_dictionary_at_the_head_of_a_file_is_used() -> None:
    samples = [record(b"the same words in each of them, " * 8 + bytes([n])) for n in range(50)]
    dictionary = zstd.train_dict(samples, 2000)
    for content in (dictionary.dict_content, zstd.compress(dictionary.dict_content)):
        skipped = b"\x5d\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content
        frames = [zstd.compress(one, zstd_dict=dictionary) for one in samples]
        found = walk(skipped + b"".join(frames))
        assert [one for _, _, one in found] == samples
        assert found[0][0] == len(skipped)


@every_packing
def test_a_whole_record_behind_damage_is_found(pack: Pack) -> None:
    first, last = pack(record(b"1" * 50)), pack(record(b"2" * 50, "metadata"))
    mark = last[:MARK_BYTES]
    for rubbish in (b"\0" * 70_000, mark * 2000, b"", first[:-9], first):
        data = rubbish + last
        assert whole_from(io.BytesIO(data), 0, mark, lambda head: b"metadata" in head) == len(rubbish)
        assert whole_from(io.BytesIO(data[:-9]), 0, mark, lambda head: b"metadata" in head) is None


def test_the_walk_begins_at_an_offset() -> None:
    one = zlib_member(record(b"1"))
    stream = io.BytesIO(one * 3)
    stream.seek(len(one))
    assert [member.offset for member in members(stream, len(one))] == [len(one), 2 * len(one)]


def small_reads(data: bytes) -> BinaryIO:
    """A stream that gives less than it is asked for."""

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(3, size or 3) if size != -1 else 3)

    return Slow(data)


@every_packing
def test_a_stream_may_give_less_than_it_is_asked_for(pack: Pack) -> None:
    records = [record(b"1" * 50), record(b""), record(b"3")]
    found: Iterator[Member] = members(small_reads(b"".join(map(pack, records))))
    assert [member.read(1000) for member in found] == records


def test_members_of_isal_are_those_of_everybody() -> None:
    data = record(random.Random(3).randbytes(5000) * 3)
    assert gzip.decompress(Coding.GZIP.pack(data)) == data
    assert zlib.decompress(Coding.GZIP.pack(data), 31) == data


def test_without_isal_the_standard_library_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    data = record(random.Random(3).randbytes(5000) * 3)
    packed = Coding.GZIP.pack(data)
    monkeypatch.setattr("sqspider.archive.packing.HAS_ISAL", False)
    assert Coding.GZIP.pack(data) == zlib_member(data) != packed
    assert walk(zlib_member(data)) == [(0, len(zlib_member(data)), data)]


@pytest.mark.parametrize("rubbish", [b"\0", b"no member"])
def test_what_follows_a_gzip_member_and_is_none_is_not_called_torn(rubbish: bytes) -> None:
    member = zlib_member(record(b"block"))
    with pytest.raises(MemberError, match="no gzip member") as told:
        walk(member + rubbish + rubbish)
    assert not isinstance(told.value, TornError)
    assert told.value.offset == len(member)


@pytest.mark.parametrize("level", [0, 1, 9])
def test_a_last_member_that_unpacks_to_more_than_a_step_is_whole(level: int) -> None:
    blocks = [bytes(size) for size in (STEP - 1, STEP, STEP + 1, 5 * STEP)]
    blocks.append(random.Random(1).randbytes(3 * STEP))
    for block in blocks:
        data = zlib_member(record(block), level)
        assert [(start, length) for start, length, _ in walk(data)] == [(0, len(data))]
