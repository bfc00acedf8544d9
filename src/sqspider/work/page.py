"""What an answer means for its record: the outcome, and the URLs that are to be recorded for it.

Where a redirect leads is in ``redirects``, when to try again in ``retry``, how a page is read in ``web.links``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, NamedTuple

import msgspec

from sqspider.crawl_settings import CrawlSettings, measured_from
from sqspider.frontier import Entry, Onward, Outlinks
from sqspider.frontier.ways import Way, is_within_depth, way_on
from sqspider.message import Message
from sqspider.record import REQUISITE_DEPTH, Kept, Outcome, Skipped, Status, reason_for_http_status, status_for
from sqspider.revisit import unchanged
from sqspider.scope import Measure, Sifted, not_excluded, outside, sift
from sqspider.transport import Exchange
from sqspider.url import Scope, in_scope
from sqspider.web.fetch import Fetched
from sqspider.web.head import header_of
from sqspider.web.links import LinkOptions, PageLinks, may_be_page, read_page
from sqspider.web.requisites import CSS_TYPE, requisites_of_page, requisites_of_style
from sqspider.work.memories import ANY, ANY_OUTSIDE, OUTSIDE, Recorded
from sqspider.work.redirects import MAX_REDIRECTS, Led, becomes_seed, led, new_seed

NOT_READ: Final = "not read: of another type than the crawl is for, and no page"


class Visited(msgspec.Struct, frozen=True, kw_only=True):
    """One fetch that is over, as the store and who takes pages get it."""

    message: Message
    fetched: Fetched
    outcome: Outcome
    page: PageLinks | None  # none if it was no page to parse
    requisites: Sequence[str] = ()  # what it needs to be shown, in a crawl that fetches such


class End(NamedTuple):
    """The end of a visit: what came of it, and where it leads."""

    outcome: Outcome
    visited: Visited | None = None  # none if nothing was fetched
    links: tuple[Entry, ...] = ()  # what is yet to be recorded
    outlinks: Outlinks | None = None  # all that it leads to, where some of that may be too deep


def is_for_takers(outcome: Outcome, message: Message) -> bool:
    """Whether who takes pages gets what came of a URL: not what leads elsewhere, was only checked or is needed by a
    page, nor what is done and of a type that its crawl is not for."""
    if not outcome.is_page or message.is_requisite:
        return False
    return outcome.status is not Status.DONE or message.settings.wants(outcome.content_type or "")


def wants_body(exchange: Exchange, settings: CrawlSettings) -> bool:
    """Whether the body of an answer is to be read in a crawl that is for some types ``only``: theirs, of pages, which
    may have links to them, and what an error says."""
    if reason_for_http_status(exchange.http_status or 0) is not None or may_be_page(exchange.headers):
        return True
    content_type = (header_of(exchange.headers, "content-type") or "").partition(";")[0].strip().lower()
    return settings.wants(content_type) or (settings.assets and content_type == CSS_TYPE)


class Assessed(msgspec.Struct, frozen=True, kw_only=True):
    """What a fetch means."""

    outcome: Outcome
    page: PageLinks | None = None  # what is on it, if it was one
    entry: Entry | None = None  # where it leads, if it was a redirect that is followed
    seed: str = ""  # so, where a crawl's scope is to be measured from that, too
    requisites: Sequence[str] = ()  # what it needs to be shown, in a crawl that fetches such


def assess(
    fetched: Fetched,
    message: Message,
    product_token: str,
    measure: Measure | None,
    kept: Kept | None = None,
    *,
    is_check: bool = False,
) -> Assessed:
    """What a fetch of a message's URL means for its record. ``product_token``: whom robots directives mean by us;
    ``measure``: of a redirect, from where the scope is measured for the URL, and for where it leads; ``kept``: of
    earlier visits; ``is_check``: it was only asked whether it is there, and leads on as far as it redirects."""
    if fetched.is_unchanged and kept is not None and kept.good is not None:
        return Assessed(outcome=unchanged(kept.good, round(fetched.elapsed_seconds * 1000)))
    way = None if fetched.redirect_to is None or measure is None else led(message, fetched.redirect_to, measure)
    is_page = fetched.reason is None and way is None and not fetched.is_unread
    page = _read(fetched, message, product_token) if is_page and not message.is_requisite else None
    requisites = requisites_in(fetched, page) if is_page and message.fetches_assets else ()
    outcome = _outcome(fetched, way, page, is_check=is_check)
    entry, seed = (way.entry, way.seed) if way else (None, "")
    return Assessed(outcome=outcome, page=page, entry=entry, seed=seed, requisites=requisites)


def visited_as(message: Message, fetched: Fetched, outcome: Outcome, assessed: Assessed) -> Visited:
    """What is told of a fetch whose outcome is known, links that are not followed included."""
    page, requisites = assessed.page, assessed.requisites
    return Visited(message=message, fetched=fetched, outcome=outcome, page=page, requisites=requisites)


def _read(fetched: Fetched, message: Message, product_token: str) -> PageLinks | None:
    return read_page(fetched.body, fetched.url, fetched.headers, link_options(message.settings), product_token)


def requisites_in(fetched: Fetched, page: PageLinks | None) -> Sequence[str]:
    """What an answer needs to be shown; ``page``: what was read in it, if it is one."""
    if page is not None:
        return requisites_of_page(fetched.body, fetched.url, fetched.headers, page.encoding)
    return requisites_of_style(fetched.body, fetched.url, fetched.headers)


def link_options(settings: CrawlSettings) -> LinkOptions:
    """What counts as a link in a crawl."""
    return LinkOptions(
        meta_refresh=settings.meta_refresh,
        srcset=settings.srcset,
        drop_tracking=settings.drop_tracking,
        obey_nofollow=settings.obey_nofollow,
    )


def _outcome(fetched: Fetched, way: Led | None, page: PageLinks | None, *, is_check: bool) -> Outcome:
    reason = way.reason if way else fetched.reason
    has_body = fetched.http_status is not None and way is None and not fetched.is_unread
    content_type = fetched.header("content-type")
    is_unwanted = fetched.is_unread and not is_check
    return Outcome(
        status=status_for(reason),
        reason=reason,
        detail=way.detail if way else NOT_READ if is_unwanted else fetched.detail,
        http_status=fetched.http_status,
        content_type=content_type.partition(";")[0].strip().lower() if content_type else None,
        bytes=len(fetched.body),
        truncated=fetched.truncated,
        digest=f"sha256:{hashlib.sha256(fetched.body).hexdigest()}" if has_body else None,
        title=page.title if page else None,
        elapsed_ms=round(fetched.elapsed_seconds * 1000),
        redirect_to=way.to if way and reason is None else None,
        links_left_out=sum(page.left_out.values()) if page else 0,
        unkept=is_unwanted,
        checked=is_check,
    )


def seed_led_to(page: PageLinks, message: Message, measure: Measure) -> str:
    """Where a page that a crawl was asked for leads on to by itself, if its scope is to be measured from that, too."""
    if page.leads_to is None or not message.is_seed or not becomes_seed(page.leads_to, message, measure):
        return ""
    return new_seed(page.leads_to, message, measure)


def new_links(page: PageLinks | None, message: Message, recorded: Recorded) -> list[str]:
    """The links of a page that are to be followed, wherever they lie; but for those that are known to be ``recorded``,
    where none is too deep, and those outside are not to be told from them."""
    if page is None or page.nofollow:
        return []
    if message.settings.scope is Scope.PAGE and not (message.keeps_skipped or message.checks_external):
        return []
    links, crawl, hides = chain(page.links, page.too_long), message.key_of(""), recorded.hides
    if message.settings.max_depth is not None or message.keeps_skipped:
        return list(links)
    if not crawl:
        return [link for link in links if not hides(link, ANY)]
    return [link for link in links if not hides(crawl + link, ANY)]


class Links(NamedTuple):
    """Where a visit leads."""

    entries: Iterable[Entry]  # what is to be recorded
    outlinks: Outlinks | None  # all of it, where some of that may be too deep
    skipped: dict[Skipped, int]  # links that are not followed: how many, by why


def links_of(assessed: Assessed, message: Message, recorded: Recorded, links: Sequence[str], measure: Measure) -> Links:
    """Where a visit leads: of a redirect its target, of a page those of :func:`new_links` that lie within the crawl;
    but for what is known to be ``recorded``, on no longer a way. Raises :class:`sqspider.patterns.TooSlowError`."""
    page, requisites = assessed.page, _entries_of_requisites(assessed.requisites, message, recorded)
    if page is None:
        found = _links_of_redirect(assessed, message, recorded)
        return found._replace(entries=chain(found.entries, requisites)) if requisites else found
    settings = message.settings
    onward, seed = _way_of_links(page, message)
    way = way_on(onward, Way(message.depth, message.redirects))
    sifted = sift(links, settings, _measured_from(seed, message, measure))
    is_too_deep = not is_within_depth(way, settings.max_depth)
    skipped = _skipped(page, settings, sifted, is_too_deep=is_too_deep)
    # None is held to the limits that is as deep as a seed.
    checked = outside(links, settings, measure) if message.checks_external and onward is Onward.LINK else []
    outlinks = None
    if settings.max_depth is not None:
        is_other_for_seeds = page.leads_to is not None and onward is Onward.LINK
        outlinks = Outlinks(tuple(sifted.within), onward, is_other_for_seeds, tuple(checked))
    followed: Iterable[str] = () if is_too_deep else sifted.within
    if settings.max_depth is not None or message.keeps_skipped:  # else those that are known were left out before
        followed = _unknown(followed, _known_at(way.depth, message), message, recorded)
    entries = _entries(followed, way, seed, message)
    others: Iterable[str] = checked
    if message.keeps_skipped and onward is Onward.LINK:
        inside = frozenset[str]() if is_too_deep else frozenset(sifted.within)
        others = (link for link in links if link not in inside)
    if others:
        unknown = _unknown(others, _known_outside_at(way.depth, message), message, recorded)
        entries = chain(entries, _entries(unknown, way, seed, message, is_skipped=True))
    return Links(chain(entries, requisites) if requisites else entries, outlinks, skipped)


def _entries_of_requisites(urls: Sequence[str], message: Message, recorded: Recorded) -> Sequence[Entry]:
    """What a page or a stylesheet needs, but for what its crawl excludes or is known. From one stylesheet to what it
    needs is a step as a redirect is: so there is an end to those that lead on and on."""
    redirects = message.redirects + 1 if message.is_requisite else 0
    if not urls or not message.fetches_assets or redirects > MAX_REDIRECTS:
        return ()
    chosen = _unknown(not_excluded(list(urls), message.settings), REQUISITE_DEPTH, message, recorded)
    return list(_entries(chosen, Way(REQUISITE_DEPTH, redirects), message.seed, message))


def _unknown(links: Iterable[str], depth: int, message: Message, recorded: Recorded) -> Iterator[str]:
    """Links so deep that are not known to be recorded."""
    return (link for link in links if not recorded.hides(message.key_of(link), depth))


def _links_of_redirect(assessed: Assessed, message: Message, recorded: Recorded) -> Links:
    """Where a visit leads that brought no page. Of what has not changed it is known from before."""
    entry, outcome, outlinks = assessed.entry, assessed.outcome, None
    is_followed = entry is not None and not entry.is_skipped
    most = None if message.is_requisite else message.settings.max_depth
    may_lead = outcome.is_redirect or not outcome.checked
    if most is not None and may_lead and outcome.status is Status.DONE and not outcome.unchanged:
        outlinks = Outlinks((entry.url,) if entry is not None and is_followed else (), Onward.REDIRECT)
        if not is_followed:  # where a redirect leads that is not followed may be asked for by itself
            outlinks = msgspec.structs.replace(outlinks, is_other_for_seeds=outcome.is_redirect)
        if entry is not None and entry.is_skipped and message.checks_external:
            outlinks = msgspec.structs.replace(outlinks, outside=(entry.url,))
    if entry is None:
        return Links((), outlinks, {})
    known_at = _known_at if is_followed else _known_outside_at
    if recorded.hides(entry.key, known_at(entry.depth, message)):
        return Links((), outlinks, {})
    is_too_deep = is_followed and most is not None and entry.depth > most  # from what lies outside of the crawl
    return Links(() if is_too_deep else (entry,), outlinks, {})


def _skipped(page: PageLinks, settings: CrawlSettings, sifted: Sifted, *, is_too_deep: bool) -> dict[Skipped, int]:
    """How many links of a page are not followed, and why: of several reasons the first, in the order in which a URL is
    judged (:func:`sqspider.scope.cut_off`)."""
    found, counts = len(page.links) + len(page.too_long), dict[Skipped, int]()
    if page.nofollow:
        counts[Skipped.NOFOLLOW] = found
    elif is_too_deep:
        counts[Skipped.DEPTH_LIMIT] = found
    elif settings.scope is Scope.PAGE:
        counts[Skipped.OUT_OF_SCOPE] = found
    elif sifted.out_of_scope or sifted.excluded:
        counts = {Skipped.OUT_OF_SCOPE: sifted.out_of_scope, Skipped.EXCLUDED: sifted.excluded}
    if page.unfollowed:
        counts[Skipped.NOFOLLOW] = counts.get(Skipped.NOFOLLOW, 0) + page.unfollowed
    return {why: number for why, number in counts.items() if number} if counts else counts


def _entries(
    links: Iterable[str], way: Way, seed: str, message: Message, *, is_skipped: bool = False
) -> Iterator[Entry]:
    (depth, redirects), parent, crawl = way, message.url, message.crawl
    settings = message.settings if crawl is not None else measured_from(message.settings, seed)
    for link in links:
        yield Entry(
            url=link, depth=depth, parent=parent, settings=settings, redirects=redirects, crawl=crawl,
            is_skipped=is_skipped,
        )  # fmt: skip


def _known_at(depth: int, message: Message) -> int:
    """The depth up to which a link that is known need not be recorded again: any, where none is too deep."""
    if depth == REQUISITE_DEPTH:
        return depth
    return ANY if message.settings.max_depth is None else depth


def _known_outside_at(depth: int, message: Message) -> int:
    """The same of one that lies outside: what is checked there may redirect into the crawl."""
    is_exact = message.checks_external and message.settings.max_depth is not None
    return depth + OUTSIDE if is_exact else ANY_OUTSIDE


def _way_of_links(page: PageLinks, message: Message) -> tuple[Onward, str]:
    """How far the links of a page are, and what their scope is measured from, unless a crawl says that."""
    if page.leads_to is None or not message.is_seed or message.redirects >= MAX_REDIRECTS:
        return Onward.LINK, message.seed
    is_of_site = in_scope(page.leads_to, Scope.DOMAIN, message.seed)
    return Onward.REFRESH, page.leads_to if is_of_site else message.seed


def _measured_from(seed: str, message: Message, measure: Measure) -> Measure:
    return measure if message.crawl is not None or seed == measure.seed else measure._replace(seed=seed)
