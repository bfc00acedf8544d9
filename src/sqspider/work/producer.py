"""URLs in, records and messages out: what is new, known and refused is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Final

from sqspider.crawl_row import CrawlRef
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Entry, Frontier
from sqspider.work.lists import Listed, RefusedLine
from sqspider.work.seeding import add_seeds, is_measured
from sqspider.work.seeds import read_url

BATCH: Final = 500


class Produced:
    """How it went so far."""

    def __init__(self) -> None:
        self.new = 0
        self.known = 0
        self.kept = 0  # known ones of which a list says something: their records keep what they had
        self.refused: Counter[str] = Counter()  # how many for each reason

    @property
    def total(self) -> int:
        return self.new + self.known + self.refused.total()


def entries_of(
    texts: Iterable[str],
    settings: CrawlSettings,
    *,
    crawl: CrawlRef | None = None,
    listed: Iterable[Listed | RefusedLine] = (),
    assume_http: bool = False,
    produced: Produced,
    on_refused: Callable[[RefusedLine], None],
) -> Iterator[Entry]:
    """Seeds from some texts and from a list, as they are read; see :func:`produce`. What is refused is counted."""
    for item in chain((Listed(0, text) for text in texts), listed):
        if isinstance(item, Listed):
            url = read_url(item.text, assume_http=assume_http, drop_tracking=settings.drop_tracking)
            if isinstance(url, str):
                yield Entry(url=url, settings=settings, meta=item.meta, crawl=crawl)
                continue
            item = RefusedLine(item.line, url)
        produced.refused[item.refused.reason] += 1
        on_refused(item)


async def enqueue_all(
    frontier: Frontier,
    entries: Iterable[Entry],
    settings: CrawlSettings,
    *,
    crawl: CrawlRef | None = None,
    produced: Produced,
    on_batch: Callable[[Produced], None] = lambda _: None,
) -> None:
    """Enqueue seeds in batches, and count what is new and known; see :func:`produce`."""
    entries = iter(entries)
    while batch := list(islice(entries, BATCH)):
        if crawl is not None and is_measured(settings.scope):  # first: whoever sees a seed knows its scope
            await add_seeds(frontier, crawl, [entry.url for entry in batch], settings.scope)
        answers = await frontier.enqueue(batch)
        produced.new += sum(answers)
        produced.known += len(answers) - sum(answers)
        produced.kept += sum(
            entry.meta is not None and not is_new for entry, is_new in zip(batch, answers, strict=True)
        )
        on_batch(produced)


async def produce(
    frontier: Frontier,
    texts: Iterable[str],
    settings: CrawlSettings,
    *,
    crawl: CrawlRef | None = None,
    listed: Iterable[Listed | RefusedLine] = (),
    assume_http: bool = False,
    on_refused: Callable[[RefusedLine], None],
    on_batch: Callable[[Produced], None] = lambda _: None,
) -> Produced:
    """Enqueue URLs as seeds, in batches and constant memory: some texts, and what a list says.

    Those of a ``crawl`` go by its row, of which ``settings`` are: its scope is measured from them, too.

    Both are read by :func:`sqspider.work.seeds.read_url`, which says what ``assume_http`` does.
    ``on_refused`` is called for each that is refused, the others go on; ``on_batch`` after each
    batch. Raises :class:`FrontierError`; what was enqueued before stays, so doing it again goes on
    from there.
    """
    produced = Produced()
    entries = entries_of(
        texts, settings, crawl=crawl, listed=listed, assume_http=assume_http, produced=produced, on_refused=on_refused
    )
    await enqueue_all(frontier, entries, settings, crawl=crawl, produced=produced, on_batch=on_batch)
    return produced
