"""Checks of the stack's template. They need the CDK: ``test_infra`` runs them in its environment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Match, Template
from cdk_nag import AwsSolutionsChecks

from archive import PREFIX
from permissions import CRAWL_ACTIONS, SWEEP_ACTIONS
from settings import StackSettings
from sqspider.archive.s3_permissions import IAM_ACTIONS as ARCHIVE_ACTIONS
from sqspider.archive.s3_permissions import WRITER_ACTIONS
from sqspider.figures import OUTCOMES
from sqspider.frontier.aws.permissions import IAM_ACTIONS
from sqspider.frontier.aws.table import INDEX, INDEX_KEY, KEY
from stack import CrawlerStack

CHOICES: Final = {
    "as it comes": StackSettings(),
    "all of it": StackSettings(
        memory_mb=512,
        visibility_seconds=60,
        lease_seconds=50,
        keep_table=False,
        point_in_time_recovery=True,
        alarm_email="me@example.com",
        max_concurrency=100,
        sweep_minutes=5,
        allow_any_port=True,
        proxies="http://proxy.example:3128,env:SQSPIDER_SECRET_PROXY",
        send_to="https://shop.example,https://news.example",
        archive_days=400,
        secrets="SHOP=shop/login,PROXY=arn:aws:secretsmanager:eu-central-1:123456789012:secret:proxy-AbCdEf",
    ),
    "local": StackSettings(package="local", allow_private=True),
    "without archive": StackSettings(archive=False),
}


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stands for the zip: what is in it does not matter here."""
    path = tmp_path_factory.mktemp("code") / "function.zip"
    path.write_bytes(b"PK\x05\x06" + bytes(18))
    return path


@pytest.fixture(scope="module")
def template(code: Path) -> Template:
    return Template.from_stack(CrawlerStack(cdk.App(), StackSettings(), code))


def resources(template: Template, kind: str) -> dict[str, Any]:
    return {name: found["Properties"] for name, found in template.find_resources(kind).items()}


def test_the_queue_is_as_the_crawler_needs_it(template: Template) -> None:
    template.has_resource_properties(
        "AWS::SQS::Queue",
        {
            "VisibilityTimeout": 180,
            "ReceiveMessageWaitTimeSeconds": 20,
            "SqsManagedSseEnabled": True,
            "MessageRetentionPeriod": 10 * 86_400,
            "RedrivePolicy": {"maxReceiveCount": 5, "deadLetterTargetArn": Match.any_value()},
        },
    )
    # A dead message is as old as it was when it died: it must outlive those in the queue.
    template.has_resource_properties(
        "AWS::SQS::Queue", {"MessageRetentionPeriod": 14 * 86_400, "RedrivePolicy": Match.absent()}
    )
    template.resource_count_is("AWS::SQS::Queue", 2)
    template.all_resources_properties("AWS::SQS::Queue", {"SqsManagedSseEnabled": True})
    policies = resources(template, "AWS::SQS::QueuePolicy")
    assert len(policies) == 2
    for policy in policies.values():
        (statement,) = policy["PolicyDocument"]["Statement"]
        assert statement["Effect"] == "Deny"
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_table_is_the_one_that_the_frontier_asks_for(template: Template) -> None:
    (table,) = resources(template, "AWS::DynamoDB::Table").values()
    types = {part["AttributeName"]: part["AttributeType"] for part in table["AttributeDefinitions"]}

    def key_of(part: dict[str, Any]) -> str:
        named = [(key["AttributeName"], key["KeyType"]) for key in part["KeySchema"]]
        return ", ".join(f"{name} ({types[name]}, {kind})" for name, kind in named)

    (index,) = table["GlobalSecondaryIndexes"]
    assert (key_of(table), index["IndexName"], key_of(index)) == (KEY, INDEX, INDEX_KEY)
    assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}
    assert table["BillingMode"] == "PAY_PER_REQUEST"


