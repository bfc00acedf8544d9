"""What stands in the table: its items by their key ``url``, and how a URL record is written in one.

    http(s)://…     a URL record of the default crawl
    @NAME http…     a URL record of another crawl: see :func:`sqspider.record.record_key`
    host NAME       a host row, and the requests under way to it
    robots ORIGIN   a robots.txt row and its lease
    worker ID       a worker that checked in
    counter N       a part of the sums of the default crawl's records by status
    counter N @NAME the same of another crawl's
    crawls          the rows of all crawls
    seed CRAWL SITE where a crawl's scope is measured from
    share RUN       what was taken of a run, a crawl, or a host in one, and what its workers have of the rest
    sweeper         who sweeps, until when
    generation      how often the table was cleared: it stays

One table, because it is one name to configure, to permit and to clear; a record's key can never be one of the other
keys. A record of a crawl names it (``crawl``), and holds no settings: they stand in the crawl's row. The index ``due``
holds open records alone, keys only: its hash key ``due_shard`` spreads them (q0–q7 have a message, p0–p7 are parked),
its range key is ``due_at``. Hosts (h) and workers (w) stand in it too, so that they can be listed without reading the
table; a host in trouble has 1 as its ``due_at`` there, any other one 0. A claim leaves ``due_at`` as it is, since
moving it costs two more write units: the sweep looks at the lease instead.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from sqspider.crawl_row import CrawlRef
from sqspider.crawl_settings import CrawlSettings, decode_settings, encode_settings
from sqspider.frontier.answers import Claimant
from sqspider.frontier.aws.attributes import Item, n, number, optional, plain, s, text, typed
from sqspider.frontier.aws.table import MAX_KEY_BYTES
from sqspider.frontier.values import Entry, Won
from sqspider.message import Message
from sqspider.record import DEFAULT_CRAWL, Kept, Outcome, Status, UrlRecord, decode_outcome, split_key
from sqspider.url import host_of

SHARDS: Final = 8  # of the index: a thousand writes a second each
QUEUED_SHARDS: Final = tuple(f"q{shard}" for shard in range(SHARDS))  # records that have a message
PARKED_SHARDS: Final = tuple(f"p{shard}" for shard in range(SHARDS))  # records that keep theirs themselves
HOST_SHARD: Final = "h"
WORKER_SHARD: Final = "w"
GENERATION: Final = "generation"
SWEEPER: Final = "sweeper"
# What stands in a crawl's record for its settings: a worker of the first version, which would make a message of them
# that names no crawl, finds the record unreadable and sends none.
NO_SETTINGS: Final = "-"

_kept_decoder = msgspec.json.Decoder(Kept)


def key_of(kind: str, name: str) -> str:
    """The key of what is no URL record; of a name that is too long for a key, by its digest."""
    key = f"{kind} {name}"
    if len(key.encode()) <= MAX_KEY_BYTES:
        return key
    return f"{kind} #{hashlib.sha256(name.encode()).hexdigest()}"


def shard_of(url: str, *, is_parked: bool) -> str:
    """The shard of an open record in the index."""
    return (PARKED_SHARDS if is_parked else QUEUED_SHARDS)[zlib.crc32(url.encode()) % SHARDS]


def is_record(key: str) -> bool:
    """Whether it is the key of a URL record."""
    return key.startswith(("http", "@"))


def new_item(entry: Entry, *, mark: str, now: float, due_at: float, parked_body: str | None) -> Item:
    """A new record. ``mark`` tells an own insert whose answer was lost from another's."""
    key = entry.key
    item: Item = {
        "url": s(key),
        "status": s(Status.QUEUED),
        "depth": n(entry.depth),
        "attempt": n(0),
        "unended": n(0),
        "tries": n(0),
        "claim_id": s(mark),
        "lease_until": n(0),
        "enqueued_at": n(now),
        "due_at": n(due_at),
        "due_shard": s(shard_of(key, is_parked=parked_body is not None)),
    }
    if parked_body is not None:
        item["parked_body"] = s(parked_body)
    if entry.parent is not None:
        item["parent"] = s(entry.parent)
    if entry.redirects:
        item["redirects"] = n(entry.redirects)
    if entry.lastmod is not None:
        item["lastmod"] = n(entry.lastmod)
    if entry.meta is not None:
        item["meta"] = s(entry.meta)
    if entry.crawl is not None:
        item["crawl"] = s(str(entry.crawl))
        item["settings"] = s(NO_SETTINGS)
    elif (settings := encode_settings(entry.settings)) != "{}":
        item["settings"] = s(settings)
    return item


