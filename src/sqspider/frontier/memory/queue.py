"""The queue of a frontier in memory: messages that wait or are in somebody's hands, and dead ones."""

from __future__ import annotations

import enum
import heapq
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Final

import msgspec

from sqspider.crawl_row import CrawlRef
from sqspider.frontier.answers import MOST_LOOKED_AT, is_dead
from sqspider.frontier.memory.journal import Journal, Kept
from sqspider.frontier.values import Delivery, QueueStats
from sqspider.message import Message, decode_message, encode_message
from sqspider.url import host_of

replace = msgspec.structs.replace


class Precedence(enum.Enum):
    """What comes first when several messages are visible: the first first."""

    EXPIRED = enum.auto()  # somebody had it and did not end it: its URL has waited long enough
    PUT_OFF = enum.auto()  # it has a slot, which is good for its moment only
    FRESH = enum.auto()
    ASIDE = enum.auto()  # of a crawl that does not run: it is not visible at all, until it is called back


class Stored(msgspec.Struct, frozen=True):
    """A message in the queue."""

    id: int
    body: str
    message: Message | None  # none: the body is no message
    sent_at: float
    visible_at: float
    precedence: Precedence = Precedence.FRESH
    receive_count: int = 0
    receipt: str = ""  # of the last delivery, if that is not ended


Sift = Callable[[Stored], tuple[float, Message] | None]
"""Until when a message is to be put off, and what it says from then on; none: it is taken."""


