"""What was asked of AWS, in the units that it charges for, and what they cost.

List prices of us-east-1, on demand, in dollars, as of 2026-11:
https://aws.amazon.com/sqs/pricing, https://aws.amazon.com/dynamodb/pricing/on-demand,
https://aws.amazon.com/lambda/pricing, https://aws.amazon.com/cloudwatch/pricing, https://aws.amazon.com/s3/pricing
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sqspider.frontier.aws.client import Call
from sqspider.frontier.aws.transport import DYNAMODB, S3, SQS

# For each 64 KiB begun: 0.40 of a standard queue, and 0.10 more since messages name a group (a fair
# queue). The surcharge is taken for every request: at most so much.
DOLLARS_A_SQS_REQUEST: Final = 0.50e-6
DOLLARS_A_READ_UNIT: Final = 0.125e-6
DOLLARS_A_WRITE_UNIT: Final = 0.625e-6
DOLLARS_AN_S3_WRITE: Final = 5e-6  # PUT, POST, and LIST
DOLLARS_AN_S3_READ: Final = 0.4e-6  # GET, HEAD; a DELETE is free
DOLLARS_A_GB_MONTH: Final = 0.023  # S3 Standard, of the first 50 TB
DOLLARS_A_METRIC_REQUEST: Final = 10e-6  # GetMetricStatistics
DOLLARS_A_GB_SECOND: Final = 0.0000133334  # of a function on ARM64
DOLLARS_AN_INVOCATION: Final = 0.20e-6

OF_ARCHIVE: Final = ("s3_writes", "s3_reads", "s3_refused", "archived_bytes")  # of what is counted
BILLED_BYTES: Final = 65_536  # SQS bills each 64 KiB of a call's messages, sent or received, as a request


class Usage(msgspec.Struct):
    """What was asked of AWS so far: the base of the bill."""

    calls: float = 0
    sqs_requests: float = 0  # as billed: one for each 64 KiB begun
    read_units: float = 0.0
    write_units: float = 0.0
    s3_writes: float = 0  # requests that put or list
    s3_reads: float = 0
    s3_refused: float = 0  # tries that were not carried out, as far as we know: no bill is made of them here
    archived_bytes: float = 0  # that were put: they cost by the month, see :data:`DOLLARS_A_GB_MONTH`

    @property
    def dollars(self) -> float:
        """What it costs by list price (us-east-1, on demand): see docs/costs.md."""
        return (
            self.sqs_requests * DOLLARS_A_SQS_REQUEST
            + self.read_units * DOLLARS_A_READ_UNIT
            + self.write_units * DOLLARS_A_WRITE_UNIT
            + self.s3_writes * DOLLARS_AN_S3_WRITE
            + self.s3_reads * DOLLARS_AN_S3_READ
        )

    def minus(self, earlier: Usage) -> Usage:
        """What was asked since an earlier moment."""
        return Usage(**{name: getattr(self, name) - getattr(earlier, name) for name in self.__struct_fields__})

    def plus(self, more: Usage) -> Usage:
        """The two together."""
        return Usage(**{name: getattr(self, name) + getattr(more, name) for name in self.__struct_fields__})

    def see(self, call: Call) -> None:
        """Add a call."""
        self.calls += 1
        if call.service is SQS:
            payload = max(_payload_bytes(call.request), _payload_bytes(call.answer or {}))
            self.sqs_requests += max(1, math.ceil(payload / BILLED_BYTES))
        elif call.service is S3:
            self._see_s3(call)
        elif call.service is DYNAMODB and call.answer:
            used = call.answer.get("ConsumedCapacity") or []
            units = sum(part.get("CapacityUnits", 0.0) for part in (used if isinstance(used, list) else [used]))
            if call.action in ("BatchGetItem", "Query", "Scan"):
                self.read_units += units
            else:
                self.write_units += units

    def _see_s3(self, call: Call) -> None:
        if call.answer is None:
            self.s3_refused += 1
        elif call.action in ("GetObject", "HeadObject"):
            self.s3_reads += 1
        elif call.action not in ("DeleteObject", "AbortMultipartUpload"):
            self.s3_writes += 1
            self.archived_bytes += call.request["Bytes"]


def _payload_bytes(document: Mapping[str, Any]) -> int:
    """The bytes of the messages in a request or an answer."""
    sent = (entry.get("MessageBody", "") for entry in document.get("Entries") or ())
    received = (message.get("Body", "") for message in document.get("Messages") or ())
    return sum(len(body.encode()) for body in (*sent, *received))
