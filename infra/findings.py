"""Why each finding of cdk-nag, which looks at every stack that is made, is left as it is."""

from __future__ import annotations

from aws_cdk import Acknowledgment, Validations
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3

from archive import PREFIX
from functions import Functions
from wheels import FUNCTION_PYTHON


def answer_findings(
    *,
    table: dynamodb.Table,
    has_recovery: bool,
    functions: Functions,
    operator: iam.ManagedPolicy,
    archive: s3.Bucket | None,
) -> None:
    """Give the reasons to those parts that findings are about."""
    figures = Acknowledgment(
        id="AwsSolutions::AwsSolutions-IAM5[Resource::*]",
        reason="cloudwatch:GetMetricStatistics cannot be limited to a resource",
    )
    for allowed in (functions.sweep.role, operator):
        assert allowed is not None
        Validations.of(allowed).acknowledge(figures)
    newer = Acknowledgment(
        id="AwsSolutions::AwsSolutions-L1",
        reason=f"Python {FUNCTION_PYTHON} is supported by Lambda until 2029; the wheels are built for it",
    )
    for function in functions:
        Validations.of(function).acknowledge(newer)
    if not has_recovery:
        reason = "a crawl can be made again; whoever wants it sets point_in_time_recovery"
        Validations.of(table).acknowledge(Acknowledgment(id="AwsSolutions::AwsSolutions-DDB3", reason=reason))
    if archive is not None:
        _answer_those_of_archive(archive, functions, operator)


def _answer_those_of_archive(archive: s3.Bucket, functions: Functions, operator: iam.ManagedPolicy) -> None:
    logs = Acknowledgment(
        id="AwsSolutions::AwsSolutions-S1",
        reason="logs of accesses would need a bucket of their own, which would need some; whoever wants them adds it",
    )
    Validations.of(archive).acknowledge(logs)
    resource = f"<{archive.stack.get_logical_id(archive.node.default_child)}.Arn>/{PREFIX}/*"
    names = Acknowledgment(
        id=f"AwsSolutions::AwsSolutions-IAM5[Resource::{resource}]",
        reason="the names of objects are made as they are put: what is below the prefix is the archive",
    )
    for allowed in (functions.crawl.role, operator):
        assert allowed is not None
        Validations.of(allowed).acknowledge(names)
