"""The queues and the table that docs/aws.md makes by hand: they are what the crawler needs."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any, Final

import pytest

from sqspider.frontier import MAX_RECEIVES, Entry
from sqspider.frontier.aws.transport import DYNAMODB, SQS
from sqspider.record import Outcome, Status
from tests.conftest import ROOT
from tests.frontier.kit import finish_one, record_of, take_one, url, win

from .engines import Engines
from .store import TABLE, AwsStore, client_for

SECTION: Final = re.search(
    r"^## Queue and table by hand$(.*?)^## ", (ROOT / "docs" / "aws.md").read_text(), re.M | re.S
)
COMMANDS: Final = [
    shlex.split(f"aws {command}")
    for block in re.findall(r"^```sh\n(aws .*?)\n```$", SECTION[1] if SECTION else "", re.M | re.S)
    for command in block.removeprefix("aws ").split("\naws ")
]


def test_the_table_is_the_one_that_is_tested_and_deployed() -> None:
    (table,) = [json.loads(command[-1]) for command in COMMANDS if "create-table" in command]
    assert {name: value for name, value in table.items() if name != "TableName"} == TABLE


@pytest.mark.parametrize("engine", ["ministack", "dynamodb-local+fauxqs"])
async def test_what_is_made_by_hand_is_crawled_with(engines: Engines, engine: str) -> None:
    environment = engines.ministack() if engine == "ministack" else engines.dynamodb_local_and_fauxqs()
    client, queues = client_for(environment), dict[str, str]()
    mark = f"by-hand-{engine[:4]}"
    for _, service, action, *options in COMMANDS:
        said = dict(zip(options[::2], options[1::2], strict=True))
        if service == "dynamodb":
            request: dict[str, Any] = {**json.loads(said["--cli-input-json"]), "TableName": mark}
            await client.call(DYNAMODB, "CreateTable", request)
            continue
        assert action == "create-queue"
        attributes = json.loads(said["--attributes"])
        if "RedrivePolicy" in attributes:
            policy = json.loads(attributes["RedrivePolicy"])
            dead = policy["deadLetterTargetArn"].rpartition(":")[2]
            assert policy["maxReceiveCount"] == MAX_RECEIVES
            asked = {"QueueUrl": queues[dead], "AttributeNames": ["QueueArn"]}
            policy["deadLetterTargetArn"] = (await client.call(SQS, "GetQueueAttributes", asked)).body["Attributes"][
                "QueueArn"
            ]
            attributes["RedrivePolicy"] = json.dumps(policy)
        name = said["--queue-name"]
        made = await client.call(SQS, "CreateQueue", {"QueueName": f"{mark}-{name}", "Attributes": attributes})
        queues[name] = made.body["QueueUrl"]
    store = AwsStore({**environment, "QUEUE_URL": queues["sqspider"], "TABLE_NAME": mark}, None)
    frontier = await store.open()
    assert await frontier.enqueue([Entry(url=url("page"))]) == [True]
    delivery = await take_one(frontier)
    assert await finish_one(frontier, await win(frontier, delivery), delivery, Outcome(status=Status.DONE))
    assert (await record_of(frontier, url("page"))).status is Status.DONE
    await store.close_handles()
    for queue_url in queues.values():
        await client.call(SQS, "DeleteQueue", {"QueueUrl": queue_url})
    await client.call(DYNAMODB, "DeleteTable", {"TableName": mark})
    await client.close()
