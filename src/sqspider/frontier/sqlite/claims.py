"""How records are claimed, and how claims end: finished, or given back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import msgspec

from sqspider.frontier.answers import (
    Claimant,
    claim_told,
    claimed,
    claimed_in_order,
    counted,
    first_request_of_each,
    given_back,
    host_sums,
    is_held,
    not_before,
    not_current,
    prolonged,
)
from sqspider.frontier.sqlite.connection import Part, Transaction
from sqspider.frontier.sqlite.enqueue import enqueue, follow, keep
from sqspider.frontier.sqlite.errors import damaged
from sqspider.frontier.sqlite.keys import with_keys
from sqspider.frontier.sqlite.receipts import receipt_of
from sqspider.frontier.sqlite.records import Held, held, is_there, record
from sqspider.frontier.sqlite.rows import FRESH, NO_OUTCOME, NOT_YET, STATUS_NUMBERS, pack, pack_kept, unpack_kept
from sqspider.frontier.sqlite.runs import spend
from sqspider.frontier.values import ClaimRequest, Delivery, Entry, Finish, Hold, Lost, Retry, Won
from sqspider.frontier.ways import Fall, Way
from sqspider.host import SUMS
from sqspider.record import Operation, Status, split_key

# Who may claim or end what is said by the pure functions of `answers`, of rows that are read in the same transaction:
# nobody else writes meanwhile.
CLAIM: Final = """
UPDATE record NOT INDEXED SET
    status = 1, attempt = :attempt, unended = :unended, worker_id = :worker_id, claim_id = :claim_id,
    lease_until = :lease_until, claimed_at = :now, due_at = CASE WHEN queue IS NULL THEN :due_at END
WHERE id = :id
"""
# The message by which a claim was won becomes its record's place: nothing else brings the URL back then.
TAKE_OVER: Final = "DELETE FROM sent NOT INDEXED WHERE id = ? AND queue IS NOT NULL RETURNING visible_at, receives"
TAKE_PLACE: Final = """
UPDATE record NOT INDEXED SET queue = 2, visible_at = ?, receives = ?, delivery = delivery + 1, due_at = NULL
WHERE id = ?
"""
FINISH: Final = """
UPDATE record NOT INDEXED SET
    status = :status, outcome = :outcome, digest = :digest, redirect_to = :redirect_to, finished_at = :now,
    capture = :capture, validators = :validators, changed_at = :changed_at,
    lease_until = NULL, due_at = NULL, unended = 0, claim_id = NULL,
    queue = CASE WHEN :leaves_it THEN queue END, visible_at = CASE WHEN :leaves_it THEN visible_at END,
    receives = CASE WHEN :leaves_it THEN receives ELSE 0 END, slot = NULL, slot_generation = NULL
WHERE id = :id
"""
DELETE_COPIES: Final = """
DELETE FROM sent NOT INDEXED WHERE id IN (
    SELECT m.id FROM json_each(?) AS e CROSS JOIN sent AS m INDEXED BY sent_key
    ON m.key = e.value ->> 0 AND m.url = e.value ->> 1 WHERE m.visible_at IS NOT NULL
)
"""
ADD_TO_HOST: Final = f"""
INSERT INTO host (host, {", ".join(SUMS)}) VALUES (:host, {", ".join(f":{name}" for name in SUMS)})
ON CONFLICT (host) DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS)}
"""
# The delivery may have run out, and another worker have received the URL in vain: whatever that one does with its own
# is stale now.
RETRY: Final = """
UPDATE record NOT INDEXED SET
    status = 0, lease_until = 0, unended = :unended, tries = :tries,
    outcome = coalesce(:outcome, outcome), digest = CASE WHEN :outcome IS NULL THEN digest ELSE :digest END,
    redirect_to = CASE WHEN :outcome IS NULL THEN redirect_to ELSE :redirect_to END,
    capture = CASE WHEN :outcome IS NULL THEN capture ELSE :capture END,
    queue = 1, visible_at = :at, receives = 0, delivery = delivery + 1, slot = NULL, slot_generation = NULL,
    due_at = NULL
WHERE id = :id
"""
PROLONG: Final = """
UPDATE record NOT INDEXED SET
    lease_until = :until, visible_at = CASE WHEN visible_at IS NOT NULL THEN :until END,
    due_at = CASE WHEN queue IS NULL THEN :due_at END
