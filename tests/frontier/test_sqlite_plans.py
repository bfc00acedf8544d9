"""What an operation costs must not grow with the queue: so each statement is held to the index that serves it."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import sqlite3
from collections.abc import Iterator
from types import ModuleType
from typing import Final

import pytest

from sqspider.frontier import sqlite
from sqspider.frontier.sqlite.file import open_to_work
from sqspider.frontier.sqlite.keys import key_of
from sqspider.frontier.sqlite.messages import INSERT_MESSAGE
from sqspider.frontier.sqlite.records import ADD_CRAWL, INSERT_RECORD

# A check reads everything: that is what it is. The upgrade has tables of its own, and reads all of them once.
READ_EVERYTHING: Final = ("check", "upgrade")
MODULES: Final = tuple(
    importlib.import_module(f"{sqlite.__name__}.{found.name}")
    for found in pkgutil.iter_modules(sqlite.__path__)
    if found.name not in READ_EVERYTHING
)
VERBS: Final = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|REPLACE|WITH|VALUES)\b")
NO_STATEMENTS: Final = re.compile(r"BEGIN|COMMIT|ROLLBACK|PRAGMA |CREATE |DROP |ALTER ")  # they read no table

BY_ID: Final = "record: rowid (rowid=?)"
BY_URL: Final = "r: record_key (key=?)"  # the URL itself is compared in the row
BY_HOST: Final = "host: PRIMARY KEY (host=?)"
OF_PARENT: Final = "p: rowid (rowid=?)"
MESSAGE_BY_ID: Final = "sent: rowid (rowid=?)"
PLACE: Final = "record: record_place (queue=?)"
ASIDE: Final = "record: record_aside (crawl=?)"
ASIDE_THEN: Final = "record: record_aside (crawl=? AND rowid>?)"
TIMED: Final = "record: record_timed (queue=? AND visible_at<?)"
LATER: Final = "record: record_timed (queue=? AND visible_at>?)"
MESSAGES: Final = "sent: sent_visible (visible_at<?)"
LATER_MESSAGES: Final = "sent: sent_visible (visible_at>?)"
AGES: Final = "sent: sent_age"
DEAD: Final = "sent: sent_dead (visible_at=?)"

# By the name of each statement: how it finds its rows, as "table or alias: index (what is looked up in it)".
PLANS: Final[dict[str, set[str]]] = {
    "FIND_CRAWL": {"crawl: sqlite_autoindex_crawl_1 (settings=?)"},
    "ADD_CRAWL": set(),
    "CRAWLS": {"c: rowid (rowid=?)"},
    "ADD_SAMPLE": set(),
    "END_OLD_SAMPLES": {"sample: sample_at (at<?)"},
    "POINTS": {"sample: sample_at (at>? AND at<?)"},
    "POINTS_OF": {"sample: sample_at (at>? AND at<?)"},
    "KNOWN": {BY_URL},
    "HELD": {BY_URL},
    "INSERT_RECORD": set(),
    "CRAWL_RULES": {"c: rowid (rowid=?)"},
    "COME_NEARER": {BY_ID},
    "VALIDATORS": {"r: rowid (rowid=?)"},
    "ASK_FOR_ALL": {BY_ID},
    "LATER_LASTMOD": {BY_ID},
    "KEEP_OUTLINKS": set(),
    "FORGET_OUTLINKS": {"outlinks: rowid (rowid=?)"},
    "LED": {"r: rowid (rowid=?)", "o: rowid (rowid=?)"},
    "INSERT_MESSAGE": set(),
    "TIMED": {TIMED},
    "FRESH_ONES": {PLACE},
    "RECEIVE": {BY_ID},
    "LOOK_AT": {"r: rowid (rowid=?)", OF_PARENT},
    "PUT_OFF_UNTIL": {BY_ID},
    "STILL_VISIBLE": {"r: rowid (rowid=?)"},
    "VISIBLE_MESSAGES": {MESSAGES},
    "RECEIVE_MESSAGES": {MESSAGE_BY_ID},
    "LAST_FRESH": {PLACE},
    "FRESH_OF_CRAWL": {"record: record_place (queue=? AND rowid>? AND rowid<?)"},
    "TIMED_OF_CRAWL": {"record: record_timed (queue=? AND visible_at>? AND visible_at<?)"},
    "MESSAGES_OF_CRAWL": {"sent: sent_visible (visible_at>? AND visible_at<?)"},
    "BURY": {MESSAGE_BY_ID},
    "NEXT_VISIBLE": {PLACE, LATER, MESSAGES},
    "CLAIM": {BY_ID},
    "TAKE_OVER": {MESSAGE_BY_ID},
    "TAKE_PLACE": {BY_ID},
    "FINISH": {BY_ID},
    "DELETE_COPIES": {MESSAGE_BY_ID, "m: sent_key (key=?)"},
    "RETRY": {BY_ID},
    "PROLONG": {BY_ID},
    "DEFER": {BY_ID},
    "DEFER_MESSAGE": {MESSAGE_BY_ID},
    "DELETE": {BY_ID},
    "DELETE_MESSAGE": {MESSAGE_BY_ID},
    "LOSE_PLACES": {BY_ID},
    "PAST_DUE": {"r: record_due (due_at<?)", "m: sent_key (key=?)"},
    "ORPHANS": {"r: rowid (rowid=?)", "c: rowid (rowid=?)", "found: record_key (key=?)"},
    "PUT_BACK": {BY_ID},
    "FINAL": {BY_URL, "c: rowid (rowid=?)"},
    "REOPEN": {BY_ID},
    "MOVE_DUE_ON": {BY_ID},
    "COUNTERS": {"counter: scan"},
    "NUMBER": {"counter: PRIMARY KEY (name=?)"},
    "ADD_TO_COUNTER": set(),
    "ADD_TO_HOST": set(),
    "HOSTS": {BY_HOST},
    "ALL_HOSTS": {"host: scan"},
    "HOSTS_IN_TROUBLE": {"host: host_trouble (was_in_trouble=?)"},
    "SAVE_HOST": set(),
    "BEGIN_REQUEST": set(),
    "END_REQUEST": {"request: PRIMARY KEY (host=? AND token=?)"},
    "REQUESTS": {"request: PRIMARY KEY (host=?)"},
    "ROBOTS": {"robots: sqlite_autoindex_robots_1 (origin=?)"},
    "LEASE_ROBOTS": set(),
    "SAVE_ROBOTS": set(),
    "PUT_OFF_OF_HOST": {"record: record_put_off (key>? AND key<?)"},
    "RELEASE": {BY_ID},
    "FILE_ID": {"capture_file: sqlite_autoindex_capture_file_1 (name=?)"},
    "ADD_FILE": set(),
    "FILE_NAME": {"capture_file: rowid (rowid=?)"},
    "WITH_CAPTURES": {"record: rowid (rowid>? AND rowid<?)"},
    "CAPTURES": {"r: rowid (rowid=?)"},
    "SET_CAPTURE": {BY_ID},
    "GET": {BY_URL, OF_PARENT},
    "SCAN": {"r: rowid (rowid>?)", OF_PARENT},
    "SCAN_HOST": {"r: record_key (key>? AND key<?)", OF_PARENT},
    "QUEUE_STATS": {"counter: PRIMARY KEY (name=?)", PLACE, TIMED, LATER, LATER_MESSAGES, AGES},
    "DEAD_LETTERS": {DEAD},
    "REDRIVE": {MESSAGE_BY_ID, DEAD},
    "CHECK_IN": set(),
    "CHECK_OUT": {"worker: PRIMARY KEY (worker_id=?)"},
    "WORKERS": {"worker: scan"},
    "PURGE_MESSAGES": set(),  # whole tables are emptied without a look at their rows
    "ALL_TIMED": {LATER},
    "PLACES": {"r: rowid (rowid=?)", OF_PARENT},
    "CLEAR_RECORDS": set(),
    "CLEAR_THE_REST[0]": set(),
    "CLEAR_THE_REST[1]": set(),
    "CLEAR_THE_REST[2]": set(),
    "CLEAR_THE_REST[3]": set(),
    "CLEAR_THE_REST[4]": set(),
    "CLEAR_THE_REST[5]": set(),
    "CLEAR_THE_REST[6]": set(),
    "CLEAR_THE_REST[7]": set(),
    "CLEAR_THE_REST[8]": set(),
    "CLEAR_THE_REST[9]": {"counter: scan"},
    "ALL_CRAWLS": {"crawl: crawl_name (name>?)"},
    "REMOVALS": {"crawl: crawl_name (name>?)"},
    "CRAWL_OF_NAME": {"crawl: crawl_name (name=?)"},
    "ADD_NAMED_CRAWL": set(),
    "SET_CRAWL": {"crawl: crawl_name (name=?)"},
    "CRAWL_OF_REF": {"crawl: sqlite_autoindex_crawl_1 (settings=?)"},
    "SEEDS": {"s: PRIMARY KEY (crawl=? AND site=?)"},
    "ADD_SEED": set(),
    "RUNS": {"r: PRIMARY KEY (name=?)"},
    "SAVE_RUN": set(),
    "SOME_RUNS": {"run: PRIMARY KEY (name>? AND name<?)"},
    "REMOVE_RUN": {"run: PRIMARY KEY (name=?)"},
    "PARK": {BY_ID, "c: rowid (rowid=?)"},
    "CRAWLS_OF": {"c: rowid (rowid=?)", "r: rowid (rowid=?)"},
    "FIRST_FRESH": {PLACE},
    "PARK_FRESH": {BY_ID},
    "PARK_MESSAGE": {MESSAGE_BY_ID},
    "ASIDE_OF_CRAWL": {ASIDE_THEN},
    "IS_ASIDE": {ASIDE, "sent: sent_visible (visible_at=? AND queue=?)"},
    "UNPARK": {BY_ID},
    "MESSAGES_ASIDE": {"sent: sent_visible (visible_at=? AND queue=? AND rowid>?)"},
    "UNPARK_MESSAGE": {MESSAGE_BY_ID},
    "END_CRAWL": {"crawl: rowid (rowid=?)"},
    "SOME_SEEDS": {"seed: PRIMARY KEY (crawl=?)"},
    "REMOVE_SEED": {"seed: PRIMARY KEY (crawl=? AND site=? AND folder=?)"},
    "SOME_OF_CRAWL": {"record: rowid (rowid>? AND rowid<?)"},
    "LAST_RECORD": set(),  # from the end of the table
    "REMOVE_OUTLINKS": {"outlinks: rowid (rowid=?)"},
    "REMOVE_RECORDS": {BY_ID},
    "SOME_MESSAGES": {"sent: rowid (rowid>?)"},
    "REMOVE_MESSAGES": {MESSAGE_BY_ID},
    "REMOVE_SUMS": {"counter: PRIMARY KEY (name>? AND name<?)"},
    "REMOVE_CRAWL": {"crawl: rowid (rowid=?)"},
    "IS_ANY_ASIDE": {PLACE, LATER_MESSAGES},
    "ALL_ASIDE": {PLACE},
    "COUNT_TABLES": {"sqlite_master: scan"},
    "LATEST": {"clock: scan"},
    "NOTE": {"clock: scan"},
    "NEXT_GENERATION": set(),
    "MOVE_TIMED": {LATER},
    "MOVE_DUE": {"record: record_due (due_at>?)"},
    "MOVE_MESSAGES": {"sent: sent_visible (visible_at>? AND visible_at<?)"},
    "MOVE_HOSTS": {"host: scan"},
    "MOVE_REQUESTS": {"request: scan"},
    "MOVE_ROBOTS_LEASES": {"robots: scan"},
    "MOVE_WORKERS": {"worker: scan"},
    "ALL_RUNS": {"run: scan"},
    "SET_RUN": {"run: PRIMARY KEY (name=?)"},
    "ALL_ROBOTS": {"robots: scan"},
    "SET_ROBOTS": {"robots: sqlite_autoindex_robots_1 (origin=?)"},
}
ONCE_IN_YEARS: Final = "a clock that was put back: it may be ahead in every row"
MEANT_SCANS: Final = {
    ("COUNTERS", "counter"): "it has a dozen rows for each crawl, whatever its size",
    ("CLEAR_THE_REST[9]", "counter"): "the same",
    ("WORKERS", "worker"): "it has a row for each worker",
    ("COUNT_TABLES", "sqlite_master"): "the tables of the file, a dozen",
    ("ALL_HOSTS", "host"): "all hosts are asked for",
    ("LATEST", "clock"): "it has one row",
    ("NOTE", "clock"): "the same",
    ("MOVE_HOSTS", "host"): ONCE_IN_YEARS,
    ("MOVE_REQUESTS", "request"): ONCE_IN_YEARS,
    ("MOVE_ROBOTS_LEASES", "robots"): ONCE_IN_YEARS,
    ("MOVE_WORKERS", "worker"): ONCE_IN_YEARS,
    ("ALL_ROBOTS", "robots"): ONCE_IN_YEARS,
    ("ALL_RUNS", "run"): ONCE_IN_YEARS,
}
MEANT_SORTS: Final = dict.fromkeys(
    ("POINTS", "POINTS_OF"), "samples of the time that is asked for are grouped, whatever the queue's size"
)


def constants(module: ModuleType) -> Iterator[tuple[str, str]]:
    """The statements that a module names, by their names."""
    for name, value in vars(module).items():
        if isinstance(value, str) and VERBS.match(value):
            yield name, value
        elif name.isupper() and isinstance(value, tuple):
            yield from ((f"{name}[{i}]", part) for i, part in enumerate(value) if VERBS.match(str(part)))


NAMED: Final = {pair for module in MODULES for pair in constants(module)}
STATEMENTS: Final = dict(NAMED)
RUN_BY_METHODS: Final = ("execute", "executemany", "executescript", "rows", "change", "change_each")


def accesses(connection: sqlite3.Connection, statement: str) -> tuple[set[str], list[str]]:
    """How a statement finds its rows, and what it sorts."""
    names = re.findall(r":(\w+)", statement)
    parameters = dict.fromkeys(names, 1) if names else (1,) * statement.count("?")
    lines = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    found = set()
    for line in lines:
        if searched := re.match(r"SEARCH (\w+) USING (?:COVERING )?(INDEX |INTEGER )?(.+?)( LEFT-JOIN)?$", line):
            table, kind, how, _ = searched.groups()
            found.add(f"{table}: {how.replace('PRIMARY KEY', 'rowid') if kind == 'INTEGER ' else how}")
        elif (scanned := re.match(r"SCAN (?!SUBQUERY|CONSTANT)(\w+)", line)) and "VIRTUAL TABLE" not in line:
            found.add(f"{scanned[1]}: scan")
    return found, [line for line in lines if "TEMP B-TREE" in line]


@pytest.fixture(scope="module", params=["as it is made", "with statistics of another time"])
def connection(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[sqlite3.Connection]:
    """A file without statistics, which is all that we make; and one for which somebody ran ANALYZE when it was small."""
    connection = open_to_work(str(tmp_path_factory.mktemp("plans") / "f.db"), 0.0)
    if request.param != "as it is made":
        connection.executemany(ADD_CRAWL, [(str(n),) for n in range(50)])
        urls = [f"https://e.com/{n}" for n in range(50)]
        for queue, visible_at in ((0, None), (1, 5.0), (2, 6.0), (None, None)):
            records = [(key_of(url), 1, queue, 0, None, url, 0, None, 1.0, None) for url in urls]
            connection.executemany(INSERT_RECORD, records)
            connection.execute("UPDATE record SET visible_at = ? WHERE queue = ?", (visible_at, queue))
        connection.execute("UPDATE record SET due_at = 9 WHERE queue IS NULL")
        messages = [(key_of(url), url, "", 1.0, queue, queue and 1.0, 0) for url in urls for queue in (1, None)]
        connection.executemany(INSERT_MESSAGE, messages)
        connection.execute("ANALYZE")
    yield connection
    connection.close()


def test_every_statement_is_known() -> None:
    assert STATEMENTS.keys() == PLANS.keys(), "name the index that a new statement is meant to use"
    assert len(NAMED) == len(STATEMENTS), "two statements have one name: only one of them would be looked at"


@pytest.mark.parametrize("name", PLANS)
def test_a_statement_reads_what_it_needs_by_the_index_meant_for_it(connection: sqlite3.Connection, name: str) -> None:
    found, sorts = accesses(connection, STATEMENTS[name])
    assert found == PLANS[name]
    assert {access for access in found if access.endswith(": scan")} == {
        f"{table}: scan" for statement, table in MEANT_SCANS if statement == name
    }, "a scan costs as much as the table is long: if it is meant, say why"
    assert bool(sorts) == (name in MEANT_SORTS), sorts


def executed(module: ModuleType) -> Iterator[tuple[ast.Call, ast.expr]]:
    """The calls in a module that run a statement, and which."""
    for call in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in RUN_BY_METHODS:
            yield call, call.args[0]
        elif isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "dicts":
            yield call, call.args[1]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.__name__))
def test_no_statement_stands_where_this_test_does_not_see_it(module: ModuleType) -> None:
    """What is executed is a named constant, or nothing that reads a table."""
    for call, argument in executed(module):
        if isinstance(argument, ast.Name):
            # A parameter called `statement` is what a function was given: whoever calls it is looked at, too.
            assert argument.id in STATEMENTS.keys() | {"statement"}, ast.unparse(call)
        else:
            text = argument.values[0] if isinstance(argument, ast.JoinedStr) else argument
            assert isinstance(text, ast.Constant), ast.unparse(call)
            assert NO_STATEMENTS.match(str(text.value)), ast.unparse(call)


def test_every_statement_is_executed_somewhere() -> None:
    names = {argument.id for module in MODULES for _, argument in executed(module) if isinstance(argument, ast.Name)}
    given = {"GET", "SCAN", "SCAN_HOST"}  # records are found by one of them
    given |= {"FRESH_OF_CRAWL", "TIMED_OF_CRAWL", "MESSAGES_OF_CRAWL"}  # a look at one crawl's
    in_loops = {name for name in STATEMENTS if name.startswith(("CLEAR_THE_REST", "MOVE_"))}
    assert names - {"statement"} | given | in_loops == STATEMENTS.keys()


def test_the_test_sees_a_scan_and_a_sort(connection: sqlite3.Connection) -> None:
    assert accesses(connection, "SELECT url FROM sent WHERE body = ? ORDER BY body") == ({"sent: scan"}, [])
    found, sorts = accesses(connection, "SELECT * FROM record WHERE status = :x ORDER BY depth")
    assert (found, len(sorts)) == ({"record: scan"}, 1)
