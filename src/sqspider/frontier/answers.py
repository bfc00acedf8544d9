"""What all adapters decide alike, whatever they keep things in: pure functions of what they have read.

Who wins a claim, and what the others are told; what a record says after a claim and after each end of it; when
somebody looks at it again; which sums move. What an adapter adds is only that nobody else writes meanwhile.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, Protocol

import msgspec

from sqspider.crawl_row import Crawl, CrawlRef, unreadable_words
from sqspider.frontier.shares import Spent, by_run
from sqspider.frontier.values import (
    ClaimRequest,
    Counts,
    Entry,
    Finish,
    FrontierError,
    Hold,
    Lost,
    LostReason,
    Retry,
    Won,
)
from sqspider.host import sums_of
from sqspider.message import Message
from sqspider.record import DEFAULT_CRAWL, LIFE, Kept, Operation, Outcome, Reason, Status, record_key, split_key
from sqspider.revisit import at_reopening
from sqspider.url import host_of

LONGEST_LOOK_AGAIN_SECONDS: Final = 3600.0
"""Between two looks of sweeps at a record whose message waits."""

MOST_LOOKED_AT: Final = 100
"""Messages of a turn whose hosts' turns have not come yet, before others get theirs."""

# Batches: of several that ask for the same the first counts, and answers keep the order of what was asked.


def enqueued_in_order(entries: Iterable[Entry], new: Iterable[str]) -> list[bool]:
    """Which entries were new, by the keys that were: of several for one the first."""
    return done_in_order((entry.key for entry in entries), new)


def done_in_order(keys: Iterable[str], done: Iterable[str]) -> list[bool]:
    """To which records something was done, by the keys of those to which it was: of several that are one the first."""
    left = set(done)
    answers = []
    for key in keys:
        answers.append(key in left)
        left.discard(key)
    return answers


def first_request_of_each(requests: Iterable[ClaimRequest]) -> dict[str, ClaimRequest]:
    """Requests by key, in their order: the first of each, the only one that can win."""
    by_key: dict[str, ClaimRequest] = {}
    for request in requests:
        by_key.setdefault(request.message.key, request)
    return by_key


def claimed_in_order(requests: Iterable[ClaimRequest], answers: Mapping[str, Won | Lost]) -> list[Won | Lost]:
    """The answers to requests, by those to the first of each key: what that one won is held for all others."""
    told: dict[str, Won | Lost] = dict(answers)
    in_order = []
    for request in requests:
        answer = told[request.message.key]
        in_order.append(answer)
        if isinstance(answer, Won):
            told[answer.url] = Lost(url=answer.url, why=LostReason.HELD, lease_until=answer.lease_until)
    return in_order


# Crawls.


def saved_crawl(known: Crawl | None, crawl: Crawl) -> Crawl | None:
    """What the row of a crawl says once this is written; none: it has changed since it was read. Raises
    :class:`FrontierError` where the row that is there cannot be read: that is not written over."""
    if known is not None and known.unreadable:
        raise FrontierError(unreadable_words(known))
    was_read = (crawl.id, crawl.version) if crawl.version else None
    if (None if known is None else (known.id, known.version)) != was_read:
        return None
    version, counted_since = crawl.version + 1, 0 if known is None else known.counted_since
    if known is not None and crawl.limits.are_counted and not known.limits.are_counted:
        counted_since = version
    return msgspec.structs.replace(crawl, version=version, counted_since=counted_since)


def is_current(ref: CrawlRef, known: Crawl | None) -> bool:
    """Whether it names the crawl that is known by its name, and not one of that name that was removed."""
    return known is not None and known.id == ref.id


# Claims.


class Claimant(NamedTuple):
    """Who claims."""

    worker_id: str
    claim_id: str  # new for every call
    lease_seconds: float


class Claimable(Protocol):
    """What a record says of its claims, as each adapter reads it (a :class:`~sqspider.record.UrlRecord` does)."""

    @property
    def status(self) -> Status: ...
    @property
    def attempt(self) -> int: ...
    @property
    def unended(self) -> int: ...
    @property
    def tries(self) -> int: ...
    @property
    def visit(self) -> int: ...
    @property
    def kept(self) -> Kept | None: ...
    @property
    def worker_id(self) -> str | None: ...
    @property
    def claim_id(self) -> str | None: ...
    @property
    def lease_until(self) -> float | None: ...
    @property
    def meta(self) -> str | None: ...
    @property
    def depth(self) -> int: ...
    @property
    def redirects(self) -> int: ...


