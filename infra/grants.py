"""Who may do what: each action on what it is for, and on nothing else. The actions are in ``permissions``."""

from __future__ import annotations

from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from archive import PREFIX
from queues import Queues
from sqspider.archive import s3_permissions as archive_permissions
from sqspider.frontier.aws.permissions import IAM_ACTIONS
from sqspider.frontier.aws.table import INDEX


def operator_policy(
    scope: Construct, queues: Queues, table: dynamodb.Table, archive: s3.Bucket | None
) -> iam.ManagedPolicy:
    """What the command line may do: attach it to whoever works with it."""
    of_archive = [] if archive is None else archive_statements(archive_permissions.IAM_ACTIONS, archive)
    return iam.ManagedPolicy(
        scope,
        "Operator",
        description="What sqspider's command line needs for this stack",
        statements=[*statements(IAM_ACTIONS, queues, table), *of_archive],
    )


def archive_statements(allowed: tuple[str, ...], archive: s3.Bucket) -> list[iam.PolicyStatement]:
    """The statements that allow these actions on what lies below the prefix; that tell its names, on the bucket."""
    on_objects = [action for action in allowed if action != "s3:ListBucket"]
    found = [iam.PolicyStatement(actions=on_objects, resources=[archive.arn_for_objects(f"{PREFIX}/*")])]
    if "s3:ListBucket" in allowed:
        of_prefix = {"StringLike": {"s3:prefix": f"{PREFIX}/*"}}
        found.append(
            iam.PolicyStatement(actions=["s3:ListBucket"], resources=[archive.bucket_arn], conditions=of_prefix)
        )
    return found


def statements(allowed: tuple[str, ...], queues: Queues, table: dynamodb.Table) -> list[iam.PolicyStatement]:
    """The statements that allow these actions."""

    def of(service: str) -> list[str]:
        return [action for action in allowed if action.startswith(f"{service}:")]

    on_index = [action for action in of("dynamodb") if action == "dynamodb:Query"]
    on_table = [action for action in of("dynamodb") if action not in on_index]
    # Looking at the dead letters and moving them back is the command line's.
    is_operator = "sqs:PurgeQueue" in allowed
    dead = [action for action in of("sqs") if is_operator and action != "sqs:SendMessage"]
    by_resource = [
        (on_table, table.table_arn),
        (on_index, f"{table.table_arn}/index/{INDEX}"),
        (of("sqs"), queues.queue.queue_arn),
        (dead, queues.dead_letters.queue_arn),
        (of("cloudwatch"), "*"),  # CloudWatch knows no resources for it
    ]
    return [iam.PolicyStatement(actions=names, resources=[resource]) for names, resource in by_resource if names]
