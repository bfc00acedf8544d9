"""An object that is put part by part: S3 takes five gigabytes at once, and memory takes less.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from sqspider.archive.errors import ArchiveError
from sqspider.archive.s3 import NOT_FOUND, OK, TYPE, S3Client
from sqspider.frontier.aws.transport import Received

PART_BYTES: Final = 16 * 2**20  # of each part but the last: ten thousand of them are 160 GB
_UPLOAD_ID: Final = re.compile(rb"<UploadId>([^<]+)</UploadId>")
_MD5: Final = re.compile(r'"?([0-9a-f]{32})"?')


class Upload:
    """One upload. Nobody sees a part of it before it is complete; one that is neither completed nor aborted is cleared
    away by the bucket's lifecycle rule."""

    def __init__(self, client: S3Client, name: str) -> None:
        self._client = client
        self._name = name
        self._id = ""
        self._tags: list[str] = []  # of the parts
        self._size = 0

    async def begin(self) -> None:
        headers = {"content-type": TYPE}
        answer = await self._client.call(
            "CreateMultipartUpload", "POST", self._name, query={"uploads": ""}, headers=headers
        )
        found = _UPLOAD_ID.search(answer.document)
        if found is None:
            raise ArchiveError(f"{self._url}: S3 gave no id for its upload: try again")
        self._id = found[1].decode()

    async def add(self, part: bytes) -> None:
        """The next part. The same again, after a lost answer, takes its own place."""
        query = {"partNumber": str(len(self._tags) + 1), "uploadId": self._id}
        answer = await self._client.call("UploadPart", "PUT", self._name, query=query, body=part)
        self._tags.append(answer.headers.get("etag", ""))
        self._size += len(part)

    async def complete(self) -> None:
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
            for number, tag in enumerate(self._tags, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        answer = await self._client.call(
            "CompleteMultipartUpload",
            "POST",
            self._name,
            query={"uploadId": self._id},
            headers={"content-type": "application/xml"},
            body=body,
            may_be=(NOT_FOUND,),
        )
        if not _is_done(answer) and not await self._is_there():
            raise ArchiveError(f"{self._url}: S3 did not put its parts together: nothing was written, try again")

    async def abort(self) -> None:
        """Let go of the parts that are there."""
        query = {"uploadId": self._id}
        await self._client.call("AbortMultipartUpload", "DELETE", self._name, query=query, may_be=(204, NOT_FOUND))

    async def _is_there(self) -> bool:
        """Whether it was completed by a try that got no clear answer: the upload is gone then."""
        answer = await self._client.call("HeadObject", "HEAD", self._name, may_be=(NOT_FOUND,))
        sums = [_MD5.fullmatch(tag) for tag in self._tags]
        whole = hashlib.md5(
            b"".join(bytes.fromhex(found[1]) for found in sums if found), usedforsecurity=False
        ).hexdigest()
        return (answer.headers.get("etag", "").strip('"'), answer.headers.get("content-length")) == (
            f"{whole}-{len(self._tags)}",
            str(self._size),
        )

    @property
    def _url(self) -> str:
        return self._client.place.url(self._name)


def _is_done(answer: Received) -> bool:
    """S3 answers 200 before it knows how that ends, and writes an error into the document."""
    return answer.status == OK and b"<CompleteMultipartUploadResult" in answer.document
