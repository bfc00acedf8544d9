"""The bucket of the pages that were fetched: WARC objects below one prefix. It stays when the stack is removed."""

from __future__ import annotations

from typing import Final

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_s3 as s3
from constructs import Construct

PREFIX: Final = "pages"
UPLOAD_DAYS: Final = 2  # after which parts of an upload that nobody completed are cleared away


def archive_of(scope: Construct, days: int) -> s3.Bucket:
    """The bucket of a stack. What lies in it is deleted after so many ``days``; zero: never."""
    rules = [
        s3.LifecycleRule(id="Uploads", abort_incomplete_multipart_upload_after=Duration.days(UPLOAD_DAYS)),
        *([s3.LifecycleRule(id="Pages", prefix=f"{PREFIX}/", expiration=Duration.days(days))] if days else []),
    ]
    return s3.Bucket(
        scope,
        "Pages",
        encryption=s3.BucketEncryption.S3_MANAGED,
        enforce_ssl=True,
        block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
        object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
        versioned=False,  # what is to be forgotten is gone at once
        lifecycle_rules=rules,
        removal_policy=RemovalPolicy.RETAIN,
    )


def address_of(bucket: s3.Bucket) -> str:
    """Where the pages lie, as the crawler is told."""
    return f"s3://{bucket.bucket_name}/{PREFIX}"