WHERE id = :id
"""

_NO_SUMS: Final = dict.fromkeys(SUMS, 0)


class Claims(Part):
    """Claims and their ends."""

    async def claim(
        self, requests: Sequence[ClaimRequest], *, worker_id: str, claim_id: str, lease_seconds: float
    ) -> list[Won | Lost]:
        claimant = Claimant(worker_id, claim_id, lease_seconds)

        def work(transaction: Transaction) -> list[Won | Lost]:
            self._file.generation = transaction.generation
            return claim(transaction, requests, claimant)

        return await self._file.write(work)

    async def finish(self, finishes: Sequence[Finish]) -> list[bool]:
        answers = await self._file.write(lambda transaction: finish(transaction, finishes))
        self._file.news.set()
        return answers

    async def retry(self, retries: Sequence[Retry]) -> list[bool]:
        answers = await self._file.write(lambda transaction: retry(transaction, retries))
        self._file.news.set()
        return answers

    async def prolong(self, holds: Sequence[Hold], *, lease_seconds: float) -> list[Hold | None]:
        return await self._file.write(lambda transaction: prolong(transaction, holds, lease_seconds))


def claim(transaction: Transaction, requests: Sequence[ClaimRequest], claimant: Claimant) -> list[Won | Lost]:
    """Claim what is free, answers in the order of the requests.

    By the URL, though the record may be known already by its place in the queue: one that its own URL does not lead
    to cannot be finished.
    """
    if not requests:
        return []
    by_key = first_request_of_each(requests)
    refs = {r.message.crawl for r in by_key.values() if r.message.crawl is not None}
    gone = {ref for ref in refs if not is_there(transaction.connection, ref)}
    answers: dict[str, Won | Lost] = {
        key: not_current(r.message) for key, r in by_key.items() if r.message.crawl in gone
    }
    won: list[tuple[Held, Won]] = []
    for key, row in _held_or_recorded(transaction, by_key, answers.keys()).items():
        told = claim_told(key, row, claimant, transaction.now)
        if told is None:
            told = claimed(key, row, claimant, transaction.now)
            won.append((row, told))
        answers[key] = told
    _write(transaction, won)
    for row, made in won:
        _take_over(transaction, by_key[made.url].delivery, row, made.lease_until)
    return claimed_in_order(requests, answers)


def _held_or_recorded(
    transaction: Transaction, by_key: Mapping[str, ClaimRequest], but: Collection[str]
) -> dict[str, Held]:
    """What is known of the claims of some records, but for some. A message without a record is a way in."""
    asked = [key for key in by_key if key not in but]
    found = held(transaction.connection, asked)
    if missing := [key for key in asked if key not in found]:
        record(transaction, {key: Entry.of(by_key[key].message) for key in missing}, None)
        found |= held(transaction.connection, missing)
    return {url: _with_kept(transaction, _sound(transaction, url, row)) for url, row in found.items()}


def _with_kept(transaction: Transaction, row: Held) -> Held:
    """What a record says, and what is kept of it: a claim is told that."""
    kept = unpack_kept(row.validators, row.changed_at, transaction.files)
    return row if kept is None else row._replace(kept=kept)


def _sound(transaction: Transaction, url: str, row: Held) -> Held:
    """What a record says. Raises where it is damaged: then it is nobody's to work on."""
    try:
        return msgspec.convert(tuple(row), Held)  # what is one already is believed
    except msgspec.ValidationError as error:
        raise damaged(transaction.path, f"the record of {url} says {row._asdict()} ({error})") from None


def _write(transaction: Transaction, won: Sequence[tuple[Held, Won]]) -> None:
    """Write claims down."""
    for (crawl, status), count in Counter((split_key(made.url)[0], row.status) for row, made in won).items():
        transaction.count_records(crawl, counted(status, Status.PROCESSING, count=count))
    rows = []
    for row, made in won:
        due_at = made.lease_until + transaction.settings.due_seconds
        rows.append({**msgspec.structs.asdict(made), "id": row.id, "now": transaction.now, "due_at": due_at})
    transaction.connection.executemany(CLAIM, rows)


def _take_over(transaction: Transaction, delivery: Delivery, row: Held, lease_until: float) -> None:
    """Make the message by which a claim was won its record's place in the queue, if it is still there."""
    receipt = receipt_of(delivery)
    if not receipt.is_message:
        return
    taken = transaction.connection.execute(TAKE_OVER, (receipt.id,)).fetchone()
    if taken is None:
        if row.queue == FRESH:  # its message died meanwhile: nobody shall be given what is being worked on
            transaction.connection.execute(TAKE_PLACE, (lease_until, 0, row.id))
        return
    transaction.connection.execute(TAKE_PLACE, (*taken, row.id))
    transaction.count({"messages": -(row.queue is not None), "put_off": -(row.queue in NOT_YET)})


