"""What comes back when a crawl's limit is widened: which records a change of its row lets in again. No I/O lives here.

    wider                            comes back
    -------------------------------  ----------------------------------------------------------------
    depth                            what was too deep; pages at the old limit are gone into once more
    scope, include, exclude          what was queued when they were narrowed, or is kept (`keep_skipped`);
                                     of the scope also what was only checked (`check_external`)
    check-external; exclude with it  what is kept that lies outside of the scope
    assets                           what pages need to be shown, and was queued when that was no more wanted
    host-pages, host-bytes           what was over the budget
    max-repeats, max-parameters      what looked like a trap
    ignore-robots                    what robots.txt forbids
    allow-private, allow-any-port    what was blocked without them

A link that was left out is in no record else: whoever wants it looks at the pages again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from sqspider.crawl_row import Crawl, Widening
from sqspider.record import REQUISITE_DEPTH, Reason, Status, UrlRecord
from sqspider.url import Scope

SEEN_SECONDS: Final = 4.0
"""Until every worker goes by a row as it is."""

_SCOPES: Final = tuple(Scope)  # from the narrowest to the widest
_LIMITS: Final = {
    "max_depth": (Reason.DEPTH_LIMIT,),
    "host_pages": (Reason.HOST_PAGE_LIMIT,),
    "host_bytes": (Reason.HOST_BYTE_LIMIT,),
    "max_repeats": (Reason.REPEATING_PATH,),
    "max_parameters": (Reason.ENDLESS_QUERY,),
}


def widened(before: Crawl, after: Crawl, now: float) -> Crawl:
    """The later of two rows, with what comes back by it: what is claimed before all workers know it, too."""
    reasons, deeper = tuple(_lifted(before, after)), _is_more(before.settings.max_depth, after.settings.max_depth)
    if not reasons and not deeper:
        return after
    at = now + SEEN_SECONDS
    is_wider = _is_wider(before.settings.scope, after.settings.scope)
    left = before.widening or Widening(at=at)  # of a change before, that nobody has seen through
    depths = [
        depth for depth in (left.pages_from_depth, before.settings.max_depth if deeper else None) if depth is not None
    ]
    widening = Widening(
        at=at,
        reasons=tuple(dict.fromkeys((*left.reasons, *reasons))),
        pages_from_depth=min(depths, default=None),
        checked=left.checked or (is_wider and before.settings.check_external),
    )
    return msgspec.structs.replace(after, widening=widening)


def comes_back(record: UrlRecord, crawl: Crawl) -> bool:
    """Whether a record is to be queued again by what was widened."""
    widening = crawl.widening
    if widening is None or record.unreadable or record.outcome is None or (record.claimed_at or 0.0) > widening.at:
        return False
    if record.status is Status.BLOCKED:
        return record.outcome.reason in widening.reasons and not _is_too_deep(record.depth, crawl)
    if record.outcome.checked:
        return widening.checked and not _is_too_deep(record.depth, crawl)
    most, least = crawl.settings.max_depth, widening.pages_from_depth
    is_page = record.status is Status.DONE and not (record.outcome.is_redirect or record.is_requisite)
    return is_page and least is not None and record.depth >= least and (most is None or record.depth < most)


def is_let_in(reason: Reason | None, depth: int, before: Crawl, after: Crawl) -> bool:
    """Whether what was blocked for a reason by one row is let in by a later one."""
    return reason in tuple(_lifted(before, after)) and not _is_too_deep(depth, after)


def _is_too_deep(depth: int, crawl: Crawl) -> bool:
    most = crawl.settings.max_depth
    return most is not None and most < depth != REQUISITE_DEPTH


def _lifted(before: Crawl, after: Crawl) -> Iterator[Reason]:
    """The reasons for which less is blocked than before."""
    old, new = before.settings, after.settings
    for name, reasons in _LIMITS.items():
        if _is_more(getattr(old, name), getattr(new, name)):
            yield from reasons
    checks_more = new.check_external and (not old.check_external or old.exclude != new.exclude)
    if _is_wider(old.scope, new.scope) or checks_more or (new.assets and not old.assets):
        yield Reason.OUT_OF_SCOPE
    if (old.include, old.exclude) != (new.include, new.exclude):
        yield Reason.EXCLUDED
    if old.obey_robots and not new.obey_robots:
        yield from (Reason.ROBOTS, Reason.ROBOTS_UNREACHABLE)
    if after.identity.allow_private and not before.identity.allow_private:
        yield Reason.PRIVATE_ADDRESS
    if after.identity.allow_any_port and not before.identity.allow_any_port:
        yield Reason.BAD_PORT


def _is_wider(before: Scope, after: Scope) -> bool:
    return _SCOPES.index(after) > _SCOPES.index(before)


def _is_more(before: int | None, after: int | None) -> bool:
    """Whether a limit is wider; none is the widest."""
    return before is not None and (after is None or after > before)
