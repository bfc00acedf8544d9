"""No secret is written, whatever goes wrong: keys, session tokens, passwords of proxies."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Final
from urllib.parse import quote

import pytest

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import FrontierError, FrontierSettings, FrontierUnavailableError
from sqspider.frontier.aws import AwsFrontier, signing
from sqspider.frontier.aws.client import _error
from sqspider.frontier.aws.credentials import Keys, find_keys
from sqspider.frontier.aws.errors import AwsError
from sqspider.frontier.aws.network import Network
from sqspider.frontier.aws.signing import Signer
from sqspider.frontier.aws.transport import DYNAMODB, Received
from tests.aws.engines import Engines
from tests.aws.store import AwsStore
from tests.conftest import Run

SECRETS: Final = {
    "AWS_ACCESS_KEY_ID": "AKIAHUSHHUSHHUSHHUSH",
    "AWS_SECRET_ACCESS_KEY": "hush/secret+KEY/hush/secret+KEY/hush/secr",
    "AWS_SESSION_TOKEN": "HushToken//////////HushToken==",
}
PASSWORD: Final = "HushPassword"
PROXY: Final = f"http://user:{PASSWORD}@127.0.0.1:9"

# A fault of the library below the signing code, for some of the calls.
BROKEN_SIGNING: Final = """
import hmac, sys
new = hmac.new
def broken(*arguments, **more):
    signing = sys._getframe(2).f_locals  # of who says what is signed
    if signing.get("action") in {actions!r}:
        raise RuntimeError("the library is broken")
    return new(*arguments, **more)
hmac.new = broken
"""
IN_PROCESS: Final = """
import asyncio, gc, json, logging, os, sys, threading
import aiohttp, structlog
from sqspider.frontier.aws.credentials import find_keys
from sqspider.frontier.aws.signing import Signer
from sqspider.frontier.aws.transport import DYNAMODB
from sqspider.log import adopt_standard_logging, start_logging

start_logging("debug", sys.argv[1])
adopt_standard_logging()
log = structlog.get_logger()
keys = asyncio.run(find_keys(os.environ).keys())
proxy = os.environ["THE_PROXY"]

def sign():
    # No moment at all: the library below raises, with the keys in local variables.
    return Signer("us-east-1").sign(DYNAMODB, "Query", "http://127.0.0.1/", b"{}", keys, float("nan"))

class Holder(Exception):
    def __repr__(self):
        return f"Holder({os.environ['AWS_SECRET_ACCESS_KEY']})"

async def main():
    for kind in (ValueError(f"cannot use {keys} by {proxy}"), aiohttp.InvalidURL(proxy)):
        try:
            sign()
        except ValueError:
            log.exception("signing", keys=keys, proxy=proxy)
            logging.getLogger("library").exception("by %s", proxy)
        try:
            raise kind
        except ValueError:
            log.exception("refused")
    async def forgotten():
        secret = keys.secret_access_key
        raise Holder(f"by {proxy}") from ValueError(len(secret))
    task = asyncio.create_task(forgotten())
    await asyncio.wait((task,))
    del task
    gc.collect()

asyncio.run(main())
thread = threading.Thread(target=sign)
thread.start()
thread.join()
sign()
"""
LAMBDA: Final = """
import json, sys, time
from sqspider.lambda_handler import handler

class Context:
    aws_request_id, function_name = "1", "crawl"
    def get_remaining_time_in_millis(self):
        return 30_000

