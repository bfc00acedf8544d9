"""What all adapters do alike, whatever they keep things in."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from sqspider.frontier.values import Entry


def first_of_each(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Entries by URL, in their order: the first of each, with the fewest redirects of any."""
    by_url: dict[str, Entry] = {}
    for entry in entries:
        first = by_url.setdefault(entry.url, entry)
        if entry.redirects < first.redirects:
            by_url[entry.url] = msgspec.structs.replace(first, redirects=entry.redirects)
    return by_url
