"""What a deployment tells whoever made it: where its parts are (``env_file`` writes them into ``.env``)."""

from __future__ import annotations

from aws_cdk import CfnOutput, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns

from archive import address_of
from functions import Functions
from queues import Queues


def put_out(
    stack: Stack,
    *,
    queues: Queues,
    table: dynamodb.Table,
    is_table_kept: bool,
    archive: s3.Bucket | None,
    archive_days: int,
    functions: Functions,
    operator: iam.ManagedPolicy,
    topic: sns.Topic,
    dashboard: cloudwatch.Dashboard,
) -> None:
    """Give a stack its outputs."""
    kept = [("KeptTable", table.table_name, "what stays when the stack is destroyed")]
    pages = []
    if archive is not None:
        pages += [
            ("Archive", address_of(archive), "SQSPIDER_ARCHIVE of the command line"),
            ("KeptArchive", archive.bucket_name, "what stays when the stack is destroyed, too"),
        ]
        if archive_days:
            pages.append(("ArchiveDays", str(archive_days), "SQSPIDER_ARCHIVE_DAYS of the command line"))
    for name, value, text in (
        *(kept if is_table_kept else []),
        *pages,
        ("QueueUrl", queues.queue.queue_url, "QUEUE_URL of the command line"),
        ("TableName", table.table_name, "TABLE_NAME of the command line"),
        ("Region", stack.region, "AWS_REGION of the command line"),
        ("DeadLetterQueueUrl", queues.dead_letters.queue_url, "where messages end that nobody could end"),
        ("OperatorPolicyArn", operator.managed_policy_arn, "what the command line may do: attach it"),
        ("AlarmTopicArn", topic.topic_arn, "subscribe to it to be told of alarms"),
        ("DashboardName", dashboard.dashboard_name, "in CloudWatch"),
        ("CrawlFunctionName", functions.crawl.function_name, "takes the queue's messages"),
        ("SweepFunctionName", functions.sweep.function_name, "brings back what was lost on the way"),
    ):
        CfnOutput(stack, name, value=value, description=text)