def test_pages_are_kept_in_a_bucket_that_nobody_else_sees(template: Template) -> None:
    (bucket,) = resources(template, "AWS::S3::Bucket").values()
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption == {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    assert "VersioningConfiguration" not in bucket
    (rule,) = bucket["LifecycleConfiguration"]["Rules"]
    assert (rule["AbortIncompleteMultipartUpload"], rule["Status"]) == ({"DaysAfterInitiation": 2}, "Enabled")
    assert "ExpirationInDays" not in rule
    (policy,) = resources(template, "AWS::S3::BucketPolicy").values()
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Action"], statement["Principal"]) == ("Deny", "s3:*", {"AWS": "*"})
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_function_that_crawls_is_told_where_pages_are_kept(template: Template) -> None:
    (bucket,) = template.find_resources("AWS::S3::Bucket")
    address = {"Fn::Join": ["", ["s3://", {"Ref": bucket}, f"/{PREFIX}"]]}
    for function in resources(template, "AWS::Lambda::Function").values():
        told = function["Environment"]["Variables"].get("SQSPIDER_ARCHIVE")
        assert told == (address if function["Handler"].endswith(".handler") else "")
        assert "SQSPIDER_ARCHIVE_DAYS" not in function["Environment"]["Variables"]
    assert "ArchiveDays" not in template.to_json()["Outputs"]
    assert template.to_json()["Outputs"]["Archive"]["Value"] == address


def test_pages_are_deleted_after_as_long_as_was_asked_for(code: Path) -> None:
    chosen = Template.from_stack(CrawlerStack(cdk.App(), CHOICES["all of it"], code))
    (bucket,) = resources(chosen, "AWS::S3::Bucket").values()
    rules = {rule["Id"]: rule for rule in bucket["LifecycleConfiguration"]["Rules"]}
    assert (rules["Pages"]["ExpirationInDays"], rules["Pages"]["Prefix"]) == (400, f"{PREFIX}/")
    told = [one["Environment"]["Variables"] for one in resources(chosen, "AWS::Lambda::Function").values()]
    assert [each["SQSPIDER_ARCHIVE_DAYS"] for each in told if "SQSPIDER_ARCHIVE_DAYS" in each] == ["400"]
    assert chosen.to_json()["Outputs"]["ArchiveDays"]["Value"] == "400"


def test_without_archive_there_is_nothing_of_it(code: Path) -> None:
    chosen = Template.from_stack(CrawlerStack(cdk.App(), CHOICES["without archive"], code))
    text = json.dumps(chosen.to_json())
    assert "AWS::S3::Bucket" not in text
    assert '"s3:' not in text
    assert "S3Writes" not in text
    assert not {"Archive", "KeptArchive"} & chosen.to_json()["Outputs"].keys()
    for function in resources(chosen, "AWS::Lambda::Function").values():
        assert not function["Environment"]["Variables"].get("SQSPIDER_ARCHIVE")


def test_the_functions_have_the_values_asked_for(template: Template) -> None:
    template.resource_count_is("AWS::Lambda::Function", 2)
    template.all_resources_properties(
        "AWS::Lambda::Function",
        {
            "Architectures": ["arm64"],
            "MemorySize": 128,
            "Timeout": 30,
            "Runtime": "python3.13",
            "RecursiveLoop": "Allow",
            "Environment": {
                "Variables": Match.object_like({"TABLE_NAME": Match.any_value(), "QUEUE_URL": Match.any_value()})
            },
        },
    )
    handlers = {function["Handler"] for function in resources(template, "AWS::Lambda::Function").values()}
    assert handlers == {"sqspider.lambda_handler.handler", "sqspider.lambda_handler.sweep"}


def test_secrets_are_looked_up_as_it_is_deployed_and_only_for_who_fetches(code: Path) -> None:
    template = Template.from_stack(CrawlerStack(cdk.App(), CHOICES["all of it"], code))
    functions = resources(template, "AWS::Lambda::Function").values()
    crawl, sweep = (
        next(function["Environment"]["Variables"] for function in functions if function["Handler"].endswith(end))
        for end in ("handler", "sweep")
    )
    assert crawl["SQSPIDER_SECRET_SHOP"] == "{{resolve:secretsmanager:shop/login:SecretString:::}}"
    assert crawl["SQSPIDER_SECRET_PROXY"].startswith("{{resolve:secretsmanager:arn:aws:secretsmanager:eu-central-1:")
    assert not any(name.startswith("SQSPIDER_SECRET_") for name in sweep)
    assert crawl["SQSPIDER_SEND_TO"] == "https://shop.example https://news.example"
    assert crawl["SQSPIDER_PROXIES"] == "http://proxy.example:3128 env:SQSPIDER_SECRET_PROXY"
    assert crawl["SQSPIDER_ALLOW_ANY_PORT"] == "true"


def test_messages_reach_the_function_in_batches_that_may_fail_in_part(template: Template) -> None:
    template.has_resource_properties(
        "AWS::Lambda::EventSourceMapping",
        {
            "BatchSize": 10,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "ScalingConfig": {"MaximumConcurrency": 10},
        },
    )


def test_a_sweep_runs_every_minute(template: Template) -> None:
    sweeps = [
        name
        for name, function in resources(template, "AWS::Lambda::Function").items()
        if function["Handler"].endswith(".sweep")
    ]
    template.has_resource_properties(
        "AWS::Events::Rule",
        {
            "ScheduleExpression": "rate(1 minute)",
            "Targets": [Match.object_like({"Arn": {"Fn::GetAtt": [sweeps[0], "Arn"]}})],
        },
    )


def test_logs_are_not_kept_for_ever(template: Template) -> None:
    template.resource_count_is("AWS::Logs::LogGroup", 2)
    template.all_resources_properties("AWS::Logs::LogGroup", {"RetentionInDays": 14})


def granted(template: Template, kind: str, name: str) -> list[tuple[str, str]]:
    """Actions and what they are for, of the policies whose name begins so."""
    found = []
    for identifier, policy in resources(template, kind).items():
        if not identifier.startswith(name):
            continue
        for statement in policy["PolicyDocument"]["Statement"]:
            assert statement["Effect"] == "Allow"
            actions, targets = statement["Action"], statement["Resource"]
            for action in [actions] if isinstance(actions, str) else actions:
                found += [(action, json.dumps(to)) for to in (targets if isinstance(targets, list) else [targets])]
    return found


def test_the_operator_may_do_all_that_the_adapter_names(template: Template) -> None:
    operator = granted(template, "AWS::IAM::ManagedPolicy", "Operator")
    assert {action for action, _ in operator} == {*IAM_ACTIONS, *ARCHIVE_ACTIONS}


@pytest.mark.parametrize(
    ("name", "actions", "of_archive"), [("Crawl", CRAWL_ACTIONS, WRITER_ACTIONS), ("Sweep", SWEEP_ACTIONS, ())]
)
def test_a_function_may_do_what_it_does_and_no_more(
    template: Template, name: str, actions: tuple[str, ...], of_archive: tuple[str, ...]
) -> None:
    assert set(actions) <= set(IAM_ACTIONS)
    allowed = {action for action, _ in granted(template, "AWS::IAM::Policy", f"{name}Role")}
    logs = {"logs:CreateLogStream", "logs:PutLogEvents"}
    assert allowed == {*actions, *of_archive} | logs


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("AWS::IAM::ManagedPolicy", "Operator"),
        ("AWS::IAM::Policy", "CrawlRole"),
        ("AWS::IAM::Policy", "SweepRole"),
    ],
)
def test_nothing_is_granted_twice(template: Template, kind: str, name: str) -> None:
    grants = granted(template, kind, name)
    assert len(grants) == len(set(grants))


