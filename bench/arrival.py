"""When a request reached this machine, however late a busy server comes to read it."""

from __future__ import annotations

import socket
import struct
import time
from typing import Any, Final

# Where tcpi_last_data_recv lies in Linux's struct tcp_info: eight bytes and eleven words come before it.
_LAST_DATA_RECEIVED_AT: Final = 8 + 11 * 4


def arrived_at(connection: Any) -> float:
    """The moment (seconds, monotonic) at which the last data came on a connection.

    The kernel knows it to some milliseconds (tcp(7), ``TCP_INFO``). Where it does not tell, it is now:
    then a server that is late for the first of two requests sees them closer than they were.
    """
    now = time.monotonic()
    try:
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    except (AttributeError, OSError):
        return now
    if len(told) < _LAST_DATA_RECEIVED_AT + 4:
        return now
    (milliseconds,) = struct.unpack_from("=I", told, _LAST_DATA_RECEIVED_AT)
    return now - float(milliseconds) / 1000
