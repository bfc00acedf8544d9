"""What has ended is asked for once more: which records, how many there are, and how they are put back in steps.

A step that was taken stays: whoever is stopped on the way does the same again, and goes on from there. Nothing is kept
of what was put back, however much it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import compress
from typing import Final, NamedTuple, Protocol

import msgspec

from sqspider.frontier import Counts, Crawls, Hosts, Looking, RobotsRow, Work
from sqspider.host import forgiven
from sqspider.host_trouble import as_of
from sqspider.politeness.agent import place_of
from sqspider.record import DEFAULT_CRAWL, Reason, Status, UrlRecord, status_for
from sqspider.work.fetchers import name_of
from sqspider.work.limits import begin_to_count, count_no_more

BY_ROBOTS: Final = (Reason.ROBOTS, Reason.ROBOTS_UNREACHABLE)

Kind = Reason | Status
"""Why a record ended; of one that is done its status."""


class Reopenable(Work, Crawls, Hosts, Looking, Protocol):
    """What is asked of a frontier here."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which records are meant: all that is said holds of them. What is empty or none says nothing."""

    crawl: str | None = None  # of the crawl of this name
    statuses: frozenset[Status] = frozenset()
    reasons: frozenset[Reason] = frozenset()
    http_statuses: frozenset[int] = frozenset()
    host: str | None = None
    ended_before: float | None = None  # seconds since the epoch

    def has(self, record: UrlRecord) -> bool:
        """Whether a record is meant: one that is final, and can be read."""
        outcome = record.outcome
        if record.unreadable or outcome is None or not record.status.is_final:
            return False
        return (
            (not self.statuses or record.status in self.statuses)
            and (not self.reasons or outcome.reason in self.reasons)
            and (not self.http_statuses or outcome.http_status in self.http_statuses)
            and (self.host is None or record.host == self.host)
            and (self.ended_before is None or (record.finished_at or 0.0) < self.ended_before)
        )

    @property
    def is_counted(self) -> bool:
        """The sums tell how many are meant: else the records must be read for it."""
        return not self.http_statuses and self.host is None and self.ended_before is None

    def of_counts(self, counts: Counts) -> Counter[Kind]:
        """How many are meant by the sums, of each kind; where they do not tell, at most so many."""
        kinds: Counter[Kind] = Counter({Status.DONE: counts.by_status[Status.DONE]})
        kinds.update(counts.by_reason)
        return Counter({kind: number for kind, number in kinds.items() if number and self._has_kind(kind)})

    def _has_kind(self, kind: Kind) -> bool:
        if self.reasons and kind not in self.reasons:
            return False
        status = status_for(kind if isinstance(kind, Reason) else None)
        return not self.statuses or status in self.statuses


class PutBack(NamedTuple):
    """What was put back."""

    kinds: Counter[Kind]  # how many records of each
    hosts: int  # whose rest was ended
    unreadable: int  # records that stay as they are, since they are damaged


async def found(frontier: Looking, choice: Choice) -> Counter[Kind]:
    """How many records are meant, of each kind, by reading them."""
    kinds: Counter[Kind] = Counter()
    async for batch in _scanned(frontier, choice):
        kinds.update(kind_of(record) for record in batch if choice.has(record))
    return kinds


def what_is_known(frontier: Looking, crawl: str, older_than_seconds: float | None = None) -> Choice:
    """What there is of a crawl to be visited once more: what is done or failed, or of it what ended so long ago."""
    before = None if older_than_seconds is None else frontier.now() - older_than_seconds
    return Choice(crawl=crawl, statuses=frozenset({Status.DONE, Status.FAILED}), ended_before=before)


async def visit_again(
    frontier: Reopenable,
    crawl: str,
    older_than_seconds: float | None = None,
    on_step: Callable[[int], None] = lambda _: None,
) -> PutBack:
    """Put back what is known of a crawl, for a visit more of each that asks for what has changed alone."""
    return await put_back(frontier, what_is_known(frontier, crawl, older_than_seconds), on_step, if_changed=True)


async def put_back(
    frontier: Reopenable,
    choice: Choice,
    on_step: Callable[[int], None] = lambda _: None,
    *,
    if_changed: bool = False,
) -> PutBack:
    """Reopen what is meant, in steps; ``on_step`` gets the number of records so far.

    As if it had not been tried: a host that is in trouble is forgiven it first, or its URLs would end as they did,
    unasked; and where robots.txt forbade them, it is asked for anew by who has no copy of it. ``if_changed``: as known
    pages that are looked at again, each asked for what has changed alone, and nobody is forgiven anything.
    """
    await begin_to_count(frontier, [row for row in await frontier.crawls() if choice.crawl in (None, row.name)])
    kinds: Counter[Kind] = Counter()
    hosts = unreadable = 0
    in_trouble = set() if if_changed else {row.host for row in await frontier.hosts_in_trouble()}
    async for batch in _scanned(frontier, choice):
        unreadable += sum(bool(record.unreadable) for record in batch)
        meant = [record for record in batch if choice.has(record)]
        for host in {record.host for record in meant} & in_trouble:
            await _forgive(frontier, host)
            in_trouble.discard(host)
            hosts += 1
        if not if_changed:
            await _forget_robots(frontier, meant)
        done = await frontier.reopen([record.key for record in meant], if_changed=if_changed)
        reopened = list(compress(meant, done))
        await count_no_more(frontier, reopened)
        kinds.update(map(kind_of, reopened))
        on_step(kinds.total())
    return PutBack(kinds, hosts, unreadable)


def kind_of(record: UrlRecord) -> Kind:
    """Why a final record ended as it did."""
    reason = record.outcome.reason if record.outcome is not None else None
    return reason if reason is not None else record.status


def _scanned(frontier: Looking, choice: Choice) -> AsyncIterator[list[UrlRecord]]:
    status = next(iter(choice.statuses)) if len(choice.statuses) == 1 else None
    return frontier.scan(status=status, host=choice.host, crawl=choice.crawl)


async def _forgive(frontier: Hosts, host: str) -> None:
    while True:
        row = as_of((await frontier.hosts([host]))[host], frontier.now())
        if (await frontier.save_hosts([forgiven(row)]))[0]:
            break
    await frontier.release_host(host)  # what waits for the end of the rest


async def _forget_robots(frontier: Reopenable, records: Iterable[UrlRecord]) -> None:
    """Let the robots.txt files be fetched anew that kept some records from being fetched: those that their crawls
    asked for, each as itself; of the default crawl's place those of loose URLs, too."""
    kept_out = [record for record in records if kind_of(record) in BY_ROBOTS]
    if not kept_out:
        return
    names = {row.name: name_of(row.identity) for row in await frontier.crawls()}
    places = {place_of(record.url, names.get(record.crawl, "")) for record in kept_out}
    places |= {place_of(record.url, "") for record in kept_out if record.crawl == DEFAULT_CRAWL}
    now, rows = frontier.now(), (await frontier.robots(sorted(places))).values()
    if old := [_forgotten(row, now) for row in rows if row.expires_at > now]:
        await frontier.save_robots(old)


def _forgotten(row: RobotsRow, now: float) -> RobotsRow:
    return msgspec.structs.replace(row, expires_at=now, unreachable_since=None)
