"""Turns in memory: what a worker has ended and what it takes next, in one step."""

from __future__ import annotations

from collections.abc import Sequence

from sqspider.frontier.answers import Claimant
from sqspider.frontier.memory.hosts import Hosts
from sqspider.frontier.memory.part import operation
from sqspider.frontier.memory.records import Records
from sqspider.frontier.values import ClaimRequest, Delivery, Ends, Taken, Taking, Turned
from sqspider.message import Message, decode_message
from sqspider.url import host_of


class Turns(Records, Hosts):
    """Turns of workers."""

    @operation
    def turn(self, ends: Ends, taking: Taking) -> Turned:
        finished, retried = self._finish(ends.finishes), self._retry(ends.retries)
        self._defer(ends.deferrals)
        self._delete(ends.deletions)
        taken = self._claimed(self._take(taking.limit), taking)
        hosts = [host_of(each.message.url) for each in taken if isinstance(each.message, Message)]
        return Turned(finished=finished, retried=retried, taken=taken, hosts=self._rows(hosts))

    def _claimed(self, deliveries: Sequence[Delivery], taking: Taking) -> list[Taken]:
        """Read them all, and claim what is to be claimed at once."""
        read = [(delivery, decode_message(delivery.body)) for delivery in deliveries]
        requests = {
            delivery.receipt: ClaimRequest(delivery=delivery, message=message)
            for delivery, message in read
            if isinstance(message, Message) and taking.claims(message)
        }
        claimant = Claimant(taking.worker_id, taking.claim_id, taking.lease_seconds)
        claims = dict(zip(requests, self._claim(list(requests.values()), claimant), strict=True))
        return [Taken(delivery=each, message=message, claim=claims.get(each.receipt)) for each, message in read]
