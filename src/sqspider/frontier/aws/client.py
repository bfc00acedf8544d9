"""A lean client for the AWS services that the frontier lives on.

SQS, DynamoDB and CloudWatch all take a signed JSON document by POST (AWS JSON 1.0): signing,
retries and typed errors are here. What the documents say is not (see ``aws``), nor how they are sent
(see ``aws_transport``). Why this is no SDK stands in ``docs/dependencies.md``.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import html
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import quote

import msgspec
import structlog

from sqspider.frontier import FrontierBusyError, FrontierError, FrontierUnavailableError
from sqspider.frontier.aws.clock import AwsClock
from sqspider.frontier.aws.errors import Meaning, meaning_of, most_telling
from sqspider.frontier.aws.transport import CLOUDWATCH, NoAnswerError, Received, Sent, Service, Transport

CONTENT_TYPE: Final = "application/x-amz-json-1.0"
ALGORITHM: Final = "AWS4-HMAC-SHA256"
GIVE_UP_SECONDS: Final = 30.0  # of trying one call again and again
FIRST_PAUSE_SECONDS: Final = 0.05  # before the second try; it doubles, with full jitter
LONGEST_PAUSE_SECONDS: Final = 5.0
CREDENTIALS_KEPT_SECONDS: Final = 60.0  # before a source outside the environment is asked again
MAX_MESSAGE_CHARACTERS: Final = 1000  # of what is told of an answer
SHORTEST_KEY: Final = 16  # of AWS's; what engines that stand in for it take may be any word of a text
_SIGNED: Final = re.compile(r"(Signature=|Basic )[\w+/=]+")  # and what a proxy is told

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Keys:
    """What requests are signed with. They do not show themselves (as a tuple would to a JSON log)."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


class KeySource(Protocol):
    """Where keys come from; asked before every call."""

    async def keys(self, refused: Keys | None = None) -> Keys:
        """The keys; others than those that AWS ``refused``, if there are any by now."""


