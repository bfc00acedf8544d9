"""As whom, and by which way, something is asked of a host: the worker's own way, or that of a crawl's identity."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import NamedTuple, Protocol

from sqspider.politeness.network import Network
from sqspider.url import origin_of
from sqspider.web.body import BodySink
from sqspider.web.fetch import AnyFetcher, BeforeLarge, Fetched, Gate, Wants


class Fetch(Protocol):
    """As :meth:`sqspider.web.fetch.Fetcher.fetch`."""

    def __call__(
        self,
        url: str,
        *,
        before_large: BeforeLarge | None = None,
        max_bytes: int | None = None,
        sink: BodySink | None = None,
        gate: Gate | None = None,
        headers: tuple[str, ...] = (),
        method: str | None = None,
        wants: Wants | None = None,
    ) -> Awaitable[Fetched]: ...


class Agent(NamedTuple):
    """Who asks."""

    fetch: Fetch
    product_token: str  # whom rules and directives mean by it
    network: Network  # whether anything can be asked by its way
    name: str = ""  # told apart by it from others, to whom robots.txt may say something else; none: as most are

    @classmethod
    def of(cls, fetcher: AnyFetcher, network: Network) -> Agent:
        """A worker's own."""
        return cls(fetcher.fetch, fetcher.options.product_token, network)

    def place_of(self, url: str) -> str:
        """Under what its robots.txt for a URL's origin is kept: the origin, and who asks if it is not anybody."""
        return place_of(url, self.name)


def place_of(url: str, name: str) -> str:
    """As :meth:`Agent.place_of`, by an agent's name."""
    origin = origin_of(url)
    return f"{origin} {name}" if name else origin


def origin_in(place: str) -> str:
    """The origin of what :func:`place_of` gave."""
    return place.partition(" ")[0]
