"""Where redirects lead: the chain that begins with a record, as far as it is recorded.

A redirect is an answer, and its target a URL like any other (docs/decisions/011-a-redirect-is-an-answer.md): so the
way is looked up, record by record, when somebody wants to see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from sqspider.record import UrlRecord, record_key, split_key
from sqspider.work.redirects import MAX_REDIRECTS

MAX_CHAIN: Final = 2 * MAX_REDIRECTS  # that is looked at: where ways meet, a chain may be longer than each of them


class Known(Protocol):
    """Whatever has records: a frontier, or what is made of an archive alone."""

    async def get(self, keys: Sequence[str]) -> dict[str, UrlRecord]:
        """Records by their keys; unknown ones are left out."""


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


async def chains_of(frontier: Known, records: Iterable[UrlRecord]) -> dict[str, Chain]:
    """The chains that begin with those of some records that redirect, by their keys: each within its crawl.

    Looked up together, at most :data:`MAX_CHAIN` times, whatever their number.
    """
    known = {record.key: record for record in records}
    firsts = [key for key, record in known.items() if _target(record)]
    looked_at = set(known)
    wanted = {target for key in firsts if (target := _target(known[key]))} - looked_at
    for _ in range(MAX_CHAIN):
        if not wanted:
            break
        found = await frontier.get(sorted(wanted))
        looked_at |= wanted
        known |= found
        wanted = {target for record in found.values() if (target := _target(record))} - looked_at
    return {key: _chain(key, known) for key in firsts}


def _target(record: UrlRecord | None) -> str | None:
    """The key of where a record leads."""
    outcome = record.outcome if record else None
    if record is None or outcome is None or outcome.redirect_to is None or not outcome.is_redirect:
        return None
    return record_key(outcome.redirect_to, record.crawl)


def _chain(first: str, known: dict[str, UrlRecord]) -> Chain:
    keys = [first]
    target = _target(known[first])
    while target is not None and target not in keys and len(keys) <= MAX_CHAIN:
        keys.append(target)
        target = _target(known.get(target))
    is_loop = target in keys
    urls = [split_key(key)[1] for key in keys]
    back_to = split_key(target)[1] if target is not None and is_loop else None
    return Chain(tuple(urls), known.get(keys[-1]), back_to=back_to, is_cut=target is not None and not is_loop)
