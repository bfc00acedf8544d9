"""What politeness is asked, and what it says: values alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from sqspider.crawl_settings import CrawlSettings
from sqspider.host import HostRow
from sqspider.message import Message
from sqspider.politeness.agent import Agent
from sqspider.record import Reason
from sqspider.scope import Blocked
from sqspider.web.body import BodySink
from sqspider.web.fetch import Fetched, Wants


class Postponed(NamedTuple):
    """Not now: look again at ``until``. ``message`` carries the slot, if one was reserved."""

    until: float
    message: Message


class Awaited(NamedTuple):
    """Somebody here is asking for its robots.txt: judge again when the future is done.

    The future is the asker's own. It brings what went wrong as an exception; whoever waits no longer cancels it.
    """

    future: asyncio.Future[None]


class Turn(NamedTuple):
    """When a URL may be asked for: now, or a few seconds ahead at most."""

    at: float
    message: Message  # with its slot
    delay_seconds: float = 0.0  # between two requests, where one at a time is made; 0: more may be


class Form(NamedTuple):
    """What one request says beside the usual, and how much of its answer is wanted: as a fetcher takes it."""

    headers: tuple[str, ...] = ()  # lines, "Name: value"
    method: str | None = None
    wants: Wants | None = None


USUAL: Final = Form()

Formed = Callable[[], Form]
"""Asked just before a request is made."""


def as_usual() -> Form:
    """A GET as any other."""
    return USUAL


class Request(NamedTuple):
    """What is to be asked of a host."""

    url: str
    settings: CrawlSettings
    generation: int | None = None  # of the host row that its slot is from; none: it has no slot
    max_bytes: int | None = None  # none: as the fetcher has it
    sink: BodySink | None = None  # what takes the body as it comes
    is_robots: bool = False
    is_new_origin: bool = False  # nothing has ever answered at its scheme and port
    is_alone: bool = False  # it waits here for a permission that is near
    formed: Formed = as_usual
    agent: Agent | None = None  # who asks; none: the worker itself

    @classmethod
    def of(
        cls, message: Message, agent: Agent | None = None, *, is_alone: bool = False, formed: Formed = as_usual
    ) -> Request:
        """The request for the URL of a message, in its slot if it has one."""
        generation = message.generation if message.slot is not None else None
        return cls(message.url, message.settings, generation, is_alone=is_alone, formed=formed, agent=agent)


Begin = Callable[[], Awaitable[float | None]]
"""Asked under the permission, before the request: the latest moment at which it may begin; none: it is not made."""

Then = Callable[[float], None]
"""Told when a request is over: in how many seconds a permission for the next one may be asked for."""


class Busy(NamedTuple):
    """The host cannot be asked just now."""

    again_at: float
    is_void: bool = False  # the slot is of an older generation
    is_stopped: bool = False  # the operator paused or blocked it: to be judged anew


class Learned(NamedTuple):
    """What a request says of its URL's tries."""

    counts: bool  # its trouble, if it met some, counts as a try
    again_at: float = 0.0  # where it does not count: when to ask again
    retry_after: float | None = None  # seconds that the host asked for


class Asked(NamedTuple):
    """A request that was made. Its permission is given back, and what it teaches of host and network is learned."""

    fetched: Fetched
    learned: Learned
    asked_at: float  # when its permission was asked for
    requested_at: float = 0.0  # when the request was sent


def given_up(row: HostRow) -> Blocked:
    """How the URLs of a host end that was given up: by its trouble, without being asked for."""
    trouble = row.trouble or Reason.UNREACHABLE
    seconds = row.given_up_at - row.trouble_since
    return Blocked(
        trouble, f"the host was given up: {row.rests} probes in {seconds:,.0f} s failed, the last as {trouble.value}"
    )


def broken_off(url: str, started_at: float, sent_at: float | None, now: float) -> Fetched:
    """What came of a request whose permission lapsed under way. None was made where nothing was written by then."""
    return Fetched(
        url=url, http_status=None, headers=(), body=b"", truncated=False, reason=Reason.TIMEOUT,
        detail="broken off: the frontier did not let it have its host for longer", elapsed_seconds=now - started_at,
        sent_seconds=(sent_at or started_at) - started_at, is_held=sent_at is None, is_broken_off=sent_at is not None,
    )  # fmt: skip
