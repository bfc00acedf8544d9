"""A lean client for the AWS services that the frontier lives on.

SQS, DynamoDB and CloudWatch all take a signed JSON document by POST (AWS JSON 1.0). A call is signed, sent, read, and
made anew until there is an answer. What the documents say is not here (see ``table``, ``queue`` and ``points``), nor
how they are sent (see ``transport``). Why this is no SDK stands in ``docs/dependencies.md``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from sqspider.frontier.aws.backoff import Backoff
from sqspider.frontier.aws.clock import AwsClock
from sqspider.frontier.aws.credentials import Keys, KeySource, masked
from sqspider.frontier.aws.errors import AwsError, Meaning, for_people, most_telling
from sqspider.frontier.aws.signing import Signer
from sqspider.frontier.aws.transport import CLOUDWATCH, NoAnswerError, Received, Sent, Service, Transport

GIVE_UP_SECONDS: Final = 30.0  # of trying one call again and again
MAX_MESSAGE_CHARACTERS: Final = 1000  # of what is told of an answer


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

    def backoff(self, action: str) -> Backoff:
        """The waits between tries of an action, by this client's patience."""
        return Backoff(action, give_up_seconds=self.give_up_seconds, rng=self._rng)

    async def call(
        self, service: Service, action: str, request: Mapping[str, Any], *, wait_seconds: float = 0.0
    ) -> Answer:
        """Call an action until there is an answer. ``wait_seconds``: how long it may wait on purpose.

        Raises :class:`AwsError` where AWS refuses for good, :class:`FrontierBusyError` where it
        throttles, fails or cannot be reached for :data:`GIVE_UP_SECONDS`, and
        :class:`FrontierUnavailableError` where the keys are not good, or not allowed to.
        """
        backoff = self.backoff(f"{service.name} {action}")
        document = msgspec.json.encode(request)
        is_unsure = is_alone = False
        refused: Keys | None = None
        while True:
            trouble: str
            offset, keys = self._clock.offset, await self._keys.keys(refused)
            sent = self._signed(service, action, document, keys, wait_seconds=wait_seconds, is_alone=is_alone)
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
                trouble = masked(str(error), keys)
            finally:
                for observer in self.observers:
                    observer(Call(service, action, request, answer))
            # Out of the except clause: what caused it stays out of tracebacks, for it may repeat what was sent.
            await backoff.wait(trouble)

    def _signed(
        self, service: Service, action: str, document: bytes, keys: Keys, *, wait_seconds: float, is_alone: bool
    ) -> Sent:
        endpoint = self._endpoints[service]
        headers = self._signer.sign(service, action, endpoint, document, keys, self._clock())
        return Sent(service, action, endpoint, headers, document, wait_seconds, is_alone)

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
    code = masked(most_telling([str(answer.get("__type") or answer.get("code") or ""), older]), keys)
    said = str(answer.get("message") or answer.get("Message") or received.document.decode(errors="replace"))
    # What follows the first line repeats the signed request. (A proxy's page may repeat it in the first.)
    message = masked(said.strip().partition("\n")[0], keys)[:MAX_MESSAGE_CHARACTERS]
    return AwsError(service, action, code or f"HTTP {received.status}", message, received.status)
