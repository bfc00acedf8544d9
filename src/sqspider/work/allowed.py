"""What a worker's start allows of what a crawl's row asks for.

Whoever can write to the frontier must gain nothing by it. So what goes beyond the ordinary holds only where both the
row and the worker's own start say so; else the crawl waits, and the worker says in one sentence what it waits for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from sqspider import secret
from sqspider.crawl_row import Identity
from sqspider.web.options import FetchOptions
from sqspider.work.secrets import SecretError, Secrets

_FILES: Final = ("ca_file", "client_cert", "client_key")


class NotAllowedError(Exception):
    """The row asks for what the worker's start does not allow; the text says for what, and what to do."""


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker's start allows, beside what it does by itself."""

    private: bool = False  # addresses that are not public
    any_port: bool = False
    proxies: frozenset[str] = frozenset()  # as rows name them
    files: frozenset[str] = frozenset()  # of certificates and keys, as rows name them
    origins: frozenset[str] = frozenset()  # that secrets may be sent to

    @classmethod
    def by(cls, fetch: FetchOptions, *, origins: Iterable[str] = (), proxies: Iterable[str] = ()) -> Allowed:
        """What a worker does by itself, crawls may ask for, too."""
        named = (getattr(fetch, name) for name in _FILES)
        return cls(
            private=fetch.allow_private,
            any_port=fetch.allow_any_port,
            proxies=frozenset(proxies) | ({fetch.proxy} if fetch.proxy else frozenset()),
            files=frozenset(path for path in named if path is not None),
            origins=frozenset(origins),
        )

    def with_all_of(self, identity: Identity) -> Allowed:
        """What a row asks for as well: it is the operator's own, who has just read or written it."""
        named = (getattr(identity, name) for name in _FILES)
        return msgspec.structs.replace(
            self,
            private=self.private or identity.allow_private,
            any_port=self.any_port or identity.allow_any_port,
            proxies=self.proxies | ({identity.proxy} if identity.proxy else frozenset()),
            files=self.files | frozenset(path for path in named if path is not None),
            origins=self.origins | frozenset(identity.origins),
        )

    def check(self, identity: Identity) -> None:
        """Raise :class:`NotAllowedError` for what is not."""
        if identity.allow_private and not self.private:
            raise NotAllowedError("it asks for private addresses; start the worker with --allow-private")
        if identity.allow_any_port and not self.any_port:
            raise NotAllowedError("it asks for ports of other services; start the worker with --allow-any-port")
        if identity.proxy is not None and identity.proxy not in self.proxies:
            raise NotAllowedError(f"it asks for the proxy {identity.proxy}; start the worker with --proxy")
        for name in _FILES:
            path = getattr(identity, name)
            if path is not None and path not in self.files:
                flag = f"--{name.replace('_', '-')}"
                raise NotAllowedError(f"it asks for the file {path}; start the worker with {flag}")
        if sends_secrets(identity):
            missing = next((origin for origin in identity.origins if origin not in self.origins), None)
            if missing is not None:
                raise NotAllowedError(f"it sends secrets to {missing}; start the worker with --send-to {missing}")


def sends_secrets(identity: Identity) -> bool:
    """Whether something of it that hosts are shown is secret."""
    is_secret = any(secret.is_reference(value) for _, value in identity.headers)
    return bool(is_secret or identity.cookies or identity.login or identity.bearer)


def fetch_options(identity: Identity, own: FetchOptions, allowed: Allowed, secrets: Secrets) -> FetchOptions:
    """How an identity fetches, at a worker that fetches so by itself. The worker's own limits hold, too.

    Raises :class:`NotAllowedError`, also for a secret that cannot be had or a value that cannot be used.
    """
    allowed.check(identity)
    proxy = identity.proxy or own.proxy
    try:
        if identity.proxy is not None and secret.is_reference(identity.proxy):
            proxy = secrets.value(identity.proxy)
        return FetchOptions(
            timeout_seconds=min(identity.timeout_seconds or own.timeout_seconds, own.timeout_seconds),
            max_bytes=min(identity.max_bytes or own.max_bytes, own.max_bytes),
            allow_private=identity.allow_private,
            allow_any_port=identity.allow_any_port,
            user_agent=identity.user_agent or own.user_agent,
            contact=identity.contact or own.contact,
            proxy=proxy,
            ca_file=identity.ca_file or own.ca_file,
            client_cert=identity.client_cert or own.client_cert,
            client_key=identity.client_key or (own.client_key if identity.client_cert is None else None),
            http2=identity.http2 or own.http2,
            captures=own.captures,
        )
    except SecretError as error:
        raise NotAllowedError(str(error)) from None
    except (TypeError, ValueError) as error:
        raise NotAllowedError(f"its row cannot be followed here: {error}") from None
