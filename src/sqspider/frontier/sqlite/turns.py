"""A turn: what a worker has ended and what it takes next, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

import msgspec

from sqspider.frontier.answers import Claimant
from sqspider.frontier.sqlite import claims, hosts, messages
from sqspider.frontier.sqlite.connection import Part, Transaction
from sqspider.frontier.sqlite.messages import Received
from sqspider.frontier.values import ClaimRequest, Ends, Taken, Taking, Turned, Won
from sqspider.host import Exit, Passage, Passed, passed
from sqspider.message import Message
from sqspider.url import host_of

MOST_LOOKS: Final = 100  # at messages that have all died, before others get their turn


class Turns(Part):
    """Turns of workers."""

    async def turn(self, ends: Ends, taking: Taking) -> Turned:
        is_idle = not any((ends.finishes, ends.retries, ends.deferrals, ends.deletions, ends.exits))
        if is_idle and not await self._is_any_visible():
            return Turned(finished=[], retried=[], taken=[], hosts={})  # who is idle keeps nobody from writing
        turned, generation = await self._file.write(lambda transaction: turn(transaction, ends, taking))
        self._file.generation = generation
        self._file.news.set()
        return turned

    async def _is_any_visible(self) -> bool:
        next_at = await self._file.read(partial(messages.look, self._file))
        return next_at is not None and next_at <= self._file.clock()


def turn(transaction: Transaction, ends: Ends, taking: Taking) -> tuple[Turned, int]:
    """End, take and claim; and the frontier's generation then."""
    finished = claims.finish(transaction, ends.finishes)
    retried = claims.retry(transaction, ends.retries)
    messages.defer(transaction, ends.deferrals)
    messages.delete(transaction, ends.deletions)
    states = hosts.States(transaction)  # from here on nobody else writes them
    states.read(end.host for end in ends.exits)
    for end in ends.exits:
        states.become(end.host, hosts.leaving(end))
    sieve = _Sieve(transaction, states, taking)
    taken = _claimed(transaction, _received(transaction, taking.limit, sieve), taking, sieve)
    names = [host_of(each.message.url) for each in taken if isinstance(each.message, Message)]
    rows = states.rows_of(names)
    states.save()
    return Turned(finished=finished, retried=retried, taken=taken, hosts=rows, put_off=sieve.put_off), (
        transaction.generation
    )


class _Entry(NamedTuple):
    """A host that was entered for a URL."""

    message: Message  # with its slot
    host: str
    token: str


class _Sieve:
    """Lets URLs through whose hosts' turns have come, or that need none; puts the others off."""

    def __init__(self, transaction: Transaction, states: hosts.States, taking: Taking) -> None:
        self.entered: dict[str, _Entry] = {}  # by the ids of messages
        self.put_off = 0
        self._transaction = transaction
        self._states = states
        self._taking = taking

    def sift(self, seen: Sequence[messages.Seen]) -> list[messages.Seen]:
        """See :data:`messages.Sift`."""
        hosts_of = [host_of(each.message.url) if each.message is not None else "" for each in seen]
        self._states.read(host for host in hosts_of if host)
        put_off: dict[int, Passed] = {}
        for (place, _, message), host in zip(seen, hosts_of, strict=True):
            if message is None or place.is_finished:
                continue
            passage = self._taking.passes(message, self._states.row(host))
            if passage is None:
                continue
            found = self._pass(host, message, passage, f"{self._taking.claim_id}.{place.id}")
            if found.again_at is not None:
                put_off[place.id] = found
            else:
                with_slot = msgspec.structs.replace(message, slot=found.slot, generation=found.generation)
                self.entered[str(place.id)] = _Entry(with_slot, host, f"{self._taking.claim_id}.{place.id}")
        messages.put_off_until(
            self._transaction, [(id_, p.again_at or 0.0, p.slot, p.generation) for id_, p in put_off.items()]
        )
        self.put_off += len(put_off)
        return [each for each in seen if each.place.id not in put_off]

    def _pass(self, host: str, message: Message, passage: Passage, token: str) -> Passed:
        slot = None if message.slot is None else (message.slot, message.generation)
        return self._states.become(host, partial(passed, passage=passage, slot=slot, token=token))

    def leave(self, message_id: str) -> None:
        """A host was entered for what cannot be asked for after all."""
        entry = self.entered.pop(message_id)
        end = Exit(host=entry.host, token=entry.token, requested_at=self._transaction.now, latency_seconds=None)
        self._states.become(entry.host, hosts.leaving(end))


def _received(transaction: Transaction, limit: int, sieve: _Sieve) -> list[Received]:
    """What is visible. Where all of it has died there may be more behind it."""
    for _ in range(MOST_LOOKS if limit > 0 else 0):
        received = messages.receive(transaction, limit, sieve.sift)
        if received or sieve.put_off:
            return received
        next_at = messages.next_visible(transaction.connection)
        if next_at is None or next_at > transaction.now:
            break
    return []


def _claimed(transaction: Transaction, received: list[Received], taking: Taking, sieve: _Sieve) -> list[Taken]:
    """Read them all, and claim what is to be claimed at once."""
    entered = sieve.entered
    read = [
        (each.delivery, entry.message if (entry := entered.get(each.delivery.message_id)) else each.message())
        for each in received
    ]
    requests = {
        delivery.message_id: ClaimRequest(delivery=delivery, message=message)
        for delivery, message in read
        if isinstance(message, Message) and (delivery.message_id in entered or taking.claims(message))
    }
    claimant = Claimant(taking.worker_id, taking.claim_id, taking.lease_seconds)
    answers = dict(zip(requests, claims.claim(transaction, list(requests.values()), claimant), strict=True))
    for message_id in [each for each in entered if not isinstance(answers.get(each), Won)]:
        sieve.leave(message_id)
    return [
        Taken(
            delivery=each,
            message=message,
            claim=answers.get(each.message_id),
            token=entered[each.message_id].token if each.message_id in entered else None,
        )
        for each, message in read
    ]
