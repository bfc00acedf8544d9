"""What a command line and a file say of a crawl's row, and what a change of it means in words."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqspider.cli.config_file import FORBIDDEN, as_toml, config_for, read_config, whole
from sqspider.cli.said import options_of, said_in, with_said
from sqspider.crawl_row import Crawl, Identity, Limits, State
from sqspider.crawl_settings import CrawlSettings
from sqspider.orders.changes import changes_of, words_of
from sqspider.orders.said import NEW, OPTIONS, written
from sqspider.url import Scope

OTHERWISE: Final[dict[str, Any]] = {
    "scope": "any",
    "depth": 3,
    "include": ("a",),
    "exclude": ("b", "c|d"),
    "follow-nofollow": True,
    "keep-skipped": True,
    "check-external": True,
    "assets": True,
    "meta-refresh": True,
    "srcset": True,
    "drop-tracking": True,
    "delay": 2.5,
    "max-crawl-delay": 5.0,
    "per-host": 2,
    "ignore-robots": True,
    "host-pages": 1000,
    "host-bytes": 10_000_000,
    "max-repeats": 3,
    "max-parameters": 0,
    "keep": ("text/html", "image/*"),
    "only": ("application/pdf", "image/*"),
    "keep-bytes": 1_000_000,
    "limit-pages": 12_345,
    "limit-bytes": 1,
    "limit-seconds": 3600.0,
    "limit-dollars": 0.5,
    "timeout": 3.0,
    "max-body": 1000,
    "allow-private": True,
    "allow-any-port": True,
    "user-agent": "Bot/1 (\"quoted\", 'too')",
    "contact": "me@example.com",
    "proxy": "socks5://p:1080",
    "ca-file": "ca.pem",
    "client-cert": "c.pem",
    "client-key": "k.pem",
    "http2": True,
    "header": (("Accept-Language", "de"), ("X-Key", "env:SQSPIDER_SECRET_KEY")),
    "cookie": (("session", "file:session"),),
    "login": "me:env:SQSPIDER_SECRET_PASSWORD",
    "bearer": "env:SQSPIDER_SECRET_TOKEN",
    "send-to": ("https://example.com", "http://h:8080"),
}
"""For each option a value that is not its default."""


def otherwise(*names: str) -> dict[str, Any]:
    """Some of them; where headers and the like go is said with them."""
    return {"send-to": OTHERWISE["send-to"], **{name: OTHERWISE[name] for name in names}}


ROWS: Final = (
    st.lists(st.sampled_from([name for name in OPTIONS if name != "bearer"]), unique=True)
    .filter(lambda names: "assets" not in names or not {"keep-skipped", "check-external"} & {*names})
    .map(lambda names: with_said(NEW, otherwise(*names)))
)


def context_of(name: str, arguments: list[str]) -> click.Context:
    command = getattr(importlib.import_module(f"sqspider.cli.{name.split()[0]}"), name.split()[0])
    if " " in name:
        command = command.commands[name.split()[1]]
    return command.make_context(name, arguments)  # type: ignore[no-any-return]


def test_every_field_of_a_row_has_an_option() -> None:
    """But for the seed, which a crawl's row has not: its scope is measured from all of its seeds."""
    parts = {"settings": CrawlSettings, "identity": Identity, "limits": Limits}
    fields = {(part, field) for part, record in parts.items() for field in record.__struct_fields__}
    assert {(option.part, option.field) for option in OPTIONS.values()} == fields - {("settings", "seed")}
    assert OTHERWISE.keys() == OPTIONS.keys()
    assert OTHERWISE.keys() - {"login", "bearer"} >= {
        name for name in OPTIONS if OTHERWISE[name] != OPTIONS[name].of(NEW)
    } - {
        "login",
        "bearer",
    }


@pytest.mark.parametrize("command", ["crawl", "enqueue", "crawls set"])
def test_every_command_that_changes_a_row_has_every_option(command: str) -> None:
    arguments = ["http://e.com/"] if command != "crawls set" else ["news"]
    assert options_of(context_of(command, arguments).command).keys() == OPTIONS.keys()


