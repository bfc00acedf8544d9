"""One history by one seed: a world, an engine and its weather, workers that die, freeze and stop, an operator.

Afterwards the promises are looked at: :meth:`History._look`.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import random
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

from sqspider import retry
from sqspider.crawl_row import Crawl
from sqspider.crawl_settings import KEEPS_NOTHING, CrawlSettings
from sqspider.frontier import Entry, FrontierBusyError, FrontierUnavailableError
from sqspider.frontier.shares import Run, run_of
from sqspider.host import with_orders
from sqspider.record import DEFAULT_CRAWL, REQUISITE_DEPTH, Outcome, Reason, Status, UrlRecord
from sqspider.url import Scope, host_of
from sqspider.web.options import FetchOptions
from sqspider.work.holding import Held
from sqspider.work.options import WorkerOptions
from sqspider.work.seeding import add_seeds
from sqspider.work.worker import Mode, NothingReachedError, Worker

from .archive import FINE, Archive, Keeper, StoreWeather
from .engines import ENGINES, SETTINGS, Engine, Weather
from .loop import GRAVEYARD, Kills, Process, StuckError, VirtualLoop
from .second import NAME as SECOND
from .second import Second
from .witness import HELD_SECONDS, JUST_CLEARED_SECONDS, ORDER_SECONDS, Found, Order, Witness
from .world import UNMADE, Host, Outage, Request, SimulatedFetcher, World, WorldPlan, is_forbidden

MOST_SECONDS: Final = 1_000_000.0
MOST_EVENTS: Final = 300_000
MOST_LIVES: Final = 80  # of one worker and those that take its place
DEEPEST: Final = 4  # links from a seed
NEW_HOST_GRACE: Final = 75.0
HOST_GRACE: Final = 300.0  # a day in life; so many idle looks would show nothing more
ROBOTS_GRACE: Final = 400.0
FETCH: Final = FetchOptions()
CAPTURING: Final = FetchOptions(captures=True)
ROOM_SECONDS: Final = 10.0  # after which a worker that had no room for what it fetched begins anew
PACK_SECONDS: Final = 240.0  # by which nobody holds a claim of before
MOST_REDIRECTS: Final = 10  # in a row
LONGEST_NAP_SECONDS: Final = 300.0
LATEST: Final = 12.0  # seconds that an answer takes in the worst weather
GIVEN_UP: Final = "the host was given up"
BY_ROBOTS: Final = "robots.txt of "
FAIR: Final = Weather()

_events: list[tuple[str, str]] = []


def _note(_: object, __: str, event: Any) -> Any:
    _events.append((event["event"], str(event.get("exception", event.get("error", "")))[-600:]))
    raise structlog.DropEvent


def listen() -> None:
    """Have what the product logs kept, from warnings on."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, _note],
        wrapper_class=structlog.make_filtering_bound_logger(30),
        cache_logger_on_first_use=False,
    )