class AwsError(FrontierError):
    """AWS refused a call: its code and what that means, what it says, and the call that it refused."""

    def __init__(self, service: Service, action: str, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{service.name} {action}: {code}: {message}")
        self.service = service
        self.action = action
        self.code = code
        self.meaning = meaning_of(code, status)
        self.message = message


class Answer(NamedTuple):
    """The answer to a call."""

    body: dict[str, Any]
    is_unsure: bool  # an earlier try got no clear answer: it may have been carried out


class Call(NamedTuple):
    """One request that was sent, as observers get it."""

    service: Service
    action: str
    request: Mapping[str, Any]
    answer: Mapping[str, Any] | None  # none: refused, or no answer


Observer = Callable[[Call], None]


class AwsClient:
    """Calls SQS and DynamoDB. Observers see every request that is sent, each try by itself."""

    def __init__(
        self,
        keys: KeySource,
        *,
        region: str,
        endpoints: Mapping[Service, str],
        transport: Transport,
        rng: random.Random,
        clock: AwsClock,
        give_up_seconds: float = GIVE_UP_SECONDS,
    ) -> None:
        self._keys = keys
        self.region = region
        self._endpoints = endpoints
        self._transport = transport
        self._rng = rng
        self._clock = clock
        self.give_up_seconds = give_up_seconds
        self._signer = Signer(region)
        self.observers: list[Observer] = []

    async def close(self) -> None:
        await self._transport.close()

    async def wake(self) -> None:
        """Let go of connections that went stale while this process was frozen. No call may be under way."""
        await self._transport.wake()

    def pause_before(self, tries: int) -> float:
        """How long to wait in seconds after so many tries: doubling, with full jitter."""
        longest = min(FIRST_PAUSE_SECONDS * 2**tries, LONGEST_PAUSE_SECONDS)
        return self._rng.uniform(longest / 10, longest)

    async def call(
        self, service: Service, action: str, request: Mapping[str, Any], *, wait_seconds: float = 0.0
    ) -> Answer:
        """Call an action until there is an answer. ``wait_seconds``: how long it may wait on purpose.

        Raises :class:`AwsError` where AWS refuses for good, :class:`FrontierBusyError` where it
        throttles, fails or cannot be reached for :data:`GIVE_UP_SECONDS`, and
        :class:`FrontierUnavailableError` where the keys are not good, or not allowed to.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self.give_up_seconds
        document = msgspec.json.encode(request)
        is_unsure = is_alone = False
        refused: Keys | None = None
        tries = 0
        while True:
            tries += 1
            trouble: str
            offset, keys = self._clock.offset, await self._keys.keys(refused)
            endpoint = self._endpoints[service]
            headers = self._signer.sign(service, action, endpoint, document, keys, self._clock())
            sent = Sent(service, action, endpoint, headers, document, wait_seconds, is_alone)
            answer: dict[str, Any] | None = None
            try:
                answer = await self._ask(sent, keys)
                return Answer(answer, is_unsure)
            except AwsError as error:
                may_be_signed_anew = keys != refused or offset != self._clock.offset
                if error.meaning is Meaning.CREDENTIALS and may_be_signed_anew:
                    refused = keys
                elif error.meaning not in (Meaning.LATER, Meaning.UNSURE):
                    raise for_people(error, self.region) from error
                is_unsure = is_unsure or error.meaning is Meaning.UNSURE
                trouble = str(error)
            except NoAnswerError as error:
                is_unsure = is_unsure or error.may_have_arrived
                is_alone = True  # other kept connections may be as dead
                trouble = _without(keys, str(error))
            finally:
                for observer in self.observers:
                    observer(Call(service, action, request, answer))
            pause = self.pause_before(tries)
            if loop.time() + pause > give_up_at:
                # What caused it stays out of tracebacks: it may repeat what was sent.
                raise FrontierBusyError(
                    f"{service.name} {action} did not succeed in {tries} tries ({trouble}): "
                    "nothing is lost, try again later"
                )
            await asyncio.sleep(pause)

    async def _ask(self, sent: Sent, keys: Keys) -> dict[str, Any]:
        """What a request is answered. Raises :class:`AwsError` and :class:`NoAnswerError`."""
        sent_at = self._clock.own()
        received = await self._transport.post(sent)
        if sent.service is not CLOUDWATCH:  # leases are in the table, timeouts in the queue
            self._clock.see(received.headers.get("date", ""), sent_at, self._clock.own())
        if received.status != 200:
            raise _error(sent.service, sent.action, received, keys)
        answer = _decode(received.document)
        if answer is None:
            raise NoAnswerError("the answer is no JSON object")
        return answer


class Signer:
    """Signs requests: AWS Signature Version 4, for POSTs of a JSON document to ``/``.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """

    def __init__(self, region: str) -> None:
        self._region = region
        self._derived: dict[tuple[Keys, str, str], bytes] = {}  # by keys, day and service

    def sign(
        self, service: Service, action: str, endpoint: str, document: bytes, keys: Keys, now: float
    ) -> dict[str, str]:
        """The headers of a request at ``now`` (seconds since the epoch)."""
        moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
        day = moment[:8]
        headers = {
            "content-type": CONTENT_TYPE,
            "host": endpoint.partition("://")[2].partition("/")[0],
            "x-amz-date": moment,
            "x-amz-target": f"{service.target}.{action}",
        }
        if keys.session_token:
            headers["x-amz-security-token"] = keys.session_token
        names = sorted(headers)
        signed = ";".join(names)
        lines = "".join(f"{name}:{headers[name]}\n" for name in names)
        digest = hashlib.sha256(document).hexdigest()
        canonical = f"POST\n/\n\n{lines}\n{signed}\n{digest}"
        scope = f"{day}/{self._region}/{service.name}/aws4_request"
        text = f"{ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = self._key(keys, day, service.name)
        signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        headers["authorization"] = (
            f"{ALGORITHM} Credential={keys.access_key_id}/{scope}, SignedHeaders={signed}, Signature={signature}"
        )
        return headers

    def _key(self, keys: Keys, day: str, service: str) -> bytes:
        derived = self._derived.get((keys, day, service))
        if derived is None:
            derived = f"AWS4{keys.secret_access_key}".encode()
            for part in (day, self._region, service, "aws4_request"):
                derived = hmac.new(derived, part.encode(), hashlib.sha256).digest()
            if len(self._derived) >= 4:  # the keys or the day have changed
                self._derived.clear()
            self._derived[(keys, day, service)] = derived
        return derived


class EnvironmentKeys:
    """Keys from the environment, as AWS Lambda hands them to a function."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def keys(self, refused: Keys | None = None) -> Keys:  # noqa: ARG002 - there are no others
        return self._keys


# What sources of keys raise besides botocore's own errors: a program that is missing or prints
# something else, keys that were renewed and are old all the same.
_KEY_TROUBLE: Final = (OSError, RuntimeError, ValueError, KeyError)


class BotocoreKeys:
    """Keys from wherever botocore finds them: profiles, SSO, containers, instances, assumed roles.

    botocore costs 15 MB and a quarter of a second, so it is imported only where the environment
    holds no keys.
    """

    def __init__(self) -> None:
        self._found: Any = None  # botocore's credentials, which refresh themselves
        self._current: Keys | None = None
        self._read_at = 0.0
        self._lock = asyncio.Lock()

    async def keys(self, refused: Keys | None = None) -> Keys:
        async with self._lock:
            now = time.monotonic()
            is_known = self._current is not None and self._current != refused
            if self._current is None or not is_known or now - self._read_at > CREDENTIALS_KEPT_SECONDS:
                self._read_at = now
                try:
                    self._current = await asyncio.to_thread(self._read)
                except FrontierUnavailableError as error:
                    if self._current is None or not is_known:
                        raise
                    # They are renewed minutes before their end: until then the old ones do.
                    log.warning("credentials_not_renewed", error=str(error))
            return self._current

    def _read(self) -> Keys:
        try:
            import botocore.exceptions
            import botocore.session
        except ImportError:
            raise FrontierUnavailableError(
                "there are no AWS credentials in the environment: set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY; profiles, SSO and roles need pip install 'sqspider[aws]'"
            ) from None

        try:
            if self._found is None:
                self._found = botocore.session.get_session().get_credentials()
            if self._found is None:
                raise FrontierUnavailableError(
                    "there are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                    "or AWS_PROFILE after 'aws configure' or 'aws sso login'"
                )
            frozen = self._found.get_frozen_credentials()
        except (*_KEY_TROUBLE, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            raise FrontierUnavailableError(
                f"the AWS credentials cannot be had ({error}): log in again, or see AWS_PROFILE"
            ) from error
        return _usable(Keys(frozen.access_key, frozen.secret_key, frozen.token))


def find_keys(environment: Mapping[str, str]) -> KeySource:
    """The keys in the environment, or else whatever botocore finds."""
    key_id, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if key_id and secret:
        return EnvironmentKeys(_usable(Keys(key_id, secret, environment.get("AWS_SESSION_TOKEN") or None)))
    return BotocoreKeys()


def _usable(keys: Keys) -> Keys:
    """The same keys. Raises :class:`FrontierUnavailableError` if they cannot stand in a header."""
    for name in Keys.__slots__:
        value = getattr(keys, name)
        if value is not None and not (value.isascii() and value.isprintable() and " " not in value):
            raise FrontierUnavailableError(
                f"the AWS credentials are not whole: a blank, a line end or a character that is not ASCII is in the "
                f"{name.replace('_', ' ')}: copy it again"
            )
    return keys


def _decode(body: bytes) -> dict[str, Any] | None:
    try:
        answer = msgspec.json.decode(body or b"{}")
    except msgspec.DecodeError:
        return None
    return answer if isinstance(answer, dict) else None


def _error(service: Service, action: str, received: Received, keys: Keys) -> AwsError:
    """The error that an answer states. SQS keeps its older codes in a header of their own."""
    answer = _decode(received.document) or {}
    older = received.headers.get("x-amzn-query-error", "").partition(";")[0]
    code = _without(keys, most_telling([str(answer.get("__type") or answer.get("code") or ""), older]))
    said = str(answer.get("message") or answer.get("Message") or received.document.decode(errors="replace"))
    # What follows the first line repeats the signed request. (A proxy's page may repeat it in the first.)
    message = _without(keys, said.strip().partition("\n")[0])[:MAX_MESSAGE_CHARACTERS]
    return AwsError(service, action, code or f"HTTP {received.status}", message, received.status)


def _without(keys: Keys, text: str) -> str:
    """A text from outside, with ``***`` for the keys and what was signed with them, as HTML and JSON write them too."""
    for name in Keys.__slots__:
        value = getattr(keys, name) or ""
        if len(value) >= SHORTEST_KEY:
            for written in (value, value.replace("/", "\\/"), html.escape(value), quote(value), quote(value, safe="")):
                text = text.replace(written, "***")
    return _SIGNED.sub(r"\1***", text)


def for_people(error: AwsError, region: str) -> FrontierError:
    """What a final refusal means for whoever started this."""
    if error.meaning is Meaning.CREDENTIALS:
        return FrontierUnavailableError(
            f"AWS does not take these credentials ({error.message}): see AWS_ACCESS_KEY_ID or AWS_PROFILE, "
            "and this machine's clock"
        )
    if error.meaning is Meaning.DENIED:
        return _access_denied(error, region)
    return error


def _access_denied(error: AwsError, region: str) -> FrontierUnavailableError:
    """The refusal with the permission that is missing, as AWS names it or as the call needs it."""
    named = re.search(r"perform: (\S+)", error.message)
    # A batch of SQS needs the permission of the single action.
    permission = named[1] if named else f"{error.service.name}:{error.action.removesuffix('Batch')}"
    return FrontierUnavailableError(
        f"access denied in {region}: these credentials lack the permission {permission} "
        f"({error.message or error.code}): grant it to their role or user"
    )
