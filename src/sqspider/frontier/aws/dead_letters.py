"""Messages that died: looking at them, and putting them back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from sqspider.frontier.aws.messages import Messages
from sqspider.frontier.aws.queue import Queue
from sqspider.frontier.values import DeadLetter

DEAD_LETTER_SECONDS: Final = 60  # how long dead letters are hidden while they are read


class DeadLetters(Messages):
    """The dead-letter queue."""

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        redrive = self._rules.redrive
        if redrive is None:
            return []
        queue = redrive.dead_letters
        found = [message async for messages in self._receive_dead(queue, limit) for message in messages]
        await queue.show([message["ReceiptHandle"] for message in found])
        letters = [
            DeadLetter(
                message_id=message["MessageId"],
                body=message["Body"],
                receive_count=redrive.max_receives,  # SQS counts on when they are looked at
                sent_at=int(message["Attributes"]["SentTimestamp"]) / 1000,
            )
            for message in found
        ]
        return sorted(letters, key=lambda letter: letter.sent_at)

    async def redrive(self, limit: int = 1000) -> int:
        if self._rules.redrive is None:
            return 0
        queue = self._rules.redrive.dead_letters
        moved = 0
        async for messages in self._receive_dead(queue, limit):
            await self.send([message["Body"] for message in messages])
            await queue.delete([message["ReceiptHandle"] for message in messages])
            moved += len(messages)
        return moved

    async def _receive_dead(self, queue: Queue, limit: int) -> AsyncIterator[list[dict[str, Any]]]:
        left = limit
        while left > 0:
            # Waiting a second asks all of SQS's servers, not a few.
            messages = await queue.receive(left, 1, visibility_seconds=DEAD_LETTER_SECONDS)
            if not messages:
                return
            left -= len(messages)
            yield messages
