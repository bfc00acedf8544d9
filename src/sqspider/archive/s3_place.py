"""Where an archive lies in S3: bucket and prefix, in which region, and at which address they are asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from sqspider.archive.errors import ArchiveError
from sqspider.frontier.aws.network import endpoint_of, is_server, variant_asked_for
from sqspider.frontier.aws.place import region_of

SCHEME: Final = "s3://"
MAX_PREFIX_BYTES: Final = 512  # of the 1,024 that a key may have
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET: Final = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class S3Place(NamedTuple):
    """A bucket, and what the keys of an archive begin with there."""

    bucket: str
    prefix: str  # with a slash at its end; empty: the whole bucket

    @classmethod
    def read(cls, address: str) -> S3Place:
        """From ``s3://BUCKET/PREFIX``. Raises :class:`ArchiveError` for an address that is none."""
        bucket, _, prefix = address.removeprefix(SCHEME).partition("/")
        if not address.startswith(SCHEME) or not _BUCKET.fullmatch(bucket):
            raise ArchiveError(
                f"{address!r} is no place in S3: write s3://BUCKET/PREFIX, the bucket in small letters, digits, dots "
                "and hyphens"
            )
        prefix = prefix.strip("/")
        if not _is_usable(prefix):
            raise ArchiveError(
                f"{address!r}: the prefix has an empty part, '.' or '..' for one, a character that does not show, or "
                f"more than {MAX_PREFIX_BYTES} bytes: choose another one"
            )
        return cls(bucket, f"{prefix}/" if prefix else "")

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.prefix}".removesuffix("/")

    def url(self, name: str) -> str:
        """How a person writes an object of this archive."""
        return f"{SCHEME}{self.bucket}/{self.prefix}{name}"


def _is_usable(prefix: str) -> bool:
    parts = prefix.split("/")
    has_odd_part = bool(prefix) and any(part in ("", ".", "..") for part in parts)
    return prefix.isprintable() and not has_odd_part and len(prefix.encode()) <= MAX_PREFIX_BYTES


class S3Door(NamedTuple):
    """How a bucket is asked."""

    region: str
    endpoint: str  # with a slash at its end
    path: str  # what stands before each key: the bucket, where the endpoint's name does not say it

    @classmethod
    def to(cls, bucket: str, environment: Mapping[str, str]) -> S3Door:
        """By ``AWS_REGION`` or ``AWS_DEFAULT_REGION`` (else that of ``QUEUE_URL``), and ``AWS_ENDPOINT_URL_S3`` or
        ``AWS_ENDPOINT_URL``. Raises :class:`ArchiveError` where there is no region, or the endpoint is none."""
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
        region = region or region_of(environment.get("QUEUE_URL", ""))
        if not region:
            raise ArchiveError(f"the bucket {bucket} lies in some region of AWS: set AWS_REGION to it")
        named = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
        if not named:
            endpoint = endpoint_of("s3", region, environment)
            if "." in bucket:  # of which no certificate of AWS's is
                return cls(region, f"{endpoint}/", f"{bucket}/")
            scheme, _, host = endpoint.partition("://")
            return cls(region, f"{scheme}://{bucket}.{host}/", "")
        if not is_server(named) or "@" in named:
            raise ArchiveError(
                "the endpoint of s3 is no URL of a server, or a user stands in it: write https://HOST or "
                "https://HOST:PORT (see AWS_ENDPOINT_URL_S3 and AWS_ENDPOINT_URL)"
            )
        variant = variant_asked_for(environment)
        if variant:
            raise ArchiveError(
                f"{variant} is true, but an endpoint of s3 is named: unset one of the two (see AWS_ENDPOINT_URL_S3)"
            )
        return cls(region, f"{named.rstrip('/')}/", f"{bucket}/")
