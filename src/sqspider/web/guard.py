"""Which addresses and ports may be connected to.

The address table is ``ssrfguard``'s (the IANA special-purpose registries, multicast, the clouds'
metadata services, and the IPv6 prefixes that carry an IPv4 address inside). What it lacks is added.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from ipaddress import ip_network
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult
from ssrfguard import DEFAULT_DENIED, AddressTable, Block, Reach

_TABLE: Final = AddressTable(
    (
        *DEFAULT_DENIED.blocks,
        # An IPv4 address for a stateless translator: nothing public is reached through it from here.
        Block(ip_network("::ffff:0:0:0/96"), "IPv4-translated Address", "RFC7915", Reach.DENIED),
    )
)

WEB_PORTS: Final = frozenset({80, 443})
FIRST_FREE_PORT: Final = 1024
# Ports from 1024 up that belong to other protocols: those of the Fetch standard's list of bad ports
# (https://fetch.spec.whatwg.org/#port-blocking), and databases, caches, queues and control
# planes that answer, or worse obey, an HTTP request.
SERVICE_PORTS: Final = frozenset(
    {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679}
    | {6697, 10080}
    | {1433, 1521, 2181, 2375, 2376, 2379, 2380, 3306, 3389, 4369, 5432, 5672, 5900, 6379, 6380, 9042, 9092}
    | {9160, 10250, 11211, 27017, 27018, 27019}
)


class AddressRefusedError(OSError):
    """The connection would have led to an address that is not public."""


@functools.lru_cache(maxsize=4096)
def why_not_public(address: str) -> str | None:
    """Why an IP address must not be connected to; ``None`` for public unicast.

    An IPv6 zone (``%eth0``) makes it local. Raises ``ValueError`` for what is no IP address.
    """
    if "%" in address:
        return f"{address} is local to an interface"
    verdict = _TABLE.classify(address)
    return f"{address}: {verdict.reason}" if verdict.blocked else None


def is_web_port(port: int) -> bool:
    """Whether a port may be asked without a flag: 80, 443, and those from 1024 up that belong to
    no other well-known service."""
    return port in WEB_PORTS or (port >= FIRST_FREE_PORT and port not in SERVICE_PORTS)


class GuardedResolver(AbstractResolver):
    """Looks names up once, and refuses a name any of whose addresses is not public.

    What it returns is what is connected to. Names go to the system's resolver, in a thread.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises ``socket.gaierror`` as the system does, and :class:`AddressRefusedError`."""
        found = await asyncio.get_running_loop().getaddrinfo(
            host.encode("ascii"),  # bytes: the codec for names must not refuse what the system takes
            port,
            type=socket.SOCK_STREAM,
            family=family,
            flags=socket.AI_ADDRCONFIG,
        )
        return self.checked(host, port, [(info[0], str(info[4][0])) for info in found])

    def checked(self, host: str, port: int, addresses: list[tuple[socket.AddressFamily, str]]) -> list[ResolveResult]:
        """A name's addresses as aiohttp wants them, if every one of them is public."""
        if not addresses:
            raise socket.gaierror(socket.EAI_FAIL, f"{host} has no address")
        results = []
        for family, number in addresses:
            try:
                why = why_not_public(number)
            except ValueError:
                raise socket.gaierror(socket.EAI_FAIL, f"{host} resolves to what is no address") from None
            if why and not self._allow_private:
                raise AddressRefusedError(f"{host} resolves to {why}")
            results.append(
                ResolveResult(
                    hostname=host,
                    host=number,
                    port=port,
                    family=family,
                    proto=socket.IPPROTO_TCP,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        return results

    async def close(self) -> None:
        """Nothing is held."""
