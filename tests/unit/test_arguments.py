"""Arguments are checked where the records are made, in words that begin with the argument's name."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import pytest
import structlog

import sqspider
from sqspider.cli.crawl import crawl as command
from sqspider.crawl_row import Crawl, Identity, Limits
from sqspider.crawl_settings import CrawlSettings
from sqspider.lambda_handler import FunctionSettings
from sqspider.orders.said import OPTIONS
from sqspider.orders.start import ArchivePlace
from sqspider.url import Scope
from sqspider.web.options import FetchOptions
from sqspider.work.options import WorkerOptions

URL: Final = "http://example.com/"
NO_NUMBERS: Final = [math.nan, math.inf, -1, "1", True, [1]]


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """`crawl` begins to log where nobody else has said how."""
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("delay", "delay_seconds"), ("timeout", "timeout_seconds"), ("older_than", "older_than_seconds"),
        ("header", "headers"), ("cookie", "cookies"), ("max_body", "max_bytes"), ("dept", "depth"),
    ],
)  # fmt: skip
def test_an_option_by_the_command_lines_name_is_told_its_argument(said: str, meant: str) -> None:
    unknown: dict[str, Any] = {said: 1}
    with pytest.raises(TypeError, match=rf"^{said}: no such argument\. Did you mean {meant}\?$"):
        sqspider.crawl(URL, **unknown)


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        *[({"delay_seconds": value}, (TypeError, ValueError), "delay_seconds: ") for value in [*NO_NUMBERS, None]],
        *[({"max_bytes": value}, (TypeError, ValueError), "max_bytes: ") for value in [*NO_NUMBERS, None, 0, 1.5]],
        *[({"concurrency": value}, (TypeError, ValueError), "concurrency: ") for value in [*NO_NUMBERS, None, 0, 1.5]],
        *[({"depth": value}, (TypeError, ValueError), "depth: ") for value in [*NO_NUMBERS, 1.5]],
        *[({"max_pages": value}, (TypeError, ValueError), "max_pages: ") for value in [*NO_NUMBERS, 0, 1.5]],
        ({"include": "/docs/"}, TypeError, "include: a list of texts, not '/docs/'"),
        ({"exclude": b"/docs/"}, TypeError, "exclude: a list of texts, not b'/docs/'"),
        ({"include": [1]}, TypeError, "include: a list of texts"),
        ({"include": None}, TypeError, "include: a list of texts, not None"),
        ({"include": ["("]}, ValueError, "include: '(' is no regular expression"),
        ({"exclude": ["a", "*"]}, ValueError, "exclude: '*' is no regular expression"),
        ({"include": ["\udcff"]}, ValueError, r"include: '\udcff' is no regular expression"),  # a byte of the shell's
        ({"scope": "world"}, ValueError, "scope: one of page, prefix, host, domain, any, not 'world'"),
        ({"scope": None}, ValueError, "scope: one of"),
        ({"obey_robots": "no"}, TypeError, "obey_robots: True or False, not 'no'"),
        ({"allow_private": 1}, TypeError, "allow_private: True or False, not 1"),
        ({"frontier": Path("crawl.db")}, TypeError, "frontier: an address such as"),
        ({"frontier": None}, TypeError, "frontier: an address such as"),
        ({"frontier": "crawl.db"}, ValueError, "frontier: 'crawl.db' names no frontier"),
        ({"frontier": "sqlite:"}, ValueError, "frontier: 'sqlite:' names no frontier"),
        ({"user_agent": ""}, ValueError, "user_agent: must not be empty"),
        ({"user_agent": " \t"}, ValueError, "user_agent: must not be empty"),
        ({"user_agent": "Bot\r\nX-Other: 1"}, ValueError, "user_agent: printable characters in one line"),
        ({"user_agent": "Bot\x00"}, ValueError, "user_agent: printable"),
        ({"user_agent": "робот/1.0"}, ValueError, "user_agent: ASCII characters only"),
        ({"user_agent": None}, TypeError, "user_agent: a text, not None"),
        ({"crawl": "No name"}, ValueError, "crawl: a name of 1 to 64 of a-z, 0-9, - and _, not 'No name'"),
        ({"crawl": None}, TypeError, "crawl: a name, not None"),
        *[({f"limit_{it}": 0}, ValueError, f"limit_{it}: ") for it in ("pages", "bytes", "seconds", "dollars")],
        ({"send_to": "https://e.com"}, TypeError, "send_to: a list of texts"),
        ({"send_to": ["https://e.com/x"]}, ValueError, "send_to: scheme, host and port alone"),
        ({"login": ("a:b", "env:SQSPIDER_SECRET_A")}, ValueError, "login: a user's name holds no colon"),
        ({"again": 1}, TypeError, "again: True or False, not 1"),
        ({"older_than_seconds": 5}, ValueError, "older_than_seconds: it goes with again=True"),
    ],
)
def test_a_bad_argument_is_an_error_at_once(arguments: dict[str, Any], kind: Any, says: str) -> None:
    with pytest.raises(kind, match=f"^{re.escape(says)}") as raised:
        sqspider.crawl(URL, **arguments)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("url", [[URL], (URL,), URL.encode(), None, 1])
def test_what_is_no_text_is_no_url(url: Any) -> None:
    with pytest.raises(TypeError, match=r"^urls: each a text, not .*: those of a list are given as crawl\(\*urls\)"):
        sqspider.crawl(url)


def test_nothing_to_crawl_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="urls: none was given, and sqlite::memory: holds no crawl"):
        sqspider.crawl()
    with pytest.raises(ValueError, match=r"urls: none was given, and sqlite:.*fresh\.db holds no crawl"):
        list(sqspider.crawl(frontier=f"sqlite:{tmp_path}/fresh.db"))
    with pytest.raises(ValueError, match="not a valid URL: ''"):
        list(sqspider.crawl(""))


@pytest.mark.parametrize(
    ("kind", "fields", "says"),
    [
        (CrawlSettings, {"scope": "host"}, "scope: a Scope, not 'host'"),
        (CrawlSettings, {"include": "x"}, "include: a list of texts"),
        (CrawlSettings, {"include": ["x"]}, "include: a tuple"),
        (
            CrawlSettings,
            {"include": ("a" * 2000,) * 35, "exclude": ("b" * 2000,) * 35},
            "include: with exclude at most",
        ),
        (CrawlSettings, {"keep": "text/html"}, "keep: a list of texts"),
        (CrawlSettings, {"keep": ["text/html"]}, "keep: a tuple of media types"),
        (CrawlSettings, {"keep": ("a/b",) * 101}, "keep: at most 100 media types, not 101"),
        (CrawlSettings, {"keep": ("a/" + "b" * 99,)}, "keep: a media type of more than 100 characters"),
        (CrawlSettings, {"keep": ("text/html", "none")}, "keep: none stands alone"),
        (CrawlSettings, {"only": ("none",)}, "only: a media type in lower case, as text/html"),
        (CrawlSettings, {"keep": ("Text/HTML",)}, "keep: a media type in lower case, as text/html"),
        (CrawlSettings, {"keep": ("html",)}, "keep: a media type in lower case"),
        (CrawlSettings, {"keep": ("*/html",)}, "keep: a media type in lower case"),
        (CrawlSettings, {"keep": ("text/ht*",)}, "keep: a media type in lower case"),
        (CrawlSettings, {"keep": ("text/html; charset=x",)}, "keep: a media type in lower case"),
        (CrawlSettings, {"keep": ("",)}, "keep: a media type in lower case"),
        (CrawlSettings, {"keep_bytes": 0}, "keep_bytes: 1 or more, not 0"),
        (CrawlSettings, {"keep_bytes": 1.5}, "keep_bytes: a whole number"),
        (CrawlSettings, {"per_host": 0}, "per_host: from 1 to 1,000, not 0"),
        (CrawlSettings, {"seed": URL[:-1]}, "seed: a URL in canonical form"),
        (FetchOptions, {"timeout_seconds": math.nan}, "timeout_seconds: from 0.1 to 3,600, not nan"),
        (FetchOptions, {"contact": ""}, "contact: must not be empty"),
        (FetchOptions, {"contact": "a@b\nX: y"}, "contact: printable"),
        (FetchOptions, {"proxy": ""}, "proxy: write http://HOST:PORT (or https, socks5, socks5h), not ''"),
        (FetchOptions, {"proxy": "proxy:3128"}, "proxy: write"),
        (FetchOptions, {"proxy": "http://h:x/"}, "proxy: write"),
        (FetchOptions, {"proxy": "http://h:1\r\nX: y"}, "proxy: write"),
        (FetchOptions, {"proxy": 1}, "proxy: a text, not 1"),
        (WorkerOptions, {"worker_id": ""}, "worker_id: must not be empty"),
        (WorkerOptions, {"worker_id": "a\nb"}, "worker_id: printable"),
        (WorkerOptions, {"worker_id": "a", "batch_size": 11}, "batch_size: from 1 to 10, not 11"),
        (WorkerOptions, {"worker_id": "a", "poll_seconds": math.nan}, "poll_seconds: from 0 to 20, not nan"),
        (WorkerOptions, {"worker_id": "a", "large_bodies": 0}, "large_bodies: 1 or more, not 0"),
        (FunctionSettings, {"lease_seconds": math.inf}, "lease_seconds: from 1 to 43,200, not inf"),
        (FunctionSettings, {"max_body_bytes": 0}, "max_body_bytes: 1 or more, not 0"),
        (FunctionSettings, {"sweep_seconds": 0.0}, "sweep_seconds: from 0.01 to 86,400, not 0.0"),
        (FunctionSettings, {"user_agent": ""}, "user_agent: must not be empty"),
        (FunctionSettings, {"contact": "a@b\nX: y"}, "contact: printable"),
    ],
)
def test_a_record_refuses_what_is_out_of_bounds(kind: Any, fields: dict[str, Any], says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{re.escape(says)}"):
        kind(**fields)


def test_what_is_good_is_taken() -> None:
    """Iterables of every kind, and numbers at their bounds."""
    sqspider.crawl(URL, include=iter(["/a", "/b"]), exclude={"c"}, depth=0, delay_seconds=0, max_pages=1, scope="any")
    WorkerOptions(worker_id="Prüfer 1", concurrency=1000, batch_size=10, lease_seconds=43_200)
    FetchOptions(proxy="https://user:pass@[::1]:3128", contact="me@example.com", max_bytes=1)


def test_a_setting_of_the_function_that_cannot_be_read_is_named() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"'warning'.*log_level"):
        FunctionSettings.read({"SQSPIDER_LOG_LEVEL": "warning"})
    with pytest.raises(msgspec.ValidationError, match=r"fetch_seconds: from 0\.1 to 3,600, not 0"):
        FunctionSettings.read({"SQSPIDER_FETCH_SECONDS": "0"})


# The command line's options and Python's arguments.

OTHERWISE: Final = {  # an option's field, and what it is in Python
    "max_depth": "depth",
    "ignore_robots": "obey_robots",
    "with_sitemaps": "sitemaps",
    "is_again": "again",
    "older_than": "older_than_seconds",
    "origins": "send_to",
}
OF_THE_COMMAND_ALONE: Final = {
    "urls", "path", "list_format", "column", "workers", "output", "as_json", "quiet", "address", "log_level",
    "log_format", "config", "unset", "yes", "is_dry_run", "no_archive", "archive_max_bytes", "archive_coding", "extract",
    "extract_to",
}  # fmt: skip
OF_NO_USER: Final = {  # fields that nobody sets from outside, or that other parts of a crawl decide
    CrawlSettings: {"seed"},
    FetchOptions: {"captures"},
    WorkerOptions: {
        "worker_id", "run", "poll_seconds", "linger_seconds", "first_retry_seconds", "first_rest_seconds", "sweep_seconds",
        "seen_urls", "large_bodies", "max_bytes", "failures_to_rest",
    },
    Identity: set[str](),
    Limits: set[str](),
}  # fmt: skip
IN_OTHER_WORDS: Final = {
    "max_depth": "depth", "obey_nofollow": "follow_nofollow", "origins": "send_to",
    **{name: f"limit_{name}" for name in Limits.__struct_fields__},
}  # fmt: skip


MANY: Final = ("include", "exclude", "headers", "cookies", "send_to", "keep", "only")


def test_python_has_every_option_of_the_command_line() -> None:
    options = {str(option.name) for option in command.params}
    named = {OTHERWISE.get(name, name) for name in options - OF_THE_COMMAND_ALONE} | {"frontier"}
    assert named == set(inspect.signature(sqspider.crawl).parameters) - {"urls"}


@pytest.mark.parametrize("kind", OF_NO_USER)
def test_what_can_be_set_can_be_set_from_python(kind: Any) -> None:
    """A field that is new is an argument, or is named above."""
    arguments = inspect.signature(sqspider.crawl).parameters
    named = {name: name if name == "max_bytes" else IN_OTHER_WORDS.get(name, name) for name in kind.__struct_fields__}
    missing = {name for name, argument in named.items() if argument not in arguments}
    assert missing | ({"max_bytes"} if kind is WorkerOptions else set()) == OF_NO_USER[kind]


def test_what_is_not_said_is_as_on_the_command_line() -> None:
    defaults = {name: it.default for name, it in inspect.signature(sqspider.crawl).parameters.items()}
    for option in command.params:
        name = OTHERWISE.get(str(option.name), str(option.name))
        if name in defaults and name not in ("obey_robots", "frontier", "crawl", "urls", *MANY):
            default = option.get_default(click.Context(command))
            assert defaults[name] == (default if isinstance(default, (bool, int, float, str)) else None), name


OF_THE_RUN: Final[dict[str, Any]] = {
    "max_pages": 4, "robots_grace_seconds": 12.0, "new_host_grace_seconds": 13.0, "host_grace_seconds": 14.0,
    "concurrency": 17, "batch_size": 9, "lease_seconds": 70.0,
}  # fmt: skip
OF_THE_ROW: Final[dict[str, Any]] = {
    "scope": "any", "depth": 3, "include": ["a"], "exclude": ["b"], "follow_nofollow": True, "keep_skipped": True,
    "check_external": True, "meta_refresh": True,
    "srcset": True, "drop_tracking": True, "host_pages": 5, "host_bytes": 6, "max_repeats": 7, "max_parameters": 8,
    "keep": ["text/html"], "only": ["pdf", "image/*"], "keep_bytes": 22,
    "delay_seconds": 9.0, "max_crawl_delay_seconds": 10.0, "per_host": 11, "obey_robots": False, "limit_pages": 18,
    "limit_bytes": 19, "limit_seconds": 20.0, "limit_dollars": 21.0, "timeout_seconds": 15.0, "max_bytes": 16,
    "allow_private": True, "allow_any_port": True, "user_agent": "Bot", "contact": "me@example.com",
    "proxy": "http://h:1", "headers": {"X-A": "b"}, "cookies": {"c": "env:SQSPIDER_SECRET_C"},
    "login": ("me", "env:SQSPIDER_SECRET_L"), "send_to": ["https://e.com"],
}  # fmt: skip
ALONE: Final = {"assets"}  # it does not go with others
OF_FILES: Final = {"ca_file", "client_cert", "client_key", "http2"}  # checked as soon as they are set
OTHERS: Final[dict[str, Any]] = {
    "sitemaps": True, "assume_http": True, "again": True, "older_than_seconds": 3.0, "secrets": "s", "crawl": "news",
    "frontier": "sqlite:x.db", "archive": "x-archive",
}  # fmt: skip


def row_by(**arguments: Any) -> Crawl:
    """What the arguments say of a crawl's row."""
    return sqspider.crawl(URL, **arguments)._row


