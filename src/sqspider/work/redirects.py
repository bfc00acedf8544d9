"""What follows from a redirect: where it leads, as what, and where a chain of them ends.

A redirect is an answer, and ends the visit of its URL; its target is a URL like any other, with a record of
its own (docs/decisions/011-a-redirect-is-an-answer.md). How a redirect is read is in ``web.fetch``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from sqspider.bounds import within
from sqspider.crawls import measured_from
from sqspider.frontier import Entry, Frontier
from sqspider.message import Message
from sqspider.record import Reason, UrlRecord
from sqspider.url import Scope, in_scope, without_tracking

MAX_REDIRECTS: Final = 10  # from one page to the next
MAX_CHAIN: Final = 2 * MAX_REDIRECTS  # that is looked at: where ways meet, a chain may be longer than each of them


class Led(NamedTuple):
    """What a redirect means for the record of its URL."""

    to: str  # the key of the target's record, should there be one
    reason: Reason | None = None  # why it leads nowhere
    detail: str = ""
    entry: Entry | None = None  # the target, if it lies within the crawl


def led(message: Message, location: str) -> Led:
    """What follows from the redirect of a message's URL to a canonical one.

    Whoever asked for a URL itself asked for what it leads to; the target of a link must be one that may be
    linked to. A seed's target of its own site is what the scope is measured from then.
    """
    settings = message.settings
    target = without_tracking(location) if settings.drop_tracking else location
    if target == message.url:
        return Led(target, Reason.REDIRECT_LOOP, "redirected to itself")
    if message.redirects >= MAX_REDIRECTS:
        return Led(target, Reason.TOO_MANY_REDIRECTS, f"the last of {message.redirects} redirects leads on to {target}")
    seed, detail = message.seed, ""
    is_asked_for = message.depth == 0 or settings.scope is Scope.PAGE
    if not is_asked_for and not _may_lead_to(target, message):
        return Led(target, detail=f"redirected to {target}: that lies outside of the crawl")
    if message.depth == 0 and in_scope(target, Scope.DOMAIN, seed):
        seed = target
    elif settings.scope is not Scope.PAGE and not in_scope(target, settings.scope, seed):
        detail = f"redirected to another site: {target} is fetched, and the scope stays that of {seed}"
    if settings.scope is not Scope.PAGE:
        settings = measured_from(settings, seed)
    entry = Entry(
        url=target, depth=message.depth, parent=message.url, settings=settings, redirects=message.redirects + 1
    )
    return Led(target, detail=detail, entry=entry)


def _may_lead_to(target: str, message: Message) -> bool:
    """Whether a link to the target would be followed."""
    return any(within((target,), message.settings, message.seed))


class Chain(NamedTuple):
    """Where a URL's redirects lead."""

    urls: tuple[str, ...]  # from the first to the last, each once
    last: UrlRecord | None  # of the last of them; none: it is not known here
    back_to: str | None  # one of them, to which the last one redirects: a loop
    is_cut: bool  # it goes on, and no further was looked

    @property
    def end(self) -> str | None:
        """The URL where it ends; none if it does not."""
        return None if self.back_to is not None or self.is_cut else self.urls[-1]

    def __str__(self) -> str:
        """The way, for a person."""
        way = " → ".join(self.urls)
        if self.back_to is not None:
            return f"{way} → {self.back_to}: a loop"
        if self.is_cut:
            return f"{way} → …"
        if self.last is None:
            return f"{way} (not recorded)"
        outcome = self.last.outcome
        reason = f": {outcome.reason.value}" if outcome and outcome.reason else ""
        return f"{way} ({self.last.status.value}{reason})"


async def chains_of(frontier: Frontier, records: Iterable[UrlRecord]) -> dict[str, Chain]:
    """The chains that begin with those of some records that redirect, by their URLs.

    Looked up together, at most :data:`MAX_CHAIN` times, whatever their number.
    """
    known = {record.url: record for record in records}
    firsts = [url for url, record in known.items() if _target(record)]
    looked_at = set(known)
    wanted = {target for url in firsts if (target := _target(known[url]))} - looked_at
    for _ in range(MAX_CHAIN):
        if not wanted:
            break
        found = await frontier.get(sorted(wanted))
        looked_at |= wanted
        known |= found
        wanted = {target for record in found.values() if (target := _target(record))} - looked_at
    return {url: _chain(url, known) for url in firsts}


def _target(record: UrlRecord | None) -> str | None:
    outcome = record.outcome if record else None
    return outcome.redirect_to if outcome and outcome.is_redirect else None


def _chain(first: str, known: dict[str, UrlRecord]) -> Chain:
    urls = [first]
    target = _target(known[first])
    while target is not None and target not in urls and len(urls) <= MAX_CHAIN:
        urls.append(target)
        target = _target(known.get(target))
    is_loop = target in urls
    return Chain(
        tuple(urls), known.get(urls[-1]), back_to=target if is_loop else None, is_cut=target is not None and not is_loop
    )
