"""What each function asks of AWS; ``tests/end_to_end`` watches their calls. Whoever works with the command line
may do all that the adapter names: see ``grants``.
"""

from __future__ import annotations

from typing import Final

CRAWL_ACTIONS: Final = (
    "dynamodb:BatchGetItem",
    "dynamodb:DescribeTable",
    "dynamodb:PartiQLInsert",
    "dynamodb:PartiQLUpdate",
    "dynamodb:Query",  # on the index: what was put aside of a crawl that runs again, and whether its limit is reached
    "dynamodb:UpdateItem",
    "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ReceiveMessage",  # Lambda does it in the function's name
    "sqs:SendMessage",
)
SWEEP_ACTIONS: Final = (
    "cloudwatch:GetMetricStatistics",
    "dynamodb:BatchGetItem",
    "dynamodb:BatchWriteItem",  # what is left of crawls that were removed
    "dynamodb:DescribeTable",
    "dynamodb:PartiQLUpdate",
    "dynamodb:Query",
    "dynamodb:UpdateItem",  # the lease on sweeping
    "sqs:GetQueueAttributes",
    "sqs:SendMessage",
)
