"""What a frontier's file does when the clock of its machine was put back.

Leases, slots, delays and times to come back at are moments. Those that were written while the clock was ahead
would hold everybody up until it is there again. So the file notes the latest moment at which somebody worked
with it; where that lies ahead of the clock, everything that lies ahead is moved back by as much.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Final

import msgspec

from sqspider.frontier.shares import decode_run, encode_run, moved_back
from sqspider.frontier.sqlite.errors import is_busy
from sqspider.frontier.sqlite.rows import END_OF_TIME, packed_robots, robots_row
from sqspider.frontier.values import Clock, RobotsRow
from sqspider.log import get_logger

TOLERATED_SECONDS: Final = 10.0  # clocks that are set over the net are put back a little now and then

log = get_logger(__name__)

LATEST: Final = "SELECT latest FROM clock"
NOTE: Final = "UPDATE clock SET latest = ?"
# A record that is claimed has a place that is not fresh, or a due_at past its lease: none is missed. What is in flight
# and unclaimed comes back at once: whoever has it may claim it still. A claim of this side of the jump keeps its lease.
MOVE_TIMED: Final = """
UPDATE record INDEXED BY record_timed SET
    visible_at = iif(queue = 2 AND status = 0, min(visible_at, :now), visible_at - iif(visible_at > :now, :back, 0)),
    lease_until = lease_until - iif(lease_until > :now AND claimed_at > :now, :back, 0)
WHERE queue IN (1, 2) AND visible_at IS NOT NULL
"""
MOVE_DUE: Final = """
UPDATE record INDEXED BY record_due SET
    due_at = due_at - :back, lease_until = lease_until - iif(lease_until > :now AND claimed_at > :now, :back, 0)
WHERE due_at > :now
"""
MOVE_MESSAGES: Final = f"""
UPDATE sent INDEXED BY sent_visible SET visible_at = iif(queue = 2, :now, visible_at - :back)
WHERE visible_at > :now AND visible_at < {END_OF_TIME:.0f}
"""
HOST_MOMENTS: Final = ("last_request", "penalty_since", "rest_until", "rested_at", "trouble_since", "given_up_at")
# Slots are noted where they cannot be moved, in messages: they are void, and handed out anew from now on.
MOVE_HOSTS: Final = f"""
UPDATE host SET version = version + 1, generation = generation + 1, next_slot = min(next_slot, :now),
    {", ".join(f"{name} = {name} - iif({name} > :now, :back, 0)" for name in HOST_MOMENTS)}
"""
MOVE_REQUESTS: Final = "UPDATE request SET until = until - :back WHERE until > :now"
MOVE_ROBOTS_LEASES: Final = "UPDATE robots SET lease_until = lease_until - :back WHERE lease_until > :now"
MOVE_WORKERS: Final = """
UPDATE worker SET
    started_at = started_at - iif(started_at > :now, :back, 0), seen_at = seen_at - iif(seen_at > :now, :back, 0),
    expires_at = expires_at - iif(expires_at > :now, :back, 0)
"""
ALL_RUNS: Final = "SELECT name, row FROM run"
SET_RUN: Final = "UPDATE run SET row = ? WHERE name = ?"
ALL_ROBOTS: Final = "SELECT origin, row FROM robots WHERE row IS NOT NULL"
SET_ROBOTS: Final = "UPDATE robots SET row = ? WHERE origin = ?"
NEXT_GENERATION: Final = """
INSERT INTO counter (name, number) VALUES ('generation', 1) ON CONFLICT (name) DO UPDATE SET number = number + 1
"""


def raise_generation(connection: sqlite3.Connection) -> None:
    """Let everybody forget what they remember of this file."""
    connection.execute(NEXT_GENERATION)


def seconds_ahead(connection: sqlite3.Connection, now: float) -> float:
    """By how much the latest moment that the file knows lies ahead of now; below 0: it is past."""
    return float(connection.execute(LATEST).fetchone()[0]) - now


def keep_time(connection: sqlite3.Connection, clock: Clock) -> None:
    """Note the moment, in a transaction that is open; move back what lies ahead if the clock was put back.

    The clock is read here: whoever waited for the transaction, or slept meanwhile, has an older moment
    than what others noted, and the clock went nowhere.
    """
    now = clock()
    ahead = seconds_ahead(connection, now)
    if ahead > TOLERATED_SECONDS:
        _move_back(connection, now, ahead)
        log.warning("clock_went_back", seconds=round(ahead))
    if ahead < 0 or ahead > TOLERATED_SECONDS:
        connection.execute(NOTE, (now,))


def notice_time(connection: sqlite3.Connection, clock: Clock) -> None:
    """Keep the time of a file that was just opened. Waits for others only where their moments lie ahead."""
    ahead = seconds_ahead(connection, clock())
    if abs(ahead) <= TOLERATED_SECONDS:
        return
    (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
    if ahead < 0:
        connection.execute("PRAGMA busy_timeout = 0")
    try:
        connection.execute("BEGIN IMMEDIATE")
        keep_time(connection, clock)
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if ahead > 0 or not is_busy(error):
            raise  # else whoever is writing now will note the moment
    finally:
        connection.execute(f"PRAGMA busy_timeout = {patience}")


def _move_back(connection: sqlite3.Connection, now: float, back: float) -> None:
    for statement in (
        MOVE_TIMED,
        MOVE_DUE,
        MOVE_MESSAGES,
        MOVE_HOSTS,
        MOVE_REQUESTS,
        MOVE_ROBOTS_LEASES,
        MOVE_WORKERS,
    ):
        connection.execute(statement, {"now": now, "back": back})
    _move_shares(connection, now, back)
    for origin, packed in connection.execute(ALL_ROBOTS).fetchall():
        row = robots_row(packed)
        if row is not None and (moved := _moved_back(row, now, back)) != row:
            connection.execute(SET_ROBOTS, (packed_robots(moved), origin))
    raise_generation(connection)


def _move_shares(connection: sqlite3.Connection, now: float, back: float) -> None:
    """What a worker that died had of a budget is free when its share has run out."""
    for name, text in connection.execute(ALL_RUNS).fetchall():
        with contextlib.suppress(msgspec.MsgspecError):  # a damaged one is told of where it is read
            run = decode_run(text)
            if (moved := moved_back(run, now, back)) != run:
                connection.execute(SET_RUN, (encode_run(moved), name))


def _moved_back(row: RobotsRow, now: float, back: float) -> RobotsRow:
    moments = {
        name: moment - back
        for name in ("fetched_at", "good_at", "unreachable_since", "expires_at")
        if (moment := getattr(row, name)) is not None and moment > now
    }
    return msgspec.structs.replace(row, **moments)
