"""One SQS queue, in batches: what failed of a batch is tried again alone, what SQS refuses is told of each message.

Which message says what is not here: see ``messages``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from sqspider.frontier.aws.batches import batches, together
from sqspider.frontier.aws.client import AwsClient
from sqspider.frontier.aws.errors import AwsError, Meaning, for_people
from sqspider.frontier.aws.outgoing import Outgoing
from sqspider.frontier.aws.transport import SQS
from sqspider.frontier.values import FrontierUnavailableError

SQS_BATCH: Final = 10
MAX_SEND_BYTES: Final = 1_000_000  # SQS takes 1 MiB in all messages of a batch


class Live(NamedTuple):
    """How many messages there are that live."""

    visible: int
    in_flight: int
    delayed: int


class Redrive(NamedTuple):
    """What becomes of a message that is received again and again."""

    max_receives: int
    dead_letters: Queue  # where it goes then


class Rules(NamedTuple):
    """What a queue does with messages that nobody ends."""

    visibility_seconds: float  # then they are visible again
    redrive: Redrive | None  # none: for ever


class Queue:
    """An SQS queue."""

    def __init__(self, client: AwsClient, url: str) -> None:
        self.url = url
        self.name = url.rpartition("/")[2]
        self._client = client

    async def _call(self, action: str, request: dict[str, Any], *, wait_seconds: float = 0.0) -> dict[str, Any]:
        try:
            answer = await self._client.call(SQS, action, {"QueueUrl": self.url, **request}, wait_seconds=wait_seconds)
        except AwsError as error:
            if error.meaning is Meaning.GONE:
                region = self._client.region
                raise FrontierUnavailableError(
                    f"there is no queue {self.url} in {region}: see QUEUE_URL and AWS_REGION"
                ) from error
            raise
        return answer.body

    async def live_messages(self) -> Live:
        """SQS's figures are approximate, and about a minute behind under load."""
        attributes = await self._attributes()
        return Live(
            int(attributes.get("ApproximateNumberOfMessages", 0)),
            int(attributes.get("ApproximateNumberOfMessagesNotVisible", 0)),
            int(attributes.get("ApproximateNumberOfMessagesDelayed", 0)),
        )

    async def _attributes(self) -> dict[str, str]:
        answer = await self._call("GetQueueAttributes", {"AttributeNames": ["All"]})
        attributes: dict[str, str] = answer.get("Attributes") or {}
        return attributes

    async def rules(self) -> Rules:
        """What the queue does by itself, as it is set up."""
        attributes = await self._attributes()
        if "VisibilityTimeout" not in attributes:
            raise FrontierUnavailableError(f"what answers at {self.url} is no SQS: it names no visibility timeout")
        visibility_seconds = float(attributes["VisibilityTimeout"])
        policy = msgspec.json.decode(attributes.get("RedrivePolicy") or "{}")
        if "deadLetterTargetArn" not in policy:
            return Rules(visibility_seconds, None)
        name = policy["deadLetterTargetArn"].rpartition(":")[2]  # always of the same account and region
        dead_letters = Queue(self._client, self.url.rpartition("/")[0] + "/" + name)
        return Rules(visibility_seconds, Redrive(int(policy["maxReceiveCount"]), dead_letters))

    async def receive(
        self, limit: int, wait_seconds: int, *, visibility_seconds: int | None = None
    ) -> list[dict[str, Any]]:
        """At most ten messages, hidden for the queue's own visibility timeout or another."""
        request = {
            "MaxNumberOfMessages": min(limit, SQS_BATCH),
            "WaitTimeSeconds": wait_seconds,
            "AttributeNames": ["ApproximateReceiveCount", "SentTimestamp"],
        }
        if visibility_seconds is not None:
            request["VisibilityTimeout"] = visibility_seconds
        answer = await self._call("ReceiveMessage", request, wait_seconds=wait_seconds)
        return answer.get("Messages") or []

    async def show(self, handles: Sequence[str]) -> None:
        """Make messages that were received visible again."""
        await self.hide(handles, 0)

    async def hide(self, handles: Sequence[str], seconds: int) -> list[str]:
        """Hide messages that were received for so long from now, twelve hours in all at most.

        For each why SQS will not, an empty text where it does. A handle that is stale changes nothing.
        """
        entries = [{"ReceiptHandle": handle, "VisibilityTimeout": seconds} for handle in handles]
        hidden = await together(self._batch("ChangeMessageVisibilityBatch", it) for it in batches(entries, SQS_BATCH))
        return [refusal for part in hidden for refusal in part]

    async def purge(self) -> None:
        """Remove all messages, within a minute. Raises :class:`~.errors.AwsError` if that was done just now."""
        await self._call("PurgeQueue", {})

    async def send(self, messages: Sequence[Outgoing]) -> list[str]:
        """Send messages; for each why SQS will never take it, an empty text where it has taken it."""
        parts: list[list[Outgoing]] = []
        size = 0
        for message in messages:
            length = len(message.body.encode())
            if not parts or len(parts[-1]) == SQS_BATCH or size + length > MAX_SEND_BYTES:
                parts.append([])
                size = 0
            parts[-1].append(message)
            size += length
        refusals = await together(
            self._batch("SendMessageBatch", [message.entry() for message in part]) for part in parts
        )
        return [refusal for part in refusals for refusal in part]

    async def delete(self, handles: Sequence[str]) -> None:
        """Delete messages that were received. A handle that is stale changes nothing."""
        entries = [{"ReceiptHandle": handle} for handle in dict.fromkeys(handles)]
        await together(self._batch("DeleteMessageBatch", batch) for batch in batches(entries, SQS_BATCH))

    async def _batch(self, action: str, entries: list[dict[str, Any]]) -> list[str]:
        """One batch call; of a partial failure, what failed is tried again alone. Why entries were refused."""
        waiting = {str(i): {"Id": str(i), **entry} for i, entry in enumerate(entries)}
        refusals: dict[str, str] = {}
        backoff = self._client.backoff(action)
        while waiting:
            try:
                answer = await self._call(action, {"Entries": list(waiting.values())})
            except AwsError as refusal:
                if refusal.meaning is not Meaning.REFUSED:
                    raise
                if len(entries) == 1:
                    return [refusal.message or refusal.code]
                each = await together(self._batch(action, [entries[int(name)]]) for name in waiting)
                refusals |= {name: why for name, (why,) in zip(waiting, each, strict=True)}
                break
            for done in answer.get("Successful") or []:
                waiting.pop(done["Id"], None)
            for failure in answer.get("Failed") or []:
                why = self._final(action, failure)
                if why is not None:
                    waiting.pop(failure["Id"], None)
                    refusals[failure["Id"]] = why
            if waiting:
                await backoff.wait(f"{len(waiting)} of {len(entries)} entries failed")
        return [refusals.get(str(i), "") for i in range(len(entries))]

    def _final(self, action: str, failure: Mapping[str, Any]) -> str | None:
        """Why an entry of a batch is refused for good; empty if it is over already, none if it may succeed yet."""
        status = 400 if failure.get("SenderFault") else 500
        error = AwsError(SQS, action, str(failure.get("Code", "")), str(failure.get("Message", "")), status)
        if "ReceiptHandleIsInvalid" in error.code or "MessageNotInflight" in error.code:
            return ""  # stale: the message is no longer this delivery's
        if error.meaning is Meaning.REFUSED:
            return error.message or error.code
        if error.meaning in (Meaning.LATER, Meaning.UNSURE):
            return None
        raise for_people(error, self._client.region)
