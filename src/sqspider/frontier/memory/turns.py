"""Turns in memory: what a worker has ended and what it takes next, in one step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from sqspider.frontier.answers import Claimant
from sqspider.frontier.memory.hosts import Hosts
from sqspider.frontier.memory.part import operation
from sqspider.frontier.memory.queue import Stored
from sqspider.frontier.memory.records import Records
from sqspider.frontier.memory.store import MemoryStore
from sqspider.frontier.values import ClaimRequest, Delivery, Ends, Taken, Taking, Turned, Won
from sqspider.host import Exit, HostRow, passed
from sqspider.message import BadBody, Message, decode_message
from sqspider.url import host_of


class Turns(Records, Hosts):
    """Turns of workers."""

    @operation
    def turn(self, ends: Ends, taking: Taking) -> Turned:
        finished, retried = self._finish(ends.finishes), self._retry(ends.retries)
        self._defer(ends.deferrals)
        self._delete(ends.deletions)
        self._leave(ends.exits)
        if ends.finishes or ends.deletions:
            self._store.tell()  # there may be nothing left to wait for
        sieve = _Sieve(self._store, taking, self._clock())
        taken = self._claimed(self._take(taking.limit, sieve.sift), taking, sieve)
        hosts = [host_of(each.message.url) for each in taken if isinstance(each.message, Message)]
        return Turned(finished=finished, retried=retried, taken=taken, hosts=self._rows(hosts), put_off=sieve.put_off)

    def _claimed(self, deliveries: Sequence[Delivery], taking: Taking, sieve: _Sieve) -> list[Taken]:
        """Read them all, and claim what is to be claimed at once."""
        entered = sieve.entered
        read = [(each, _with_slot(decode_message(each.body), entered.get(each.message_id))) for each in deliveries]
        requests = {
            delivery.receipt: ClaimRequest(delivery=delivery, message=message)
            for delivery, message in read
            if isinstance(message, Message) and (delivery.message_id in entered or taking.claims(message))
        }
        claimant = Claimant(taking.worker_id, taking.claim_id, taking.lease_seconds)
        claims = dict(zip(requests, self._claim(list(requests.values()), claimant), strict=True))
        won = {each.message_id for each in deliveries if isinstance(claims.get(each.receipt), Won)}
        self._leave([entered.pop(each).exit(self._clock()) for each in entered.keys() - won])
        return [
            Taken(
                delivery=each,
                message=message,
                claim=claims.get(each.receipt),
                token=entered[each.message_id].token if each.message_id in entered else None,
            )
            for each, message in read
        ]


class _Entered(NamedTuple):
    """A host that was entered for a URL."""

    message: Message  # with its slot
    host: str
    token: str

    def exit(self, now: float) -> Exit:
        """The end of what is not asked for after all."""
        return Exit(host=self.host, token=self.token, requested_at=now, latency_seconds=None)


def _with_slot(message: Message | BadBody, entered: _Entered | None) -> Message | BadBody:
    if entered is None or not isinstance(message, Message):
        return message
    return msgspec.structs.replace(message, slot=entered.message.slot, generation=entered.message.generation)


class _Sieve:
    """Lets URLs through whose hosts' turns have come, or that need none; puts the others off."""

    def __init__(self, store: MemoryStore, taking: Taking, now: float) -> None:
        self.entered: dict[str, _Entered] = {}  # by the ids of messages
        self.put_off = 0
        self._store = store
        self._taking = taking
        self._now = now

    def sift(self, stored: Stored) -> tuple[float, Message] | None:
        """See :data:`sqspider.frontier.memory.queue.Sift`."""
        message = stored.message
        if message is None or not self._is_open(message.url):
            return None
        host = host_of(message.url)
        state = self._store.hosts.get(host)
        passage = self._taking.passes(message, state.row if state is not None else HostRow(host=host))
        if passage is None:
            return None
        slot = None if message.slot is None else (message.slot, message.generation)
        token = f"{self._taking.claim_id}.{stored.id}"
        found = self._store.change_host(host, partial(passed, passage=passage, slot=slot, token=token, now=self._now))
        message = msgspec.structs.replace(message, slot=found.slot, generation=found.generation)
        if found.again_at is not None:
            self.put_off += 1
            return found.again_at, message
        self.entered[str(stored.id)] = _Entered(message, host, token)
        return None

    def _is_open(self, url: str) -> bool:
        record = self._store.records.get(url)
        return record is not None and not record.status.is_final
