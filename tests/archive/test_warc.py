"""Records, as the standard and its adopted extensions have them. Other tools judge them in ``tests/judges``."""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from dataclasses import dataclass
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqspider.archive.dates import microseconds
from sqspider.archive.warc import (
    IDENTICAL,
    NOT_MODIFIED,
    Answer,
    Origin,
    digest_of,
    head_of,
    record_id,
    records_of,
    warcinfo,
)
from sqspider.capture import Capture, Hop
from sqspider.crawl_settings import CrawlSettings
from sqspider.record import CapturePlace
from sqspider.redact import learn_secret
from sqspider.web.fetch import Cut

from .captures import AT, HTML, LARGE, REQUEST_HEAD, capture_of

INFO: Final = "<urn:uuid:00000000-0000-5000-8000-000000000001>"
PLACE: Final = CapturePlace("a.warc.gz", 7, 99, digest_of(LARGE), AT - 86_400.000001)


@dataclass(frozen=True)
class Record:
    """One that was read strictly: every line a field, the block of the length it says."""

    fields: list[tuple[str, str]]
    block: bytes

    def __getitem__(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]


def read(record: bytes) -> Record:
    head, _, rest = record.partition(b"\r\n\r\n")
    first, *lines = head.decode("ascii").split("\r\n")
    assert first == "WARC/1.1"
    fields = []
    for line in lines:
        found = re.fullmatch(r"([A-Za-z0-9-]+): (\S(?:.*\S)?)", line)
        assert found, line
        fields.append((found[1], found[2]))
    read = Record(fields, rest[:-4])
    assert rest[-4:] == b"\r\n\r\n"
    assert int(read["Content-Length"]) == len(read.block)
    assert read["WARC-Block-Digest"] == sha1(read.block)
    assert re.fullmatch(r"<urn:uuid:[0-9a-f-]{36}>", read["WARC-Record-ID"])
    assert uuid.UUID(read["WARC-Record-ID"][10:-1]).version == 5
    twice = {name for name, _ in fields if len(read.all(name)) > 1}
    assert twice <= {"WARC-Concurrent-To", "WARC-Protocol"}
    return read


def sha1(data: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(data).digest()).decode()


def answer_of(capture: Capture, **fields: Any) -> Answer:
    payload = capture.fetched.payload
    answer = Answer(capture, microseconds(capture.at), payload, digest_of(payload), capture.fetched.cut)
    return answer._replace(**fields)


def written(capture: Capture, **fields: Any) -> list[Record]:
    return [read(record) for record in records_of(answer_of(capture, **fields), INFO)]


def said(metadata: Record) -> list[tuple[str, str]]:
    lines = metadata.block.decode().split("\r\n")
    assert lines.pop() == ""
    return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


def test_an_exchange_is_a_response_its_request_and_their_metadata() -> None:
    tls = "TLSv1.3 / TLS_AES_256_GCM_SHA384 / X25519 / RSASSA-PSS"
    response, request, metadata = written(capture_of(wire={"tls": tls}))
    assert [one["WARC-Type"] for one in (response, request, metadata)] == ["response", "request", "metadata"]
    for one in (response, request, metadata):
        assert one["WARC-Date"] == "2026-09-21T14:13:20.123456Z"
        assert one["WARC-Target-URI"] == "http://site.example/page"
        assert one["WARC-Warcinfo-ID"] == INFO
    for one in (request, metadata):
        assert one["WARC-Concurrent-To"] == response["WARC-Record-ID"]
    for one in (response, request):
        assert one["WARC-IP-Address"] == "192.0.2.7"
        assert one.all("WARC-Protocol") == ["http/1.1", "tls/1.3"]
        assert one["WARC-Cipher-Suite"] == "TLS_AES_256_GCM_SHA384"
    assert response["Content-Type"] == "application/http;msgtype=response"
    assert response["WARC-Payload-Digest"] == sha1(LARGE)
    assert response.block == b"HTTP/1.1 200 OK\r\n" + HTML + b"Content-Length: %d\r\n\r\n" % len(LARGE) + LARGE
    assert request["Content-Type"] == "application/http;msgtype=request"
    assert request.block == REQUEST_HEAD
    assert metadata["Content-Type"] == "application/warc-fields"
    ids = {one["WARC-Record-ID"] for one in (response, request, metadata)}
    assert len(ids) == 3
    assert not response.all("WARC-Truncated")


def test_the_id_of_a_capture_follows_from_its_place() -> None:
    response, *_ = written(capture_of())
    place = CapturePlace("a.warc.gz", 0, 1, "", microseconds(AT) / 1_000_000)
    assert response["WARC-Record-ID"] == record_id("response", "http://site.example/page", microseconds(place.at))


