"""A turn: what a worker has ended and what it takes next, in one transaction."""

from __future__ import annotations

from functools import partial
from typing import Final

from sqspider.frontier.answers import Claimant
from sqspider.frontier.sqlite import claims, hosts, messages
from sqspider.frontier.sqlite.connection import Part, Transaction
from sqspider.frontier.sqlite.messages import Received
from sqspider.frontier.values import ClaimRequest, Ends, Taken, Taking, Turned
from sqspider.message import Message
from sqspider.url import host_of

MOST_LOOKS: Final = 100  # at messages that have all died, before others get their turn


class Turns(Part):
    """Turns of workers."""

    async def turn(self, ends: Ends, taking: Taking) -> Turned:
        if not any((ends.finishes, ends.retries, ends.deferrals, ends.deletions)) and not await self._is_any_visible():
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
    taken = _claimed(transaction, _received(transaction, taking.limit), taking)
    names = [host_of(each.message.url) for each in taken if isinstance(each.message, Message)]
    rows = hosts.rows_of(transaction.connection, transaction.path, list(dict.fromkeys(names)))
    return Turned(finished=finished, retried=retried, taken=taken, hosts=rows), transaction.generation


def _received(transaction: Transaction, limit: int) -> list[Received]:
    """What is visible. Where all of it has died there may be more behind it."""
    for _ in range(MOST_LOOKS if limit > 0 else 0):
        if received := messages.receive(transaction, limit):
            return received
        next_at = messages.next_visible(transaction.connection)
        if next_at is None or next_at > transaction.now:
            break
    return []


def _claimed(transaction: Transaction, received: list[Received], taking: Taking) -> list[Taken]:
    """Read them all, and claim what is to be claimed at once."""
    read = [(each.delivery, each.message()) for each in received]
    requests = {
        delivery.message_id: ClaimRequest(delivery=delivery, message=message)
        for delivery, message in read
        if isinstance(message, Message) and taking.claims(message)
    }
    claimant = Claimant(taking.worker_id, taking.claim_id, taking.lease_seconds)
    answers = dict(zip(requests, claims.claim(transaction, list(requests.values()), claimant), strict=True))
    return [Taken(delivery=each, message=message, claim=answers.get(each.message_id)) for each, message in read]
