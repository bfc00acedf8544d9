"""How records are claimed, and how claims end: finished, or given back."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from sqspider.frontier import ClaimRequest, Delivery, Entry, Finish, Lost, LostReason, Retry, Won
from sqspider.frontier.sqlite.connection import Part, Transaction
from sqspider.frontier.sqlite.errors import damaged
from sqspider.frontier.sqlite.keys import with_keys
from sqspider.frontier.sqlite.receipts import receipt_of
from sqspider.frontier.sqlite.records import Held, enqueue, held, record
from sqspider.frontier.sqlite.rows import FRESH, NO_OUTCOME, PUT_OFF, QUEUED, STATUS_NUMBERS, pack
from sqspider.host import SUMS, sums_of
from sqspider.url import host_of

CLAIM: Final = """
UPDATE record NOT INDEXED SET
    status = 1, attempt = attempt + 1, unended = unended + 1, worker_id = :worker, claim_id = :claim,
    lease_until = :lease, claimed_at = :now, due_at = CASE WHEN queue IS NULL THEN :due END
WHERE id IN (SELECT value FROM json_each(:ids)) AND lease_until < :now
RETURNING id, attempt, unended, tries
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
    lease_until = NULL, due_at = NULL, unended = 0, claim_id = NULL,
    queue = CASE WHEN :leaves_it THEN queue END, visible_at = CASE WHEN :leaves_it THEN visible_at END,
    receives = CASE WHEN :leaves_it THEN receives ELSE 0 END, slot = NULL, slot_generation = NULL
WHERE id = :id AND attempt = :attempt AND worker_id = :worker AND claim_id = :claim AND status = 1
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
# Fenced by the claim, not by the delivery: that may have run out, and another worker have received the URL in vain.
# Whatever that one does with its own delivery is stale now.
RETRY: Final = """
UPDATE record NOT INDEXED SET
    status = 0, lease_until = 0, unended = CASE WHEN :is_unused THEN unended - 1 ELSE 0 END, tries = tries + :tried,
    outcome = coalesce(:outcome, outcome), digest = CASE WHEN :outcome IS NULL THEN digest ELSE :digest END,
    redirect_to = CASE WHEN :outcome IS NULL THEN redirect_to ELSE :redirect_to END,
    queue = 1, visible_at = :at, receives = 0, delivery = delivery + 1, slot = NULL, slot_generation = NULL,
    due_at = NULL
WHERE id = :id AND attempt = :attempt AND worker_id = :worker AND claim_id = :claim AND status = 1
"""

_NONE_KNOWN: Final[Mapping[str, Held]] = MappingProxyType({})


class Claimant(NamedTuple):
    """Who claims, by which claim, and for how long."""

    worker_id: str
    claim_id: str
    lease_seconds: float


class Claims(Part):
    """Claims and their ends."""

    async def claim(
        self, requests: Sequence[ClaimRequest], *, worker_id: str, claim_id: str, lease_seconds: float
    ) -> list[Won | Lost]:
        claimant = Claimant(worker_id, claim_id, lease_seconds)
        return await self._file.write(lambda transaction: claim(transaction, requests, claimant))

    async def finish(self, finishes: Sequence[Finish]) -> list[bool]:
        answers = await self._file.write(lambda transaction: finish(transaction, finishes))
        self._file.news.set()
        return answers

    async def retry(self, retries: Sequence[Retry]) -> list[bool]:
        answers = await self._file.write(lambda transaction: retry(transaction, retries))
        self._file.news.set()
        return answers


def claim(
    transaction: Transaction,
    requests: Sequence[ClaimRequest],
    claimant: Claimant,
    known: Mapping[str, Held] = _NONE_KNOWN,
) -> list[Won | Lost]:
    """Claim what is free, answers in the order of the requests. ``known``: what is known already of some URLs."""
    if not requests:
        return []
    by_url = {request.message.url: request for request in reversed(requests)}  # the first of each counts
    found = _held_or_recorded(transaction, by_url, known)
    lease_until = transaction.now + claimant.lease_seconds
    won = _claim_those_free(transaction, found.values(), claimant, lease_until)
    answers: dict[str, Won | Lost] = {}
    for url, row in found.items():
        if row.id in won:
            answers[url] = _won(transaction, url, won[row.id], claimant, lease_until)
            _take_over(transaction, by_url[url].delivery, row, lease_until)
        elif row.lease_until is None:
            answers[url] = Lost(url=url, why=LostReason.FINISHED)
        elif (row.worker_id, row.claim_id) == (claimant.worker_id, claimant.claim_id):  # its answer was lost
            answers[url] = _won(transaction, url, (row.attempt, row.unended, row.tries), claimant, row.lease_until)
        else:
            answers[url] = Lost(url=url, why=LostReason.HELD, lease_until=row.lease_until)
    return _once([answers[request.message.url] for request in requests])


def _held_or_recorded(
    transaction: Transaction, by_url: Mapping[str, ClaimRequest], known: Mapping[str, Held]
) -> dict[str, Held]:
    """What is known of the claims of some URLs. A message whose URL has no record is a way in."""
    found = {url: known[url] for url in by_url if url in known}
    if asked := [url for url in by_url if url not in found]:
        found |= held(transaction.connection, asked)
    if missing := [url for url in asked if url not in found]:
        record(transaction, (Entry.of(by_url[url].message) for url in missing), None)
        found |= held(transaction.connection, missing)
    return found


