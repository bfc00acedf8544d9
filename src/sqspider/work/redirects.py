"""What follows from a redirect: where it leads, and as what.

A redirect is an answer, and ends the visit of its URL; its target is a URL like any other, with a record of
its own (docs/decisions/011-a-redirect-is-an-answer.md). How a redirect is read is in ``web.location``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from sqspider.crawl_settings import measured_from
from sqspider.frontier import Entry
from sqspider.message import Message
from sqspider.record import Reason
from sqspider.scope import Measure, is_to_be_checked, is_within, not_excluded
from sqspider.url import Scope, in_scope, without_tracking

MAX_REDIRECTS: Final = 10  # from one page to the next


class Led(NamedTuple):
    """What a redirect means for the record of its URL."""

    to: str  # the key of the target's record, should there be one
    reason: Reason | None = None  # why it leads nowhere
    detail: str = ""
    entry: Entry | None = None  # the target, if it is to be recorded
    seed: str = ""  # a crawl's scope is to be measured from it, too


def led(message: Message, location: str, measure: Measure) -> Led:
    """What follows from the redirect of a message's URL to a canonical one; both are known to ``measure``.

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
    is_asked_for = message.depth == 0 or (settings.scope is Scope.PAGE and not message.checks_external)
    entry = Entry(
        url=target,
        depth=message.depth,
        parent=message.url,
        settings=settings,
        redirects=message.redirects + 1,
        crawl=message.crawl,
    )
    if message.is_requisite:
        if not_excluded([target], settings):
            return Led(target, entry=entry)
        return Led(target, detail=f"redirected to {target}: the crawl's patterns leave that out")
    if not is_asked_for and not is_within(target, settings, measure):  # no link to it would be followed
        is_checked = message.checks_external and is_to_be_checked(target, message.depth, settings, measure)
        kept = msgspec.structs.replace(entry, is_skipped=True) if message.keeps_skipped or is_checked else None
        return Led(target, detail=f"redirected to {target}: that lies outside of the crawl", entry=kept)
    if settings.max_depth is not None and message.depth > settings.max_depth:  # it came from what was only checked
        return Led(target, detail=f"redirected to {target}: that is deeper than the crawl goes", entry=entry)
    if becomes_seed(target, message, measure):
        seed = target
    elif settings.scope is not Scope.PAGE and not measure.holds(target):
        whose = "as it is" if message.crawl is not None else f"that of {seed}"
        detail = f"redirected to another site: {target} is fetched, and the scope stays {whose}"
    if message.crawl is None and settings.scope is not Scope.PAGE:
        entry = msgspec.structs.replace(entry, settings=measured_from(settings, seed))
    return Led(target, detail=detail, entry=entry, seed=new_seed(seed, message, measure))


def becomes_seed(target: str, message: Message, measure: Measure) -> bool:
    """Whether a seed leads to a URL of its own site, so that the scope is measured from that. Where a seed led to
    another site, that one is none."""
    is_seed = message.depth == 0 and (message.crawl is None or measure.holds(message.url))
    return is_seed and in_scope(target, Scope.DOMAIN, message.seed)


def new_seed(seed: str, message: Message, measure: Measure) -> str:
    """A seed of a crawl that is to be noted; empty: it is known well enough."""
    is_new = message.crawl is not None and seed != message.url and not measure.holds(seed)
    return seed if is_new and message.settings.scope is not Scope.PAGE else ""
