"""Which links of a page are followed, and how those are counted that are not."""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sqspider.crawl_row import CrawlRef
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Entry, Onward, Outlinks
from sqspider.message import Message
from sqspider.record import Outcome, Skipped, Status
from sqspider.scope import Measure, cut_off
from sqspider.url import Scope
from sqspider.web.links import LinkOptions, PageLinks, read_page
from sqspider.work.memories import Recorded
from sqspider.work.page import Assessed, Links, links_of, new_links

PAGE: Final = "http://a.example/dir/page"
HTML: Final = (("content-type", "text/html"),)
HREFS: Final = st.sampled_from(
    ["", "x", "x#y", "/old/x", "/new", "//b.a.example/x", "http://else.example/old/", "https://a.example/x", "mailto:x"]
)
SETTINGS: Final = st.builds(
    CrawlSettings,
    scope=st.sampled_from(Scope),
    max_depth=st.none() | st.integers(0, 4),
    include=st.sampled_from([(), ("x",)]),
    exclude=st.sampled_from([(), ("/old/",), ("x$", "new")]),
    obey_nofollow=st.booleans(),
    keep_skipped=st.booleans(),
)


def read(body: str, settings: CrawlSettings) -> PageLinks:
    page = read_page(body.encode(), PAGE, HTML, LinkOptions(obey_nofollow=settings.obey_nofollow))
    assert page is not None
    return page


def where_it_leads(page: PageLinks, message: Message, recorded: Recorded | None = None) -> Links:
    settings, recorded = message.settings, recorded or Recorded(100)
    measure = Measure(settings.scope, "", {"a.example": frozenset({"http://a.example/dir/"})})
    if message.crawl is None:
        measure = Measure.of(settings, message.seed)
    assessed = Assessed(outcome=Outcome(status=Status.DONE), page=page)
    return links_of(assessed, message, recorded, new_links(page, message, recorded), measure)


@given(
    anchors=st.lists(st.tuples(HREFS, st.booleans()), max_size=12),
    settings=SETTINGS,
    depth=st.integers(0, 5),
    is_of_crawl=st.booleans(),
    asks_for_none=st.booleans(),
)
def test_what_is_found_is_followed_or_skipped_for_what_would_end_it(
    *, anchors: list[tuple[str, bool]], settings: CrawlSettings, depth: int, is_of_crawl: bool, asks_for_none: bool
) -> None:
    body = "<meta name=robots content=nofollow>" if asks_for_none else ""
    body += "".join(f"<a href='{href}' {'rel=nofollow' if is_nofollow else ''}>x</a>" for href, is_nofollow in anchors)
    found = set(read(body, CrawlSettings(obey_nofollow=False)).links)
    page = read(body, settings)
    crawl = CrawlRef("default", "1") if is_of_crawl else None
    settings = settings if is_of_crawl else msgspec.structs.replace(settings, seed="http://a.example/dir/")
    message = Message(url=PAGE, depth=depth, settings=settings, crawl=crawl)
    links = where_it_leads(page, message)
    entries = list(links.entries)
    followed = {entry.url for entry in entries if not entry.is_skipped}
    measure = Measure(settings.scope, "", {"a.example": frozenset({"http://a.example/dir/"})})
    if not is_of_crawl:
        measure = Measure.of(settings, message.seed)
    skipped = Counter[Skipped]()
    for url in found - followed:
        cut = cut_off(url, depth + 1, settings, measure)
        is_nofollow = page.nofollow or url not in page.links
        assert cut is not None or is_nofollow or settings.scope is Scope.PAGE
        if is_nofollow:
            skipped[Skipped.NOFOLLOW] += 1
        else:
            skipped[Skipped(cut.reason) if cut else Skipped.OUT_OF_SCOPE] += 1
    assert links.skipped == skipped
    keeps = settings.keep_skipped and is_of_crawl and not page.nofollow
    assert {entry.url for entry in entries} == (set(page.links) if keeps else followed)
    assert len(followed) + sum(links.skipped.values()) == len(found)


def test_a_link_that_is_known_to_be_recorded_is_not_skipped() -> None:
    message = Message(url=PAGE, settings=CrawlSettings(scope=Scope.HOST), crawl=CrawlRef("default", "1"))
    recorded = Recorded(100)
    recorded.add("http://a.example/x", 1)
    links = where_it_leads(read("<a href=/x>1</a><a href=http://b.example/>2</a>", message.settings), message, recorded)
    assert (list(links.entries), links.skipped) == ([], {Skipped.OUT_OF_SCOPE: 1})


def test_where_a_redirect_leads_that_is_kept_alone_is_no_way_on() -> None:
    settings = CrawlSettings(scope=Scope.HOST, max_depth=2, keep_skipped=True)
    message = Message(url=PAGE, depth=1, settings=settings, crawl=CrawlRef("default", "1"))
    outcome = Outcome(status=Status.DONE, http_status=301, redirect_to="http://else.example/")
    kept = Entry(url="http://else.example/", depth=1, redirects=1, crawl=message.crawl, is_skipped=True)
    assessed = Assessed(outcome=outcome, entry=kept)
    links = links_of(assessed, message, Recorded(100), [], Measure(settings.scope, "", {}))
    assert links == ((kept,), Outlinks((), Onward.REDIRECT, is_other_for_seeds=True), {})
