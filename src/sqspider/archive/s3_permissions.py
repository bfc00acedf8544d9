"""What an archive in a bucket takes of S3: on the keys below its prefix; and to list, on the bucket."""

from __future__ import annotations

from typing import Final

WRITER_ACTIONS: Final = (
    "s3:GetObject",  # to look whether an object is ours, after a lost answer
    "s3:PutObject",
)
"""What whoever crawls needs."""

IAM_ACTIONS: Final = (
    "s3:AbortMultipartUpload",
    "s3:DeleteObject",  # to forget, and to put an archive in order
    "s3:GetObject",
    "s3:ListBucket",
    "s3:PutObject",
)
"""Everything that may be asked for an archive."""
