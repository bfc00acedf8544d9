"""A standard queue of SQS in this process, and its dead-letter queue: what SQS promises, and what it does not.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from sqspider.frontier import Clock

from .fake_service import FAIR, Fates, RefusedError, Weather

BATCH: Final = 10
MAX_DELAY_SECONDS: Final = 900
MAX_WAIT_SECONDS: Final = 20
MAX_VISIBILITY_SECONDS: Final = 43_200
MAX_MESSAGE_BYTES: Final = 1024 * 1024
PURGE_SECONDS: Final = 60.0
FIGURE_SECONDS: Final = 60.0  # between two points of CloudWatch's
KEPT_FIGURES_SECONDS: Final = 3600.0
LOOKED_AT: Final = 3  # receives, after which CloudWatch no longer takes a message for the oldest
_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_GROUP: Final = re.compile(r"[\w!\"#$%&'()*+,\-./:;<=>?@\[\\\]^`{|}~]{1,128}", re.ASCII)


class _Mail(msgspec.Struct, eq=False):
    id: str
    body: str
    sent_at: float
    visible_at: float
    is_delayed: bool
    receives: int = 0
    handle: str = ""  # of the last receive: no other is good
    received_at: float = 0.0  # by that


class FakeQueue:
    """A queue; ``dead_letters``: where what was received too often goes."""

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        rng: random.Random,
        visibility_seconds: float,
        dead_letters: FakeQueue | None = None,
        max_receives: int = 5,
        weather: Weather = FAIR,
    ) -> None:
        self.url = url
        self.name = url.rpartition("/")[2]
        self.messages: dict[str, _Mail] = {}  # in the order in which they were sent
        self.news = asyncio.Event()  # that something may be visible that was not
        self._clock, self._rng = clock, rng
        self._visibility_seconds = visibility_seconds
        self._dead_letters, self._max_receives = dead_letters, max_receives
        self._weather = weather
        self._numbers = 0
        self._purged_at = float("-inf")
        self._figures: deque[tuple[float, tuple[int, int, int]]] = deque()
        self._oldest: deque[tuple[float, float | None]] = deque([(clock(), None)])  # since when, and when it was sent

    def perform(self, action: str, request: Mapping[str, Any], fates: Fates) -> dict[str, Any]:
        """The answer to an action, at once. Raises :class:`RefusedError`."""
        actions: dict[str, Callable[[Mapping[str, Any], Fates], dict[str, Any]]] = {
            "ChangeMessageVisibilityBatch": self._change_message_visibility_batch,
            "DeleteMessageBatch": self._delete_message_batch,
            "GetQueueAttributes": self._get_queue_attributes,
            "PurgeQueue": self._purge_queue,
            "ReceiveMessage": self._receive_message,
            "SendMessageBatch": self._send_message_batch,
        }
        if action not in actions:
            raise RefusedError("UnknownOperationException", f"the fake has no {action}")
        try:
            return actions[action](request, fates)
        finally:
            self._note()

    def next_visible(self) -> float:
        """When a message can be received that cannot be now."""
        now = self._clock()
        return min((mail.visible_at for mail in self.messages.values() if mail.visible_at > now), default=float("inf"))

    def tell(self) -> None:
        """Wake long polls."""
        self.news.set()
        self.news = asyncio.Event()

    # Batches.

    def _each(
        self, request: Mapping[str, Any], fates: Fates, work: Callable[[Mapping[str, Any]], None]
    ) -> dict[str, Any]:
        """Do the same with each entry of a batch; each is answered by itself."""
        entries = request["Entries"]
        if not entries:
            raise RefusedError("AWS.SimpleQueueService.EmptyBatchRequest", "There should be at least one entry")
        if len(entries) > BATCH:
            raise RefusedError("AWS.SimpleQueueService.TooManyEntriesInBatchRequest", f"Maximum number is {BATCH}")
        if len({entry["Id"] for entry in entries}) < len(entries):
            raise RefusedError("AWS.SimpleQueueService.BatchEntryIdsNotDistinct", "Id repeated")
        good: list[dict[str, Any]] = []
        bad: list[dict[str, Any]] = []
        for entry in entries:
            try:
                if fates.strikes():
                    if fates.rng.random() < 0.5:  # it was done, and nobody is told
                        work(entry)
                    raise RefusedError("InternalError", "injected", status=500)
                work(entry)
                good.append({"Id": entry["Id"]})
            except RefusedError as error:
                fault = error.status < 500
                bad.append({"Id": entry["Id"], "Code": error.code, "Message": str(error), "SenderFault": fault})
        return {"Successful": good, "Failed": bad}

    def _send_message_batch(self, request: Mapping[str, Any], fates: Fates) -> dict[str, Any]:
        sizes = [len(entry["MessageBody"].encode("utf-8", "surrogatepass")) for entry in request["Entries"]]
        if sum(sizes) > MAX_MESSAGE_BYTES:
            raise RefusedError("AWS.SimpleQueueService.BatchRequestTooLong", "Batch requests cannot be longer")
        answer = self._each(request, fates, self._send)
        self.tell()
        return answer

    def _send(self, entry: Mapping[str, Any]) -> None:
        body, delay, group = entry["MessageBody"], entry.get("DelaySeconds", 0), entry.get("MessageGroupId")
        if not body:
            raise RefusedError("InvalidParameterValue", "Value for parameter MessageBody is invalid: it is empty")
        if _FORBIDDEN.search(body):
            raise RefusedError("InvalidMessageContents", "Invalid characters found")
        if not isinstance(delay, int) or not 0 <= delay <= MAX_DELAY_SECONDS:
            raise RefusedError("InvalidParameterValue", f"Value {delay} for parameter DelaySeconds is invalid")
        if group is not None and not _GROUP.fullmatch(group):
            raise RefusedError("InvalidParameterValue", f"Value {group} for parameter MessageGroupId is invalid")
        now = self._clock()
        if now < self._purged_at + PURGE_SECONDS and self._strikes(self._weather.purged):
            return
        self._numbers += 1
        mail = _Mail(f"{self.name}-{self._numbers}", body, now, now + delay, delay > 0)
        self.messages[mail.id] = mail

    def _delete_message_batch(self, request: Mapping[str, Any], fates: Fates) -> dict[str, Any]:
        return self._each(request, fates, self._delete)

    def _delete(self, entry: Mapping[str, Any]) -> None:
        mail = self._of(entry["ReceiptHandle"])
        # What is gone, or somebody else's by now, is deleted without effect.
        if mail is not None and not self._strikes(self._weather.undeleted):
            del self.messages[mail.id]

    def _change_message_visibility_batch(self, request: Mapping[str, Any], fates: Fates) -> dict[str, Any]:
        answer = self._each(request, fates, self._change_visibility)
        self.tell()
        return answer

    def _change_visibility(self, entry: Mapping[str, Any]) -> None:
        mail, seconds, now = self._of(entry["ReceiptHandle"]), entry["VisibilityTimeout"], self._clock()
        if not 0 <= seconds <= MAX_VISIBILITY_SECONDS:
            raise RefusedError("InvalidParameterValue", f"Value {seconds} for parameter VisibilityTimeout is invalid")
        if mail is None or mail.visible_at <= now:
            raise RefusedError("AWS.SimpleQueueService.MessageNotInflight", "the message is not in flight")
        if now + seconds > mail.received_at + MAX_VISIBILITY_SECONDS:
            raise RefusedError("InvalidParameterValue", "Total VisibilityTimeout for the message is beyond the limit")
        mail.visible_at = now + seconds

    def _of(self, handle: str) -> _Mail | None:
        """The message of a receipt handle; none if it is gone, or was received again since."""
        message_id, separator, _ = handle.partition("/")
        if not separator:
            raise RefusedError("ReceiptHandleIsInvalid", f"The input receipt handle {handle!r} is not valid")
        mail = self.messages.get(message_id)
        return mail if mail is not None and mail.handle == handle else None

    # Single actions.

    def _receive_message(self, request: Mapping[str, Any], _: Fates) -> dict[str, Any]:
        most = request.get("MaxNumberOfMessages", 1)
        if not 1 <= most <= BATCH or not 0 <= request.get("WaitTimeSeconds", 0) <= MAX_WAIT_SECONDS:
            raise RefusedError("InvalidParameterValue", f"a limit is exceeded: {dict(request)}")
        now = self._clock()
        visible = [mail for mail in self.messages.values() if mail.visible_at <= now]
        if self._weather.disorder:
            self._rng.shuffle(visible)
        received: list[dict[str, Any]] = []
        for mail in visible:
            if len(received) == most:
                break
            if self._dead_letters is not None and mail.receives >= self._max_receives:
                del self.messages[mail.id]
                self._dead_letters.bury(mail)
            else:
                received.append(self._received(mail, now + request.get("VisibilityTimeout", self._visibility_seconds)))
        return {"Messages": received} if received else {}

    def _received(self, mail: _Mail, until: float) -> dict[str, Any]:
        mail.receives += 1
        mail.received_at = self._clock()
        mail.is_delayed = False
        mail.handle = f"{mail.id}/{mail.receives}/{self._rng.getrandbits(32):08x}"
        if not self._strikes(self._weather.duplicate):  # else another server gives it to somebody else, too
            mail.visible_at = until
        return {
            "MessageId": mail.id,
            "ReceiptHandle": mail.handle,
            "Body": mail.body,
            "Attributes": {
                "ApproximateReceiveCount": str(mail.receives),
                "SentTimestamp": str(int(mail.sent_at * 1000)),
            },
        }

    def bury(self, mail: _Mail) -> None:
        """Take a message from the queue that this is the dead-letter queue of."""
        mail.receives, mail.visible_at = 0, self._clock()
        self.messages[mail.id] = mail
        self.tell()
        self._note()

    def _purge_queue(self, _: Mapping[str, Any], __: Fates) -> dict[str, Any]:
        now = self._clock()
        if now < self._purged_at + PURGE_SECONDS:
            raise RefusedError("AWS.SimpleQueueService.PurgeQueueInProgress", "Only one PurgeQueue in 60 seconds")
        self._purged_at = now
        self.messages.clear()
        return {}

    def _get_queue_attributes(self, _: Mapping[str, Any], __: Fates) -> dict[str, Any]:
        names = (
            "ApproximateNumberOfMessages",
            *(f"ApproximateNumberOfMessages{kind}" for kind in ("NotVisible", "Delayed")),
        )
        attributes = {name: str(figure) for name, figure in zip(names, self._shown_figures(), strict=True)}
        attributes["VisibilityTimeout"] = str(round(self._visibility_seconds))
        attributes["QueueArn"] = self.arn
        if self._dead_letters is not None:
            policy = {"deadLetterTargetArn": self._dead_letters.arn, "maxReceiveCount": self._max_receives}
            attributes["RedrivePolicy"] = json.dumps(policy)
        return {"Attributes": attributes}

    @property
    def arn(self) -> str:
        return f"arn:aws:sqs:us-east-1:000000000000:{self.name}"

    # Figures.

    def _strikes(self, chance: float) -> bool:
        return chance > 0 and self._rng.random() < chance

    def _figures_now(self) -> tuple[int, int, int]:
        now = self._clock()
        hidden = [mail for mail in self.messages.values() if mail.visible_at > now]
        delayed = sum(mail.is_delayed for mail in hidden)
        return len(self.messages) - len(hidden), len(hidden) - delayed, delayed

    def _shown_figures(self) -> tuple[int, int, int]:
        """Those of a while ago, where they lag."""
        self._note()
        return self._figures[0][1] if self._weather.figures_lag else self._figures_now()

    def _note(self) -> None:
        """Keep what figures will be asked for."""
        now = self._clock()
        if self._weather.figures_lag:
            self._figures.append((now, self._figures_now()))
            while len(self._figures) > 1 and self._figures[1][0] <= now - self._weather.figures_lag:
                self._figures.popleft()
        oldest = next((mail.sent_at for mail in self.messages.values() if mail.receives <= LOOKED_AT), None)
        if oldest != self._oldest[-1][1]:
            self._oldest.append((now, oldest))
        while len(self._oldest) > 1 and self._oldest[1][0] < now - KEPT_FIGURES_SECONDS:
            self._oldest.popleft()

    def oldest_ages(self, since: float, until: float) -> dict[float, float]:
        """CloudWatch's maximum of the oldest message's age by minute: of each minute that is over, and was told."""
        told = self._clock() - self._weather.figures_lag
        ages: dict[float, float] = {}
        ends = [*(start for start, _ in list(self._oldest)[1:]), float("inf")]
        minute = since - since % FIGURE_SECONDS
        while minute < until and minute + FIGURE_SECONDS <= told:
            for (start, sent_at), end in zip(self._oldest, ends, strict=True):
                if sent_at is not None and start < minute + FIGURE_SECONDS and end > minute:
                    age = min(end, minute + FIGURE_SECONDS) - sent_at
                    ages[minute] = max(age, ages.get(minute, 0.0))
            minute += FIGURE_SECONDS
        return {minute: age for minute, age in ages.items() if minute >= since}
