"""What an answer means for its record: the outcome, and the URLs that are to be recorded for it.

Where a redirect leads is in ``redirects``, when to try again in ``retry``, how a page is read in ``web.links``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Iterator
from itertools import chain

import msgspec

from sqspider.crawls import MAX_DEPTH, measured_from
from sqspider.frontier import Entry
from sqspider.message import Message
from sqspider.record import Kept, Outcome, status_for
from sqspider.revisit import unchanged
from sqspider.scope import Measure, within
from sqspider.url import Scope, in_scope
from sqspider.web.fetch import Fetched
from sqspider.web.links import LinkOptions, PageLinks, read_page
from sqspider.work.redirects import MAX_REDIRECTS, Led, becomes_seed, led, new_seed


class Visited(msgspec.Struct, frozen=True, kw_only=True):
    """One fetch that is over, as the store and who takes pages get it."""

    message: Message
    fetched: Fetched
    outcome: Outcome
    page: PageLinks | None  # none if it was no page to parse


class Assessed(msgspec.Struct, frozen=True, kw_only=True):
    """What a fetch means."""

    outcome: Outcome
    page: PageLinks | None = None  # what is on it, if it was one
    entry: Entry | None = None  # where it leads, if it was a redirect that is followed
    seed: str = ""  # so, where a crawl's scope is to be measured from that, too


def assess(
    fetched: Fetched, message: Message, product_token: str, measure: Measure | None, kept: Kept | None = None
) -> Assessed:
    """What a fetch of a message's URL means for its record. ``product_token``: whom robots directives mean by us;
    ``measure``: of a redirect, from where the scope is measured for the URL, and for where it leads; ``kept``: of
    earlier visits."""
    if fetched.is_unchanged and kept is not None and kept.good is not None:
        return Assessed(outcome=unchanged(kept.good, round(fetched.elapsed_seconds * 1000)))
    way = None if fetched.redirect_to is None or measure is None else led(message, fetched.redirect_to, measure)
    is_page = fetched.reason is None and way is None
    page = _read(fetched, message, product_token) if is_page else None
    outcome = _outcome(fetched, way, page)
    return Assessed(outcome=outcome, page=page, entry=way.entry if way else None, seed=way.seed if way else "")


def _read(fetched: Fetched, message: Message, product_token: str) -> PageLinks | None:
    settings = message.settings
    options = LinkOptions(
        meta_refresh=settings.meta_refresh,
        srcset=settings.srcset,
        drop_tracking=settings.drop_tracking,
        obey_nofollow=settings.obey_nofollow,
    )
    return read_page(fetched.body, fetched.url, fetched.headers, options, product_token)


def _outcome(fetched: Fetched, way: Led | None, page: PageLinks | None) -> Outcome:
    reason = way.reason if way else fetched.reason
    has_body = fetched.http_status is not None and way is None
    content_type = fetched.header("content-type")
    return Outcome(
        status=status_for(reason),
        reason=reason,
        detail=way.detail if way else fetched.detail,
        http_status=fetched.http_status,
        content_type=content_type.partition(";")[0].strip().lower() if content_type else None,
        bytes=len(fetched.body),
        truncated=fetched.truncated,
        digest=f"sha256:{hashlib.sha256(fetched.body).hexdigest()}" if has_body else None,
        title=page.title if page else None,
        elapsed_ms=round(fetched.elapsed_seconds * 1000),
        redirect_to=way.to if way and reason is None else None,
        links_left_out=sum(page.left_out.values()) if page else 0,
    )


def seed_led_to(page: PageLinks, message: Message, measure: Measure) -> str:
    """Where a page that a crawl was asked for leads on to by itself, if its scope is to be measured from that, too."""
    if page.leads_to is None or not message.is_seed or not becomes_seed(page.leads_to, message, measure):
        return ""
    return new_seed(page.leads_to, message, measure)


def new_links(page: PageLinks | None, message: Message, recorded: Container[str]) -> list[str]:
    """The links of a page that are to be followed, wherever they lie, but for those known to be ``recorded``."""
    if page is None or page.nofollow or message.settings.scope is Scope.PAGE:
        return []
    links, crawl = chain(page.links, page.too_long), message.key_of("")
    if not crawl:
        return [link for link in links if link not in recorded]
    return [link for link in links if crawl + link not in recorded]


def entries_of(
    assessed: Assessed, message: Message, recorded: Container[str], links: Iterable[str], measure: Measure
) -> Iterable[Entry]:
    """What is to be recorded for a visit: where it leads, if that is not known to be ``recorded``, or those of
    :func:`new_links` that lie within the crawl. What is wrong with a pattern shows while they are taken."""
    if assessed.entry is not None and assessed.entry.key not in recorded:
        return (assessed.entry,)
    return _entries(assessed.page, message, links, measure) if assessed.page else ()


def _entries(page: PageLinks, message: Message, links: Iterable[str], measure: Measure) -> Iterator[Entry]:
    settings, seed = message.settings, message.seed
    depth, redirects = message.depth + 1, 0
    if page.leads_to is not None and message.is_seed and message.redirects < MAX_REDIRECTS:
        depth = 0
        if message.parent is not None:  # or redirects and refreshes in turn would lead on without end
            redirects = message.redirects + 1
        if in_scope(page.leads_to, Scope.DOMAIN, seed):
            seed = page.leads_to
    if depth > (MAX_DEPTH if settings.max_depth is None else settings.max_depth):
        return
    parent, crawl = message.url, message.crawl
    if crawl is not None:
        for link in within(links, settings, measure):
            yield Entry(url=link, depth=depth, parent=parent, redirects=redirects, crawl=crawl)
        return
    inherited = measured_from(settings, seed)
    for link in within(links, settings, measure._replace(seed=seed) if seed != measure.seed else measure):
        yield Entry(url=link, depth=depth, parent=parent, settings=inherited, redirects=redirects)
