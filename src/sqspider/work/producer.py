"""URLs in, records and messages out: what is new, known and refused is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain, islice
from typing import Final, NamedTuple

from sqspider.crawl import CrawlRef
from sqspider.crawls import CrawlSettings
from sqspider.frontier import Entry, Frontier
from sqspider.record import Reason
from sqspider.url import Refused
from sqspider.work.scopes import add_seeds, is_measured
from sqspider.work.seeds import is_passed_over, read_url

BATCH: Final = 500


class RefusedLine(NamedTuple):
    """A text that is no URL to crawl."""

    line: int  # counted from 1; 0: no line, but a URL that was given by itself
    refused: Refused

    def __str__(self) -> str:
        return f"line {self.line}: {self.refused}" if self.line else str(self.refused)


class Produced:
    """How it went so far."""

    def __init__(self) -> None:
        self.new = 0
        self.known = 0
        self.refused: Counter[Reason] = Counter()

    @property
    def total(self) -> int:
        return self.new + self.known + self.refused.total()


async def produce(
    frontier: Frontier,
    texts: Iterable[str],
    settings: CrawlSettings,
    *,
    crawl: CrawlRef | None = None,
    lines: Iterable[str] = (),
    assume_http: bool = False,
    on_refused: Callable[[RefusedLine], None],
    on_batch: Callable[[Produced], None] = lambda _: None,
) -> Produced:
    """Enqueue URLs as seeds, in batches and constant memory: some texts, and the lines of a file.

    Those of a ``crawl`` go by its row, of which ``settings`` are: its scope is measured from them, too.

    Both are read by :func:`sqspider.work.seeds.read_url`, which says what ``assume_http`` does; lines
    that are empty or begin with ``#`` are passed over. ``on_refused`` is called for each that is
    refused, the others go on; ``on_batch`` after each batch. Raises :class:`FrontierError`; what was
    enqueued before stays, so doing it again goes on from there.
    """
    produced = Produced()
    numbered = ((number, line) for number, line in enumerate(lines, 1) if not is_passed_over(line))
    given = chain(((0, text) for text in texts), numbered)
    while batch := list(islice(given, BATCH)):
        urls = []
        for number, text in batch:
            url = read_url(text, assume_http=assume_http, drop_tracking=settings.drop_tracking)
            if isinstance(url, Refused):
                produced.refused[url.reason] += 1
                on_refused(RefusedLine(number, url))
            else:
                urls.append(url)
        if crawl is not None and is_measured(settings.scope) and urls:
            await add_seeds(frontier, crawl, urls, settings.scope)  # first: whoever sees a seed knows its scope
        answers = await frontier.enqueue([_entry(url, settings, crawl) for url in urls])
        produced.new += sum(answers)
        produced.known += len(answers) - sum(answers)
        on_batch(produced)
    return produced


def _entry(url: str, settings: CrawlSettings, crawl: CrawlRef | None) -> Entry:
    return Entry(url=url, settings=settings) if crawl is None else Entry(url=url, crawl=crawl)
