"""``retry``: URLs that have ended are put back into the queue, after it was asked for."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Final

import click

from sqspider.again import Choice, Kind, PutBack, found, put_back
from sqspider.cli.asking import ask, reopening_cost, yes_option
from sqspider.cli.bars import bar
from sqspider.cli.exit_status import GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.options import Duration, crawl_option, host_name
from sqspider.cli.order import go_on, row_if_named
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.frontier import Frontier
from sqspider.record import DEFAULT_CRAWL, Reason, Status

FINAL: Final = [status.value for status in Status if status.is_final]


@click.command(cls=Command)
@crawl_option("Those of the crawl of this name.  [default: default]")
@click.option(
    "--status",
    "statuses",
    type=click.Choice(FINAL),
    multiple=True,
    help="Those that ended so. May be repeated.  [default: failed; whatever it is, with --reason or --http-status]",
)
@click.option(
    "--reason",
    "reasons",
    type=click.Choice([reason.value for reason in Reason]),
    multiple=True,
    metavar="REASON",
    help="Those that ended for it, such as timeout. May be repeated.",
)
@click.option(
    "--http-status",
    "http_statuses",
    type=click.IntRange(100, 999),
    multiple=True,
    metavar="N",
    help="Those whose last answer had it. May be repeated.",
)
@click.option("--host", callback=host_name, help="Those of one host.")
@click.option("--older-than", type=Duration(), help="Those that ended so long ago: 90s, 15m, 2h, 3d.")
@yes_option
@click.option("--json", "as_json", is_flag=True, help="Print what was put back as JSON.")
@pass_shared
def retry(
    shared: Shared,
    /,
    crawl: str | None,
    statuses: tuple[str, ...],
    reasons: tuple[str, ...],
    http_statuses: tuple[int, ...],
    host: str | None,
    older_than: float | None,
    yes: bool,
    as_json: bool,
) -> int:
    """Put URLs that failed back into the queue, as if they had not been tried. Says how many they are, and asks.

    A host that rests, or was given up, is asked again at once; a robots.txt that kept a URL from being fetched is
    fetched anew. `sqspider crawl` goes on with them. Stopped half-way, the same command goes on.
    """
    if not statuses and not reasons and not http_statuses:
        statuses = (Status.FAILED.value,)
    name = crawl or DEFAULT_CRAWL

    async def main() -> None:
        async with opened(shared, mending=True) as frontier:
            await row_if_named(frontier, name)
            choice = Choice(
                crawl=name,
                statuses=frozenset(map(Status, statuses)),
                reasons=frozenset(map(Reason, reasons)),
                http_statuses=frozenset(http_statuses),
                host=host,
                ended_before=None if older_than is None else frontier.now() - older_than,
            )
            await _retry(frontier, choice, go_on(shared, name), yes=yes, as_json=as_json)

    asyncio.run(main())
    return GOOD


async def _retry(frontier: Frontier, choice: Choice, goes_on: str, *, yes: bool, as_json: bool) -> None:
    counts, traits = await frontier.counts(), frontier.traits
    # Where reading costs money, it is not done twice, to be able to ask.
    is_exact = choice.is_counted or not traits.scan_dollars
    kinds = choice.of_counts(await frontier.counts(crawl=choice.crawl))
    if kinds and not choice.is_counted and is_exact:
        kinds = await found(frontier, choice)
    if not yes and kinds:
        what = f"{'' if is_exact else 'at most '}{what_ended(choice, kinds)}"
        cost = reopening_cost(traits, counts.total, kinds.total())
        ask(f"this puts back what has ended ({what})", f"{what}. Put them back?", cost)
    done = await _put_back(frontier, choice, kinds.total()) if kinds else PutBack(Counter(), 0, 0)
    if as_json:
        print(json.dumps(_as_json(done)))
    else:
        _tell(done, goes_on)


def what_ended(choice: Choice, kinds: Counter[Kind]) -> str:
    """How many URLs are meant, and why they ended: ``34 URLs failed: 30 timeout, 4 server_error``."""
    ended = next(iter(choice.statuses)).value if len(choice.statuses) == 1 else "ended"
    why = ", ".join(f"{number:,} {kind.value}" for kind, number in kinds.most_common())
    return f"{_urls(kinds.total())} {ended}: {why}"


def _urls(number: int) -> str:
    return f"{number:,} URL{'' if number == 1 else 's'}"


async def _put_back(frontier: Frontier, choice: Choice, expected: int) -> PutBack:
    with bar() as progress:
        task = progress.add_task("putting back", total=expected)
        return await put_back(frontier, choice, lambda number: progress.update(task, completed=number))


def _as_json(done: PutBack) -> dict[str, object]:
    """For a program; these names do not change."""
    statuses = Counter({kind.value: number for kind, number in done.kinds.items() if isinstance(kind, Status)})
    reasons = Counter({kind.value: number for kind, number in done.kinds.items() if isinstance(kind, Reason)})
    return {
        "queued": done.kinds.total(),
        "done": statuses[Status.DONE.value],
        "reasons": dict(reasons),
        "hosts_forgiven": done.hosts,
        "unreadable": done.unreadable,
    }


def _tell(done: PutBack, goes_on: str) -> None:
    if done.unreadable:
        print(f"{done.unreadable:,} records cannot be read, and stay as they are", file=sys.stderr)
    number = done.kinds.total()
    if not number:
        print("nothing to put back: no URL ended so")
        return
    hosts = f", and {done.hosts:,} host{'s' if done.hosts > 1 else ''} in trouble forgiven" if done.hosts else ""
    verb, them = ("is", "it") if number == 1 else ("are", "them")
    print(f"{_urls(number)} {verb} queued again{hosts}: `{goes_on}` goes on with {them}")
