"""What a refusal of AWS means: one table of its error codes for SQS, DynamoDB, CloudWatch, S3 and STS.

AWS writes one code in several ways: with its namespace before it, with or without ``Exception`` at
its end. Here each stands once, bare. What is not in the table is judged by its HTTP status.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html,
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchStatementError.html,
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html,
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from typing import Final

from sqspider.frontier.aws.transport import Service
from sqspider.frontier.values import FrontierError, FrontierUnavailableError


class Meaning(enum.Enum):
    """What is to be done about a refusal."""

    LATER = enum.auto()  # it was not done: try again
    UNSURE = enum.auto()  # it may have been done: try again, and remember that
    OUTCOME = enum.auto()  # a condition did not hold: no error at all
    REFUSED = enum.auto()  # what was asked can never be done: the fault of this one request
    GONE = enum.auto()  # there is no such queue or table
    CREDENTIALS = enum.auto()  # the keys are not taken
    DENIED = enum.auto()  # the keys are good, but not allowed to
    FATAL = enum.auto()  # anything else that somebody must see to


CODES: Final[dict[Meaning, str]] = {
    Meaning.LATER: """
        ConditionalRequestConflict KmsThrottled LimitExceeded OperationAborted OverLimit
        PriorRequestNotComplete ProvisionedThroughputExceeded ReplicatedWriteConflict
        RequestLimitExceeded RequestThrottled SlowDown Throttled Throttling
        ThrottlingError TooManyRequests TransactionConflict TransactionInProgress
    """,
    Meaning.UNSURE: """
        IDPCommunicationError InternalError InternalFailure InternalServerError InternalServiceError
        InternalServiceFault RequestAborted RequestTimeout ServiceUnavailable
    """,
    Meaning.OUTCOME: "ConditionalCheckFailed DuplicateItem InvalidRange NoSuchKey NoSuchUpload PreconditionFailed",
    Meaning.REFUSED: """
        BatchRequestTooLong InvalidMessageContents InvalidParameterCombination InvalidParameterValue
        ItemCollectionSizeLimitExceeded MissingParameter RequestEntityTooLarge Serialization Validation
        ValidationError
    """,
    Meaning.GONE: """
        InvalidAddress NoSuchBucket NonExistentQueue QueueDeletedRecently QueueDoesNotExist ResourceNotFound
        TableNotFound
    """,
    Meaning.CREDENTIALS: """
        ExpiredToken IncompleteSignature InvalidAccessKeyId InvalidClientTokenId InvalidIdentityToken
        InvalidSignature InvalidToken MissingAuthenticationToken RequestExpired RequestTimeTooSkewed
        SignatureDoesNotMatch TokenRefreshRequired UnrecognizedClient
    """,
    Meaning.DENIED: """
        AccessDenied AccountProblem AllAccessDisabled AuthorizationError NotAuthorized OptInRequired
        UnauthorizedOperation
    """,
    Meaning.FATAL: """
        InvalidAction InvalidSecurity KmsAccessDenied KmsDisabled KmsInvalidKeyUsage KmsInvalidState
        KmsNotFound KmsOptInRequired MalformedHttpRequest ResourceInUse UnknownOperation
        UnsupportedOperation PurgeQueueInProgress
    """,
}
MEANINGS: Final = {code: meaning for meaning, codes in CODES.items() for code in codes.split()}


class AwsError(FrontierError):
    """AWS refused a call: its code and what that means, what it says, and the call that it refused."""

    def __init__(self, service: Service, action: str, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{service.name} {action}: {code}: {message}")
        self.service = service
        self.action = action
        self.code = code
        self.meaning = meaning_of(code, status)
        self.message = message


def bare(code: str) -> str:
    """A code without what AWS writes around it: ``com.amazonaws.sqs#``, ``AWS.SimpleQueueService.``, ``Exception``."""
    return code.rpartition("#")[2].rpartition(".")[2].removesuffix("Exception")


def meaning_of(code: str, status: int = 400) -> Meaning:
    """What a code means that came with an HTTP status; an unknown one by the status alone."""
    unknown = Meaning.LATER if status == 429 else Meaning.FATAL
    known = MEANINGS.get(bare(code), unknown)
    return Meaning.UNSURE if status >= 500 and known is not Meaning.LATER else known


def most_telling(codes: Iterable[str]) -> str:
    """Of several codes for one refusal (SQS sends an older one along) the first that is known, else the first."""
    found = [bare(code) for code in codes if code]
    return next((code for code in found if code in MEANINGS), found[0] if found else "")


def for_people(error: AwsError, region: str) -> FrontierError:
    """What a final refusal means for whoever started this."""
    if error.meaning is Meaning.CREDENTIALS:
        return FrontierUnavailableError(
            f"AWS does not take these credentials ({error.message}): see AWS_ACCESS_KEY_ID or AWS_PROFILE, "
            "and this machine's clock"
        )
    if error.meaning is Meaning.DENIED:
        return _access_denied(error, region)
    return error


def _access_denied(error: AwsError, region: str) -> FrontierUnavailableError:
    """The refusal with the permission that is missing, as AWS names it or as the call needs it."""
    named = re.search(r"perform: (\S+)", error.message)
    # A batch of SQS needs the permission of the single action.
    permission = named[1] if named else f"{error.service.name}:{error.action.removesuffix('Batch')}"
    return FrontierUnavailableError(
        f"access denied in {region}: these credentials lack the permission {permission} "
        f"({error.message or error.code}): grant it to their role or user"
    )
