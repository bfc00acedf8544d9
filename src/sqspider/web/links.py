"""What is on a page: its title, its outlinks, and whether its author asks not to follow them.

Parsing is ``selectolax``' lexbor, resolution is the WHATWG URL standard's. Which links a crawl
follows is not decided here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from selectolax.lexbor import LexborHTMLParser

from sqspider.url import Refused, canonicalize
from sqspider.web.charset import UTF_8, charset_of, codec_of, decode

MAX_TITLE: Final = 300  # characters
MAX_LINKS: Final = 50_000  # of one page; a page with more is a trap, or a sitemap
_PAGE_TYPES: Final = frozenset({"text/html", "application/xhtml+xml"})
_LOOKS_LIKE_HTML: Final = re.compile(
    rb"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|title)\b", re.I | re.S
)
_REFRESH: Final = re.compile(
    r"[\t\n\f\r ]*(?:[0-9]+(?:\.[0-9.]*)?|\.[0-9.]*)(?:[\t\n\f\r ]*[;,][\t\n\f\r ]*|[\t\n\f\r ]+)(.*)", re.S
)
_REFRESH_URL: Final = re.compile(r"url[\t\n\f\r ]*=[\t\n\f\r ]*(.*)", re.I | re.S)


class LinkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What counts as a link."""

    meta_refresh: bool = False
    srcset: bool = False
    drop_tracking: bool = False
    obey_nofollow: bool = True  # leave out rel=nofollow


class PageLinks(msgspec.Struct, frozen=True, kw_only=True):
    """What is on a page."""

    title: str | None  # white space collapsed, at most 300 characters
    links: tuple[str, ...]  # canonical, each once, in the order of the page; refused ones left out
    nofollow: bool  # the page, or its X-Robots-Tag, asks not to follow its links
    noindex: bool  # likewise not to index it: noted, not acted upon


def read_page(
    body: bytes,
    url: str,
    headers: Sequence[tuple[str, str]],
    options: LinkOptions = LinkOptions(),  # noqa: B008 - frozen
    product_token: str = "sqspider",
) -> PageLinks | None:
    """Read a page that was found at ``url`` (the final one); ``None`` if it is no HTML.

    ``headers`` are those of its answer. A page without a type is looked at.
    """
    content_type = next((value for name, value in headers if name.lower() == "content-type"), None)
    essence = content_type.partition(";")[0].strip().lower() if content_type else ""
    if essence not in _PAGE_TYPES and (essence or not _LOOKS_LIKE_HTML.match(body[:1024])):
        return None
    charset = charset_of(body, content_type)
    tree = LexborHTMLParser(_utf_8(body, charset))
    directives = _directives(tree, headers, product_token.lower())
    title = tree.css_first("title")
    text = " ".join(title.text().split())[:MAX_TITLE] if title is not None else ""
    return PageLinks(
        title=text or None,
        links=tuple(_resolved(_hrefs(tree, options), _base(tree, url), charset, options.drop_tracking)),
        nofollow=options.obey_nofollow and not directives.isdisjoint({"nofollow", "none"}),
        noindex=not directives.isdisjoint({"noindex", "none"}),
    )


def _utf_8(body: bytes, charset: str) -> bytes | str:
    """The page for the parser: its own bytes if they are UTF-8, its decoded text if not."""
    if charset == UTF_8 or body.isascii():
        try:
            body.decode(UTF_8)
        except UnicodeDecodeError:
            return body.decode(UTF_8, "replace")
        return body
    return decode(body, charset)


def _base(tree: LexborHTMLParser, url: str) -> str:
    """The URL that links are relative to: the first ``base`` with an href (HTML standard, 4.2.3)."""
    first = tree.css_first("base[href]")
    if first is None:
        return url
    base = canonicalize(first.attributes.get("href") or "", url)
    return url if isinstance(base, Refused) else base


def _hrefs(tree: LexborHTMLParser, options: LinkOptions) -> Iterator[str]:
    for node in tree.css("a[href],area[href]"):
        attributes = node.attributes
        if options.obey_nofollow and "nofollow" in (attributes.get("rel") or "").lower().split():
            continue
        yield attributes["href"] or ""
    if options.meta_refresh:
        for node in tree.css("meta[http-equiv][content]"):
            if (node.attributes["http-equiv"] or "").lower() == "refresh":
                target = refresh_target(node.attributes["content"] or "")
                if target is not None:
                    yield target
    if options.srcset:
        for node in tree.css("img[srcset],source[srcset]"):
            yield from srcset_candidates(node.attributes["srcset"] or "")


