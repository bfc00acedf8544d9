"""As whom a worker fetches: a fetcher for each way of fetching, and for each crawl what it shows to its own origins.

Connections are never shared between two ways: what one may connect to, or by what it goes, is nothing to another.
"""

from __future__ import annotations

import base64
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Protocol

import msgspec

from sqspider import secret
from sqspider.crawl_row import Crawl, Identity
from sqspider.politeness import Agent
from sqspider.politeness.agent import place_of
from sqspider.politeness.network import Network
from sqspider.redact import learn_secret
from sqspider.url import origin_of
from sqspider.web.fetch import AnyFetcher, Fetched
from sqspider.web.options import FetchOptions, product_token_of
from sqspider.work.allowed import Allowed, NotAllowedError, fetch_options
from sqspider.work.secrets import SecretError, Secrets

MOST_FETCHERS: Final = 16  # that are kept open; those in use are not counted
_COOKIE: Final = "Cookie: "


class OpenFetcher(AnyFetcher, Protocol):
    """A fetcher that is open until it is closed."""

    def close(self) -> None:
        """Drop its connections."""


Open = Callable[[FetchOptions], OpenFetcher]


class Fetchers:
    """A fetcher for each way, opened when it is needed; of many the one that was not used for longest is closed."""

    def __init__(self, open_one: Open) -> None:
        self._open = open_one
        self._kept: OrderedDict[FetchOptions, OpenFetcher] = OrderedDict()
        self._uses: dict[FetchOptions, int] = {}

    @contextmanager
    def lent(self, options: FetchOptions) -> Iterator[AnyFetcher]:
        """The fetcher that fetches so, for a request."""
        fetcher = self._kept.get(options)
        if fetcher is None:
            fetcher = self._kept[options] = self._open(options)
        self._kept.move_to_end(options)
        self._uses[options] = self._uses.get(options, 0) + 1
        try:
            yield fetcher
        finally:
            self._uses[options] -= 1
            if not self._uses[options]:
                del self._uses[options]
            self._close_some()

    def _close_some(self) -> None:
        unused = [options for options in self._kept if options not in self._uses]
        for options in unused[: max(0, len(self._kept) - MOST_FETCHERS)]:
            self._kept.pop(options).close()

    def close(self) -> None:
        """Close all of them."""
        for fetcher in self._kept.values():
            fetcher.close()
        self._kept.clear()


class Agents:
    """Makes agents of identities, beside the worker's own."""

    def __init__(
        self, own: Agent, options: FetchOptions, open_one: Open, *, allowed: Allowed | None, secrets: Secrets | None
    ) -> None:
        self.own = own
        self._options = options  # of the worker's own fetcher
        self._fetchers = Fetchers(open_one)
        self._allowed = allowed if allowed is not None else Allowed.by(options)
        self._secrets = secrets if secrets is not None else Secrets()
        self._networks: dict[tuple[str | None, bool], Network] = {}

    def agent_of(self, identity: Identity) -> Agent:
        """Who asks for a crawl of this identity. Raises :class:`NotAllowedError`."""
        options = fetch_options(identity, self._options, self._allowed, self._secrets)
        shown = _Shown(identity, self._secrets) if identity.is_known_to_hosts else None
        fetch: Any = self.own.fetch if options == self._options else self._fetch_by(options)
        if shown is not None:
            fetch = shown.added_to(fetch)
        name = name_of(identity)
        return Agent(fetch, product_token_of(options.user_agent), self._network_of(options), name)

    def close(self) -> None:
        """Close what was opened for them."""
        self._fetchers.close()

    def _fetch_by(self, options: FetchOptions) -> Any:
        async def fetch(url: str, **more: Any) -> Fetched:
            with self._fetchers.lent(options) as fetcher:
                return await fetcher.fetch(url, **more)

        return fetch

    def _network_of(self, options: FetchOptions) -> Network:
        """What is down behind a proxy, or in a private network, says nothing of other ways."""
        way = (options.proxy, options.allow_private)
        if way == (self._options.proxy, self._options.allow_private):
            return self.own.network
        return self._networks.setdefault(way, Network())


class _Shown:
    """What an identity shows to its own origins, and to no other: not after a redirect, nor without TLS if it was given
    for an origin with it."""

    def __init__(self, identity: Identity, secrets: Secrets) -> None:
        self._origins = frozenset(identity.origins)
        try:
            lines = [f"{name}: {_known(value, secrets)}" for name, value in identity.headers]
            if identity.login is not None:
                user, _, reference = identity.login.partition(":")
                pair = base64.b64encode(f"{user}:{secrets.value(reference)}".encode()).decode()
                learn_secret(pair)
                lines.append(f"Authorization: Basic {pair}")
            if identity.bearer is not None:
                lines.append(f"Authorization: Bearer {secrets.value(identity.bearer)}")
            pairs = "; ".join(f"{name}={_known(value, secrets)}" for name, value in identity.cookies)
        except SecretError as error:
            raise NotAllowedError(str(error)) from None
        self._lines = tuple(lines)
        self._secret_lines = frozenset(name.lower() for name, value in identity.headers if secret.is_reference(value))
        self._cookie = pairs

    def headers(self, url: str, own: tuple[str, ...]) -> tuple[str, ...]:
        """The headers of a request that has some of its own. All cookies go in one (RFC 6265 section 5.4)."""
        if origin_of(url) not in self._origins:
            return own
        if not self._cookie:
            return (*self._lines, *own)
        cookies = [line.removeprefix(_COOKIE) for line in own if line.startswith(_COOKIE)]
        rest = (line for line in own if not line.startswith(_COOKIE))
        return (*self._lines, *rest, _COOKIE + "; ".join((self._cookie, *cookies)))

    def added_to(self, fetch: Any) -> Any:
        async def with_them(url: str, *, headers: tuple[str, ...] = (), **more: Any) -> Fetched:
            fetched: Fetched = await fetch(url, headers=self.headers(url, headers), **more)
            if not self._secret_lines or origin_of(url) not in self._origins:
                return fetched
            return msgspec.structs.replace(fetched, secret_lines=fetched.secret_lines | self._secret_lines)

        return with_them


def _known(value: str, secrets: Secrets) -> str:
    return secrets.value(value) if secret.is_reference(value) else value


def robots_place(url: str, crawl: Crawl | None) -> str:
    """Under what a URL's robots.txt is kept: see :meth:`Agent.place_of`. ``crawl``: by whose row it is asked for; none:
    by no row."""
    return place_of(url, name_of(crawl.identity) if crawl is not None else "")


def name_of(identity: Identity) -> str:
    """By what an identity is told apart where hosts may answer it otherwise: none for one that asks for nothing such.
    From the row alone, so that all workers say the same; and where a secret lies, never what it says."""
    told: Mapping[str, Any] = {
        "token": product_token_of(identity.user_agent) if identity.user_agent is not None else None,
        "by": (identity.proxy, identity.allow_private, identity.allow_any_port, identity.ca_file, identity.client_cert),
        "shown": (identity.headers, identity.cookies, identity.login, identity.bearer, sorted(identity.origins))
        if identity.is_known_to_hosts
        else None,
    }
    if told == {"token": None, "by": (None, False, False, None, None), "shown": None}:
        return ""
    return hashlib.sha256(msgspec.json.encode(told, order="deterministic")).hexdigest()[:16]
