"""Which addresses may be connected to: public unicast alone.

By IANA's special-purpose registries (RFC 6890), which a test holds against this table. What no registry has is said
beside it.
"""

from __future__ import annotations

import functools
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

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
