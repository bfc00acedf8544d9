"""What the start of a worker says: how it fetches by itself, what crawls may ask of it, and where its secrets lie."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from sqspider import secret
from sqspider.archive.coding import Coding
from sqspider.archive.sink import gather_seconds_at
from sqspider.crawl_row import Crawl, Identity
from sqspider.web.options import FetchOptions
from sqspider.work.allowed import Allowed, NotAllowedError, fetch_options
from sqspider.work.secrets import SecretError, Secrets


class ArchivePlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a worker keeps what it fetches, and how."""

    address: str  # a folder's path, or s3://BUCKET/PREFIX
    coding: Coding = Coding.GZIP
    max_bytes: int | None = None  # of all that lies there, after which the worker stops

    @property
    def gather_seconds(self) -> float:
        """How long what was fetched waits for others to be kept with, at most."""
        return gather_seconds_at(self.address)


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's start. It can be sent to a process of our own."""

    fetch: FetchOptions
    allowed: Allowed
    secrets_folder: str | None = None
    archive: ArchivePlace | None = None  # where what is fetched is kept; none: nowhere

    @property
    def gather_seconds(self) -> float:
        """Of its archive; zero: nothing is kept."""
        return 0.0 if self.archive is None else self.archive.gather_seconds

    @property
    def secrets(self) -> Secrets:
        return Secrets(folder=self.secrets_folder)

    def encode(self) -> bytes:
        """In one line."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, line: bytes) -> Start:
        return msgspec.json.decode(line, type=cls)


def with_archive(start: Start, archive: ArchivePlace | None) -> Start:
    """A start that keeps what is fetched in an archive, and so fetches what one needs; or nowhere."""
    fetch = msgspec.structs.replace(start.fetch, captures=archive is not None)
    return msgspec.structs.replace(start, fetch=fetch, archive=archive)


def start_of(crawl: Crawl, secrets_folder: str | None, archive: ArchivePlace | None = None) -> Start:
    """The start of a worker for a crawl that may have all that its row asks for.

    Raises ``ValueError`` for what cannot be had here, a secret above all.
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
        raise ValueError(f"the crawl {crawl.name}: {error}") from None
    return with_archive(Start(fetch=fetch, allowed=allowed, secrets_folder=secrets_folder), archive)


def check_secrets(identity: Identity, secrets: Secrets) -> None:
    """Raise ``ValueError`` for a secret of an identity that cannot be had here."""
    for field, reference in _references(identity):
        found(secrets, reference, field)


def _references(identity: Identity) -> Iterator[tuple[str, str]]:
    """The secrets that an identity names, and the fields that do so."""
    named = [("headers", value) for _, value in identity.headers]
    named += [("cookies", value) for _, value in identity.cookies]
    named += [("login", (identity.login or "").partition(":")[2]), ("bearer", identity.bearer or "")]
    named.append(("proxy", identity.proxy or ""))
    return ((field, value) for field, value in named if secret.is_reference(value))


def found(secrets: Secrets, reference: str, field: str) -> str:
    """A secret that a field names. Raises ``ValueError`` where it cannot be had."""
    try:
        return secrets.value(reference)
    except SecretError as error:
        raise ValueError(f"{field}: {error}") from None
