"""From the address of an archive to its files: a folder's path, or ``s3://BUCKET/PREFIX``."""

from __future__ import annotations

from typing import Final

from sqspider.archive.files import Files

S3: Final = "s3://"


def is_bucket(address: str) -> bool:
    """Whether an archive lies in a bucket, and not in a folder or file."""
    return address.startswith(S3)


def files_at(address: str) -> Files:
    """The files at an address. Raises :class:`sqspider.archive.errors.ArchiveError` for an address that is none;
    whether something is there is seen when it is read."""
    if is_bucket(address):
        from sqspider.archive.bucket import Bucket  # here: most archives lie in a folder

        return Bucket.at(address)
    from sqspider.archive.folder import Folder

    return Folder(address)
