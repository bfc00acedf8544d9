"""Turns in memory: what a worker has ended and what it takes next, in one step."""

from __future__ import annotations

from functools import partial

from sqspider.frontier.answers import Claimant
from sqspider.frontier.memory.hosts import Hosts
from sqspider.frontier.memory.part import operation
from sqspider.frontier.memory.queue import Stored
from sqspider.frontier.memory.records import Records
from sqspider.frontier.sieve import PutOff, Sieve
from sqspider.frontier.values import Ends, Taking, Turned
from sqspider.message import Message, decode_message
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
        sieve = Sieve(self._store, taking, self._clock())
        received = self._take(taking.limit, taking.crawl, partial(self._sifted, sieve))
        read = [(each, partial(decode_message, each.body)) for each in received]
        claimant = Claimant(taking.worker_id, taking.claim_id, taking.lease_seconds)
        taken = sieve.claimed(read, partial(self._claim, claimant=claimant))
        hosts = [host_of(each.message.url) for each in taken if isinstance(each.message, Message)]
        return Turned(finished=finished, retried=retried, taken=taken, hosts=self._rows(hosts), put_off=sieve.put_off)

    def _sifted(self, sieve: Sieve, stored: Stored) -> PutOff | None:
        """See :data:`sqspider.frontier.memory.queue.Sift`."""
        if stored.message is None or not self._is_open(stored.message.key):
            return None
        return sieve.look(str(stored.id), stored.message)

    def _is_open(self, key: str) -> bool:
        record = self._store.records.get(key)
        return record is not None and not record.status.is_final
