"""A lean client for S3: objects of one archive are put, read in ranges, listed and deleted.

It lives on what the frontier's client lives on (``frontier/aws``): keys, signatures, the way there, waits between
tries. Each call is made until there is an answer, some ten seconds at most. Raises
:class:`sqspider.archive.errors.ArchiveError`, and of its kinds.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import time
from collections.abc import AsyncGenerator, Collection, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple

from sqspider.archive.errors import ArchiveError, DamagedError, NoArchiveError, NotAllowedError
from sqspider.archive.s3_errors import elsewhere, error_in, for_people, region_in
from sqspider.archive.s3_place import S3Door, S3Place
from sqspider.frontier.aws.backoff import Backoff
from sqspider.frontier.aws.client import Call, Observer
from sqspider.frontier.aws.clock import AwsClock
from sqspider.frontier.aws.credentials import Keys, KeySource, find_keys, masked
from sqspider.frontier.aws.errors import AwsError, Meaning
from sqspider.frontier.aws.network import Network
from sqspider.frontier.aws.signing import S3Request, Signer
from sqspider.frontier.aws.transport import S3, HttpTransport, NoAnswerError, Received, Sent, Transport
from sqspider.frontier.values import CHANCE, Clock, FrontierBusyError, FrontierUnavailableError

GIVE_UP_SECONDS: Final = 10.0  # of trying one call again and again
SLOWEST_BYTES_A_SECOND: Final = 100_000  # of a line to S3 that is waited for
TYPE: Final = "application/warc"  # https://www.iana.org/assignments/media-types/application/warc
DIGEST: Final = "x-amz-meta-sha256"  # of an object's bytes: what a look compares, whatever the bucket's encryption
OK: Final = 200
NO_CONTENT: Final = 204
PARTIAL: Final = 206
NOT_FOUND: Final = 404
TAKEN: Final = 412  # a condition does not hold
BEYOND: Final = 416  # a range that begins behind the end


class ObjectInfo(NamedTuple):
    """An object, without its bytes."""

    key: str
    size: int
    modified: float  # seconds since the epoch
    digest: str = ""  # SHA-256 in hex digits, of objects that this client put; not in lists


class Part(NamedTuple):
    """Some bytes of an object."""

    content: bytes
    size: int  # of the whole object
    version: str  # of its bytes: another one was put in its place if it differs


class S3Client:
    """The objects of one bucket. Observers see every request that is sent, each try by itself."""

    def __init__(
        self,
        place: S3Place,
        door: S3Door,
        *,
        keys: KeySource,
        transport: Transport,
        rng: random.Random,
        clock: Clock,
        give_up_seconds: float = GIVE_UP_SECONDS,
    ) -> None:
        self.place = place
        self._door = door
        self._keys = keys
        self._transport = transport
        self._rng = rng
        self._clock = AwsClock(clock)
        self._give_up_seconds = give_up_seconds
        self._signer = Signer(door.region)
        self.observers: list[Observer] = []

    @classmethod
    def open(
        cls,
        place: S3Place,
        environment: Mapping[str, str],
        *,
        clock: Clock = time.time,
        rng: random.Random = CHANCE,
        give_up_seconds: float = GIVE_UP_SECONDS,
    ) -> S3Client:
        """By the variables that the frontier on AWS reads. Nothing is asked yet."""
        door = S3Door.to(place.bucket, environment)
        try:
            keys = find_keys(environment)
            transport = HttpTransport({S3: door.endpoint}, network=Network.read(environment), clock=clock)
        except FrontierUnavailableError as error:
            raise ArchiveError(f"{place}: {error}") from error
        return cls(place, door, keys=keys, transport=transport, rng=rng, clock=clock, give_up_seconds=give_up_seconds)

    async def close(self) -> None:
        await self._transport.close()

    async def wake(self) -> None:
        """Let go of connections that went stale while this process was frozen. No call may be under way."""
        await self._transport.wake()

    async def put(self, name: str, body: bytes, *, is_new: bool) -> None:
        """Write an object; ``is_new``: but not over one that is there. Durable when it returns."""
        digest = await asyncio.to_thread(_sha256, body)  # megabytes are milliseconds, in which the loop goes on
        headers = {"content-type": TYPE, DIGEST: digest, **({"if-none-match": "*"} if is_new else {})}
        answer = await self.call("PutObject", "PUT", name, headers=headers, body=body, digest=digest, may_be=(TAKEN,))
        if answer.status == TAKEN:
            # It may be ours: a try before got no clear answer, and was carried out. Only a look tells.
            found = await self.look(name)
            if found is None or (found.size, found.digest) != (len(body), digest):
                raise ArchiveError(f"{self.place.url(name)} is there already, and is another: it was left as it is")

    async def look(self, name: str) -> ObjectInfo | None:
        """What is known of an object; none: it is not there."""
        answer = await self.call("HeadObject", "HEAD", name, may_be=(NOT_FOUND,))
        if answer.status == NOT_FOUND:
            return None
        return ObjectInfo(
            name,
            int(answer.headers.get("content-length", "0")),
            _moment(answer.headers.get("last-modified", "")),
            answer.headers.get(DIGEST, ""),
        )

    async def get(self, name: str, offset: int, length: int, *, version: str = "") -> Part:
        """Some bytes of an object, fewer where it ends before. ``version``: of that one alone.

        Raises :class:`NoArchiveError` where there is none, and :class:`DamagedError` where it is another one by now.
        """
        headers = {"range": f"bytes={offset}-{offset + length - 1}", **({"if-match": version} if version else {})}
        outcomes = (PARTIAL, NOT_FOUND, TAKEN, BEYOND)
        answer = await self.call("GetObject", "GET", name, headers=headers, expected_bytes=length, may_be=outcomes)
        if answer.status == NOT_FOUND:
            raise NoArchiveError(f"{self.place.url(name)} is not there")
        if answer.status == TAKEN:
            raise DamagedError(f"{self.place.url(name)} was written anew while it was read: read it again")
        found = re.fullmatch(r"bytes (?:\*|\d+-\d+)/(\d+)", answer.headers.get("content-range", ""))
        etag = answer.headers.get("etag", "")
        if answer.status == BEYOND:
            return Part(b"", int(found[1]) if found else offset, etag)
        if answer.status == OK:  # whoever stands in for S3 need not know ranges
            return Part(answer.document[offset : offset + length], len(answer.document), etag)
        return Part(answer.document, int(found[1]) if found else offset + len(answer.document), etag)

    async def listed(self) -> AsyncGenerator[ObjectInfo, None]:
        """All objects of the archive, by name, sorted bytewise."""
        from xml.etree import ElementTree  # here: a function of AWS lists nothing

        query = {"list-type": "2", "encoding-type": "url", "prefix": self.place.prefix}
        while True:
            answer = await self.call("ListObjectsV2", "GET", None, query=query)
            try:
                page = _Page(ElementTree.fromstring(answer.document), self.place.prefix)
            except (ElementTree.ParseError, KeyError, ValueError) as error:
                raise ArchiveError(f"{self.place}: what the bucket lists cannot be read: {error!r}") from None
            for found in page.objects:
                yield found
            if page.token is None:
                return
            query["continuation-token"] = page.token

    async def delete(self, name: str) -> None:
        """Delete an object; one that is not there is no error."""
        await self.call("DeleteObject", "DELETE", name, may_be=(NO_CONTENT, NOT_FOUND))

    async def call(
        self,
        action: str,
        method: str,
        name: str | None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        digest: str | None = None,
        expected_bytes: int = 0,
        may_be: Collection[int] = (),
    ) -> Received:
        """Ask until there is an answer that is good, or whose HTTP status it ``may_be``. No ``name``: the bucket is
        asked. ``digest``: of the body, if it is known; ``expected_bytes``: of the answer."""
        path = self._door.path.rstrip("/") if name is None else f"{self._door.path}{self.place.prefix}{name}"
        request = S3Request(method, self._door.endpoint, path, query or {}, headers or {}, digest or _sha256(body))
        wait_seconds = max(len(body), expected_bytes) / SLOWEST_BYTES_A_SECOND
        backoff = Backoff(f"{self.place}: {action}", give_up_seconds=self._give_up_seconds, rng=self._rng)
        is_alone = False
        refused: Keys | None = None
        while True:
            trouble: str
            offset, keys = self._clock.offset, await self._found_keys(refused)
            sent = Sent(
                S3, action, request.endpoint, self._signer.sign_s3(request, keys, self._clock()), body, wait_seconds,
                is_alone, method, request.target,
            )  # fmt: skip
            answer: Received | None = None
            try:
                answer = await self._ask(sent)
            except NoAnswerError as error:
                is_alone = True  # other kept connections may be as dead
                trouble = masked(str(error), keys)
            finally:
                self._show(action, len(body), answer)
            if answer is not None:
                if answer.status in (OK, *may_be) and not _is_missing_bucket(answer):
                    return answer
                may_be_signed_anew = keys != refused or offset != self._clock.offset
                refusal = self._judged(action, answer, keys, may_be_signed_anew=may_be_signed_anew)
                refused = keys if refusal.meaning is Meaning.CREDENTIALS else refused
                trouble = str(refusal)
            await self._wait(backoff, trouble)

    async def _ask(self, sent: Sent) -> Received:
        sent_at = self._clock.own()
        received = await self._transport.post(sent)
        self._clock.see(received.headers.get("date", ""), sent_at, self._clock.own())
        return received

    def _judged(self, action: str, answer: Received, keys: Keys, *, may_be_signed_anew: bool) -> AwsError:
        """The error of an answer, after which it is tried again. Raises :class:`ArchiveError` for a final one."""
        region = region_in(answer)
        if region is not None and region != self._door.region:
            raise elsewhere(self.place, region, self._door.region)
        error = error_in(action, answer, keys)
        is_of_keys = error.meaning is Meaning.CREDENTIALS and may_be_signed_anew
        if not is_of_keys and error.meaning not in (Meaning.LATER, Meaning.UNSURE):
            raise for_people(error, self.place, self._door.region)
        return error

    async def _found_keys(self, refused: Keys | None) -> Keys:
        try:
            return await self._keys.keys(refused)
        except FrontierUnavailableError as error:
            raise NotAllowedError(f"{self.place}: {error}") from error

    async def _wait(self, backoff: Backoff, trouble: str) -> None:
        try:
            await backoff.wait(trouble)
        except FrontierBusyError as error:
            raise ArchiveError(f"{error} (see AWS_REGION and AWS_ENDPOINT_URL_S3)") from None

    def _show(self, action: str, size: int, answer: Received | None) -> None:
        is_good = answer is not None and answer.status < 300
        call = Call(S3, action, {"Bytes": size}, {} if is_good else None)
        for observer in self.observers:
            observer(call)


def _is_missing_bucket(answer: Received) -> bool:
    return answer.status == NOT_FOUND and b"<Code>NoSuchBucket</Code>" in answer.document


class _Page:
    """A page of a list. https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html"""

    def __init__(self, root: Any, prefix: str) -> None:
        """Raises ``KeyError`` and ``ValueError`` for what is none."""
        from urllib.parse import unquote_plus

        space = root.tag.rpartition("}")[0]
        space = f"{space}}}" if space else ""
        if root.tag != f"{space}ListBucketResult":
            raise ValueError(f"it is no list, but {root.tag}")
        is_quoted = root.findtext(f"{space}EncodingType") == "url"
        self.objects = []
        for item in root.iterfind(f"{space}Contents"):
            said = {child.tag.removeprefix(space): child.text or "" for child in item}
            key = unquote_plus(said["Key"]) if is_quoted else said["Key"]
            name = key.removeprefix(prefix)
            if name and not name.endswith("/"):  # a folder, as consoles make them
                self.objects.append(ObjectInfo(name, int(said["Size"]), _moment(said["LastModified"])))
        self.token = root.findtext(f"{space}NextContinuationToken")


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _moment(text: str) -> float:
    """As lists write it (ISO 8601), or HTTP does."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        try:
            return parsedate_to_datetime(text).timestamp()
        except ValueError:
            return 0.0
