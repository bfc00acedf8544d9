"""Why each finding of cdk-nag, which looks at every stack that is made, is left as it is."""

from __future__ import annotations

from aws_cdk import Acknowledgment, Validations
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam

from functions import Functions
from wheels import FUNCTION_PYTHON


def answer_findings(
    *, table: dynamodb.Table, has_recovery: bool, functions: Functions, operator: iam.ManagedPolicy
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
