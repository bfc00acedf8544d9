"""Which queue and which table, in which region, and at which addresses AWS is asked: as the environment says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from sqspider.frontier.aws.network import endpoint_of, is_server, variant_asked_for
from sqspider.frontier.aws.transport import CLOUDWATCH, DYNAMODB, SQS, Service
from sqspider.frontier.values import FrontierUnavailableError


class Place(NamedTuple):
    """Where the queue and the table are, by the environment."""

    queue_url: str
    table: str
    region: str

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Place:
        """By ``QUEUE_URL``, ``TABLE_NAME``, ``AWS_REGION`` and ``AWS_DEFAULT_REGION``.

        Raises :class:`FrontierUnavailableError` for what is missing, no queue's URL, or not of one region.
        """
        queue_url, table = environment.get("QUEUE_URL", ""), environment.get("TABLE_NAME", "")
        if not queue_url or not table:
            raise FrontierUnavailableError("aws: needs QUEUE_URL and TABLE_NAME: set both in the environment or .env")
        if not is_server(queue_url) or queue_url.count("/") < 4:
            raise FrontierUnavailableError(
                f"QUEUE_URL is {queue_url!r}: it must look like https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"
            )
        if queue_url.endswith(".fifo"):  # as AWS names all of them, and no other
            raise FrontierUnavailableError(
                f"QUEUE_URL is {queue_url!r}, a FIFO queue, which cannot delay single messages: name a standard one"
            )
        own = region_of(queue_url)
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or own
        if region is None:
            raise FrontierUnavailableError("no AWS region: set AWS_REGION")
        if own is not None and region != own:
            raise FrontierUnavailableError(
                f"QUEUE_URL is in {own}, but AWS_REGION is {region}: the queue and the table must share a region"
            )
        return cls(queue_url, table, region)

    def __str__(self) -> str:
        account, queue = urlsplit(self.queue_url).path.split("/")[1], self.queue_url.rpartition("/")[2]
        return f"queue {queue} and table {self.table} of account {account} in {self.region}"


def region_of(queue_url: str) -> str | None:
    """The region in the URL of a queue on AWS; none for another host."""
    parts = (urlsplit(queue_url).hostname or "").split(".")
    is_aws = len(parts) >= 4 and parts[0] in ("sqs", "sqs-fips") and parts[2] in ("amazonaws", "api")
    return parts[1] if is_aws else None


def endpoints_for(region: str, environment: Mapping[str, str], queue_url: str | None = None) -> dict[Service, str]:
    """Where each service answers: as the environment says, else as AWS names it.

    Raises :class:`FrontierUnavailableError` where the environment contradicts itself.
    """
    endpoints = {}
    variant = variant_asked_for(environment)
    for service, name in ((SQS, "SQS"), (DYNAMODB, "DYNAMODB"), (CLOUDWATCH, "CLOUDWATCH")):
        named = environment.get(f"AWS_ENDPOINT_URL_{name}") or environment.get("AWS_ENDPOINT_URL")
        if service is SQS and queue_url is not None and not named:
            parts = urlsplit(queue_url)
            named = f"{parts.scheme}://{parts.netloc}"
        if named:
            _check_endpoint(service, named, variant)
        endpoint = named if named and not variant else endpoint_of(service.name, region, environment)
        endpoints[service] = endpoint.rstrip("/") + "/"
    return endpoints


def _check_endpoint(service: Service, named: str, variant: str | None) -> None:
    if not is_server(named) or "@" in urlsplit(named).netloc:  # AWS knows no user's password
        raise FrontierUnavailableError(
            f"the endpoint of {service.name} is no URL of a server, or a user stands in it: write "
            "https://HOST or https://HOST:PORT (see AWS_ENDPOINT_URL and QUEUE_URL)"
        )
    if variant and region_of(named) is None:
        raise FrontierUnavailableError(
            f"{variant} is true, but the endpoint {named} is named: unset one of the two (see QUEUE_URL and "
            "AWS_ENDPOINT_URL)"
        )
