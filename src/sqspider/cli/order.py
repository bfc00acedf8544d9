"""What `crawl` and `enqueue` want of a crawl: the row is made, changed, or left as it is; and why it is refused."""

from __future__ import annotations

import random
from typing import Any, Final, NamedTuple

import click
import msgspec

from sqspider.cli import consent
from sqspider.cli.changes import changes_of, words_of
from sqspider.cli.config_file import ConfigFile, config_for, whole
from sqspider.cli.said import NEW, checked_said, identity_said, said_in, with_links, with_origins, with_said
from sqspider.cli.shared import Shared
from sqspider.crawl import Crawl, Identity, State
from sqspider.frontier import Frontier
from sqspider.log import get_logger
from sqspider.record import DEFAULT_CRAWL, record_key
from sqspider.url import Scope
from sqspider.widening import widened
from sqspider.work.crawl_orders import (
    BeingRemovedError,
    ChangedMeanwhileError,
    change_crawl,
    crawl_named,
    make_crawl,
    new_id,
    removal_of,
)

log = get_logger(__name__)

MOST_SEEDS: Final = 100  # that a row names, for a person


class Order(NamedTuple):
    """What a command line says of a crawl."""

    name: str
    said: dict[str, Any]  # by the user, now
    config: ConfigFile | None = None  # it makes a crawl; one that is there is changed by what is said alone
    scope: Scope = Scope.HOST  # of a crawl that is new
    urls: tuple[str, ...] = ()  # in canonical form
    has_more: bool = False  # URLs come from a file or sitemap, too
    is_run: bool = False  # the crawl is to run here, and now
    is_kept: bool = True  # it can go on in another process

    @classmethod
    def read(cls, context: click.Context, **more: Any) -> Order:
        """From a command's own options. Raises ``click.UsageError``."""
        name, config = context.params["crawl"], None
        if "config" in context.params:
            config = config_for(context, context.params["config"], name)
        order = cls(name or (config and config.crawl) or DEFAULT_CRAWL, said_in(context), config, **more)
        checked_said(order.spoken)
        return order

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


async def prepared(frontier: Frontier, order: Order) -> Prepared | None:
    """Make or change the row; none if there is none, and no URL to make it for.

    Raises ``click.UsageError`` for what is refused; then nothing was changed.
    """
    before = await crawl_named(frontier, order.name)
    try:
        if before is None:
            return await _made(frontier, order) if order.urls or order.has_more else None
        return await _changed(frontier, order, before)
    except ChangedMeanwhileError as error:
        raise click.ClickException(str(error)) from None


async def _made(frontier: Frontier, order: Order) -> Prepared:
    blank = Crawl(
        name=order.name,
        id=new_id(random.SystemRandom()),
        settings=msgspec.structs.replace(NEW.settings, scope=order.scope),
        seeds=order.urls[:MOST_SEEDS],
        created_at=frontier.now(),
    )
    said = with_links(order.spoken, order.scope)
    made = with_said(blank, with_origins(said, blank, order.urls))
    _remember(order, made)
    return Prepared(None, await make_crawl(frontier, made))


async def _changed(frontier: Frontier, order: Order, before: Crawl) -> Prepared:
    said = with_origins(with_links(order.said, before.settings.scope), before, order.urls)
    wanted = with_said(before, said)
    if wanted != before and await _has_others(frontier, order) and (await frontier.counts(crawl=order.name)).open:
        raise _other_seeds(order, changes_of(before, wanted))
    if consent.is_allowed(wanted.identity, before, order.identity):
        _remember(order, wanted)
    elif order.is_run:
        raise _not_allowed(wanted)

    now = frontier.now()

    def change(crawl: Crawl) -> Crawl:
        changed = widened(crawl, with_said(crawl, said), now)
        return msgspec.structs.replace(changed, state=State.RUNNING) if order.is_run else changed

    after = await change_crawl(frontier, before, change)
    if order.is_run and before.state is not State.RUNNING:
        await frontier.unpark(after.ref)
    return Prepared(before, after)


def _remember(order: Order, crawl: Crawl) -> None:
    """What a crawl asks for is allowed when it goes on here, too."""
    if order.is_kept and (why := consent.allow(crawl)):
        log.warning("not_remembered", crawl=crawl.name, why=why, say_again=consent.asked_for(crawl.identity))


def _not_allowed(crawl: Crawl) -> click.UsageError:
    asked = consent.asked_for(crawl.identity)
    return click.UsageError(
        f"the crawl {crawl.name} asks for {asked}, and nobody said so on this machine: its row may be written by "
        f"whoever can write to the frontier. If you mean it, say it: sqspider crawl --crawl {crawl.name} {asked}"
    )


async def _has_others(frontier: Frontier, order: Order) -> bool:
    """Whether a URL is given that the crawl does not know; of those that are not read yet it is taken for so."""
    if order.has_more:
        return True
    keys = [record_key(url, order.name) for url in order.urls]
    return len(await frontier.get(keys)) < len(set(keys))


def _other_seeds(order: Order, changes: list[str]) -> click.UsageError:
    return click.UsageError(
        f"the crawl {order.name} is not finished, and these are other URLs with other options ({'; '.join(changes)}). "
        f"--crawl NAME makes another crawl of them; `sqspider crawls set {order.name}` changes this one."
    )


def config_note(order: Order, crawl: Crawl) -> str | None:
    """What to say of a file that a crawl was made by, and that says something else now."""
    if order.config is None:
        return None
    wanted = with_said(crawl, whole(with_origins(order.config.said, crawl, ())))
    changes = changes_of(crawl, wanted)
    if not changes:
        return None
    return (
        f"{order.config.path} says otherwise than the crawl {crawl.name} ({'; '.join(changes)}), and was not applied: "
        f"`sqspider crawls set {crawl.name} --config {order.config.path}` does it"
    )


def added_note(crawl: Crawl, number: int) -> str | None:
    """How what is added to a crawl is treated, where that is not as by default."""
    words = words_of(crawl)
    if not words or not number:
        return None
    these = "it" if number == 1 else "they"
    return f"{number:,} added to the crawl {crawl.name}: as all of it {these} go by {'; '.join(words)}"


async def no_crawl(frontier: Frontier, name: str) -> click.UsageError:
    """That there is no crawl of this name, and which there are."""
    if await removal_of(frontier, name):
        return click.UsageError(str(BeingRemovedError(name)))
    names = [row.name for row in await frontier.crawls()]
    there = f"There are: {', '.join(names)}." if names else "There is none."
    return click.UsageError(f"{frontier.place} holds no crawl {name}. {there}")


def go_on(shared: Shared, name: str, command: str = "crawl") -> str:
    """The command line that goes on with a crawl."""
    where = f" --frontier {shared.address}" if shared.address is not None else ""
    which = f" --crawl {name}" if name != DEFAULT_CRAWL else ""
    return f"sqspider{where} {command}{which}"
