"""What an answer means for its record: the outcome, and the URLs that are to be recorded for it.

Where a redirect leads is in ``redirects``, when to try again in ``retry``, how a page is read in ``web.links``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import msgspec

from sqspider.crawls import MAX_DEPTH, measured_from
from sqspider.frontier import Entry, Onward, Outlinks
from sqspider.frontier.ways import Way, is_within_depth, way_on
from sqspider.message import Message
from sqspider.record import Outcome, Status, status_for
from sqspider.scope import within
from sqspider.url import Scope, in_scope
from sqspider.web.fetch import Fetched
from sqspider.web.links import LinkOptions, PageLinks, read_page
from sqspider.work.memories import Recorded
from sqspider.work.redirects import MAX_REDIRECTS, Led, led


class Visited(msgspec.Struct, frozen=True, kw_only=True):
    """One fetch that is over, as the store and the sinks get it."""

    message: Message
    fetched: Fetched
    outcome: Outcome
    page: PageLinks | None  # none if it was no page to parse


class Assessed(msgspec.Struct, frozen=True, kw_only=True):
    """What a fetch means."""

    outcome: Outcome
    page: PageLinks | None = None  # what is on it, if it was one
    entry: Entry | None = None  # where it leads, if it was a redirect that is followed


def assess(fetched: Fetched, message: Message, product_token: str) -> Assessed:
    """What a fetch of a message's URL means for its record. ``product_token``: whom robots directives mean by us."""
    way = None if fetched.redirect_to is None else led(message, fetched.redirect_to)
    is_page = fetched.reason is None and way is None
    page = _read(fetched, message, product_token) if is_page else None
    return Assessed(outcome=_outcome(fetched, way, page), page=page, entry=way.entry if way else None)


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


class Links(NamedTuple):
    """Where a visit leads."""

    entries: Iterable[Entry]  # what is to be recorded. What is wrong with a pattern shows while they are taken
    outlinks: Outlinks | None  # all of it, where some of that may be too deep


def links_of(assessed: Assessed, message: Message, recorded: Recorded) -> Links:
    """Where a visit leads: of a redirect its target, of a page its links that lie within the crawl; but for what is
    known to be ``recorded``, on no longer a way. Raises :class:`sqspider.patterns.TooSlowError`."""
    outlinks, entry = _outlinks_of(assessed, message), assessed.entry
    if entry is not None and not recorded.hides(entry.url, _known_at(entry.depth, message)):
        return Links((entry,), outlinks)
    return Links(_new_links(assessed.page, message, recorded, outlinks) if assessed.page else (), outlinks)


def _outlinks_of(assessed: Assessed, message: Message) -> Outlinks | None:
    """All that a visit leads to within its crawl, however deep that is; none where no depth is too deep, or it leads
    nowhere."""
    if message.settings.max_depth is None or assessed.outcome.status is not Status.DONE:
        return None
    if assessed.entry is not None:
        return Outlinks((assessed.entry.url,), Onward.REDIRECT)
    if assessed.page is None:  # where a redirect leads that is not followed may be asked for by itself
        return Outlinks(onward=Onward.REDIRECT, is_other_for_seeds=assessed.outcome.is_redirect)
    onward, seed = _way_of_links(assessed.page, message)
    is_other_for_seeds = assessed.page.leads_to is not None and onward is Onward.LINK
    return Outlinks(tuple(_links(assessed.page, message, seed)), onward, is_other_for_seeds)


def _new_links(page: PageLinks, message: Message, recorded: Recorded, outlinks: Outlinks | None) -> Iterator[Entry]:
    onward, seed = _way_of_links(page, message)
    depth, redirects = way = way_on(onward, Way(message.depth, message.redirects))
    if not is_within_depth(way, message.settings.max_depth):
        return
    inherited, known_at = measured_from(message.settings, seed), _known_at(depth, message)
    if outlinks is None:
        links = _links(page, message, seed, lambda link: not recorded.hides(link, known_at))
    else:
        links = (link for link in outlinks.urls if not recorded.hides(link, known_at))
    for link in links:
        yield Entry(url=link, depth=depth, parent=message.url, settings=inherited, redirects=redirects)


def _known_at(depth: int, message: Message) -> int:
    """The depth up to which a link that is known need not be recorded again: any, where none is too deep."""
    return MAX_DEPTH if message.settings.max_depth is None else depth


def _way_of_links(page: PageLinks, message: Message) -> tuple[Onward, str]:
    """How far the links of a page are, and what their scope is measured from."""
    if page.leads_to is None or not message.is_seed or message.redirects >= MAX_REDIRECTS:
        return Onward.LINK, message.seed
    is_of_site = in_scope(page.leads_to, Scope.DOMAIN, message.seed)
    return Onward.REFRESH, page.leads_to if is_of_site else message.seed


def _links(
    page: PageLinks, message: Message, seed: str, is_wanted: Callable[[str], bool] = lambda _: True
) -> Iterable[str]:
    """The links of a page that lie within the crawl."""
    if message.settings.scope is Scope.PAGE or page.nofollow:
        return ()
    return within(filter(is_wanted, chain(page.links, page.too_long)), message.settings, seed)
