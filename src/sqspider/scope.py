"""What lies within a crawl: scope, patterns and traps. One rule for links, for redirects and for sitemaps."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sqspider.crawls import CrawlSettings, compiled
from sqspider.patterns import Search
from sqspider.record import Reason
from sqspider.url import Scope, authority_of, directory_of, host_of, in_scope, registrable_domain


class Blocked(NamedTuple):
    """The URL is not to be fetched at all: it ends as its reason says."""

    reason: Reason
    detail: str


def within(urls: Iterable[str], settings: CrawlSettings, seed: str, *, scope: Scope | None = None) -> Iterator[str]:
    """Those of some canonical URLs that a crawl goes on to, in their order: in its scope, as it is measured from
    ``seed``, and chosen by its patterns. ``scope``: another one than the crawl's.

    Raises :class:`sqspider.patterns.TooSlowError` when the patterns take too long, for all of them together.
    """
    scope = settings.scope if scope is None else scope
    include, exclude = compiled(settings.include), compiled(settings.exclude)
    return Search().chosen((url for url in urls if in_scope(url, scope, seed)), include, exclude)


def site_of(url: str, scope: Scope) -> str:
    """The site of a canonical URL by which a crawl's seeds are kept: its registrable domain where the scope is one,
    else its host and port."""
    return registrable_domain(host_of(url)) if scope is Scope.DOMAIN else authority_of(url)


def folders_of(seeds: Iterable[str], scope: Scope) -> dict[str, frozenset[str]]:
    """Where the scope of a crawl is measured from, by site: the seeds' folders if it is their folders, else none."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for seed in seeds:
        found[site_of(seed, scope)].update((directory_of(seed),) if scope is Scope.PREFIX else ())
    return {site: frozenset(folders) for site, folders in found.items()}


def trap_in(url: str, settings: CrawlSettings) -> Blocked | None:
    """Whether a URL looks like a spider trap by the limits that the operator set."""
    address, _, query = url.partition("?")
    if settings.max_repeats is not None:
        segments = Counter(segment for segment in address.split("/")[3:] if segment)
        if segments:
            segment, times = segments.most_common(1)[0]
            if times > settings.max_repeats:
                return Blocked(Reason.REPEATING_PATH, f"path segment {segment!r} occurs {times} times")
    if settings.max_parameters is not None and query:
        parameters = query.count("&") + 1
        if parameters > settings.max_parameters:
            return Blocked(Reason.ENDLESS_QUERY, f"{parameters} query parameters")
    return None
