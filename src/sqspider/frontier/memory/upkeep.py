"""What keeps a frontier in memory going, and what clears it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from sqspider.figures import KEPT_SECONDS, Sample
from sqspider.frontier.answers import next_look
from sqspider.frontier.memory.messages import Messages
from sqspider.frontier.memory.part import operation
from sqspider.frontier.memory.store import Session
from sqspider.frontier.places import Moves, moved_kept, moved_outcome
from sqspider.frontier.values import NONE_BARRED, WorkerRow
from sqspider.message import encode_message

replace = msgspec.structs.replace


class Upkeep(Messages):
    """Sweeps, dead letters, workers, samples, clearing."""

    @operation
    def sweep(self, limit: int = 1000) -> int:
        now, store, released = self._clock(), self._store, 0
        due = store.take_due(now)
        while released < limit and (record := next(due, None)) is not None:
            waits_since = record.enqueued_at if store.queue.holds(record.key) else None
            if waits_since is None:
                self._send(encode_message(store.message_of(record)))
                released += 1
            store.put(replace(record, due_at=next_look(now, self._settings.due_seconds, waits_since=waits_since)))
        return released

    @operation
    def lease_sweep(self, *, until: float, by_schedule: bool = False) -> bool:  # noqa: ARG002 - the port's signature
        return True

    @operation
    def redrive(self, limit: int = 1000) -> int:
        revived = self._store.queue.revive(limit, self._clock())
        self._store.tell()
        return revived

    # Workers.

    @operation
    def check_in(
        self, worker_id: str, *, session: str, ttl_seconds: float, barred: Mapping[str, str] = NONE_BARRED
    ) -> bool:
        now, known = self._clock(), self._store.workers.get(worker_id)
        is_mine = known is not None and known.session == session
        if known is not None and not is_mine and known.expires_at >= now:
            return False
        started_at = known.row.started_at if known is not None and is_mine else now
        row = WorkerRow(worker_id=worker_id, started_at=started_at, seen_at=now, barred=dict(barred))
        self._store.workers[worker_id] = Session(session, row, now + ttl_seconds)
        return True

    @operation
    def check_out(self, worker_id: str, *, session: str) -> None:
        known = self._store.workers.get(worker_id)
        if known is not None and known.session == session:
            del self._store.workers[worker_id]

    @operation
    def save_sample(self, sample: Sample) -> None:
        samples = self._store.samples
        samples.append((sample, self._store.queue.stats(self._clock())))
        while samples[0][0].at < sample.at - KEPT_SECONDS:
            samples.popleft()

    @operation
    def move_places(self, moves: Moves) -> int:
        moved = 0
        for record in list(self._store.records.values()):
            outcome = record.outcome and moved_outcome(record.outcome, moves)
            kept = moved_kept(record.kept, moves)
            if outcome is not record.outcome or kept is not record.kept:
                self._store.put(replace(record, outcome=outcome, kept=kept))
                moved += 1
        return moved

    @operation
    def purge_queue(self) -> int:
        store = self._store
        removed = store.queue.purge()
        due_at = self._clock() + self._settings.due_seconds
        for record in list(store.records.values()):  # what was moved on while a message waited
            if record.lease_until == 0 and record.due_at is not None and record.due_at > due_at:
                store.put(replace(record, due_at=due_at))
        return removed

    @operation
    def clear_table(self, on_removed: Callable[[int], None] = lambda _: None) -> int:
        removed = len(self._store.records)
        self._store.queue.unpark(None, self._clock())  # their crawls go now: whoever receives them ends them
        self._store.clear()
        self._store.generation += 1
        on_removed(removed)
        return removed

    async def close(self) -> None:
        self._runner.close()