@given(st.binary(max_size=60), st.integers(0))
def test_digests_and_ids_are_those_of_the_standard_library(data: bytes, date: int) -> None:
    assert digest_of(data) == base64.b32encode(hashlib.sha1(data).digest()).decode()
    namespace = uuid.UUID("9c3bd6e8-0d5b-5f1c-8a35-5b8a1a1f7b10")
    assert (
        record_id("response", "http://a/", date) == f"<urn:uuid:{uuid.uuid5(namespace, f'response http://a/ {date}')}>"
    )


@given(st.integers(0, 4_000_000_000_000_000))
def test_a_date_comes_back_from_a_place_to_the_digit(date: int) -> None:
    assert microseconds(date / 1_000_000) == date


def test_nothing_is_said_of_what_is_not_known() -> None:
    response, metadata = written(capture_of(wire={"address": "", "request_head": b"", "protocol": ""}))
    assert metadata["WARC-Type"] == "metadata"
    for name in ("WARC-IP-Address", "WARC-Protocol", "WARC-Cipher-Suite"):
        assert not response.all(name)


@pytest.mark.parametrize(
    ("protocol", "tls", "protocols", "suite"),
    [
        ("HTTP/1.0", "", ["http/1.0"], []),
        ("HTTP/2", "TLSv1.3 / TLS_AES_128_GCM_SHA256 / x", ["h2", "tls/1.3"], ["TLS_AES_128_GCM_SHA256"]),
        ("HTTP/1.1", "TLSv1.2 / ECDHE-RSA-AES128-GCM-SHA256", ["http/1.1", "tls/1.2"], ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]),
        ("HTTP/1.1", "TLSv1.2 / OF-NO-TABLE / x", ["http/1.1", "tls/1.2"], []),
        ("HTTP/1.1", "TLSv1 / AES128-SHA", ["http/1.1", "tls/1.0"], ["TLS_RSA_WITH_AES_128_CBC_SHA"]),
        ("HTTP/1.1", "no TLS at all", ["http/1.1"], []),
    ],
)  # fmt: skip
def test_protocols_have_their_registered_names(protocol: str, tls: str, protocols: list[str], suite: list[str]) -> None:
    response, *_ = written(capture_of(wire={"protocol": protocol, "tls": tls}))
    assert response.all("WARC-Protocol") == protocols
    assert response.all("WARC-Cipher-Suite") == suite


def test_suites_are_those_that_openssl_has() -> None:
    """Under the names that it says are IANA's: those of TLS 1.2 that it has here."""
    import ssl

    from sqspider.archive.suites import iana_name_of

    context = ssl.create_default_context()
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:AESGCM:@SECLEVEL=0")
    names = [cipher["name"] for cipher in context.get_ciphers() if "PSK" not in cipher["name"]]
    known = [name for name in names if iana_name_of(name) is not None]
    assert {"ECDHE-RSA-AES256-GCM-SHA384", "TLS_AES_256_GCM_SHA384"} <= set(known)


# Heads


def test_a_head_is_kept_byte_for_byte() -> None:
    odd = [
        b"HTTP/1.0  200 \xfcber\r\n", b"x: \xe4\xf6 \xff\x80\r\n", b"no colon at all\r\n", b"bare: line end\n",
        b"A:b\r\n", b"a : c\r\n", b"\tdeep: in\r\n", b"\r\n",
    ]  # fmt: skip
    assert head_of(odd, 4) == b"".join(odd)


def test_framing_that_is_gone_is_renamed() -> None:
    head = [b"HTTP/1.1 200 OK\r\n", b"transfer-Encoding: chunked\r\n", b"A: b\r\n", b"Content-Length: 9\r\n", b"\r\n"]
    assert head_of(head, 4) == (
        b"HTTP/1.1 200 OK\r\nX-Crawler-transfer-Encoding: chunked\r\nA: b\r\nX-Crawler-Content-Length: 9\r\n"
        b"Content-Length: 4\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("lines", "is_changed"),
    [
        ([], False),  # it ended with its connection
        ([b"Content-Length: 4\r\n"], False),
        ([b"content-length :4\r\n", b"Content-Length: 4, 4\r\n"], False),
        ([b"Content-Length: 5000\r\n"], True),  # of what was cut
        ([b"Content-Length: 4\r\n", b"Content-Length: 5\r\n"], True),
        ([b"Content-Length: many\r\n"], True),
        ([b"Content-Length: \r\n"], True),
        ([b" Transfer-Encoding: identity\r\n"], True),
        ([b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n"], True),
        ([b"X-Content-Length: 5\r\n", b"Content-Lengths: 6\r\n"], False),
    ],
)
def test_a_length_is_changed_only_where_it_is_not_the_payloads(lines: list[bytes], is_changed: bool) -> None:
    head = [b"HTTP/1.1 200 OK\r\n", *lines, b"\r\n"]
    got = head_of(head, 4)
    if not is_changed:
        assert got == b"".join(head)
        return
    kept = re.sub(rb"X-Crawler-([^\r]*)", rb"\1", got).replace(b"Content-Length: 4\r\n\r\n", b"\r\n", 1)
    assert kept == b"".join(line.lstrip() for line in head[:-1]) + b"\r\n"
    assert re.findall(rb"(?im)^(?:content-length|transfer-encoding)[^\r]*", got) == [b"Content-Length: 4"]


def test_http_2_has_the_status_line_of_http_1_1() -> None:
    response, *_ = written(capture_of(status=b"HTTP/2 200 \r\n"))
    assert response.block.startswith(b"HTTP/1.1 200 \r\n")
    assert response.all("WARC-Protocol") == ["h2"]


heads = st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"") + b"\r\n"), max_size=6)


