"""No secret is written, whatever goes wrong: keys, session tokens, passwords of proxies."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from sqspider.frontier import FrontierSettings, FrontierUnavailableError
from sqspider.frontier.aws_client import DYNAMODB, AwsError, Keys, _error, find_keys
from tests.aws.engines import Engines
from tests.aws.store import AwsStore

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
    signing = sys._getframe(1).f_locals
    if signing.get("action") in {actions!r}:
        raise RuntimeError("the library is broken")
    return new(*arguments, **more)
hmac.new = broken
"""
IN_PROCESS: Final = """
import asyncio, gc, json, logging, os, sys, threading
import aiohttp, structlog
from sqspider.frontier.aws_client import DYNAMODB, Signer, find_keys
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
    error = _error(DYNAMODB, "Query", 400, {}, json.dumps(body).encode())
    assert isinstance(error, AwsError)
    assert str(error) == "dynamodb Query: InvalidSignature: The signature does not match."
