"""An order for a crawl: its row is made, changed, or left as it is; and why it is refused.

An order is given by a command line, or by Python; each says in its own words why it was refused.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from sqspider.crawl_row import Crawl, Identity, State
from sqspider.frontier import Frontier
from sqspider.log import get_logger
from sqspider.orders import consent
from sqspider.orders.changes import changes_of
from sqspider.orders.said import NEW, identity_said, with_links, with_names_of, with_origins, with_said
from sqspider.record import record_key
from sqspider.url import Scope
from sqspider.widening import widened
from sqspider.work.crawl_orders import ChangedMeanwhileError, change_crawl, crawl_named, make_crawl, new_id

log = get_logger(__name__)

Asked = Callable[[Crawl], Awaitable[None]]

MOST_SEEDS: Final = 100  # that a row names, for a person


class OtherSeedsError(ValueError):
    """Other URLs were given with other options, and the crawl is not finished: it is another crawl that is meant, or a
    change of this one."""

    def __init__(self, name: str, changes: list[str]) -> None:
        super().__init__(name, changes)
        self.what = f"the crawl {name} is not finished, and these are other URLs with other options"
        self.name = name
        self.changes = "; ".join(changes)


class NotSaidError(ValueError):
    """A row asks for what goes beyond the ordinary, and nobody said so on this machine."""

    def __init__(self, crawl: Crawl) -> None:
        super().__init__(crawl.name)
        self.why = "nobody said so on this machine: its row may be written by whoever can write to the frontier"
        self.name = crawl.name
        self.identity = crawl.identity


class ConfigFile(NamedTuple):
    """What a file says of a crawl."""

    path: Path
    crawl: str | None  # the name
    urls: tuple[str, ...]
    said: dict[str, Any]  # by the options' names
    extract: dict[str, Any] | None = None  # its table of that name: rules, for who extracts while it crawls


class Order(NamedTuple):
    """What is said of a crawl."""

    name: str
    said: dict[str, Any]  # by the user, now
    config: ConfigFile | None = None  # it makes a crawl; one that is there is changed by what is said alone
    scope: Scope = Scope.HOST  # of a crawl that is new
    urls: tuple[str, ...] = ()  # in canonical form
    has_more: bool = False  # URLs come from elsewhere, too: a file, a sitemap
    is_run: bool = False  # the crawl is to run here, and now
    is_kept: bool = True  # it can go on in another process
    secrets_folder: str | None = None  # of a run: where the files of ``file:NAME`` lie

    @property
    def spoken(self) -> dict[str, Any]:
        """What the user says, he himself or by his file."""
        return {**(self.config.said if self.config else {}), **self.said}

    @property
    def identity(self) -> Identity:
        """What was said here of how a crawl fetches, by the user or by the file that he named."""
        return identity_said(self.spoken, self.urls)


class Prepared(NamedTuple):
    """A crawl's row after an order."""

    before: Crawl | None  # none: it is new
    crawl: Crawl

    @property
    def changes(self) -> list[str]:
        return changes_of(self.before, self.crawl) if self.before else []


async def _nobody_asks(_: Crawl) -> None:
    pass


async def prepared(frontier: Frontier, order: Order, ask_first: Asked = _nobody_asks) -> Prepared | None:
    """Make or change the row; none if there is none, and no URL to make it for. ``ask_first`` is told a row before
    it is written, if it lets something in again, and raises what is to keep that from happening.

    Raises :class:`OtherSeedsError`, :class:`NotSaidError` and as :func:`sqspider.orders.said.with_said` for what is
    refused, ``ValueError`` also for what a run cannot have here, such as a secret, :class:`ChangedMeanwhileError` where
    somebody else has said something else at the same moment; then nothing was changed.
    """
    before = await crawl_named(frontier, order.name)
    if before is None and not order.urls and not order.has_more:
        return None
    if before is not None:
        order = order._replace(said=with_names_of(order.said, before))
    wanted = _made(frontier, order) if before is None else _changed(order, before)
    try:
        if before is None:
            _check_start(order, wanted)
            _remember(order, wanted)
            return Prepared(None, await make_crawl(frontier, wanted))
        return await _change(frontier, order, before, wanted, ask_first)
    except ChangedMeanwhileError:
        found = await crawl_named(frontier, order.name)
        if found is None or _says(found) != _says(with_said(wanted, with_names_of(order.spoken, found))):
            raise
        _remember(order, found)  # by the same order, given elsewhere: its id is another
        return Prepared(found, found)


