"""A cookie wall: a redirect that sets a cookie, and leads on for whoever brings it back.

It is the one thing for which a cookie is sent. A URL that redirects to itself is asked again in the same visit, after
its host's delay; a target of the same host gets the cookie when this worker comes to it. Which cookies go where is
decided by ``http.cookiejar`` (RFC 6265); no other request gets any, and none outlives its wall.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqspider.record import Outcome, Reason
from sqspider.url import host_of
from sqspider.web.fetch import Fetched

if TYPE_CHECKING:
    from email.message import Message as Head

    from sqspider.work.hand import Visit

TOO_LATE_AT_WALL: Final = Outcome(
    status=Reason.REDIRECT_LOOP.status,
    reason=Reason.REDIRECT_LOOP,
    detail="redirected to itself with a cookie: its host's delay is longer than the lease, in which it would be asked",
)
"""What becomes of a URL whose turn with the cookie would come after its claim's end."""

MAX_WALLS: Final = 3  # of one visit, each with other cookies
MAX_COOKIE_BYTES: Final = 8192  # of the header; servers take no more
REMEMBERED: Final = 1000  # targets that are to get a cookie


def cookie_for(fetched: Fetched, target: str, before: str = "") -> str:
    """The ``Cookie`` header with which a redirect wants its target to be asked; empty: it sets none for it.

    ``before``: that of the request which was redirected; what is set anew takes its place.
    """
    set_cookies = [value for name, value in fetched.headers if name.lower() == "set-cookie"]
    if not set_cookies or host_of(fetched.url) != host_of(target):
        return ""
    # Here: few crawls meet a wall.
    from http.cookiejar import CookieJar
    from urllib.request import Request

    jar = CookieJar()
    for pair in before.split("; ") if before else ():
        jar.extract_cookies(_Answer([pair]), Request(fetched.url))  # type: ignore[arg-type]
    jar.extract_cookies(_Answer(set_cookies), Request(fetched.url))  # type: ignore[arg-type]
    request = Request(target)
    jar.add_cookie_header(request)
    header = request.get_header("Cookie") or ""
    return header if len(header) <= MAX_COOKIE_BYTES and header.isprintable() and header.isascii() else ""


class _Answer:
    """An answer as a cookie jar looks at it."""

    def __init__(self, set_cookies: list[str]) -> None:
        from email.message import Message as Head

        self._head = Head()
        for value in set_cookies:
            self._head.add_header("Set-Cookie", value)

    def info(self) -> Head:
        return self._head


class Promised:
    """Targets that are to get a cookie when they are asked: a bounded memory, lost without harm but the wall's."""

    def __init__(self) -> None:
        self._cookies: dict[str, str] = {}

    def note(self, target: str, cookie: str) -> None:
        """The next visit of this target brings a cookie."""
        self._cookies[target] = cookie
        while len(self._cookies) > REMEMBERED:
            del self._cookies[next(iter(self._cookies))]

    def take(self, url: str) -> str:
        """The cookie of a URL, for one visit; empty: none."""
        return self._cookies.pop(url, "") if self._cookies else ""


def is_at_wall(visit: Visit, fetched: Fetched, promised: Promised) -> bool:
    """Whether a redirect sets a cookie and wants its own URL asked with it: noted in the visit. One for another target
    is ``promised``."""
    target = fetched.redirect_to
    if target is None or not (cookie := cookie_for(fetched, target, visit.cookie)):
        return False
    if target != visit.message.url:
        promised.note(visit.message.key_of(target), cookie)
        return False
    if cookie == visit.cookie or visit.walls >= MAX_WALLS or visit.is_suspect:  # which is asked once a claim
        return False
    visit.cookie = cookie
    visit.walls += 1
    return True
