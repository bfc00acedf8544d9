"""What a capture adds to the link table: what it was, the places in it that links may name, and its links."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from sqspider.extract.document import BinaryError, Document, answered_by
from sqspider.extract.facts import title_of
from sqspider.extract.page import Page
from sqspider.extract.page_links import LinkKind, PageLink, links_of_page, written_of
from sqspider.extract.selection import is_robots, is_sitemap
from sqspider.url import canonicalize
from sqspider.web.body import DecodeError
from sqspider.web.links import HTML_TYPES, LinkOptions, read_page

_SITEMAP_ROOTS: Final = (b"<urlset", b"<sitemapindex")
_ROOT_BYTES: Final = 2048  # in which the root of a sitemap begins
_STEP: Final = 64 * 1024


class LinkedPage(msgspec.Struct, frozen=True, kw_only=True):
    """A capture, as the link table takes it. It can be sent to another process."""

    url: str
    at: float  # seconds since the epoch
    http_status: int | None = None
    media_type: str = ""
    title: str = ""
    anchors: bytes | None = None  # see ``packed``; none: it is not known which there are
    links: tuple[PageLink, ...] | None = ()  # each once, in document order; none: they are not known from it


def linked_page(document: Document) -> LinkedPage | None:
    """What is kept of a capture; none of what was asked for by the way (robots.txt).

    Only good answers have links; a redirect has that to where it leads.
    """
    captured = document.captured
    if is_robots(captured):
        return None
    status = answered_by(captured).http_status
    page = LinkedPage(url=document.url, at=document.at, http_status=status, media_type=document.media_type)
    if captured.kind == "revisit" and captured.original is None:
        return msgspec.structs.replace(page, http_status=None, links=None)
    if status is not None and 300 <= status < 400:
        return msgspec.structs.replace(page, links=tuple(_redirect(document)))
    if status is not None and not 200 <= status < 300:
        return page
    try:
        if is_sitemap(captured) or _looks_like_sitemap(document):
            return msgspec.structs.replace(page, links=tuple(dict.fromkeys(_listed(document))))
        links = links_of_page(document)
        if not links and document.header("refresh") is not None:  # crawlers take an empty answer for a page then
            links = list(_followed(document, LinkKind.REFRESH))
        page = msgspec.structs.replace(page, links=_each_once(links))
        if document.may_be_page and document.is_page:
            return msgspec.structs.replace(page, title=title_of(Page(document)) or "", anchors=_anchors(document))
    except BinaryError:
        return msgspec.structs.replace(page, links=tuple(_followed(document, LinkKind.A)))
    except DecodeError:
        pass  # it has none that anybody could follow
    return page


def _followed(document: Document, kind: LinkKind) -> Iterator[PageLink]:
    """Of what is hardly a page: what crawlers find in it all the same, and go on by."""
    options = LinkOptions(meta_refresh=True, obey_nofollow=False)
    read = read_page(document.body, document.url, document.headers, options)
    return (PageLink(link, kind, "") for link in (read.links if read else ()))


def _each_once(links: Iterable[PageLink]) -> tuple[PageLink, ...]:
    """How one is written counts only where it is no URL."""
    found: dict[tuple[str | None, ...], PageLink] = {}
    for link in links:
        to, kind, written, fragment, rel, text, _ = link
        found.setdefault((to, kind, None if to else written, fragment, rel, text), link)
    return tuple(found.values())


def _redirect(document: Document) -> Iterator[PageLink]:
    from sqspider.web.location import REDIRECT_STATUSES, as_ascii  # here: whose module knows of connections

    if answered_by(document.captured).http_status not in REDIRECT_STATUSES:
        return
    location = (document.header("location") or "").replace("\0", "%00").strip()
    target = canonicalize(as_ascii(location), document.url) if location else None
    if isinstance(target, str):
        fragment = location.partition("#")[2]
        yield PageLink(target, LinkKind.REDIRECT, "", fragment)
    elif target is not None:
        yield PageLink(None, LinkKind.REDIRECT, written_of(target), reason=target.reason)


def _looks_like_sitemap(document: Document) -> bool:
    """Of archives that do not say what they were asked for."""
    if not document.media_type.endswith("xml") or document.media_type in HTML_TYPES:
        return False
    return any(root in document.body[:_ROOT_BYTES] for root in _SITEMAP_ROOTS)


def _listed(document: Document) -> Iterator[PageLink]:
    """The pages and sitemaps that a sitemap lists, as far as it can be read."""
    from sqspider.web.sitemap import MAX_SITEMAP_BYTES, SitemapReader  # here: most archives have few, or none

    reader = SitemapReader(document.url)
    found = []
    body = document.captured.body(MAX_SITEMAP_BYTES)
    for at in range(0, len(body), _STEP):
        found += reader.feed(body[at : at + _STEP])
    found += reader.close()
    return (PageLink(entry.url, LinkKind.SITEMAP, "") for entry in found)


def _anchors(document: Document) -> bytes:
    """The places in a page that a fragment may name: HTML standard, section 7.4.6.4."""
    tree = document.tree
    names = [element.attr("id") or "" for element in tree.select("[id]")]
    return packed([*names, *(element.attr("name") or "" for element in tree.select("a[name]"))])


def packed(names: Iterable[str]) -> bytes:
    """Names of places as they are kept: each once, compressed. No name has a NUL in it."""
    return zlib.compress("\0".join(sorted({name for name in names if name})).encode("utf-8", "replace"), 6)


def unpacked(anchors: bytes) -> frozenset[str]:
    """The names back."""
    return frozenset(zlib.decompress(anchors).decode().split("\0"))
