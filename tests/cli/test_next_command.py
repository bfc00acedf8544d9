"""The one command that a crawl proposes at its end: it is of use, and it works as it stands there."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Run

SELF = ("--delay", "0", "--allow-private", "--depth", "1")
FAILING = (*SELF, "--exclude", "slow|huge|flaky|trap")
GOOD = (*FAILING, "--exclude", "missing")


def proposed(done: subprocess.CompletedProcess[str]) -> str | None:
    """The command in the last line of a crawl that went well."""
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    found = [line for line in lines if line.startswith("`")]
    assert found in ([], lines[-1:]), "one line, and the last"
    return re.findall("`(.*)`", found[0])[0] if found else None


def pasted(sqspider: Run, command: str | None) -> subprocess.CompletedProcess[str]:
    assert command is not None
    name, *arguments = shlex.split(command)
    assert name == "sqspider"
    return sqspider(*arguments)


def test_what_failed_is_named_with_who_links_there(sqspider: Run, served_site: str) -> None:
    done = sqspider("crawl", served_site, *FAILING)
    command = proposed(done)
    assert command == "sqspider links --broken"
    assert len(done.stderr.splitlines()[-1]) <= 80
    told = pasted(sqspider, command)
    assert f"{served_site}missing  client_error" in told.stdout
    assert f"from {served_site}  a" in told.stdout


def test_where_nothing_failed_the_pages_become_a_table(sqspider: Run, served_site: str, tmp_path: Path) -> None:
    done = sqspider("crawl", served_site, *GOOD)
    command = proposed(done)
    assert command == "sqspider extract --title --to pages.csv"
    assert len(done.stderr.splitlines()[-1]) <= 80
    assert pasted(sqspider, command).returncode == 0
    assert served_site in (tmp_path / "pages.csv").read_text()
    assert proposed(sqspider("crawl", served_site, *GOOD, "--again", "--yes")) is None, (
        "it is there: whoever made it knows"
    )


def test_where_nothing_is_kept_the_records_name_what_failed(sqspider: Run, served_site: str) -> None:
    command = proposed(sqspider("--frontier", "sqlite:b c.db", "crawl", served_site, *FAILING, "--no-archive"))
    assert command == "sqspider --frontier 'sqlite:b c.db' export --status failed"
    assert f"{served_site}missing" in pasted(sqspider, command).stdout
    assert proposed(sqspider("crawl", served_site, *GOOD, "--no-archive")) is None
    assert proposed(sqspider("crawl", served_site, *FAILING, "--keep", "pdf", "--crawl", "other")) == (
        "sqspider export --status failed --crawl other"
    )


def test_frontier_archive_and_crawl_are_named_where_they_were(sqspider: Run, served_site: str, tmp_path: Path) -> None:
    def crawled(name: str, *more: str) -> str | None:
        return proposed(sqspider("crawl", served_site, *more, "--crawl", name, "--archive", "my pages"))

    command = crawled("bad", *FAILING)
    assert command is not None
    assert command.endswith("links --archive 'my pages' --broken --crawl bad")
    told = pasted(sqspider, command)
    assert f"{served_site}missing  client_error" in told.stdout
    assert "alone" not in told.stderr, "the frontier is asked"

    assert pasted(sqspider, crawled("good", *GOOD, "--include", "/page/1$")).returncode == 0
    assert len((tmp_path / "pages.csv").read_text().splitlines()) == 2, "the head, and the page of that crawl alone"


def test_an_archive_alone_needs_no_frontier(sqspider: Run, served_site: str, tmp_path: Path) -> None:
    command = proposed(sqspider("crawl", served_site, *GOOD, "--archive", "pages"))
    assert command == "sqspider extract pages --title --to pages.csv"
    assert pasted(sqspider, command).returncode == 0
    assert served_site in (tmp_path / "pages.csv").read_text()


@pytest.mark.parametrize(
    "more",
    [
        ("--quiet",),
        ("--json",),
        ("--exclude", "missing", "--extract", "rules.toml", "--extract-to", "rows.jsonl"),
        ("--frontier", "sqlite::memory:"),
    ],
)
def test_nothing_is_proposed_where_nobody_reads_it_or_it_was_done(
    sqspider: Run, served_site: str, tmp_path: Path, more: tuple[str, ...]
) -> None:
    (tmp_path / "rules.toml").write_text("title = true\n")
    assert proposed(sqspider("crawl", served_site, *FAILING, *more)) is None


def test_what_is_left_or_was_asked_for_in_vain_is_told_instead(sqspider: Run, served_site: str) -> None:
    left = sqspider("crawl", served_site, *FAILING, "--max-pages", "3")
    assert left.returncode == 1
    assert left.stderr.splitlines()[-1].endswith("`sqspider crawl` goes on with them")
    failed = sqspider("crawl", f"{served_site}missing", *FAILING, "--crawl", "other")
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith(f"{served_site}missing: failed: ")


def test_of_many_that_failed_the_rest_is_a_command_away(sqspider: Run, served_site: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("".join(f"{served_site}missing/{n}\n" for n in range(22)))
    done = sqspider("--frontier", "sqlite:b.db", "crawl", "-f", "list.txt", *SELF, "--crawl", "a", "--scope", "page")
    command = re.findall("… and more: `(.*)` lists them", done.stderr)[0]
    told = pasted(sqspider, f"{command} --format jsonl")
    assert len(told.stdout.splitlines()) == 22
