"""The rows of crawls, and their seeds; what is put aside of a crawl, and how one is removed.

A crawl's records are found by a look at all, step by step: an index by crawl would cost every crawl at every URL, and
crawls are removed now and then.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from sqspider.crawl_row import UNKNOWN_ID, Crawl, CrawlRef, State, encode_crawl, is_name, read_crawl
from sqspider.frontier.answers import saved_crawl, uncounted
from sqspider.frontier.sqlite.captures import CaptureFiles
from sqspider.frontier.sqlite.clock import raise_generation
from sqspider.frontier.sqlite.connection import Part, Transaction
from sqspider.frontier.sqlite.errors import damaged
from sqspider.frontier.sqlite.keys import keys_of_crawl
from sqspider.frontier.sqlite.of_crawl import RETURNED
from sqspider.frontier.sqlite.receipts import receipt_of
from sqspider.frontier.sqlite.records import is_there
from sqspider.frontier.sqlite.rows import END_OF_TIME, NOT_YET, STATUSES, STEP, PackedOutcome, unpack
from sqspider.frontier.sqlite.runs import remove_runs
from sqspider.frontier.values import Delivery
from sqspider.message import Message, decode_message
from sqspider.record import DEFAULT_CRAWL

ALL_CRAWLS: Final = """
SELECT name, settings, row FROM crawl INDEXED BY crawl_name WHERE name IS NOT NULL AND row IS NOT NULL ORDER BY name
"""
REMOVALS: Final = """
SELECT settings FROM crawl INDEXED BY crawl_name WHERE name IS NOT NULL AND row IS NULL ORDER BY name
"""
CRAWL_OF_NAME: Final = "SELECT name, settings, row FROM crawl INDEXED BY crawl_name WHERE name = ?"
ADD_NAMED_CRAWL: Final = "INSERT INTO crawl (settings, name, row) VALUES (?, ?, ?)"
SET_CRAWL: Final = "UPDATE crawl INDEXED BY crawl_name SET row = ? WHERE name = ?"
CRAWL_OF_REF: Final = "SELECT id FROM crawl WHERE settings = ?"
SEEDS: Final = """
SELECT s.site, s.folder FROM json_each(:sites) AS e CROSS JOIN seed AS s ON s.crawl = :crawl AND s.site = e.value
"""
ADD_SEED: Final = "INSERT INTO seed (crawl, site, folder) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
# A record's own message is put aside where it is a crawl's.
PARK: Final = """
UPDATE record NOT INDEXED SET queue = 3, visible_at = NULL, receives = 0, slot = NULL, slot_generation = NULL
WHERE id = :id AND delivery = :delivery AND queue = 2
    AND EXISTS (SELECT 1 FROM crawl AS c NOT INDEXED WHERE c.id = record.crawl AND c.name IS NOT NULL)
"""
# What else is first in the queue of crawls that rest goes with them: nobody has to receive it for that.
CRAWLS_OF: Final = """
SELECT c.id, c.name, c.settings, c.row FROM crawl AS c NOT INDEXED WHERE c.id IN (
    SELECT r.crawl FROM record AS r NOT INDEXED WHERE r.id IN (SELECT value FROM json_each(:ids))
) AND c.name IS NOT NULL AND c.row IS NOT NULL
"""
FIRST_FRESH: Final = "SELECT id, crawl FROM record INDEXED BY record_place WHERE queue = 0 ORDER BY id LIMIT ?"
PARK_FRESH: Final = """
UPDATE record NOT INDEXED SET queue = 3, receives = 0, slot = NULL, slot_generation = NULL
WHERE id IN (SELECT value FROM json_each(?))
"""
PARK_MESSAGE: Final = """
UPDATE sent NOT INDEXED SET queue = 3, visible_at = :until, receives = 0
WHERE id = :id AND delivery = :delivery AND queue = 2
"""
ASIDE_OF_CRAWL: Final = """
SELECT id, status FROM record INDEXED BY record_aside WHERE queue = 3 AND id > :after AND crawl = :crawl
ORDER BY id LIMIT :limit
"""
IS_ASIDE: Final = f"""
SELECT EXISTS (SELECT 1 FROM record INDEXED BY record_aside WHERE queue = 3 AND crawl = :crawl)
    OR EXISTS (SELECT 1 FROM sent INDEXED BY sent_visible WHERE visible_at = {END_OF_TIME:.0f} AND queue = 3)
