"""What would become of a URL, and by which rule: asked of a frontier alone. Nothing is fetched or written here.

The rules are those by which a worker judges, in the order in which it asks them; what only the page says on which a
URL stands (``nofollow``, ``<base>``) is not looked at.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from sqspider.crawl_row import Crawl, State
from sqspider.crawl_settings import CrawlSettings, compiled
from sqspider.export import iso
from sqspider.frontier import Hosts, Looking, RobotsRow
from sqspider.frontier.port import Crawls
from sqspider.frontier.shares import Run, run_of
from sqspider.host import HostRow, delay_for
from sqspider.host_trouble import Stage, as_of, stage_of
from sqspider.patterns import Search, TooSlowError
from sqspider.politeness.robots_fetch import KnownRules
from sqspider.politeness.robots_judge import ruled
from sqspider.politeness.verdicts import given_up
from sqspider.record import DEFAULT_CRAWL, Outcome, Reason, Status, UrlRecord, record_key
from sqspider.report import HostReport
from sqspider.scope import TOO_LONG, Blocked, Measure, distance, is_to_be_checked, site_of, trap_in
from sqspider.url import Scope, host_of, is_cut, origin_of
from sqspider.web.errors import Trouble
from sqspider.web.guard import check_url
from sqspider.web.options import FetchOptions
from sqspider.web.robots_rules import RobotsRules
from sqspider.work.budgets import has_budget, most_of_host, used_up
from sqspider.work.fetchers import robots_place
from sqspider.work.limits import limit_reached, spent_of
from sqspider.work.options import WorkerOptions
from sqspider.work.seeding import is_measured

MOST_PARENTS: Final = 1000  # that are walked up to a seed
_GRACE_SECONDS: Final = WorkerOptions(worker_id="none").robots_grace_seconds


class Explainable(Looking, Hosts, Crawls, Protocol):
    """What is read of a frontier here."""


class NotKnownError(ValueError):
    """The page on which a URL is said to stand has no record; the text says so."""


class Fate(enum.StrEnum):
    """What becomes of a URL."""

    FETCHED = "fetched"  # when its host's turn comes
    CHECKED = "checked"  # then it is asked whether it is there, and not gone into
    WAITS = "waits"  # for somebody's word, or a moment that is known
    BLOCKED = "blocked"  # it is recorded, and ends unfetched
    LEFT_OUT = "left out"  # a link to it is not followed: it is not recorded
    FINISHED = "finished"  # it has been: nothing more is done


class Step(NamedTuple):
    """One rule, and what it says of the URL."""

    rule: str
    says: str
    fate: Fate | None = None  # that it decides, unless one before it does; none: it lets the URL pass
    reason: Reason | None = None  # if blocked


class Explanation(NamedTuple):
    """What would become of a URL."""

    url: str
    crawl: str  # the name of the one that was asked about
    steps: tuple[Step, ...]
    is_check: bool = False  # it lies outside of the scope, and that is checked

    @property
    def decided(self) -> Step | None:
        """The rule that decides; none: nothing keeps it from being fetched."""
        return next((step for step in self.steps if step.fate is not None), None)

    @property
    def fate(self) -> Fate:
        decided = self.decided
        if decided is None or decided.fate is None:
            return Fate.CHECKED if self.is_check else Fate.FETCHED
        return decided.fate

    @property
    def is_asked_for(self) -> bool:
        """Nothing keeps a request from being made for it."""
        return self.decided is None

    def as_json(self) -> dict[str, Any]:
        """The same for a program; these names do not change."""
        decided = self.decided
        return {
            "url": self.url,
            "crawl": self.crawl,
            "fate": self.fate.value,
            "rule": decided.rule if decided else None,
            "reason": decided.reason.value if decided and decided.reason else None,
            "detail": decided.says if decided else None,
            "steps": [
                {"rule": step.rule, "says": step.says, "fate": step.fate.value if step.fate else None}
                for step in self.steps
            ],
        }


class Terms(NamedTuple):
    """By what a URL is judged."""

    settings: CrawlSettings
    crawl: Crawl | None = None  # whose row has them; none: they are a loose URL's own
    found_on: str | None = None  # the page that has a link to it; none: that is not said
    fetch: FetchOptions = FetchOptions()  # how a loose URL is fetched
    robots_now: RobotsRow | str | None = None  # what was asked for just now, or why not; none: what is kept counts
    is_requisite: bool = False  # that page needs it to be shown

    @property
    def name(self) -> str:
        return self.crawl.name if self.crawl else DEFAULT_CRAWL


async def explanation_of(frontier: Explainable, url: str, terms: Terms) -> Explanation:
    """What would become of a canonical URL. Raises :class:`NotKnownError`, and :class:`FrontierError`."""
    key = record_key(url, terms.name)
    record = (await frontier.get([key])).get(key)
    steps, is_check = [_known(record, terms.settings)], False
    if steps[0].fate is None:
        steps += await _of_crawl(frontier, terms)
        of_link = await _of_link(frontier, url, terms, record)
        is_check = of_link == [_CHECK]
        steps += of_link
        if is_cut(url):
            steps.append(_blocked("length", TOO_LONG))
        if trap := trap_in(url, terms.settings):
            steps.append(_blocked("trap", trap))
        if terms.settings.only and not is_check:
            steps.append(_of_type(terms.settings))
        steps += await _of_host(frontier, url, terms, record)
    return Explanation(url, terms.name, tuple(steps), is_check)


def _known(record: UrlRecord | None, settings: CrawlSettings) -> Step:
    if record is None:
        return Step("record", "it is not known yet")
    if record.unreadable:
        return Step("record", record.unreadable, Fate.WAITS)
    outcome = record.outcome
    if record.status.is_final:
        told = f"{outcome.reason}: {outcome.detail}" if outcome and outcome.reason else _answer(record)
        why = f" ({told})" if told else ""
        how = f"; {_distance_of(record)}" if record.is_requisite else ""
        unkept = _why_unkept(outcome, settings) if outcome else ""
        return Step("record", f"it is {record.status} since {iso(record.finished_at)}{why}{how}{unkept}", Fate.FINISHED)
    how = _distance_of(record)
    if record.status is Status.PROCESSING:
        until = iso(record.lease_until)
        return Step("record", f"{record.worker_id} works on it, and has it until {until}; {how}")
    tried = f", tried {record.tries} times" if record.tries else ""
    return Step("record", f"it is queued since {iso(record.enqueued_at)}{tried}; {how}")


def _distance_of(record: UrlRecord) -> str:
    if record.is_requisite:
        return f"needed to be shown, by {record.parent}" if record.parent else distance(record.depth)
    return distance(record.depth) if record.depth else "given by itself, or where such a one led"


def _answer(record: UrlRecord) -> str:
    outcome = record.outcome
    if outcome is None or outcome.http_status is None:
        return ""
    return ", ".join(filter(None, (f"HTTP {outcome.http_status}", outcome.content_type)))


def _why_unkept(outcome: Outcome, settings: CrawlSettings) -> str:
    """Why nothing is kept of what is done, where its type says so."""
    media_type = outcome.content_type or ""
    if outcome.status is not Status.DONE or not outcome.is_page or not media_type or settings.keeps(media_type):
        return ""
    if outcome.unkept and outcome.detail:
        return f"; {outcome.detail}"
    wanted, option = (settings.keep, "keep") if settings.wants(media_type) else (settings.only, "only")
    return f"; read, and not kept: the crawl has --{option} {', '.join(wanted)}"


def _of_type(settings: CrawlSettings) -> Step:
    """What type it is nobody knows before it is asked for."""
    read = "pages are read for their links" + (", stylesheets for what they need" if settings.assets else "")
    return Step("only", f"kept if it is {' or '.join(settings.only)}; {read}, and all else is let go after its head")


def _blocked(rule: str, verdict: Blocked) -> Step:
    return Step(rule, verdict.detail, Fate.BLOCKED, verdict.reason)


async def _of_crawl(frontier: Explainable, terms: Terms) -> list[Step]:
    crawl = terms.crawl
    if crawl is None:
        return []
    if crawl.state is not State.RUNNING:
        return [Step("crawl", f"{terms.name} is {crawl.state}", Fate.WAITS)]
    reached = await limit_reached(frontier, crawl, await spent_of(frontier, crawl), frontier.now())
    return [] if reached is None else [Step("crawl", f"{terms.name} rests: {reached.told_of(terms.name)}", Fate.WAITS)]


# What lies within the crawl: rules for links alone, and for what was recorded of a crawl that is narrower by now.


async def _of_link(frontier: Explainable, url: str, terms: Terms, record: UrlRecord | None) -> list[Step]:
    depth = await _depth(frontier, terms, record)
    is_seed = record is not None and record.depth == 0
    if is_seed or (terms.crawl is None and terms.found_on is None):
        return []  # whoever gave it wants it; and what a loose URL is recorded by has been asked before
    settings = terms.settings
    is_recorded = record is not None or (terms.crawl is not None and settings.keep_skipped)
    fate = Fate.BLOCKED if is_recorded else Fate.LEFT_OUT
    if terms.is_requisite if record is None else record.is_requisite:
        return _of_requisite(url, settings, fate)
    measure = await _measure(frontier, url, terms)
    try:
        if terms.crawl is not None and is_to_be_checked(url, depth or 0, settings, measure):
            return [_CHECK]
    except TooSlowError as error:
        return [Step("patterns", str(error), fate)]
    steps = [_depth_step(depth, settings, fate), _scope_step(url, settings, measure, fate)]
    if settings.assets and terms.crawl is not None:
        steps.append(_IF_REQUISITE)
    return steps + _pattern_steps(url, settings, fate)


def _of_requisite(url: str, settings: CrawlSettings, fate: Fate) -> list[Step]:
    """Neither scope nor depth hold for it."""
    if not settings.assets:
        return [
            Step("assets", "needed by a page to be shown: the crawl does not fetch such", fate, Reason.OUT_OF_SCOPE)
        ]
    return [_REQUISITE, *_pattern_steps(url, msgspec.structs.replace(settings, include=()), fate)]


_REQUISITE: Final = Step("assets", "needed by a page to be shown: it is fetched, and not gone into")
_IF_REQUISITE: Final = Step(
    "assets", "a link is meant here; where a page needs it to be shown it is fetched, wherever it lies"
)
_CHECK: Final = Step("scope", "outside: it is asked once whether it is there, and not gone into")


async def _depth(frontier: Explainable, terms: Terms, record: UrlRecord | None) -> int | None:
    if record is not None:
        return record.depth
    if terms.found_on is None:
        return None
    key = record_key(terms.found_on, terms.name)
    page = (await frontier.get([key])).get(key)
    if page is None:
        raise NotKnownError(f"{terms.found_on} is not known, so it cannot be told how far its links are from a seed")
    if page.is_requisite:
        raise NotKnownError(
            f"{terms.found_on} is needed by a page to be shown, and is not gone into: its links say nothing"
        )
    return page.depth + 1


def _depth_step(depth: int | None, settings: CrawlSettings, fate: Fate) -> Step:
    most = settings.max_depth
    if most is None:
        return Step("depth", "links are followed however far")
    if depth is None:
        return Step("depth", f"at most {distance(most)}: the page that has the link, --from, says how far it is")
    return Step(
        "depth",
        f"{distance(depth)}, of at most {most}",
        fate if depth > most else None,
        Reason.DEPTH_LIMIT if depth > most else None,
    )


async def _measure(frontier: Explainable, url: str, terms: Terms) -> Measure:
    """From where the scope is measured: from the crawl's seeds, or from the one that led to the page."""
    scope = terms.settings.scope
    if terms.crawl is None:
        return Measure.of(terms.settings, terms.settings.seed or await _seed_above(frontier, terms.found_on or url))
    sites = await frontier.seeds(terms.crawl.ref, [site_of(url, scope)]) if is_measured(scope) else {}
    return Measure(scope, "", sites)