def _held_by(transaction: Transaction, ends: Sequence[Finish] | Sequence[Retry] | Sequence[Hold]) -> dict[str, Held]:
    """What the records of claims say that are to be ended, or held on to."""
    urls = list({end.claim.url: None for end in ends})
    return {url: _sound(transaction, url, row) for url, row in held(transaction.connection, urls).items()}


def finish(transaction: Transaction, finishes: Sequence[Finish]) -> list[bool]:
    """End claims; where their fences are stale nothing happens, and that is the answer."""
    if not finishes:
        return []
    found = _held_by(transaction, finishes)
    answers, rows = [], []
    made: dict[int, Finish] = {}  # by the ids of records
    judged: dict[int, Fall] = {}  # by a way that is no more the nearest
    for end in finishes:
        row = found.get(end.claim.url)
        is_made = row is not None and is_held(row, end.claim, Operation.FINISH)
        answers.append(is_made)
        if row is not None and is_made:
            made[row.id] = end
            rows.append(_finished(transaction, row, end))
            if (row.depth, row.redirects) != (end.claim.depth, end.claim.redirects):
                before = Way(end.claim.depth, end.claim.redirects)
                judged[row.id] = Fall(before, Way(row.depth, row.redirects))
            found[end.claim.url] = row._replace(number=STATUS_NUMBERS[end.outcome.status])
    transaction.connection.executemany(FINISH, rows)
    keep(transaction, made)
    links = chain.from_iterable(end.links for end in made.values())
    enqueue(transaction, chain(links, follow(transaction, judged)))
    sums = [{"host": host, **_NO_SUMS, **of_host} for host, of_host in host_sums(made.values()).items()]
    transaction.connection.executemany(ADD_TO_HOST, sums)
    spend(transaction, made.values())
    # Every message of a finished URL has nothing more to say, copies too.
    if ended := [end.claim.url for end in made.values() if end.delivery is not None]:
        copies = transaction.connection.execute(DELETE_COPIES, (with_keys(ended),)).rowcount
        transaction.count({"messages": -copies})
    return answers


def _finished(transaction: Transaction, row: Held, end: Finish) -> dict[str, Any]:
    """Count a claim that is finished; what is to be written."""
    transaction.count_records(split_key(end.claim.url)[0], counted(row.status, end.outcome.status, end.outcome))
    if end.delivery is not None:
        transaction.count({"messages": -(row.queue is not None), "put_off": -(row.queue in NOT_YET)})
    return {
        **pack(end.outcome, transaction.files)._asdict(),
        "id": row.id,
        "status": STATUS_NUMBERS[end.outcome.status],
        "now": transaction.now,
        "validators": pack_kept(end.kept, transaction.files),
        "changed_at": end.kept and end.kept.changed_at,
        "leaves_it": end.delivery is None,
    }


def retry(transaction: Transaction, retries: Sequence[Retry]) -> list[bool]:
    """Give claims back; where their fences are stale nothing happens, and that is the answer."""
    if not retries:
        return []
    found = _held_by(transaction, retries)
    answers, rows = [], []
    for end in retries:
        row = found.get(end.claim.url)
        is_made = row is not None and is_held(row, end.claim, Operation.RETRY)
        answers.append(is_made)
        if row is not None and is_made:
            rows.append(_given_back(transaction, row, end))
            found[end.claim.url] = row._replace(number=STATUS_NUMBERS[Status.QUEUED])
    transaction.connection.executemany(RETRY, rows)
    return answers


def _given_back(transaction: Transaction, row: Held, end: Retry) -> dict[str, Any]:
    """Count a claim that is given back; what is to be written."""
    transaction.count_records(split_key(end.claim.url)[0], counted(row.status, Status.QUEUED))
    transaction.count({"messages": int(row.queue is None), "put_off": int(row.queue not in NOT_YET)})
    outcome = pack(end.outcome, transaction.files) if end.outcome else NO_OUTCOME
    return {
        **outcome._asdict(),
        **given_back(end)._asdict(),
        "id": row.id,
        "at": not_before(transaction.now, end.at),
    }


def prolong(transaction: Transaction, holds: Sequence[Hold], lease_seconds: float) -> list[Hold | None]:
    """Let claims last longer; where their fences are stale nothing happens, and that is the answer."""
    found = _held_by(transaction, holds)
    answers: list[Hold | None] = []
    rows = []
    for hold in holds:
        row = found.get(hold.claim.url)
        if row is None or not is_held(row, hold.claim, Operation.PROLONG):
            answers.append(None)
            continue
        longer = prolonged(hold, transaction.now, lease_seconds)
        answers.append(longer)
        until = longer.claim.lease_until
        rows.append({"id": row.id, "until": until, "due_at": until + transaction.settings.due_seconds})
    transaction.change_each(PROLONG, rows)
    return answers
