"""Messages in SQS: sending, receiving, putting off, deleting.

A message that is put off is sent anew and then deleted, so that it counts no receives. A receipt carries the moment
at which it goes stale: from then on the message may be somebody else's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from sqspider.frontier.aws.outgoing import Outgoing, delay_until, outgoing, outgoing_raw, sendable
from sqspider.frontier.aws.parking import Parking, body_of, is_parked
from sqspider.frontier.aws.queue import SQS_BATCH
from sqspider.frontier.values import Deferral, Delivery, FrontierBusyError, FrontierError, FrontierUnavailableError
from sqspider.log import get_logger

log = get_logger(__name__)


class Messages(Parking):
    """The messages of the queue."""

    async def send(self, bodies: Sequence[str]) -> None:
        refusals = list(filter(None, await self._queue.send([outgoing_raw(sendable(body)) for body in bodies])))
        if refusals:
            raise FrontierError(f"SQS does not take {len(refusals)} of {len(bodies)} messages: {refusals[0]}")

    async def receive(
        self,
        limit: int,
        *,
        wait_seconds: float = 0.0,
        crawl: str | None = None,  # noqa: ARG002 - SQS gives what it has
    ) -> list[Delivery]:
        if self._rules.visibility_seconds < self._settings.visibility_seconds:
            raise FrontierUnavailableError(
                f"the queue's visibility timeout is {self._rules.visibility_seconds:g} s, the lease needs "
                f"{self._settings.visibility_seconds:g} s: raise it, or the same message is delivered twice"
            )
        wait = min(math.ceil(wait_seconds), 20)
        messages = batch = await self._queue.receive(limit, wait)
        while len(batch) == SQS_BATCH and len(messages) < limit:
            try:
                batch = await self._queue.receive(limit - len(messages), 0)
            except FrontierBusyError:  # what is here already would be hidden for nothing
                break
            messages = messages + batch
        if not messages:
            await self.flush()
        else:
            await self._flush_if_due()
        stale_at = self._clock() + self._rules.visibility_seconds
        return [_delivery_of(message, stale_at) for message in messages]

    async def defer(self, deferrals: Sequence[Deferral]) -> None:
        now = self._clock()
        live = [it for it in deferrals if not is_stale(it.delivery, now)]
        kept = await self._park([it for it in live if is_parked(it.until, now, body_of(it))])
        await self._resend([(it.delivery, None if it.delivery.receipt in kept else _deferred(it, now)) for it in live])

    async def delete(self, deliveries: Sequence[Delivery]) -> None:
        await self._queue.delete([_handle_of(delivery.receipt) for delivery in deliveries])

    async def _hide(self, deliveries: Sequence[Delivery], seconds: float) -> list[Delivery]:
        """Hide messages for so long from now; their deliveries, as they are good from then on."""
        now = self._clock()
        live = [delivery for delivery in deliveries if not is_stale(delivery, now)]
        refusals = await self._queue.hide([_handle_of(delivery.receipt) for delivery in live], math.ceil(seconds))
        # What was received twelve hours ago SQS hides no longer: that one comes back when it would have.
        hidden = {delivery.receipt for delivery, refusal in zip(live, refusals, strict=True) if not refusal}
        return [_good_until(it, now + seconds) if it.receipt in hidden else it for it in deliveries]

    async def _resend(self, moves: Sequence[tuple[Delivery, Outgoing | None]]) -> None:
        """Send messages anew, then delete the ones that they stand for; none: only delete."""
        now = self._clock()
        live = [move for move in moves if not is_stale(move[0], now)]
        replaced = [move for move in live if move[1] is not None]
        refusals = await self._queue.send([message for _, message in replaced if message is not None])
        # What SQS does not take comes back as it was, and reaches the dead letters.
        left = {move[0].receipt for move, refusal in zip(replaced, refusals, strict=True) if refusal}
        for refusal in filter(None, refusals):
            log.error("message_refused", why=refusal)
        await self.delete([delivery for delivery, _ in live if delivery.receipt not in left])


def _delivery_of(message: dict[str, Any], stale_at: float) -> Delivery:
    return Delivery(
        message_id=message["MessageId"],
        receipt=_receipt(stale_at, message["ReceiptHandle"]),
        body=message["Body"],
        receive_count=int(message["Attributes"]["ApproximateReceiveCount"]),
        sent_at=int(message["Attributes"]["SentTimestamp"]) / 1000,
    )


def _deferred(deferral: Deferral, now: float) -> Outgoing:
    delay = delay_until(deferral.until, now)
    if deferral.message is not None:
        return outgoing(deferral.message, delay)
    return outgoing_raw(deferral.delivery.body, delay)


def _receipt(stale_at: float, handle: str) -> str:
    return f"{stale_at:.3f} {handle}"


def _good_until(delivery: Delivery, stale_at: float) -> Delivery:
    return msgspec.structs.replace(delivery, receipt=_receipt(stale_at, _handle_of(delivery.receipt)))


def is_stale(delivery: Delivery, now: float) -> bool:
    """Whether a delivery's time is up: its message is visible again, or somebody else's."""
    stale_at, separator, _ = delivery.receipt.partition(" ")
    return bool(separator) and float(stale_at) <= now


def _handle_of(receipt: str) -> str:
    """SQS's own receipt handle. Ours has before it when it goes stale."""
    return receipt.rpartition(" ")[2]
