"""What lies within a crawl: scope, patterns and traps. One rule for links, for redirects and for sitemaps."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from sqspider.crawl_settings import CrawlSettings, compiled
from sqspider.patterns import Search
from sqspider.record import REQUISITE_DEPTH, Reason
from sqspider.url import (
    MAX_URL_BYTES,
    Scope,
    authority_of,
    directory_of,
    host_of,
    in_scope,
    is_below,
    registrable_domain,
)


class Blocked(NamedTuple):
    """The URL is not to be fetched at all: it ends as its reason says."""

    reason: Reason
    detail: str


TOO_LONG: Final = Blocked(
    Reason.URL_TOO_LONG, f"longer than {MAX_URL_BYTES:,} bytes: this is its beginning, with a digest of the whole"
)


class Measure(NamedTuple):
    """From where a scope is measured: from one seed, or from all those of a crawl."""

    scope: Scope
    seed: str  # canonical; where ``sites`` are known it does not count
    sites: Mapping[str, frozenset[str]] | None = None  # of a crawl's seeds: as :func:`folders_of` has them

    @classmethod
    def of(cls, settings: CrawlSettings, seed: str) -> Measure:
        """By a crawl's settings, from one seed."""
        return cls(settings.scope, seed)

    def holds(self, url: str) -> bool:
        """Whether a canonical URL lies within."""
        scope, sites = self.scope, self.sites
        if sites is None or scope is Scope.ANY or scope is Scope.PAGE:
            return in_scope(url, scope, self.seed)
        folders = sites.get(site_of(url, scope))
        if folders is None or scope is not Scope.PREFIX:
            return folders is not None
        return any(is_below(url, folder) for folder in folders)


class Sifted(NamedTuple):
    """Some canonical URLs, held against a crawl's scope and then its patterns."""

    within: list[str]  # those that it goes on to, in their order
    out_of_scope: int  # how many others lie outside of its scope
    excluded: int  # and how many its patterns leave out


def sift(urls: Sequence[str], settings: CrawlSettings, measure: Measure) -> Sifted:
    """Which of some canonical URLs lie within a crawl: in its scope, and chosen by its patterns.

    Raises :class:`sqspider.patterns.TooSlowError` when the patterns take too long, for all of them together.
    """
    inside = [url for url in urls if measure.holds(url)]
    chosen = inside
    if settings.include or settings.exclude:
        chosen = list(Search().chosen(inside, compiled(settings.include), compiled(settings.exclude)))
    return Sifted(chosen, len(urls) - len(inside), len(inside) - len(chosen))


def is_within(url: str, settings: CrawlSettings, measure: Measure) -> bool:
    """Whether a canonical URL lies within a crawl: see :func:`sift`."""
    return bool(sift((url,), settings, measure).within)


def distance(depth: int) -> str:
    """How far a URL is, in words."""
    if depth == REQUISITE_DEPTH:
        return "needed by a page to be shown"
    return f"{depth} {'link' if depth == 1 else 'links'} from a seed"


def cut_off(url: str, depth: int, settings: CrawlSettings, measure: Measure) -> Blocked | None:
    """Whether a limit of the crawl cuts off a URL that was found within it: it may be narrower by now."""
    if depth == REQUISITE_DEPTH:
        return _cut_off_requisite(url, settings)
    if settings.max_depth is not None and depth > settings.max_depth:
        return Blocked(Reason.DEPTH_LIMIT, f"{distance(depth)}, and the crawl goes {settings.max_depth} deep")
    if not measure.holds(url):
        return Blocked(Reason.OUT_OF_SCOPE, f"outside of the crawl's scope, which is {settings.scope.value}")
    if not is_within(url, settings, measure):
        return Blocked(Reason.EXCLUDED, "by the crawl's patterns")
    return None


def _cut_off_requisite(url: str, settings: CrawlSettings) -> Blocked | None:
    if not settings.assets:
        return Blocked(Reason.OUT_OF_SCOPE, "a page needs it to be shown, and the crawl does not fetch such")
    return None if not_excluded([url], settings) else Blocked(Reason.EXCLUDED, "by the crawl's patterns")


def outside(urls: Iterable[str], settings: CrawlSettings, measure: Measure) -> list[str]:
    """Those of some canonical URLs that a crawl asks for where it checks what lies outside of its scope: all that do,
    but for what it excludes. (What it includes is said of what it goes into.) Raises as :func:`sift`."""
    return not_excluded([url for url in urls if not measure.holds(url)], settings)


def not_excluded(urls: list[str], settings: CrawlSettings) -> list[str]:
    """Those of some canonical URLs that no pattern leaves out, wherever they lie: so what pages need to be shown is
    chosen. Raises as :func:`sift`."""
    return list(Search().chosen(urls, (), compiled(settings.exclude))) if settings.exclude else urls


def is_to_be_checked(url: str, depth: int, settings: CrawlSettings, measure: Measure) -> bool:
    """Whether a URL that was found in a crawl is only to be asked for, and not gone into: it lies outside of the scope,
    and that is checked. Links of the deepest pages are, too."""
    if not settings.check_external or not is_within_reach(depth, settings):
        return False
    return bool(outside((url,), settings, measure))


def is_within_reach(depth: int, settings: CrawlSettings) -> bool:
    """Whether a crawl has pages that have links so deep."""
    return settings.max_depth is None or depth <= settings.max_depth + 1


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
