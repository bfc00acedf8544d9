"""How AWS is reached: other kinds of endpoints, proxies and certificates, as the environment says."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import botocore.session
import pytest
import trustme
from botocore.config import Config

from sqspider.frontier import FrontierUnavailableError
from sqspider.frontier.aws.network import Network
from sqspider.frontier.aws.place import endpoints_for
from sqspider.frontier.aws.transport import CLOUDWATCH, DYNAMODB, SQS

from .store import AwsStore

REGIONS = ("us-east-1", "eu-central-1", "ca-central-1", "us-gov-west-1", "us-gov-east-1", "cn-north-1")


@pytest.mark.parametrize("is_fips", [False, True])
@pytest.mark.parametrize("is_dual", [False, True])
def test_endpoints_are_those_of_the_sdk(is_fips: bool, is_dual: bool) -> None:
    environment = {"AWS_USE_FIPS_ENDPOINT": str(is_fips).lower(), "AWS_USE_DUALSTACK_ENDPOINT": str(is_dual)}
    session = botocore.session.get_session()
    config = Config(use_fips_endpoint=is_fips, use_dualstack_endpoint=is_dual)
    for region in REGIONS:
        suffix = ".cn" if region.startswith("cn-") else ""
        ours = endpoints_for(region, environment, f"https://sqs.{region}.amazonaws.com{suffix}/123456789012/crawl")
        for service, name in ((SQS, "sqs"), (DYNAMODB, "dynamodb"), (CLOUDWATCH, "cloudwatch")):
            theirs = session.create_client(
                name, region_name=region, config=config, aws_access_key_id="x", aws_secret_access_key="y"
            )
            assert ours[service] == theirs.meta.endpoint_url + "/"


def test_the_queues_own_host_is_asked() -> None:
    for host in ("sqs-fips.us-east-1.amazonaws.com", "queue.example.com:8443"):
        assert endpoints_for("us-east-1", {}, f"https://{host}/1/crawl")[SQS] == f"https://{host}/"


@pytest.mark.parametrize("variant", ["AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"])
@pytest.mark.parametrize(
    ("named", "queue_url"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:5060"}, "https://sqs.us-east-1.amazonaws.com/1/crawl"),
        ({"AWS_ENDPOINT_URL_DYNAMODB": "http://127.0.0.1:5060"}, "https://sqs.us-east-1.amazonaws.com/1/crawl"),
        ({}, "https://vpce-1-sqs.us-east-1.vpce.amazonaws.com/1/crawl"),
    ],
)
def test_another_kind_of_an_endpoint_that_is_named_is_refused(
    variant: str, named: dict[str, str], queue_url: str
) -> None:
    with pytest.raises(FrontierUnavailableError, match=f"^{variant} is true, but the endpoint .* is named: unset one"):
        endpoints_for("us-east-1", {**named, variant: "TRUE"}, queue_url)


@pytest.mark.parametrize(
    ("environment", "endpoint", "proxy"),
    [
        ({}, "https://sqs.us-east-1.amazonaws.com/", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://sqs.us-east-1.amazonaws.com/", "http://p:1"),
        (
            {"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:2"},
            "https://sqs.us-east-1.amazonaws.com/",
            "http://q:2",
        ),
        ({"HTTPS_PROXY": "p:1"}, "https://sqs.us-east-1.amazonaws.com/", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1"}, "http://127.0.0.1:5060/", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://127.0.0.1:5060/", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1", "NO_PROXY": "localhost,127.0.0.1"}, "http://127.0.0.1:5060/", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".amazonaws.com"}, "https://sqs.us-east-1.amazonaws.com/", None),
        ({"HTTPS_PROXY": "socks5://p:1", "NO_PROXY": "*"}, "https://sqs.us-east-1.amazonaws.com/", None),
    ],
)
def test_proxies_are_those_of_the_environment(environment: dict[str, str], endpoint: str, proxy: str | None) -> None:
    assert Network.read(environment).proxy_for(endpoint) == proxy


def test_what_cannot_be_followed_is_refused(tmp_path: Path) -> None:
    network = Network.read({"HTTPS_PROXY": "socks5://me:secret@p:1"})
    with pytest.raises(FrontierUnavailableError, match=r"^HTTPS_PROXY names a proxy of the kind 'socks5'") as refusal:
        network.proxy_for("https://sqs.us-east-1.amazonaws.com/")
    assert "secret" not in str(refusal.value)
    nothing = tmp_path / "nothing.pem"
    with pytest.raises(FrontierUnavailableError, match=r"AWS_CA_BUNDLE: there is no file"):
        Network.read({"AWS_CA_BUNDLE": str(nothing)})
    nothing.write_text("no certificate")
    with pytest.raises(FrontierUnavailableError, match=r"AWS_CA_BUNDLE: .* holds no certificate"):
        Network.read({"AWS_CA_BUNDLE": str(nothing)})


class Relay:
    """Passes on what comes to a port: to one place, or as a proxy (CONNECT) to the one that is asked for."""

    def __init__(self) -> None:
        self.passed: Counter[str] = Counter()  # connections by where they went

    @asynccontextmanager
    async def serving(self, to: str = "", tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        """Its port."""

        async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            target = to
            if not target:
                head = await reader.readuntil(b"\r\n\r\n")
                method, target, _ = head.decode().split(" ", 2)
                assert method == "CONNECT"
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            self.passed[target] += 1
            host, _, port = target.partition(":")
            their_reader, their_writer = await asyncio.open_connection(host, int(port))
            try:
                await asyncio.gather(_pipe(reader, their_writer), _pipe(their_reader, writer))
            finally:
                their_writer.close()
                writer.close()

        server = await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=tls)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except (OSError, NotImplementedError):  # hung up; TLS knows no half-closed connection
        writer.close()


async def test_aws_is_reached_through_a_proxy_and_by_certificates_of_ones_own(
    store: AwsStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    bundle = tmp_path / "bundle.pem"
    authority.cert_pem.write_to_path(str(bundle))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    engine = urlsplit(store.environment["AWS_ENDPOINT_URL"]).netloc
    front, proxy = Relay(), Relay()
    async with front.serving(engine, tls) as port, proxy.serving() as proxy_port:
        endpoint = f"127.0.0.1:{port}"
        environment = {**store.environment, "AWS_ENDPOINT_URL": f"https://{endpoint}", "AWS_CA_BUNDLE": str(bundle)}
        await (await store.open_in(environment)).counts()
        assert front.passed[engine]
        assert not proxy.passed

        by_proxy = {**environment, "HTTPS_PROXY": f"http://127.0.0.1:{proxy_port}"}
        await (await store.open_in(by_proxy)).counts()
        assert proxy.passed.keys() == {endpoint}
        passed = proxy.passed.total()
        await (await store.open_in({**by_proxy, "NO_PROXY": "127.0.0.1"})).counts()
        assert proxy.passed.total() == passed

        monkeypatch.setattr("sqspider.frontier.aws.OPEN_SECONDS", 0.5)
        with pytest.raises(FrontierUnavailableError, match="certificate"):
            await store.open_in({**environment, "AWS_CA_BUNDLE": ""})
        await store.close_handles()
