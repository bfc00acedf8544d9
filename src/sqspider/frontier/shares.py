"""How workers share what may be taken in all, exactly: pure functions of the row of a run.

A run is whatever has a most: a run of workers (``--max-pages``), a crawl (``--limit-pages``, ``--limit-bytes``), a host
in a crawl (``--host-pages``, ``--host-bytes``). No worker takes what it has no share of; a page that ends goes over
from its worker's share to what is spent; and all shares together with what is spent are never more than the most. What
a worker that died had of it is free again when its share has run out; one that lives asks again before that.

Bytes are known when they were read. So no more pages are shared out at a time than have been read before, nor than are
left by what those had on average; at first and in the end it is one. What goes beyond the most is what the pages that
are under way then have more than that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from sqspider.crawl_row import Crawl, CrawlRef

PAGE_BYTES: Final = 100_000  # of a page, while none was read


class Spent(NamedTuple):
    """What was taken."""

    pages: int = 0
    bytes: int = 0  # decoded

    def and_(self, more: Spent) -> Spent:
        """Both of them; never less than nothing."""
        return Spent(max(0, self.pages + more.pages), max(0, self.bytes + more.bytes))


class Most(NamedTuple):
    """What may be taken in all; none: as much as there is."""

    pages: int | None = None
    bytes: int | None = None

    def is_spent(self, spent: Spent) -> bool:
        """Whether nothing is left."""
        return (self.pages is not None and spent.pages >= self.pages) or (
            self.bytes is not None and spent.bytes >= self.bytes
        )


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker would have of a run."""

    run: str
    most: Most
    worker_id: str
    wanted: int  # pages, those that it has in hand included: what it has beyond them it gives back thereby
    until: float  # seconds since the epoch
    before: Spent = Spent()  # the row begins with, where there is none yet


class Portion(NamedTuple):
    """What it has then."""

    pages: int
    spent: Spent  # by all
    others: int  # pages that others have a share of, and have not spent


class Spend(NamedTuple):
    """That an end is counted in a run."""

    run: str
    pages: int  # 0: what it read alone


class Share(msgspec.Struct, frozen=True, array_like=True):
    """What one worker may take, and until when."""

    pages: int
    until: float  # seconds since the epoch


class Run(msgspec.Struct, frozen=True):
    """The row of a run."""

    spent: int = 0  # pages
    shares: dict[str, Share] = {}  # by worker
    bytes: int = 0

    @property
    def all_spent(self) -> Spent:
        return Spent(self.spent, self.bytes)


def run_of(crawl: CrawlRef | None, host: str) -> str:
    """The run of a host in a crawl; none: for all loose URLs."""
    return f"{crawl or 'loose'} {host}"


def run_of_crawl(crawl: Crawl) -> str:
    """The run of a crawl's own limits: another one where they are set anew, for nobody counts while there are none."""
    return run_of(crawl.ref, f"#{crawl.counted_since}")


def is_run_of(crawl: CrawlRef, run: str) -> bool:
    """Whether a run is of a crawl."""
    return run.partition(" ")[0] == str(crawl)


def shared(run: Run | None, ask: Ask, now: float) -> tuple[Run, Portion]:
    """A run after a worker has asked for a share, and what it has then."""
    run = Run(spent=ask.before.pages, bytes=ask.before.bytes) if run is None else run
    shares = {name: share for name, share in run.shares.items() if name != ask.worker_id and share.until > now}
    others = sum(share.pages for share in shares.values())
    mine = max(0, min(ask.wanted, _left(ask.most, run.all_spent, ask.wanted + others) - others))
    if mine:
        shares[ask.worker_id] = Share(mine, ask.until)
    return Run(run.spent, shares, run.bytes), Portion(mine, run.all_spent, others)


def _left(most: Most, spent: Spent, enough: int) -> int:
    """How many pages may yet be shared out or spent; ``enough``: nobody asks for more."""
    if most.is_spent(spent):
        return 0
    left = enough if most.pages is None else most.pages - spent.pages
    if most.bytes is not None:
        on_average = spent.bytes / spent.pages if spent.pages and spent.bytes else PAGE_BYTES
        left = min(left, max(1, min(int((most.bytes - spent.bytes) / on_average), spent.pages)))
    return left


def after(run: Run, spent: Mapping[str, Spent]) -> Run:
    """A run after workers have spent of their shares, each so much."""
    shares, sum_of_all = dict(run.shares), run.all_spent
    for worker_id, much in spent.items():
        sum_of_all = sum_of_all.and_(much)
        share = shares.pop(worker_id, None)
        if share is not None and share.pages > much.pages:
            shares[worker_id] = Share(share.pages - much.pages, share.until)
    return Run(sum_of_all.pages, shares, sum_of_all.bytes)


def freed(run: Run, spent: Spent) -> Run:
    """A run of which so much that was spent counts no more."""
    left = run.all_spent.and_(Spent(-spent.pages, -spent.bytes))
    return Run(left.pages, run.shares, left.bytes)


def moved_back(run: Run, now: float, back: float) -> Run:
    """A run after the clock was put back by so much: no share lies farther ahead than it did."""
    shares = {
        name: Share(share.pages, share.until - back) if share.until > now else share
        for name, share in run.shares.items()
    }
    return Run(run.spent, shares, run.bytes)


def by_run(spends: Iterable[tuple[str, Spent, str]]) -> dict[str, dict[str, Spent]]:
    """What workers have spent, by run and by worker, of what each of their ends did: run, how much, worker."""
    found: dict[str, dict[str, Spent]] = {}
    for run, much, worker_id in spends:
        workers = found.setdefault(run, {})
        workers[worker_id] = workers.get(worker_id, Spent()).and_(much)
    return found


_decoder: Final = msgspec.json.Decoder(Run)
_encoder: Final = msgspec.json.Encoder()


def encode_run(run: Run) -> str:
    """A run's row as JSON, for a frontier to keep."""
    return _encoder.encode(run).decode()


def decode_run(text: str | bytes) -> Run:
    """Back from :func:`encode_run`. Raises ``msgspec.MsgspecError``."""
    return _decoder.decode(text)