def _claim_those_free(
    transaction: Transaction, rows: Iterable[Held], claimant: Claimant, lease_until: float
) -> dict[int, tuple[Any, ...]]:
    """Claim the records that nobody holds; their numbers by id."""
    rows = list(rows)
    parameters = {
        "worker": claimant.worker_id,
        "claim": claimant.claim_id,
        "lease": lease_until,
        "now": transaction.now,
        "due": lease_until + transaction.settings.due_seconds,
        "ids": json.dumps([row.id for row in rows]),
    }
    won = {id_: numbers for id_, *numbers in transaction.connection.execute(CLAIM, parameters).fetchall()}
    fresh = sum(row.id in won and row.status == QUEUED for row in rows)
    transaction.count({"status:queued": -fresh, "status:processing": fresh})
    return won


def _won(transaction: Transaction, url: str, numbers: Sequence[Any], claimant: Claimant, lease_until: float) -> Won:
    """A claim, from what its record says. Raises where the record is damaged: then it is nobody's to work on."""
    fields = dict(zip(("attempt", "unended", "tries"), numbers, strict=True))
    fence = {"worker_id": claimant.worker_id, "claim_id": claimant.claim_id, "lease_until": lease_until}
    try:
        return msgspec.convert({"url": url, **fields, **fence}, Won)
    except msgspec.ValidationError as error:
        raise damaged(transaction.path, f"the record of {url} says {fields} ({error})") from None


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
    transaction.count({"messages": -(row.queue is not None), "put_off": -(row.queue == PUT_OFF)})


def _once(answers: Sequence[Won | Lost]) -> list[Won | Lost]:
    """Of several requests for one URL only the first can win."""
    won: set[str] = set()
    once: list[Won | Lost] = []
    for answer in answers:
        if isinstance(answer, Won) and answer.url in won:
            once.append(Lost(url=answer.url, why=LostReason.HELD, lease_until=answer.lease_until))
            continue
        won.add(answer.url)
        once.append(answer)
    return once


def finish(transaction: Transaction, finishes: Sequence[Finish]) -> list[bool]:
    """End claims; where their fences are stale nothing happens, and that is the answer."""
    if not finishes:
        return []
    found = held(transaction.connection, list({end.claim.url: None for end in finishes}))
    answers, made = [], []
    for end in finishes:
        row = found.get(end.claim.url)
        is_made = row is not None and _end(transaction, row.id, end)
        answers.append(is_made)
        if row is not None and is_made:
            made.append(end)
            _count_finished(transaction, row, end)
    enqueue(transaction, (link for end in made for link in end.links))
    _add_to_hosts(transaction, made)
    # Every message of a finished URL has nothing more to say, copies too.
    if ended := [end.claim.url for end in made if end.delivery is not None]:
        copies = transaction.connection.execute(DELETE_COPIES, (with_keys(ended),)).rowcount
        transaction.count({"messages": -copies})
    return answers


def _end(transaction: Transaction, id_: int, end: Finish) -> bool:
    parameters = {
        **_fence(id_, end.claim),
        **pack(end.outcome)._asdict(),
        "status": STATUS_NUMBERS[end.outcome.status],
        "now": transaction.now,
        "leaves_it": end.delivery is None,
    }
    return transaction.connection.execute(FINISH, parameters).rowcount == 1


def _count_finished(transaction: Transaction, row: Held, end: Finish) -> None:
    outcome, with_message = end.outcome, end.delivery is not None
    changes = {
        "status:processing": -1,
        f"status:{outcome.status}": 1,
        "bytes": outcome.bytes,
        "redirects": int(outcome.is_redirect),
        "messages": -(with_message and row.queue is not None),
        "put_off": -(with_message and row.queue == PUT_OFF),
    }
    if outcome.reason is not None:
        changes[f"reason:{outcome.reason}"] = 1
    transaction.count(changes)


def _add_to_hosts(transaction: Transaction, made: Sequence[Finish]) -> None:
    hosts: defaultdict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(SUMS, 0))
    for end in made:
        sums = hosts[host_of(end.claim.url)]
        for name, number in sums_of(end.outcome).items():
            sums[name] += number
    transaction.connection.executemany(ADD_TO_HOST, [{"host": host, **sums} for host, sums in hosts.items()])


def retry(transaction: Transaction, retries: Sequence[Retry]) -> list[bool]:
    """Give claims back; where their fences are stale nothing happens, and that is the answer."""
    if not retries:
        return []
    found = held(transaction.connection, list({end.claim.url: None for end in retries}))
    answers = []
    for end in retries:
        row = found.get(end.claim.url)
        is_made = row is not None and _give_back(transaction, row.id, end)
        answers.append(is_made)
        if row is not None and is_made:
            moved = {"messages": int(row.queue is None), "put_off": int(row.queue != PUT_OFF)}
            transaction.count({**moved, "status:processing": -1, "status:queued": 1})
    return answers


def _give_back(transaction: Transaction, id_: int, end: Retry) -> bool:
    outcome = pack(end.outcome) if end.outcome else NO_OUTCOME
    parameters = {
        **_fence(id_, end.claim),
        **outcome._asdict(),
        "is_unused": end.is_unused,
        "tried": end.tried,
        "at": transaction.not_before_now(end.at),
    }
    return transaction.connection.execute(RETRY, parameters).rowcount == 1


def _fence(id_: int, claim: Won) -> dict[str, Any]:
    return {"id": id_, "attempt": claim.attempt, "worker": claim.worker_id, "claim": claim.claim_id}
