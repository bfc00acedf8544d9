"""What follows from a redirect: where it leads, and as what.

A redirect is an answer, and ends the visit of its URL; its target is a URL like any other, with a record of
its own (docs/decisions/011-a-redirect-is-an-answer.md). How a redirect is read is in ``web.location``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sqspider.crawls import measured_from
from sqspider.frontier import Entry
from sqspider.message import Message
from sqspider.record import Reason
from sqspider.scope import within
from sqspider.url import Scope, in_scope, without_tracking

MAX_REDIRECTS: Final = 10  # from one page to the next


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