@dataclass(frozen=True)
class Plan:
    """What kind of history a seed makes. Append draws at the end, or every seed means another history."""

    world: WorldPlan
    weather: Weather
    workers: int
    delay: float
    per_host: int
    obeys_robots: bool
    kill_chance: float
    kill_most: int
    naps: int
    stops: int
    offset: float  # seconds that a worker's clock is wrong, at most: only where the engine has a clock of its own
    orders: int
    clears: bool
    put_back: float  # seconds that everybody's clock is put back by
    bad_messages: int
    reopens: int = 0  # times that some of what is known is asked for once more
    second: int = 0  # orders that are given to a second crawl beside the first; 0: there is none
    takes: float = 0.0  # seconds that who takes a worker's pages deals with one, at most; 0: nobody takes any
    host_pages: int | None = None  # that are fetched of each host
    archive: StoreWeather | None = None  # none: nothing is archived
    keep: tuple[str, ...] = ()  # what of the crawl
    packs: int = 0  # times that the archive is put in order
    checks: bool = False  # the crawl has one host, and checks what lies outside
    assets: bool = False  # it fetches what pages need to be shown

    @classmethod
    def of(cls, seed: int) -> Plan:
        r = random.Random(f"plan {seed}")
        is_calm = r.random() < 0.3
        plan = cls(
            world=WorldPlan(
                hosts=r.randint(1, 3),
                pages=r.randint(3, 7),
                trouble=r.choice((0, 0, 0.1, 0.25)),
                outages=r.choice((0, 0, 0.5)),
                deaths=r.choice((0, 0, 0, 0.4)),
                away=r.choice((0, 0, 0, 20, 200)),
                redirects=r.random() < 0.6,
                poison=r.choice((0, 0, 0, 0, 1)),
            ),
            weather=FAIR
            if is_calm
            else Weather(
                busy=r.choice((0, 0.002)),
                lost=r.choice((0, 0, 0.002)),
                slow=r.choice((0, 0.01, 0.05)),
                late=r.choice((0, 0.01, 0.05)),
                dropped=r.choice((0, 0, 0.03)),
                doubled=r.choice((0, 0, 0.05)),
                held=r.choice((0, 0, 0.05)),
            ),
            workers=r.randint(1, 3),
            delay=r.choice((0, 0.5, 1, 2)),
            per_host=r.choice((1, 1, 2)),
            obeys_robots=r.random() < 0.7,
            kill_chance=r.choice((0, 0, 0.003, 0.01)),
            kill_most=5,
            naps=r.choice((0, 0, 0, 1, 2)),
            stops=r.choice((0, 0, 0, 2)),
            offset=r.choice((0, 0, 0, 1.5, 20)),
            orders=r.choice((0, 0, 0, 1, 2)),
            clears=r.random() < 0.1,
            put_back=r.choice((0, 0, 0, 0, 0, 0, 0, 0, 0, 3600)),
            bad_messages=r.choice((0, 0, 0, 0, 0, 1)),
        )
        quick = r.choice((0, 0, 0.02, 0.1))  # so short a delay that a worker keeps a host for several requests
        reopens = r.choice((0, 0, 0, 1, 2))
        takes = r.choice((0, 0, 0, 1, 90))  # longer than a lease, too
        host_pages = r.choice((None, None, None, 3))
        # Of a table that is cleared it is not told what was fetched before that.
        host_pages = None if plan.clears else host_pages
        # Who clears the table removes all crawls; by a clock that is put back a limit's change has not been yet.
        second = 0 if plan.clears or plan.put_back else r.choice((0, 0, 0, 1, 2))
        more = replace(plan, delay=quick or plan.delay, reopens=reopens, takes=takes)
        more = replace(more, host_pages=host_pages, second=second)
        full_from = r.choice((None, None, None, r.uniform(0, 40)))
        archive = StoreWeather(
            fails=0 if is_calm else r.choice((0, 0.03, 0.2)),
            is_torn=r.random() < 0.5,
            lost=0 if is_calm else r.choice((0, 0.03)),
            slow=0 if is_calm else r.choice((0, 0.05)),
            full_from=full_from or 0.0,
            full_until=0.0 if is_calm or full_from is None else full_from + r.uniform(1, 60),
            gather_seconds=r.choice((0.0, 0.0, 5.0)),
            most_bytes=r.choice((1000, 8 << 20)),
        )
        keep = KEEPS_NOTHING if r.random() < 0.05 else ()
        # Who takes pages may hold a claim for as long as he likes; it remembers where things lay.
        packs = 0 if plan.clears or takes > 1 else r.choice((0, 0, 1, 2))
        # Of a crawl that has a row.
        checks = r.random() < 0.5 and not (plan.clears or seed % 2) and plan.world.hosts > 1
        assets = not checks and r.random() < 0.5 and not (plan.clears or seed % 2)
        second = 0 if checks or assets else more.second
        more = replace(more, checks=checks, assets=assets, second=second)
        if seed % 4 == 2:  # as it was before there was an archive
            return more
        return replace(more, archive=archive, keep=keep, packs=packs)

    @classmethod
    def small(cls, seed: int) -> Plan:
        """Few pages and nothing else that goes wrong: so that every point of it can be died at in seconds."""
        r = random.Random(f"small {seed}")
        plan = cls.of(seed)
        world = plan.world._replace(
            hosts=1 + plan.checks,
            pages=r.randint(2, 4),
            trouble=r.choice((0, 0, 0.2)),
            outages=0,
            deaths=0,
            away=0,
            poison=0,
        )
        archive = plan.archive and FINE._replace(gather_seconds=plan.archive.gather_seconds)
        return replace(
            plan, archive=archive, world=world, weather=FAIR, workers=r.choice((1, 2)), kill_chance=0, naps=0, stops=0, offset=0,
            orders=0, clears=False, put_back=0, bad_messages=0, obeys_robots=True, second=0,
        )  # fmt: skip


@dataclass
class Report:
    """What one history was, and what it showed."""

    seed: int
    engine: str
    kill_at: int | None
    plan: str
    violations: list[tuple[str, str]] = field(default_factory=list)
    kills: int = 0
    points: int = 0  # at which a process may die
    writes: int = 0  # to the archive
    failed_writes: int = 0
    events: int = 0
    calls: int = 0  # of workers to the frontier
    requests: int = 0
    seconds: float = 0.0  # of virtual time
    trace: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Walked(NamedTuple):
    """What a crawl's records are held against."""

    crawl: str
    seeds: list[str]
    max_depth: int  # by now
    was_narrowed: bool = False  # there may be records that are deeper


