"""``crawl --dry-run``: what a crawl would fetch of what its first pages link to, what not, and why."""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

import click
from click.core import ParameterSource

from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD, USAGE
from sqspider.cli.lists import ListFile, ListTold, Seeding
from sqspider.cli.order import prepared
from sqspider.cli.start import check_lease, checked_start
from sqspider.cli.verdict import seeds_are_good
from sqspider.cli.wording import counted, printable
from sqspider.cli.worker import random_worker_id, run_loop, to_worker_options
from sqspider.crawl_row import Crawl
from sqspider.crawl_settings import CrawlSettings
from sqspider.dry_run import MOST_ORIGINS, Link, Look, Page, look_ahead
from sqspider.explain import Fate
from sqspider.frontier import FrontierSettings
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from sqspider.orders.order import Order
from sqspider.orders.start import Start
from sqspider.record import Reason, Status
from sqspider.work.budgets import has_budget
from sqspider.work.options import WorkerOptions

MOST_SEEDS: Final = 10  # that are looked at
MOST_URLS: Final = 20  # that a person is shown of those that share a fate, a rule and its words
MOST_GROUPS: Final = 20  # of such
MOST_CHARACTERS: Final = 200  # of a URL that a person is shown
OF_RUNS: Final = ("max_pages", "with_sitemaps", "is_again", "older_than", "workers", "output")
"""What is said of a run that begins or goes on with a crawl, and has no meaning here."""

Group = tuple[Fate, str, str]  # what becomes of it, the rule, and its words


def told_ahead(
    urls: tuple[str, ...], list_file: ListFile, order: Order, start: Start, given: dict[str, Any], *,
    as_json: bool, assume_http: bool,
) -> int:  # fmt: skip
    """Look ahead from some URLs; the exit status. Raises ``click.UsageError``."""
    _check_alone(click.get_current_context())
    if not urls and list_file.path is None:
        raise click.UsageError(
            "--dry-run: name the URLs to look at. It goes by what is said here, or by a file (--config), and opens no "
            "frontier: `sqspider crawls show NAME --toml` writes such a file of a crawl that is there."
        )
    options = to_worker_options(given, random_worker_id(random.Random()))
    with list_file.opened() as listed:
        seeding = Seeding(urls, listed, ListTold(list_file.path), assume_http=assume_http)
        if seeding.is_refused:
            return USAGE
        order = order._replace(urls=tuple(seeding.seeds), has_more=list_file.path is not None, is_kept=False)
        return run_loop(_look(seeding, order, start, options, as_json=as_json))


def _check_alone(context: click.Context) -> None:
    for parameter in context.command.params:
        name = str(parameter.name)
        if name in OF_RUNS and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            option = next(each for each in parameter.opts if each.startswith("--"))
            raise click.UsageError(f"--dry-run takes one look, and {option} is of a run: leave it out.")


async def _look(seeding: Seeding, order: Order, start: Start, options: WorkerOptions, *, as_json: bool) -> int:
    settings = FrontierSettings(visibility_seconds=options.lease_seconds)
    frontier = MemoryFrontier(MemoryStore(), settings, clock=time.time)
    done = await prepared(frontier, order)
    assert done is not None  # there are URLs
    crawl = done.crawl
    start = checked_start(crawl, start.secrets_folder)
    check_lease(options, start)
    if await seeding.enqueue(frontier, crawl, MOST_SEEDS):
        _note(f"the first {MOST_SEEDS} URLs alone are looked at, and the scope is measured from these")
    lines = sys.stderr if as_json else sys.stdout

    def tell(page: Page) -> None:
        if page.outcome.status is Status.DONE:  # what came of the others is told at the end
            print(_line_of(page, crawl.settings), file=lines, flush=True)

    look = await look_ahead(frontier, crawl, start, options, tell)
    if as_json:
        for link in look.links:
            print(json.dumps(link.as_json(), ensure_ascii=False))
    else:
        _print(look, crawl)
    for url, why in look.waiting.items():
        _note(f"{url}: not looked at: {printable(why)}")
    counts = await frontier.counts(crawl=crawl.name)
    is_good = await seeds_are_good(frontier, [] if order.has_more else seeding.seeds, counts, crawl.name)
    return GOOD if is_good and not look.waiting and not seeding.refused else NOT_ALL_GOOD


