"""The command line on SQS and DynamoDB, as a user with QUEUE_URL and TABLE_NAME meets it."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sqspider.frontier import FrontierSettings
from tests import forked
from tests.aws.engines import Engines
from tests.aws.store import AwsStore

SELF = ("--delay", "0", "--allow-private", "--exclude", "slow|huge|flaky|trap")
Result = subprocess.CompletedProcess[str]
RunOnAws = Callable[..., Result]


@pytest.fixture
async def aws(engines: Engines) -> AsyncIterator[AwsStore]:
    store = await AwsStore.create(engines.ministack(), settings=FrontierSettings())
    yield store
    await store.close()


@pytest.fixture
def sqspider_on_aws(aws: AwsStore, tmp_path: Path) -> RunOnAws:
    """Runs the command with the queue and the table in its environment."""

    def run(*arguments: str, stdin: str = "", **environment: str) -> Result:
        return forked.run(*arguments, cwd=tmp_path, stdin=stdin, env={**aws.environment, **environment})

    return run


async def start(aws: AwsStore, folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sqspider", *arguments), cwd=folder, env=aws.environment, stderr=PIPE
    )


async def test_the_exercise(
    aws: AwsStore, engines: Engines, sqspider_on_aws: RunOnAws, served_site: str, tmp_path: Path
) -> None:
    """A producer and two consumers; every message sent twice; one wins each URL."""
    urls = [f"{served_site}page/{n}" for n in range(12)]
    done = sqspider_on_aws("enqueue", "-f", "-", "--delay", "0", stdin="\n".join([*urls, *urls[:2], "ftp://x/"]))
    assert done.stdout == "12 new, 2 known, 1 refused\n"
    frontier = await aws.open()
    await frontier.send(urls)  # as anybody may who can send to the queue

    consumers = [
        await start(aws, tmp_path, "consume", "--until-empty", "--allow-private", "--worker-id", name)
        for name in ("worker-A", "worker-B")
    ]
    while (await frontier.counts()).open:
        await asyncio.sleep(0.05)
    engines.clock.advance(61)  # a message whose URL was being fetched stays hidden for the queue's timeout
    said = [(await consumer.communicate())[1].decode() for consumer in consumers]
    assert [consumer.returncode for consumer in consumers] == [0, 0], said
    won = [line for text in said for line in text.splitlines() if "WON race — claimed for processing: " in line]
    assert sorted(line.rpartition(" ")[2] for line in won) == sorted(urls)
    assert not any("FetchSeconds" in text for text in said)  # metrics are for JSON logs

    status = json.loads(sqspider_on_aws("status", "--json").stdout)
    assert status["records"] == {"queued": 0, "processing": 0, "done": 12, "failed": 0, "blocked": 0}
    assert status["bill"]["calls"] > 10
    assert status["bill"]["write_units"] > 12
    rows = [json.loads(line) for line in sqspider_on_aws("export").stdout.splitlines()]
    assert {(row["url"], row["attempt"]) for row in rows} == {(url, 1) for url in urls}


async def test_a_crawl_with_its_bill_to_a_clean_table(sqspider_on_aws: RunOnAws, served_site: str) -> None:
    done = sqspider_on_aws("crawl", served_site, *SELF, "--depth", "2")
    assert done.returncode == 0, done.stderr
    assert "AWS so far: about $" in done.stdout
    shown = sqspider_on_aws("show", served_site, "--json")
    assert json.loads(shown.stdout)["status"] == "done"
    status = sqspider_on_aws("status").stdout
    assert "AWS so far: about $" in status
    exact = json.loads(sqspider_on_aws("status", "--exact", "--json").stdout)
    assert exact["records"]["queued"] == 0
    assert exact["records"]["done"] > 10
    assert sqspider_on_aws("metrics", "--json").stdout == "[]\n"  # no engine has SQS's metrics
    fine = sqspider_on_aws("metrics", "--period", "30s")
    assert (fine.returncode, "here it is 60 s or a multiple of it" in fine.stderr) == (2, True)

    retried = json.loads(sqspider_on_aws("retry", "--status", "done", "--host", "127.0.0.1", "--yes", "--json").stdout)
    assert retried["queued"] == retried["done"] == exact["records"]["done"]

    asked = sqspider_on_aws("cleanup", "--all")
    assert asked.returncode == 2
    for name in ("queue crawl-", "table crawl-", "of account 000000000000", "in us-east-1", "--yes"):
        assert name in " ".join(asked.stderr.split())
    assert sqspider_on_aws("cleanup", "--all", "--yes").returncode == 0
    status = json.loads(sqspider_on_aws("status", "--exact", "--json").stdout)
    assert sum(status["records"].values()) == status["queue"]["visible"] == 0


async def test_what_reads_the_whole_table_is_asked_about_first(sqspider_on_aws: RunOnAws, served_site: str) -> None:
    """With its price; and nothing is done where nobody can be asked, but what --yes says."""
    crawl = ("crawl", f"{served_site}page/1", *SELF, "--quiet")
    assert sqspider_on_aws(*crawl, "--depth", "0").returncode == 0
    row = sqspider_on_aws("crawls", "show", "default", "--json").stdout
    for command, what in (
        (("crawl", "--again"), "this visits 1 URL of the crawl default once more: say --yes"),
        (("crawl", "--again", "--older-than", "1d"), "this visits at most 1 URL of the crawl default once more"),
        (("crawl", "--depth", "1"), "this lets in again, in the crawl default, at most 1 URL, and reads all records"),
        (("crawls", "set", "default", "--depth", "1"), "at most 1 URL, and reads all records for that: say --yes"),
        (("enqueue", f"{served_site}page/1", "--crawl", "default", "--depth", "1"), "at most 1 URL, and reads all"),
    ):
        done = sqspider_on_aws(*command)
        said = " ".join(done.stderr.split())
        assert (done.returncode, what in said) == (2, True), said
        assert "Reading all 1 records costs about $0.0000, to put these back $" in said
    assert sqspider_on_aws("crawls", "show", "default", "--json").stdout == row
    done = sqspider_on_aws("crawls", "set", "default", "--depth", "1", "--yes")
    assert "1 page is gone into again" in done.stdout
    assert sqspider_on_aws("crawl", "--again", "--yes", "--quiet").returncode == 0
    assert json.loads(sqspider_on_aws("show", f"{served_site}page/1", "--json").stdout)["visits"] == 2


async def test_dead_letters_say_why_they_died_and_go_back(
    aws: AwsStore, engines: Engines, sqspider_on_aws: RunOnAws
) -> None:
    frontier = await aws.open()
    await frontier.send(["no message at all"])
    while not await frontier.dead_letters():
        await frontier.receive(10)
        engines.clock.advance(61)
    listed = sqspider_on_aws("redrive", "--list")
    assert "no message at all" in listed.stdout
    assert "it is no message" in listed.stdout
    [row] = map(json.loads, sqspider_on_aws("redrive", "--list", "--json").stdout.splitlines())
    assert row["body"] == "no message at all"
    assert sqspider_on_aws("redrive").stdout == "1 messages put back\n"
    assert sqspider_on_aws("redrive", "--list").stdout == ""


async def test_a_consumer_that_polls_stops_when_told_to(aws: AwsStore, tmp_path: Path) -> None:
    consumer = await start(aws, tmp_path, "consume", "--continuous", "--worker-id", "w")
    frontier = await aws.open()
    while not await frontier.workers():
        await asyncio.sleep(0.05)
    consumer.send_signal(signal.SIGTERM)
    _, said = await consumer.communicate()
    assert consumer.returncode == 0, said
    assert await frontier.workers() == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"QUEUE_URL": "crawl"}, "must look like"),
        ({"TABLE_NAME": "nowhere"}, "no table nowhere"),
        ({"QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/1/crawl"}, "eu-west-1"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": "/nonexistent"}, "AWS_ACCESS_KEY_ID"),
    ],
)
async def test_what_is_wrong_is_said_in_a_line(
    sqspider_on_aws: RunOnAws, changed: dict[str, str], expected: str
) -> None:
    done = sqspider_on_aws("status", **changed, AWS_EC2_METADATA_DISABLED="true")
    assert (done.returncode, done.stdout) == (3, "")
    # Other tests move the engine's clock ahead of this machine's, which is said, too.
    [line] = [line for line in done.stderr.splitlines() if "clock_differs" not in line]
    assert expected in line


async def test_a_lease_longer_than_the_queues_timeout_is_refused(sqspider_on_aws: RunOnAws) -> None:
    done = sqspider_on_aws("consume", "--lease", "90")
    assert done.returncode == 3
    assert "the queue's visibility timeout is 60 s, the lease needs 90 s" in done.stderr
