"""The command line as a user meets it: every command, and what it says to bad input."""

from __future__ import annotations

import importlib
import json
import re
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from sqspider.cli.asking import removal_cost
from sqspider.cli.crawl_run import CrawlRun
from sqspider.cli.exit_status import NOT_ALL_GOOD
from sqspider.cli.main import COMMANDS
from sqspider.cli.metrics import COLUMNS, COLUMNS_OF_CRAWLS, period_of
from sqspider.cli.shared import Shared
from sqspider.cli.start import to_start
from sqspider.cli.worker import polling
from sqspider.export import FIELDS
from sqspider.frontier import Traits
from sqspider.frontier.sqlite.file import APPLICATION_ID, SCHEMA_VERSION
from sqspider.orders.order import Order
from sqspider.record import Reason
from sqspider.retry import CARE, FINAL, RULES, Fault
from sqspider.work.options import WorkerOptions
from sqspider.work.worker import Mode
from tests.conftest import Run
from tests.frontier.old_files import make_old_file
from tests.write_reference import reasons

ROOT = Path(__file__).parent.parent.parent
SELF = ("--delay", "0", "--allow-private", "--exclude", "slow|huge|flaky")


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help_and_is_documented(sqspider: Run, command: str) -> None:
    done = sqspider(command, "--help")
    assert done.returncode == 0
    assert "Usage: sqspider" in done.stdout
    assert f"sqspider {command}" in (ROOT / "docs" / "reference" / "cli.md").read_text()


def test_a_crawl_from_start_to_cleanup(sqspider: Run, served_site: str, tmp_path: Path) -> None:
    done = sqspider("crawl", served_site, *SELF, "--json", "--output", "rows.jsonl")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["done"] >= 60
    assert summary["reasons"]["robots"] == 1
    assert "in flight" in done.stderr or summary["seconds"] < 5
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == summary["records"]
    assert tuple(rows[0]) == FIELDS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", rows[0]["finished_at"])

    again = sqspider("crawl", served_site, *SELF)
    assert again.returncode == 0
    assert "nothing to do" in again.stderr

    status = json.loads(sqspider("status", "--json").stdout)
    assert status["records"]["done"] == summary["done"]
    assert status["queue"]["visible"] == 0
    shown = sqspider("show", f"{served_site}private/diary")
    assert "robots.txt line 2: Disallow: /private/" in shown.stdout
    assert json.loads(sqspider("show", served_site, "--json").stdout)["http_status"] == 200
    assert sqspider("show", "http://example.com/").returncode == 1
    table = sqspider("export", "--format", "csv", "--status", "blocked").stdout.splitlines()
    assert table[0] == ",".join(FIELDS)
    assert len(table) == 1 + summary["blocked"]
    assert json.loads(sqspider("hosts", "--json").stdout)["done"] == summary["done"]
    assert sqspider("cleanup", "--all").returncode == 2  # nobody can be asked
    assert sqspider("cleanup", "--all", "--yes").returncode == 0
    assert json.loads(sqspider("status", "--json").stdout)["records"]["done"] == 0