def _resolved(hrefs: Iterator[str], base: str, charset: str, drop_tracking: bool) -> Iterator[str]:
    raw: set[str] = set()
    given: set[str] = set()
    for href in hrefs:
        if href in raw or href.startswith("#"):
            continue
        raw.add(href)
        if charset != UTF_8 and not href.isascii():
            href = _query_in(href, charset)
        link = canonicalize(href, base, drop_tracking=drop_tracking)
        if isinstance(link, Refused) or link in given:
            continue
        given.add(link)
        yield link
        if len(given) >= MAX_LINKS:
            return


def _query_in(href: str, charset: str) -> str:
    """The href with its query in the page's encoding, percent-encoded (URL standard, "query state")."""
    if charset.startswith("utf-16") or charset == "replacement":
        return href  # the standard encodes these queries in UTF-8
    address, mark, rest = href.partition("?")
    query, hash_mark, fragment = rest.partition("#")
    encoded = []
    for character in query:
        if character.isascii():
            encoded.append(character)
            continue
        try:
            octets = character.encode(codec_of(charset))
        except (UnicodeEncodeError, LookupError):
            encoded.append(f"%26%23{ord(character)}%3B")
        else:
            encoded.extend(f"%{octet:02X}" for octet in octets)
    return address + mark + "".join(encoded) + hash_mark + fragment


def _directives(tree: LexborHTMLParser, headers: Sequence[tuple[str, str]], product_token: str) -> set[str]:
    """The robots directives that hold for us, in lower case: of ``meta`` and of X-Robots-Tag."""
    texts = [
        node.attributes["content"] or ""
        for node in tree.css("meta[name][content]")
        if (node.attributes["name"] or "").strip().lower() in ("robots", product_token)
    ]
    for name, value in headers:
        if name.lower() == "x-robots-tag":
            agent, colon, rest = value.partition(":")
            if colon and agent.strip().lower() not in ("unavailable_after", product_token):
                if "," not in agent and " " not in agent.strip():
                    continue  # for another crawler
                rest = value
            texts.append(rest if colon else value)
    return {directive.strip().lower() for text in texts for directive in text.split(",")}


def refresh_target(content: str) -> str | None:
    """Where a ``meta`` refresh leads, unresolved; "" for the page itself, ``None`` for nowhere.

    HTML standard, 4.2.5.3, "shared declarative refresh steps".
    """
    whole = re.fullmatch(r"[\t\n\f\r ]*(?:[0-9]+[0-9.]*|\.[0-9.]*)[\t\n\f\r ]*[;,]?[\t\n\f\r ]*", content)
    if whole:
        return ""
    match = _REFRESH.fullmatch(content)
    if match is None:
        return None
    rest = match[1]
    url = _REFRESH_URL.fullmatch(rest)
    target = url[1] if url else rest
    if target[:1] in ("'", '"'):
        target = target[1:].partition(target[0])[0]
    return target


def srcset_candidates(srcset: str) -> list[str]:
    """The URLs of a ``srcset``, unresolved (HTML standard, 4.8.4.2.1, "parse a srcset attribute").

    Commas inside a URL are part of it; a candidate with bad descriptors is left out.
    """
    candidates = []
    rest = srcset
    while rest := rest.lstrip("\t\n\f\r ,"):
        match = re.match(r"[^\t\n\f\r ]+", rest)
        if match is None:
            break
        url, rest = match[0], rest[match.end() :]
        if url.endswith(","):
            candidates.append(url.rstrip(","))
            continue
        descriptors, rest = _descriptors(rest)
        if _are_valid(descriptors):
            candidates.append(url)
    return candidates


def _descriptors(text: str) -> tuple[list[str], str]:
    """The descriptors up to the next comma outside parentheses, and what comes after it."""
    depth = 0
    for position, character in enumerate(text):
        if character == "(":
            depth += 1
        elif character == ")":
            depth = max(0, depth - 1)
        elif character == "," and depth == 0:
            return text[:position].split(), text[position + 1 :]
    return text.split(), ""


def _are_valid(descriptors: list[str]) -> bool:
    kinds = []
    for descriptor in descriptors:
        if re.fullmatch(r"[0-9]+[wh]", descriptor):
            if int(descriptor[:-1]) == 0:
                return False
            kinds.append(descriptor[-1])
        elif re.fullmatch(r"-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?x", descriptor):
            if float(descriptor[:-1]) < 0:
                return False
            kinds.append("x")
        else:
            return False
    return sorted(kinds) in ([], ["w"], ["x"], ["h", "w"])