def claim_told(url: str, record: Claimable, claimant: Claimant, now: float) -> Won | Lost | None:
    """What is told to who claims a record that says so; none: it is free to be claimed, see :func:`claimed`.

    An own claim whose answer was lost is won, as it was.
    """
    if record.lease_until is None or record.status not in LIFE[Operation.CLAIM]:
        return Lost(url=url, why=LostReason.FINISHED)
    if record.lease_until < now:
        return None
    if (record.worker_id, record.claim_id) != (claimant.worker_id, claimant.claim_id):
        return Lost(url=url, why=LostReason.HELD, lease_until=record.lease_until)
    return Won(
        url=url,
        attempt=record.attempt,
        unended=record.unended,
        tries=record.tries,
        worker_id=claimant.worker_id,
        claim_id=claimant.claim_id,
        lease_until=record.lease_until,
        visit=record.visit,
        meta=record.meta,
        kept=record.kept,
        depth=record.depth,
        redirects=record.redirects,
    )


def not_current(message: Message) -> Lost:
    """What is told to who claims the URL of a crawl that is not there: no record can be made of it."""
    return Lost(url=message.key, why=LostReason.REFUSED, detail=f"there is no crawl {message.crawl}")


def claimed(url: str, record: Claimable, claimant: Claimant, now: float) -> Won:
    """The claim of a record that is free: what its row says from then on."""
    return Won(
        url=url,
        attempt=record.attempt + 1,
        unended=record.unended + 1,
        tries=record.tries,
        worker_id=claimant.worker_id,
        claim_id=claimant.claim_id,
        lease_until=now + claimant.lease_seconds,
        visit=record.visit,
        meta=record.meta,
        kept=record.kept,
        depth=record.depth,
        redirects=record.redirects,
    )


def is_held(record: Claimable | None, claim: Won, by: Operation) -> bool:
    """The fence: whether an operation may end a claim. Not if a later one was made, or that one is ended."""
    if record is None or record.status not in LIFE[by]:
        return False
    fence = (record.attempt, record.worker_id, record.claim_id)
    return fence == (claim.attempt, claim.worker_id, claim.claim_id)


def prolonged(hold: Hold, now: float, lease_seconds: float) -> Hold:
    """A claim that lasts for so long from now."""
    replace = msgspec.structs.replace
    return replace(hold, claim=replace(hold.claim, lease_until=now + lease_seconds))


class GivenBack(NamedTuple):
    """What a record says of its claims once one was given back."""

    unended: int
    tries: int


def given_back(retry: Retry) -> GivenBack:
    """By the claim alone: while its fence holds, its numbers are the record's."""
    claim = retry.claim
    return GivenBack(claim.unended - 1 if retry.is_unused else 0, claim.tries + retry.tried)


class Reopened(NamedTuple):
    """What a record says of itself once it is reopened. Its attempt and its outcome stay."""

    visit: int
    kept: Kept | None = None
    unended: int = 0
    tries: int = 0


class Ended(Protocol):
    """What a record says of the visits that have ended."""

    @property
    def status(self) -> Status: ...
    @property
    def visit(self) -> int: ...
    @property
    def outcome(self) -> Outcome | None: ...
    @property
    def kept(self) -> Kept | None: ...


def reopened(record: Ended, *, if_changed: bool) -> Reopened | None:
    """By what a record says; none where it is not to be reopened: it is open."""
    if record.status not in LIFE[Operation.REOPEN]:
        return None
    return Reopened(record.visit + 1, at_reopening(record.kept, record.outcome, if_changed=if_changed))


def is_due(lastmod: float | None, record_status: Status, finished_at: float | None, now: float) -> bool:
    """Whether a URL that is known is to be visited once more, since a sitemap says that it has changed since its last
    visit. What is said of the future says nothing."""
    return (
        lastmod is not None
        and record_status in LIFE[Operation.REOPEN]
        and finished_at is not None
        and finished_at < lastmod <= now
    )


