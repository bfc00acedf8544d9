"""What one visit of a URL leaves to the next: when it has changed, and how a server is asked whether it has.

A good visit is one that ended as ``done``. What it brought is kept until the next good one: a visit that fails in
between takes neither the digest nor the validators (RFC 9110 section 8.8) with it. Pure functions; no I/O lives here.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from sqspider.record import Kept, Outcome, Status

MAX_VALIDATOR_CHARACTERS: Final = 256  # a longer one is not kept
_VALIDATOR: Final = re.compile(rf"[\x20-\x7e]{{1,{MAX_VALIDATOR_CHARACTERS}}}")
_NOTHING: Final = Kept()

replace = msgspec.structs.replace


class Revisit(enum.StrEnum):
    """What came of a visit that was not the first."""

    UNCHANGED = "unchanged"  # the same as the good visit before it
    CHANGED = "changed"  # something else, or the first that is good
    FAILED = "failed"
    BLOCKED = "blocked"


def revisit_of(before: Kept | None, outcome: Outcome) -> Revisit | None:
    """What came of a visit; ``before``: what was kept until then. None: nothing was fetched by then, for the URL was
    blocked, and so it is looked at for the first time."""
    if before is None or not before.was_counted:
        return None
    if outcome.status is not Status.DONE:
        return Revisit(outcome.status.value)
    good = before.good
    if good is None or (good.digest is None and outcome.digest is not None):  # it was not read before
        return Revisit.CHANGED
    return Revisit.CHANGED if _is_other(good, outcome) else Revisit.UNCHANGED


def at_reopening(kept: Kept | None, last: Outcome | None, *, if_changed: bool) -> Kept | None:
    """What is kept from when a record is reopened whose last visit ended so.

    ``if_changed``: the next visit asks for what has changed alone; else it wants the whole answer.
    """
    kept = kept or _NOTHING
    if last is not None and last.status is Status.FAILED and last.was_fetched and kept.good is None:
        kept = replace(kept, has_failed=True)
    if last is not None and last.status is Status.DONE:
        kept = replace(kept, good=last)
    return _or_none(kept) if if_changed else for_all(kept)


def for_all(kept: Kept | None) -> Kept | None:
    """What is kept where the next visit wants the whole answer."""
    return kept and _or_none(replace(kept, etag=None, last_modified=None))


def conditions_of(kept: Kept | None) -> tuple[str, ...]:
    """The header lines that ask for what has changed alone (RFC 9110 section 13.1); none: the whole is wanted.

    A body that was cut off is asked for anew: the limit may be another one by now. What was not read has none.
    """
    if kept is None or kept.good is None or kept.good.truncated:
        return ()
    if kept.good.checked or (kept.good.digest is None and not kept.good.is_redirect):
        return ()
    lines = {"If-None-Match": kept.etag, "If-Modified-Since": kept.last_modified}
    return tuple(f"{name}: {value}" for name, value in lines.items() if value)


def unchanged(good: Outcome, elapsed_ms: int) -> Outcome:
    """The outcome of a visit whose answer was that nothing has changed since the last good one.

    Its capture is another one, which is yet to be made: that of the good visit stays what it refers to.
    """
    return replace(good, unchanged=True, elapsed_ms=elapsed_ms, capture=None, unkept=False)


def after_visit(kept: Kept | None, outcome: Outcome, headers: Iterable[tuple[str, str]], now: float) -> Kept | None:
    """What is kept once a visit has ended so; ``headers``: of its answer."""
    if outcome.status is not Status.DONE:
        return kept
    kept = kept or _NOTHING
    sent = {name.lower(): value for name, value in headers}
    if kept.good is not None and _is_other(kept.good, outcome):
        kept = replace(kept, changes=kept.changes + 1, changed_at=now)
    # With a 304 a server may leave out what it said before (RFC 9110 section 15.4.5).
    etag, last_modified = (kept.etag, kept.last_modified) if outcome.unchanged else (None, None)
    return _or_none(
        replace(
            kept,
            good=None,
            has_failed=False,
            etag=_validator(sent.get("etag")) or etag,
            last_modified=_validator(sent.get("last-modified")) or last_modified,
        )
    )


def _is_other(good: Outcome, outcome: Outcome) -> bool:
    """Whether a visit found something else than the one before: another payload, or another place to go to. What was
    not read, for it was only checked or is of a type that nobody wanted, is like any other."""
    if good.redirect_to != outcome.redirect_to:
        return True
    return None not in (good.digest, outcome.digest) and good.digest != outcome.digest


def _validator(value: str | None) -> str | None:
    """A validator that can be sent back as it is."""
    return value if value is not None and _VALIDATOR.fullmatch(value) else None


def _or_none(kept: Kept) -> Kept | None:
    return None if kept == _NOTHING else kept
