"""A frontier's state as data: what `status`, `hosts` and `show` tell, for whoever shows it. It only reads.

Records as rows are in ``export``, and where redirects lead in ``chains``.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final, NamedTuple, Protocol

from sqspider.chains import Chain, chains_of
from sqspider.crawl_row import Crawl, Limits, State
from sqspider.crawl_settings import CrawlSettings
from sqspider.export import iso, row_of
from sqspider.frontier import Bill, Counts, Crawls, Hosts, Looking, QueueStats, RobotsRow, WorkerRow
from sqspider.host import HostRow, delay_for
from sqspider.host_trouble import Stage, as_of, is_in_trouble, stage_of
from sqspider.record import DEFAULT_CRAWL, Status, UrlRecord, record_key
from sqspider.url import host_of
from sqspider.work.limits import Spending, limit_reached, spent_of

NO_CRAWL: Final = CrawlSettings(delay_seconds=0.0)  # for the delay of a host whatever that of a crawl is


class Readable(Looking, Hosts, Crawls, Protocol):
    """What is read of a frontier here."""


class HostReport(NamedTuple):
    """A host, and how it is treated at a moment."""

    row: HostRow  # as of that moment
    now: float

    @property
    def delay_seconds(self) -> float:
        """What holds of all delays, that of a crawl apart."""
        return delay_for(self.row, NO_CRAWL)

    @property
    def crawl_delay(self) -> str | None:
        """What its robots.txt asks for, and how much of it holds where that is less."""
        asked, most = self.row.crawl_delay_seconds, NO_CRAWL.max_crawl_delay_seconds
        if asked <= most:
            return f"{asked:g} s" if asked else None
        return f"{asked:g} s asked for, {most:g} s kept, or as much as --max-crawl-delay says"

    @property
    def trouble(self) -> str | None:
        """What ails it, since when, and what is done about it; none if nothing does."""
        row, stage = self.row, stage_of(self.row, self.now)
        if row.trouble is None:
            return None
        if stage is not Stage.WELL:
            until = "" if stage is Stage.PROBING else f" until {iso(row.rest_until)}"
            asked = f"asked {row.rests:,} time{'s' if row.rests > 1 else ''} in vain since {iso(row.trouble_since)}"
            return f"{stage}{until} ({row.trouble.value}: {asked})"
        said = f"{row.trouble.value} at {iso(row.penalty_since)}"
        if row.rest_until > self.now:
            return f"resting until {iso(row.rest_until)} ({said})"
        slowed = f"slowed to {row.penalty_seconds:g} s" if row.penalty_seconds else ""
        failed = f"{row.failures} failure{'s' if row.failures > 1 else ''} in a row" if row.failures else ""
        return f"{', '.join(filter(None, (slowed, failed)))} ({said})" if slowed or failed else None

    @property
    def words(self) -> str:
        """Orders, trouble and a long crawl delay, for a person."""
        row = self.row
        is_slow = row.crawl_delay_seconds > NO_CRAWL.max_crawl_delay_seconds
        states = (
            "blocked" if row.is_blocked else None,
            "paused" if row.is_paused else None,
            self.trouble,
            f"Crawl-delay: {self.crawl_delay}" if is_slow else None,
        )
        return ", ".join(filter(None, states))

    def as_json(self) -> dict[str, Any]:
        """The same for a program; these names do not change."""
        row = self.row
        return {
            "host": row.host,
            "done": row.done,
            "failed": row.failed,
            "blocked": row.blocked,
            "bytes": row.bytes,
            "delay_seconds": row.delay_seconds,  # the operator's
            "crawl_delay_seconds": row.crawl_delay_seconds,
            "penalty_seconds": row.penalty_seconds,
            "effective_delay_seconds": self.delay_seconds,  # what of all these holds
            "next_slot": iso(row.next_slot or None),
            "rest_until": iso(row.rest_until or None),
            "failures": row.failures,
            "stage": stage_of(row, self.now).value,
            "probes_failed": row.rests,
            "trouble_since": iso(row.trouble_since or None),
            "trouble": row.trouble.value if row.trouble else None,
            "trouble_at": iso(row.penalty_since or None),
            "is_in_trouble": is_in_trouble(row, self.now),
            "is_paused": row.is_paused,
            "is_blocked": row.is_blocked,
        }


async def hosts(frontier: Hosts) -> list[HostReport]:
    """All hosts, by name."""
    rows, now = await frontier.scan_hosts(), frontier.now()
    return [HostReport(as_of(row, now), now) for row in rows]


async def hosts_in_trouble(frontier: Hosts) -> list[HostReport]:
    """Those that are in trouble now, by name."""
    rows, now = await frontier.hosts_in_trouble(), frontier.now()
    return [HostReport(row, now) for row in rows]


class Hindrance(NamedTuple):
    """What a crawl that runs waits for that somebody has to do."""

    state: str  # the crawl's, for a person
    why: str  # and what is to be done


async def _hindrance(frontier: Spending, row: Crawl, workers: list[WorkerRow]) -> Hindrance | None:
    """What a crawl waits for; none if nothing hinders it, or it has nothing open."""
    if row.unreadable:
        return Hindrance("unreadable", f"its row cannot be read: {row.unreadable}")
    barred = [worker for worker in workers if row.name in worker.barred]
    if row.state is not State.RUNNING or (not barred and row.limits == Limits()):
        return None
    if not (await frontier.counts(crawl=row.name, roughly=True)).open:
        return None
    reached = await limit_reached(frontier, row, await spent_of(frontier, row), frontier.now())
    if reached is not None:
        return Hindrance("at its limit", reached.told_of(row.name))
    if not barred:
        return None
    names = defaultdict(list)
    for worker in barred:
        names[worker.barred[row.name]].append(worker.worker_id)
    why = "; ".join(f"{', '.join(ids)} may not work on it: {why}" for why, ids in names.items())
    return Hindrance("waits" if len(barred) == len(workers) else State.RUNNING.value, why)


class FrontierReport(NamedTuple):
    """How a frontier stands."""

    place: str
    counts: Counts
    queue: QueueStats
    workers: list[WorkerRow]  # that live
    hosts_in_trouble: list[HostReport]
    bill: Bill | None
    hindered: dict[str, Hindrance]  # crawls with URLs that somebody has to do something for, by name

    def as_json(self) -> dict[str, Any]:
        """The same for a program; these names do not change."""
        counts, queue, bill = self.counts, self.queue, self.bill
        return {
            "frontier": self.place,
            "records": {status.value: counts.by_status[status] for status in Status},
            "reasons": {reason.value: number for reason, number in sorted(counts.by_reason.items())},
            "redirects": counts.redirects,
            "bytes": counts.bytes,
            "queue": {
                "visible": queue.visible,
                "in_flight": queue.in_flight,
                "delayed": queue.delayed,
                "dead": queue.dead,
                "oldest_age_seconds": queue.oldest_age_seconds,
            },
            "workers": [
                {"worker_id": row.worker_id, "started_at": iso(row.started_at), "seen_at": iso(row.seen_at)}
                for row in self.workers
            ],
            "crawls_waiting": {name: hindrance.why for name, hindrance in self.hindered.items()},
            "hosts_in_trouble": [_in_trouble(host) for host in self.hosts_in_trouble],
            "bill": None if bill is None else {"dollars": bill.dollars, "calls": bill.calls, **bill.parts},
        }


_IN_TROUBLE: Final = ("host", "trouble", "trouble_at", "rest_until", "stage", "probes_failed", "trouble_since")


def _in_trouble(host: HostReport) -> dict[str, Any]:
    told = host.as_json()
    return {**{name: told[name] for name in _IN_TROUBLE}, "state": host.trouble}


async def state_of(frontier: Readable, *, exact: bool = False, crawl: str | None = None) -> FrontierReport:
    """How a frontier stands. ``exact``: as :meth:`Looking.counts` has it. ``crawl``: of its records alone are counted
    those of this one, and hindrances are told of it alone."""
    workers = await frontier.workers()
    rows = [row for row in await frontier.crawls() if crawl in (None, row.name)]
    told = {row.name: await _hindrance(frontier, row, workers) for row in rows}
    return FrontierReport(
        place=frontier.place,
        hindered={name: hindrance for name, hindrance in told.items() if hindrance is not None},
        counts=await frontier.counts(exact=exact, crawl=crawl),
        queue=await frontier.queue_stats(),
        hosts_in_trouble=await hosts_in_trouble(frontier),
        bill=await frontier.bill(),
        workers=workers,
    )


class UrlReport(NamedTuple):
    """What is recorded of a URL, and where its redirects lead."""

    record: UrlRecord
    chain: Chain | None  # none: it does not redirect

    def as_json(self) -> dict[str, Any]:
        """The record as a row: see :func:`sqspider.export.row_of`."""
        return row_of(self.record, self.chain)


async def url_state(frontier: Looking, url: str, crawl: str = DEFAULT_CRAWL) -> UrlReport | None:
    """What is recorded of a canonical URL in a crawl; none if nothing is."""
    key = record_key(url, crawl)
    record = (await frontier.get([key])).get(key)
    if record is None:
        return None
    return UrlReport(record, (await chains_of(frontier, [record])).get(key))


class Surroundings(NamedTuple):
    """What a URL's fetch depends on beside itself."""

    host: HostReport
    robots: RobotsRow | None  # of its origin, as its crawl has it; none: it was not asked for


