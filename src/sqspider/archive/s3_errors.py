"""What S3 says where it does not do what it was asked for, and what that means for whoever keeps an archive there.

Codes and their meanings are in the frontier's table (``frontier/aws/errors``); S3 writes them as XML, or not at all in
answers to HEAD, which have no body.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Final

from sqspider.archive.errors import ArchiveError, NoArchiveError, NotAllowedError
from sqspider.archive.s3_place import S3Place
from sqspider.frontier.aws.credentials import Keys, masked
from sqspider.frontier.aws.errors import AwsError, Meaning
from sqspider.frontier.aws.transport import S3, Received

MAX_MESSAGE_CHARACTERS: Final = 500
# By their own names, where these are no actions of IAM.
_PERMISSIONS: Final[Mapping[str, str]] = {
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
}
_READS: Final = ("GetObject", "HeadObject")
_ELSEWHERE: Final = (301, 307, 400)  # HTTP statuses with which S3 sends to another region
_WITHOUT_BODY: Final[Mapping[int, str]] = {403: "AccessDenied", 404: "NoSuchKey", 412: "PreconditionFailed"}


def error_in(action: str, answer: Received, keys: Keys) -> AwsError:
    """The error that an answer states. Nothing of the keys is in it."""
    text = answer.document[:65_536].decode(errors="replace")
    code = masked(_element("Code", text) or _WITHOUT_BODY.get(answer.status, f"HTTP {answer.status}"), keys)
    message = masked(_element("Message", text), keys)[:MAX_MESSAGE_CHARACTERS]
    return AwsError(S3, action, code, message, answer.status)


def region_in(answer: Received) -> str | None:
    """The region in which the bucket lies, where an answer says that it was asked for in another one."""
    if answer.status not in _ELSEWHERE:
        return None
    said = answer.headers.get("x-amz-bucket-region") or _element("Region", answer.document.decode(errors="replace"))
    return said if re.fullmatch(r"[a-z0-9-]{1,40}", said) else None


def _element(name: str, text: str) -> str:
    """What is in an element of XML, on one line. What comes in the place of an answer need not be XML: so no parser."""
    found = re.search(rf"<{name}>([^<]*)</{name}>", text)
    return " ".join(html.unescape(found[1]).split()) if found else ""


def for_people(error: AwsError, place: S3Place, region: str) -> ArchiveError:
    """What a final refusal means for whoever started this."""
    match error.meaning:
        case Meaning.CREDENTIALS:
            return NotAllowedError(
                f"{place}: AWS does not take these credentials ({error.message or error.code}): see AWS_ACCESS_KEY_ID "
                "or AWS_PROFILE, and this machine's clock"
            )
        case Meaning.DENIED:
            return _denied(error, place)
        case Meaning.GONE:
            return NoArchiveError(
                f"{place}: there is no bucket {place.bucket} (asked for in {region}): name another one, or make it"
            )
    return ArchiveError(f"{place}: S3 refuses {error.action}: {error.code}{_said(error)}")


def _denied(error: AwsError, place: S3Place) -> NotAllowedError:
    """The refusal with the permission that is missing, as AWS names it or as the call needs it."""
    named = re.search(r"perform: (\S+)", error.message)
    permission = named[1] if named else _PERMISSIONS.get(error.action, f"s3:{error.action}")
    on = place.bucket if permission == "s3:ListBucket" else f"{place.bucket}/{place.prefix}*"
    unless = ", unless what was asked for is not there, which only s3:ListBucket would tell"
    return NotAllowedError(
        f"{place}: access denied: these credentials lack the permission {permission} on {on}{_said(error)}"
        f"{unless if error.action in _READS else ''}: grant it to their role or user"
    )


def elsewhere(place: S3Place, found: str, region: str) -> ArchiveError:
    """The bucket lies in another region."""
    return ArchiveError(
        f"{place}: the bucket lies in {found}, and was asked for in {region}: name a bucket of {region}, or set "
        f"AWS_REGION={found}"
    )


def _said(error: AwsError) -> str:
    return f" ({error.message})" if error.message else ""
