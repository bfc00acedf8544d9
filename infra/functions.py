"""The two functions: the one that takes the queue's messages and crawls, and the one that sweeps by a schedule."""

from __future__ import annotations

from typing import NamedTuple

from aws_cdk import Duration, Names, RemovalPolicy, SecretValue
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from archive import address_of
from grants import archive_statements, statements
from permissions import CRAWL_ACTIONS, SWEEP_ACTIONS
from queues import Queues
from settings import LOG_DAYS, StackSettings
from sqspider.archive.bucket_sink import DAYS
from sqspider.archive.s3_permissions import WRITER_ACTIONS
from wheels import FUNCTION_PYTHON


class Functions(NamedTuple):
    """Both of them."""

    crawl: lambda_.Function
    sweep: lambda_.Function


def functions_of(
    scope: Construct,
    settings: StackSettings,
    code: lambda_.Code,
    queues: Queues,
    table: dynamodb.Table,
    archive: s3.Bucket | None,
) -> Functions:
    """The functions of a stack, and what calls them. ``archive``: where the one that crawls keeps its pages."""

    def function(
        name: str, handler: str, allowed: tuple[str, ...], variables: dict[str, str] | None = None
    ) -> lambda_.Function:
        log_group = _log_group(scope, name, settings.log_days)
        role = iam.Role(scope, f"{name}Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        log_group.grant_write(role)
        for statement in statements(allowed, queues, table):
            role.add_to_policy(statement)
        own = {"TABLE_NAME": table.table_name, "QUEUE_URL": queues.queue.queue_url, **(variables or {})}
        return _function(scope, name, settings, code=code, handler=handler, own=own, role=role, logs=log_group)

    variables = _secrets_of(settings)
    if archive is not None:
        variables["SQSPIDER_ARCHIVE"] = address_of(archive)
        if settings.archive_days:
            variables[DAYS] = str(settings.archive_days)
    crawl = function("Crawl", "sqspider.lambda_handler.handler", CRAWL_ACTIONS, variables)
    if archive is not None:
        assert crawl.role is not None
        for statement in archive_statements(WRITER_ACTIONS, archive):
            crawl.role.add_to_principal_policy(statement)
    # CDK's own event source would grant the role a second time what it has. The name is the one that it gives:
    # by another, a stack that stands could not be updated, for AWS takes one mapping of a queue to a function.
    crawl.add_event_source_mapping(
        f"SqsEventSource:{Names.node_unique_id(queues.queue.node)}",
        event_source_arn=queues.queue.queue_arn,
        batch_size=settings.batch_size,
        report_batch_item_failures=True,
        max_concurrency=settings.max_concurrency,
    )
    sweep = function("Sweep", "sqspider.lambda_handler.sweep", SWEEP_ACTIONS)
    events.Rule(
        scope,
        "SweepSchedule",
        schedule=events.Schedule.rate(Duration.minutes(settings.sweep_minutes)),
        targets=[targets.LambdaFunction(sweep, retry_attempts=0, max_event_age=Duration.minutes(1))],
    )
    return Functions(crawl, sweep)


def _secrets_of(settings: StackSettings) -> dict[str, str]:
    """Variables whose values CloudFormation looks up in AWS Secrets Manager as it deploys: the template has none."""
    return {
        variable: SecretValue.secrets_manager(id_).unsafe_unwrap() for variable, id_ in settings.secret_ids().items()
    }


def _log_group(scope: Construct, name: str, days: int) -> logs.LogGroup:
    retention = logs.RetentionDays[LOG_DAYS[days]]
    return logs.LogGroup(scope, f"{name}Log", retention=retention, removal_policy=RemovalPolicy.DESTROY)


def _function(
    scope: Construct,
    name: str,
    settings: StackSettings,
    *,
    code: lambda_.Code,
    handler: str,
    own: dict[str, str],
    role: iam.Role,
    logs: logs.LogGroup,
) -> lambda_.Function:
    is_local = settings.package == "local"
    function = lambda_.Function(
        scope,
        name,
        runtime=lambda_.Runtime(f"python{FUNCTION_PYTHON}", lambda_.RuntimeFamily.PYTHON),
        architecture=lambda_.Architecture.X86_64 if is_local else lambda_.Architecture.ARM_64,
        code=code,
        handler=handler,
        memory_size=settings.memory_mb,
        timeout=Duration.seconds(settings.timeout_seconds),
        environment={**settings.function_settings().to_environment(), **own},
        role=role,
        log_group=logs,
        # A crawler feeds its own queue: without this, Lambda stops a URL after about 16 rounds.
        recursive_loop=lambda_.RecursiveLoop.ALLOW,
    )
    # The role's policy must be there before the first message is.
    function.node.add_dependency(role)
    return function
