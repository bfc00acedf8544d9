"""Which URLs may be asked for, by the address or port that stands in them: see ``transport.addresses``."""

from __future__ import annotations

from typing import Final

from sqspider.record import Reason
from sqspider.transport.addresses import why_not_public
from sqspider.url import authority_of, host_of
from sqspider.web.errors import Trouble

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


def is_web_port(port: int) -> bool:
    """Whether a port may be asked without a flag: 80, 443, and those from 1024 up that belong to
    no other well-known service."""
    return port in WEB_PORTS or (port >= FIRST_FREE_PORT and port not in SERVICE_PORTS)


def check_url(url: str, *, allow_private: bool, allow_any_port: bool) -> None:
    """What can be seen from a canonical URL itself. (No resolver is asked for address literals.)

    Raises :class:`Trouble` where it may not be connected to.
    """
    host = host_of(url)
    if not allow_private:
        try:
            why = why_not_public(host.strip("[]"))
        except ValueError:
            why = None  # a name: whoever looks it up looks at what it leads to
        if why:
            raise Trouble(Reason.PRIVATE_ADDRESS, why)
    authority = authority_of(url)
    if not allow_any_port and len(authority) != len(host):
        port = int(authority.rpartition(":")[2])
        if not is_web_port(port):
            raise Trouble(Reason.BAD_PORT, f"port {port} belongs to another service")
