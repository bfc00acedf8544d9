"""Objects of S3: what is put, read, listed and deleted, and what is made of refusals, throttles and lost answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from sqspider.archive.errors import ArchiveError, DamagedError, NoArchiveError, NotAllowedError
from sqspider.archive.s3 import S3Client
from sqspider.archive.s3_place import S3Door, S3Place
from sqspider.frontier.aws.bill import Usage
from sqspider.frontier.aws.client import Call

from . import s3_faults
from .engines import Engines
from .s3_faults import S3Proxy, always, refusal

BODY = bytes(range(256)) * 40
ODD = "20261130/a+b=c~é(1)'!*&%41.warc.gz"


@pytest.fixture
async def client(s3_proxy: S3Proxy, place: S3Place) -> AsyncIterator[S3Client]:
    client = S3Client.open(place, s3_proxy.environment)
    yield client
    s3_proxy.fault = None
    await client.close()


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("s3://bucket/a/b", S3Place("bucket", "a/b/")),
        ("s3://bucket/a/b/", S3Place("bucket", "a/b/")),
        ("s3://my.bucket", S3Place("my.bucket", "")),
        ("s3://bucket/", S3Place("bucket", "")),
    ],
)
def test_an_address_names_a_bucket_and_a_prefix(address: str, place: S3Place) -> None:
    assert S3Place.read(address) == place
    assert S3Place.read(str(place)) == place


@pytest.mark.parametrize(
    "address",
    [
        "s3://", "s3://Bucket/a", "s3://b/a", "s3://127.0.0.1/a", "s3://a..b/x", "s3:bucket/a", "s3://bu cket", "folder",
        "s3://bucket/a//b", "s3://bucket/../other", "s3://bucket/a\nb", f"s3://bucket/{'é' * 300}",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ArchiveError, match=r"write s3://BUCKET/PREFIX|choose another one"):
        S3Place.read(address)


@pytest.mark.parametrize(
    ("bucket", "environment", "door"),
    [
        ("pages", {"AWS_REGION": "eu-west-1"}, S3Door("eu-west-1", "https://pages.s3.eu-west-1.amazonaws.com/", "")),
        ("my.pages", {"AWS_DEFAULT_REGION": "eu-west-1"}, S3Door("eu-west-1", "https://s3.eu-west-1.amazonaws.com/", "my.pages/")),
        ("pages", {"QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/1/q"}, S3Door("eu-west-1", "https://pages.s3.eu-west-1.amazonaws.com/", "")),
        ("pages", {"AWS_REGION": "cn-north-1"}, S3Door("cn-north-1", "https://pages.s3.cn-north-1.amazonaws.com.cn/", "")),
        ("pages", {"AWS_REGION": "us-east-1", "AWS_USE_FIPS_ENDPOINT": "true"}, S3Door("us-east-1", "https://pages.s3-fips.us-east-1.amazonaws.com/", "")),
        ("pages", {"AWS_REGION": "us-east-1", "AWS_USE_DUALSTACK_ENDPOINT": "true"}, S3Door("us-east-1", "https://pages.s3.dualstack.us-east-1.amazonaws.com/", "")),
        ("pages", {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, S3Door("us-east-1", "http://127.0.0.1:9/", "pages/")),
        ("pages", {"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ENDPOINT_URL_S3": "https://s3.example/"}, S3Door("us-east-1", "https://s3.example/", "pages/")),
    ],
)  # fmt: skip
def test_a_bucket_is_asked_where_the_environment_says(bucket: str, environment: dict[str, str], door: S3Door) -> None:
    assert S3Door.to(bucket, environment) == door


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "set AWS_REGION"),
        ({"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_S3": "s3.example"}, "no URL of a server"),
        ({"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_S3": "https://me:word@s3.example"}, "a user stands in it"),
        ({"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_S3": "https://s3.example", "AWS_USE_FIPS_ENDPOINT": "true"}, "unset one of the two"),
    ],
)  # fmt: skip
def test_an_environment_that_leads_nowhere_is_refused(environment: dict[str, str], says: str) -> None:
    with pytest.raises(ArchiveError, match=says):
        S3Door.to("pages", environment)


async def test_what_is_put_is_read_in_ranges(client: S3Client) -> None:
    for name in ("one.warc.gz", ODD):
        await client.put(name, BODY, is_new=True)
        assert (await client.get(name, 100, 100)).content == BODY[100:200]
        last = await client.get(name, len(BODY) - 10, 1000)
        assert (last.content, last.size) == (BODY[-10:], len(BODY))
        assert (await client.get(name, len(BODY), 10)).content == b""
        found = await client.look(name)
        assert found is not None
        assert found.size == len(BODY)
        assert abs(found.modified - time.time()) < 86_400
    await client.put("empty", b"", is_new=True)
    assert (await client.get("empty", 0, 10)).content == b""
    assert await client.look("other") is None
    with pytest.raises(NoArchiveError, match=r"/other is not there"):
        await client.get("other", 0, 10)


async def test_lists_go_on_from_page_to_page_with_every_name_as_it_is(client: S3Client, s3_proxy: S3Proxy) -> None:
    async def by_threes(_: S3Proxy, asked: s3_faults.Asked) -> s3_faults.Answered:
        return await s3_proxy.forward(asked._replace(target=f"{asked.target}&max-keys=3"))

    names = sorted([ODD, "a b", "a+b", "a%20b", *(f"20261130/{number:02}.warc.gz" for number in range(8))])
    for name in names:
        await client.put(name, name.encode(), is_new=True)
    s3_proxy.fault, before = by_threes, len(s3_proxy.asked)
    found = [each async for each in client.listed()]
    assert [(each.key, each.size) for each in found] == [(name, len(name.encode())) for name in names]
    assert len(s3_proxy.asked) - before == 4
    assert all(abs(each.modified - time.time()) < 86_400 for each in found)


async def test_deleting_what_is_not_there_is_no_error(client: S3Client) -> None:
    await client.put("one", b"1", is_new=True)
    for _ in range(2):
        await client.delete("one")
        assert await client.look("one") is None


async def test_an_object_that_is_there_is_written_over_only_where_that_is_meant(client: S3Client) -> None:
    await client.put("one", b"first", is_new=True)
    with pytest.raises(ArchiveError, match=r"one is there already, and is another: it was left as it is"):
        await client.put("one", b"other", is_new=True)
    assert (await client.get("one", 0, 9)).content == b"first"
    first = await client.get("one", 0, 2)
    await client.put("one", b"third", is_new=False)
    assert (await client.get("one", 0, 9)).content == b"third"
    with pytest.raises(DamagedError, match="written anew while it was read"):
        await client.get("one", 2, 9, version=first.version)


@pytest.mark.parametrize("name", ["throttle", "fail", "lose_answer"])
async def test_trouble_is_tried_again_until_there_is_an_answer(client: S3Client, s3_proxy: S3Proxy, name: str) -> None:
    """An object that a lost answer left behind is known again, by its size and digest."""
    s3_proxy.fault, s3_proxy.chance = s3_faults.ALL[name], 0.4
    bodies = {f"{number:02}": bytes([number]) * 1000 for number in range(12)}
    for key, body in bodies.items():
        await client.put(key, body, is_new=True)
    for key, body in bodies.items():
        assert (await client.get(key, 0, 2000)).content == body
    assert [found.key async for found in client.listed()] == sorted(bodies)
    assert s3_proxy.injected >= 5


async def test_a_lost_answer_is_not_taken_for_ours_where_another_one_lies_there(
    client: S3Client, s3_proxy: S3Proxy
) -> None:
    async def overtaken(_: S3Proxy, asked: s3_faults.Asked) -> s3_faults.Answered:
        if asked.method == "PUT" and s3_proxy.counts["PUT"] == 1:  # another one is put, of the same length
            await s3_proxy.forward(asked._replace(body=b"other", headers={}))
            return s3_faults.Answered(0)
        return await s3_proxy.forward(asked)

    s3_proxy.fault = overtaken
    with pytest.raises(ArchiveError, match="is there already, and is another"):
        await client.put("one", b"first", is_new=True)


async def test_tries_end_and_say_what_the_trouble_was(s3_proxy: S3Proxy, place: S3Place) -> None:
    client = S3Client.open(place, s3_proxy.environment, give_up_seconds=0.3)
    s3_proxy.fault, s3_proxy.chance = s3_faults.throttle, 1.0
    with pytest.raises(ArchiveError, match=r"PutObject did not succeed in \d+ tries .*SlowDown"):
        await client.put("one", b"first", is_new=True)
    s3_proxy.fault = None
    await client.put("one", b"first", is_new=True)
    await client.close()


async def test_a_bucket_that_cannot_be_reached_is_told(place: S3Place, engines: Engines) -> None:
    environment = {**engines.ministack(), "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}
    client = S3Client.open(place, environment, give_up_seconds=0.2)
    with pytest.raises(ArchiveError, match=r"did not succeed .*see AWS_REGION and AWS_ENDPOINT_URL_S3"):
        await client.look("one")
    await client.close()


REGION = "<BucketName>b</BucketName><Region>eu-central-1</Region>"
NAMED = 'User: arn:aws:iam::1:user/me is not authorized to perform: s3:PutObject on resource: "x" because no policy'


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (refusal("AccessDenied", 403, "Access Denied"), NotAllowedError, r"lack the permission s3:PutObject on archive-.*\*"),
        (refusal("AccessDenied", 403, NAMED), NotAllowedError, "lack the permission s3:PutObject on archive-"),
        (refusal("AllAccessDisabled", 403), NotAllowedError, "lack the permission s3:PutObject"),
        (refusal("NoSuchBucket", 404), NoArchiveError, r"there is no bucket archive-\d+-\d+ \(asked for in us-east-1\)"),
        (refusal("PermanentRedirect", 301, x_amz_bucket_region="eu-central-1"), ArchiveError, "lies in eu-central-1.*AWS_REGION=eu-central-1"),
        (refusal("AuthorizationHeaderMalformed", 400, more=REGION), ArchiveError, "lies in eu-central-1, and was asked for in us-east-1"),
        (refusal("InvalidAccessKeyId", 403), NotAllowedError, "does not take these credentials"),
        (refusal("SignatureDoesNotMatch", 403), NotAllowedError, "this machine's clock"),
        (refusal("ExpiredToken", 400), NotAllowedError, "does not take these credentials"),
        (refusal("EntityTooLarge", 400, "Your proposed upload exceeds"), ArchiveError, r"EntityTooLarge \(Your proposed"),
        (s3_faults.Answered(403, b"<html>a proxy's page</html>"), NotAllowedError, "lack the permission s3:PutObject"),
        (s3_faults.Answered(451, b"<html>a proxy's page</html>"), ArchiveError, "HTTP 451"),
    ],
)  # fmt: skip
async def test_refusals_are_named_and_not_tried_again(
    client: S3Client, s3_proxy: S3Proxy, answer: s3_faults.Answered, kind: type[ArchiveError], says: str
) -> None:
    s3_proxy.fault = always(answer)
    with pytest.raises(ArchiveError, match=says) as refused:
        await client.put("one", b"first", is_new=True)
    assert type(refused.value) is kind
    assert "\n" not in str(refused.value)
    assert s3_proxy.counts["PUT"] <= 2  # the second one is signed anew


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (refusal("AccessDenied", 403), r"permission s3:GetObject on .* unless what was asked for is not there, which only s3:ListBucket"),
        (refusal("PermanentRedirect", 301, x_amz_bucket_region="eu-central-1"), "lies in eu-central-1"),
    ],
)  # fmt: skip
async def test_answers_to_head_which_have_no_body_are_told_all_the_same(
    client: S3Client, s3_proxy: S3Proxy, answer: s3_faults.Answered, says: str
) -> None:
    s3_proxy.fault = always(answer)
    with pytest.raises(ArchiveError, match=says):
        await client.look("one")


async def test_a_list_that_is_refused_names_the_bucket(client: S3Client, s3_proxy: S3Proxy, place: S3Place) -> None:
    s3_proxy.fault = always(refusal("AccessDenied", 403))
    with pytest.raises(NotAllowedError, match=rf"permission s3:ListBucket on {place.bucket}"):
        await anext(client.listed())
    for odd in (
        b"<html>a proxy's page</html>",
        b"no XML",
        b"<ListBucketResult><Contents><Key>x</Key></Contents></ListBucketResult>",
    ):
        s3_proxy.fault = always(s3_faults.Answered(200, odd))
        with pytest.raises(ArchiveError, match="what the bucket lists cannot be read"):
            [found async for found in client.listed()]


async def test_no_keys_at_all_are_told(place: S3Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = S3Client.open(place, {"AWS_REGION": "us-east-1"})
    with pytest.raises(NotAllowedError, match=r"s3://archive-.*there are no AWS credentials"):
        await client.look("one")
    await client.close()


async def test_nothing_of_the_keys_is_in_what_is_told(place: S3Place, s3_proxy: S3Proxy) -> None:
    secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
    environment = {**s3_proxy.environment, "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": secret}
    client = S3Client.open(place, environment, give_up_seconds=0.1)
    for status in (400, 500):
        s3_proxy.fault = always(refusal("Odd", status, f"you signed with {secret} of AKIAIOSFODNN7EXAMPLE"))
        with pytest.raises(ArchiveError, match="you signed with") as told:
            await client.look("one") if status == 0 else await client.get("one", 0, 1)
        assert secret not in str(told.value)
        assert "AKIAIOSFODNN7EXAMPLE" not in str(told.value)
    await client.close()


async def test_each_try_is_shown_to_observers(client: S3Client, s3_proxy: S3Proxy) -> None:
    calls: list[Call] = []
    client.observers.append(calls.append)

    async def once(_: S3Proxy, asked: s3_faults.Asked) -> s3_faults.Answered:
        return refusal("SlowDown", 503) if s3_proxy.counts["PUT"] == 1 else await s3_proxy.forward(asked)

    s3_proxy.fault = once
    await client.put("one", BODY, is_new=True)
    assert [(call.action, call.request["Bytes"], call.answer is not None) for call in calls] == [
        ("PutObject", len(BODY), False), ("PutObject", len(BODY), True),
    ]  # fmt: skip


async def test_the_bill_knows_what_was_asked_of_a_bucket(client: S3Client, s3_proxy: S3Proxy) -> None:
    usage = Usage()
    client.observers.append(usage.see)

    async def once(_: S3Proxy, asked: s3_faults.Asked) -> s3_faults.Answered:
        return refusal("SlowDown", 503) if s3_proxy.counts["PUT"] == 1 else await s3_proxy.forward(asked)

    s3_proxy.fault = once
    await client.put("one", BODY, is_new=True)
    await client.get("one", 0, 9)
    await client.look("one")
    assert [found.key async for found in client.listed()] == ["one"]
    await client.delete("one")
    assert (usage.calls, usage.s3_writes, usage.s3_reads, usage.s3_refused) == (6, 2, 2, 1)
    assert usage.archived_bytes == len(BODY)
    assert usage.dollars == pytest.approx(2 * 5e-6 + 2 * 0.4e-6)


async def test_twenty_who_put_one_name_at_once_are_one_winner(client: S3Client) -> None:
    async def put(number: int) -> bool:
        try:
            await client.put("race", b"%02d" % number, is_new=True)
        except ArchiveError:
            return False
        return True

    won = await asyncio.gather(*(put(number) for number in range(20)))
    assert sum(won) == 1
    assert (await client.get("race", 0, 9)).content == b"%02d" % won.index(True)
