"""What is handed to an archive: pages with how they were come to, robots.txt before it decides, sitemaps before what
they list; and nothing secret of a request."""

from __future__ import annotations

import asyncio
import base64
import gzip
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sqspider.archive.store import open_store
from sqspider.capture import Capture, FullError, Hop, StoreError, redacted_head
from sqspider.crawl_row import CrawlRef, Identity
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Delivery, Frontier, FrontierSettings, Won
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from sqspider.message import Message
from sqspider.politeness import MAX_HOPS, Awaited, Form, Politeness
from sqspider.politeness import Asked as WasAsked
from sqspider.politeness import Request as Question
from sqspider.record import CapturePlace, Kept, Outcome, Status
from sqspider.scope import Blocked
from sqspider.web.fetch import Fetcher, FetchOptions
from sqspider.web.links import read_page
from sqspider.work.allowed import Allowed
from sqspider.work.asker import Asker, asking
from sqspider.work.captures import can_refer, capture_of, hop_to, place_before
from sqspider.work.hand import Visit
from sqspider.work.large_bodies import LargeBodies, Space
from sqspider.work.secrets import Secrets
from sqspider.work.sitemaps import SitemapReport, discover
from tests.crawl.crawl_rows import AT_HOME, SETTINGS, made, put_in, replace, work
from tests.sites import Answer, Asked, Site

CAPTURING = replace(AT_HOME, captures=True)


class Journal:
    """A store that notes what it is given, and what was known by then."""

    gather_seconds, most_bytes = 0.0, 1 << 20

    def __init__(self, at_note: Callable[[], Any] | None = None, at_keep: Callable[[], Any] | None = None) -> None:
        self.noted: list[Capture] = []
        self.kept: list[Capture] = []
        self.seen: list[Any] = []
        self.error: StoreError | None = None
        self.refuses = ""  # a URL that ends so
        self._at_note, self._at_keep = at_note, at_keep

    def note(self, capture: Capture) -> None:
        self.noted.append(capture)
        if self._at_note is not None:
            self.seen.append(self._at_note())

    async def keep(self, captures: Sequence[Capture]) -> list[CapturePlace | None]:
        if self.error is not None and any(capture.url.endswith(self.refuses) for capture in captures):
            raise self.error
        self.kept += captures
        if self._at_keep is not None:
            self.seen.append(await self._at_keep())
        return [None] * len(captures)

    def has(self, place: CapturePlace) -> bool:
        return bool(place.file)

    async def close(self) -> None:
        """There is nothing to be let go of."""


def shown(captures: Sequence[Capture], site: Site) -> list[tuple[str, Hop, str | None, bytes]]:
    cut = len(site.url) - 1
    return [(one.url[cut:], one.hop, one.via and one.via[cut:], one.fetched.payload) for one in captures]


# Pages.


def visit_of(message: Message, kept: Kept | None = None) -> Visit:
    visit = Visit(
        Delivery(message_id="1", receipt="1", body="", receive_count=1, sent_at=0.0), message, Space(LargeBodies(None))
    )
    visit.claim = Won(
        url=message.url, attempt=1, unended=1, tries=0, worker_id="w", claim_id="c", lease_until=9e9, kept=kept
    )
    return visit


@asynccontextmanager
async def keeper(frontier: Frontier, fetch: FetchOptions = CAPTURING, **more: Any) -> AsyncIterator[Politeness]:
    async with Fetcher(fetch) as fetcher:
        politeness = Politeness(
            frontier, fetcher, clock=time.time, rng=random.Random(), stopping=asyncio.Event(), request_seconds=30,
            linger_seconds=0, **{"robots_grace_seconds": 0, **more},
        )  # fmt: skip
        yield politeness
        await politeness.close()


async def asked_for(politeness: Politeness, url: str, settings: CrawlSettings = SETTINGS, **more: Any) -> WasAsked:
    asked = await politeness.fetch(Question(url, settings, **more))
    assert isinstance(asked, WasAsked)
    return asked


PLACE = CapturePlace("A.warc.gz", 7, 8, "ABC", 9.0)
REVISIT = CapturePlace("B.warc.gz", 1, 2, "ABC", 10.0, payload=replace(PLACE, url="http://e.com/same"))


def good(place: CapturePlace | None, *, unchanged: bool = False, unkept: bool = False, type_: str = "") -> Kept:
    outcome = Outcome(status=Status.DONE, capture=place, unchanged=unchanged, unkept=unkept, content_type=type_ or None)
    return Kept(good=outcome)


