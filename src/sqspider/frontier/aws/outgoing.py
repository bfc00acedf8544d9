"""What is sent to SQS: characters that it takes, its message group, its longest delay."""

from __future__ import annotations

import math
import re
from typing import Final

from sqspider.frontier.aws.queue import Outgoing
from sqspider.message import BadBody, Message, decode_message, encode_message
from sqspider.url import host_of

MAX_DELAY_SECONDS: Final = 900  # SQS: DelaySeconds
NOT_IN_SQS: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # SQS: SendMessage
EMPTY_BODY: Final = "{}"  # what stands for an empty body, which SQS does not take: no message either


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
