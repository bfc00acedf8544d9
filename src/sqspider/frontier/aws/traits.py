"""What a frontier on AWS does otherwise than others do."""

from __future__ import annotations

from typing import Final

from sqspider.frontier.aws.bill import DOLLARS_A_READ_UNIT, DOLLARS_A_SQS_REQUEST, DOLLARS_A_WRITE_UNIT
from sqspider.frontier.aws.queue import SQS_BATCH
from sqspider.frontier.values import Traits

TRAITS: Final = Traits(
    lag_seconds=3.0,  # SQS's counts are approximate, and the index is behind by less than that
    poll_seconds=10.0,  # SQS bills each poll; but who stops waits for its end
    purge_seconds=60.0,  # SQS takes so long to purge a queue, and does it once in that time
    removal_dollars=DOLLARS_A_READ_UNIT + DOLLARS_A_WRITE_UNIT,
    scan_dollars=DOLLARS_A_READ_UNIT / 8,  # a scan is charged by what it reads: half a unit for 4 KB, or four records
    # It is read, written, put into the index, and a message sent.
    reopen_dollars=DOLLARS_A_READ_UNIT + 2 * DOLLARS_A_WRITE_UNIT + DOLLARS_A_SQS_REQUEST / SQS_BATCH,
    gather_seconds=0.1,  # of a host that is asked fifty times a second five ends share their calls
    finest_period_seconds=60,  # CloudWatch keeps no finer points of a queue
    max_points=1440,  # and gives no more at once
)