def test_every_grant_names_what_it_is_for(template: Template) -> None:
    queue = next(name for name in template.find_resources("AWS::SQS::Queue") if name.startswith("Queue"))
    table = next(iter(template.find_resources("AWS::DynamoDB::Table")))
    (bucket,) = template.find_resources("AWS::S3::Bucket")
    arn = {"Fn::GetAtt": [bucket, "Arn"]}
    for kind, name in (
        ("AWS::IAM::ManagedPolicy", "Operator"),
        ("AWS::IAM::Policy", "CrawlRole"),
        ("AWS::IAM::Policy", "SweepRole"),
    ):
        for action, target in granted(template, kind, name):
            assert "*" not in action
            if action.startswith("cloudwatch:"):
                assert target == '"*"'
            elif action == "dynamodb:Query":
                assert table in target
                assert "/index/due" in target
            elif action.startswith("dynamodb:"):
                assert target == json.dumps({"Fn::GetAtt": [table, "Arn"]})
            elif action == "s3:ListBucket":
                assert target == json.dumps(arn)
            elif action.startswith("s3:"):
                assert target == json.dumps({"Fn::Join": ["", [arn, f"/{PREFIX}/*"]]})
            elif action.startswith("sqs:"):
                assert queue in target or (name == "Operator" and "DeadLetters" in target)
            else:
                assert action.startswith("logs:")
                assert f"{name.removesuffix('Role')}Log" in target