async def test_a_page_is_handed_on_with_how_it_was_come_to(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/a": "<p>Größe".encode("windows-1252")}
    settings = replace(SETTINGS, keep=("text/*",))
    message = Message(
        url=f"{host.url}a",
        depth=2,
        redirects=1,
        parent=host.url,
        settings=settings,
        crawl=CrawlRef("news", "0123456789ab"),
    )
    before = time.time()
    async with keeper(frontier) as politeness:
        asked = await asked_for(politeness, message.url)
    fetched = asked.fetched
    page = read_page(fetched.body, fetched.url, fetched.headers)
    capture = capture_of(visit_of(message, good(PLACE)), asked, message, page)
    assert capture is not None
    assert before <= capture.at <= time.time()
    assert capture == Capture(
        url=message.url, fetched=fetched, at=asked.requested_at, hop=Hop.REDIRECT, via=host.url, depth=2, crawl="news",
        settings=settings, before=PLACE, facts=(("visit", "0"), ("charsetForLinkExtraction", "windows-1252")),
    )  # fmt: skip
    assert capture.was_answered


async def test_when_it_was_asked_is_the_moment_the_request_was_sent(frontier: Frontier, host: Site) -> None:
    """Not that of the answer, nor that of the permission."""
    came: list[float] = []

    def late(asked: Asked) -> Answer:
        del asked
        came.append(time.time())
        time.sleep(0.05)
        return b""

    host.bodies = {"/": late}
    async with keeper(frontier) as politeness:
        asked = await asked_for(politeness, host.url)
    assert asked.asked_at <= asked.requested_at <= came[0]


@pytest.mark.parametrize(
    ("message", "hop"),
    [
        (Message(url="http://e.com/"), Hop.SEED),
        (Message(url="http://e.com/", parent="http://e.com/sitemap.xml"), Hop.LINK),
        (Message(url="http://e.com/", depth=3, parent="http://e.com/a"), Hop.LINK),
        (Message(url="http://e.com/", redirects=2, parent="http://e.com/a"), Hop.REDIRECT),
        (Message(url="http://e.com/", depth=3, redirects=1, parent="http://e.com/a"), Hop.REDIRECT),
    ],
)
def test_how_a_url_was_come_to_is_read_from_its_message(message: Message, hop: Hop) -> None:
    assert hop_to(message) is hop


@pytest.mark.parametrize(
    ("kept", "place"),
    [
        (None, None), (Kept(etag='"a"'), None), (good(None), None), (good(PLACE), PLACE),
        (good(REVISIT), replace(PLACE, url="http://e.com/same")),
        (good(PLACE, unchanged=True), None), (good(REVISIT, unchanged=True), replace(PLACE, url="http://e.com/same")),
    ],
)  # fmt: skip
def test_what_a_revisit_refers_to_is_the_payload_of_the_last_good_visit(
    kept: Kept | None, place: CapturePlace | None
) -> None:
    assert place_before(kept) == place


@pytest.mark.parametrize(
    ("kept", "keep", "may"),
    [
        (None, (), True),
        (good(None), (), False),
        (good(PLACE), (), True),
        (good(REVISIT), (), True),
        (good(replace(PLACE, file="gone")), (), False),
        (good(PLACE, unchanged=True), (), False),
        (good(PLACE, unchanged=True, type_="image/png"), ("text/html",), True),
        (good(None, unkept=True, type_="image/png"), ("text/html",), True),
        (good(None, unkept=True, type_="image/png"), ("none",), True),
        (good(None, unkept=True, type_="image/png"), ("image/*",), False),
        (good(None, unkept=True, type_="image/png"), ("text/html", "*/*"), False),
        (good(None, unkept=True, type_="image/png"), (), False),
        (good(None, unkept=True), ("text/html",), True),
    ],
)
def test_what_has_changed_alone_is_asked_for_where_the_page_is_there_or_is_not_wanted(
    kept: Kept | None, keep: tuple[str, ...], may: bool
) -> None:
    assert can_refer(kept, CrawlSettings(keep=keep), lambda place: place.file != "gone") is may


async def test_what_was_not_answered_or_not_captured_is_not_handed_on(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": b"", "/none": lambda _: None}
    for fetch, path in ((CAPTURING, "none"), (AT_HOME, "")):
        async with keeper(frontier, fetch) as politeness:
            message = Message(url=f"{host.url}{path}", settings=SETTINGS)
            assert capture_of(visit_of(message), await asked_for(politeness, message.url)) is None


# robots.txt.


async def judged(politeness: Politeness, message: Message) -> Any:
    while isinstance(verdict := await politeness.judge(message), Awaited):
        await verdict.future
    return verdict


async def robots_of(frontier: Frontier, url: str, journal: Journal, **more: Any) -> Any:
    crawl = CrawlRef("news", "0123456789ab")
    async with keeper(frontier, note=journal.note, **more) as politeness:
        return await judged(politeness, Message(url=url, settings=SETTINGS, crawl=crawl))


RULES = b"User-agent: *\nDisallow: /x\n"


async def test_robots_txt_is_noted_before_it_is_saved(host: Site) -> None:
    """Redirects on the way to it, too; the last one with what it decided."""
    store = MemoryStore()
    frontier = MemoryFrontier(store, FrontierSettings(), clock=time.time)
    origin = host.url.rstrip("/")

    def saved() -> bool:
        row = store.robots.get(origin)
        return row is not None and bool(row.fetched_at)

    journal = Journal(saved)
    host.bodies = {"/robots.txt": (301, {"Location": "/rules"}), "/rules": RULES}
    before = time.time()
    assert isinstance(await robots_of(frontier, f"{host.url}x", journal), Blocked)
    assert shown(journal.noted, host) == [
        ("/robots.txt", Hop.ROBOTS, None, b""),
        ("/rules", Hop.ROBOTS, "/robots.txt", RULES),
    ]
    assert [one.redirects for one in journal.noted] == [0, 1]
    assert [one.facts for one in journal.noted] == [(), (("robots", "obey"),)]
    assert all((one.crawl, one.settings) == ("news", SETTINGS) for one in journal.noted)
    assert before <= journal.noted[0].at <= journal.noted[1].at <= time.time()
    assert journal.seen == [False, False]
    assert saved()


@pytest.mark.parametrize("grace", [0, 3600])
@pytest.mark.parametrize(
    ("answer", "decided"),
    [
        ((404, {}), "allow all: HTTP status 404"),
        ((503, {}), "unreachable: HTTP status 503"),
        (RULES, "obey"),
        ((302, {"Location": "/robots.txt"}), f"allow all: more than {MAX_HOPS} redirects"),
    ],
)
async def test_what_a_robots_txt_decided_is_told(
    frontier: Frontier, host: Site, answer: Answer, decided: str, grace: float
) -> None:
    """Also where it is put back, to be asked for again."""
    journal = Journal()
    host.bodies = {"/robots.txt": answer}
    await robots_of(frontier, host.url, journal, robots_grace_seconds=grace)
    assert len(journal.noted) == len(host.requests)
    assert [facts for one in journal.noted[:-1] for facts in one.facts] == []
    assert journal.noted[-1].facts == (("robots", decided),)


async def test_a_robots_txt_without_an_answer_is_not_noted(frontier: Frontier, host: Site) -> None:
    journal = Journal()
    host.bodies = {"/robots.txt": lambda _: None}
    await robots_of(frontier, host.url, journal)
    assert host.requests
    assert journal.noted == []


# Sitemaps.


def urlset(*urls: str) -> bytes:
    return f"<urlset>{''.join(f'<url><loc>{url}</loc></url>' for url in urls)}</urlset>".encode()


def index(*urls: str) -> bytes:
    return f"<sitemapindex>{''.join(f'<sitemap><loc>{url}</loc></sitemap>' for url in urls)}</sitemapindex>".encode()


async def discovered(frontier: Frontier, store: Journal, url: str) -> list[SitemapReport]:
    reports: list[SitemapReport] = []
    await discover(
        frontier, AT_HOME, SETTINGS, seeds=[url], clock=time.time, rng=random.Random(), stopping=asyncio.Event(),
        on_report=reports.append, store=store,
    )  # fmt: skip
    return reports


def with_sitemaps(host: Site) -> dict[str, bytes]:
    url = host.url
    documents = {
        "/index": index(f"{url}1.xml", f"{url}2.xml"),
        "/2.xml": urlset(f"{url}c"),
        "/3.xml": urlset(f"{url}a"),
    }
    host.bodies = {
        "/robots.txt": f"Sitemap: {url}index\n".encode(), **documents, "/1.xml": (302, {"Location": "/3.xml"})
    }  # fmt: skip
    return documents


async def test_sitemaps_are_kept_before_what_they_list_is_enqueued(frontier: Frontier, host: Site) -> None:
    documents = with_sitemaps(host)

    async def known() -> int:
        return (await frontier.counts()).total

    journal = Journal(at_keep=known)
    reports = await discovered(frontier, journal, host.url)
    assert shown(journal.noted, host) == [("/robots.txt", Hop.ROBOTS, None, f"Sitemap: {host.url}index\n".encode())]
    assert shown(journal.kept, host) == [
        ("/index", Hop.SITEMAP, "/robots.txt", documents["/index"]),
        ("/1.xml", Hop.SITEMAP, "/index", b""),
        ("/3.xml", Hop.SITEMAP, "/1.xml", documents["/3.xml"]),
        ("/2.xml", Hop.SITEMAP, "/index", documents["/2.xml"]),
        ("/sitemap.xml", Hop.SITEMAP, None, b""),
    ]
    assert [one.redirects for one in journal.kept] == [0, 0, 1, 0, 0]
    assert journal.seen == [0, 0, 0, 1, 2]
    assert sum(report.new for report in reports) == 2


@pytest.mark.parametrize("error", [StoreError("No space left"), FullError("the limit is reached")])
async def test_a_sitemap_that_cannot_be_kept_is_not_read(frontier: Frontier, host: Site, error: StoreError) -> None:
    """It is our trouble: its site is asked once, and the others are read."""
    with_sitemaps(host)
    journal = Journal()
    journal.error, journal.refuses = error, "/3.xml"
    reports = await discovered(frontier, journal, host.url)
    assert {record.url async for batch in frontier.scan() for record in batch} == {f"{host.url}c"}
    told = {report.url.removeprefix(host.url): report.trouble for report in reports}
    assert told["1.xml"] == f"it could not be kept in the archive: {error}"
    assert told["2.xml"] == ""
    assert host.paths.count("/3.xml") == 1


async def test_every_try_of_a_sitemap_is_kept(frontier: Frontier, host: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqspider.work.sitemaps.FIRST_RETRY_SECONDS", 0.01)
    host.bodies = {"/robots.txt": f"Sitemap: {host.url}m".encode(), "/m": (408, {})}
    journal = Journal()
    await discovered(frontier, journal, host.url)
    assert len([one for one in journal.kept if one.url.endswith("/m")]) == host.paths.count("/m") > 1


# Secrets.

PASSWORD, TOKEN, COOKIE = "p\"w%d-Xyzzy'2", "tok-fedcba9876543210", "c00kie-value-78"
ENVIRONMENT = {
    "SQSPIDER_SECRET_PASSWORD": PASSWORD, "SQSPIDER_SECRET_TOKEN": TOKEN, "SQSPIDER_SECRET_COOKIE": COOKIE,
}  # fmt: skip
WALL = "wall=brick-in-the-wall"


@asynccontextmanager
async def as_crawl(frontier: Frontier, fetch: FetchOptions = AT_HOME, **fields: Any) -> AsyncIterator[Asker]:
    identity = Identity(allow_private=True, **fields)
    crawl = await made(frontier, identity=identity)
    async with asking(
        frontier, fetch, SETTINGS, clock=time.time, rng=random.Random(), stopping=asyncio.Event(), crawl=crawl,
        allowed=Allowed.by(AT_HOME, origins=identity.origins), secrets=Secrets(ENVIRONMENT), store=Journal(),
    ) as asker:  # fmt: skip
        yield asker


@pytest.mark.parametrize(
    ("fields", "secrets", "names"),
    [
        (
            {"headers": (("X-Api-Key", "env:SQSPIDER_SECRET_TOKEN"), ("X-Client", "plain"))},
            [TOKEN], {"x-api-key", "cookie"},
        ),
        ({"cookies": (("sid", "env:SQSPIDER_SECRET_COOKIE"),)}, [COOKIE], {"cookie"}),
        (
            {"login": "joe:env:SQSPIDER_SECRET_PASSWORD"},
            [PASSWORD, base64.b64encode(f"joe:{PASSWORD}".encode()).decode()], {"authorization", "cookie"},
        ),
        ({"bearer": "env:SQSPIDER_SECRET_TOKEN"}, [TOKEN], {"authorization", "cookie"}),
    ],
)  # fmt: skip
async def test_no_byte_of_a_secret_is_in_what_would_be_written(
    frontier: Frontier, host: Site, fields: dict[str, Any], secrets: list[str], names: set[str]
) -> None:
    host.bodies = {"/": b""}
    async with as_crawl(frontier, origins=(host.url.rstrip("/"),), **fields) as asker:
        asked = await asked_for(
            asker.politeness, host.url, formed=lambda: Form((f"Cookie: {WALL}",)), agent=asker.agent
        )
        there = await asked_for(asker.politeness, host.url_of("127.0.0.2"), agent=asker.agent)
    assert asked.fetched.exchange is not None
    assert there.fetched.exchange is not None
    head = asked.fetched.exchange.request_head
    assert all(secret.encode() in head or secret == PASSWORD for secret in secrets)
    assert WALL.encode() in head
    assert asked.fetched.secret_lines == names
    hidden, told = redacted_head(head, asked.fetched.secret_lines)
    assert set(told) == names
    assert not any(secret.encode() in hidden for secret in [*secrets, WALL])
    assert hidden.count(b"[redacted]") == len(names)
    assert (b"X-Client: plain" in head) == (b"X-Client: plain" in hidden)
    assert there.fetched.secret_lines == frozenset()
    assert redacted_head(there.fetched.exchange.request_head, ()) == (there.fetched.exchange.request_head, ())


async def test_a_crawl_of_its_own_way_captures_as_its_worker_does(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": b"x"}
    async with as_crawl(frontier, user_agent="other/1.0") as asker:
        asked = await asked_for(asker.politeness, host.url, agent=asker.agent)
    assert asked.fetched.payload == b"x"
    assert asked.fetched.exchange is not None
    assert b"User-Agent: other/1.0\r\n" in asked.fetched.exchange.request_head


async def test_nothing_is_captured_where_nothing_is_kept(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": b"x"}
    async with asking(
        frontier, CAPTURING, SETTINGS, clock=time.time, rng=random.Random(), stopping=asyncio.Event()
    ) as asker:  # fmt: skip
        asked = await asked_for(asker.politeness, host.url, agent=asker.agent)
    assert (asked.fetched.body, asked.fetched.payload) == (b"x", b"")
    assert asked.fetched.exchange is not None
    assert asked.fetched.exchange.request_head == b""


async def test_no_secret_of_a_crawl_is_in_its_archive(frontier: Frontier, host: Site, tmp_path: Path) -> None:
    """All of it at once: a log-in, a key, a cookie and that of a wall, a proxy with a password."""

    def wall(asked: Asked) -> Answer:
        is_known = "wall=" in (asked.headers["Cookie"] or "")
        return b"" if is_known else (302, {"Location": "/", "Set-Cookie": WALL})

    url = "http://h.example/"
    host.bodies = {url: wall, f"{url}robots.txt": RULES}  # it is the proxy, too
    proxy = host.url.replace("//", "//me:Pr0xy-pass@")
    identity = Identity(
        allow_private=True, origins=(url.rstrip("/"),), cookies=(("sid", "env:SQSPIDER_SECRET_COOKIE"),),
        login="joe:env:SQSPIDER_SECRET_PASSWORD", headers=(("X-Api-Key", "env:SQSPIDER_SECRET_TOKEN"),),
        proxy="env:SQSPIDER_SECRET_PROXY",
    )  # fmt: skip
    await put_in(frontier, await made(frontier, identity=identity), url)
    allowed = Allowed.by(AT_HOME, origins=identity.origins, proxies=["env:SQSPIDER_SECRET_PROXY"])
    secrets = Secrets(ENVIRONMENT | {"SQSPIDER_SECRET_PROXY": proxy})
    store = open_store(str(tmp_path / "archive"))
    await work(frontier, CAPTURING, allowed=allowed, secrets=secrets, store=store)
    await store.close()
    (file,) = (tmp_path / "archive").glob("*.warc.gz")
    archive = gzip.decompress(file.read_bytes())
    asked = [record for record in archive.split(b"WARC/1.1\r\n") if b"WARC-Type: request\r\n" in record]
    assert [request.path for request in host.requests] == [f"{url}robots.txt", url, url]
    assert len(asked) == 3
    basic = [base64.b64encode(pair.encode()).decode() for pair in (f"joe:{PASSWORD}", "me:Pr0xy-pass")]
    for secret in (PASSWORD, TOKEN, COOKIE, "Pr0xy-pass", *basic):
        assert secret.encode() not in archive
    assert not any(WALL.encode() in record for record in asked)  # it is in the answer that set it
    assert all(record.count(b": [redacted]\r\n") == 4 for record in asked)
    assert b"WARC-IP-Address" not in archive