async def _seed_above(frontier: Looking, url: str) -> str:
    for _ in range(MOST_PARENTS):
        record = (await frontier.get([url])).get(url)
        if record is None or record.depth == 0 or record.parent is None:
            break
        url = record.parent
    return url


def _scope_step(url: str, settings: CrawlSettings, measure: Measure, fate: Fate) -> Step:
    scope = settings.scope
    if scope is Scope.PAGE:
        return Step("scope", "no links are followed (page)", fate, Reason.OUT_OF_SCOPE)
    if measure.holds(url):
        return Step("scope", f"within ({scope})")
    seed = f", measured from {measure.seed}" if measure.seed else ", measured from the crawl's seeds"
    return Step("scope", f"outside ({scope}{seed})", fate, Reason.OUT_OF_SCOPE)


def _pattern_steps(url: str, settings: CrawlSettings, fate: Fate) -> list[Step]:
    steps = list[Step]()
    try:
        with Search().limited():
            if settings.include:
                found = _first_in(url, settings.include)
                says = _match_words(found, settings.include)
                steps.append(Step("include", says, None if found else fate, None if found else Reason.EXCLUDED))
            if settings.exclude:
                found = _first_in(url, settings.exclude)
                says = _match_words(found, settings.exclude)
                steps.append(Step("exclude", says, fate if found else None, Reason.EXCLUDED if found else None))
    except TooSlowError as error:
        steps.append(Step("patterns", str(error), fate))
    return steps


