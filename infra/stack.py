"""The stack: queue, table, the function that crawls, the one that sweeps, what watches them.

Nothing is public, nothing is in a VPC, there is no secret. Names are left to AWS, so that several
stacks can stand side by side.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from aws_cdk import Acknowledgment, CfnOutput, Duration, Names, RemovalPolicy, Stack, Validations
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from dashboard import dashboard_of
from permissions import CRAWL_ACTIONS, SWEEP_ACTIONS
from settings import StackSettings
from sqspider.frontier import MAX_RECEIVES
from sqspider.frontier.aws.permissions import IAM_ACTIONS
from sqspider.frontier.aws.table import INDEX
from wheels import FUNCTION_PYTHON

QUEUE_RETENTION: Final = Duration.days(10)
# A dead message's age counts from when it was first sent: so it is kept for longer, for as long as SQS keeps any.
DEAD_LETTER_RETENTION: Final = Duration.days(14)
SWEEPS_MISSED: Final = 5  # in a row, before the alarm


class CrawlerStack(Stack):
    """One crawler. ``code`` is the function's zip."""

    def __init__(self, scope: Construct, settings: StackSettings, code: Path) -> None:
        super().__init__(scope, settings.stack, description="sqspider: crawls every URL once and loses none")
        self._settings = settings
        self._code = lambda_.Code.from_asset(str(code))
        self.dead_letters = sqs.Queue(
            self, "DeadLetters", retention_period=DEAD_LETTER_RETENTION, **self._queue_properties()
        )
        self.queue = sqs.Queue(
            self,
            "Queue",
            retention_period=QUEUE_RETENTION,
            visibility_timeout=Duration.seconds(settings.visibility_seconds),
            receive_message_wait_time=Duration.seconds(20),
            dead_letter_queue=sqs.DeadLetterQueue(queue=self.dead_letters, max_receive_count=MAX_RECEIVES),
            **self._queue_properties(),
        )
        self.table = self._table()
        self.crawl = self._function("Crawl", "sqspider.lambda_handler.handler", CRAWL_ACTIONS)
        # CDK's own event source would grant the role a second time what it has. The name is the one that it gives:
        # by another, a stack that stands could not be updated, for AWS takes one mapping of a queue to a function.
        self.crawl.add_event_source_mapping(
            f"SqsEventSource:{Names.node_unique_id(self.queue.node)}",
            event_source_arn=self.queue.queue_arn,
            batch_size=settings.batch_size,
            report_batch_item_failures=True,
            max_concurrency=settings.max_concurrency,
        )
        self.sweep = self._function("Sweep", "sqspider.lambda_handler.sweep", SWEEP_ACTIONS)
        events.Rule(
            self,
            "SweepSchedule",
            schedule=events.Schedule.rate(Duration.minutes(settings.sweep_minutes)),
            targets=[targets.LambdaFunction(self.sweep, retry_attempts=0, max_event_age=Duration.minutes(1))],
        )
        self.operator = iam.ManagedPolicy(
            self,
            "Operator",
            description="What sqspider's command line needs for this stack",
            statements=self._statements(IAM_ACTIONS),
        )
        self.topic = self._topic()
        self._alarms()
        self.dashboard = dashboard_of(self, settings)
        self._output()
        self._argue()

    @staticmethod
    def _queue_properties() -> dict[str, Any]:
        return {
            "encryption": sqs.QueueEncryption.SQS_MANAGED,
            "enforce_ssl": True,
            "removal_policy": RemovalPolicy.DESTROY,
        }

    def _table(self) -> dynamodb.Table:
        """Of all that the crawler knows; see ``sqspider.frontier.aws.items`` for what its items are."""
        settings = self._settings
        table = dynamodb.Table(
            self,
            "Records",
            partition_key=dynamodb.Attribute(name="url", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=settings.point_in_time_recovery
            ),
            removal_policy=RemovalPolicy.RETAIN if settings.keep_table else RemovalPolicy.DESTROY,
            deletion_protection=settings.keep_table,
        )
        table.add_global_secondary_index(  # sparse: finished records leave it
            index_name=INDEX,
            partition_key=dynamodb.Attribute(name="due_shard", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="due_at", type=dynamodb.AttributeType.NUMBER),
            projection_type=dynamodb.ProjectionType.KEYS_ONLY,
        )
        return table

    def _function(self, name: str, handler: str, allowed: tuple[str, ...]) -> lambda_.Function:
        settings = self._settings
        log_group = logs.LogGroup(
            self,
            f"{name}Log",
            retention=logs.RetentionDays[_retention_name(settings.log_days)],
            removal_policy=RemovalPolicy.DESTROY,
        )
        role = iam.Role(self, f"{name}Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        log_group.grant_write(role)
        for statement in self._statements(allowed):
            role.add_to_policy(statement)
        is_local = settings.package == "local"
        function = lambda_.Function(
            self,
            name,
            runtime=lambda_.Runtime(f"python{FUNCTION_PYTHON}", lambda_.RuntimeFamily.PYTHON),
            architecture=lambda_.Architecture.X86_64 if is_local else lambda_.Architecture.ARM_64,
            code=self._code,
            handler=handler,
            memory_size=settings.memory_mb,
            timeout=Duration.seconds(settings.timeout_seconds),
            environment={
                "TABLE_NAME": self.table.table_name,
                "QUEUE_URL": self.queue.queue_url,
                **settings.function_settings().to_environment(),
            },
            role=role,
            log_group=log_group,
            # A crawler feeds its own queue: without this, Lambda stops a URL after about 16 rounds.
            recursive_loop=lambda_.RecursiveLoop.ALLOW,
        )
        # The role's policy must be there before the first message is.
        function.node.add_dependency(role)
        return function

    def _statements(self, allowed: tuple[str, ...]) -> list[iam.PolicyStatement]:
        """Each action on what it is for, and on nothing else."""

        def of(service: str) -> list[str]:
            return [action for action in allowed if action.startswith(f"{service}:")]

        table, index = self.table.table_arn, f"{self.table.table_arn}/index/{INDEX}"
        on_index = [action for action in of("dynamodb") if action == "dynamodb:Query"]
        on_table = [action for action in of("dynamodb") if action not in on_index]
        # Looking at the dead letters and moving them back is the command line's.
        is_operator = "sqs:PurgeQueue" in allowed
        dead = [action for action in of("sqs") if is_operator and action != "sqs:SendMessage"]
        by_resource = [
            (on_table, table),
            (on_index, index),
            (of("sqs"), self.queue.queue_arn),
            (dead, self.dead_letters.queue_arn),
            (of("cloudwatch"), "*"),  # CloudWatch knows no resources for it
        ]
        return [iam.PolicyStatement(actions=names, resources=[resource]) for names, resource in by_resource if names]

    def _topic(self) -> sns.Topic:
        """Where alarms are told. A topic with a policy takes nothing from whom the policy does not name."""
        topic = sns.Topic(self, "Alarms", enforce_ssl=True)
        topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="AllowPublishByAlarms",
                principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
                actions=["sns:Publish"],
                resources=[topic.topic_arn],
                conditions={"StringEquals": {"aws:SourceAccount": self.account}},
            )
        )
        if self._settings.alarm_email:
            topic.add_subscription(subscriptions.EmailSubscription(self._settings.alarm_email))
        return topic

    def _alarms(self) -> None:
        minute = Duration.minutes(1)
        dead = self.dead_letters.metric_approximate_number_of_messages_visible(period=minute)
        self._alarm("DeadLettersAlarm", dead, "Messages died: see `sqspider status`, and `sqspider redrive`")
        oldest = self.queue.metric_approximate_age_of_oldest_message(period=minute)
        text = "Messages wait for long: crawlers are missing, or hosts are slow"
        self._alarm("OldestAgeAlarm", oldest, text, above=self._settings.oldest_age_minutes * 60)
        for name, function in (("Crawl", self.crawl), ("Sweep", self.sweep)):
            word = name.lower()
            errors, throttles = function.metric_errors(period=minute), function.metric_throttles(period=minute)
            self._alarm(f"{name}ErrorsAlarm", errors, f"The {word} function failed: see its log")
            self._alarm(f"{name}ThrottlesAlarm", throttles, f"The {word} function is throttled by Lambda")
        self._alarm_of_a_sweep_that_does_not_run()
        table = {"TableName": self.table.table_name}
        for part, dimensions in (("Table", table), ("Index", {**table, "GlobalSecondaryIndexName": INDEX})):
            for what in ("Read", "Write"):
                throttled = cloudwatch.Metric(
                    namespace="AWS/DynamoDB",
                    metric_name=f"{what}ThrottleEvents",
                    dimensions_map=dimensions,
                    statistic="Sum",
                    period=minute,
                )
                # A new table is throttled for moments, while it grows; what is throttled is tried again.
                text = f"{what}s of the {part.lower()} have been throttled for five minutes: the crawl is slowed down"
                self._alarm(f"{part}{what}ThrottlesAlarm", throttled, text, periods=5)

    def _alarm(self, name: str, metric: cloudwatch.IMetric, text: str, *, above: float = 0, periods: int = 1) -> None:
        """Raised when a figure was too high in so many periods in a row; no figure is a good one."""
        alarm = cloudwatch.Alarm(
            self,
            name,
            metric=metric,
            threshold=above,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=periods,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=text,
        )
        alarm.add_alarm_action(actions.SnsAction(self.topic))

    def _alarm_of_a_sweep_that_does_not_run(self) -> None:
        minutes = SWEEPS_MISSED * self._settings.sweep_minutes
        alarm = cloudwatch.Alarm(
            self,
            "SweepMissingAlarm",
            metric=self.sweep.metric_invocations(period=Duration.minutes(minutes)),
            threshold=1,
            comparison_operator=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            evaluation_periods=1,
            treat_missing_data=cloudwatch.TreatMissingData.BREACHING,  # a function that does not run has no figures
            alarm_description="The sweep does not run: what was lost on the way is not brought back",
        )
        alarm.add_alarm_action(actions.SnsAction(self.topic))

    def _output(self) -> None:
        kept = [("KeptTable", self.table.table_name, "what stays when the stack is destroyed")]
        for name, value, text in (
            *(kept if self._settings.keep_table else []),
            ("QueueUrl", self.queue.queue_url, "QUEUE_URL of the command line"),
            ("TableName", self.table.table_name, "TABLE_NAME of the command line"),
            ("Region", self.region, "AWS_REGION of the command line"),
            ("DeadLetterQueueUrl", self.dead_letters.queue_url, "where messages end that nobody could end"),
            ("OperatorPolicyArn", self.operator.managed_policy_arn, "what the command line may do: attach it"),
            ("AlarmTopicArn", self.topic.topic_arn, "subscribe to it to be told of alarms"),
            ("DashboardName", self.dashboard.dashboard_name, "in CloudWatch"),
            ("CrawlFunctionName", self.crawl.function_name, "takes the queue's messages"),
            ("SweepFunctionName", self.sweep.function_name, "brings back what was lost on the way"),
        ):
            CfnOutput(self, name, value=value, description=text)

    def _argue(self) -> None:
        """Why each finding of cdk-nag is left as it is."""
        figures = Acknowledgment(
            id="AwsSolutions::AwsSolutions-IAM5[Resource::*]",
            reason="cloudwatch:GetMetricStatistics cannot be limited to a resource",
        )
        for allowed in (self.sweep.role, self.operator):
            assert allowed is not None
            Validations.of(allowed).acknowledge(figures)
        newer = Acknowledgment(
            id="AwsSolutions::AwsSolutions-L1",
            reason=f"Python {FUNCTION_PYTHON} is supported by Lambda until 2029; the wheels are built for it",
        )
        for function in (self.crawl, self.sweep):
            Validations.of(function).acknowledge(newer)
        if not self._settings.point_in_time_recovery:
            reason = "a crawl can be made again; whoever wants it sets point_in_time_recovery"
            Validations.of(self.table).acknowledge(Acknowledgment(id="AwsSolutions::AwsSolutions-DDB3", reason=reason))


def _retention_name(days: int) -> str:
    """The name of a retention in CDK's list."""
    names = {
        1: "ONE_DAY", 3: "THREE_DAYS", 5: "FIVE_DAYS", 7: "ONE_WEEK", 14: "TWO_WEEKS", 30: "ONE_MONTH",
        60: "TWO_MONTHS", 90: "THREE_MONTHS", 120: "FOUR_MONTHS", 150: "FIVE_MONTHS", 180: "SIX_MONTHS",
        365: "ONE_YEAR", 400: "THIRTEEN_MONTHS", 545: "EIGHTEEN_MONTHS", 731: "TWO_YEARS", 1827: "FIVE_YEARS",
        3653: "TEN_YEARS",
    }  # fmt: skip
    return names[days]
