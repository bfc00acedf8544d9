"""What a shell gets and gives: options in either place, exit statuses, lists of URLs, no secrets."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

from sqspider.cli.main import COMMANDS, cli, run
from sqspider.demo_site import DemoSite
from tests.conftest import ROOT, Run
from tests.write_reference import command_line

SHARED: Final = ("--frontier", "--log-format", "--log-level")
FAST: Final = ("--delay", "0", "--allow-private", "--ignore-robots", "--quiet")
UNREACHABLE: Final = "http://127.0.0.1:1/"  # no web port, and not public


def _commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _commands(command, (*path, name))


ALL: Final = dict(_commands(cli))


def test_the_reference_is_what_the_program_says() -> None:
    """`python -m tests.write_reference` writes it anew."""
    text = (ROOT / "docs" / "reference" / "cli.md").read_text()
    assert text == command_line()
    for path in ALL:
        assert f"## sqspider {' '.join(path)}\n" in text
    assert set(COMMANDS) | {"set", "race"} <= {name for path in ALL for name in path}


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_the_options_of_every_command_are_taken_before_it_and_after_it(path: tuple[str, ...]) -> None:
    options = [option for parameter in ALL[path].params for option in parameter.opts]
    assert [option for option in options if option in SHARED] == list(SHARED)
    context = click.Context(ALL[path], info_name=path[-1])
    own, _, shared = ALL[path].get_help(context).partition("Options of every command, before its name or after it:")
    for option in SHARED:
        assert f"  {option} " in shared
        assert f"  {option} " not in own


@pytest.mark.parametrize("path", [(), *ALL], ids=" ".join)
def test_no_help_is_cut_off_at_80_columns(path: tuple[str, ...]) -> None:
    command = ALL[path] if path else cli
    _usage, *lines = command.get_help(click.Context(command, info_name="x", terminal_width=80)).splitlines()
    assert [line for line in lines if line.endswith("...") or len(line) > 80] == []


def test_an_option_that_is_given_twice_is_the_later_one(sqspider: Run, tmp_path: Path) -> None:
    outer, inner = ("--frontier", "sqlite:outer.db"), ("--frontier", "sqlite:inner.db")
    assert sqspider(*outer, "enqueue", "http://example.com/", *inner, "--frontier", "sqlite:last.db").returncode == 0
    assert (
        sqspider(*outer, "hosts", *inner, "set", "--frontier", "sqlite:last.db", "example.com", "--pause").returncode
        == 0
    )
    assert [path.name for path in tmp_path.glob("*.db")] == ["last.db"]
    for arguments in (("status", "--frontier", "sqlite:last.db"), ("--frontier", "sqlite:last.db", "status")):
        assert sqspider(*arguments).stdout.startswith("in sqlite:last.db\n")
    bad = sqspider("status", "--log-format", "xml")
    assert (bad.returncode, "Invalid value for '--log-format'" in bad.stderr) == (2, True)


async def test_the_command_line_of_the_exercise(tmp_path: Path) -> None:
    arguments = "consume --continuous --worker-id=worker-A --log-format=json --log-level=debug --batch-size=10"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sqspider", *arguments.split(), cwd=tmp_path, stderr=PIPE
    )
    assert process.stderr is not None
    for told in (("keeping_pages", "info"), ("No messages", "debug")):
        event = json.loads(await process.stderr.readline())
        assert (event["event"], event["level"]) == told
    process.send_signal(signal.SIGTERM)
    await process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize(("there", "missing"), [("QUEUE_URL", "TABLE_NAME"), ("TABLE_NAME", "QUEUE_URL")])
def test_half_of_a_frontier_on_aws_is_none(
    sqspider: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str, missing: str
) -> None:
    monkeypatch.setenv(there, "something")
    monkeypatch.delenv(missing, raising=False)
    done = sqspider("status")
    assert done.returncode == 2
    assert f"{there} is set and {missing} is not" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert sqspider("status", "--help").returncode == 0
    assert sqspider("enqueue", "http://example.com/", "--frontier", "sqlite:f.db").returncode == 0
    assert json.loads(sqspider("status", "--frontier", "sqlite:f.db", "--json").stdout)["frontier"] == "sqlite:f.db"


# Exit statuses: docs/reference/exit-status.md


def test_a_crawl_whose_seeds_came_by_file_says_how_they_ended(sqspider: Run, served_site: str) -> None:
    seeds = f"{served_site}page/1\n{served_site}missing\nhttp://127.0.0.1:1/\n"
    assert sqspider("enqueue", "-f", "-", "--delay", "0", "--ignore-robots", stdin=seeds).returncode == 0
    done = sqspider("crawl", *FAST)
    assert done.returncode == 1
    assert f"{served_site}missing: failed: client_error" in done.stderr
    assert "http://127.0.0.1:1/: failed: bad_port" in done.stderr or "blocked: bad_port" in done.stderr
    assert f"{served_site}page/1:" not in done.stderr
    again = sqspider(
        "crawl", *FAST, "--json", "--output", "rows.jsonl"
    )  # nothing is left to do: the verdict is the same
    assert again.returncode == 1
    assert json.loads(again.stdout)["done"] == 1
    assert f"{served_site}missing: failed: client_error" in again.stderr
    good = sqspider("crawl", f"{served_site}page/1", *FAST)  # that one was asked for, and it is good
    assert good.returncode == 0


def test_many_seeds_that_fail_are_not_all_named(sqspider: Run) -> None:
    seeds = "".join(f"http://127.0.0.1:1/{n}\n" for n in range(30))
    sqspider("enqueue", "-f", "-", "--delay", "0", "--ignore-robots", stdin=seeds)
    done = sqspider("crawl", *FAST)
    assert done.returncode == 1
    assert done.stderr.count("http://127.0.0.1:1/") == 20
    assert "and more" in done.stderr


def test_a_link_that_fails_is_no_failure_of_the_crawl(sqspider: Run, served_site: str) -> None:
    """The site has pages that fail; nobody asked for them."""
    done = sqspider(
        "crawl", served_site, *FAST, "--exclude", "slow|huge|flaky|trap", "--json", "--output", "rows.jsonl"
    )
    assert json.loads(done.stdout)["failed"] > 0
    assert done.returncode == 0
    again = sqspider("crawl", *FAST, "--json", "--output", "again.jsonl")
    assert again.returncode == 0
    assert json.loads(again.stdout)["done"] == json.loads(done.stdout)["done"]
    assert "rows written to again.jsonl" not in again.stdout


def test_what_is_left_is_not_all_done(sqspider: Run, served_site: str) -> None:
    done = sqspider("crawl", served_site, *FAST, "--max-pages", "1")
    assert done.returncode == 1
    assert json.loads(sqspider("status", "--json").stdout)["records"]["queued"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_crawl_that_was_interrupted_says_so(tmp_path: Path, site: DemoSite, number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sqspider", "crawl", site.url, "--delay", "30", "--allow-private", "--json",
        cwd=tmp_path, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    while not site.requests:
        await asyncio.sleep(0.02)
    process.send_signal(number)
    out, said = await process.communicate()
    assert process.returncode == 130, said
    assert json.loads(out)["records"] >= 1


def test_nothing_runs_when_every_url_is_refused(sqspider: Run, tmp_path: Path, served_site: str) -> None:
    assert sqspider("crawl", "example.com", "", "--quiet").returncode == 2
    assert list(tmp_path.iterdir()) == []
    sqspider("enqueue", served_site, "--delay", "0")
    done = sqspider("crawl", "ftp://example.com/", "", *FAST)
    assert (done.returncode, done.stdout) == (2, "")
    assert "neither http nor https: 'ftp://example.com/'" in done.stderr
    assert "not a valid URL: ''" in done.stderr
    assert json.loads(sqspider("status", "--json").stdout)["records"]["queued"] == 1
    some = sqspider("crawl", "ftp://example.com/", served_site, "--scope", "page", *FAST)
    assert (some.returncode, "1 page in" in some.stdout) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--delay", "nan"), "'--delay': 'nan' is no number"),
        (("--delay", "inf"), "'--delay': inf is not in the range"),
        (("--delay", "-1"), "'--delay': -1.0 is not in the range"),
        (("--timeout", "nan"), "'--timeout': 'nan' is no number"),
        (("--lease", "nan"), "'--lease': 'nan' is no number"),
        (("--concurrency", "0"), "'--concurrency': 0 is not in the range"),
        (("--depth", "-1"), "'--depth': -1 is not in the range"),
        (("--max-pages", "0"), "'--max-pages': 0 is not in the range"),
        (("--max-body", "-1"), "'--max-body': -1 is not in the range"),
        (("--include", "("), "--include: '(' is no regular expression: missing ), unterminated subpattern"),
        (("--exclude", "x" * 3000), "--exclude: a regular expression of more than 2,000 characters"),
        (("--user-agent", ""), "--user-agent: must not be empty"),
        (("--user-agent", "Bot\nX-Other: 1"), "--user-agent: printable characters in one line"),
        (("--user-agent", "бот"), "--user-agent: ASCII characters only"),
        (("--contact", "a@b\r\nX: y"), "--contact: printable characters in one line"),
        (
            ("--proxy", "socks4://user:hush@proxy:1080"),
            "--proxy: write http://HOST:PORT (or https, socks5, socks5h), not 'socks4://***@proxy:1080'",
        ),
    ],
)
def test_a_bad_option_is_told_in_a_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: tuple[str, ...],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["crawl", "http://example.com/", *arguments]) == 2
    out, said = capsys.readouterr()
    assert out == ""
    assert says in said.splitlines()[-1]
    assert "hush" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_list_as_it_comes(sqspider: Run, tmp_path: Path) -> None:
    lines = ["http://e.com/a\ttitle", "http://e.com/b c", "http://u:hush@e.com/", "e.com/x", "http://e.com/d"]
    (tmp_path / "list.txt").write_bytes("\r\n".join(lines).encode("utf-16"))
    done = sqspider("enqueue", "http://e.com/\udce9", "-f", "list.txt", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["refused"] == 4
    for number, says in (
        (1, "a tab ends"),
        (2, "a blank ends"),
        (3, "http://***@e.com/"),
        (4, "did you mean http://e.com/x?"),
    ):
        assert any(f"list.txt, line {number}: " in line and says in line for line in done.stderr.splitlines())
    assert "hush" not in done.stderr
    urls = {json.loads(line)["url"] for line in sqspider("export").stdout.splitlines()}
    assert urls == {"http://e.com/%E9", "http://e.com/d"}
    assumed = sqspider("enqueue", "-f", "-", "--assume-http", stdin="\ufeffe.com/x\n")
    assert assumed.stdout == "1 new, 0 known, 0 refused\n"


async def test_a_password_in_a_url_is_written_nowhere(sqspider: Run, tmp_path: Path) -> None:
    """Given as an argument, redirected to, and sent by a stranger. But for the answer itself, which is kept as the
    stranger has sent it."""
    secret = "http://user:hush@127.0.0.1/"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            f"HTTP/1.1 302 Found\r\nLocation: {secret}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
        )
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        written = ""
        for arguments in (
            ("crawl", secret, url, *FAST, "--json", "--output", "rows.jsonl"),
            ("export",),
            ("show", url),
            ("show", secret),
            ("enqueue", secret, "--sitemap", secret),
            ("enqueue", secret),
            ("crawl", secret),
        ):
            done = await asyncio.to_thread(sqspider, *arguments)
            written += done.stdout + done.stderr
    assert written.count("***@127.0.0.1") >= 5
    kept = _all_of(tmp_path)
    assert kept.count("hush") == kept.count(f"Location: {secret}\r\n") == 1
    written += kept.replace(f"Location: {secret}\r\n", "")
    assert '"url":' in written
    assert "WARC-Target-URI: " in written
    assert "hush" not in written


def _all_of(folder: Path) -> str:
    """What is in its files, pages that were kept unpacked."""
    found = ""
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found += (gzip.decompress(data) if ".warc.gz" in path.name else data).decode("latin-1")
    return found


def test_a_second_list_is_not_taken_instead_of_the_first(sqspider: Run, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"http://{name}/\n")
    done = sqspider("enqueue", "-f", "a.txt", "-f", "b.txt")
    assert (done.returncode, done.stdout) == (2, "")
    assert "one file at a time" in done.stderr