def test_every_argument_reaches_its_record() -> None:
    given = {**OF_THE_RUN, **OF_THE_ROW, **OTHERS}
    assert {*given, *OF_FILES, *ALONE, "bearer"} == set(inspect.signature(sqspider.crawl).parameters) - {"urls"}
    assert row_by(assets=True).settings.assets
    made = sqspider.crawl(URL, **given)
    assert {name: getattr(made._worker, name) for name in OF_THE_RUN} == OF_THE_RUN
    assert (made._worker.max_bytes, made._sitemaps, made._assume_http, made._again) == (None, True, True, True)
    assert (made._older_than_seconds, made._secrets_folder, made._frontier) == (3.0, "s", "sqlite:x.db")
    assert made._archive == ArchivePlace(address="x-archive")
    assert made._order.name == "news"
    assert made._row.settings == CrawlSettings(
        scope=Scope.ANY, max_depth=3, include=("a",), exclude=("b",), obey_nofollow=False, keep_skipped=True,
        check_external=True, meta_refresh=True,
        srcset=True, drop_tracking=True, host_pages=5, host_bytes=6, max_repeats=7, max_parameters=8,
        keep=("text/html",), only=("application/pdf", "image/*"), keep_bytes=22,
        delay_seconds=9.0, max_crawl_delay_seconds=10.0, per_host=11, obey_robots=False,
    )  # fmt: skip
    assert made._row.limits == Limits(pages=18, bytes=19, seconds=20.0, dollars=21.0)
    assert made._row.identity == Identity(
        timeout_seconds=15.0, max_bytes=16, allow_private=True, allow_any_port=True, user_agent="Bot",
        contact="me@example.com", proxy="http://h:1", headers=(("X-A", "b"),),
        cookies=(("c", "env:SQSPIDER_SECRET_C"),), login="me:env:SQSPIDER_SECRET_L", origins=("https://e.com",),
    )  # fmt: skip
    assert set(OPTIONS) - {*ALONE, "ca-file", "client-cert", "client-key", "http2", "bearer"} == set(made._order.said)