class MessageQueue:
    """Messages, by their ids. An entry of a heap may be of a message that has moved on since: it is passed over when
    it comes up."""

    def __init__(self, journal: Journal) -> None:
        self._journal: Final = journal
        self._sent = 0
        self._empty()

    def _empty(self) -> None:
        self.live: Kept[int, Stored] = Kept(self._journal)
        self.dead: Kept[int, Stored] = Kept(self._journal)  # in the order in which they died
        self._waiting: dict[Precedence, list[tuple[float, int]]] = {each: [] for each in Precedence}  # visible_at, id
        self._by_age: list[tuple[float, int]] = []  # a heap of sent_at, id
        self._of_key: Kept[str, tuple[int, ...]] = Kept(self._journal)  # of records
        self._aside: defaultdict[CrawlRef, Kept[int, None]] = defaultdict(lambda: Kept(self._journal))
        self._put_off: defaultdict[str, Kept[int, None]] = defaultdict(lambda: Kept(self._journal))  # by host

    def send(self, body: str, now: float) -> None:
        message = decode_message(body)
        self._sent += 1
        self._add(Stored(self._sent, body, message if isinstance(message, Message) else None, now, now))

    def _add(self, stored: Stored) -> None:
        if stored.message is not None:
            key = stored.message.key
            self._of_key[key] = (*self._of_key.get(key, ()), stored.id)
        heapq.heappush(self._by_age, (stored.sent_at, stored.id))
        self._place(stored, Precedence.FRESH, stored.visible_at)

    def _remove(self, stored: Stored) -> None:
        del self.live[stored.id]
        if stored.message is None:
            return
        key = stored.message.key
        if left := tuple(id_ for id_ in self._of_key[key] if id_ != stored.id):
            self._of_key[key] = left
        else:
            del self._of_key[key]
        for apart in self._apart(stored.message):
            if stored.id in apart:
                del apart[stored.id]

    def _place(self, stored: Stored, precedence: Precedence, visible_at: float) -> None:
        self.live[stored.id] = replace(stored, precedence=precedence, visible_at=visible_at)
        if precedence is not Precedence.ASIDE:
            heapq.heappush(self._waiting[precedence], (visible_at, stored.id))
        if stored.message is None:
            return
        places = (Precedence.PUT_OFF, Precedence.ASIDE)
        for place, apart in zip(places, self._apart(stored.message), strict=False):
            if precedence is place:
                apart[stored.id] = None
            elif stored.id in apart:
                del apart[stored.id]

    def _apart(self, message: Message) -> Iterator[Kept[int, None]]:
        """What is put off of a message's host, and what is put aside of its crawl, if it is of one."""
        yield self._put_off[host_of(message.url)]
        if message.crawl is not None:
            yield self._aside[message.crawl]

    def _is_current(self, precedence: Precedence, entry: tuple[float, int]) -> bool:
        visible_at, message_id = entry
        stored = self.live.get(message_id)
        return stored is not None and (stored.precedence, stored.visible_at) == (precedence, visible_at)

    def next_visible(self, crawl: str | None = None) -> float:
        """When the next message can be had, of any crawl or of one."""
        if crawl is not None:
            return min((stored.visible_at for stored in self._take_visible(math.inf, crawl)), default=math.inf)
        for precedence, heap in self._waiting.items():
            while heap and not self._is_current(precedence, heap[0]):
                heapq.heappop(heap)
        return min((heap[0][0] for heap in self._waiting.values() if heap), default=math.inf)

    def take(
        self, limit: int, *, now: float, until: float, max_receives: int, receipt: str, crawl: str | None = None,
        sift: Sift | None = None,
    ) -> list[Stored]:  # fmt: skip
        """Up to ``limit`` visible messages, of any crawl or of one, hidden until a moment. One that was taken too often
        dies instead.

        One that a sieve has a moment for is put off until then, untaken.
        """
        taken: dict[int, Stored] = {}  # what was put off to one moment twice has two entries there
        visible = self._take_visible(now, crawl)
        put_off = 0
        while len(taken) < limit and put_off < MOST_LOOKED_AT and (stored := next(visible, None)) is not None:
            if stored.id in taken:
                continue
            if is_dead(stored.receive_count, max_receives):
                self._remove(stored)
                self.dead[stored.id] = stored
                continue
            if sift is not None and (until_then := sift(stored)) is not None:
                self._put_off_until(stored, *until_then)
                put_off += 1
                continue
            count = stored.receive_count + 1
            taken[stored.id] = replace(stored, receive_count=count, receipt=f"{receipt}:{stored.id}")
        for stored in taken.values():
            self._place(stored, Precedence.EXPIRED, until)
        return list(taken.values())

    def _take_visible(self, now: float, crawl: str | None) -> Iterator[Stored]:
        for precedence, heap in self._waiting.items():
            if crawl is not None:  # those of others stay where they are
                current = (entry for entry in heap if entry[0] <= now and self._is_current(precedence, entry))
                own = sorted(entry for entry in current if _is_of(self.live[entry[1]], crawl))
                yield from (self.live[id_] for _, id_ in own)
                continue
            while heap and heap[0][0] <= now:
                entry = heapq.heappop(heap)
                if self._is_current(precedence, entry):
                    self._journal.note(partial(heapq.heappush, heap, entry))
                    yield self.live[entry[1]]

    def _held(self, delivery: Delivery) -> Stored | None:
        """The message of a delivery; none if the receipt is stale."""
        stored = self.live.get(int(delivery.message_id))
        return stored if stored is not None and stored.receipt == delivery.receipt else None

    def put_off(self, delivery: Delivery, until: float, message: Message | None = None) -> None:
        """Hide the message of a delivery until a moment; ``message``: what it says from then on."""
        stored = self._held(delivery)
        if stored is None:
            return
        self._put_off_until(replace(stored, receive_count=0, receipt=""), until, message)

    def _put_off_until(self, stored: Stored, until: float, message: Message | None) -> None:
        if message is not None:
            self._remove(stored)  # it is found by what it says
            stored = replace(stored, message=message, body=encode_message(message))
            self._add(stored)
        self._place(stored, Precedence.PUT_OFF, until)

    def hide(self, delivery: Delivery, until: float) -> None:
        """Let the message of a delivery stay in its hands until a moment."""
        stored = self._held(delivery)
        if stored is not None:
            self._place(stored, Precedence.EXPIRED, until)

    def delete(self, delivery: Delivery) -> None:
        stored = self._held(delivery)
        if stored is not None:
            self._remove(stored)

    def holds(self, key: str) -> bool:
        """Whether there is a message of a record that is not dead."""
        return key in self._of_key

    def delete_of(self, key: str) -> None:
        for message_id in self._of_key.get(key, ()):
            self._remove(self.live[message_id])

    def park(self, delivery: Delivery) -> None:
        """Put the message of a delivery aside, if it is a crawl's."""
        stored = self._held(delivery)
        if stored is not None and stored.message is not None and stored.message.crawl is not None:
            self._place(replace(stored, receive_count=0, receipt=""), Precedence.ASIDE, math.inf)

    def unpark(self, ref: CrawlRef | None, now: float) -> int:
        """Make visible what was put aside of a crawl, or of all of them; how many."""
        ids = sorted(self._aside.get(ref, ()) if ref else chain.from_iterable(self._aside.values()))
        for id_ in ids:
            self._place(self.live[id_], Precedence.FRESH, now)
        return len(ids)

    def forget(self, ref: CrawlRef) -> None:
        """Remove the messages of a crawl, the dead too."""
        for stored in list(self.live.values()):
            if stored.message is not None and stored.message.crawl == ref:
                self._remove(stored)
        for stored in list(self.dead.values()):
            if stored.message is not None and stored.message.crawl == ref:
                del self.dead[stored.id]

    def release(self, host: str, now: float) -> int:
        """Make what was put off visible, if it is of a host; how many."""
        released = [self.live[i] for i in sorted(self._put_off.get(host, ())) if self.live[i].visible_at > now]
        for stored in released:
            self._place(stored, Precedence.PUT_OFF, now)
        return len(released)

    def revive(self, limit: int, now: float) -> int:
        """Let dead letters begin anew; how many."""
        revived = list(self.dead.values())[:limit]
        for stored in revived:
            del self.dead[stored.id]
            self._add(replace(stored, receive_count=0, receipt="", visible_at=now))
        return len(revived)

    def purge(self) -> int:
        """Remove all, the dead too; how many."""
        removed = len(self.live) + len(self.dead)
        self._empty()
        return removed

    def stats(self, now: float) -> QueueStats:
        in_flight, delayed = (
            len({id_ for at, id_ in self._waiting[each] if at > now and self._is_current(each, (at, id_))})
            for each in (Precedence.EXPIRED, Precedence.PUT_OFF)
        )
        delayed += sum(map(len, self._aside.values()))
        while self._by_age and self._by_age[0][1] not in self.live:
            heapq.heappop(self._by_age)
        return QueueStats(
            visible=len(self.live) - in_flight - delayed,
            in_flight=in_flight,
            delayed=delayed,
            dead=len(self.dead),
            oldest_age_seconds=max(0.0, now - self._by_age[0][0]) if self._by_age else None,
        )


def _is_of(stored: Stored, crawl: str) -> bool:
    return stored.message is not None and stored.message.crawl_name == crawl
