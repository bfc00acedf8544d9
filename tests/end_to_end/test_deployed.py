"""Deployed by one command to an engine that stands in for AWS, crawled by Lambda, and removed again."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import botocore.session
import pytest
from aiohttp import web

from sqspider.archive.bucket import Bucket
from sqspider.archive.members import check_whole, members
from sqspider.frontier import FrontierSettings
from sqspider.frontier.aws import AwsFrontier
from tests.aws.engines import EngineMissingError, Engines
from tests.conftest import Make, Run, terminal
from tests.judges.judges import asked

SEEDS: Final = 40
SAME: Final = (
    "url", "status", "reason", "http_status", "final_url", "content_type", "bytes", "truncated", "digest", "title",
    "depth", "parent", "host",
)  # fmt: skip
POISON: Final = '{"url": not even JSON'


@pytest.fixture
async def odd_site() -> AsyncIterator[str]:
    """Pages with a child each, and some that are missing, forbidden, moved or large: their base."""

    async def answer(request: web.Request) -> web.StreamResponse:
        kind, _, number = request.path.strip("/").partition("/")
        if kind == "robots.txt":
            return web.Response(text="User-agent: *\nDisallow: /private/\n")
        links: list[str] = []
        if kind == "page":
            links = [f"/page/{(int(number) + 1) % SEEDS}", f"/child/{number}"]
            links += {0: [f"/missing/{number}"], 1: [f"/private/{number}"], 2: [f"/moved/{number}"]}.get(
                int(number) % 10, []
            )
            links += ["/large"] if number == "3" else []
        elif kind == "moved":
            raise web.HTTPFound(f"/child/{number}")
        elif kind not in ("child", "private", "large"):
            return web.Response(status=404)
        text = f"<!doctype html><title>{kind} {number}</title>" + "".join(
            f'<a href="{link}">{link}</a>' for link in links
        )
        text += "x" * 3_000_000 if kind == "large" else ""
        return web.Response(text=text, content_type="text/html")

    app = web.Application()
    app.add_routes([web.get("/{path:.*}", answer)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
def seeds(odd_site: str, tmp_path: Path) -> Path:
    path = tmp_path / "urls.txt"
    path.write_text("".join(f"{odd_site}/page/{number}\n" for number in range(SEEDS)))
    return path


def rows(text: str) -> dict[str, dict[str, Any]]:
    """What an export says of each URL, but for what may differ from one crawl to another."""
    found = (json.loads(line) for line in text.splitlines())
    return {row["url"]: {name: row[name] for name in SAME} for row in found}


def client(service: str, environment: dict[str, str]) -> Any:
    return botocore.session.get_session().create_client(
        service,
        region_name=environment["AWS_REGION"],
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )


def buckets(environment: dict[str, str]) -> set[str]:
    return {found["Name"] for found in client("s3", environment).list_buckets()["Buckets"]}


def judge(files: list[Path]) -> None:
    """Have others say whether files are right, where their tools are installed."""
    for name, tool in (("warcio", "warcio"), ("fastwarc", "fastwarc")):
        try:
            for file in files:
                said = asked(name, tool, "check", file)
                assert said.is_right, said.text
        except EngineMissingError as error:
            print(f"{tool} judges nothing: {error}")
        else:
            print(tool, "finds all", len(files), "objects right")


async def kept_of(frontier: AwsFrontier, address: str, environment: dict[str, str], copies: Path) -> int:
    """How many pages lie where their records say, in objects that are whole; all that were answered do. Of the objects
    copies are made."""
    found = [record async for batch in frontier.scan() for record in batch]

    def look() -> int:
        files = Bucket.at(address, environment)
        for file in files.all():
            with files.opened(file.name) as stream:
                kinds = [check_whole(member).partition(b"WARC-Type: ")[2].split()[0] for member in members(stream)]
            assert kinds[0] == b"warcinfo"
            (copies / file.name.replace("/", "-")).write_bytes(files.read(file.name))
        number = 0
        for record in found:
            assert record.outcome is not None
            if record.outcome.http_status is None:
                continue
            place = record.outcome.capture
            assert place is not None, record.url
            with files.opened(place.file, place.offset) as stream:
                assert f"WARC-Target-URI: {record.url}\r\n".encode() in check_whole(next(members(stream)))
            number += 1
        files.close()
        return number

    return await asyncio.to_thread(look)


def left(environment: dict[str, str]) -> list[str]:
    """All that the stack's services hold."""
    of = partial(client, environment=environment)
    lambda_, cloudwatch = of("lambda"), of("cloudwatch")
    return [
        *of("sqs").list_queues().get("QueueUrls", []),
        *of("dynamodb").list_tables()["TableNames"],
        *(function["FunctionName"] for function in lambda_.list_functions()["Functions"]),
        *(mapping["UUID"] for mapping in lambda_.list_event_source_mappings()["EventSourceMappings"]),
        *(group["logGroupName"] for group in of("logs").describe_log_groups()["logGroups"]),
        *(topic["TopicArn"] for topic in of("sns").list_topics()["Topics"]),
        *(rule["Name"] for rule in of("events").list_rules()["Rules"]),
        *(alarm["AlarmName"] for alarm in cloudwatch.describe_alarms()["MetricAlarms"]),
        *(board["DashboardName"] for board in cloudwatch.list_dashboards()["DashboardEntries"]),
    ]