"""
# What is claimed has no fresh place.
UNPARK: Final = """
UPDATE record NOT INDEXED SET queue = iif(status = 0, 0, 1), visible_at = iif(status = 0, NULL, :now)
WHERE id IN (SELECT value FROM json_each(:ids))
"""
MESSAGES_ASIDE: Final = """
SELECT id, body FROM sent INDEXED BY sent_visible WHERE visible_at = :end AND queue = 3 AND id > :after
ORDER BY id LIMIT :limit
"""
UNPARK_MESSAGE: Final = "UPDATE sent NOT INDEXED SET queue = 0, visible_at = :now WHERE id = :id"
END_CRAWL: Final = "UPDATE crawl NOT INDEXED SET row = NULL WHERE id = ?"
SOME_SEEDS: Final = "SELECT crawl, site, folder FROM seed WHERE crawl = ? LIMIT ?"
REMOVE_SEED: Final = "DELETE FROM seed WHERE crawl = ? AND site = ? AND folder = ?"
SOME_OF_CRAWL: Final = """
SELECT id, status, queue, outcome, digest, redirect_to FROM record NOT INDEXED
WHERE id > :after AND id <= :last AND crawl = :crawl
"""
LAST_RECORD: Final = "SELECT max(id) FROM record NOT INDEXED"
REMOVE_OUTLINKS: Final = "DELETE FROM outlinks WHERE record IN (SELECT value FROM json_each(?))"
REMOVE_RECORDS: Final = "DELETE FROM record NOT INDEXED WHERE id IN (SELECT value FROM json_each(?))"
SOME_MESSAGES: Final = "SELECT id, body, visible_at FROM sent NOT INDEXED WHERE id > ? ORDER BY id LIMIT ?"
REMOVE_MESSAGES: Final = "DELETE FROM sent NOT INDEXED WHERE id IN (SELECT value FROM json_each(?))"
REMOVE_SUMS: Final = "DELETE FROM counter WHERE name >= ? AND name < ?"
REMOVE_CRAWL: Final = "DELETE FROM crawl NOT INDEXED WHERE id = ?"

LOOKED_AT: Final = 10 * STEP  # records of any crawl that one step passes


class Crawls(Part):
    """What is known of crawls, beside their records."""

    async def crawls(self) -> list[Crawl]:
        rows = await self._file.rows(ALL_CRAWLS)
        return [_read(*row) for row in rows if is_name(row[0])]  # another is none: no message can name it

    async def save_crawl(self, crawl: Crawl) -> bool:
        return await self._file.write(partial(_save, crawl=crawl))

    async def add_seeds(self, ref: CrawlRef, sites: Mapping[str, Collection[str]]) -> bool:
        return await self._file.write(partial(_add_seeds, ref=ref, sites=sites))

    async def seeds(self, ref: CrawlRef, sites: Collection[str]) -> dict[str, frozenset[str]]:
        return await self._file.read(partial(_seeds, ref=ref, sites=sites))

    async def park(self, deliveries: Sequence[Delivery]) -> None:
        await self._file.write(partial(_park, deliveries=deliveries))

    async def unpark(self, ref: CrawlRef) -> int:
        unparked = 0
        if not await self._file.read(partial(_may_be_aside, ref=ref)):
            return 0  # written is nothing: a worker asks for each of the crawls as it starts
        for unpark_some in (_unpark_records, _unpark_messages):
            after: int | None = 0
            while after is not None:
                some, after = await self._file.write(partial(unpark_some, ref=ref, after=after))
                unparked += some
        self._file.news.set()
        return unparked

    async def remove_crawl(self, ref: CrawlRef, on_removed: Callable[[int], None] = lambda _: None) -> int:
        crawl = await self._file.write(partial(_end_crawl, ref=ref))
        if crawl is None:
            return 0
        while await self._file.write(partial(_remove_seeds, crawl=crawl)):
            pass
        while await self._file.write(partial(remove_runs, ref=ref)):
            pass
        after: int | None = 0
        while after is not None:
            after = await self._file.write(partial(_remove_messages, ref=ref, after=after))
        removed, after = 0, 0
        while after is not None:
            some, after = await self._file.write(partial(_remove_records, ref=ref, crawl=crawl, after=after))
            removed += some
            on_removed(removed)
        self._file.news.set()
        return removed

    async def removals(self) -> list[CrawlRef]:
        return [_ref(text, self._file.path) for (text,) in await self._file.rows(REMOVALS)]


def _ref(text: object, path: str) -> CrawlRef:
    """By which the rows of records name a crawl. Raises :class:`FrontierUnavailableError` where it is damaged."""
    try:
        return CrawlRef.parse(str(text))
    except ValueError as error:
        raise damaged(path, f"of a crawl that is being removed: {error}") from None


def _read(name: str, settings: object, row: Any) -> Crawl:
    """A crawl, by what names it and its row."""
    try:
        ref = CrawlRef.parse(str(settings))
    except ValueError:
        ref = CrawlRef(name, UNKNOWN_ID)
    return read_crawl(ref, row)


def _save(transaction: Transaction, crawl: Crawl) -> bool:
    connection = transaction.connection
    found = connection.execute(CRAWL_OF_NAME, (crawl.name,)).fetchone()
    if found and found[2] is None:
        return False  # what is left of another is being removed
    saved = saved_crawl(_read(*found) if found else None, crawl)
    if saved is None:
        return False
    if found:
        connection.execute(SET_CRAWL, (encode_crawl(saved), saved.name))
    else:
        connection.execute(ADD_NAMED_CRAWL, (str(saved.ref), saved.name, encode_crawl(saved)))
    return True


def _crawl_id(connection: sqlite3.Connection, ref: CrawlRef) -> int | None:
    """The id of a crawl, one that is being removed too."""
    found = connection.execute(CRAWL_OF_REF, (str(ref),)).fetchone()
    return found[0] if found else None


def _add_seeds(transaction: Transaction, ref: CrawlRef, sites: Mapping[str, Collection[str]]) -> bool:
    crawl = _crawl_id(transaction.connection, ref)
    if crawl is None or not is_there(transaction.connection, ref):
        return False
    rows = [(crawl, site, folder) for site, folders in sites.items() for folder in ("", *folders)]
    return transaction.change_each(ADD_SEED, rows) > 0


def _seeds(connection: sqlite3.Connection, ref: CrawlRef, sites: Collection[str]) -> dict[str, frozenset[str]]:
    parameters = {"crawl": _crawl_id(connection, ref), "sites": json.dumps(list(sites))}
    found: dict[str, set[str]] = {}
    for site, folder in connection.execute(SEEDS, parameters):
        found.setdefault(site, set()).update((folder,) if folder else ())
    return {site: frozenset(folders) for site, folders in found.items()}


def _crawl_of(body: str) -> CrawlRef | None:
    message = decode_message(body)
    return message.crawl if isinstance(message, Message) else None


def _park(transaction: Transaction, deliveries: Sequence[Delivery]) -> None:
    records, messages = [], []
    for delivery in deliveries:
        receipt = receipt_of(delivery)
        if receipt.is_message and _crawl_of(delivery.body) is not None:
            messages.append({"until": END_OF_TIME, **receipt._asdict()})
        elif not receipt.is_message and receipt.generation == transaction.generation:
            records.append(receipt._asdict())
    transaction.change_each(PARK_MESSAGE, messages)
    parked = transaction.change_each(PARK, records)
    transaction.count(
        {"put_off": parked + (_park_fresh(transaction, [each["id"] for each in records]) if parked else 0)}
    )


def _park_fresh(transaction: Transaction, like: Sequence[int]) -> int:
    """Put aside what is first in the queue, too, of the crawls of some records, where their rows say that they rest:
    others behind it wait no longer than they must; how many."""
    connection = transaction.connection
    found = connection.execute(CRAWLS_OF, {"ids": json.dumps(like)}).fetchall()
    resting = {id_ for id_, *row in found if _read(*row).state is not State.RUNNING}
    if not resting:
        return 0
    ids = [id_ for id_, crawl in connection.execute(FIRST_FRESH, (STEP,)) if crawl in resting]
    connection.execute(PARK_FRESH, (json.dumps(ids),))
    return len(ids)


def _may_be_aside(connection: sqlite3.Connection, ref: CrawlRef) -> bool:
    """Whether anything of a crawl is put aside; of what anybody sent, whether anything is."""
    return bool(connection.execute(IS_ASIDE, {"crawl": _crawl_id(connection, ref)}).fetchone()[0])


def _unpark_records(transaction: Transaction, ref: CrawlRef, after: int) -> tuple[int, int | None]:
    """Some records that are put aside; how many, and after which to go on, if there may be more."""
    crawl = _crawl_id(transaction.connection, ref)
    rows = transaction.connection.execute(ASIDE_OF_CRAWL, {"after": after, "crawl": crawl, "limit": STEP}).fetchall()
    parameters = {"ids": json.dumps([id_ for id_, _ in rows]), "now": transaction.now}
    transaction.connection.execute(UNPARK, parameters)
    fresh = sum(status == 0 for _, status in rows)
    transaction.count({"put_off": -fresh})
    transaction.count_records(ref.name, {RETURNED: fresh})
    return len(rows), rows[-1][0] if len(rows) == STEP else None


def _unpark_messages(transaction: Transaction, ref: CrawlRef, after: int) -> tuple[int, int | None]:
    """Some of what anybody sent that is put aside; how many, and after which to go on, if there may be more."""
    parameters = {"end": END_OF_TIME, "after": after, "limit": STEP}
    rows = transaction.connection.execute(MESSAGES_ASIDE, parameters).fetchall()
    own = [{"id": id_, "now": transaction.now} for id_, body in rows if _crawl_of(body) == ref]
    transaction.change_each(UNPARK_MESSAGE, own)
    return len(own), rows[-1][0] if len(rows) == STEP else None


def _end_crawl(transaction: Transaction, ref: CrawlRef) -> int | None:
    """Take a crawl's row away, but for its id; none: there is nothing of it."""
    crawl = _crawl_id(transaction.connection, ref)
    if crawl is not None:
        transaction.connection.execute(END_CRAWL, (crawl,))
    return crawl


