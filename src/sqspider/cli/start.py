"""What the start of a worker says: how it fetches by itself, what crawls may ask of it, and where its secrets lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
import msgspec

from sqspider import secret
from sqspider.cli.options import checked
from sqspider.crawl import Crawl, Identity
from sqspider.web.options import FetchOptions
from sqspider.work.allowed import Allowed, NotAllowedError, fetch_options
from sqspider.work.options import WorkerOptions
from sqspider.work.secrets import SecretError, Secrets


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's start. It can be sent to a process of our own."""

    fetch: FetchOptions
    allowed: Allowed
    secrets_folder: str | None = None

    @property
    def secrets(self) -> Secrets:
        return Secrets(folder=self.secrets_folder)

    def encode(self) -> bytes:
        """In one line."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, line: bytes) -> Start:
        return msgspec.json.decode(line, type=cls)

    def arguments(self) -> list[str]:
        """The same as flags of `consume`, for a process of our own."""
        fetch, allowed, said = self.fetch, self.allowed, list[str]()
        for flag, value in (
            ("--timeout", fetch.timeout_seconds),
            ("--max-body", fetch.max_bytes),
            ("--user-agent", fetch.user_agent),
            ("--contact", fetch.contact),
            *(
                ("--proxy", proxy) for proxy in allowed.proxies
            ),  # one, as it was named: what it stands for may be secret
            ("--ca-file", fetch.ca_file),
            ("--client-cert", fetch.client_cert),
            ("--client-key", fetch.client_key),
            *(("--send-to", origin) for origin in sorted(allowed.origins)),
            ("--secrets", self.secrets_folder),
        ):
            if value is not None:
                said += [flag, str(value)]
        said += ["--allow-private"] * allowed.private + ["--allow-any-port"] * allowed.any_port
        return said + ["--http2"] * fetch.http2


def to_start(given: dict[str, Any]) -> Start:
    """From the options of a command. Raises ``click.UsageError``, also for a secret that cannot be had."""
    folder, proxy = given.get("secrets"), given.get("proxy")
    named = proxy
    if proxy is not None and secret.is_reference(proxy):
        proxy = _found(Secrets(folder=folder), proxy, "--proxy")
    fields = {name: given[name] for name in FetchOptions.__struct_fields__ if name in given}
    with checked():
        fetch = FetchOptions(**{**fields, "proxy": proxy})
    allowed = Allowed.by(fetch, origins=tuple(given.get("origins", ())))
    allowed = msgspec.structs.replace(allowed, proxies=frozenset((named,) if named else ()))
    return Start(fetch=fetch, allowed=allowed, secrets_folder=folder)


def start_of(crawl: Crawl, secrets_folder: str | None) -> Start:
    """The start of a worker for a crawl that may have all that its row asks for.

    Raises ``click.UsageError`` for what cannot be had here, a secret above all.
    """
    identity, secrets = crawl.identity, Secrets(folder=secrets_folder)
    check_secrets(identity, secrets)
    blank = FetchOptions()
    own = msgspec.structs.replace(
        blank,
        timeout_seconds=identity.timeout_seconds or blank.timeout_seconds,
        max_bytes=identity.max_bytes or blank.max_bytes,
    )
    allowed = Allowed.by(own).with_all_of(identity)
    try:
        fetch = fetch_options(identity, own, allowed, secrets)
    except NotAllowedError as error:
        raise click.UsageError(f"the crawl {crawl.name}: {error}.") from None
    return Start(fetch=fetch, allowed=allowed, secrets_folder=secrets_folder)


def check_secrets(identity: Identity, secrets: Secrets) -> None:
    """Raise ``click.UsageError`` for a secret of an identity that cannot be had here."""
    for option, reference in _references(identity):
        _found(secrets, reference, option)


def check_lease(options: WorkerOptions, fetch: FetchOptions) -> None:
    """Raise ``click.UsageError`` where a lease could end before its fetch does."""
    try:
        options.check(fetch.timeout_seconds)
    except ValueError as error:
        raise click.UsageError(f"{error}. See --lease and --timeout.") from None


def _references(identity: Identity) -> Iterator[tuple[str, str]]:
    """The secrets that an identity names, and the options that do so."""
    named = [("--header", value) for _, value in identity.headers]
    named += [("--cookie", value) for _, value in identity.cookies]
    named += [("--login", (identity.login or "").partition(":")[2]), ("--bearer", identity.bearer or "")]
    return ((option, value) for option, value in named if secret.is_reference(value))


def _found(secrets: Secrets, reference: str, option: str) -> str:
    try:
        return secrets.value(reference)
    except SecretError as error:
        raise click.UsageError(f"{option}: {error}.") from None
