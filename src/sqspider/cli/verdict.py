"""What a crawl's exit status rests on: whether every URL that was asked for succeeded, and which did not."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from sqspider.chains import Chain, chains_of
from sqspider.cli.wording import printable
from sqspider.frontier import Counts, Looking
from sqspider.record import DEFAULT_CRAWL, Reason, Status, UrlRecord, record_key

UNSUCCESSFUL: Final = (Status.FAILED, Status.BLOCKED)
LIFTED_BY: Final = {Reason.PRIVATE_ADDRESS: "--allow-private", Reason.BAD_PORT: "--allow-any-port"}
MAX_NAMED: Final = 20  # URLs of which a crawl says at its end why they failed


async def seeds_are_good(
    frontier: Looking, seeds: list[str], counts: Counts, crawl: str = DEFAULT_CRAWL, lists: str | None = None
) -> bool:
    """Whether every URL that was asked for succeeded; the first that did not are named. ``lists``: the command line
    that names all of them.

    Where no seeds are given, every seed there is: to find those takes reading the records that failed.
    """
    named = 0
    async with aclosing(_failed_seeds(frontier, seeds, counts, crawl)) as failed:
        async for url, fault in failed:
            if named == MAX_NAMED:
                print(f"… and more{f': `{lists}` lists them' if lists else ''}", file=sys.stderr)
                break
            named += 1
            print(printable(f"{url}: {fault}"), file=sys.stderr)
    return named == 0


async def _failed_seeds(
    frontier: Looking, seeds: list[str], counts: Counts, crawl: str
) -> AsyncGenerator[tuple[str, str], None]:
    """URLs that ended without success, they or where they redirect to, and why; of every seed there is, where
    none were given: there the targets of redirects are seeds, too."""
    if seeds:
        keys = list(dict.fromkeys(record_key(url, crawl) for url in seeds))
        records = await frontier.get(keys)
        chains = await chains_of(frontier, records.values())
        for key in keys:
            if key in records and (fault := _fault(records[key], chains.get(key))):
                yield records[key].url, fault
        return
    for status in UNSUCCESSFUL:
        if not counts.by_status[status]:
            continue
        async for batch in frontier.scan(status=status, crawl=crawl):
            for record in batch:
                if record.depth == 0 and (fault := _fault(record)):
                    yield record.url, fault


def _fault(record: UrlRecord, chain: Chain | None = None) -> str | None:
    """Why a URL ended without success, it or the end of its redirects; none if it did not."""
    if record.status in UNSUCCESSFUL:
        return f"{record.status.value}: {_why(record)}"
    if chain is None:
        return None
    if chain.end is None:
        return f"its redirects lead nowhere: {chain}"
    if chain.last is not None and chain.last.status in UNSUCCESSFUL:
        return f"redirects to {chain.end}: {_fault(chain.last)}"
    return None


def _why(record: UrlRecord) -> str:
    """Why a URL ended without success, and the option by which it would not have."""
    reason = record.outcome.reason if record.outcome else None
    if record.outcome is None or reason is None:
        return ""
    option = f" ({LIFTED_BY[reason]} lifts that)" if reason in LIFTED_BY else ""
    return f"{reason.value}: {record.outcome.detail}{option}"
