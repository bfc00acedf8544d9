"""Which addresses and ports may be connected to.

Addresses: public unicast alone, by IANA's special-purpose registries (RFC 6890), which a test holds
against this table. What no registry has is said beside it.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult

# What is refused, and why. The metadata services of the clouds lie in 169.254.0.0/16, 100.64.0.0/10,
# 192.0.0.0/24 and fc00::/7, and at Azure's address.
_REFUSED: Final = tuple(
    (ip_network(block), why)
    for block, why in (
        ("0.0.0.0/8", "this network (RFC 791)"),
        ("10.0.0.0/8", "private use (RFC 1918)"),
        ("100.64.0.0/10", "shared by providers (RFC 6598)"),
        ("127.0.0.0/8", "loopback (RFC 1122)"),
        ("168.63.129.16/32", "the host that an Azure machine runs on"),  # in no registry: it is Microsoft's
        ("169.254.0.0/16", "link-local (RFC 3927)"),
        ("172.16.0.0/12", "private use (RFC 1918)"),
        ("192.0.0.0/24", "protocol assignments (RFC 6890)"),
        ("192.0.2.0/24", "documentation (RFC 5737)"),
        ("192.88.99.0/24", "6to4 relays (RFC 7526)"),
        ("192.168.0.0/16", "private use (RFC 1918)"),
        ("198.18.0.0/15", "benchmarking (RFC 2544)"),
        ("198.51.100.0/24", "documentation (RFC 5737)"),
        ("203.0.113.0/24", "documentation (RFC 5737)"),
        ("224.0.0.0/4", "multicast (RFC 5771)"),
        ("240.0.0.0/4", "reserved (RFC 1112)"),
        ("2001::/23", "protocol assignments, Teredo (RFC 2928, RFC 4380)"),
        ("2001:db8::/32", "documentation (RFC 3849)"),
        ("2002::/16", "6to4 (RFC 7526)"),
        ("3fff::/20", "documentation (RFC 9637)"),
    )
)
# Parts of these that the registries call globally reachable.
_REACHABLE: Final = tuple(
    ip_network(block)
    for block in (
        "192.0.0.9/32", "192.0.0.10/32", "2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:3::/32",
        "2001:4:112::/48", "2001:20::/28", "2001:30::/28",
    )
)  # fmt: skip
_UNICAST: Final = IPv6Network("2000::/3")  # all that IANA has given out (RFC 4291 section 2.4)
# Addresses that are those of their last four bytes: mapped ones (RFC 4291 section 2.5.5.2), and what
# a network without IPv4 reaches it by (NAT64, RFC 6052 section 2.1).
_CARRIERS: Final = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))

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
    meant = _carried(ip_address(address))
    if any(meant in block for block in _REACHABLE):
        return None
    for block, why in _REFUSED:
        if meant in block:
            return f"{address}: {block} is {why}"
    if meant.version == 6 and meant not in _UNICAST:
        return f"{address} lies outside {_UNICAST}, where public addresses are"
    return None


def _carried(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one stands for, or the address itself."""
    if any(address in carrier for carrier in _CARRIERS):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


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
