"""A turn: what a worker has ended and what it takes next, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from sqspider.frontier.answers import Claimant
from sqspider.frontier.sieve import PutOff, Sieve
from sqspider.frontier.sqlite import claims, hosts, messages
from sqspider.frontier.sqlite.connection import Part, Transaction
from sqspider.frontier.sqlite.messages import Received
from sqspider.frontier.sqlite.of_crawl import Chosen, choose
from sqspider.frontier.values import Ends, Taking, Turned
from sqspider.host import left
from sqspider.message import Message
from sqspider.url import host_of

MOST_LOOKS: Final = 100  # at messages that have all died, before others get their turn


class Turns(Part):
    """Turns of workers."""

    async def turn(self, ends: Ends, taking: Taking) -> Turned:
        is_idle = not any((ends.finishes, ends.retries, ends.deferrals, ends.deletions, ends.exits))
        chosen = await self._chosen(taking)
        if is_idle and not (await self._is_any_visible() if chosen is None else any(chosen)):
            return Turned(finished=[], retried=[], taken=[], hosts={})  # who is idle keeps nobody from writing
        turned, generation = await self._file.write(lambda transaction: turn(transaction, ends, taking, chosen))
        self._file.generation = generation
        self._file.news.set()
        return turned

    async def _chosen(self, taking: Taking) -> Chosen | None:
        """What is to be taken, where that is of one crawl alone."""
        if taking.crawl is None or not taking.limit:
            return None
        return await self._file.read(partial(choose, self._file, taking.crawl, taking.limit))

    async def _is_any_visible(self) -> bool:
        next_at = await self._file.read(partial(messages.look, self._file))
        return next_at is not None and next_at <= self._file.clock()


def turn(transaction: Transaction, ends: Ends, taking: Taking, chosen: Chosen | None = None) -> tuple[Turned, int]:
    """End, take and claim; and the frontier's generation then."""
    finished = claims.finish(transaction, ends.finishes)
    retried = claims.retry(transaction, ends.retries)
    messages.defer(transaction, ends.deferrals)
    messages.delete(transaction, ends.deletions)
    states = hosts.States(transaction)  # from here on nobody else writes them
    states.read(end.host for end in ends.exits)
    for end in ends.exits:
        states.change_host(end.host, partial(left, end=end))
    sieve = Sieve(states, taking, transaction.now)
    sift = _Sifter(transaction, states, sieve).sift
    if chosen is None:
        received = _received(transaction, taking.limit, sieve, sift)
    else:
        received = messages.receive(transaction, taking.limit, sift, chosen)
    claimant = Claimant(taking.worker_id, taking.claim_id, taking.lease_seconds)
    read = [(each.delivery, each.message) for each in received]
    taken = sieve.claimed(read, partial(claims.claim, transaction, claimant=claimant))
    names = [host_of(each.message.url) for each in taken if isinstance(each.message, Message)]
    rows = states.rows_of(names)
    states.save()
    return Turned(finished=finished, retried=retried, taken=taken, hosts=rows, put_off=sieve.put_off), (
        transaction.generation
    )


class _Sifter:
    """Shows the sieve what is visible, and writes down what it puts off."""

    def __init__(self, transaction: Transaction, states: hosts.States, sieve: Sieve) -> None:
        self._transaction = transaction
        self._states = states
        self._sieve = sieve

    def sift(self, seen: Sequence[messages.Seen]) -> list[messages.Seen]:
        """See :data:`messages.Sift`."""
        self._states.read(host_of(each.message.url) for each in seen if each.message is not None)
        put_off: dict[int, PutOff] = {}
        for place, _, message in seen:
            if message is None or place.is_finished:
                continue
            found = self._sieve.look(str(place.id), message)
            if found is not None:
                put_off[place.id] = found
        messages.put_off_until(
            self._transaction,
            [(id_, until, m.slot or 0.0, m.generation) for id_, (until, m) in put_off.items()],
        )
        return [each for each in seen if each.place.id not in put_off]


def _received(transaction: Transaction, limit: int, sieve: Sieve, sift: messages.Sift) -> list[Received]:
    """What is visible. Where all of it has died there may be more behind it."""
    for _ in range(MOST_LOOKS if limit > 0 else 0):
        received = messages.receive(transaction, limit, sift)
        if received or sieve.put_off:
            return received
        next_at = messages.next_visible(transaction.connection)
        if next_at is None or next_at > transaction.now:
            break
    return []