async def test_a_deployment_crawls_as_the_command_line_does_and_leaves_its_table(
    make: Make, sqspider: Run, seeds: Path, odd_site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = Engines(may_install=False)
    clock = engines.clock
    environment = {
        **engines.ministack(),
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "123456789012",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    try:
        file = tmp_path / ".env"
        file.write_text("MINE=1\n")

        def timed(*arguments: str, **more: Any) -> str:
            """Make it, and say how long that took; what was said."""
            started = time.monotonic()
            made = make(*arguments, f"ENV_FILE={file}", **environment, **more)
            assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
            print(*arguments, round(time.monotonic() - started, 1), "s")
            return made.stdout + made.stderr

        timed("bootstrap")
        before = buckets(environment)
        with terminal("y\n") as screen:
            shown = timed("deploy", stdin=screen)
        # What the roles may do is shown before it is asked for.
        assert "IAM Statement Changes" in shown, shown
        assert "Deploy this? [y/N]" in shown
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        place = dict(line.split("=", 1) for line in file.read_text().splitlines())
        assert place.keys() == {"MINE", "QUEUE_URL", "TABLE_NAME", "AWS_REGION", "SQSPIDER_ARCHIVE"}
        (bucket,) = buckets(environment) - before
        assert place["SQSPIDER_ARCHIVE"] == f"s3://{bucket}/pages"

        # Crawled by Lambda, and nobody polls.
        started = time.monotonic()
        options = ("--scope", "host", "--delay", "0", "--allow-private")
        enqueued = await asyncio.to_thread(sqspider, "enqueue", *options, "-f", str(seeds))  # the site answers already
        assert f"{SEEDS} new" in enqueued.stdout
        frontier = await AwsFrontier.open(
            FrontierSettings(visibility_seconds=180), clock=clock, environment={**environment, **place}
        )
        try:
            await frontier.send([POISON])
            while (counts := await frontier.counts()).open or counts.total < 2 * SEEDS:
                await asyncio.sleep(0.1)
            print("crawled in", round(time.monotonic() - started, 1), "s")
            # The poison comes back, with nothing but itself, until it has died.
            while not (stats := await frontier.queue_stats()).dead or not stats.is_empty:
                await asyncio.sleep(0.1)
                if (stats.in_flight, stats.visible) == (1, 0):
                    clock.advance(181)
            assert stats.dead == 1
            assert [letter.body for letter in await frontier.dead_letters()] == [POISON]
            counts = await frontier.counts()
            copies = tmp_path / "copies"
            copies.mkdir()
            kept = await kept_of(frontier, place["SQSPIDER_ARCHIVE"], environment, copies)
            print("kept", kept, "of", counts.total)
            assert kept >= 2 * SEEDS
            judge(sorted(copies.iterdir()))
        finally:
            await frontier.close()

        # The table says what a crawl on SQLite says.
        limits = ("--max-body", str(2 * 1024 * 1024), "--quiet", "--no-archive")
        urls = [f"{odd_site}/page/{number}" for number in range(SEEDS)]
        arguments = ("--frontier", "sqlite:local.db", "crawl", *options, *limits, *urls)
        crawled = await asyncio.to_thread(sqspider, *arguments)  # meanwhile the site answers
        assert crawled.returncode in (0, 1), crawled.stderr
        here = rows(sqspider("--frontier", "sqlite:local.db", "export").stdout)
        there = rows(sqspider("export").stdout)
        assert there == here
        assert Counter(row["status"] for row in there.values()) == {k: n for k, n in counts.by_status.items() if n}
        assert {row["status"] for row in there.values()} == {"done", "failed", "blocked"}
        assert there[f"{odd_site}/large"]["truncated"]

        # The command line sees and keeps the deployment.
        status = sqspider("status").stdout
        assert "0 visible" in status
        assert "1 dead" in status
        assert "robots.txt line 2" in sqspider("show", f"{odd_site}/private/1").stdout
        assert "<title>child 3</title>" in sqspider("show", f"{odd_site}/child/3", "--body").stdout
        verified = sqspider("archive", "verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert isinstance(json.loads(sqspider("metrics", "--json").stdout), list)  # no engine has SQS's metrics
        assert "it is no message" in sqspider("redrive", "--list").stdout
        assert "1" in sqspider("redrive").stdout
        assert sqspider("cleanup", "--all", "--yes").returncode == 0
        assert rows(sqspider("export").stdout) == {}

        # The table stays, and who destroys the rest is told how to remove it.
        table = place["TABLE_NAME"]
        told = timed("destroy", "YES=1")
        assert f"The table {table} stays" in told
        assert f"The bucket {bucket} stays" in told
        assert buckets(environment) - before == {bucket}
        assert left(environment) == [table]
        assert file.read_text() == "MINE=1\n"
        dynamodb = client("dynamodb", environment)
        assert f"update-table --table-name {table} --no-deletion-protection-enabled" in told
        dynamodb.update_table(TableName=table, DeletionProtectionEnabled=False)
        assert f"delete-table --table-name {table}" in told
        dynamodb.delete_table(TableName=table)
        assert left(environment) == []
    finally:
        engines.stop()