def test_a_crawl_whose_pages_wait_for_their_turn_says_nothing_of_it(sqspider: Run, served_site: str) -> None:
    slowly = ("--delay", "0.02", "--allow-private", "--exclude", "slow|huge|flaky|missing|trap")
    done = sqspider("crawl", served_site, *slowly, "--quiet", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["done"] >= 60


def test_producer_and_consumer_apart(sqspider: Run, served_site: str) -> None:
    urls = "".join(f"{served_site}page/{n}\n" for n in range(12))
    done = sqspider("enqueue", "-f", "-", "--delay", "0", stdin=f"# a comment\n\n{urls}{urls}ftp://x/\nno url\n")
    assert done.returncode == 1
    assert done.stdout == "12 new, 12 known, 2 refused\n"
    assert "-, line 27: " in done.stderr
    assert "neither http nor https" in done.stderr
    once = sqspider("consume", "--allow-private", "--worker-id", "worker-A")
    assert once.returncode == 0
    assert len(re.findall(r"WON race — claimed for processing: http", once.stderr)) == 10
    rest = sqspider("--log-level", "debug", "consume", "--allow-private", "--until-empty")
    assert rest.returncode == 0
    assert len(re.findall(r"WON race — claimed for processing: http", rest.stderr)) == 2
    assert "No messages" in rest.stderr


def test_json_logs_are_json(sqspider: Run, served_site: str) -> None:
    sqspider("enqueue", f"{served_site}page/1", "--delay", "0")
    done = sqspider("--log-format", "json", "consume", "--allow-private", "--until-empty")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    told = ["keeping_pages", f"WON race — claimed for processing: {served_site}page/1"]
    assert [event["event"] for event in events[:2]] == told


def test_hosts_can_be_given_orders(sqspider: Run, served_site: str) -> None:
    assert sqspider("hosts", "set", "127.0.0.1", "--block").returncode == 0
    done = sqspider("crawl", served_site, *SELF)
    assert done.returncode == 1
    assert "host_blocked" in done.stderr
    row = json.loads(sqspider("hosts", "--json").stdout)
    assert (row["is_blocked"], row["blocked"]) == (True, 1)
    assert sqspider("hosts", "set", "127.0.0.1").returncode == 2


@pytest.mark.parametrize("host", ["http://e.com/", "e.com:80", "e.com/a", "me@e.com", "", "a b", "[::1]:80", "a" * 254])
def test_what_is_no_host_is_refused(sqspider: Run, host: str) -> None:
    for command in (("hosts", "set", host, "--block"), ("export", "--host", host)):
        done = sqspider(*command)
        assert done.returncode == 2
        said = " ".join(done.stderr.replace("\u2502", "").split())
        assert f": {host[:200].replace('me@', '***@')!r} is no host: say its name or address alone" in said
    assert sqspider("hosts", "--json").stdout == ""


def test_a_host_is_found_however_it_is_written(sqspider: Run) -> None:
    names = {"Example.COM": "example.com", "site.example.": "site.example", "faß.example": "xn--fa-hia.example"}
    names |= {"0x7f.1": "127.0.0.1", "2001:DB8::0:1": "[2001:db8::1]", "[::1]": "[::1]"}
    for written, name in names.items():
        assert sqspider("hosts", "set", written, "--delay", "9").stdout == f"{name}: set\n"
        url = f"http://{name}:8080/"
        assert sqspider("enqueue", url).returncode == 0
        assert json.loads(sqspider("export", "--host", written).stdout)["url"] == url
        assert "host's delay       9 s, set" in sqspider("show", url).stdout
    rows = map(json.loads, sqspider("hosts", "--json").stdout.splitlines())
    assert {row["host"]: row["effective_delay_seconds"] for row in rows} == dict.fromkeys(names.values(), 9)


def test_env_file_and_environment_and_flags(sqspider: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("SQSPIDER_FRONTIER=sqlite:from-file.db\n")
    sqspider("enqueue", "http://e.com/")
    monkeypatch.setenv("SQSPIDER_FRONTIER", "sqlite:from-environment.db")
    sqspider("enqueue", "http://e.com/")
    sqspider("--frontier", "sqlite:from-flag.db", "enqueue", "http://e.com/")
    assert {path.stem for path in tmp_path.glob("*.db")} == {"from-file", "from-environment", "from-flag"}


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("crawl",), 2, "no URL was given"),
        (("crawl", "ftp://example.com/"), 2, "neither http nor https"),
        (("enqueue",), 2, "name a URL"),
        (("enqueue", "-f", "absent.txt"), 2, "absent.txt cannot be read"),
        (("consume", "--batch-size", "0"), 2, "1<=x<=10"),
        (("consume", "--batch-size", "11"), 2, "1<=x<=10"),
        (("consume", "--lease", "12"), 2, "too short"),
        (("crawl", "http://e.com/", "--include", "("), 2, "no regular expression"),
        (("cleanup",), 2, "one of --all"),
        (("--frontier", "nothing:x", "status"), 2, "names no frontier"),
        (("--frontier", "sqlite:absent/f.db", "status"), 3, "there is no folder"),
        (("--frontier", "sqlite:.", "status"), 3, "it is a folder"),
        (("nonsense",), 2, "No such command"),
        (("crwl",), 2, "No such command 'crwl'. Did you mean 'crawl' or 'crawls'?"),
        (("show", "no url"), 2, "not a valid URL"),
        (("show", "e.com/x"), 2, "did you mean http://e.com/x?)"),  # and no word of an option that it has not
        (("crawl", "e.com/x"), 2, "did you mean http://e.com/x? --assume-http takes it so)"),
        (("enqueue", "e.com/x"), 1, "did you mean http://e.com/x? --assume-http takes it so)"),
        (("crawl", "http://127.0.0.1:9999/", "--ignore-robots"), 1, "(--allow-private lifts that)"),
    ],
)
def test_bad_input_gets_one_clear_line(sqspider: Run, arguments: tuple[str, ...], status: int, says: str) -> None:
    done = sqspider(*arguments)
    assert (done.returncode, says in done.stderr) == (status, True), done.stderr
    assert "Traceback" not in done.stderr