# Moments.


def not_before(now: float, moment: float) -> float:
    """A moment that somebody asked for; what is past, and NaN, is now."""
    return moment if moment > now else now


def next_look(now: float, due_seconds: float, *, waits_since: float | None = None) -> float:
    """A record's next ``due_at`` after a look at it.

    ``waits_since``: its message has waited since then, and is no news: the longer, the more seldom it is looked at.
    """
    waited = 0.0 if waits_since is None else now - waits_since - due_seconds
    return now + max(due_seconds, min(waited, LONGEST_LOOK_AGAIN_SECONDS))


def is_dead(receives: int, max_receives: int) -> bool:
    """Whether a message that is about to be received goes to the dead letters, by how often it was before."""
    return receives >= max_receives


# Sums. Records are counted by status, finished ones by reason too, with their bytes and redirects.

_REASON: Final = "reason:"


def counted(before: Status | None, after: Status, outcome: Outcome | None = None, *, count: int = 1) -> dict[str, int]:
    """How the sums move when so many records change their status; ``outcome``: what they are finished with, or were
    until they are reopened, which takes it out of the sums again.

    By name: a status, ``reason:`` and a reason, ``bytes``, ``redirects``.
    """
    if before is after:
        return {}
    changes = {after.value: count}
    if before is not None:
        changes[before.value] = -count
    is_reopened = before is not None and before.is_final
    if outcome is not None and after.is_final is not is_reopened:
        much = -count if is_reopened else count
        changes["bytes"] = outcome.bytes * much
        changes["redirects"] = outcome.is_redirect * much
        if outcome.reason is not None:
            changes[f"{_REASON}{outcome.reason}"] = much
    return {name: change for name, change in changes.items() if change}


def uncounted(status: Status, outcome: Outcome | None) -> dict[str, int]:
    """How the sums move when a record goes that says so."""
    return {name: -much for name, much in counted(None, status, outcome).items()}


def counted_for(crawl: str, changes: Mapping[str, int]) -> dict[str, int]:
    """How the sums move when records of a crawl do so: all, and those of the crawl beside them.

    The default crawl has none of its own: its sums are what is left of all, and it costs nothing more.
    """
    if crawl == DEFAULT_CRAWL:
        return dict(changes)
    return {**changes, **{record_key(name, crawl): much for name, much in changes.items()}}


def sums_in(sums: Mapping[str, int], crawl: str) -> dict[str, int]:
    """The sums of one crawl, by the names of :func:`counted`, of those of all."""
    of_each = [(*split_key(name), much) for name, much in sums.items()]
    if crawl != DEFAULT_CRAWL:
        return {name: much for of, name, much in of_each if of == crawl}
    own: Counter[str] = Counter()
    for of, name, much in of_each:
        own[name] += much if of == DEFAULT_CRAWL else -much
    return dict(own)


def counts_of(sums: Mapping[str, int]) -> Counts:
    """The sums, by the names of :func:`counted`, as they are told."""
    return Counts(
        by_status={status: sums.get(status.value, 0) for status in Status},
        by_reason={reason: number for reason in Reason if (number := sums.get(f"{_REASON}{reason}", 0))},
        bytes=sums.get("bytes", 0),
        redirects=sums.get("redirects", 0),
    )


def spent_by_run(finishes: Iterable[Finish]) -> dict[str, dict[str, Spent]]:
    """What claims that were finished have spent, by run and by worker."""
    return by_run(
        (spend.run, Spent(spend.pages, finish.outcome.bytes_read), finish.claim.worker_id)
        for finish in finishes
        for spend in finish.spends
    )


def host_sums(finishes: Iterable[Finish]) -> dict[str, dict[str, float]]:
    """What claims that were finished add to the rows of their hosts, by host and by name."""
    by_host: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(int))
    for finish in finishes:
        sums = by_host[host_of(finish.claim.url)]
        for name, much in sums_of(finish.outcome).items():
            sums[name] += much
    return {host: dict(sums) for host, sums in by_host.items()}
