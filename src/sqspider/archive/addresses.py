"""From the address of an archive to its files: a folder's path, or ``s3://BUCKET/PREFIX``."""

from __future__ import annotations

from sqspider.archive.files import Files


def files_at(address: str) -> Files:
    """The files at an address. Raises :class:`sqspider.archive.errors.ArchiveError` for an address that is none;
    whether something is there is seen when it is read."""
    if address.startswith("s3://"):
        from sqspider.archive.bucket import Bucket  # here: most archives lie in a folder

        return Bucket.at(address)
    from sqspider.archive.folder import Folder

    return Folder(address)
