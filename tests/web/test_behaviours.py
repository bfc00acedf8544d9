"""Every behaviour of the list of nasty servers is met by a test, or has no place here for a reason.

What ``test_fetching`` does not play is played here: TLS, names, resets, redirects, floods.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import errno
import gzip
import re
import socket
import ssl
import struct
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from sqspider.record import Reason
from sqspider.transport import GO_ON, Exchange, Failure, Request
from sqspider.transport.addresses import why_not_public
from sqspider.transport.curl import CurlOptions, CurlTransport
from sqspider.transport.names import Names
from sqspider.url import canonicalize
from sqspider.web.fetch import Fetched, Fetcher
from sqspider.web.links import read_page
from sqspider.web.options import FetchOptions
from tests.conftest import load_cases
from tests.web.test_fetching import HEAD, IMPATIENT, PRIVATE, RawServer, fetch_from, ok

TESTS = Path(__file__).parent.parent


class Nowhere(NamedTuple):
    """A behaviour that cannot be met here."""

    why: str


COVERED: dict[str, tuple[str, ...] | Nowhere] = {
    "http-01": ("test_what_does_not_end_is_ended",),
    "http-02": ("test_a_host_that_takes_no_connection_is_given_up",),
    "http-03": ("test_what_does_not_end_is_ended",),
    "http-04": ("test_what_does_not_end_is_ended",),
    "http-05": ("test_a_tls_handshake_that_stalls_is_given_up",),
    "http-06": ("test_slow_but_in_time_is_a_success", "test_a_lease_that_ends_before_its_fetch_is_refused"),
    "http-07": ("test_what_does_not_end_is_ended",),
    "http-08": ("test_what_does_not_end_is_ended",),
    "http-09": ("test_a_strange_answer_ends_in_its_reason",),
    "http-10": ("test_a_strange_answer_ends_in_its_reason",),
    "http-11": ("test_a_strange_answer_ends_in_its_reason",),
    "http-12": ("test_what_does_not_end_is_ended",),
    "http-13": ("test_a_flood_or_a_broken_frame_ends_in_its_reason",),
    "http-14": ("test_a_bomb_is_cut_off_in_bounded_memory",),
    "http-15": ("test_a_bomb_is_cut_off_in_bounded_memory",),
    "http-16": ("test_twenty_codings_on_top_of_one_another_are_too_many",),
    "http-17": ("test_a_hundred_thousand_empty_gzip_members_are_soon_read",),
    "http-18": ("test_a_hundred_thousand_elements_deep_there_are_links_still", "test_no_page_takes_quadratic_time"),
    "http-19": ("test_a_strange_answer_ends_in_its_reason",),
    "http-20": ("test_a_connection_in_an_unknown_state_is_not_used_again",),
    "http-21": ("test_a_strange_answer_ends_in_its_reason",),
    "http-22": ("test_a_strange_answer_ends_in_its_reason",),
    "http-23": ("test_a_flood_or_a_broken_frame_ends_in_its_reason",),
    "http-24": (
        "test_a_strange_answer_ends_in_its_reason",
        "test_an_answer_that_comes_in_small_pieces_ends_in_the_same_reasons",
    ),
    "http-25": ("test_a_flood_or_a_broken_frame_ends_in_its_reason",),
    "http-26": ("test_a_strange_answer_ends_in_its_reason",),
    "http-27": ("test_a_flood_or_a_broken_frame_ends_in_its_reason", "test_an_endless_chunk_size_line_is_ended"),
    "http-28": ("test_a_flood_or_a_broken_frame_ends_in_its_reason",),
    "http-29": ("test_a_strange_answer_ends_in_its_reason",),
    "http-30": ("test_a_strange_answer_ends_in_its_reason", "test_a_flood_or_a_broken_frame_ends_in_its_reason"),
    "http-31": ("test_a_flood_or_a_broken_frame_ends_in_its_reason",),
    "http-32": ("test_a_flood_or_a_broken_frame_ends_in_its_reason",),
    "http-33": ("test_a_strange_answer_ends_in_its_reason", "test_a_flood_or_a_broken_frame_ends_in_its_reason"),
    "http-34": ("test_a_strange_answer_ends_in_its_reason", "test_nul_in_a_link_is_no_crash"),
    "http-35": ("test_a_flood_or_a_broken_frame_ends_in_its_reason",),
    "http-36": ("test_a_strange_answer_ends_in_its_reason", "test_locations_lead_where_the_peers_say"),
    "http-37": ("test_a_strange_answer_ends_in_its_reason", "test_who_hangs_up_at_once_is_a_reset"),
    "http-38": ("test_a_reset_is_a_reset_wherever_it_comes",),
    "http-39": ("test_a_kept_connection_that_was_closed_costs_no_failure",),
    "http-40": ("test_what_does_not_end_is_ended",),
    "http-41": ("test_a_strange_answer_ends_in_its_reason",),
    "http-42": ("test_a_strange_answer_ends_in_its_reason", "test_a_flood_or_a_broken_frame_ends_in_its_reason"),
    "http-43": Nowhere("no HEAD is ever sent"),
    "http-44": ("test_a_strange_answer_ends_in_its_reason",),
    "http-45": ("test_a_strange_answer_ends_in_its_reason",),
    "http-46": ("test_a_strange_answer_ends_in_its_reason",),
    "http-47": ("test_what_is_no_text_has_no_links",),
    "http-48": ("test_content_codings_are_taken_off",),
    "http-49": ("test_content_codings_are_taken_off",),
    "http-50": ("test_a_truncated_gzip_keeps_what_came",),
    "http-51": ("test_content_codings_are_taken_off", "test_a_flood_or_a_broken_frame_ends_in_its_reason"),
    "http-52": ("test_a_charset_that_is_none_is_passed_over",),
    "http-53": ("test_a_charset_that_is_none_is_passed_over",),
    "http-54": ("test_only_pages_are_read", "test_of_several_content_types_the_last_valid_one_counts"),
    "http-55": ("test_what_is_no_text_has_no_links", "test_a_bomb_is_cut_off_in_bounded_memory"),
    "http-56": ("test_where_a_redirect_leads_is_told_and_not_asked",),
    "http-57": ("test_where_a_redirect_leads_is_told_and_not_asked",),
    "http-58": ("test_a_strange_answer_ends_in_its_reason",),
    "http-59": ("test_a_redirect_is_an_answer_and_leaves_nothing_behind", "test_what_a_redirect_leads_to_is_guarded_like_any_url", "test_no_packet_goes_to_a_private_address"),
    "http-60": ("test_a_strange_answer_ends_in_its_reason",),
    "http-61": ("test_locations_lead_where_the_peers_say", "test_locations_are_resolved_as_the_standard_says"),
    "http-62": ("test_a_redirect_is_an_answer_and_leaves_nothing_behind", "test_a_redirect_asks_the_robots_txt_of_where_it_leads"),
    "http-63": ("test_a_redirect_is_an_answer_and_leaves_nothing_behind",),
    "http-64": ("test_a_meta_refresh_loop_is_a_link_and_ends",),
    "http-65": ("test_a_site_is_crawled_whole_and_every_url_once",),
    "http-66": ("test_a_strange_answer_ends_in_its_reason", "test_a_flood_or_a_broken_frame_ends_in_its_reason"),
    "http-67": ("test_a_host_that_asks_for_a_rest_gets_it",),
    "http-68": ("test_a_host_that_asks_for_a_rest_gets_it", "test_retry_after_agrees_with_peers"),
    "http-69": ("test_retry_after_agrees_with_peers", "test_no_retry_after_is_negative_or_fatal",
                "test_retry_after_is_capped_at_a_day"),
    "http-70": ("test_a_site_is_crawled_whole_and_every_url_once",
                "test_passing_trouble_is_tried_twice_more_with_a_doubling_wait"),
    "http-71": ("test_a_lasting_answer_is_final",),
    "http-72": ("test_a_passing_answer_is_tried_again",),
    "http-73": ("test_a_certificate_that_is_not_good_is_a_tls_error",),
    "http-74": ("test_plain_http_on_a_tls_port_is_a_tls_error", "test_a_flood_or_a_broken_frame_ends_in_its_reason"),
    "http-75": ("test_no_common_ground_is_a_tls_error", "test_a_server_that_breaks_the_handshake_off_was_asked_for_nothing",),
    "http-76": ("test_tls_that_is_cut_is_incomplete",),
    "http-77": ("test_nobody_listening_and_no_such_name_have_their_reasons", "test_a_resolver_in_trouble_fails_closed"),
    "http-78": ("test_what_was_checked_is_what_is_connected_to",),
    "http-79": ("test_a_second_address_stands_in_for_the_first",),
    "http-80": ("test_a_name_that_leads_to_a_private_address_is_blocked",),
    "http-81": ("test_a_strange_name_is_no_crash",),
    "http-82": Nowhere("HTTP/2 is not offered by the client"),
    "http-83": ("test_budgets_and_traps_are_named", "test_the_page_limit_stops_and_leaves_the_rest_queued"),
    "http-84": ("test_all_links_of_a_page_are_found_in_little_memory",),
    "http-85": ("test_budgets_and_traps_are_named", "test_nothing_that_matters_changes_between_two_digests"),
    "http-86": ("test_a_flood_or_a_broken_frame_ends_in_its_reason", "test_a_redirect_is_an_answer_and_leaves_nothing_behind"),
    "http-87": ("test_a_strange_answer_ends_in_its_reason", "test_a_flood_or_a_broken_frame_ends_in_its_reason"),
    "ssrfb-1": ("test_a_name_that_leads_to_a_private_address_is_blocked",),
    "ssrfb-2": ("test_what_was_checked_is_what_is_connected_to",),
    "ssrfb-3": ("test_a_redirect_is_an_answer_and_leaves_nothing_behind", "test_what_a_redirect_leads_to_is_guarded_like_any_url",),
    "ssrfb-4": ("test_a_name_that_leads_to_a_private_address_is_blocked",),
    "ssrfb-5": ("test_a_sitemap_reaches_no_private_address_and_must_be_a_url",
                "test_not_even_robots_txt_is_asked_of_a_private_address"),
    "ssrfb-6": ("test_proxies_of_the_environment_are_ignored",),
    "ssrfb-7": ("test_what_was_checked_is_what_is_connected_to",),
    "ssrfb-8": ("test_a_resolver_in_trouble_fails_closed",),
    "ssrfb-9": ("test_private_addresses_are_refused_unless_allowed",),
    "ssrfb-10": ("test_ports_of_other_services_are_not_asked",),
    "ssrfb-11": ("test_no_packet_goes_to_a_private_address",),
    "ssrfb-12": Nowhere("the system's resolver follows aliases; what it ends at is checked, as ssrfb-1"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["05a_http_behaviours.json", "07c_ssrf_behaviours.json"])
def test_every_behaviour_is_accounted_for(name: str) -> None:
    ids = {case["id"] for case in load_cases(name)["cases"]}
    assert ids <= COVERED.keys(), sorted(ids - COVERED.keys())
    kind = next(iter(ids)).partition("-")[0]
    assert {known for known in COVERED if known.startswith(f"{kind}-")} == ids


def test_every_test_that_accounts_for_a_behaviour_exists() -> None:
    tests = {
        name for path in TESTS.rglob("test_*.py") for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.M)
    }  # fmt: skip
    named = {name for names in COVERED.values() if not isinstance(names, Nowhere) for name in names}
    assert named <= tests, sorted(named - tests)
    for why in COVERED.values():
        assert why
    played = dict.fromkeys(COVERED, 0)
    for text in (path.read_text() for path in (TESTS / "web").glob("test_*.py")):
        for case in re.findall(r'"(http-\d\d)[ "]', text):
            played[case] += 1
    in_tables = {"test_a_strange_answer_ends_in_its_reason", "test_what_does_not_end_is_ended"}
    for case, names in COVERED.items():  # a row of a table names what it plays
        if not isinstance(names, Nowhere) and case.startswith("http-") and not in_tables.isdisjoint(names):
            assert played[case] >= 2, case


def test_every_test_that_the_documentation_names_exists() -> None:
    tests = {name for path in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())}
    documents = (TESTS.parent / "docs").rglob("*.md")
    named = {name for path in documents for name in re.findall(r"`(test_\w+)`", path.read_text())}
    assert named <= tests, sorted(named - tests)
    assert named


@contextmanager
def bounded(cpu_seconds: float = 5, memory: int = 8_000_000) -> Iterator[None]:
    """What happens inside ends, and takes no more of this process's time and memory."""
    tracemalloc.start()
    started = time.process_time()
    try:
        yield
        took = time.process_time() - started
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert took < cpu_seconds
    assert peak < memory


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"
MOVED = b"Location: /x\r\nContent-Length: 0\r\n\r\n"
FLOODS: list[tuple[str, bytes, Reason | None, bytes]] = [
    ("http-13 20,000 trailers", CHUNKED + b"1\r\nx\r\n0\r\n" + b"X: yyyy\r\n" * 20_000 + b"\r\n", Reason.HEADERS_TOO_LARGE, b""),
    ("http-13 one trailer", CHUNKED + b"1\r\nx\r\n0\r\nX: " + b"y" * 500_000 + b"\r\n\r\n", Reason.HEADERS_TOO_LARGE, b""),
    ("http-23 two framings", HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO, None, b"hello"),
    ("http-25 chunk too large", CHUNKED + b"12345678123456789\r\nhello\r\n0\r\n\r\n", Reason.BAD_RESPONSE, b""),
    ("http-25 chunk very large", CHUNKED + b"f" * 15 + b"\r\nhello\r\n0\r\n\r\n", None, HELLO[3:]),
    ("http-27 1 MB of extension", CHUNKED + b"5;" + b"a" * 1_000_000 + b"\r\nhello\r\n0\r\n\r\n", None, b"hello"),
    ("http-28 chunked twice", HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + HELLO, None, b"hello"),
    ("http-28 chunked in two lines", HEAD + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n" + HELLO, None, b"hello"),
    ("http-28 identity after it", HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n" + HELLO, Reason.BAD_RESPONSE, b""),
    ("http-28 gzip before it", HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + HELLO, Reason.BAD_RESPONSE, b""),
    ("http-28 unknown", HEAD + b"Transfer-Encoding: rubbish\r\n\r\n" + HELLO, Reason.BAD_RESPONSE, b""),
    ("http-30 a hundred digits", b"HTTP/1.1 " + b"2" * 100 + b" OK\r\n\r\n", Reason.BAD_RESPONSE, b""),
    ("http-30 a strange version", b"HTTP/1.9999999999 200 OK\r\n\r\n", Reason.BAD_RESPONSE, b""),
    ("http-31 no colon", HEAD + b"nocolon\r\nContent-Length: 1\r\n\r\nx", Reason.BAD_RESPONSE, b""),
    ("http-32 a folded line", HEAD + b"X: a\r\n b\r\nContent-Length: 1\r\n\r\nx", None, b"x"),
    ("http-33 NUL in the status line", b"HTTP/1.1 200 O\x00K\r\nContent-Length: 1\r\n\r\nx", Reason.BAD_RESPONSE, b""),
    ("http-33 NUL in a trailer", CHUNKED + b"1\r\nx\r\n0\r\nX: a\x00b\r\n\r\n", Reason.BAD_RESPONSE, b""),
    ("http-35 bare LF", b"HTTP/1.1 200 OK\nContent-Length: 5\nX: y\n\nhello", None, b"hello"),
    ("http-35 bare CR", b"HTTP/1.1 200 OK\rContent-Length: 5\r\rhello", Reason.CONNECTION_RESET, b""),
    ("http-42 304 with a body", b"HTTP/1.1 304 Not\r\nContent-Length: 5\r\n\r\nhello", Reason.UNEXPECTED_STATUS, b""),
    ("http-42 204 in chunks", b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO, None, b""),
    ("http-51 an unknown coding", ok(b"hello", "Content-Encoding: x-unknown"), None, b"hello"),
    ("http-66 300", b"HTTP/1.1 300 M\r\n" + MOVED, Reason.UNEXPECTED_STATUS, b""),
    ("http-66 304", b"HTTP/1.1 304 M\r\n" + MOVED, Reason.UNEXPECTED_STATUS, b""),
    ("http-66 306", b"HTTP/1.1 306 M\r\n" + MOVED, Reason.UNEXPECTED_STATUS, b""),
    ("http-74 TLS on a plain port", b"\x15\x03\x01\x00\x02\x02\x16", Reason.BAD_RESPONSE, b""),
    ("http-86 a cookie of 1 MB", HEAD + b"Set-Cookie: a=" + b"x" * 1_000_000 + b"\r\n\r\n", Reason.HEADERS_TOO_LARGE, b""),
    ("http-86 10,000 cookies", HEAD + b"".join(b"Set-Cookie: a%d=x\r\n" % n for n in range(10_000)) + b"\r\n", Reason.HEADERS_TOO_LARGE, b""),
    ("http-87 a Location of 2 MB", b"HTTP/1.1 302 F\r\nLocation: /" + b"a" * 2_000_000 + b"\r\n\r\n", Reason.HEADERS_TOO_LARGE, b""),
]  # fmt: skip


@pytest.mark.parametrize(("response", "reason", "body"), [row[1:] for row in FLOODS], ids=[row[0] for row in FLOODS])
async def test_a_flood_or_a_broken_frame_ends_in_its_reason(
    response: bytes, reason: Reason | None, body: bytes
) -> None:
    with bounded():
        fetched, server = await fetch_from(response, times=2)
    assert (fetched.reason, fetched.body) == (reason, body), fetched.detail
    assert server.connections == 2  # after the first nothing is used again
    assert "Error" not in fetched.detail


async def test_raw_replies_of_a_peer_end_as_they_should() -> None:
    """By the exit status of that peer, but where we are as strict as a crawler must be, or as browsers are."""
    ours = {
        "curl-49": None,  # the second answer of that case is another URL's
        "curl-1164": Reason.BAD_RESPONSE,  # and here to accept HTTP/0.9
        "curl-1479": None,  # the first of its two answers is good
    }
    by_exit_status: dict[int, set[Reason | None]] = {
        0: {None},
        8: {Reason.BAD_RESPONSE},
        56: {Reason.BAD_RESPONSE},
        61: {Reason.BAD_ENCODING, Reason.BAD_RESPONSE},
    }
    for case in load_cases("practice/05b_curl_raw_responses.json")["cases"]:
        response: dict[str, str] = next(iter(case["responses"].values()))
        for kind in ("raw_b64", "raw_crlf_headers_b64"):
            if kind in response:
                fetched, _ = await fetch_from(base64.b64decode(response[kind]))
                expected: set[Reason | None] = (
                    {ours[case["id"]]} if case["id"] in ours else by_exit_status[case["curl_exit"]]
                )
                assert fetched.reason in expected, (case["id"], kind, fetched.detail)


# Time.


async def test_a_host_that_takes_no_connection_is_given_up() -> None:
    """Its queue of connections is full, so it answers none of our packets."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=0)
    address = listening.getsockname()
    waiting = []
    for _ in range(4):
        one = socket.socket()
        one.setblocking(False)
        assert one.connect_ex(address) in (0, errno.EINPROGRESS)
        waiting.append(one)
    try:
        with bounded():
            async with Fetcher(IMPATIENT) as fetcher:
                fetched = await fetcher.fetch(f"http://127.0.0.1:{address[1]}/")
        assert fetched.reason is Reason.CONNECT_TIMEOUT
    finally:
        for one in (*waiting, listening):
            one.close()


async def test_a_tls_handshake_that_stalls_is_given_up() -> None:
    server = RawServer()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del writer
        await reader.read()

    with bounded():
        async with server.playing(stall), Fetcher(IMPATIENT) as fetcher:
            fetched = await fetcher.fetch(server.url.replace("http:", "https:"))
    assert (fetched.reason, server.connections) == (Reason.CONNECT_TIMEOUT, 1)


async def test_slow_but_in_time_is_a_success() -> None:
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(HEAD + b"Content-Length: 8\r\n\r\n")
        for _ in range(8):
            await asyncio.sleep(0.05)
            writer.write(b"x")

    async with server.playing(answer), Fetcher(PRIVATE) as fetcher:
        fetched = await fetcher.fetch(server.url)
    assert (fetched.reason, fetched.body) == (None, b"x" * 8)


async def test_an_endless_chunk_size_line_is_ended() -> None:
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(CHUNKED + b"5;")
        while True:
            writer.write(b"a" * 65_536)
            await writer.drain()

    with bounded():
        async with server.playing(answer), Fetcher(IMPATIENT) as fetcher:
            fetched = await fetcher.fetch(server.url)
    assert fetched.reason in (Reason.TIMEOUT, Reason.HEADERS_TOO_LARGE, Reason.BAD_RESPONSE)


# Size.


async def test_a_hundred_thousand_empty_gzip_members_are_soon_read() -> None:
    with bounded(cpu_seconds=10, memory=12_000_000):
        fetched, _ = await fetch_from(ok(gzip.compress(b"") * 100_000, "Content-Encoding: gzip"))
    assert fetched.reason in (None, Reason.TIMEOUT)
    assert fetched.body == b""


HTML = (("Content-Type", "text/html"),)


def links_of(body: bytes, content_type: str = "text/html") -> tuple[str, ...]:
    page = read_page(body, "http://e.com/", (("Content-Type", content_type),))
    assert page is not None
    return page.links


def test_a_hundred_thousand_elements_deep_there_are_links_still() -> None:
    started = time.monotonic()
    links = links_of(b"<a href=first>" + b"<div class='some padding to make it large'>" * 100_000 + b"<a href=last>")
    assert time.monotonic() - started < 5
    assert links[0] == "http://e.com/first"


def test_all_links_of_a_page_are_found_in_little_memory() -> None:
    body = b"".join(b"<a href=/%07d>link" % number for number in range(30_000))
    tracemalloc.start()
    links = links_of(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(links) == 30_000
    assert peak < 15_000_000


# Framing.


async def test_who_hangs_up_at_once_is_a_reset() -> None:
    server = RawServer()
    async with server.playing(lambda _r, _w: asyncio.sleep(0)), Fetcher(PRIVATE) as fetcher:
        fetched = await fetcher.fetch(server.url)
    assert fetched.reason is Reason.CONNECTION_RESET


@pytest.mark.parametrize("first", [b"", HEAD, HEAD + b"Content-Length: 100\r\n\r\n" + b"x" * 50])
async def test_a_reset_is_a_reset_wherever_it_comes(first: bytes) -> None:
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(first)
        await writer.drain()
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()  # with this option that is a RST

    async with server.playing(answer), Fetcher(PRIVATE) as fetcher:
        fetched = await fetcher.fetch(server.url)
    assert fetched.reason in (Reason.CONNECTION_RESET, Reason.INCOMPLETE_BODY)


async def test_a_kept_connection_that_was_closed_costs_no_failure() -> None:
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(ok(b"x"))
        await writer.drain()
        await server.read_request(reader)  # hangs up just as the next request comes

    async with server.playing(answer), Fetcher(PRIVATE) as fetcher:
        assert (await fetcher.fetch(server.url)).reason is None
        assert (await fetcher.fetch(server.url)).is_stale  # no try is counted for that: tests/crawl/test_politeness.py
        assert (await fetcher.fetch(server.url)).reason is None
    assert server.connections == 2


# Content.


def test_what_is_no_text_has_no_links() -> None:
    assert links_of(gzip.compress(b"<a href=x>" * 100)) == ()
    started = time.monotonic()
    links_of(bytes(range(256)) * 40_000)
    assert time.monotonic() - started < 5


def test_nul_in_a_link_is_no_crash() -> None:
    for link in links_of(b"<a href='/a\0b'><a href=\0><a\0 href=x>"):
        assert "\0" not in link


@pytest.mark.parametrize(
    "charset",
    ["does-not-exist", '"utf-8', "", "utf-7", "idna", "hex", "zlib", "rot13", "unicode_escape", "base64", "\0", "é"],
)
def test_a_charset_that_is_none_is_passed_over(charset: str) -> None:
    assert links_of(b"<meta charset=nonsense><a href=/x+AGE->", f"text/html; charset={charset}") == (
        "http://e.com/x+AGE-",
    )


def test_of_several_content_types_the_last_valid_one_counts() -> None:
    page = b"<a href=x>"
    text, html, bad = ("Content-Type", "text/plain"), ("Content-Type", "text/html"), ("Content-Type", "no type")
    assert read_page(page, "http://e.com/", (text, html, bad)) is not None
    assert read_page(page, "http://e.com/", (html, text)) is None
    assert read_page(page, "http://e.com/", (("Content-Type", ""),)) is not None


async def test_nothing_that_matters_changes_between_two_digests() -> None:
    """Equal content under other URLs has the equal digest, which the record keeps."""
    from sqspider.message import Message
    from sqspider.scope import Measure
    from sqspider.work.page import assess

    digests = set()
    for _ in range(2):
        fetched, _server = await fetch_from(ok(b"the same"))
        message = Message(url=fetched.url)
        measure = Measure.of(message.settings, message.seed)
        digests.add(assess(fetched, message, "sqspider", measure).outcome.digest)
    assert len(digests) == 1


# Redirects.


async def target_of(location: bytes, url: str = "http://example.com/dir/page") -> str | Reason | None:
    """Where a redirect from a URL leads to; its host answers on a loopback port, which is left out here."""
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(b"HTTP/1.1 302 F\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with server.playing(answer), Fetcher(PRIVATE, resolver=Answers("127.0.0.1")) as fetcher:
        base = canonicalize(re.sub(r"^https?://([^/]+)", rf"http://\1:{server.port}", url))
        assert isinstance(base, str)
        fetched = await fetcher.fetch(base)
    assert len(server.requests) == 1
    return fetched.redirect_to.replace(f":{server.port}/", "/") if fetched.redirect_to else fetched.reason


async def test_locations_lead_where_the_peers_say() -> None:
    for case in load_cases("practice/05d_redirect_locations.json")["cases"]:
        encoded = case["location_bytes_b64"]
        target = await target_of(base64.b64decode(encoded) if encoded else case["location"].encode(), case["url"])
        if case["follow"]:
            expected = case["expected_target"]
            assert target == expected.replace("https:", "http:"), case["id"]  # it is played without TLS
        else:
            assert isinstance(target, Reason), case["id"]


@pytest.mark.parametrize(
    ("location", "target"),
    [
        (b"a b", "/dir/a%20b"), ("ä".encode(), "/dir/%C3%A4"), (b"\xe4", "/dir/%E4"), (b"\\a\\b", "/a/b"),
        (b"?q", "/dir/page?q"), (b"#frag", "/dir/page"), (b"  x\t", "/dir/x"), (b"../../..", "/"),
        (b"//other.example/x", "http://other.example/x"), (b"http:x", "/dir/x"), (b"http://a b/", Reason.BAD_REDIRECT),
        (b"data:text/html,x", Reason.BAD_SCHEME), (b"gopher://e.com/", Reason.BAD_SCHEME),
    ],
)  # fmt: skip
async def test_locations_are_resolved_as_the_standard_says(location: bytes, target: str | Reason) -> None:
    expected = f"http://example.com{target}" if target.startswith("/") else target
    assert await target_of(location) == expected


@pytest.mark.parametrize("http_status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_leaves_nothing_behind(http_status: int) -> None:
    source, target = RawServer(), RawServer()

    async def lead_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await source.read_request(reader)
        writer.write(
            f"HTTP/1.1 {http_status} F\r\nLocation: {target.url.replace('127.0.0.1', 'localhost')}\r\n"
            "Set-Cookie: secret=1; Path=/\r\nContent-Length: 0\r\n\r\n".encode()
        )
        await writer.drain()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await target.read_request(reader)
        writer.write(ok(b"there"))
        await writer.drain()

    async with source.playing(lead_on), target.playing(answer), Fetcher(PRIVATE) as fetcher:
        url = source.url.replace("127.0.0.1", "localhost")
        redirect = await fetcher.fetch(url)
        assert (redirect.reason, redirect.http_status, redirect.body) == (None, http_status, b"")
        assert redirect.redirect_to == target.url.replace("127.0.0.1", "localhost")
        assert target.requests == []
        await fetcher.fetch(url)  # a jar would have the cookie by now
        assert (await fetcher.fetch(redirect.redirect_to)).body == b"there"
    for request in (*source.requests, *target.requests):
        assert request.startswith(b"GET / HTTP/1.1\r\n")
        names = {line.partition(b":")[0].lower() for line in request.splitlines()[1:]}
        assert not names & {b"cookie", b"authorization", b"referer"}


# TLS.


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """A certificate authority that this process trusts in place of the system's."""
    authority = trustme.CA()
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    return authority


def server_tls(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


async def fetch_over_tls(context: ssl.SSLContext, first: bytes = ok(b"hello"), *, cut: bool = False) -> Fetched:
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(first)
        await writer.drain()
        if cut:
            writer.transport.abort()

    with bounded():
        async with server.playing(answer, context), Fetcher(PRIVATE) as fetcher:
            return await fetcher.fetch(server.url)


async def test_a_good_certificate_is_accepted(authority: trustme.CA) -> None:
    fetched = await fetch_over_tls(server_tls(authority.issue_cert("localhost")))
    assert (fetched.reason, fetched.body) == (None, b"hello")


@pytest.mark.parametrize("kind", ["expired", "not yet valid", "another name", "unknown authority", "self-signed"])
async def test_a_certificate_that_is_not_good_is_a_tls_error(authority: trustme.CA, kind: str) -> None:
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    match kind:
        case "expired":
            authority.issue_cert("localhost", not_before=now - 2 * day, not_after=now - day).configure_cert(context)
        case "not yet valid":
            authority.issue_cert("localhost", not_before=now + day, not_after=now + 2 * day).configure_cert(context)
        case "another name":
            authority.issue_cert("elsewhere.example").configure_cert(context)
        case "unknown authority":
            trustme.CA().issue_cert("localhost").configure_cert(context)
        case "self-signed":
            alone = trustme.CA()
            with alone.private_key_pem.tempfile() as key, alone.cert_pem.tempfile() as certificate:
                context.load_cert_chain(certificate, key)
    fetched = await fetch_over_tls(context)
    assert fetched.reason is Reason.TLS_ERROR
    assert fetched.http_status is None
    words = {
        "expired": "certificate has expired",
        "not yet valid": "certificate is not yet valid or the system clock is incorrect",
        "another name": "no alternative certificate subject name matches target hostname 'localhost'",
        "unknown authority": "unable to get local issuer certificate",
        "self-signed": "unable to obtain common name from peer certificate",  # that is looked at first
    }
    assert fetched.detail == f"the certificate is not valid: {words[kind]}"


@pytest.mark.parametrize("alert", [40, 70], ids=["no common cipher", "an old version only"])
async def test_no_common_ground_is_a_tls_error(alert: int) -> None:
    """What such a server answers (RFC 8446 section 6): a fatal alert in place of its hello."""
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(bytes((0x15, 3, 3, 0, 2, 2, alert)))
        await writer.drain()

    async with server.playing(answer), Fetcher(PRIVATE) as fetcher:
        fetched = await fetcher.fetch(server.url.replace("http:", "https:"))
    assert fetched.reason is Reason.TLS_ERROR
    assert fetched.detail.startswith("the TLS handshake failed")


async def test_a_server_that_breaks_the_handshake_off_was_asked_for_nothing(authority: trustme.CA) -> None:
    context = server_tls(authority.issue_cert("localhost"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-GCM-SHA256")  # without forward secrecy: not ours
    fetched = await fetch_over_tls(context)
    assert fetched.reason in (Reason.UNREACHABLE, Reason.TLS_ERROR), fetched.detail


async def test_tls_that_is_cut_is_incomplete(authority: trustme.CA) -> None:
    context = server_tls(authority.issue_cert("localhost"))
    half = HEAD + b"Content-Length: 100\r\n\r\n" + b"x" * 50
    fetched = await fetch_over_tls(context, half, cut=True)
    assert (fetched.reason, fetched.body, fetched.truncated) == (None, b"x" * 50, True)
    assert (await fetch_over_tls(context, ok(b"hello"), cut=True)).body == b"hello"  # its length was told


# Names.


class Answers:
    """A resolver with answers of its own, one for each time that it is asked; the last one stays."""

    def __init__(self, *answers: str | list[str] | Exception) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def resolve(self, name: str) -> list[str]:
        del name
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return [answer] if isinstance(answer, str) else answer


class NoReceiver:
    """Takes whatever comes."""

    def head(self, exchange: Exchange) -> bool:
        del exchange
        return True

    def body(self, piece: bytes) -> int:
        del piece
        return GO_ON


PUBLIC = FetchOptions(timeout_seconds=60.0)


@pytest.mark.parametrize(
    "answer",
    ["127.0.0.1", "0.0.0.0", "::", "::1", "10.0.0.1", "169.254.169.254", "fd00:ec2::254", "100.64.0.1", "64:ff9b::7f00:1",
     "2002:7f00:1::", "::ffff:127.0.0.1", ["93.184.216.34", "127.0.0.1"]],
)  # fmt: skip
async def test_a_name_that_leads_to_a_private_address_is_blocked(answer: str | list[str]) -> None:
    server = RawServer()
    async with (
        server.playing(lambda _r, _w: asyncio.sleep(0)),
        Fetcher(PUBLIC, resolver=Answers(answer)) as fetcher,
    ):
        fetched = await fetcher.fetch(f"http://public.example:{server.port}/")
    assert fetched.reason is Reason.PRIVATE_ADDRESS
    assert server.connections == 0


async def test_what_was_checked_is_what_is_connected_to() -> None:
    """A name that led to a public address and now leads to a loopback one."""
    connected: list[str] = []

    def look(address: str) -> str:
        connected.append(address)
        return "no packet leaves in a test"

    resolver = Answers("93.184.216.34", "127.0.0.1")
    transport = CurlTransport(CurlOptions(check_address=look), Names(resolver, allow_private=False))
    server = RawServer()
    async with server.playing(lambda _r, _w: asyncio.sleep(0)):
        for _ in range(2):
            request = Request(f"http://rebound.example:{server.port}/")
            exchange = await transport.exchange(request, NoReceiver())
            assert exchange.failure is Failure.ADDRESS_REFUSED
    transport.close()
    assert (connected, resolver.asked, server.connections) == (["93.184.216.34"] * 2, 1, 0)


async def test_the_last_look_is_at_the_address_itself() -> None:
    """Whatever a resolver lets pass is looked at once more before a socket is made for it."""
    server = RawServer()
    async with (
        server.playing(lambda _r, _w: asyncio.sleep(0)),
        Fetcher(PUBLIC, resolver=Answers("127.0.0.1")) as fetcher,
    ):
        fetched = await fetcher.fetch(f"http://public.example:{server.port}/")
    assert (fetched.reason, server.connections) == (Reason.PRIVATE_ADDRESS, 0)


async def test_a_second_address_stands_in_for_the_first() -> None:
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(ok(b"there"))
        await writer.drain()

    async with (
        server.playing(answer),
        Fetcher(PRIVATE, resolver=Answers(["127.0.0.99", "127.0.0.1"])) as fetcher,
    ):
        fetched = await fetcher.fetch(f"http://two.example:{server.port}/")
    assert (fetched.reason, fetched.body) == (None, b"there")


@pytest.mark.parametrize(
    ("answer", "reasons"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), {Reason.DNS_NOT_FOUND}),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), {Reason.DNS_FAILURE}),
        (socket.gaierror(socket.EAI_FAIL, "failed"), {Reason.DNS_FAILURE}),
        (OSError("broken"), {Reason.DNS_FAILURE}),
        (TimeoutError(), {Reason.DNS_FAILURE, Reason.CONNECT_TIMEOUT}),
        ([], {Reason.DNS_FAILURE, Reason.DNS_NOT_FOUND, Reason.UNREACHABLE}),
        ("no address", {Reason.DNS_FAILURE}),
    ],
)
async def test_a_resolver_in_trouble_fails_closed(answer: Exception | list[str] | str, reasons: set[Reason]) -> None:
    async with Fetcher(PUBLIC, resolver=Answers(answer)) as fetcher:
        fetched = await fetcher.fetch("http://name.example/")
    assert fetched.reason in reasons, (fetched.reason, fetched.detail)


@pytest.mark.parametrize(
    "host", ["a" * 64 + ".invalid", ("a" * 60 + ".") * 4 + "invalid", "a..invalid", "xn--a.invalid"]
)
async def test_a_strange_name_is_no_crash(host: str) -> None:
    url = canonicalize(f"http://{host}/")
    assert isinstance(url, str)
    async with Fetcher(PUBLIC) as fetcher:
        fetched = await fetcher.fetch(url)
    assert fetched.reason in (Reason.DNS_NOT_FOUND, Reason.DNS_FAILURE, Reason.BAD_URL), fetched.detail


async def test_an_underscore_and_a_trailing_dot_are_fine() -> None:
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(ok(b"x"))
        await writer.drain()

    async with server.playing(answer), Fetcher(PRIVATE, resolver=Answers("127.0.0.1")) as fetcher:
        for host in ("under_score.example", "dot.example."):
            assert (await fetcher.fetch(f"http://{host}:{server.port}/")).reason is None


# The guard.


async def test_private_addresses_are_refused_unless_allowed() -> None:
    assert FetchOptions().allow_private is False
    assert why_not_public("127.0.0.1") is not None
    fetched, server = await fetch_from(ok(b"x"), options=PUBLIC)
    assert (fetched.reason, server.connections) == (Reason.PRIVATE_ADDRESS, 0)
    assert (await fetch_from(ok(b"x")))[0].reason is None


async def test_a_port_of_another_service_is_not_asked() -> None:
    async with Fetcher(PRIVATE) as fetcher:
        for port in (22, 6379, 11211):
            assert (await fetcher.fetch(f"http://127.0.0.1:{port}/")).reason is Reason.BAD_PORT


async def test_a_proxy_is_not_asked_for_a_private_address() -> None:
    proxy = RawServer()
    async with proxy.playing(lambda _r, _w: asyncio.sleep(0)):
        options = FetchOptions(timeout_seconds=60.0, proxy=proxy.url)
        async with Fetcher(options) as fetcher:
            for host in ("127.0.0.1", "169.254.169.254", "[::1]"):
                assert (await fetcher.fetch(f"http://{host}/")).reason is Reason.PRIVATE_ADDRESS
    assert proxy.connections == 0


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = RawServer()
    async with proxy.playing(lambda _r, _w: asyncio.sleep(0)):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        fetched, server = await fetch_from(ok(b"x"))
    assert (fetched.body, server.connections, proxy.connections) == (b"x", 1, 0)