def _made(frontier: Frontier, order: Order) -> Crawl:
    """The row of a crawl that is new."""
    blank = Crawl(
        name=order.name,
        id=new_id(random.SystemRandom()),
        settings=msgspec.structs.replace(NEW.settings, scope=order.scope),
        seeds=order.urls[:MOST_SEEDS],
        created_at=frontier.now(),
    )
    said = with_links(order.spoken, order.scope)
    return with_said(blank, with_origins(said, blank, order.urls))


def _changed(order: Order, before: Crawl) -> Crawl:
    """A row as an order says it."""
    said = with_origins(with_links(order.said, before.settings.scope), before, order.urls)
    return with_said(before, said)


async def _change(frontier: Frontier, order: Order, before: Crawl, wanted: Crawl, ask_first: Asked) -> Prepared:
    if wanted != before and await _has_others(frontier, order) and (await frontier.counts(crawl=order.name)).open:
        raise OtherSeedsError(order.name, changes_of(before, wanted))
    is_allowed, now = consent.is_allowed(wanted.identity, before, order.identity), frontier.now()
    if order.is_run and not is_allowed:
        raise NotSaidError(wanted)
    _check_start(order, wanted)
    if (wider := widened(before, wanted, now)).widening is not None:
        await ask_first(wider)
    if is_allowed:
        _remember(order, wanted)

    def change(crawl: Crawl) -> Crawl:
        changed = widened(crawl, _changed(order, crawl), now)
        seeds = tuple(dict.fromkeys((*changed.seeds, *order.urls)))[:MOST_SEEDS]
        changed = msgspec.structs.replace(changed, seeds=seeds)
        return msgspec.structs.replace(changed, state=State.RUNNING) if order.is_run else changed

    after = await change_crawl(frontier, before, change)
    if order.is_run and before.state is not State.RUNNING:
        await frontier.unpark(after.ref)
    return Prepared(before, after)


def _check_start(order: Order, wanted: Crawl) -> None:
    """Raise ``ValueError`` where the crawl is to run here and something that its row asks for cannot be had: before
    the row says otherwise."""
    if order.is_run:
        from sqspider.orders.start import start_of  # here: who only enqueues needs none

        start_of(wanted, order.secrets_folder)


def _says(crawl: Crawl) -> Any:
    return crawl.state, crawl.settings, crawl.identity, crawl.limits


def _remember(order: Order, crawl: Crawl) -> None:
    if order.is_kept:
        remember(crawl)


def remember(crawl: Crawl) -> None:
    """What a crawl asks for is allowed when it goes on here, too; it is said if that cannot be noted."""
    if why := consent.allow(crawl):
        log.warning("not_remembered", crawl=crawl.name, why=why, say_again=consent.asked_for(crawl.identity))


async def _has_others(frontier: Frontier, order: Order) -> bool:
    """Whether a URL is given that the crawl does not know; of those that are not read yet it is taken for so."""
    if order.has_more:
        return True
    keys = [record_key(url, order.name) for url in order.urls]
    return len(await frontier.get(keys)) < len(set(keys))


async def none_named(frontier: Frontier, name: str) -> str:
    """That there is no crawl of this name, and which there are."""
    names = [row.name for row in await frontier.crawls()]
    there = f"There are: {', '.join(names)}." if names else "There is none."
    return f"{frontier.place} holds no crawl {name}. {there}"
