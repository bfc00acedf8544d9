"""What a delivery's receipt says: which delivery it is, and of what."""

from __future__ import annotations

from typing import Final, NamedTuple

from sqspider.frontier.values import Delivery

MESSAGE_MARK: Final = "m"  # in the ids of deliveries of what is no record's place


class Receipt(NamedTuple):
    """Which delivery of what: a record by its id, or a message that somebody sent."""

    id: int
    delivery: int
    is_message: bool
    generation: int  # of the frontier, if it is a record: another one by that id is none of its business


def receipt_of(delivery: Delivery) -> Receipt:
    """The receipt of a delivery of this frontier."""
    if delivery.message_id.startswith(MESSAGE_MARK):
        return Receipt(int(delivery.message_id.removeprefix(MESSAGE_MARK)), int(delivery.receipt), True, 0)
    generation, _, number = delivery.receipt.partition(".")
    return Receipt(int(delivery.message_id), int(number), False, int(generation))