@given(
    heads, st.binary(max_size=50), st.sampled_from([b"", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 7\r\n"])
)
def test_any_head_makes_a_whole_record_with_its_payload(lines: list[bytes], payload: bytes, framing: bytes) -> None:
    capture = capture_of(payload, *lines, framing, b"A: b\r\n")
    response, *_ = written(capture)
    assert response.block.endswith(payload)
    assert response["WARC-Payload-Digest"] == sha1(payload)
    for line in lines:
        assert line.strip() in response.block


# What may tear a line

texts = st.lists(st.sampled_from(["\r\n", "\n", "\0", ": ", "a"]) | st.text(st.characters(codec=None))).map("".join)


@given(url=texts, via=texts, crawl=texts, fact=texts, address=texts, tls=texts)
def test_nothing_that_is_said_tears_a_record(url: str, via: str, crawl: str, fact: str, address: str, tls: str) -> None:
    capture = capture_of(
        url="http://site.example/" + url, via="http://" + via, crawl=crawl, facts=(("robots", fact),),
        wire={"address": address, "tls": "TLSv1.2 / " + tls, "protocol": "HTTP/1.1" + tls},
    )  # fmt: skip
    place = CapturePlace("a", 1, 2, PLACE.digest, AT, url="http://other.example/" + url)
    for records in (written(capture), written(capture, original=place)):
        names = [name for name, _ in said(records[-1])]
        assert names == ["via", "hopsFromSeed", "fetchTimeMs", "crawl", "robots"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://x/\r\nWARC-Type: evil", "http://x/%0D%0AWARC-Type:%20evil"),
        ("http://x/ü?a=b%20c", "http://x/%C3%BC?a=b%20c"),
        ("http://x/\x00\x7f<>", "http://x/%00%7F<>"),
    ],
)
def test_what_no_uri_has_is_quoted(url: str, said: str) -> None:
    response, *_ = written(capture_of(url=url))
    assert response["WARC-Target-URI"] == said


# What a revisit says


def test_the_same_payload_is_a_revisit_with_a_head_and_no_body() -> None:
    capture = capture_of(LARGE, HTML, b"Transfer-Encoding: chunked\r\n")
    revisit, request, _ = written(capture, original=PLACE)
    assert revisit["WARC-Type"] == "revisit"
    assert revisit["WARC-Profile"] == IDENTICAL == "http://netpreserve.org/warc/1.1/revisit/identical-payload-digest"
    assert revisit["WARC-Payload-Digest"] == sha1(LARGE)
    assert revisit["WARC-Truncated"] == "length"
    assert revisit["WARC-Refers-To-Target-URI"] == "http://site.example/page"
    assert revisit["WARC-Refers-To-Date"] == "2026-09-20T14:13:20.123455Z"
    assert revisit["WARC-Refers-To"] == record_id("response", "http://site.example/page", microseconds(PLACE.at))
    length = b"Content-Length: %d\r\n\r\n" % len(LARGE)
    assert revisit.block == b"HTTP/1.1 200 OK\r\n" + HTML + b"X-Crawler-Transfer-Encoding: chunked\r\n" + length
    assert request["WARC-Concurrent-To"] == revisit["WARC-Record-ID"]


def test_a_revisit_of_another_url_names_it() -> None:
    place = CapturePlace("a", 1, 2, PLACE.digest, AT, url="http://other.example/")
    revisit, *_ = written(capture_of(), original=place)
    assert revisit["WARC-Refers-To-Target-URI"] == "http://other.example/"
    assert revisit["WARC-Refers-To"] == record_id("response", "http://other.example/", microseconds(AT))


def test_what_has_not_changed_has_no_block() -> None:
    capture = capture_of(b"", b'ETag: "a"\r\n', b"Date: now\r\n", status=b"HTTP/1.1 304 Not Modified\r\n")
    assert capture.fetched.is_unchanged
    revisit, _, metadata = written(capture, original=PLACE, digest=PLACE.digest)
    assert revisit["WARC-Profile"] == NOT_MODIFIED == "http://netpreserve.org/warc/1.1/revisit/server-not-modified"
    assert revisit["WARC-Payload-Digest"] == sha1(LARGE)
    assert revisit.block == b""
    assert not revisit.all("WARC-Truncated")
    assert [value for name, value in said(metadata) if name == "head"] == [
        "HTTP/1.1 304 Not Modified", 'ETag: "a"', "Date: now",
    ]  # fmt: skip


@pytest.mark.parametrize("cut", list(Cut))
def test_what_was_cut_says_why(cut: Cut) -> None:
    response, *_ = written(capture_of(b"half", b"Content-Length: 8\r\n", fetched={"cut": cut}))
    assert response["WARC-Truncated"] == cut.value
    assert response.block == b"HTTP/1.1 200 OK\r\nX-Crawler-Content-Length: 8\r\nContent-Length: 4\r\n\r\nhalf"


# Why it was asked


@pytest.mark.parametrize(
    ("hop", "depth", "hops"),
    [
        (Hop.SEED, 0, ""),
        (Hop.LINK, 1, "L"),
        (Hop.LINK, 3, "LLL"),
        (Hop.LINK, 0, "L"),
        (Hop.REDIRECT, 0, "R"),
        (Hop.REDIRECT, 2, "LLR"),
        (Hop.ROBOTS, 0, "P"),
        (Hop.SITEMAP, 0, "M"),
        (Hop.LINK, 1_000_000, f"999949+{'L' * 51}"),
    ],
)
def test_hops_are_letters(hop: Hop, depth: int, hops: str) -> None:
    *_, metadata = written(capture_of(hop=hop, depth=depth))
    assert ("hopsFromSeed", hops) in said(metadata)


def test_redirects_on_the_way_to_what_has_no_record_are_told_with_it() -> None:
    *_, metadata = written(capture_of(hop=Hop.SITEMAP, redirects=2))
    assert ("hopsFromSeed", "MRR") in said(metadata)


def test_metadata_says_why_it_was_asked_and_what_has_no_other_place() -> None:
    *_, metadata = written(
        capture_of(
            via="http://site.example/", crawl="news", depth=1, facts=(("charsetForLinkExtraction", "utf-8"),),
            wire={"trailers": [b"Expires: never\r\n", b"x: \xe4\r\n"]}, settings=CrawlSettings(obey_robots=False),
        )
    )  # fmt: skip
    assert said(metadata) == [
        ("via", "http://site.example/"), ("hopsFromSeed", "L"), ("fetchTimeMs", "250"), ("crawl", "news"),
        ("charsetForLinkExtraction", "utf-8"), ("robots", "ignore"), ("trailer", "Expires: never"), ("trailer", "x: ä"),
    ]  # fmt: skip


def test_no_secret_is_written() -> None:
    learn_secret("s3cr3t-of-a-test")
    asked = REQUEST_HEAD[:-2] + b"Authorization: Basic abcdef\r\nX-Key: one\r\nY: s3cr3t-of-a-test\r\n\r\n"
    records = written(capture_of(wire={"request_head": asked}, fetched={"secret_lines": frozenset({"x-key"})}))
    assert records[1].block.endswith(b"Authorization: [redacted]\r\nX-Key: [redacted]\r\nY: [redacted]\r\n\r\n")
    assert ("redacted", "authorization, x-key, y") in said(records[2])
    for one in records:
        for secret in (b"abcdef", b"one\r\n", b"s3cr3t"):
            assert secret not in one.block


# What begins a file


def test_a_file_says_who_wrote_it() -> None:
    identity, record = warcinfo("a.warc.gz", microseconds(AT), Origin("host", "us@example.org", "sqspider/1"))
    first = read(record)
    assert first["WARC-Type"] == "warcinfo"
    assert first["WARC-Record-ID"] == identity
    assert first["WARC-Filename"] == "a.warc.gz"
    assert not first.all("WARC-Target-URI")
    fields = dict(said(first))
    assert fields["software"].startswith("sqspider/")
    assert fields["format"] == "WARC File Format 1.1"
    assert fields["conformsTo"] == "http://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/"
    assert fields["hostname"] == "host"
    assert fields["operator"] == "us@example.org"
    assert fields["robots"] == "obey"
    assert fields["http-header-user-agent"] == "sqspider/1"


def test_a_file_does_not_say_what_is_not_known() -> None:
    _, record = warcinfo("a.warc.gz", 0, Origin("host"))
    assert read(record)["WARC-Date"] == "1970-01-01T00:00:00.000000Z"
    assert not {"operator", "http-header-user-agent"} & dict(said(read(record))).keys()