def _remove_seeds(transaction: Transaction, crawl: int) -> int:
    some = transaction.connection.execute(SOME_SEEDS, (crawl, STEP)).fetchall()
    return transaction.change_each(REMOVE_SEED, some)


def _remove_messages(transaction: Transaction, ref: CrawlRef, after: int) -> int | None:
    """Remove what was sent of a crawl, the dead too, among some messages; after which to go on, if there are more."""
    rows = transaction.connection.execute(SOME_MESSAGES, (after, STEP)).fetchall()
    own = [(id_, visible_at is None) for id_, body, visible_at in rows if _crawl_of(body) == ref]
    transaction.connection.execute(REMOVE_MESSAGES, (json.dumps([id_ for id_, _ in own]),))
    dead = sum(is_dead for _, is_dead in own)
    transaction.count({"messages": dead - len(own), "dead": -dead})
    return rows[-1][0] if len(rows) == STEP else None


def _uncounted(status: int, packed: PackedOutcome, files: CaptureFiles) -> dict[str, int]:
    """How the sums move when a record goes; not at all if it is damaged, for nobody knows how it was counted."""
    try:
        return uncounted(STATUSES[status], unpack(packed, files))
    except (msgspec.MsgspecError, ValueError, TypeError, IndexError):
        return {}


