"""The queue that the crawler works through, and the one of messages that nobody could end."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from sqspider.frontier import MAX_RECEIVES

RETENTION: Final = Duration.days(10)
# A dead message's age counts from when it was first sent: so it is kept for longer, for as long as SQS keeps any.
DEAD_LETTER_RETENTION: Final = Duration.days(14)
LONG_POLL: Final = Duration.seconds(20)


class Queues(NamedTuple):
    """Both of them."""

    queue: sqs.Queue
    dead_letters: sqs.Queue


def queues_of(scope: Construct, visibility_seconds: int) -> Queues:
    """The queues of a stack; a message that was received is hidden for ``visibility_seconds``."""
    dead_letters = sqs.Queue(scope, "DeadLetters", retention_period=DEAD_LETTER_RETENTION, **_properties())
    queue = sqs.Queue(
        scope,
        "Queue",
        retention_period=RETENTION,
        visibility_timeout=Duration.seconds(visibility_seconds),
        receive_message_wait_time=LONG_POLL,
        dead_letter_queue=sqs.DeadLetterQueue(queue=dead_letters, max_receive_count=MAX_RECEIVES),
        **_properties(),
    )
    return Queues(queue, dead_letters)


def _properties() -> dict[str, Any]:
    return {
        "encryption": sqs.QueueEncryption.SQS_MANAGED,
        "enforce_ssl": True,
        "removal_policy": RemovalPolicy.DESTROY,
    }
