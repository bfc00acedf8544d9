"""What AWS charges: list prices of us-east-1, on demand, in dollars, as of 2026-11.

https://aws.amazon.com/sqs/pricing, https://aws.amazon.com/dynamodb/pricing/on-demand,
https://aws.amazon.com/lambda/pricing, https://aws.amazon.com/cloudwatch/pricing
"""

from __future__ import annotations

from typing import Final

# For each 64 KiB begun: 0.40 of a standard queue, and 0.10 more since messages name a group (a fair
# queue). The surcharge is taken for every request: at most so much.
DOLLARS_A_SQS_REQUEST: Final = 0.50e-6
DOLLARS_A_READ_UNIT: Final = 0.125e-6
DOLLARS_A_WRITE_UNIT: Final = 0.625e-6
DOLLARS_A_METRIC_REQUEST: Final = 10e-6  # GetMetricStatistics
DOLLARS_A_GB_SECOND: Final = 0.0000133334  # of a function on ARM64
DOLLARS_AN_INVOCATION: Final = 0.20e-6
