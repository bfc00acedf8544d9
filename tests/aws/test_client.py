"""The client: what it signs, what it makes of refusals, and whether its permissions are all it needs."""

from __future__ import annotations

import calendar
import time

import pytest
import structlog
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from sqspider.frontier import FrontierSettings, FrontierUnavailableError
from sqspider.frontier.aws import AwsFrontier
from sqspider.frontier.aws.credentials import Keys
from sqspider.frontier.aws.permissions import IAM_ACTIONS
from sqspider.frontier.aws.signing import Signer
from sqspider.frontier.aws.transport import CLOUDWATCH, DYNAMODB, SQS, Service
from tests.frontier.kit import DONE, entries, finish_one, retry_one, take, win

from . import faults
from .faults import FaultProxy
from .store import TABLE, AwsStore, client_for


@pytest.mark.parametrize("service", [SQS, DYNAMODB, CLOUDWATCH])
@pytest.mark.parametrize("token", [None, "session/token+="])
def test_requests_are_signed_as_botocore_signs_them(service: Service, token: str | None) -> None:
    document = '{"QueueUrl": "https://sqs.eu-west-1.amazonaws.com/1/é"}'.encode()
    endpoint = f"https://{service.name}.eu-west-1.amazonaws.com/"
    keys = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token)
    theirs = AWSRequest(
        method="POST",
        url=endpoint,
        data=document,
        headers={"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"{service.target}.ReceiveMessage"},
    )
    theirs_keys = Credentials(keys.access_key_id, keys.secret_access_key, keys.session_token)
    SigV4Auth(theirs_keys, service.name, "eu-west-1").add_auth(theirs)
    moment = calendar.timegm(time.strptime(theirs.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ"))

    signer = Signer("eu-west-1")
    for _ in range(2):  # the second time from what was kept
        ours = signer.sign(service, "ReceiveMessage", endpoint, document, keys, moment)
        assert ours["authorization"] == theirs.headers["Authorization"]
        assert ours.get("x-amz-security-token") == token


async def _refused(environment: dict[str, str], settings: FrontierSettings | None = None) -> str:
    with pytest.raises(FrontierUnavailableError) as refusal:
        await AwsFrontier.open(settings or FrontierSettings(), clock=time.time, environment=environment)
    text = str(refusal.value)
    assert "\n" not in text
    return text


async def test_what_is_missing_is_named(store: AwsStore) -> None:
    good = store.environment
    assert "QUEUE_URL" in await _refused({**good, "QUEUE_URL": ""})
    assert "must look like" in await _refused({**good, "QUEUE_URL": "crawl"})
    assert f"no queue {good['QUEUE_URL']}-x" in await _refused({**good, "QUEUE_URL": good["QUEUE_URL"] + "-x"})
    assert "no table nowhere" in await _refused({**good, "TABLE_NAME": "nowhere"})
    elsewhere = {**good, "QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/1/crawl"}
    assert "eu-west-1" in await _refused(elsewhere)


async def test_a_table_with_another_key_is_refused(store: AwsStore) -> None:
    client = client_for(store.environment)
    for name, key in (("other", "id"), ("bare", "url")):
        definition = {
            "TableName": name,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": key, "KeyType": "HASH"}],
        }
        await client.call(DYNAMODB, "CreateTable", definition)
    assert "has the key id (S, HASH), not url (S, HASH)" in await _refused({**store.environment, "TABLE_NAME": "other"})
    assert "has no index 'due'" in await _refused({**store.environment, "TABLE_NAME": "bare"})
    for name in ("other", "bare"):
        await client.call(DYNAMODB, "DeleteTable", {"TableName": name})
    await client.close()


async def test_a_table_whose_keys_have_other_types_is_refused(store: AwsStore) -> None:
    client = client_for(store.environment)
    for name, wrong, says in (
        ("numbers", "url", "has the key url (N, HASH), not url (S, HASH)"),
        ("texts", "due_at", "has no index 'due' with the key due_shard (S, HASH), due_at (N, RANGE)"),
    ):
        definitions = [
            {**one, "AttributeType": {"S": "N", "N": "S"}[one["AttributeType"]]}
            if one["AttributeName"] == wrong
            else one
            for one in TABLE["AttributeDefinitions"]
        ]
        request = {**TABLE, "AttributeDefinitions": definitions, "TableName": name}
        await client.call(DYNAMODB, "CreateTable", request)
        assert says in await _refused({**store.environment, "TABLE_NAME": name})
        await client.call(DYNAMODB, "DeleteTable", {"TableName": name})
    await client.close()


async def test_a_fifo_queue_is_refused(store: AwsStore) -> None:
    text = await _refused({**store.environment, "QUEUE_URL": store.environment["QUEUE_URL"] + ".fifo"})
    assert "a FIFO queue, which cannot delay single messages: name a standard one" in text


async def test_a_queue_without_a_dead_letter_queue_is_warned_of(store: AwsStore) -> None:
    with structlog.testing.capture_logs() as logs:
        await store.open()
    assert logs == []
    client = client_for(store.environment)
    request = {"QueueUrl": store.environment["QUEUE_URL"], "Attributes": {"RedrivePolicy": ""}}
    await client.call(SQS, "SetQueueAttributes", request)
    await client.close()
    with structlog.testing.capture_logs() as logs:
        await store.open()
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("no_dead_letter_queue", "warning")
    assert "give the queue a redrive policy" in line["why"]


async def test_a_visibility_timeout_that_is_shorter_than_the_lease_is_refused(store: AwsStore) -> None:
    frontier = await store.open(FrontierSettings(visibility_seconds=600.0))
    with pytest.raises(FrontierUnavailableError, match="visibility timeout is 2 s, the lease needs 600 s"):
        await frontier.receive(1)


async def test_an_engine_that_is_not_there_is_named(store: AwsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqspider.frontier.aws.OPEN_SECONDS", 0.5)
    text = await _refused({**store.environment, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    assert "cannot be reached" in text


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("UnrecognizedClientException", "does not take these credentials"),
        ("ExpiredTokenException", "does not take these credentials"),
        ("AccessDeniedException", "lack the permission "),
    ],
)
async def test_refusals_say_what_to_do(proxy: FaultProxy, kind: str, expected: str) -> None:
    async def refuse(_: FaultProxy, action: str, document: faults.Document, forward: faults.Forward) -> faults.Answer:
        return faults.refusal(kind) if action == "DescribeTable" else await forward(document)

    proxy.fault = refuse
    text = await _refused(proxy.environment)
    assert expected in text
    if kind == "AccessDeniedException":
        assert "dynamodb:DescribeTable" in text


async def test_every_call_is_in_the_list_of_permissions(store: AwsStore, proxy: FaultProxy) -> None:
    """The list is what a role is granted; no engine checks it."""
    needed: set[str] = set()

    def see(action: str, document: faults.Document, _: faults.Answer) -> None:
        if action == "BatchExecuteStatement":
            verbs = {statement["Statement"].split()[0].capitalize() for statement in document["Statements"]}
            needed.update(f"dynamodb:PartiQL{verb}" for verb in verbs)
        elif action == "GetMetricStatistics":
            needed.add(f"cloudwatch:{action}")
        else:
            is_queue = "QueueUrl" in document
            needed.add(f"sqs:{action.removesuffix('Batch')}" if is_queue else f"dynamodb:{action}")

    proxy.on_answer = see
    frontier = await store.open_in(proxy.environment)
    await frontier.enqueue(entries(3))
    first, second, third = await take(frontier, 3)
    claim = await win(frontier, first)
    assert await finish_one(frontier, claim, first, DONE)
    claim = await win(frontier, second, claim="c2")
    assert await retry_one(frontier, claim, second, at=store.clock() + 5000)
    await frontier.send(["bad"])
    await frontier.check_in("w", session="s", ttl_seconds=5)
    await frontier.check_out("w", session="s")
    await frontier.lease_robots(["https://example.com"], until=0)
    await frontier.delete([third])
    for _ in range(3):
        await take(frontier, 1)
        await store.elapse(3)
    assert await frontier.receive(1) == []
    assert len(await frontier.dead_letters()) == 1
    await frontier.send(["x"])
    await store.elapse(6000)
    await frontier.sweep()
    await frontier.queue_stats()
    await frontier.counts(exact=True)
    await frontier.purge_queue()
    await frontier.clear_table()
    assert needed == set(IAM_ACTIONS)