async def test_a_port_nobody_listens_on_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `crawl` with --new-host-grace 0, but that a host in trouble rests for no 75 s."""
    worker = WorkerOptions(worker_id="w", first_rest_seconds=0.01, new_host_grace_seconds=0)
    order = Order("default", {"allow-private": True}, is_run=True, is_kept=False)
    run = CrawlRun(Shared(f"sqlite:{tmp_path}/f.db"), order, worker, to_start({}), quiet=True)
    with socket.socket() as taken:  # by us, who do not listen
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        assert await run.run((url,)) == NOT_ALL_GOOD
    assert f"{url}: failed: connection_refused" in capsys.readouterr().err


def test_a_name_nobody_has_is_told(sqspider: Run) -> None:
    try:
        socket.getaddrinfo("no-such-host.invalid", 80)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            pytest.skip("without a network nobody says so: that is our own trouble, and waited for")
    unknown = sqspider("crawl", "http://no-such-host.invalid/", "--quiet")
    assert unknown.returncode == 1
    assert "no-such-host.invalid/: failed: dns_" in unknown.stderr


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        *[(name, 3, "there is no frontier at typo.db") for name in ("sweep", "redrive", "cleanup --all --yes")],
        ("crawl", 2, "no URL was given"),
    ],
)
def test_a_mistyped_frontier_makes_no_file(sqspider: Run, tmp_path: Path, command: str, status: int, says: str) -> None:
    done = sqspider("--frontier", "sqlite:typo.db", *command.split())
    assert (done.returncode, says in done.stderr) == (status, True), done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["status", "sweep", "enqueue http://e.com/"])
@pytest.mark.parametrize("kind", ["text", "foreign", "newer", "read-only folder"])
def test_a_file_that_is_no_frontier_is_refused(sqspider: Run, tmp_path: Path, kind: str, command: str) -> None:
    path = tmp_path / "f.db"
    if kind == "text":
        path.write_text("this is no database, but a text that is long enough to be looked at" * 20)
    elif kind in ("foreign", "newer"):
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE t (x)")
            if kind == "newer":
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        connection.close()
    else:
        path = Path("/proc/f.db")
    done = sqspider("--frontier", f"sqlite:{path}", *command.split())
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    expected = {"text": "no SQLite database", "foreign": "not of sqspider", "newer": "newer sqspider"}
    assert (
        expected.get(kind, "cannot be" if command == "enqueue http://e.com/" else "there is no frontier") in done.stderr
    )


def test_a_file_of_the_first_version_is_brought_up_to_date(sqspider: Run, served_site: str, tmp_path: Path) -> None:
    urls = [f"{served_site}page/{n}" for n in range(5)]
    make_old_file(tmp_path / "sqspider.db", 1, urls, now=time.time(), settings={"delay_seconds": 0})
    assert sqspider("consume", "--until-empty", "--allow-private").returncode == 0
    assert json.loads(sqspider("status", "--json").stdout)["records"]["done"] == 5
    assert json.loads(sqspider("metrics", "--json").stdout)[0]["Done"] == 5
    [of_crawl] = json.loads(sqspider("metrics", "--json", "--crawl", "default").stdout)
    assert of_crawl["Done"] == of_crawl["NumberOfMessagesReceived"] == 5
    assert "ApproximateNumberOfMessagesVisible" not in of_crawl


def test_status_lists_reasons_below_their_status(sqspider: Run, served_site: str) -> None:
    seeds = f"{served_site}page/1\n{served_site}missing\nhttp://127.0.0.1:1/\n"
    sqspider("enqueue", "-f", "-", "--delay", "0", "--ignore-robots", stdin=seeds)
    sqspider("crawl", "--allow-private", "--quiet")
    words = [line.split() for line in sqspider("status").stdout.splitlines()]
    assert words[3:8] == [
        ["1", "done"], ["1", "failed"], ["1", "client_error"], ["1", "blocked"], ["1", "bad_port"]
    ]  # fmt: skip


def test_where_a_frontier_is_stands_in_one_line_as_it_is_called(sqspider: Run, tmp_path: Path) -> None:
    """On AWS it is a long one; and a path may look like what a table is painted with."""
    folder = tmp_path / "[bold]" / ("f" * 100)
    folder.mkdir(parents=True)
    frontier = f"sqlite:{folder / 'crawl.db'}"
    sqspider("--frontier", frontier, "enqueue", "http://example.com/")
    assert sqspider("--frontier", frontier, "status").stdout.splitlines()[0] == f"in {frontier}"
    nothing = f"nothing was noted in that time in {frontier}\n"
    assert sqspider("--frontier", frontier, "metrics").stdout == nothing


@pytest.mark.parametrize("columns", ["60", "80", "200"])
def test_metrics_are_cut_off_on_no_terminal(
    sqspider: Run, served_site: str, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    sqspider("crawl", f"{served_site}huge", "--depth", "0", "--delay", "0", "--allow-private", "--quiet")
    shown = sqspider("metrics").stdout
    assert "…" not in shown
    assert {figure.heading for figure in COLUMNS} <= set(shown.split())
    shown = sqspider("metrics", "--crawl", "default").stdout
    assert "…" not in shown
    assert {figure.heading for figure in COLUMNS_OF_CRAWLS} <= set(shown.split())
    assert "of the crawl default; visible, hidden, oldest: of all crawls alone" in " ".join(shown.split())


def test_the_period_of_metrics_is_what_the_frontier_has() -> None:
    coarse = Traits(finest_period_seconds=60, max_points=100)
    assert period_of(60, None, Traits()) == 5
    assert period_of(60, None, coarse) == 60
    assert period_of(3600, None, Traits()) == 300
    assert period_of(30 * 86_400, None, Traits()) == 86_400
    assert period_of(3600, 120, coarse) == 120
    for since, period, traits, says in (
        (3600, 0.5, Traits(), "it is 1 s or a multiple"),
        (3600, 1.5, Traits(), "it is 1 s or a multiple"),
        (3600, 90, coarse, "it is 60 s or a multiple"),
        (101 * 60, 60, coarse, "more than 100 rows"),
        (86_401, 60, Traits(), "more than 1,440 rows"),
    ):
        with pytest.raises(click.UsageError, match=says):
            period_of(since, period, traits)


def test_who_polls_for_ever_polls_as_the_frontier_would_have_it() -> None:
    options, dear = WorkerOptions(worker_id="w"), Traits(poll_seconds=10)
    assert polling(options, Mode.CONTINUOUS, dear).poll_seconds == 10
    for mode in (Mode.ONCE, Mode.UNTIL_EMPTY):
        assert polling(options, mode, dear) is options


def test_what_a_cleanup_costs_is_told_where_it_is_worth_knowing() -> None:
    dear = Traits(removal_dollars=1e-6)
    assert removal_cost(Traits(), 10_000_000) is None
    assert removal_cost(dear, 99_999) is None
    assert "about $10.00;" in (removal_cost(dear, 10_000_000) or "")


def test_a_full_disk_is_told_and_loses_nothing(sqspider: Run, tmp_path: Path) -> None:
    urls = "".join(f"http://example.com/{n}\n" for n in range(20_000))
    (tmp_path / "urls.txt").write_text(urls)
    command = f"ulimit -f 3000; exec {sys.executable} -m sqspider enqueue -f urls.txt"
    full = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert full.returncode == 3, full.stderr
    assert "Traceback" not in full.stderr
    done = sqspider("enqueue", "-f", "urls.txt", "--json")
    numbers = json.loads(done.stdout)
    assert numbers["new"] + numbers["known"] == 20_000
    assert numbers["known"] > 0


def test_the_reasons_and_the_retry_table_are_documented() -> None:
    """`python -m tests.write_reference` writes them anew."""
    text = (ROOT / "docs" / "reference" / "reasons.md").read_text()
    assert text == reasons()
    for reason in Reason:
        assert f"`{reason.value}`" in text
    for reason, rule in RULES.items():
        assert re.search(rf"`{reason.value}` \| {rule.max_tries or '-'} .* {rule.fault.value}", text), reason
    assert FINAL.max_tries == 1


def test_what_is_done_about_trouble_is_documented_as_it_is() -> None:
    source = "".join(path.read_text() for path in (ROOT / "src" / "sqspider").rglob("*.py"))
    assert list(CARE) == list(Fault)
    for care in CARE.values():
        for event in re.findall(r"`(\w+)`", care.told.partition("the log:")[2]):
            assert re.search(rf'log\.\w+\(\s*"{event}"', source), event


def test_the_demo_race_is_fair(sqspider: Run) -> None:
    done = sqspider("demo", "race")
    assert done.returncode == 0, done.stdout
    assert "No URL was won twice" in done.stdout
    lines = re.findall(r"^(consumer-[AB])  (WON|LOST) race — .*: (\S+)$", done.stdout, re.MULTILINE)
    winners = {url: name for name, what, url in lines if what == "WON"}
    assert len(winners) == [what for _, what, _ in lines].count("WON") == 20
    lost = [(name, url) for name, what, url in lines if what == "LOST"]
    assert set(winners.values()) == {"consumer-A", "consumer-B"}
    assert any(name != winners[url] for name, url in lost)


def test_the_demo_explains_itself(sqspider: Run) -> None:
    done = sqspider("demo", "--pages", "30")
    assert done.returncode == 0, done.stderr
    for word in ("lead to one another", "robots", "client_error", "/huge was cut off", "never asked for"):
        assert word in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_its_short_form_however_a_command_is_called(name: str) -> None:
    """Click keeps the first answer: without that, whoever came first would decide what all others see."""
    command = getattr(importlib.import_module(f"sqspider.cli.{name}"), name)
    assert "-h, --help" in command.get_help(click.Context(command, info_name=name))
