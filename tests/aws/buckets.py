"""Buckets on an engine that stands in for S3, each made for one test."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from sqspider.archive.s3 import S3Client
from sqspider.archive.s3_place import S3Place

PREFIX: Final = "a crawl/über=1+2"  # what has to be quoted, and what must not be quoted twice
_numbers = itertools.count(1)


@asynccontextmanager
async def bucket(environment: Mapping[str, str], prefix: str = PREFIX) -> AsyncIterator[S3Place]:
    """A bucket, and a place in it. It goes with all that is in it."""
    place = S3Place.read(f"s3://archive-{os.getpid()}-{next(_numbers)}/{prefix}")
    whole = S3Client.open(S3Place(place.bucket, ""), environment)
    await whole.call("CreateBucket", "PUT", None)
    try:
        yield place
    finally:
        for name in [found.key async for found in whole.listed()]:
            await whole.delete(name)
        await whole.call("DeleteBucket", "DELETE", None, may_be=(204,))
        await whole.close()
