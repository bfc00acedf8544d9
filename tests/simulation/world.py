"""Hosts that answer by seed, and a fetcher that asks them. Every request is written down.

What a URL is lies in its path, so that whoever looks at a record afterwards knows what it should say:

    /p3 a page            /gone3 404               /private/3 a page that robots.txt forbids
    /to/3 redirects       /chain/12 in a chain     /loop/0 in a ring     /self redirects to itself
    /deep/7 endless links /poison3 kills whoever fetches it
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from sqspider.record import Reason, reason_for_http_status
from sqspider.transport import Exchange
from sqspider.transport import Request as Sent
from sqspider.url import host_of
from sqspider.web.fetch import NOT_MODIFIED, Fetched, Gate, Wants
from sqspider.web.location import REDIRECT_STATUSES
from sqspider.web.options import FetchOptions

from .loop import CURRENT, VirtualLoop, die, point
from .witness import Witness

CHAIN: Final = 14  # the longest chain; ten redirects in a row are followed
FORBIDDEN: Final = "/private/"
ROBOTS: Final = f"User-agent: *\nDisallow: {FORBIDDEN}\n"

# Trouble in which no request reached the host, and trouble that is an answer or the lack of one.
UNMADE: Final = (Reason.CONNECTION_REFUSED, Reason.CONNECT_TIMEOUT, Reason.NO_ROUTE, Reason.DNS_FAILURE)
MADE: Final = (Reason.TIMEOUT, Reason.CONNECTION_RESET, Reason.SERVER_ERROR)


@dataclass
class Outage:
    """A while in which there is one kind of trouble."""

    start: float  # of the loop's time
    end: float
    reason: Reason


@dataclass
class Request:
    """One request, as the host saw it."""

    url: str
    start: float  # when it left for the host, of the loop's time
    end: float  # when the answer was complete, or whoever asked was gone
    process: str
    reason: Reason | None = None  # what kept it from being a success
    http_status: int | None = None
    knew_robots: bool = False  # whether anybody had had a robots.txt of this host
    frozen_at: list[float] = field(default_factory=list)  # moments at which its process fell asleep

    @property
    def is_robots(self) -> bool:
        return self.url.endswith("/robots.txt")

    @property
    def was_frozen(self) -> bool:
        """Whether its process fell asleep in the midst of it."""
        return any(self.start <= moment < self.end for moment in self.frozen_at)


@dataclass
class Host:
    name: str
    has_robots: bool
    robots_seconds: float  # how long robots.txt takes
    robots_outages: list[Outage]
    outages: list[Outage]  # of all of it
    trouble: float  # the chance that an answer is none, or says no for now
    slow: float  # the chance that an answer takes seconds
    crawl_delay: float
    robots_had: float | None = None  # when anybody first had a robots.txt, or was told that there is none
    requests: list[Request] = field(default_factory=list)

    def outage_at(self, moment: float, *, robots: bool = False) -> Outage | None:
        outages = self.outages + (self.robots_outages if robots else [])
        return next((outage for outage in outages if outage.start <= moment < outage.end), None)


class Answer(NamedTuple):
    seconds: float
    http_status: int | None = None
    reason: Reason | None = None
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class WorldPlan(NamedTuple):
    """What kind of world it is."""

    hosts: int
    pages: int  # numbers of pages a host has
    trouble: float
    outages: float  # the chance that a host is down for a while
    deaths: float  # and for ever
    away: float  # seconds that our own network is down for everybody
    redirects: bool
    poison: int  # pages that kill


class World:
    """Hosts by seed. Each answer depends on the seed, the URL, and how often it was asked for, alone."""

    def __init__(self, loop: VirtualLoop, seed: int, plan: WorldPlan) -> None:
        self.loop, self.seed, self.plan = loop, seed, plan
        rng = random.Random(f"world {seed}")
        self.away = [
            Outage(start := rng.uniform(1, 60), start + plan.away, rng.choice((Reason.NO_ROUTE, Reason.DNS_FAILURE)))
        ]
        self.hosts = {host.name: host for host in (self._host(rng, f"h{i}.test") for i in range(plan.hosts))}
        names = list(self.hosts)
        self.poison = {f"http://{rng.choice(names)}/poison{i}" for i in range(plan.poison)}
        self._asked: dict[str, int] = {}
        self.witness: Witness

    def _host(self, rng: random.Random, name: str) -> Host:
        plan = self.plan
        outages: list[Outage] = []
        start = 0.0
        while rng.random() < plan.outages and len(outages) < 3:
            start += rng.choice((0.0, rng.uniform(0, 60)))
            end = start + rng.choice((rng.uniform(1, 20), rng.uniform(20, 60), rng.uniform(60, 400)))
            outages.append(Outage(start, end, rng.choice(UNMADE + MADE)))
            start = end + rng.uniform(5, 60)
        if rng.random() < plan.deaths:
            # By a reason that cannot be ours: a worker that can ask nobody waits for a day, and ends.
            outages.append(Outage(rng.choice((0.0, rng.uniform(5, 60))), float("inf"), rng.choice(UNMADE[:2] + MADE)))
        robots = rng.choice(("good", "good", "absent", "sick", "slow"))
        robots_outages = []
        if robots == "sick":
            robots_outages = [Outage(0.0, rng.uniform(1, 200), rng.choice((*MADE, Reason.RATE_LIMITED)))]
        return Host(
            name=name,
            has_robots=robots != "absent",
            robots_seconds=rng.uniform(2, 9) if robots == "slow" else 0.05,
            robots_outages=robots_outages,
            outages=outages,
            trouble=plan.trouble * rng.choice((0, 1, 2)),
            slow=rng.choice((0.0, 0.0, 0.2)),
            crawl_delay=rng.choice((0.0, 0.0, 0.0, 3.0)) if robots == "good" else 0.0,
        )

    def seeds(self) -> list[str]:
        return [f"http://{name}/p{i}" for name in self.hosts for i in range(2)] + sorted(self.poison)

    # What is there.

    def links(self, url: str) -> list[str]:
        """Where a page leads."""
        rng = random.Random(f"{self.seed} {url}")
        path = _path(url)
        if path.startswith("/deep/"):
            return [f"http://{host_of(url)}/deep/{int(path[6:]) + 1}"]
        return [self._any_url(rng) for _ in range(rng.choice((1, 1, 2, 3, 4)))]

    def needs(self, url: str) -> list[str]:
        """What a page needs to be shown."""
        rng = random.Random(f"{self.seed} needs {url}")
        return [self._any_url(rng) for _ in range(rng.choice((0, 1, 2)))]

    def target(self, url: str) -> str | None:
        """Where a URL redirects to; none: it does not."""
        path, origin = _path(url), f"http://{host_of(url)}"
        if path.startswith("/to/"):
            return self._any_url(random.Random(f"{self.seed} {url}"))
        if path.startswith("/chain/"):
            left = int(path[7:])
            return f"{origin}/chain/{left - 1}" if left else f"{origin}/p0"
        if path.startswith("/loop/"):
            return f"{origin}/loop/{(int(path[6:]) + 1) % 3}"
        return url if path == "/self" else None

    def _any_url(self, rng: random.Random) -> str:
        kinds = ["p", "p", "p", "p", "p", "private/", "gone", "deep/"]
        if self.plan.redirects:
            kinds += ["to/", "to/", "chain/", "loop/", "self"]
        kind, number = rng.choice(kinds), rng.randrange(self.plan.pages)
        if kind == "chain/":
            number = rng.randrange(CHAIN)
        shown = {"self": "", "loop/": str(number % 3), "deep/": "0"}.get(kind, str(number))
        return f"http://{rng.choice(list(self.hosts))}/{kind}{shown}"

    # Asking.

    def ask(self, url: str) -> Answer:
        """What comes of a request that begins now."""
        host, now = self.hosts[host_of(url)], self.loop.now
        times = self._asked[url] = self._asked.get(url, 0) + 1
        rng = random.Random(f"{self.seed} {url} {times}")
        seconds = rng.choice((0.02, 0.05, 0.05, 0.3, 1.5))
        away = next((outage for outage in self.away if outage.start <= now < outage.end), None)
        is_robots = _path(url) == "/robots.txt"
        if outage := away or host.outage_at(now, robots=is_robots):
            return _trouble(outage.reason, seconds, rng)
        if is_robots:
            if not host.has_robots:
                return Answer(seconds, 404)
            more = f"Crawl-delay: {host.crawl_delay:g}\n" if host.crawl_delay else ""
            return Answer(host.robots_seconds, 200, None, (ROBOTS + more).encode())
        if rng.random() < host.trouble:
            return _trouble(rng.choice((*UNMADE[:2], *MADE, Reason.RATE_LIMITED)), seconds, rng)
        if rng.random() < host.slow:
            seconds = rng.uniform(2, 9.5)
        return self._good(url, seconds, rng)

    def _good(self, url: str, seconds: float, rng: random.Random) -> Answer:
        target = self.target(url)
        if target is not None:
            return Answer(seconds, rng.choice((301, 302, 303, 307, 308)), None, b"", (("Location", target),))
        if _path(url).startswith("/gone"):
            return Answer(seconds, 404)
        body = self.page(url)
        return Answer(seconds, 200, None, body, (("Content-Type", "text/html"), ("ETag", etag_of(body))))

    def page(self, url: str) -> bytes:
        """What a page says, whenever it is asked for."""
        anchors = "".join(f'<a href="{link}">x</a>' for link in self.links(url))
        needs = "".join(f'<img src="{needed}">' for needed in self.needs(url))
        return f"<title>{url}</title>{anchors}{needs}".encode()


def etag_of(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:8]}"'


def _path(url: str) -> str:
    return "/" + url.split("/", 3)[3]


def is_forbidden(url: str) -> bool:
    """Whether the robots.txt of every host that has one forbids it."""
    return _path(url).startswith(FORBIDDEN)


def _trouble(reason: Reason, seconds: float, rng: random.Random) -> Answer:
    retry_after = (("Retry-After", str(rng.randrange(1, 40))),) if rng.random() < 0.3 else ()
    match reason:
        case Reason.SERVER_ERROR:
            return Answer(seconds, rng.choice((500, 502, 503)), None, b"", retry_after)
        case Reason.RATE_LIMITED:
            return Answer(seconds, 429, None, b"", retry_after)
        case Reason.TIMEOUT | Reason.CONNECT_TIMEOUT:
            return Answer(60.0, None, reason)
        case Reason.CONNECTION_REFUSED:
            return Answer(0.001, None, reason)
    return Answer(seconds, None, reason)


def refusal_of_head(seed: int, url: str) -> Answer | None:
    """What a host says to whoever asks by HEAD, if it lies about that."""
    rng = random.Random(f"{seed} head {host_of(url)}")
    if rng.random() < 0.5:
        return None
    http_status = rng.choice((405, 501, 404, 500, None))
    return Answer(0.05, http_status, Reason.CONNECTION_RESET if http_status is None else None)


class SimulatedFetcher:
    """An :class:`sqspider.web.fetch.AnyFetcher` over a world."""

    def __init__(self, world: World, options: FetchOptions) -> None:
        self.options = options
        self._world = world

    def close(self) -> None:
        """There is nothing to be dropped."""

    async def fetch(
        self, url: str, *, gate: Gate | None = None, headers: tuple[str, ...] = (), method: str | None = None,
        wants: Wants | None = None, **_: object,
    ) -> Fetched:  # fmt: skip
        process = CURRENT.get()
        assert process is not None
        world, limit = self._world, self.options.timeout_seconds
        await point()
        if gate is not None and not gate():
            return Fetched(
                url=url, http_status=None, headers=(), body=b"", truncated=False, reason=Reason.INTERNAL_ERROR,
                detail="held", elapsed_seconds=0.0, sent_seconds=0.0, is_held=True,
            )  # fmt: skip
        answer, is_unread = world.ask(url), False
        is_head, is_good = method == "HEAD", answer.reason is None and (answer.http_status or 500) < 400
        if is_head and is_good and (refusal := refusal_of_head(world.seed, url)) is not None:
            answer = refusal
        if wants is not None and not wants(Exchange(Sent(url=url))):
            answer, is_unread = answer._replace(body=b""), True
        if answer.http_status == 200 and f"If-None-Match: {etag_of(answer.body)}" in headers:
            answer = answer._replace(http_status=NOT_MODIFIED, body=b"")
        seconds, reason = answer.seconds, answer.reason
        if seconds >= limit:
            seconds, reason = limit, reason or Reason.TIMEOUT
        if reason is Reason.CONNECT_TIMEOUT:
            seconds = min(5.0, limit)
        target = world.target(url) if answer.http_status in REDIRECT_STATUSES else None
        if reason is None and answer.http_status not in (None, NOT_MODIFIED) and target is None:
            reason = reason_for_http_status(answer.http_status)
        if not url.endswith("/robots.txt"):
            world.witness.requested(process, url)
        request = self._note(url, process.name, seconds, reason, answer)
        request.frozen_at = process.frozen_at
        process.on_death.append(lambda: setattr(request, "end", min(request.end, world.loop.now)))
        if url in world.poison and answer.http_status == 200:
            await asyncio.sleep(0.015)  # what was asked beside it is not answered yet, and is taken along
            process.kills.done += 1
            process.was_poisoned = True
            await die(process)
        started = world.loop.now
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:  # whoever asked is gone, and the connection with him
            request.end = min(request.end, world.loop.now)
            raise
        await point()
        if (
            request.is_robots
            and answer.reason is None
            and (answer.http_status or 500) < 500
            and answer.http_status != 429
        ):
            host = world.hosts[host_of(url)]
            host.robots_had = world.loop.now if host.robots_had is None else host.robots_had
        fetched = fetched_of(url, answer, reason, world.loop.now - started, target)
        if is_unread:
            fetched = msgspec.structs.replace(fetched, is_unread=target is None, is_head=is_head)
        return captured(fetched, answer) if self.options.captures else fetched

    def _note(self, url: str, process: str, seconds: float, reason: Reason | None, answer: Answer) -> Request:
        host, now = self._world.hosts[host_of(url)], self._world.loop.now
        status = None if reason is Reason.TIMEOUT else answer.http_status
        request = Request(url, now, now + seconds, process, reason, status, host.robots_had is not None)
        host.requests.append(request)
        return request


def captured(fetched: Fetched, answer: Answer) -> Fetched:
    """A result with what an archive keeps of it."""
    exchange = Exchange(Sent(url=fetched.url, keeps_request_head=True))
    exchange.http_status = fetched.http_status
    payload = answer.body if fetched.http_status is not None else b""
    return msgspec.structs.replace(fetched, exchange=exchange, payload=payload)


def fetched_of(url: str, answer: Answer, reason: Reason | None, seconds: float, target: str | None) -> Fetched:
    """An answer as a fetcher gives it."""
    has_answer = answer.http_status is not None and reason is not Reason.TIMEOUT
    return Fetched(
        url=url,
        http_status=answer.http_status if has_answer else None,
        headers=answer.headers if has_answer else (),
        body=answer.body if has_answer and reason is None else b"",
        truncated=False,
        reason=reason,
        detail=f"simulated: {reason}" if reason else "",
        elapsed_seconds=seconds,
        sent_seconds=0.0,
        redirect_to=target if has_answer else None,
    )
