"""What is sent to SQS: characters that it takes, its message group, its longest delay."""

from __future__ import annotations

import math
import re
from typing import Any, Final, NamedTuple

from sqspider.message import BadBody, Message, decode_message, encode_message
from sqspider.url import host_of

MAX_DELAY_SECONDS: Final = 900  # SQS: DelaySeconds
MAX_GROUP_CHARACTERS: Final = 128  # SQS: MessageGroupId
# SQS: SendMessage. It names what it takes; the few characters beside those compile in a tenth of the time.
NOT_IN_SQS: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
EMPTY_BODY: Final = "{}"  # what stands for an empty body, which SQS does not take: no message either


class Outgoing(NamedTuple):
    """A message to be sent."""

    body: str
    host: str | None  # the message's group: SQS serves groups fairly
    delay_seconds: int = 0

    def entry(self) -> dict[str, Any]:
        """It, as an entry of SendMessageBatch."""
        entry: dict[str, Any] = {"MessageBody": self.body}
        if self.delay_seconds:
            entry["DelaySeconds"] = self.delay_seconds
        if self.host:
            entry["MessageGroupId"] = self.host[-MAX_GROUP_CHARACTERS:]
        return entry


def outgoing(message: Message, delay_seconds: int = 0) -> Outgoing:
    """A message of ours."""
    return Outgoing(encoded(message), host_of(message.url), delay_seconds)


def outgoing_raw(body: str, delay_seconds: int = 0) -> Outgoing:
    """Any body that SQS takes; grouped by its host if it is a message of ours."""
    message = decode_message(body)
    host = None if isinstance(message, BadBody) else host_of(message.url)
    return Outgoing(body, host, delay_seconds)


def sendable(body: str) -> str:
    """A raw body as SQS takes it."""
    return NOT_IN_SQS.sub("\N{REPLACEMENT CHARACTER}", body) or EMPTY_BODY


def encoded(message: Message) -> str:
    """The body of a message. Characters that SQS does not take stand in strings alone, and are escaped."""
    return NOT_IN_SQS.sub(lambda found: f"\\u{ord(found[0]):04x}", encode_message(message))


def delay_until(moment: float, now: float) -> int:
    """Whole seconds, not too few; as many as SQS takes. NaN, too, is now."""
    return min(math.ceil(moment - now), MAX_DELAY_SECONDS) if moment > now else 0
