"""What the places of captures cost in a file, and what becomes of those that are damaged, or older than captures."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqspider.frontier import ClaimRequest, Finish, Frontier, FrontierUnavailableError, Won
from sqspider.frontier.sqlite import SqliteFrontier
from sqspider.frontier.sqlite import file as sqlite_file
from sqspider.frontier.sqlite.captures import CaptureFiles
from sqspider.frontier.sqlite.check import check_file
from sqspider.frontier.sqlite.file import SCHEMA_VERSION, open_to_work
from sqspider.frontier.sqlite.rows import STEP, pack, pack_kept, unpack, unpack_kept
from sqspider.record import CapturePlace, Kept, Outcome, Status

from .kit import DONE, SETTINGS, FakeClock, all_records, entries, finish_one, message_of, record_of, take, url, win

MANY: Final = 3000
NOW: Final = FakeClock().now
FILE: Final = "sqspider-20261130120000-00000-a-host-of-usual-name-1a2b3c4d.warc.gz"
SHA1: Final = "3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ"


async def opened(path: Path) -> SqliteFrontier:
    return await SqliteFrontier.open(str(path), SETTINGS, clock=FakeClock())


def outcome_at(number: int, *, file: str = FILE) -> Outcome:
    """With a capture at a usual place."""
    place = CapturePlace(file=file, offset=number * 8_765, length=8_000 + number, digest=SHA1, at=NOW + number / 7)
    return msgspec.structs.replace(DONE, capture=place)


async def finish_all(frontier: Frontier, outcomes: Sequence[Outcome]) -> None:
    await frontier.enqueue(entries(len(outcomes)))
    left = list(outcomes)
    while left:
        taken = await frontier.receive(min(500, len(left)))
        requests = [ClaimRequest(delivery=delivery, message=message_of(delivery)) for delivery in taken]
        claims = await frontier.claim(requests, worker_id="w", claim_id="c", lease_seconds=9)
        assert await frontier.finish(
            [
                Finish(claim=claim, delivery=delivery, outcome=left.pop())
                for claim, delivery in zip(claims, taken, strict=True)
                if isinstance(claim, Won)
            ]
        ) == [True] * len(taken)


def run(path: Path, *statements: str) -> list[tuple[Any, ...]]:
    """What the last of some statements tells."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return [connection.execute(statement).fetchall() for statement in statements][-1]


def size_of(path: Path) -> int:
    """Of a file's content, in bytes, without room for more."""
    [(pages,)] = run(path, "VACUUM", "PRAGMA page_count")
    return int(pages) * 4096


async def test_a_capture_costs_half_a_hundred_bytes_a_record_and_none_nothing(tmp_path: Path) -> None:
    """At ten million records: half a gigabyte, of which their bare text would be more than twice as much."""
    sizes = {}
    for name, outcomes in {
        "none": [DONE] * MANY,
        "unkept": [msgspec.structs.replace(DONE, unkept=True)] * MANY,
        "with": [outcome_at(number, file=f"{number % 3}{FILE}") for number in range(MANY)],
    }.items():
        path = tmp_path / name
        frontier = await opened(path)
        await finish_all(frontier, outcomes)
        await frontier.close()
        sizes[name] = size_of(path)
    assert sizes["unkept"] == sizes["none"]
    assert (sizes["with"] - sizes["none"]) / MANY < 56
    assert len(run(tmp_path / "with", "SELECT * FROM capture_file")) == 3, "each name stands once"
    assert run(tmp_path / "none", "SELECT count(capture) FROM record") == [(0,)]
    assert check_file(str(tmp_path / "with")).faults == ()


DIGESTS: Final = st.just(SHA1) | st.text(max_size=40) | st.binary(max_size=20).map(bytes.hex)
BARE: Final = st.builds(
    CapturePlace,
    file=st.text(max_size=9),
    offset=st.integers(0, 2**60),
    length=st.integers(0, 2**60),
    digest=DIGESTS,
    at=st.floats(0, 9e9),
    url=st.sampled_from(["", "https://example.com/to"]),
)
PLACES: Final = BARE | st.builds(lambda place, payload: msgspec.structs.replace(place, payload=payload), BARE, BARE)