def _remove_records(transaction: Transaction, ref: CrawlRef, crawl: int, after: int) -> tuple[int, int | None]:
    """Remove a crawl's records among some; how many, and after which to go on, if there are more.

    With the last ones all else of it goes, and everybody forgets what they remember: the ids of what was last are
    given out again, and a crawl of its name may have the same URLs.
    """
    connection = transaction.connection
    last = connection.execute(LAST_RECORD).fetchone()[0] or 0
    until = min(after + LOOKED_AT, last)
    rows = connection.execute(SOME_OF_CRAWL, {"after": after, "last": until, "crawl": crawl}).fetchall()
    for _, status, queue, *packed in rows:
        transaction.count_records(ref.name, _uncounted(status, PackedOutcome(*packed), transaction.files))
        transaction.count({"messages": -(queue is not None), "put_off": -(queue in NOT_YET)})
    ids = json.dumps([row[0] for row in rows])
    connection.execute(REMOVE_OUTLINKS, (ids,))
    connection.execute(REMOVE_RECORDS, (ids,))
    if until < last:
        return len(rows), until
    transaction.write_counts()
    if ref.name != DEFAULT_CRAWL:
        connection.execute(REMOVE_SUMS, keys_of_crawl(ref.name))
    connection.execute(REMOVE_CRAWL, (crawl,))
    raise_generation(connection)
    return len(rows), None
