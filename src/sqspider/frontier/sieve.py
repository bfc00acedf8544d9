"""What a turn takes, whatever its adapter keeps things in: whose hosts are entered, what waits, what is claimed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import msgspec

from sqspider.frontier.values import ClaimRequest, Delivery, Lost, Taken, Taking, Won
from sqspider.host import Exit, HostRow, HostState, left, passed
from sqspider.message import BadBody, Message
from sqspider.url import host_of

T = TypeVar("T")


class HostStates(Protocol):
    """Hosts that nobody else writes during the turn."""

    def host_row(self, host: str) -> HostRow:
        """The row of one, as it is by now."""

    def change_host(self, host: str, change: Callable[[HostState], tuple[HostState, T]]) -> T:
        """Apply one of the functions of :mod:`sqspider.host`; its answer."""


class PutOff(NamedTuple):
    """A URL that is not taken: it waits until a moment, and its message says in which slot."""

    until: float
    message: Message


class _Entered(NamedTuple):
    """A host that was entered for a URL."""

    message: Message  # with its slot
    token: str


class Sieve:
    """Lets URLs through whose hosts' turns have come, or that need none."""

    def __init__(self, hosts: HostStates, taking: Taking, now: float) -> None:
        self.put_off = 0
        self._hosts = hosts
        self._taking = taking
        self._now = now
        self._entered: dict[str, _Entered] = {}  # by the ids of messages

    def look(self, message_id: str, message: Message) -> PutOff | None:
        """Enter the host of a URL that is open, or put it off; none: it may be taken."""
        host = host_of(message.url)
        passage = self._taking.passes(message, self._hosts.host_row(host))
        if passage is None:
            return None
        slot = None if message.slot is None else (message.slot, message.generation)
        token = f"{self._taking.claim_id}.{message_id}"
        change = partial(passed, passage=passage, slot=slot, token=token, now=self._now)
        found = self._hosts.change_host(host, change)
        message = msgspec.structs.replace(message, slot=found.slot, generation=found.generation)
        if found.again_at is not None:
            self.put_off += 1
            return PutOff(found.again_at, message)
        self._entered[message_id] = _Entered(message, token)
        return None

    def claimed(
        self,
        received: Sequence[tuple[Delivery, Callable[[], Message | BadBody]]],
        claim: Callable[[Sequence[ClaimRequest]], Sequence[Won | Lost]],
    ) -> list[Taken]:
        """Read what was received, and claim what is to be claimed at once. A host that was entered for what is not won
        is left again."""
        entered = self._entered
        read = [
            (delivery, host.message if (host := entered.get(delivery.message_id)) else message())
            for delivery, message in received
        ]
        requests = {
            delivery.message_id: ClaimRequest(delivery=delivery, message=message)
            for delivery, message in read
            if isinstance(message, Message) and (delivery.message_id in entered or self._taking.claims(message))
        }
        answers = dict(zip(requests, claim(list(requests.values())), strict=True))
        for message_id in [each for each in entered if not isinstance(answers.get(each), Won)]:
            self._leave(entered.pop(message_id))
        return [
            Taken(
                delivery=delivery,
                message=message,
                claim=answers.get(delivery.message_id),
                token=host.token if (host := entered.get(delivery.message_id)) else None,
            )
            for delivery, message in read
        ]

    def _leave(self, entered: _Entered) -> None:
        host = host_of(entered.message.url)
        end = Exit(host=host, token=entered.token, requested_at=self._now, latency_seconds=None)
        self._hosts.change_host(host, partial(left, end=end))