def _match_words(found: str | None, expressions: Sequence[str]) -> str:
    if found is not None:
        return f"matches {found}"
    return (
        f"matches none of {len(expressions)} patterns" if len(expressions) > 1 else f"does not match {expressions[0]}"
    )


def _first_in(url: str, expressions: Sequence[str]) -> str | None:
    found = zip(expressions, compiled(tuple(expressions)), strict=True)
    return next((expression for expression, pattern in found if pattern.search(url)), None)


# Its host.


async def _of_host(frontier: Explainable, url: str, terms: Terms, record: UrlRecord | None) -> list[Step]:
    host, now = host_of(url), frontier.now()
    row = as_of((await frontier.hosts([host]))[host], now)
    steps = [_host_step(row, now), *_address_steps(url, terms)]
    steps.append(await _robots_step(frontier, url, terms, now))
    if has_budget(terms.settings):
        steps.append(await _budget_step(frontier, host, terms, record))
    delay = delay_for(row, terms.settings)
    ahead = f"; the next free moment is {iso(row.next_slot)}" if row.next_slot > now else ""
    steps.append(Step("turn", f"{host} is asked every {delay:g} s{ahead}" if delay else f"{host} is asked at once"))
    return steps


async def _budget_step(frontier: Explainable, host: str, terms: Terms, record: UrlRecord | None) -> Step:
    if record is not None and record.kept is not None and record.kept.was_counted:
        return Step("budget", f"{host} counted it at a visit before")
    run = run_of(terms.crawl.ref if terms.crawl else None, host)
    spent = (await frontier.runs([run])).get(run, Run()).all_spent
    verdict = used_up(host, spent, most_of_host(terms.settings))
    return _blocked("budget", verdict) if verdict else Step("budget", f"there is some of {host} left")


