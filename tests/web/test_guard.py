"""The table of refused addresses, against IANA's registries and a model that is made from them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqspider.transport.addresses import why_not_public

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# The IPv4 and IPv6 special-purpose address registries of 2025-10-09, by the column "Globally Reachable".
# https://www.iana.org/assignments/iana-ipv4-special-registry, .../iana-ipv6-special-registry
NOT_REACHABLE = (
    "0.0.0.0/8", "0.0.0.0/32", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.0.0/29", "192.0.0.8/32", "192.0.0.170/32", "192.0.0.171/32", "192.0.2.0/24",
    "192.88.99.2/32", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
    "255.255.255.255/32",
    "::1/128", "::/128", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/23", "2001:2::/48", "2001:db8::/32",
    "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10",
)  # fmt: skip
NOT_SAID = ("192.88.99.0/24", "2001::/32", "2001:10::/28", "2002::/16")  # deprecated, or it depends
REACHABLE = (
    "192.0.0.9/32", "192.0.0.10/32", "192.31.196.0/24", "192.52.193.0/24", "192.175.48.0/24",
    "2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:3::/32", "2001:4:112::/48", "2001:20::/28",
    "2001:30::/28", "2620:4f:8000::/48",
)  # fmt: skip
CARRIERS = ("::ffff:0:0/96", "64:ff9b::/96")  # an address in them is that of its last four bytes
# Of other registries, and what is none of IANA's.
OTHERS = (
    "224.0.0.0/4",
    "ff00::/8",
    "fec0::/10",
    "::ffff:0:0:0/96",
    "4000::/2",
    "8000::/1",
    "::/96",
    "168.63.129.16/32",
)


def networks(*lists: tuple[str, ...]) -> list[Network]:
    return [ip_network(block) for blocks in lists for block in blocks]


REFUSED, PUBLIC = networks(NOT_REACHABLE, NOT_SAID, OTHERS), networks(REACHABLE)
EVERYWHERE = {4: ip_network("0.0.0.0/0"), 6: ip_network("2000::/3")}


def is_public(address: Address) -> bool:
    """By the most special of the blocks that an address lies in."""
    for carrier in networks(CARRIERS):
        if address in carrier:
            return is_public(IPv4Address(int(address) % 2**32))
    special = max((block for block in REFUSED + PUBLIC if address in block), key=lambda b: b.prefixlen, default=None)
    return address in EVERYWHERE[address.version] if special is None else special in PUBLIC


def edges(block: Network) -> list[Address]:
    """The first and the last address of a block, one inside, and those next to it."""
    first, last = int(block[0]), int(block[-1])
    numbers = {first - 1, first, (first + last) // 2, last, last + 1}
    kind = type(block[0])
    return [kind(number) for number in sorted(numbers) if 0 <= number < 2**block.max_prefixlen]


@pytest.mark.parametrize("block", networks(NOT_REACHABLE, NOT_SAID, REACHABLE, CARRIERS, OTHERS), ids=str)
def test_every_block_of_the_registries_is_treated_as_they_say(block: Network) -> None:
    for address in edges(block):
        assert (why_not_public(str(address)) is None) == is_public(address), address
        if address.version == 4:
            for carrier in networks(CARRIERS):
                carried = IPv6Address(int(carrier[0]) + int(address))
                assert (why_not_public(str(carried)) is None) == is_public(address), carried


_near = st.builds(lambda block, offset: int(block[0]) + offset, st.sampled_from(REFUSED + PUBLIC), st.integers(-9, 9))


@settings(deadline=None, max_examples=500)
@given(st.ip_addresses() | _near.filter(lambda number: 0 <= number < 2**128).map(ip_address))
def test_an_address_is_public_as_a_model_of_the_registries_says(address: Address) -> None:
    why = why_not_public(str(address))
    assert (why is None) == is_public(address)
    assert why is None or str(address) in why


@pytest.mark.parametrize(
    "address",
    [
        "168.63.129.16", "::ffff:168.63.129.16", "64:ff9b::168.63.129.16", "169.254.169.254", "169.254.170.2",
        "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254", "2002:a9fe:a9fe::", "2001:0:a9fe:a9fe::",
    ],
)  # fmt: skip
def test_no_metadata_service_is_reached(address: str) -> None:
    assert why_not_public(address) is not None


def test_what_is_no_address_is_an_error() -> None:
    with pytest.raises(ValueError, match="example"):
        why_not_public("example.com")
    assert why_not_public("2600::1%eth0") is not None
