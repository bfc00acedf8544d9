"""What an easy handle of libcurl is told once for all. What a request asks for is in ``methods``.

https://curl.se/libcurl/c/easy_setopt_options.html
"""

from __future__ import annotations

from typing import Final

import pycurl

IDLE_SECONDS: Final = 15
BUFFER_BYTES: Final = 128 * 1024  # that are read at a time; all requests have one buffer together

OF_ALL: Final = (
    (pycurl.NOSIGNAL, 1),
    (pycurl.PATH_AS_IS, 1),
    (pycurl.HTTP09_ALLOWED, 0),
    (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
    (pycurl.NETRC, pycurl.NETRC_IGNORED),
    (pycurl.DNS_CACHE_TIMEOUT, 600),  # longer than a request takes: what is asked is given with it
    (pycurl.MAXAGE_CONN, IDLE_SECONDS),
    (pycurl.TCP_NODELAY, 1),
    (pycurl.BUFFERSIZE, BUFFER_BYTES),
)
"""Options of every request, and their values."""