def test_what_is_left_out_says_nothing_and_what_is_given_does_even_by_default() -> None:
    assert sqspider.crawl(URL)._order.said == {}
    assert sqspider.crawl(URL, depth=None, obey_robots=True, headers={})._order.said == {
        "depth": None, "ignore-robots": False, "header": (),
    }  # fmt: skip

    class Own(sqspider.Crawl):
        def __init__(self, url: str) -> None:
            super().__init__(url, depth=2)

    assert Own(URL)._order.said == {"depth": 2}


# Secrets.


@pytest.mark.parametrize(
    "arguments",
    [
        {"bearer": "hunter22"},
        {"login": "me:hunter22"},
        {"login": ("me", "hunter22")},
        {"login": ("me", "hunter22", "x")},
        {"cookies": {"session": "hunter22"}},
        {"cookies": [("session", "hunter22")]},
        {"headers": {"Authorization": "hunter22"}},
        {"headers": ["Authorization: hunter22"]},
        {"proxy": "http://me:hunter22@h:1"},
    ],
)
def test_a_secret_that_is_written_down_is_refused_with_the_word_to_say(arguments: dict[str, Any]) -> None:
    (name,) = arguments
    with pytest.raises((TypeError, ValueError), match=f"^{name}") as raised:
        sqspider.crawl(URL, **arguments)
    assert "hunter22" not in str(raised.value)
    if isinstance(arguments[name], (str, dict, tuple)):
        assert "Secret(value)" in str(raised.value)


def test_a_secret_of_this_process_is_named_and_not_shown() -> None:
    secret = sqspider.Secret("hunter22")
    made = row_by(bearer=secret, cookies={"s": secret}, proxy=secret, send_to=["https://e.com"]).identity
    assert made.bearer == made.proxy == made.cookies[0][1] == secret.reference
    assert row_by(login=("me", secret), send_to=["https://e.com"]).identity.login == f"me:{secret.reference}"
    assert "hunter22" not in f"{secret!r}{secret}{made}"


def test_a_lease_that_is_too_short_for_a_fetch_is_an_error_at_once() -> None:
    with pytest.raises(ValueError, match=r"^lease_seconds: a lease of 20 s is too short"):
        sqspider.crawl(URL, lease_seconds=20, timeout_seconds=15)


def test_a_lease_that_is_too_short_to_gather_for_a_bucket_is_an_error_at_once() -> None:
    sqspider.crawl(URL, lease_seconds=32, timeout_seconds=10)
    with pytest.raises(ValueError, match=r"^lease_seconds: a lease of 32 s is too short"):
        sqspider.crawl(URL, lease_seconds=32, timeout_seconds=10, archive="s3://bucket/pages")
