"""How requests to S3 are signed: by AWS's own published examples, and as botocore does it."""

from __future__ import annotations

import calendar
import hashlib
import time
from datetime import UTC, datetime
from typing import Final

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from sqspider.frontier.aws.credentials import Keys
from sqspider.frontier.aws.signing import S3Request, Signer

# https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
EXAMPLE_KEYS: Final = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
EXAMPLE_AT: Final = datetime(2013, 5, 24, tzinfo=UTC).timestamp()
EXAMPLE_ENDPOINT: Final = "https://examplebucket.s3.amazonaws.com/"
WELCOME: Final = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()


@pytest.mark.parametrize(
    ("request_", "signature"),
    [
        (
            S3Request("GET", EXAMPLE_ENDPOINT, "test.txt", headers={"range": "bytes=0-9"}),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            S3Request(
                "PUT", EXAMPLE_ENDPOINT, "test$file.text", {},
                {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"}, WELCOME,
            ),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            S3Request("GET", EXAMPLE_ENDPOINT, "", {"lifecycle": ""}),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            S3Request("GET", EXAMPLE_ENDPOINT, "", {"prefix": "J", "max-keys": "2"}),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["a range", "an object", "a query without value", "a sorted query"],
)  # fmt: skip
def test_requests_are_signed_as_in_aws_own_examples(request_: S3Request, signature: str) -> None:
    signed = Signer("us-east-1").sign_s3(request_, EXAMPLE_KEYS, EXAMPLE_AT)
    assert signed["authorization"].endswith(f"Signature={signature}")
    assert signed["x-amz-content-sha256"] == request_.digest


NAMES: Final = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)


@given(
    key=st.lists(NAMES.filter(lambda part: part not in (".", "..") and "/" not in part), min_size=1, max_size=3),
    query=st.dictionaries(NAMES, NAMES, max_size=3),
    token=st.sampled_from([None, "session/token+="]),
    content=st.binary(max_size=8),
)
def test_requests_are_signed_as_botocore_signs_them(
    key: list[str], query: dict[str, str], token: str | None, content: bytes
) -> None:
    keys = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token)
    digest = hashlib.sha256(content).hexdigest()
    ours = S3Request(
        "PUT", "https://s3.eu-west-1.amazonaws.com/", "bucket/" + "/".join(key), query, {"if-none-match": "*"}, digest
    )
    theirs = AWSRequest(method="PUT", url=ours.endpoint + ours.target, data=content, headers={"If-None-Match": "*"})
    theirs.context["payload_signing_enabled"] = True
    S3SigV4Auth(Credentials(keys.access_key_id, keys.secret_access_key, token), "s3", "eu-west-1").add_auth(theirs)
    moment = calendar.timegm(time.strptime(theirs.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ"))
    signed = Signer("eu-west-1").sign_s3(ours, keys, moment)
    assert signed["authorization"] == theirs.headers["Authorization"]
    assert signed["x-amz-content-sha256"] == theirs.headers["X-Amz-Content-SHA256"]
    assert signed.get("x-amz-security-token") == token


def test_dots_in_a_key_are_names_like_others() -> None:
    """S3 alone does not normalise the path."""
    request = S3Request("GET", EXAMPLE_ENDPOINT, "a/../b//c d~é")
    assert request.target == "a/../b//c%20d~%C3%A9"
