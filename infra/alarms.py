"""What goes wrong raises an alarm, and one topic tells of all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from aws_cdk import Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from functions import Functions
from queues import Queues
from settings import StackSettings
from sqspider.figures import NAMESPACE
from sqspider.frontier.aws.table import INDEX

MINUTE: Final = Duration.minutes(1)
SWEEPS_MISSED: Final = 5  # in a row, before the alarm
_IS_ABOVE: Final = cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD
_IS_BELOW: Final = cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD


class _Watched(NamedTuple):
    """A figure that must not be too high."""

    name: str
    metric: cloudwatch.IMetric
    text: str  # what it means, and what to look at
    above: float = 0
    periods: int = 1  # in a row
    among: int = 0  # or among so many


def alarms_of(
    scope: Construct, settings: StackSettings, queues: Queues, table: dynamodb.Table, functions: Functions
) -> sns.Topic:
    """The alarms of a stack; and the topic to subscribe to."""
    topic = _topic(scope, settings.alarm_email)
    watched = [
        *_of_queues(queues, settings.oldest_age_minutes),
        *_of_functions(functions),
        *_of_table(table),
        *(_of_archive(queues) if settings.archive else ()),
    ]
    for figure in watched:
        alarm = cloudwatch.Alarm(
            scope,
            figure.name,
            metric=figure.metric,
            threshold=figure.above,
            comparison_operator=_IS_ABOVE,
            evaluation_periods=figure.among or figure.periods,
            datapoints_to_alarm=figure.periods if figure.among else None,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,  # no figure is a good one
            alarm_description=figure.text,
        )
        alarm.add_alarm_action(actions.SnsAction(topic))
    _sweep_missing(scope, functions, settings.sweep_minutes).add_alarm_action(actions.SnsAction(topic))
    return topic


def _topic(scope: Construct, email: str) -> sns.Topic:
    """Where alarms are told. A topic with a policy takes nothing from whom the policy does not name."""
    topic = sns.Topic(scope, "Alarms", enforce_ssl=True)
    topic.add_to_resource_policy(
        iam.PolicyStatement(
            sid="AllowPublishByAlarms",
            principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
            actions=["sns:Publish"],
            resources=[topic.topic_arn],
            conditions={"StringEquals": {"aws:SourceAccount": Stack.of(scope).account}},
        )
    )
    if email:
        topic.add_subscription(subscriptions.EmailSubscription(email))
    return topic


def _of_queues(queues: Queues, oldest_age_minutes: int) -> Iterator[_Watched]:
    dead = queues.dead_letters.metric_approximate_number_of_messages_visible(period=MINUTE)
    yield _Watched("DeadLettersAlarm", dead, "Messages died: see `sqspider status`, and `sqspider redrive`")
    oldest = queues.queue.metric_approximate_age_of_oldest_message(period=MINUTE)
    text = "Messages wait for long: crawlers are missing, or hosts are slow"
    yield _Watched("OldestAgeAlarm", oldest, text, above=oldest_age_minutes * 60)


def _of_functions(functions: Functions) -> Iterator[_Watched]:
    for name, function in (("Crawl", functions.crawl), ("Sweep", functions.sweep)):
        word = name.lower()
        errors, throttles = function.metric_errors(period=MINUTE), function.metric_throttles(period=MINUTE)
        yield _Watched(f"{name}ErrorsAlarm", errors, f"The {word} function failed: see its log")
        yield _Watched(f"{name}ThrottlesAlarm", throttles, f"The {word} function is throttled by Lambda")


def _of_table(table: dynamodb.Table) -> Iterator[_Watched]:
    whole = {"TableName": table.table_name}
    for part, dimensions in (("Table", whole), ("Index", {**whole, "GlobalSecondaryIndexName": INDEX})):
        for what in ("Read", "Write"):
            throttled = cloudwatch.Metric(
                namespace="AWS/DynamoDB",
                metric_name=f"{what}ThrottleEvents",
                dimensions_map=dimensions,
                statistic="Sum",
                period=MINUTE,
            )
            # A new table is throttled for moments, while it grows; what is throttled is tried again.
            text = f"{what}s of the {part.lower()} have been throttled for five minutes: the crawl is slowed down"
            yield _Watched(f"{part}{what}ThrottlesAlarm", throttled, text, periods=5)


def _of_archive(queues: Queues) -> Iterator[_Watched]:
    """Some tries are refused on any day, and are made again. Where nothing can be put, what is given back comes again
    after a minute or two: not in every minute."""
    refused = cloudwatch.Metric(
        namespace=NAMESPACE,
        metric_name="S3Refused",
        dimensions_map={"QueueName": queues.queue.queue_name},
        statistic="Sum",
        period=MINUTE,
    )
    text = "Pages cannot be kept, and so no record ends: see `not_stored` in the log of the crawl function"
    yield _Watched("ArchiveRefusedAlarm", refused, text, periods=6, among=10)


def _sweep_missing(scope: Construct, functions: Functions, sweep_minutes: int) -> cloudwatch.Alarm:
    minutes = Duration.minutes(SWEEPS_MISSED * sweep_minutes)
    return cloudwatch.Alarm(
        scope,
        "SweepMissingAlarm",
        metric=functions.sweep.metric_invocations(period=minutes),
        threshold=1,
        comparison_operator=_IS_BELOW,
        evaluation_periods=1,
        treat_missing_data=cloudwatch.TreatMissingData.BREACHING,  # a function that does not run has no figures
        alarm_description="The sweep does not run: what was lost on the way is not brought back",
    )