def _host_step(row: HostRow, now: float) -> Step:
    said = HostReport(row, now).words
    if row.is_blocked:
        return Step("host", f"{row.host} is blocked by the operator", Fate.BLOCKED, Reason.HOST_BLOCKED)
    if stage_of(row, now) is Stage.GIVEN_UP:
        return _blocked("host", given_up(row))
    if row.is_paused:
        return Step("host", f"{row.host} is paused by the operator", Fate.WAITS)
    return Step(
        "host", f"{row.host}: {said}" if said else f"{row.host} is well", Fate.WAITS if row.rest_until > now else None
    )


def _address_steps(url: str, terms: Terms) -> Iterator[Step]:
    """What is seen from the URL itself. What a name leads to is seen when it is asked for."""
    asks = terms.crawl.identity if terms.crawl else terms.fetch
    try:
        check_url(url, allow_private=asks.allow_private, allow_any_port=asks.allow_any_port)
    except Trouble as trouble:
        yield _blocked("address", Blocked(trouble.reason, trouble.detail))


async def _robots_step(frontier: Explainable, url: str, terms: Terms, now: float) -> Step:
    if not terms.settings.obey_robots:
        return Step("robots.txt", "is not obeyed in this crawl")
    origin, token, place = origin_of(url), _fetch_of(terms).product_token, robots_place(url, terms.crawl)
    fetched = terms.robots_now if isinstance(terms.robots_now, RobotsRow) else None
    row = fetched or (await frontier.robots([place])).get(place)
    unasked = f"; just now it was not had: {terms.robots_now}" if isinstance(terms.robots_now, str) else ""
    if row is None or not row.fetched_at:
        return Step("robots.txt", f"that of {origin} is not known: it is asked for first{unasked}")
    said = ruled(KnownRules(row, _rules(row.body, token), 0), url, token, now=now, grace_seconds=_GRACE_SECONDS)
    old = "" if row.expires_at > now else f"; it is asked for anew, for it was fetched at {iso(row.fetched_at)}"
    how = "; asked for just now" if fetched else f"{old}{unasked}"
    if isinstance(said, float):
        return Step("robots.txt", f"that of {origin} cannot be had: {row.detail}{how}", Fate.WAITS)
    if said is not None:
        return _blocked("robots.txt", said._replace(detail=f"{said.detail}{how}"))
    return Step("robots.txt", f"allows {token} to fetch it{how}")


@lru_cache(maxsize=32)  # for who asks about all links of a page
def _rules(body: bytes, token: str) -> RobotsRules:
    return RobotsRules.parse(body).prepare(token)


def _fetch_of(terms: Terms) -> FetchOptions:
    """As whom it is fetched, as far as that matters to robots.txt."""
    agent = terms.crawl.identity.user_agent if terms.crawl else None
    return terms.fetch if agent is None else msgspec.structs.replace(terms.fetch, user_agent=agent)