class History:
    """Plays one history; to be run in a process of Python's own that ends by ``os._exit``."""

    def __init__(self, engine: str, seed: int, *, kill_at: int | None = None, is_small: bool = False) -> None:
        _events.clear()
        plan = Plan.small(seed) if is_small or kill_at is not None else Plan.of(seed)
        if engine != "sqlite":
            plan = replace(plan, put_back=0.0)  # that the clock went back is seen by a file alone
        self.plan = plan
        self.seed, self.engine_name = seed, engine
        self.report = Report(seed, engine, kill_at, str(plan))
        self.found = Found()
        self.say = self.found.say
        self.loop = VirtualLoop(most_seconds=MOST_SECONDS, most_events=MOST_EVENTS)
        asyncio.set_event_loop(self.loop)
        self.kills = Kills(
            random.Random(f"kills {seed}"),
            at=frozenset() if kill_at is None else frozenset({kill_at}),
            chance=plan.kill_chance,
            most=plan.kill_most,
        )
        self.rng = random.Random(f"history {seed}")
        self.world = World(self.loop, seed, plan.world)
        self.witness = self.world.witness = Witness(self.loop, SETTINGS, self.say)
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        self.engine: Engine = ENGINES[engine](self.witness, plan.weather, seed, Path(self.folder.name))
        # What is in flight when the clock goes back comes back at once; and in a file a URL whose message was sent
        # twice, or is left from before a clearing, has one place for both.
        is_doubled = plan.clears or plan.weather.doubled > 0
        self.witness.has_copies = self.engine.has_copies or plan.put_back > 0 or (engine == "sqlite" and is_doubled)
        # On AWS one leaves what older messages may stand for; in SQLite's file what waits has no moment of its own.
        self.witness.sweeps_see_all = engine == "memory"
        if plan.put_back:
            self.witness.blur = 15.0  # by how much is seen by what was written last
        if engine == "aws":
            self.witness.blur = 3.0  # its clock is told in whole seconds, late
            self.witness.is_made_late = True
            self.witness.order_seconds = HELD_SECONDS + ORDER_SECONDS
        self.settings = CrawlSettings(
            scope=Scope.HOST if plan.checks else Scope.ANY,
            check_external=plan.checks,
            assets=plan.assets,
            max_depth=DEEPEST,
            delay_seconds=plan.delay,
            per_host=plan.per_host,
            obey_robots=plan.obeys_robots,
            host_pages=plan.host_pages,
            keep=plan.keep,
        )
        self.archive: Archive | None = None
        if plan.archive is not None:
            self.archive = Archive(self.loop, seed, plan.archive)
            keeps = plan.keep != KEEPS_NOTHING
            self.witness.keeper = Keeper(self.archive, self.world, {DEFAULT_CRAWL: keeps, SECOND: keeps})
        self.witness.crawl_settings = self.settings
        self.second: Second | None = None
        self.alive: dict[str, Process] = {}
        self.stops_left = plan.stops
        self.operated_at = 0.0  # when the operator did something last
        self.lag_seconds = 5.0 if engine == "aws" else 0.0  # by which what is looked at there may be behind
        if plan.weather.late or plan.weather.slow:
            self.lag_seconds = LATEST  # and the look be answered by
        self.blocked: set[str] = set()

    def run(self) -> Report:
        try:
            self.loop.run_until_complete(self._main())
        except StuckError as stuck:
            self.say("stuck", stuck)
        except Exception as error:  # noqa: BLE001 - whatever comes out of a worker is a finding
            self.say("raised", f"{type(error).__name__}: {error}")
        for event, text in _events:
            if event in ("internal_error", "fetch"):
                self.say("internal error", text)
        report, witness = self.report, self.witness
        report.violations = self.found.violations
        report.kills, report.points, report.events = self.kills.done, self.kills.points, self.loop.events
        report.calls, report.seconds = sum(witness.calls.values()), self.loop.now
        report.requests = sum(len(host.requests) for host in self.world.hosts.values())
        if self.archive is not None:
            report.writes, report.failed_writes = self.archive.writes, self.archive.failures
        report.trace = witness.trace.hexdigest()[:16]
        GRAVEYARD.append((self.loop, asyncio.all_tasks(self.loop)))
        self.folder.cleanup()
        return report

    async def _main(self) -> None:
        bystander = Process(self.loop, "bystander", Kills(random.Random(0)))
        looker = self.looker = self.witness.looker = await self.engine.look(bystander)
        await self._sow()
        if self.plan.second:
            weather = self.plan.weather
            is_fair = weather == FAIR or (
                self.engine_name != "aws" and not (weather.busy or weather.slow or weather.late)
            )
            is_slow = self.plan.naps > 0 or not is_fair
            rng = random.Random(f"second {self.seed}")
            self.second = Second(looker, self.witness, self.settings, rng, is_slow=is_slow)
            await self.second.sow(self.world.seeds()[:2])
        await looker.send(["no message"] * self.plan.bad_messages)
        operator = self.loop.create_task(self._operate())
        naps = [self.loop.create_task(self._nap()) for _ in range(self.plan.naps)]
        await asyncio.gather(*(self._lives(f"w{i}", operator) for i in range(self.plan.workers)))
        for task in naps:
            task.cancel()
        if self.engine_name == "aws":
            await asyncio.sleep(5)  # what was written last, a host's first row, is in the index by then
        await self._look()

    async def _sow(self) -> None:
        """Put in the seeds: of every other history as those of a crawl, which goes by its row. (Of the crawl that needs
        no name: its records' keys are URLs, by which witnesses find them.)"""
        seeds = self._seeds()
        if self.seed % 2 or self.plan.clears:  # a crawl that was cleared away has messages that end while others begin
            await self.looker.enqueue([Entry(url=url, settings=self.settings) for url in seeds])
            return
        crawl = Crawl(name=DEFAULT_CRAWL, id=f"{self.seed:x}", settings=self.settings)
        assert await self.looker.save_crawl(crawl)
        await add_seeds(self.looker, crawl.ref, seeds, self.settings.scope)
        await self.looker.enqueue([Entry(url=url, settings=self.settings, crawl=crawl.ref) for url in seeds])

    def _seeds(self) -> list[str]:
        seeds = self.world.seeds()
        return [url for url in seeds if host_of(url) == host_of(seeds[0])] if self.plan.checks else seeds

    def _is_outside(self, url: str) -> bool:
        return self.plan.checks and host_of(url) != host_of(self.world.seeds()[0])

    # What happens to workers.

    async def _nap(self) -> None:
        """Everybody sleeps for minutes, or one alone."""
        await asyncio.sleep(self.rng.uniform(0.5, 40))
        seconds = self.rng.choice((20.0, 70.0, LONGEST_NAP_SECONDS))
        awake = list(self.alive.values())
        for process in awake if self.rng.random() < 0.5 else awake[:1]:
            process.freeze(seconds)

    async def _lives(self, name: str, operator: asyncio.Task[None]) -> None:
        """A worker, and whoever takes its place."""
        for n in range(MOST_LIVES):
            offset = self.rng.uniform(-self.plan.offset, self.plan.offset) if self.engine_name == "aws" else 0.0
            process = self.alive[name] = Process(self.loop, f"{name}.{n}", self.kills, offset=offset)
            task = process.start(self._live(process))
            await process.ended.wait()
            if process.is_dead:
                self.engine.abandon(process)
                await asyncio.sleep(self.rng.choice((0, 1, 20)))
                continue
            try:
                was_stopped = task.result()
            except (FrontierBusyError, FrontierUnavailableError) as error:
                weather = self.plan.weather
                if isinstance(error, NothingReachedError) or not (
                    weather.busy or weather.lost or self.engine_name == "aws"
                ):
                    raise
                self.engine.abandon(process)
                await asyncio.sleep(5)
                continue
            # What was put in while somebody looked whether nothing is left is seen by the next look.
            looked_at = self.witness.counted_at.get(process, 0.0)
            is_quiet = operator.done() and looked_at > self.operated_at + 2 * self.lag_seconds
            await operator
            await asyncio.sleep(self.lag_seconds if not is_quiet else 0)
            is_done = (await self.looker.counts()).open == 0
            if is_done and not was_stopped:
                return
            if not is_done and not was_stopped and is_quiet:
                self.say("ended too early", process.name)
        raise StuckError(f"{name} lived {MOST_LIVES} times")

    async def _live(self, process: Process) -> bool:
        """One worker from its begin to its end; whether it was told to stop."""
        rng = random.Random(f"{self.seed} {process.name}")
        frontier = await self.engine.open(process, rng)
        options = WorkerOptions(
            worker_id=process.name,
            poll_seconds=20.0 if self.engine_name == "aws" else 5.0,
            concurrency=8,
            batch_size=5,
            robots_grace_seconds=ROBOTS_GRACE,
            new_host_grace_seconds=NEW_HOST_GRACE,
            host_grace_seconds=HOST_GRACE,
        )
        pages: asyncio.Queue[Held] = asyncio.Queue()
        store = None if self.archive is None else self.archive.open(process)
        worker = Worker(
            self.witness.watch(frontier, process),
            SimulatedFetcher(self.world, FETCH if store is None else CAPTURING),
            options,
            clock=frontier.now,
            rng=rng,
            store=store,
            open_fetcher=lambda options: SimulatedFetcher(self.world, options),
            take=pages.put_nowait if self.plan.takes else None,
        )
        dealing = self.loop.create_task(self._deal(process, pages))
        is_stopped = self.stops_left > 0
        if is_stopped:
            self.stops_left -= 1
            self.loop.call_later(self.rng.uniform(1, 30), worker.stop)
        try:
            await worker.run(Mode.UNTIL_EMPTY)
        finally:
            dealing.cancel()
            await frontier.close()
        if worker.stopped_by is not None:
            await asyncio.sleep(ROOM_SECONDS)  # until somebody sees to it
        return is_stopped or worker.stopped_by is not None

    async def _deal(self, process: Process, pages: asyncio.Queue[Held]) -> None:
        """Whoever takes a worker's pages, one after the other; some are given back."""
        rng = random.Random(f"{self.seed} {process.name} takes")
        while True:
            held = await pages.get()
            if not held.is_lost:
                await asyncio.sleep(rng.uniform(0, self.plan.takes))
                self.witness.dealt_with.add(held.message.key)
                (held.give_back if rng.random() < 0.1 else held.finish)()

    # What the operator does.

    async def _operate(self) -> None:
        packing = self.loop.create_task(self._pack())  # beside all else that he does
        await self._give_orders()
        await packing

    async def _give_orders(self) -> None:
        plan, rng = self.plan, self.rng
        for _ in range(plan.orders):
            await asyncio.sleep(rng.uniform(0.5, 20))
            await self._order(rng.choice(list(self.world.hosts)), is_block=rng.random() < 0.5)
        for _ in range(plan.reopens):
            await asyncio.sleep(rng.uniform(5, 120))
            known = [record.key async for batch in self.looker.scan() for record in batch]
            chosen = [key for key in known if rng.random() < 0.4]
            await self.witness.reopen(chosen, if_changed=rng.random() < 0.7)
            self.operated_at = self.loop.now
        for _ in range(plan.second):
            assert self.second is not None
            await self.second.order()
            self.operated_at = self.loop.now
        if plan.put_back:
            await asyncio.sleep(rng.uniform(5, 40))
            self.loop.skew -= plan.put_back
        if plan.clears:
            await asyncio.sleep(rng.uniform(0.5, 40))
            await self.looker.clear_table()
            self.blocked.clear()
            self.witness.cleared()
            for host in self.world.hosts.values():
                host.robots_had = None
            await asyncio.sleep(rng.choice((0, 5)))
            await self._sow()
            self.operated_at = self.loop.now

    async def _pack(self) -> None:
        """Put the archive in order amid the work: what holds a claim may write back where things lay before."""
        rng = random.Random(f"packs {self.seed}")
        for _ in range(self.plan.packs):
            assert self.archive is not None
            await asyncio.sleep(rng.uniform(1, 60))
            moves = self.archive.pack()
            await self.looker.move_places(moves)
            await asyncio.sleep(PACK_SECONDS + LONGEST_NAP_SECONDS * self.plan.naps)
            await self.looker.move_places(moves)
            self.archive.remove(moves)

    async def _order(self, host: str, *, is_block: bool) -> None:
        """Block a host for good, or pause it for a while."""
        await self._save_orders(host, is_paused=not is_block, is_blocked=is_block or None)
        order = Order(host, self.loop.now)
        self.witness.orders.append(order)
        if is_block:
            self.blocked.add(host)
            return
        await asyncio.sleep(self.rng.uniform(1, 100))
        order.end = self.loop.now
        await self._save_orders(host, is_paused=False, is_blocked=None)
        await self.looker.release_host(host)

    async def _save_orders(self, host: str, *, is_paused: bool, is_blocked: bool | None) -> None:
        while True:
            row = (await self.looker.hosts([host]))[host]
            ordered = with_orders(row, delay=None, is_paused=is_paused, is_blocked=is_blocked)
            if (await self.looker.save_hosts([ordered]))[0]:
                self.witness.note_saved(ordered)
                return

    # The promises.

    async def _look(self) -> None:
        records = {r.key: r async for batch in self.looker.scan() for r in batch}
        for record in records.values():
            if record.outcome is None or not record.status.is_final:
                self.say("open", f"{record.key} {record.status}")
            else:
                for kind, detail in self.witness.keeper.faults_of(record) if self.witness.keeper is not None else ():
                    self.say(kind, detail)
                is_taken = record.outcome.is_page and not record.is_requisite
                if self.plan.takes and is_taken and record.key not in self.witness.dealt_with:
                    self.say("handed out to nobody", record.key)
                self._look_at_outcome(record, record.outcome)
        self._look_at_crawl(Walked(DEFAULT_CRAWL, self._seeds(), DEEPEST), records)
        if (second := self.second) is not None:
            seeds = [] if second.is_removed else self.world.seeds()[:2]
            walked = Walked(SECOND, seeds, second.max_depth, second.was_narrowed)
            self._look_at_crawl(walked, records)
        for key, times in self.engine.finishes().items():
            before = records[key].visit if key in records else 0
            if times > 1 + before:
                self.say("finished twice in a visit", f"{key} {times} times, {before} visits before")
        for key, record in records.items():
            more = record.visit - self.witness.reopened[key]
            if not 0 <= more <= self._most_visits_for_nearer_ways(record.url):
                self.say("visits", f"{key} {record.visit} for {self.witness.reopened[key]}")
        await self._look_at_sums(records)
        await self._look_at_queue()
        for host in self.world.hosts.values():
            self._look_at_requests(host)
        await self._look_at_budgets(records)
        self._look_at_recovery()

    def _look_at_crawl(self, walked: Walked, records: dict[str, UrlRecord]) -> None:
        """What a crawl has records of."""
        own = {record.url: record for record in records.values() if record.crawl == walked.crawl}
        for record in own.values():
            self._look_at_links(record, own, walked.max_depth)
        lost = [url for url in walked.seeds if url not in own]
        if lost:
            self.say("lost seeds", f"{walked.crawl} {lost}")
        if walked.seeds:
            self._look_at_ways(own, walked)
        elif own:
            self.say("records of a crawl that was removed", sorted(own))

    def _most_visits_for_nearer_ways(self, url: str) -> int:
        """On AWS each may take one; elsewhere only what had too many redirects, by ways with fewer."""
        redirects = MOST_REDIRECTS if self.world.target(url) is not None else 0
        return redirects + self.plan.assets + (DEEPEST if self.engine_name == "aws" else 0)

    def _requests_of(self, url: str) -> list[Request]:
        """Those since the table was cleared."""
        made = self.world.hosts[host_of(url)].requests
        return [request for request in made if request.url == url and request.start > self.witness.cleared_at]

    def _look_at_outcome(self, record: UrlRecord, outcome: Outcome) -> None:
        """What the record says is what the world is."""
        url, reason, host = record.url, outcome.reason, self.world.hosts[host_of(record.url)]
        requests = self._requests_of(url)
        said = f"{url} {outcome.status} {reason} {outcome.http_status} tries {record.tries} {outcome.detail}"
        made = sum(request.reason is not None and request.reason not in UNMADE for request in requests)
        if record.tries > made:
            self.say("tries without requests", f"{said}: {made}")
        if outcome.http_status is not None and outcome.checked != self._is_outside(url):
            self.say("checked what it is not to check, or not what it is", said)
        is_as_it_is = False
        match reason:
            case None:
                redirected = outcome.http_status is not None and 300 <= outcome.http_status < 400
                target = self.world.target(url)
                is_as_it_is = bool(requests) and "/gone" not in url and redirected == (target is not None)
                if target is not None:
                    is_as_it_is &= outcome.redirect_to == target and target != url
                    # On AWS a record keeps the redirects of the way it was first found on; its message has its own.
                    is_as_it_is &= record.redirects < MOST_REDIRECTS or self.engine_name == "aws"
                elif self._is_outside(url):
                    is_as_it_is &= (outcome.http_status, outcome.digest, outcome.bytes) == (200, None, 0)
                else:  # whatever a visit before it, or a failed one between, brought
                    digest = hashlib.sha256(self.world.page(url)).hexdigest()
                    is_as_it_is &= (outcome.http_status, outcome.digest) == (200, f"sha256:{digest}")
                    is_as_it_is &= record.visit > 0 or not outcome.unchanged
                    is_as_it_is &= record.kept is not None and record.kept.changes == 0 and record.kept.good is None
                if self.plan.obeys_robots and host.has_robots and is_forbidden(url):
                    is_as_it_is = False
            case Reason.CLIENT_ERROR:
                is_as_it_is = "/gone" in url
            case Reason.ROBOTS:
                is_as_it_is = self.plan.obeys_robots and host.has_robots and is_forbidden(url)
            case Reason.ROBOTS_UNREACHABLE:
                is_as_it_is = self._was_away(host, 60.0, robots=True)
            case Reason.HOST_BLOCKED:
                is_as_it_is = host.name in self.blocked
            case Reason.HOST_PAGE_LIMIT:
                is_as_it_is = self.plan.host_pages is not None  # and see ``_look_at_budgets``
            case Reason.CRASHED:
                is_as_it_is = url in self.world.poison or self._was_killed_with(record.key)
            case Reason.DEPTH_LIMIT:
                second = self.second
                is_as_it_is = second is not None and record.crawl == SECOND and record.depth > second.max_depth
            case Reason.TOO_MANY_REDIRECTS:
                is_as_it_is = self.world.target(url) is not None and record.redirects >= MOST_REDIRECTS
            case Reason.REDIRECT_LOOP:
                is_as_it_is = self.world.target(url) == url
            case Reason.INTERNAL_ERROR:
                pass
            case Reason.RATE_LIMITED | Reason.SERVER_ERROR | Reason.TIMEOUT | Reason.CONNECTION_RESET:
                used_up = record.tries + 1 >= retry.rule_for(reason, outcome.http_status).max_tries
                is_as_it_is = (used_up and made >= record.tries + 1) or self._was_given_up(host, outcome)
            case _:
                is_as_it_is = self._was_given_up(host, outcome)
        if not is_as_it_is:
            self.say(f"ended wrongly: {reason or outcome.http_status}", said)

    def _was_given_up(self, host: Host, outcome: Outcome) -> bool:
        if outcome.detail.startswith(
            BY_ROBOTS
        ):  # a new origin was, though its host had answered: before a clearing, say
            return self._was_away(host, NEW_HOST_GRACE - 1.0, robots=True)
        if not outcome.detail.startswith(GIVEN_UP):
            return False
        first = self.witness.answered_at.get(host.name)  # what dies with its worker is known to nobody
        was_known = first is not None and all(first < outage.start for outage in host.outages + host.robots_outages)
        return self._was_away(host, (HOST_GRACE if was_known else NEW_HOST_GRACE) - 1.0, robots=True)

    def _was_away(self, host: Host, seconds: float, *, robots: bool) -> bool:
        """Whether there was so long an outage, or several with no good answer between them."""
        outages = [*host.outages, *(host.robots_outages if robots else ())]
        if host.trouble or any(outage.end - outage.start >= seconds for outage in outages):
            return True
        good = sorted(r.end for r in host.requests if r.reason is None)
        marks = [0.0, *good, self.loop.now]
        return any(later - earlier >= seconds for earlier, later in itertools.pairwise(marks)) and bool(outages)

    def _was_killed_with(self, key: str) -> bool:
        """Whether its last fetch, with no other beside it, ended by chance: what a page kills takes nobody along.

        An attempt of which nothing was seen is one whose worker died before the answer. Of claims that count the same,
        the one before was given back: by who was to be alone, or who took the page of a crash and did not keep it.
        """
        claims = {claim.won.attempt: claim for claim in self.witness.claims[key]}
        latest = claims[max(claims)].won.unended if claims else 0
        before = [attempt for attempt, claim in claims.items() if claim.won.unended == latest - 1]
        last = [claims[max(before)]] if before else []
        return (
            self.witness.failures > 0
            or (not last and self.kills.done > 0)
            or any(claim.process.is_dead and not claim.process.was_poisoned for claim in last)
        )

    def _look_at_links(self, record: UrlRecord, records: dict[str, UrlRecord], max_depth: int) -> None:
        """Where a record leads, there are records."""
        if record.status is not Status.DONE:
            return
        leads_to: list[str] = []
        target = self.world.target(record.url)
        if target is not None:
            leads_to = [target]
            if record.depth > max_depth and not (record.is_requisite or self._is_outside(target)):
                leads_to = []
        elif not (record.is_requisite or self._is_outside(record.url)):
            leads_to = self.world.links(record.url)
            if record.depth >= max_depth:
                leads_to = [url for url in leads_to if self._is_outside(url)]
            leads_to += self.world.needs(record.url) if self.plan.assets else []
        lost = [url for url in leads_to if url not in records]
        if lost:
            self.say("lost links", f"{record.key} -> {lost}")

    def _look_at_ways(self, records: dict[str, UrlRecord], walked: Walked) -> None:
        """What was recorded, and how deep, is what a breadth-first walk finds over what was fetched, whatever came
        first."""
        # A visit more may find less than the one before it did, and what a claim found may stay that was not ended: on
        # AWS, and where somebody takes the pages. A message from before a clearing knows ways of then.
        failed = [record for record in records.values() if record.status is not Status.DONE]
        stays = self.engine_name == "aws" or self.plan.takes > 0
        may_have_led = any(r.visit or (stays and r.attempt > 1) for r in failed)
        is_exact = not self.plan.clears and not may_have_led and not walked.was_narrowed
        depths = self._walk(records, walked)
        for url, depth in depths.items():
            record = records.get(url)
            if record is not None and record.depth != depth and (is_exact or record.depth > depth):
                self.say(
                    "not the nearest way", f"{record.key} {record.depth} for {depth}, visits before {record.visit}"
                )
        if is_exact and (others := records.keys() - depths.keys()):
            self.say("beyond the nearest ways", sorted(others))

    def _walk(self, records: dict[str, UrlRecord], walked: Walked) -> dict[str, int]:
        """How many links away what can be reached is: level by level, and along redirects within one."""
        depths = dict.fromkeys(walked.seeds, 0)
        level = list(depths)
        for depth in range(walked.max_depth + 2):
            below: list[str] = []
            for url in level:  # which grows
                record = records.get(url)
                if record is None or record.status is not Status.DONE:
                    continue
                target = self.world.target(url)
                if target is not None and target not in depths:
                    if depth <= walked.max_depth or self._is_outside(target):
                        depths[target] = depth
                        level.append(target)
                elif target is None and not self._is_outside(url):
                    below += self.world.links(url)
            if depth >= walked.max_depth:
                below = [url for url in below if self._is_outside(url)]
            level = [url for url in dict.fromkeys(below) if url not in depths]
            depths |= dict.fromkeys(level, depth + 1)
        if self.plan.assets:
            self._add_requisites(records, depths)
        return depths

    def _add_requisites(self, records: dict[str, UrlRecord], depths: dict[str, int]) -> None:
        """What the pages that were reached need, and where that redirects to."""
        done = {url for url, record in records.items() if record.status is Status.DONE}
        pages = [url for url in depths if url in done and self.world.target(url) is None]
        found = [needed for url in pages for needed in self.world.needs(url)]
        for url in found:  # which grows
            if url not in depths:
                depths[url] = REQUISITE_DEPTH
                if url in done and (target := self.world.target(url)) is not None:
                    found.append(target)

    async def _look_at_budgets(self, records: dict[str, UrlRecord]) -> None:
        """Of no host more is fetched than its budget, each URL counted once; and all of it, where one was blocked."""
        if self.plan.host_pages is None:
            return
        # Whoever slept beyond the time of its share ends what it has fetched on top of it. On AWS what a worker ended in
        # its last moment is not counted.
        is_exact = not self.plan.naps and (self.engine_name != "aws" or not (self.kills.done or self.witness.failures))
        crawls = {crawl.name: crawl.ref for crawl in await self.looker.crawls()}
        for name in self.world.hosts:
            of_host = [r for r in records.values() if r.host == name and r.crawl == DEFAULT_CRAWL]
            good = [r for r in of_host if r.status is Status.DONE or (r.kept is not None and r.kept.good is not None)]
            if is_exact and len(good) > self.plan.host_pages:
                self.say("more than its budget", f"{name} {len(good)}")
            run = run_of(crawls.get(DEFAULT_CRAWL), name)
            spent = (await self.looker.runs([run])).get(run, Run()).spent
            are_blocked = any(r.outcome and r.outcome.reason is Reason.HOST_PAGE_LIMIT for r in of_host)
            is_over = spent > self.plan.host_pages and not self.plan.naps
            if is_over or (are_blocked and spent < self.plan.host_pages):
                self.say("less or more than its budget is spent", f"{name} {spent}")

    async def _look_at_sums(self, records: dict[str, UrlRecord]) -> None:
        finals = [record.outcome for record in records.values() if record.outcome is not None]
        # On AWS sums are behind by what a worker gathered that died, or when the table was cleared under it.
        is_behind = self.engine_name == "aws" and (
            self.kills.done > 0 or self.witness.generation > 0 or bool(self.witness.removed)
        )
        counts = await self.looker.counts(exact=is_behind)
        own: dict[str, Any] = {
            "status": {s: n for s, n in Counter(r.status for r in records.values()).items() if n},
            "reason": dict(Counter(outcome.reason for outcome in finals if outcome.reason is not None)),
            "bytes": sum(outcome.bytes for outcome in finals),
            "redirects": sum(outcome.redirect_to is not None and outcome.status is Status.DONE for outcome in finals),
        }
        told: dict[str, Any] = {
            "status": {s: n for s, n in counts.by_status.items() if n},
            "reason": {reason: n for reason, n in counts.by_reason.items() if n},
            "bytes": counts.bytes,
            "redirects": counts.redirects,
        }
        for name, number in own.items():
            if told[name] != number:
                self.say(f"sums: {name}", f"{told[name]} for {number}")
        if is_behind:
            return  # those of hosts are not mended
        rows = {row.host: row for row in await self.looker.scan_hosts()}
        for name in self.world.hosts:
            of_host = [r for r in records.values() if r.host == name]
            statuses = Counter(r.status for r in of_host)
            read = sum(r.outcome.bytes for r in of_host if r.outcome is not None)
            row = rows.get(name)
            sums = (row.done, row.failed, row.blocked, row.bytes) if row else (0, 0, 0, 0)
            now = (statuses[Status.DONE], statuses[Status.FAILED], statuses[Status.BLOCKED], read)
            earlier = sum(r.visit for r in of_host)  # what came of those visits is in the sums, and on no record
            is_more = all(a >= b for a, b in zip(sums, now, strict=True)) and sum(sums[:3]) >= len(of_host) + earlier
            is_exact = bool(self.witness.removed) or sum(sums[:3]) == len(of_host) + earlier
            if not (is_more and is_exact if earlier or self.witness.removed else sums == now):
                self.say("sums of a host", f"{name} {sums} for {dict(statuses)}, {read} bytes, {earlier} visits before")

    async def _look_at_queue(self) -> None:
        stats = await self.looker.queue_stats()
        # Where figures are behind nobody can tell that a message is left which is in no record.
        if not stats.is_empty and not self.engine.tells_late:
            self.say("queue not empty", stats)
        witness = self.witness
        # Whoever dies, or gets no answer, counts a receive of what was in its hands.
        is_rough = self.kills.done + witness.failures >= SETTINGS.max_receives or self.engine_name == "aws"
        are_some_alive = stats.dead < self.plan.bad_messages and not self.engine.tells_late
        if are_some_alive or (stats.dead > self.plan.bad_messages and not is_rough):
            self.say("dead letters", f"{stats.dead} for {self.plan.bad_messages} that are none")
        if (
            self.engine_name != "aws"
            and witness.released > len(witness.dropped) + stats.dead
            and not witness.generation
        ):
            self.say("sent by sweeps", f"{witness.released} for {len(witness.dropped)} that were lost")

    def _look_at_requests(self, host: Host) -> None:
        """No sooner than its delay, no more at once than allowed, nothing that robots.txt forbids."""
        plan = self.plan
        requests = sorted(host.requests, key=lambda request: request.start)
        cleared = self.witness.cleared_at  # with the table it is forgotten when a host was last asked
        if plan.delay:
            late = 0.06 if plan.per_host > 1 else 1e-6
            late += (
                4.0 if self.engine_name == "aws" and plan.offset else 0.0
            )  # clocks that differ by so little are left
            for a, b in itertools.pairwise(requests):
                if b.start - a.start < plan.delay - late and not a.start <= cleared < b.start:
                    self.say(
                        "gap",
                        f"{host.name} {b.start - a.start:.3f} s at {b.start:.2f}: {a.process} {a.url}, {b.process} {b.url}",
                    )
            for request in requests:
                others = [r for r in requests if r.start <= request.start < r.end - 1e-9]
                if self.engine_name == "aws" and (plan.offset or any(r.was_frozen for r in others)):
                    continue  # a hold ends by the clock, whatever has become of who had it
                if len(others) > plan.per_host + sum(r.start <= cleared for r in others):  # those are forgotten, too
                    self.say(
                        "too many at once",
                        f"{host.name} {len(others)} at {request.start:.2f}: {[r.process for r in others]}",
                    )
        if not plan.obeys_robots:
            return
        for request in requests:
            if request.is_robots:
                continue
            if host.has_robots and is_forbidden(request.url):
                self.say("forbidden by robots.txt", request.url)
            just_cleared = JUST_CLEARED_SECONDS + LONGEST_NAP_SECONDS * plan.naps
            if not request.knew_robots and not cleared <= request.start < cleared + just_cleared:
                self.say("asked before robots.txt", request.url)

    def _look_at_recovery(self) -> None:
        """A host that is back is asked again before as much time has passed as it was away, and a little."""
        for host in self.world.hosts.values():
            for outage in host.outages:
                self._look_after(host, outage)

    def _look_after(self, host: Host, outage: Outage) -> None:
        met = [r.start for r in host.requests if outage.start <= r.start < outage.end]
        after = [r.start for r in host.requests if r.start >= outage.end]
        if not met or not after:
            return
        # Rests grow from one outage to the next where no good answer was had between them.
        answered = (r.start for r in host.requests if r.http_status is not None and r.http_status < 500)
        good = max((start for start in answered if start < met[0]), default=-1.0)
        length = outage.end - min(r.start for r in host.requests if good < r.start <= met[0])
        # An operator may give something to do long after there was nothing left.
        plan = self.plan
        is_operated = plan.put_back or plan.orders or plan.reopens or plan.clears or plan.second
        slack = 60.0 + LONGEST_NAP_SECONDS * plan.naps + (4000.0 if is_operated else 0.0)
        slack += plan.world.away + (120.0 if self.kills.done else 0.0) + (60.0 if plan.weather != FAIR else 0.0)
        if not host.trouble and not host.robots_outages and after[0] - outage.end > 2 * length + slack:
            self.say("came back late", f"{host.name} {after[0] - outage.end:.0f} s after an outage of {length:.0f} s")