async def surroundings(frontier: Hosts, url: str, crawl: Crawl | None = None) -> Surroundings:
    """What a canonical URL's fetch depends on beside itself, in a crawl that has a row, or by itself."""
    from sqspider.work.fetchers import robots_place  # here: whoever asks for figures alone needs no HTTP client

    host, place, now = host_of(url), robots_place(url, crawl), frontier.now()
    row = (await frontier.hosts([host]))[host]
    return Surroundings(HostReport(as_of(row, now), now), (await frontier.robots([place])).get(place))


class CrawlReport(NamedTuple):
    """A crawl, and how its records stand."""

    name: str
    crawl: Crawl | None  # its row; none: what stands there by the default name without one goes by settings of its own
    counts: Counts
    hindrance: Hindrance | None = None
    pages_per_second: float | None = None  # over the last moment; none: that was not looked at

    @property
    def state(self) -> str:
        """What its row says, and whether it is finished; or that it cannot be read."""
        if self.crawl is not None and self.crawl.unreadable:
            return "unreadable"
        if self.crawl is not None and self.crawl.state is not State.RUNNING:
            return self.crawl.state.value
        return State.RUNNING.value if self.counts.open else "finished"

    @property
    def standing(self) -> str:
        """The same for a person: where it runs, and stands still, that is said."""
        return self.state if self.hindrance is None else self.hindrance.state

    def as_json(self) -> dict[str, Any]:
        """The same for a program; these names do not change."""
        counts, crawl = self.counts, self.crawl
        return {
            "crawl": self.name,
            "id": crawl.id if crawl else None,
            "state": self.state,
            "waits_for": self.hindrance.why if self.hindrance else None,
            "records": {status.value: counts.by_status[status] for status in Status},
            "redirects": counts.redirects,
            "bytes": counts.bytes,
            "pages_per_second": self.pages_per_second,
            "started_at": iso(crawl.created_at) if crawl else None,
            "version": crawl.version if crawl else None,
            "seeds": list(crawl.seeds) if crawl else [],
        }


async def crawls(frontier: Readable, *, crawl: str | None = None) -> list[CrawlReport]:
    """All crawls, by name, or one. The default one is there without a row, too, if it has records."""
    rows = {row.name: row for row in await frontier.crawls()}
    names = sorted({*rows, DEFAULT_CRAWL}) if crawl is None else [crawl]
    workers, found = await frontier.workers(), []
    for name in names:
        row, counts = rows.get(name), await frontier.counts(crawl=name)
        if row is not None or counts.total:
            found.append(CrawlReport(name, row, counts, await _hindrance(frontier, row, workers) if row else None))
    return found


def with_speeds(before: list[CrawlReport], after: list[CrawlReport], seconds: float) -> list[CrawlReport]:
    """The later of two looks, and how quick the crawls were between them."""
    known = {report.name: report for report in before}
    return [
        report._replace(
            pages_per_second=round(max(0, report.counts.pages - known[report.name].counts.pages) / seconds, 2)
        )
        if report.name in known and _id(known[report.name]) == _id(report)
        else report
        for report in after
    ]


def _id(report: CrawlReport) -> str | None:
    return report.crawl.id if report.crawl else None