record = {"messageId": "1", "receiptHandle": "r", "body": sys.argv[1],
          "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "0"}}
print(json.dumps(handler({"Records": [record]}, Context())))
"""


def _assert_nothing_hushed(written: str) -> None:
    for secret in (*SECRETS.values(), PASSWORD):
        assert secret not in written
        assert secret[:12] not in written


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_no_traceback_shows_what_variables_hold(log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SECRETS, "THE_PROXY": PROXY}.items():
        monkeypatch.setenv(name, value)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", IN_PROCESS, log_format], capture_output=True, text=True, check=False
    )
    written = done.stdout + done.stderr
    assert written.count("in sign\n") + written.count("in sign\\n") >= 5  # the tracebacks are there
    assert "Task exception was never retrieved" in written
    assert "http://***@127.0.0.1:9" in written
    _assert_nothing_hushed(written)


@pytest.fixture
async def aws(engines: Engines) -> AsyncIterator[AwsStore]:
    store = await AwsStore.create(engines.ministack(), settings=FrontierSettings())
    yield store
    await store.close()


@pytest.mark.parametrize("log_format", ["console", "json", "lambda"])
@pytest.mark.parametrize(
    "actions", [["BatchExecuteStatement"], ["GetQueueAttributes", "DescribeTable"]], ids=["at work", "at once"]
)
async def test_an_unexpected_error_below_the_signing_code_tells_no_secret(
    aws: AwsStore, tmp_path: Path, log_format: str, actions: list[str]
) -> None:
    frontier = await aws.open()
    url = "http://example.com/"
    await frontier.send([url])
    (tmp_path / "sitecustomize.py").write_text(BROKEN_SIGNING.format(actions=actions))
    command = (
        ["-c", LAMBDA, url]
        if log_format == "lambda"
        else ["-m", "sqspider", "consume", "--log-format", log_format, "--log-level", "debug", "--proxy", PROXY]
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, *command],
        cwd=tmp_path,
        env={**aws.environment, **SECRETS, "PYTHONPATH": str(tmp_path), "SQSPIDER_LOG_LEVEL": "debug"},
        capture_output=True,
        text=True,
        check=False,
    )
    written = done.stdout + done.stderr
    assert "the library is broken" in written
    if "BatchExecuteStatement" in actions:
        assert "internal_error" in written  # it was logged, and the worker lived on
    _assert_nothing_hushed(written)


def test_keys_do_not_show_themselves() -> None:
    keys = Keys(*SECRETS.values())
    for text in (repr(keys), str(keys), f"{keys}", f"{[keys]}", f"{ {'keys': keys} }"):
        _assert_nothing_hushed(text)
    assert keys.session_token == SECRETS["AWS_SESSION_TOKEN"]


@pytest.mark.parametrize("name", list(SECRETS))
@pytest.mark.parametrize("bad", ["{}\n", " {}", "{}\r\nX-Header: 1", "{}\udcff", "{}…"])
def test_keys_that_are_not_whole_are_refused_without_being_told(name: str, bad: str) -> None:
    with pytest.raises(FrontierUnavailableError, match="copy it again") as raised:
        find_keys({**SECRETS, name: bad.format(SECRETS[name])})
    _assert_nothing_hushed(str(raised.value))


def test_what_aws_repeats_of_a_request_is_not_told() -> None:
    """Its refusal of a signature repeats the whole request that it has signed, the session token with it."""
    body = {
        "__type": "com.amazon.coral.service#InvalidSignatureException",
        "message": "The signature does not match.\n\nThe canonical string should have been\n'POST\n/\n\n"
        f"x-amz-security-token:{SECRETS['AWS_SESSION_TOKEN']}\n'",
    }
    error = _error(DYNAMODB, "Query", Received(400, {}, json.dumps(body).encode()), Keys(*SECRETS.values()))
    assert isinstance(error, AwsError)
    assert str(error) == "dynamodb Query: InvalidSignature: The signature does not match."


ECHOES: Final = {
    "refused in JSON": (400, '{{"__type": "IncompleteSignatureException", "message": "No {all} here"}}'),
    "denied in JSON": (400, '{{"__type": "AccessDeniedException", "message": "Not with {all}"}}'),
    "in the code": (400, '{{"__type": "{token}", "message": "{slashed}"}}'),
    "a proxy's page": (403, "<html><body>This was sent: {all}</body></html>"),
    "a long page": (403, "<p>" + "x" * 180 + "{all}</p>"),
    "trouble": (500, "<p>{all}</p>"),
    "no HTTP": (0, "HTTP/1.1 200 OK\r\n{token}\x01 : \x02{all}\r\n\r\n"),
    "no status": (0, "HTTP/1.1 {token} OK\r\n\r\n"),
    "a reason": (0, "HTTP/1.1 407 {token}\r\nContent-Length: 0\r\n\r\n"),
    "half a body": (0, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{token}\r\n"),
}


@pytest.mark.parametrize("kind", ECHOES)
@pytest.mark.parametrize("as_proxy", [False, True], ids=["as AWS", "as a proxy"])
async def test_what_an_answer_repeats_of_a_request_is_not_told(
    kind: str, as_proxy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever answers in AWS's place: its words reach a log, or a traceback with all that caused it."""
    status, said = ECHOES[kind]
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        with closing(writer):  # whether or not who asks has waited
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            asked += 1
            writer.write(answer_to(head).encode())

    def answer_to(head: str) -> str:
        headers = dict(line.split(": ", 1) for line in head.lower().splitlines()[1:] if line)
        authorization = next((line for line in head.splitlines() if "Credential=" in line), "")
        if "x-amz-security-token" in headers:
            assert SECRETS["AWS_SESSION_TOKEN"] in head
        token = SECRETS["AWS_SESSION_TOKEN"]
        everything = " ".join([authorization, token, quote(token, safe=""), *SECRETS.values(), f"//user:{PASSWORD}@h"])
        body = said.format(token=token, slashed=token.replace("/", "\\/"), all=everything)
        if not status:
            return body
        return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"