@given(place=st.none() | PLACES, is_unkept=st.booleans())
def test_a_place_comes_back_as_it_was(place: CapturePlace | None, is_unkept: bool) -> None:
    outcome = Outcome(status=Status.DONE, capture=place, unkept=is_unkept and place is None)
    with closing(open_to_work(":memory:", NOW)) as connection:
        packed = pack(outcome, CaptureFiles(connection))
        kept = pack_kept(Kept(good=outcome), CaptureFiles(connection))
        assert unpack(packed, CaptureFiles(connection)) == outcome
        assert unpack_kept(kept, None, CaptureFiles(connection)) == Kept(good=outcome)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE record SET capture = x'93'",
        "UPDATE record SET capture = 'text'",
        "UPDATE record SET capture = x'950100010101'",  # whose digest is a number
        "DELETE FROM capture_file",
        "UPDATE capture_file SET name = x'00'",
    ],
)
async def test_a_damaged_place_is_named_and_hides_no_other_record(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "f.db"
    frontier = await opened(path)
    await finish_all(frontier, [outcome_at(1), DONE])
    run(path, damage)
    records = await all_records(frontier)
    assert sorted(bool(record.unreadable) for record in records.values())[-1]
    assert len(records) == 2
    assert await frontier.move_places({(FILE, 8_765): None}) == 0, "nor does anything trip over it"
    faults = check_file(str(path)).faults
    assert any("its row is damaged" in fault for fault in faults)
    await frontier.close()


async def test_the_number_of_a_name_is_never_given_to_another(tmp_path: Path) -> None:
    """Whoever has read a record just before all was cleared finds its name, or none."""
    path = tmp_path / "f.db"
    frontier = await opened(path)
    await finish_all(frontier, [outcome_at(1)])
    await frontier.clear_table()
    assert run(path, "SELECT * FROM capture_file") == []
    await finish_all(frontier, [outcome_at(1, file="another")])
    assert run(path, "SELECT * FROM capture_file") == [(2, "another")]
    await frontier.close()


async def test_what_is_not_written_leaves_no_name(tmp_path: Path) -> None:
    path = tmp_path / "f.db"
    frontier = await opened(path)
    await frontier.enqueue(entries(1))
    [delivery] = await take(frontier, 1)
    claim = await win(frontier, delivery)
    assert await finish_one(frontier, claim, delivery)
    assert not await finish_one(frontier, claim, delivery, outcome_at(1))
    assert run(path, "SELECT * FROM capture_file") == []
    await frontier.close()


async def test_all_of_a_long_file_is_looked_at_when_captures_move(tmp_path: Path) -> None:
    """Step by step, so that others get their turn."""
    path, count = tmp_path / "f.db", STEP * 2 + 10
    frontier = await opened(path)
    await finish_all(frontier, [outcome_at(number) for number in range(count)])
    new = CapturePlace(file="packed", offset=5, length=6, digest="", at=0.0)
    moves = {(FILE, number * 8_765): msgspec.structs.replace(new, offset=number) for number in range(0, count, 2)}
    assert await frontier.move_places(moves) == len(moves)
    places = [record.outcome.capture for record in (await all_records(frontier)).values() if record.outcome]
    assert sum(place is not None and place.file == "packed" for place in places) == len(moves)
    assert {place.at for place in places if place} == {NOW + number / 7 for number in range(count)}
    await frontier.close()


# Files of the fourth version, which knew no captures.


def made_of_fourth(path: Path) -> None:
    """A new file as that version would have left it."""
    run(path, "DROP TABLE capture_file", "PRAGMA user_version = 4")


async def test_a_file_of_the_fourth_version_gets_what_captures_need(tmp_path: Path) -> None:
    path = tmp_path / "f.db"
    frontier = await opened(path)
    await finish_all(frontier, [DONE, DONE])
    await frontier.close()
    made_of_fourth(path)
    with pytest.raises(FrontierUnavailableError, match=r"was written by an older sqspider \(schema 4"):
        await SqliteFrontier.open(str(path), SETTINGS, clock=FakeClock(), looking=True)
    frontier = await opened(path)
    assert run(path, "PRAGMA user_version") == [(SCHEMA_VERSION,)]
    assert (await record_of(frontier, url(0))).outcome == DONE
    await frontier.reopen([url(0)])
    [delivery] = await take(frontier, 1)
    assert await finish_one(frontier, await win(frontier, delivery, claim="c2"), delivery, outcome_at(1))
    assert (await record_of(frontier, url(0))).outcome == outcome_at(1)
    await frontier.close()
    assert check_file(str(path)).faults == ()


async def test_a_file_of_the_fourth_version_that_had_not_all_of_it_gets_all(tmp_path: Path) -> None:
    path = tmp_path / "f.db"
    open_to_work(str(path), NOW).close()
    made_of_fourth(path)
    run(path, "ALTER TABLE worker DROP COLUMN barred")
    frontier = await opened(path)
    assert await frontier.check_in("w", session="s", ttl_seconds=60, barred={"news": "why"})
    assert [row.barred for row in await frontier.workers()] == [{"news": "why"}]
    await frontier.close()


async def test_a_file_is_not_brought_up_to_date_under_a_worker_of_the_fourth_version(tmp_path: Path) -> None:
    """It would end visits, and leave the captures of those before where they are not theirs."""
    path = tmp_path / "f.db"
    open_to_work(str(path), NOW).close()
    made_of_fourth(path)
    run(path, f"INSERT INTO worker VALUES ('old', 's', {NOW - 9}, {NOW - 1}, {NOW + 20}, NULL)")
    with pytest.raises(FrontierUnavailableError, match=r"a worker of it is at work there .*\(old\)"):
        await opened(path)
    assert run(path, "PRAGMA user_version") == [(4,)]


async def test_the_version_before_refuses_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.db"
    open_to_work(str(path), NOW).close()
    monkeypatch.setattr(sqlite_file, "SCHEMA_VERSION", 4)
    with pytest.raises(FrontierUnavailableError, match="was written by a newer sqspider"):
        await opened(path)