def _note(line: str) -> None:
    print(line, file=sys.stderr)


def _line_of(page: Page, settings: CrawlSettings) -> str:
    led = f" (where {page.led_by} leads)" if page.led_by else ""
    number = len(page.links) + len(page.nofollow) + sum(page.left_out.values())
    needs = f", and needs {counted(len(page.requisites), 'URL', 'URLs')} to be shown" if page.requisites else ""
    answer = f"HTTP {page.outcome.http_status}, {printable(page.outcome.content_type or 'of no type')}"
    unkept = "" if settings.wants(page.outcome.content_type or "") else f"; not kept, it is no {_either(settings.only)}"
    return f"{page.url}{led}: {answer}, {counted(number, 'link', 'links')}{needs}{unkept}"


def _either(types: Iterable[str]) -> str:
    return " or ".join(types)


# For a person.


def _print(look: Look, crawl: Crawl) -> None:
    groups: dict[Group, list[str]] = {}
    for link in look.links:
        groups.setdefault(_group_of(link), []).append(link.told.url)
    numbers = {group: len(urls) for group, urls in groups.items()}
    numbers.update(_no_urls(look.pages))
    of_fates = Counter[Fate]()
    for (fate, *_), number in numbers.items():
        of_fates[fate] += number
    fates = ", ".join(f"{of_fates[fate]:,} {fate.value}" for fate in Fate if of_fates[fate])
    needed = sum(link.is_requisite for link in look.links)
    if fates:
        links = counted(of_fates.total() - needed, "different link", "different links")
        print(f"{links}{f', {needed:,} more URLs that pages need' if needed else ''}: {fates}")
    for line in _lines_of(groups, numbers):
        print(line)
    if has_budget(crawl.settings) and of_fates[Fate.FETCHED]:
        print("\nA host's budget is for those whose turn comes first: not all of these may be fetched.")
    if only := next((step for link in look.links for step in link.told.steps if step.rule == "only"), None):
        print(f"\nWhat is fetched is {only.says}.")


def _group_of(link: Link) -> Group:
    step = link.told.decided
    if step is not None and step.rule == "record":
        return link.told.fate, step.rule, "it was looked at just now"
    if step is not None:
        return link.told.fate, step.rule, step.says
    if link.is_unknown:
        return (
            link.told.fate,
            "robots.txt",
            f"if it allows that: here it was asked for at {MOST_ORIGINS} other sites alone",
        )
    if link.told.fate is Fate.CHECKED:
        return Fate.CHECKED, "scope", "they lie outside: it is asked once whether they are there"
    if link.is_requisite:
        return Fate.FETCHED, "assets", "pages need them to be shown: they are not gone into"
    return Fate.FETCHED, "", "no rule keeps them from that"


def _no_urls(pages: Iterable[Page]) -> dict[Group, int]:
    """The links that are no URLs to be crawled, whose text nobody kept."""
    reasons = Counter[Reason]()
    for page in pages:
        reasons.update(page.left_out)
    why = ", ".join(f"{number:,} {reason.value}" for reason, number in reasons.most_common())
    return {(Fate.LEFT_OUT, "URL", f"they are none that is crawled: {why}"): reasons.total()} if reasons else {}


def _lines_of(groups: dict[Group, list[str]], numbers: dict[Group, int]) -> Iterator[str]:
    order = list(Fate)
    by_number = sorted(numbers.items(), key=lambda item: -item[1])
    for group, number in sorted(by_number[:MOST_GROUPS], key=lambda item: order.index(item[0][0])):
        fate, rule, says = group
        words = says if says.startswith(rule) else f"{rule}: {says}"
        yield f"\n{fate.value:8} {number:>6,}  {printable(words)}"
        urls = groups.get(group, [])
        yield from (f"  {_shortened(url)}" for url in urls[:MOST_URLS])
        if len(urls) > MOST_URLS:
            yield f"  … and {len(urls) - MOST_URLS:,} more: --json lists all"
    if rest := by_number[MOST_GROUPS:]:
        yield f"\n… and {sum(number for _, number in rest):,} more by {len(rest):,} other rules: --json lists all"


def _shortened(url: str) -> str:
    return url if len(url) <= MOST_CHARACTERS else f"{url[:MOST_CHARACTERS]}…"