def test_every_alarm_reaches_the_topic(template: Template) -> None:
    (topic,) = template.find_resources("AWS::SNS::Topic")
    alarms = resources(template, "AWS::CloudWatch::Alarm")
    assert len(alarms) == 12
    for alarm in alarms.values():
        assert alarm["AlarmActions"] == [{"Ref": topic}]
    (policy,) = resources(template, "AWS::SNS::TopicPolicy").values()
    (allowed,) = [one for one in policy["PolicyDocument"]["Statement"] if one["Effect"] == "Allow"]
    assert allowed == {
        "Sid": "AllowPublishByAlarms",
        "Effect": "Allow",
        "Principal": {"Service": "cloudwatch.amazonaws.com"},
        "Action": "sns:Publish",
        "Resource": {"Ref": topic},
        "Condition": {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}},
    }


def test_what_goes_wrong_raises_an_alarm(template: Template) -> None:
    def name_of(value: Any) -> Any:
        """Of what a dimension names: its logical id, or its own name."""
        return value if isinstance(value, str) else value.get("Ref") or value["Fn::GetAtt"][0]

    watched = {}
    alarms = list(resources(template, "AWS::CloudWatch::Alarm").values())
    for alarm in alarms:
        of = "/".join(name_of(dimension["Value"]).rstrip("0123456789ABCDEF") for dimension in alarm["Dimensions"])
        is_too_low = alarm["ComparisonOperator"] == "LessThanThreshold"
        assert alarm["TreatMissingData"] == ("breaching" if is_too_low else "notBreaching")
        limit = f"{'<' if is_too_low else '>'} {alarm['Threshold']}"
        watched[of, alarm["MetricName"]] = (limit, alarm["Period"], alarm["EvaluationPeriods"])
    assert watched == {
        ("DeadLetters", "ApproximateNumberOfMessagesVisible"): ("> 0", 60, 1),
        ("Queue", "ApproximateAgeOfOldestMessage"): ("> 3600", 60, 1),
        ("Crawl", "Errors"): ("> 0", 60, 1),
        ("Crawl", "Throttles"): ("> 0", 60, 1),
        ("Sweep", "Errors"): ("> 0", 60, 1),
        ("Sweep", "Throttles"): ("> 0", 60, 1),
        ("Sweep", "Invocations"): ("< 1", 300, 1),
        ("Records", "ReadThrottleEvents"): ("> 0", 60, 5),
        ("Records", "WriteThrottleEvents"): ("> 0", 60, 5),
        ("due/Records", "ReadThrottleEvents"): ("> 0", 60, 5),
        ("due/Records", "WriteThrottleEvents"): ("> 0", 60, 5),
        ("Queue", "S3Refused"): ("> 0", 60, 10),
    }
    among = {one["MetricName"]: one["DatapointsToAlarm"] for one in alarms if "DatapointsToAlarm" in one}
    assert among == {"S3Refused": 6}


def test_the_dashboard_shows_what_was_asked_for(template: Template) -> None:
    (dashboard,) = resources(template, "AWS::CloudWatch::Dashboard").values()
    body = json.dumps(dashboard)
    for metric in (
        "ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible", "NumberOfMessagesReceived",
        "ApproximateAgeOfOldestMessage", "Duration", "Errors", "Throttles", "ConcurrentExecutions", "WriteUnits",
        "S3Writes", "ArchivedBytes", "S3Refused",
        *(f'"{figure.metric}\\"' for figure in OUTCOMES),
    ):  # fmt: skip
        assert metric in body