def record_of(item: Item) -> UrlRecord:
    """A record; of a damaged one, or of a later version's that cannot be read, the URL and what is wrong with it."""
    try:
        return _read_record(item)
    except (msgspec.MsgspecError, KeyError, ValueError) as error:
        crawl, url = split_key(item["url"]["S"])
        return UrlRecord(url=url, crawl=crawl, status=Status.QUEUED, unreadable=f"its item is damaged: {error}")


def _read_record(item: Item) -> UrlRecord:
    crawl, url = split_key(item["url"]["S"])
    attempt, kept = int(number(item, "attempt")), kept_in(item)
    return UrlRecord(
        url=url,
        crawl=crawl,
        status=Status(item["status"]["S"]),
        depth=int(number(item, "depth")),
        parent=text(item, "parent"),
        host=host_of(url),
        lastmod=optional(item, "lastmod"),
        meta=text(item, "meta"),
        attempt=attempt,
        unended=int(number(item, "unended")),
        tries=int(number(item, "tries")),
        redirects=int(number(item, "redirects")),
        visit=int(number(item, "visit")),
        kept=kept,
        worker_id=text(item, "worker_id"),
        claim_id=text(item, "claim_id") if attempt else None,
        lease_until=optional(item, "lease_until"),
        due_at=optional(item, "due_at"),
        parked="parked_body" in item,
        enqueued_at=number(item, "enqueued_at"),
        claimed_at=optional(item, "claimed_at"),
        finished_at=optional(item, "finished_at"),
        outcome=_outcome_in(item, url) or (None if kept is None else kept.good),
    )


def size_of(item: Item) -> int:
    """About what DynamoDB counts of an item: the bytes of its names and values."""
    return sum(len(name.encode()) + _size_of_value(value) for name, value in item.items())


def _size_of_value(typed: Mapping[str, Any]) -> int:
    """A map is three bytes, one for each of its values, and these with their names; a list the same without names."""
    value = typed.get("M")
    if value is not None:
        return 3 + sum(1 + len(name.encode()) + _size_of_value(inner) for name, inner in value.items())
    if "L" in typed:
        return 3 + sum(1 + _size_of_value(inner) for inner in typed["L"])
    return sum(len(text.encode()) if isinstance(text, str) else 1 for text in typed.values())


def encode_outcome(outcome: Outcome) -> dict[str, Any]:
    """An outcome as an attribute: a map; the place of its capture a list."""
    return typed(_with_short_capture(msgspec.to_builtins(outcome)))


def _with_short_capture(outcome: dict[str, Any]) -> dict[str, Any]:
    """An outcome's values, the place of its capture without what has its default at the end: each byte is paid for."""
    if "capture" in outcome:
        outcome["capture"] = _short(outcome["capture"])
    return outcome


def _short(place: list[Any]) -> list[Any]:
    *values, url, payload = place
    if payload is None:
        return [*values, url] if url else values
    return [*values, url, _short(payload)]


def _outcome_in(item: Item, url: str) -> Outcome | None:
    """The outcome of a record, if it has one of its own: what was reopened after a good visit has that one's in what is
    kept of it. The first version wrote it as JSON in a text."""
    value = item.get("outcome")
    if value is None or "S" in value:
        return None if value is None else decode_outcome(value["S"], url)
    return msgspec.convert(plain(value), Outcome)


def encode_kept(kept: Kept) -> str:
    """The JSON that :func:`kept_in` reads."""
    values = msgspec.to_builtins(kept)
    if "good" in values:
        _with_short_capture(values["good"])
    return msgspec.json.encode(values).decode()


def kept_in(item: Item) -> Kept | None:
    """What is kept from visit to visit; none if it is damaged: then the next visit asks for the whole."""
    if (stored := text(item, "kept")) is None:
        return None
    try:
        return _kept_decoder.decode(stored)
    except msgspec.MsgspecError:
        return None