def test_only_what_is_given_is_said() -> None:
    assert said_in(context_of("crawl", ["http://e.com/"])) == {}
    given = context_of("crawl", ["http://e.com/", "--delay", "1", "--unset", "depth", "--unset", "--proxy", "--srcset"])
    assert said_in(given) == {"delay": 1.0, "depth": None, "proxy": None, "srcset": True}


@pytest.mark.parametrize("name", list(OPTIONS))
def test_every_option_goes_back_to_its_default(name: str) -> None:
    changed = with_said(NEW, otherwise(name))
    assert OPTIONS[name].of(changed) != OPTIONS[name].of(NEW)
    back = said_in(context_of("crawls set", ["news", "--unset", name]))
    assert OPTIONS[name].of(with_said(changed, back)) == OPTIONS[name].of(NEW)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--depth", "3", "--unset", "depth"], "--depth and --unset depth exclude each other"),
        (["--unset", "dept"], "'dept' is no option of a crawl. Did you mean 'depth'?"),
        (["--crawl", "News"], "a name of 1 to 64 of a-z, 0-9, - and _, not 'News'"),
        (["--crawl", ""], "a name of 1 to 64"),
        (["--crawl", "a" * 65], "a name of 1 to 64"),
        (["--header", "secret"], "write NAME:VALUE"),
        (["--send-to", "https://e.com/x"], "write a scheme and a host"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments: list[str], says: str) -> None:
    with pytest.raises(click.UsageError) as raised:
        said_in(context_of("crawl", ["http://e.com/", *arguments]))
    assert says in raised.value.format_message()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--header", "Authorization: Bearer hush"],
        ["--header", "X-Api-Key: hush"],
        ["--cookie", "session=hush"],
        ["--login", "me:hush"],
        ["--bearer", "hush"],
        ["--proxy", "http://me:hush@p:1"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_secret_on_the_command_line_is_refused_with_the_form_to_use_and_not_told(arguments: list[str]) -> None:
    context = context_of("crawl", ["http://e.com/", *arguments])
    with context, pytest.raises(click.UsageError) as raised:
        with_said(NEW, {**said_in(context), "send-to": ("http://e.com",)})
    assert "env:SQSPIDER_SECRET_" in raised.value.format_message()
    assert raised.value.format_message().startswith(arguments[0])
    assert "hush" not in raised.value.format_message()


@given(ROWS)
def test_where_nothing_changes_nothing_is_told(row: Crawl) -> None:
    assert changes_of(row, msgspec.structs.replace(row, version=row.version + 1, seeds_version=9)) == []


@given(ROWS, ROWS)
def test_each_change_has_a_line_of_its_own_and_no_other_has(before: Crawl, after: Crawl) -> None:
    changed = [name for name, option in OPTIONS.items() if option.of(before) != option.of(after)]
    assert [line.split(" ")[0] for line in changes_of(before, after)] == changed
    for line in changes_of(before, after):
        old, new = line.split(" ", 1)[1].split(" → ")
        assert old != new


@pytest.mark.parametrize("name", list(OPTIONS))
def test_every_option_has_words(name: str) -> None:
    changed = with_said(NEW, {**({"login": None} if name == "bearer" else {}), **otherwise(name)})
    assert any(line.startswith(f"{name} ") for line in changes_of(NEW, changed))
    assert any(line.startswith(f"{name} ") for line in words_of(changed))


def test_a_change_reads_as_a_person_would_say_it() -> None:
    before = with_said(NEW, {"delay": 0.0, "depth": 1, "host-pages": 1000})
    after = with_said(before, {"delay": 2.0, "depth": 3, "host-pages": None, "scope": "domain", "srcset": True})
    assert changes_of(before, after) == [
        "scope host → domain", "depth 1 → 3", "srcset off → on", "delay 0 → 2 s", "host-pages 1,000 → none",
    ]  # fmt: skip
    paused = msgspec.structs.replace(after, state=State.PAUSED)
    assert changes_of(after, paused) == ["running → paused"]


# Files.


@settings(deadline=None)  # each is a file of its own
@given(ROWS, st.lists(st.text(st.characters(codec="utf-8"), min_size=1).map(lambda text: f"http://e.com/{text}")))
def test_a_crawl_that_was_written_to_a_file_is_read_from_it(tmp_path_factory: Any, row: Crawl, urls: list[str]) -> None:
    row = msgspec.structs.replace(row, name="news", seeds=tuple(urls))
    file = tmp_path_factory.mktemp("files") / "crawl.toml"
    file.write_text(as_toml(row))
    read = read_config(context_of("crawls set", ["news"]), file)
    assert (read.crawl, read.urls) == ("news", row.seeds)
    assert with_said(msgspec.structs.replace(NEW, name="news", seeds=row.seeds), whole(read.said)) == row


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8")))
def test_any_text_is_written_as_toml_has_it(tmp_path_factory: Any, text: str) -> None:
    file = tmp_path_factory.mktemp("files") / "crawl.toml"
    row = msgspec.structs.replace(NEW, seeds=(text,))
    file.write_bytes(as_toml(row).encode())
    assert read_config(context_of("crawls set", ["news"]), file).urls == (text,)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dleay = 3", "'dleay' is no option of a crawl. Did you mean 'delay'?"),
        ("max_depth = 3", "'max_depth' is no option of a crawl"),
        ("concurrency = 3", "concurrency: is of one run: say it on the command line"),
        ("[settings]\ndepth = 3", "'settings' is no option of a crawl"),
        ("depth = '3'", "depth: a whole number, not '3'"),
        ("depth = 2.5", "depth: a whole number, not 2.5"),
        ("depth = true", "depth: a whole number, not True"),
        ("depth = -1", "depth: -1 is not in the range"),
        ("delay = nan", "delay: nan is no number"),
        ("delay = true", "delay: a number, not True"),
        ("srcset = 1", "srcset: true or false, not 1"),
        ("include = 'a'", "include: a list of texts, not 'a'"),
        ("scope = 'world'", "scope: 'world' is not one of"),
        ("user-agent = 1", "user-agent: a text, not 1"),
        ("crawl = 'No Name'", "crawl: a name of 1 to 64"),
        ("crawl = 1", "crawl: a name, not 1"),
        ("urls = 'http://e.com/'", "urls: a list of texts"),
        ("login = 'hush", "is no TOML"),
        ("login = 1978", "login: a text"),
        ("header = 'X-Key: hush'", "header: a list of texts."),
        ("header = ['hush']", "header: write NAME:VALUE"),
        ("\udcff", "is no TOML: it is not in UTF-8"),
        ("x = " + "[" * 100_000, "is no TOML"),
    ],
)
def test_a_file_that_is_wrong_is_told_by_key_and_without_secrets(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "crawl.toml"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(click.UsageError) as raised:
        read_config(context_of("crawl", ["http://e.com/"]), file)
    said = raised.value.format_message()
    assert says in said
    assert said.startswith(str(file))
    assert "hush" not in said
    assert len(said.splitlines()) == 1


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    context = context_of("crawl", ["http://e.com/"])
    with pytest.raises(click.UsageError, match=r"absent\.toml cannot be read: No such file"):
        read_config(context, tmp_path / "absent.toml")
    (tmp_path / "large.toml").write_text("#" * (1 << 20) + "\n")
    with pytest.raises(click.UsageError, match="larger than"):
        read_config(context, tmp_path / "large.toml")


def test_a_file_that_was_found_may_not_reach_where_its_writer_may_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    context = context_of("crawl", ["http://e.com/"])
    file = Path("sqspider.toml")
    for name in FORBIDDEN:
        file.write_text(f"{name} = {json.dumps(written(OPTIONS[name], with_said(NEW, otherwise(name))))}")
        with pytest.raises(click.UsageError, match=rf"sqspider\.toml was found here, and not named: .* {name}"):
            config_for(context, None, None)
        named = config_for(context, file, None)
        assert named is not None
        assert named.said == {name: OTHERWISE[name]}
    file.write_text('crawl = "news"\ndepth = 3\nuser-agent = "Bot"')
    found = config_for(context, None, None)
    assert found is not None
    assert (found.crawl, found.said) == ("news", {"depth": 3, "user-agent": "Bot"})
    assert config_for(context, None, "other") is None  # it is of another crawl
    with pytest.raises(click.UsageError, match=r"sqspider\.toml is of the crawl news, not of other"):
        config_for(context, file, "other")
    assert with_said(NEW, found.said).settings.scope is Scope.HOST