def test_nothing_is_public_or_secret_or_in_a_vpc(template: Template) -> None:
    kinds = {found["Type"] for found in template.to_json()["Resources"].values()}
    assert kinds == {
        "AWS::CloudWatch::Alarm", "AWS::CloudWatch::Dashboard", "AWS::DynamoDB::Table", "AWS::Events::Rule",
        "AWS::IAM::ManagedPolicy", "AWS::IAM::Policy", "AWS::IAM::Role", "AWS::Lambda::EventSourceMapping",
        "AWS::Lambda::Function", "AWS::Lambda::Permission", "AWS::Logs::LogGroup", "AWS::SNS::Topic",
        "AWS::S3::Bucket", "AWS::S3::BucketPolicy", "AWS::SNS::TopicPolicy", "AWS::SQS::Queue", "AWS::SQS::QueuePolicy",
    }  # fmt: skip
    for kind in ("AWS::SQS::QueuePolicy", "AWS::SNS::TopicPolicy", "AWS::S3::BucketPolicy"):
        for policy in resources(template, kind).values():
            for statement in policy["PolicyDocument"]["Statement"]:
                assert statement["Effect"] == "Deny" or "aws:SourceAccount" in json.dumps(statement["Condition"])
    for permission in resources(template, "AWS::Lambda::Permission").values():
        assert permission["Principal"] == "events.amazonaws.com"


def test_the_command_line_is_told_where_all_is(template: Template) -> None:
    outputs = template.to_json()["Outputs"]
    assert {"QueueUrl", "TableName", "Region", "DeadLetterQueueUrl", "OperatorPolicyArn"} <= outputs.keys()


def test_destroying_leaves_table_and_pages_and_nothing_else(template: Template) -> None:
    for identifier, found in template.to_json()["Resources"].items():
        is_kept = found["Type"] in ("AWS::DynamoDB::Table", "AWS::S3::Bucket")
        assert found.get("DeletionPolicy", "Delete") == ("Retain" if is_kept else "Delete"), identifier
    (table,) = resources(template, "AWS::DynamoDB::Table").values()
    assert table["DeletionProtectionEnabled"]
    assert {"KeptTable", "KeptArchive"} <= template.to_json()["Outputs"].keys()


def test_destroying_leaves_the_pages_alone_if_asked_to(code: Path) -> None:
    chosen = Template.from_stack(CrawlerStack(cdk.App(), CHOICES["all of it"], code))
    for identifier, found in chosen.to_json()["Resources"].items():
        is_kept = found["Type"] == "AWS::S3::Bucket"
        assert found.get("DeletionPolicy", "Delete") == ("Retain" if is_kept else "Delete"), identifier
    (table,) = resources(chosen, "AWS::DynamoDB::Table").values()
    assert not table["DeletionProtectionEnabled"]
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert "KeptTable" not in chosen.to_json()["Outputs"]
    chosen.has_resource_properties("AWS::SNS::Subscription", {"Protocol": "email", "Endpoint": "me@example.com"})


def test_nag_and_lint_find_nothing(code: Path, tmp_path: Path) -> None:
    templates = []
    for choice, settings in CHOICES.items():
        app = cdk.App(outdir=str(tmp_path / choice))
        CrawlerStack(app, settings, code)
        cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
        app.synth()  # raises what cdk-nag finds: see below
        templates.append(str(tmp_path / choice / "sqspider.template.json"))
    # W3005 asks to leave out what the CDK writes for every dependency.
    # By its module: a script knows only where its environment was made.
    command = [sys.executable, "-c", "from cfnlint.runner import main; main()", "--ignore-checks", "W3005", "--"]
    linted = subprocess.run([*command, *templates], capture_output=True, text=True, check=False)
    assert linted.stdout + linted.stderr == ""


def test_nag_is_listened_to(code: Path, tmp_path: Path) -> None:
    """With something to find, the check above would fail."""
    app = cdk.App(outdir=str(tmp_path))
    cdk.aws_sqs.Queue(CrawlerStack(app, StackSettings(), code), "Careless")
    cdk.Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    with pytest.raises(RuntimeError, match="AwsSolutions-SQS3"):
        app.synth()