    monkeypatch.setattr("sqspider.frontier.aws.OPEN_SECONDS", 0.2)
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    place = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    environment = {**SECRETS, "AWS_REGION": "us-east-1", "TABLE_NAME": "t", "QUEUE_URL": f"{place}/1/crawl"}
    if as_proxy:
        environment["QUEUE_URL"] = "http://queue.invalid/1/crawl"
        environment["AWS_ENDPOINT_URL"] = "https://endpoint.invalid"
        environment["HTTPS_PROXY"] = environment["HTTP_PROXY"] = place.replace("//", f"//user:{PASSWORD}@")
    async with server:
        with pytest.raises(FrontierError) as raised:
            await AwsFrontier.open(FrontierSettings(), clock=time.time, environment=environment)
    assert asked
    told = "".join(traceback.format_exception(raised.value)) + repr(raised.value)
    _assert_nothing_hushed(told)
    assert "Signature=***" in told or "Signature" not in told
    assert "Basic " not in told.replace("Basic ***", "")


@pytest.mark.parametrize(
    "given",
    [
        {"QUEUE_URL": f"http://user:{PASSWORD}@127.0.0.1:9/1/crawl"},
        {"QUEUE_URL": f"http://user:{PASSWORD}@h"},
        {"QUEUE_URL": f"https://user:{PASSWORD}@sqs.us-east-1.amazonaws.com/1/crawl.fifo"},
        {"QUEUE_URL": f"http://user:{PASSWORD}@[::1/1/crawl"},
        {"QUEUE_URL": f"http://user:{PASSWORD}@h:99999/1/crawl"},
        {"AWS_ENDPOINT_URL": f"http://user:{PASSWORD}@127.0.0.1:9"},
        {"AWS_ENDPOINT_URL": f"http://user:{PASSWORD}@127.0.0.1:99999"},
        {"AWS_ENDPOINT_URL_DYNAMODB": f"http://user:{PASSWORD}@[::1"},
        {"AWS_ENDPOINT_URL_SQS": f"user:{PASSWORD}@127.0.0.1"},
        {"AWS_ENDPOINT_URL": f"http://user:{PASSWORD}@h", "AWS_USE_FIPS_ENDPOINT": "true"},
        {"HTTP_PROXY": f"http://user:{PASSWORD}@[::1"},
        {"HTTP_PROXY": f"http://user:{PASSWORD}@h:99999"},
        {"HTTP_PROXY": f"http://user:{PASSWORD}@"},
        {"http_proxy": f"user:{PASSWORD}:x@h:p"},
        {"HTTP_PROXY": f"socks5://user:{PASSWORD}@127.0.0.1:9"},
        {"AWS_CA_BUNDLE": f"http://user:{PASSWORD}@h/bundle"},
    ],
    ids=str,
)
async def test_an_address_that_cannot_be_used_is_refused_at_once_without_its_password(given: dict[str, str]) -> None:
    environment = {**SECRETS, "AWS_REGION": "us-east-1", "TABLE_NAME": "t", "QUEUE_URL": "http://127.0.0.1:9/1/crawl"}
    with pytest.raises(FrontierUnavailableError, match=r"_URL|_PROXY|_BUNDLE") as raised:
        await AwsFrontier.open(FrontierSettings(), clock=time.time, environment={**environment, **given})
    assert "tries" not in str(raised.value)
    _assert_nothing_hushed("".join(traceback.format_exception(raised.value)) + repr(raised.value))


def test_proxies_do_not_show_themselves() -> None:
    network = Network.read({"HTTPS_PROXY": PROXY})
    assert network.proxy_for("https://h/") == PROXY
    _assert_nothing_hushed(repr(network))
    _assert_nothing_hushed(repr(FrontierError(f"cannot use {PROXY}")))


def test_no_function_takes_a_bare_key() -> None:
    """Test runners show what functions were called with."""
    called = []

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename == signing.__file__:
            called.append(
                repr({name: frame.f_locals[name] for name in frame.f_code.co_varnames[: frame.f_code.co_argcount]})
            )

    sys.setprofile(note)
    try:
        Signer("us-east-1").sign(DYNAMODB, "Query", "http://127.0.0.1/", b"{}", Keys(*SECRETS.values()), 0.0)
    finally:
        sys.setprofile(None)
    assert len(called) > 2
    _assert_nothing_hushed("".join(called))


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "--frontier", PROXY],
        ["crawl", "http://h.invalid/", "--include", f"({PROXY}"],
        ["crawl", "http://h.invalid/", "--contact", f"{PROXY}\n"],
        ["crawl", "http://h.invalid/", "--user-agent", f"{PROXY}\n"],
        ["crawl", "http://h.invalid/", "--delay", PROXY],
        ["crawl", "http://h.invalid/", "--scope", PROXY],
        ["hosts", "set", PROXY, "--pause", "--delay", PROXY],
        [PROXY],
    ],
    ids=lambda arguments: " ".join(arguments[:2]).replace(PROXY, "URL") + f" {len(arguments)}",
)
def test_what_is_wrong_with_an_argument_is_told_without_its_password(sqspider: Run, arguments: list[str]) -> None:
    done = sqspider(*arguments)
    assert done.returncode == 2
    assert "://***@" in done.stderr
    _assert_nothing_hushed(done.stdout + done.stderr)


def test_what_is_wrong_with_a_setting_is_told_without_its_password() -> None:
    for wrong in ({"delay_seconds": PROXY}, {"include": (f"({PROXY}",)}, {"include": PROXY}, {"seed": PROXY}):
        with pytest.raises((TypeError, ValueError), match=r"//\*\*\*@") as raised:
            CrawlSettings(**wrong)
        _assert_nothing_hushed(str(raised.value))
