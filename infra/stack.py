"""The stack: queue, table, the bucket of pages, the function that crawls, the one that sweeps, what watches them.

Nothing is public, nothing is in a VPC, there is no secret. Names are left to AWS, so that several
stacks can stand side by side. Each part is made by the module that is named after it.
"""

from __future__ import annotations

from pathlib import Path

from aws_cdk import Stack
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from alarms import alarms_of
from archive import archive_of
from dashboard import dashboard_of
from findings import answer_findings
from functions import functions_of
from grants import operator_policy
from outputs import put_out
from queues import queues_of
from settings import StackSettings
from table import table_of


class CrawlerStack(Stack):
    """One crawler. ``code`` is the function's zip."""

    def __init__(self, scope: Construct, settings: StackSettings, code: Path) -> None:
        super().__init__(scope, settings.stack, description="sqspider: crawls every URL once and loses none")
        is_kept, has_recovery = settings.keep_table, settings.point_in_time_recovery
        queues = queues_of(self, settings.visibility_seconds)
        table = table_of(self, is_kept=is_kept, has_recovery=has_recovery)
        archive = archive_of(self, settings.archive_days) if settings.archive else None
        functions = functions_of(self, settings, lambda_.Code.from_asset(str(code)), queues, table, archive)
        operator = operator_policy(self, queues, table, archive)
        put_out(
            self,
            queues=queues,
            table=table,
            is_table_kept=is_kept,
            archive=archive,
            archive_days=settings.archive_days,
            functions=functions,
            operator=operator,
            topic=alarms_of(self, settings, queues, table, functions),
            dashboard=dashboard_of(self, queues, functions, settings.memory_mb, has_archive=archive is not None),
        )
        answer_findings(table=table, has_recovery=has_recovery, functions=functions, operator=operator, archive=archive)
