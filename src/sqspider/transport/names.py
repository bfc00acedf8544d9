"""Looks names up: once for a minute, in threads of its own, so that no name holds up another or the loop."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import OrderedDict
from contextlib import suppress
from queue import SimpleQueue
from typing import Final, NamedTuple, Protocol

from sqspider.transport.addresses import AddressRefusedError, why_not_public

CACHE_SECONDS: Final = 60.0
MAX_NAMES: Final = 10_000
THREADS: Final = 16


class Resolver(Protocol):
    """Tells the addresses of a name."""

    async def resolve(self, name: str) -> list[str]:
        """IP addresses, the best first. Raises ``socket.gaierror`` as the system does."""


class _Question(NamedTuple):
    name: str
    answer: asyncio.Future[list[str]]


class SystemResolver:
    """Asks the system's resolver, which may take its time: in threads.

    They end with the process, whatever they wait for: an executor's threads would hold it up.
    """

    def __init__(self) -> None:
        self._questions: SimpleQueue[_Question | None] = SimpleQueue()
        self._threads = 0
        self._open = 0  # questions without an answer

    async def resolve(self, name: str) -> list[str]:
        answer: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._open += 1
        if self._threads < min(THREADS, self._open):
            self._threads += 1
            threading.Thread(target=self._answer, name="names", daemon=True).start()
        self._questions.put(_Question(name, answer))
        try:
            return await answer
        finally:
            self._open -= 1

    def close(self) -> None:
        """End the threads, each as soon as it has its answer."""
        for _ in range(self._threads):
            self._questions.put(None)
        self._threads = 0

    def _answer(self) -> None:
        while (question := self._questions.get()) is not None:
            if question.answer.cancelled():  # nobody waits for it any more
                continue
            try:
                addresses, error = _ask(question.name), None
            except Exception as failure:  # noqa: BLE001 - raised where the answer is waited for
                addresses, error = [], failure
            with suppress(RuntimeError):  # the loop is closed
                question.answer.get_loop().call_soon_threadsafe(_tell, question.answer, addresses, error)


def _tell(answer: asyncio.Future[list[str]], addresses: list[str], error: Exception | None) -> None:
    if answer.done():  # cancelled meanwhile
        return
    if error is None:
        answer.set_result(addresses)
    else:
        answer.set_exception(error)


def _ask(name: str) -> list[str]:
    # Bytes: the codec for names must not refuse what the system takes.
    found = socket.getaddrinfo(name.encode("ascii"), None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return list(dict.fromkeys(str(info[4][0]) for info in found))


class Names:
    """The addresses of names, checked as a whole and remembered for :data:`CACHE_SECONDS`."""

    def __init__(self, resolver: Resolver, *, allow_private: bool) -> None:
        self._resolver = resolver
        self._allow_private = allow_private
        self._known: OrderedDict[str, tuple[float, tuple[str, ...]]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[tuple[str, ...]]] = {}

    def known(self, name: str, now: float) -> tuple[str, ...] | None:
        """What is remembered of a name. ``now``: the loop's time."""
        found = self._known.get(name)
        return found[1] if found is not None and now < found[0] else None

    async def look_up(self, name: str) -> tuple[str, ...]:
        """Ask for a name's addresses; at one time once, whoever else asks for it.

        Raises ``socket.gaierror`` as the system does, and :class:`AddressRefusedError` where any is not public.
        """
        asking = self._asking.get(name)
        if asking is None:
            asking = self._asking[name] = asyncio.create_task(self._ask(name))
            asking.add_done_callback(lambda task: self._note_end(name, task))
        return await asyncio.shield(asking)

    def close(self) -> None:
        """Wait for no name any more."""
        for asking in list(self._asking.values()):
            asking.cancel()

    def _note_end(self, name: str, asking: asyncio.Task[tuple[str, ...]]) -> None:
        del self._asking[name]
        if asking.cancelled() or asking.exception() is not None:  # looked at: whoever asked may have left
            return
        self._known[name] = (asyncio.get_running_loop().time() + CACHE_SECONDS, asking.result())
        self._known.move_to_end(name)
        while len(self._known) > MAX_NAMES:
            self._known.popitem(last=False)

    async def _ask(self, name: str) -> tuple[str, ...]:
        addresses = await self._resolver.resolve(name)
        if not addresses:
            raise socket.gaierror(socket.EAI_FAIL, f"{name} has no address")
        for address in addresses:
            try:
                why = why_not_public(address)
            except ValueError:
                raise socket.gaierror(socket.EAI_FAIL, f"{name} resolves to what is no address") from None
            if why and not self._allow_private:
                raise AddressRefusedError(f"{name} resolves to {why}")
        return tuple(addresses)
