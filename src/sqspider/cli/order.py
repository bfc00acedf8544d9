"""What `crawl` and `enqueue` want of a crawl, as they were told it; and in their words why it is refused."""

from __future__ import annotations

import shlex
from functools import partial
from typing import Any

import click

from sqspider.cli.config_file import config_for, whole
from sqspider.cli.options import checked
from sqspider.cli.said import checked_said, said_in, with_origins, with_said
from sqspider.cli.shared import Shared
from sqspider.cli.widening import ask_first
from sqspider.cli.wording import counted
from sqspider.crawl_row import Crawl
from sqspider.frontier import Frontier
from sqspider.orders import consent, order
from sqspider.orders.changes import changes_of, words_of
from sqspider.orders.order import ConfigFile, NotSaidError, Order, OtherSeedsError, Prepared, none_named
from sqspider.record import DEFAULT_CRAWL
from sqspider.work.crawl_orders import BeingRemovedError, ChangedMeanwhileError, crawl_named, removal_of


def order_from(context: click.Context, **more: Any) -> Order:
    """An order from a command's own options. Raises ``click.UsageError``."""
    name, config = context.params["crawl"], None
    if "config" in context.params:
        config = config_for(context, context.params["config"], name)
    given = Order(name or (config and config.crawl) or DEFAULT_CRAWL, said_in(context), config, **more)
    checked_said(given.spoken)
    return given


async def prepared(frontier: Frontier, wanted: Order, *, yes: bool = False) -> Prepared | None:
    """Make or change the row; none if there is none, and no URL to make it for. Unless ``yes`` was said, it is asked
    first whether what a wider limit lets in is to be brought back, where that costs money.

    Raises ``click.UsageError`` for what is refused, and ``click.Abort`` where the answer was no; then nothing was
    changed.
    """
    asking = () if yes else (partial(ask_first, frontier),)
    with checked():
        try:
            return await order.prepared(frontier, wanted, *asking)
        except OtherSeedsError as error:
            raise click.UsageError(
                f"{error.what} ({error.changes}). --crawl NAME makes another crawl of them; "
                f"`sqspider crawls set {error.name}` changes this one."
            ) from None
        except NotSaidError as error:
            asked = consent.asked_for(error.identity)
            raise click.UsageError(
                f"the crawl {error.name} asks for {asked}, and {error.why}. If you mean it, say all of that, too: "
                f"{asked}"
            ) from None
        except ChangedMeanwhileError as error:
            raise click.ClickException(str(error)) from None


def config_note(config: ConfigFile | None, crawl: Crawl) -> str | None:
    """What to say of a file that a crawl was made by, and that says something else now."""
    if config is None:
        return None
    wanted = with_said(crawl, whole(with_origins(config.said, crawl, ())))
    changes = changes_of(crawl, wanted)
    if not changes:
        return None
    return (
        f"{config.path} says otherwise than the crawl {crawl.name} ({'; '.join(changes)}), and was not applied: "
        f"`sqspider crawls set {crawl.name} --config {config.path}` does it"
    )


def added_note(crawl: Crawl, number: int) -> str | None:
    """How what is added to a crawl is treated, where that is not as by default."""
    words = words_of(crawl)
    if not words or not number:
        return None
    were, go = ("URL was", "it goes") if number == 1 else ("URLs were", "they go")
    return f"{number:,} {were} added to the crawl {crawl.name}, by whose options {go}: {'; '.join(words)}"


async def no_crawl(frontier: Frontier, name: str) -> click.UsageError:
    """That there is no crawl of this name, and which there are."""
    if await removal_of(frontier, name):
        return click.UsageError(str(BeingRemovedError(name)))
    if name == DEFAULT_CRAWL and (loose := (await frontier.counts(crawl=name)).total):
        return click.UsageError(
            f"{frontier.place} holds no crawl {name}, but {counted(loose, 'URL', 'URLs')} without one: "
            "put in by themselves, they go by no options that could be shown or changed."
        )
    return click.UsageError(await none_named(frontier, name))


async def row_if_named(frontier: Frontier, name: str | None) -> Crawl | None:
    """The row of the crawl of a name that was given, or of the default one, if it has one.

    Raises ``click.UsageError`` where there is none of that name, but the default one: it may be there without a row.
    """
    row = await crawl_named(frontier, name or DEFAULT_CRAWL)
    if row is None and name not in (None, DEFAULT_CRAWL):
        raise await no_crawl(frontier, name or "")
    return row


def go_on(shared: Shared, name: str, command: str = "crawl", secrets_folder: str | None = None) -> str:
    """The command line that goes on with a crawl; ``secrets_folder``: it is in no row, and said again."""
    which = f" --crawl {name}" if name != DEFAULT_CRAWL else ""
    folder = f" --secrets {shlex.quote(secrets_folder)}" if secrets_folder is not None else ""
    return f"{sqspider(shared)} {command}{which}{folder}"


def sqspider(shared: Shared) -> str:
    """How a command line begins that is about the same frontier."""
    return "sqspider" if shared.address is None else f"sqspider --frontier {shlex.quote(shared.address)}"