def entry_of(item: Item) -> Entry:
    """What a record was recorded as.

    Raises ``msgspec.MsgspecError`` or ``ValueError`` if its settings, or the name of its crawl, are damaged.
    """
    crawl = crawl_of(item)
    return Entry(
        url=split_key(item["url"]["S"])[1],
        depth=int(number(item, "depth")),
        parent=text(item, "parent"),
        crawl=crawl,
        settings=CrawlSettings() if crawl else decode_settings(text(item, "settings") or "{}"),
        redirects=int(number(item, "redirects")),
        lastmod=optional(item, "lastmod"),
    )


def crawl_of(item: Item) -> CrawlRef | None:
    """The crawl that a record names. Raises ``ValueError``."""
    named = text(item, "crawl")
    return None if named is None else CrawlRef.parse(named)


def of_crawl(message: Message) -> tuple[str, list[dict[str, Any]]]:
    """What a condition says besides, and its parameters: a record of the message's crawl, not of one of its name that
    was removed. (In the default crawl's place there are loose records, too.)"""
    if message.crawl is None or message.crawl.name == DEFAULT_CRAWL:
        return "", []
    return ' AND "crawl" = ?', [s(str(message.crawl))]


def is_of_crawl(item: Item, message: Message) -> bool:
    """Whether the condition of :func:`of_crawl` holds."""
    return all(item.get("crawl") == crawl for crawl in of_crawl(message)[1])


def won_of(url: str, item: Item) -> Won:
    """The claim that a record shows."""
    return Won(
        url=url,
        attempt=int(number(item, "attempt")),
        unended=int(number(item, "unended")),
        tries=int(number(item, "tries")),
        worker_id=item["worker_id"]["S"],
        claim_id=item["claim_id"]["S"],
        lease_until=number(item, "lease_until"),
        visit=int(number(item, "visit")),
        meta=text(item, "meta"),
        kept=kept_in(item),
        depth=int(number(item, "depth")),
        redirects=int(number(item, "redirects")),
    )


def was_queued(item: Item) -> bool:
    """Whether a record was queued before the claim that it shows: the claim before that one was ended, or given
    back unused. (Else its lease ran out while it was in ``processing``.)"""
    return number(item, "unended") == 1 or ("unused" in item and number(item, "unused") == number(item, "attempt") - 1)


def fence(claim: Won) -> list[dict[str, Any]]:
    """The parameters of ``WHERE url AND attempt AND claim_id``."""
    return [s(claim.url), n(claim.attempt), s(claim.claim_id)]


def is_of(item: Item, claim: Won) -> bool:
    """Whether no later claim of a record was made."""
    return (number(item, "attempt"), text(item, "claim_id")) == (claim.attempt, claim.claim_id)


def is_own(claimant: Claimant, item: Item) -> bool:
    """Whether a record shows a claim of the claimant's."""
    return (text(item, "worker_id"), text(item, "claim_id")) == (claimant.worker_id, claimant.claim_id)


class ClaimInItem(NamedTuple):
    """What an item says of a record's claims."""

    status: Status
    attempt: int
    unended: int
    tries: int
    visit: int
    kept: Kept | None
    worker_id: str | None
    claim_id: str | None
    lease_until: float | None
    meta: str | None
    depth: int
    redirects: int


def claim_in(item: Item) -> ClaimInItem:
    """What a record says of its claims, however damaged the rest of it is."""
    return ClaimInItem(
        status=status_of(item),
        attempt=int(number(item, "attempt")),
        unended=int(number(item, "unended")),
        tries=int(number(item, "tries")),
        visit=int(number(item, "visit")),
        kept=kept_in(item),
        worker_id=text(item, "worker_id"),
        claim_id=text(item, "claim_id"),
        lease_until=optional(item, "lease_until"),
        meta=text(item, "meta"),
        depth=int(number(item, "depth")),
        redirects=int(number(item, "redirects")),
    )


def status_of(item: Item) -> Status:
    """The status; of a word that this version does not know, what the lease says."""
    try:
        return Status(item["status"]["S"])
    except (KeyError, ValueError):
        return Status.PROCESSING if number(item, "lease_until") else Status.QUEUED
