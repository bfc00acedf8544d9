"""``explain``: what would become of a URL, and by which rule."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import click

from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.options import crawl_options
from sqspider.cli.order import no_crawl
from sqspider.cli.said import said_in, with_said
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.wording import printable
from sqspider.crawl_row import Crawl, Identity
from sqspider.explain import Explanation, Fate, NotKnownError, Terms, explanation_of
from sqspider.frontier import Frontier, RobotsRow
from sqspider.orders.consent import is_allowed
from sqspider.orders.said import NEW, identity_said
from sqspider.record import DEFAULT_CRAWL
from sqspider.url import Refused, Scope
from sqspider.web.options import DEFAULT_USER_AGENT, FetchOptions
from sqspider.work.allowed import Allowed
from sqspider.work.crawl_orders import crawl_named
from sqspider.work.secrets import Secrets
from sqspider.work.seeds import read_url

FATES: Final = {
    Fate.FETCHED: "is fetched when its turn comes: no rule keeps it from that",
    Fate.CHECKED: "is asked for once when its turn comes, whether it is there, and not gone into",
    Fate.WAITS: "waits",
    Fate.BLOCKED: "is blocked: it is recorded, and not fetched",
    Fate.LEFT_OUT: "is left out: a link to it is not followed",
    Fate.FINISHED: "is finished: it is not fetched again by itself",
}


@click.command(cls=Command)
@click.argument("url")
@click.option("--crawl", "name", metavar="NAME", help="In the crawl of this name.  [default: default]")
@click.option("--from", "found_on", metavar="URL", help="As a link on this page, which must be known.")
@click.option(
    "--fetch-robots",
    is_flag=True,
    help="Ask for robots.txt now, where it matters and is not known or has expired. It is not kept.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all of it as JSON.")
@click.option("--user-agent", default=DEFAULT_USER_AGENT, show_default=True, help="As whom we would ask.")
@click.option("--allow-private", is_flag=True, help="Addresses that are not public are connected to, too.")
@click.option("--allow-any-port", is_flag=True, help="So are ports of other known services.")
@crawl_options(scope=Scope.HOST)
@pass_shared
def explain(
    shared: Shared, /, url: str, name: str | None, found_on: str | None, fetch_robots: bool, as_json: bool, **_: Any,
) -> int:  # fmt: skip
    """Tell what would become of a URL, and by which rule. Nothing is changed, and its page is not fetched.

    It is told by the options of the crawl, and of what is said here as if that were one of them. Exit status 1 if the
    URL would not be fetched.
    """
    canonical, page = _canonical(url), _canonical(found_on) if found_on else None
    said = said_in(click.get_current_context())
    wanted = with_said(NEW, said)  # what is wrong with it is told before anything is opened

    async def main() -> Explanation:
        async with opened(shared, looking=True) as frontier:
            row = await _row_of(frontier, name)
            asked = wanted if row is None else with_said(row, said)
            fetch = FetchOptions(
                user_agent=asked.identity.user_agent or DEFAULT_USER_AGENT,
                allow_private=asked.identity.allow_private,
                allow_any_port=asked.identity.allow_any_port,
            )
            terms = Terms(asked.settings, None if row is None else asked, page, fetch)
            try:
                found = await explanation_of(frontier, canonical, terms)
            except NotKnownError as error:
                raise click.UsageError(f"--from: {error}.") from None
            if not fetch_robots or (found.decided is not None and found.decided.rule != "robots.txt"):
                return found  # nobody is asked for what does not matter
            terms = terms._replace(robots_now=await _robots_now(frontier, canonical, terms, row, said))
            return await explanation_of(frontier, canonical, terms)

    found = asyncio.run(main())
    if as_json:
        print(json.dumps(found.as_json(), ensure_ascii=False))
    else:
        print(f"{found.url} {FATES[found.fate]}")
        for step in found.steps:
            print(f"{'*' if step is found.decided else ' '} {step.rule:12} {printable(step.says)}")
    return GOOD if found.fate is Fate.FETCHED else NOT_ALL_GOOD


async def _robots_now(
    frontier: Frontier, url: str, terms: Terms, row: Crawl | None, said: dict[str, Any]
) -> RobotsRow | str | None:
    """What its crawl asks for holds as far as it was said at this prompt, or allowed on this machine to its row."""
    from sqspider.robots_now import robots_now  # here: without it nothing is asked for

    asks, told = terms.crawl.identity if terms.crawl else Identity(), identity_said(said)
    allowed = Allowed().with_all_of(asks if row is not None and is_allowed(asks, row, told) else told)
    return await robots_now(frontier, url, terms.settings, terms.crawl, terms.fetch, allowed=allowed, secrets=Secrets())


def _canonical(text: str) -> str:
    url = read_url(text)
    if isinstance(url, Refused):
        raise click.UsageError(f"{url}.")
    return url


async def _row_of(frontier: Frontier, name: str | None) -> Crawl | None:
    """The row of a crawl; none where nobody named one, and the default crawl has none."""
    row = await crawl_named(frontier, name or DEFAULT_CRAWL)
    if row is None and name is not None:
        raise await no_crawl(frontier, name)
    return row
