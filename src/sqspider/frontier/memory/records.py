"""URL records in memory: made, claimed, finished, given back."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterable, Sequence

import msgspec

from sqspider.frontier.answers import (
    Claimant,
    claim_told,
    claimed,
    claimed_in_order,
    first_request_of_each,
    given_back,
    host_sums,
    is_due,
    not_before,
    not_current,
    prolonged,
    reopened,
    spent_by_run,
)
from sqspider.frontier.memory.messages import Messages
from sqspider.frontier.memory.part import operation
from sqspider.frontier.shares import after
from sqspider.frontier.values import ClaimRequest, Entry, Finish, Hold, Lost, Retry, Won
from sqspider.frontier.ways import Consequence, Fall, Way, consequence, fallen, handed_on
from sqspider.host import HostState, with_sums
from sqspider.message import Message, encode_message
from sqspider.record import Operation, Status, UrlRecord

replace = msgspec.structs.replace


class Records(Messages):
    """The records of URLs, through their life."""

    @operation
    def enqueue(self, entries: Sequence[Entry]) -> list[bool]:
        return self._enqueue(entries)

    def _enqueue(self, entries: Iterable[Entry]) -> list[bool]:
        nearer = deque[str]()
        answers = [self._record(entry, nearer) for entry in entries]
        self._hand_on(nearer)
        return answers

    def _hand_on(self, nearer: deque[str]) -> None:
        """Record what is nearer by now, by way of what led there."""
        while nearer:
            outlinks = self._store.outlinks[nearer[0]]
            message = self._store.message_of(self._store.records[nearer.popleft()])
            if message.crawl is not None:
                settings = self._store.crawls[message.crawl.name].settings
                message = replace(message, settings=settings)
            for entry in handed_on(outlinks, message):
                self._record(entry, nearer)

    def _record(self, entry: Entry, nearer: deque[str]) -> bool:
        """Record a URL, with a message if it is new; whether it is. Those that are to be handed on are ``nearer``.

        Of a crawl that is not there none is recorded.
        """
        if entry.crawl is not None and not self._store.is_known(entry.crawl):
            return False
        known = self._store.records.get(entry.key)
        if known is None:
            self._add(entry)
            return self._send(encode_message(entry.to_message()))
        fall = fallen(entry, known.status, known.depth, known.redirects)
        if fall is not None:
            record = self._store.lower(entry.key, fall.now, entry.parent)
            if record.status.is_final:
                self._follow(record, fall, nearer)
        if is_due(entry.lastmod, known.status, known.finished_at, self._clock()):
            self._store.put(replace(self._store.records[entry.key], lastmod=entry.lastmod))
            self._reopen_one(entry.key, if_changed=True)
        return False

    def _add(self, entry: Entry) -> None:
        now = self._clock()
        self._store.record(entry, now=now, due_at=now + self._settings.due_seconds)

    def _follow(self, record: UrlRecord, fall: Fall, nearer: deque[str]) -> None:
        """See to what follows from a nearer way to a record that is final."""
        if record.outcome is None:
            return
        key = record.key
        match consequence(record.outcome, self._store.outlinks.get(key), fall):
            case Consequence.HAND_ON:
                nearer.append(key)
            case Consequence.VISIT:
                self._reopen_one(key, if_changed=False)

    @operation
    def reopen(self, keys: Sequence[str], *, if_changed: bool = False) -> list[bool]:
        return [self._reopen_one(key, if_changed=if_changed) for key in keys]

    def _reopen_one(self, key: str, *, if_changed: bool) -> bool:
        record, now = self._store.records.get(key), self._clock()
        anew = None if record is None else reopened(record, if_changed=if_changed)
        if record is None or anew is None:
            return False
        moments = {"lease_until": 0.0, "enqueued_at": now, "due_at": now + self._settings.due_seconds}
        record = replace(record, status=Status.QUEUED, **moments, **anew._asdict())
        self._store.put(record)
        return self._send(encode_message(self._store.message_of(record)))

    @operation
    def claim(
        self, requests: Sequence[ClaimRequest], *, worker_id: str, claim_id: str, lease_seconds: float
    ) -> list[Won | Lost]:
        self._generation = self._store.generation
        return self._claim(requests, Claimant(worker_id, claim_id, lease_seconds))

    def _claim(self, requests: Sequence[ClaimRequest], claimant: Claimant) -> list[Won | Lost]:
        by_key = first_request_of_each(requests)
        return claimed_in_order(requests, {key: self._claim_one(r.message, claimant) for key, r in by_key.items()})

    def _claim_one(self, message: Message, claimant: Claimant) -> Won | Lost:
        now, url = self._clock(), message.key
        if message.crawl is not None and not self._store.is_known(message.crawl):
            return not_current(message)
        if url not in self._store.records:  # a message without a record is a way in
            self._add(Entry.of(message))
        record = self._store.records[url]
        told = claim_told(url, record, claimant, now)
        if told is not None:
            return told
        won = claimed(url, record, claimant, now)
        due_at = won.lease_until + self._settings.due_seconds
        new = {"status": Status.PROCESSING, "claimed_at": now, "due_at": due_at}
        self._store.put(replace(record, **{**msgspec.structs.asdict(won), **new, "url": record.url}))
        return won

    @operation
    def finish(self, finishes: Sequence[Finish]) -> list[bool]:
        return self._finish(finishes)

    def _finish(self, finishes: Sequence[Finish]) -> list[bool]:
        answers = [self._finish_one(finish) for finish in finishes]
        ended = [finish for finish, is_ended in zip(finishes, answers, strict=True) if is_ended]
        for host, sums in host_sums(ended).items():
            self._store.change_host(host, functools.partial(_with_sums, sums=sums))
        for run, spent in spent_by_run(ended).items():
            if run in self._store.runs:  # it was cleared otherwise
                self._store.runs[run] = after(self._store.runs[run], spent)
        return answers

    def _finish_one(self, finish: Finish) -> bool:
        outcome, record = finish.outcome, self._store.held(finish.claim, Operation.FINISH)
        if record is None:
            return False
        ends = {"lease_until": None, "due_at": None, "unended": 0}
        of_visit = {"outcome": outcome, "kept": finish.kept, "finished_at": self._clock()}
        record = replace(record, **ends, **of_visit, status=outcome.status)
        self._store.put(record)
        self._keep(record.key, finish)
        if finish.delivery is not None:  # all of its messages have nothing more to say
            self._store.queue.delete_of(record.key)
        self._enqueue(finish.links)
        nearer = deque[str]()
        known = self._store.records[record.key]
        judged = Way(finish.claim.depth, finish.claim.redirects)
        self._follow(known, Fall(judged, Way(known.depth, known.redirects)), nearer)
        self._hand_on(nearer)
        return True

    def _keep(self, key: str, finish: Finish) -> None:
        """Keep where a visit led. What was kept of one before is forgotten, unless nothing has changed since."""
        if finish.outlinks is not None:
            self._store.outlinks[key] = finish.outlinks
        elif key in self._store.outlinks and not finish.outcome.unchanged:
            del self._store.outlinks[key]

    @operation
    def retry(self, retries: Sequence[Retry]) -> list[bool]:
        return self._retry(retries)

    def _retry(self, retries: Sequence[Retry]) -> list[bool]:
        return [self._retry_one(retry) for retry in retries]

    def _retry_one(self, retry: Retry) -> bool:
        record = self._store.held(retry.claim, Operation.RETRY)
        if record is None:
            return False
        self._store.put(
            replace(
                record,
                status=Status.QUEUED,
                lease_until=0.0,
                due_at=not_before(self._clock(), retry.at) + self._settings.due_seconds,
                outcome=retry.outcome or record.outcome,
                **given_back(retry)._asdict(),
            )
        )
        self._put_off(retry.delivery, retry.at)
        return True

    @operation
    def prolong(self, holds: Sequence[Hold], *, lease_seconds: float) -> list[Hold | None]:
        return [self._prolong_one(hold, lease_seconds) for hold in holds]

    def _prolong_one(self, hold: Hold, lease_seconds: float) -> Hold | None:
        record = self._store.held(hold.claim, Operation.PROLONG)
        if record is None:
            return None
        longer = prolonged(hold, self._clock(), lease_seconds)
        until = longer.claim.lease_until
        self._store.put(replace(record, lease_until=until, due_at=until + self._settings.due_seconds))
        self._store.queue.hide(hold.delivery, until)
        return longer


def _with_sums(state: HostState, sums: dict[str, float]) -> tuple[HostState, None]:
    return replace(state, row=with_sums(state.row, sums)), None
