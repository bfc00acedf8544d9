"""Looks names up: once for a minute, in threads of its own, so that no name holds up another or the loop."""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from sqspider.transport.addresses import AddressRefusedError, why_not_public

CACHE_SECONDS: Final = 60.0
MAX_NAMES: Final = 10_000
THREADS: Final = 16


class Resolver(Protocol):
    """Tells the addresses of a name."""

    async def resolve(self, name: str) -> list[str]:
        """IP addresses, the best first. Raises ``socket.gaierror`` as the system does."""


class SystemResolver:
    """Asks the system's resolver, which may take its time: in threads."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    async def resolve(self, name: str) -> list[str]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="names")
        found = await asyncio.get_running_loop().run_in_executor(self._threads, _ask, name)
        return list(dict.fromkeys(str(info[4][0]) for info in found))

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


def _ask(name: str) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str | int, ...]]]:
    # Bytes: the codec for names must not refuse what the system takes.
    return socket.getaddrinfo(name.encode("ascii"), None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)  # type: ignore[return-value]


class Names:
    """The addresses of names, checked as a whole and remembered for :data:`CACHE_SECONDS`."""

    def __init__(self, resolver: Resolver, *, allow_private: bool) -> None:
        self._resolver = resolver
        self._allow_private = allow_private
        self._known: OrderedDict[str, tuple[float, tuple[str, ...]]] = OrderedDict()
        self._asking: dict[str, asyncio.Future[tuple[str, ...]]] = {}

    def known(self, name: str, now: float) -> tuple[str, ...] | None:
        """What is remembered of a name. ``now``: the loop's time."""
        found = self._known.get(name)
        return found[1] if found is not None and now < found[0] else None

    async def look_up(self, name: str) -> tuple[str, ...]:
        """Ask for a name's addresses; at one time once, whoever else asks for it.

        Raises ``socket.gaierror`` as the system does, and :class:`AddressRefusedError` where any is not public.
        """
        loop = asyncio.get_running_loop()
        asking = self._asking.get(name)
        if asking is None:
            asking = self._asking[name] = asyncio.ensure_future(self._ask(name))
            asking.add_done_callback(lambda _: self._asking.pop(name, None))
        addresses = await asyncio.shield(asking)
        self._known[name] = (loop.time() + CACHE_SECONDS, addresses)
        self._known.move_to_end(name)
        while len(self._known) > MAX_NAMES:
            self._known.popitem(last=False)
        return addresses

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
