"""The table of all that the crawler knows; see ``sqspider.frontier.aws.items`` for what its items are."""

from __future__ import annotations

from aws_cdk import RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from constructs import Construct

from sqspider.frontier.aws.table import INDEX


def table_of(scope: Construct, *, is_kept: bool, has_recovery: bool) -> dynamodb.Table:
    """The table of a stack. ``is_kept``: it outlives the stack, and nothing deletes it by mistake."""
    table = dynamodb.Table(
        scope,
        "Records",
        partition_key=dynamodb.Attribute(name="url", type=dynamodb.AttributeType.STRING),
        billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
        point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
            point_in_time_recovery_enabled=has_recovery
        ),
        removal_policy=RemovalPolicy.RETAIN if is_kept else RemovalPolicy.DESTROY,
        deletion_protection=is_kept,
    )
    table.add_global_secondary_index(  # sparse: finished records leave it
        index_name=INDEX,
        partition_key=dynamodb.Attribute(name="due_shard", type=dynamodb.AttributeType.STRING),
        sort_key=dynamodb.Attribute(name="due_at", type=dynamodb.AttributeType.NUMBER),
        projection_type=dynamodb.ProjectionType.KEYS_ONLY,
    )
    return table
