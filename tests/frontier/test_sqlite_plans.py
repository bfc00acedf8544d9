"""What an operation costs must not grow with the queue: so each statement is held to the index that serves it."""

from __future__ import annotations

import ast
import inspect
import json
import re
import sqlite3
from collections.abc import Iterator
from types import ModuleType
from typing import Final

import pytest

from sqspider.frontier import sqlite, sqlite_file
from sqspider.frontier.sqlite_file import open_to_work

MODULES: Final[tuple[ModuleType, ...]] = (sqlite, sqlite_file)
VERBS: Final = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|REPLACE|WITH|VALUES)\b")
NO_STATEMENTS: Final = re.compile(r"BEGIN|COMMIT|ROLLBACK|PRAGMA |CREATE |DROP |ALTER ")  # they read no table

BY_URL: Final = "record: sqlite_autoindex_record_1 (url=?)"
BY_HOST: Final = "host: PRIMARY KEY (host=?)"
VISIBLE: Final = "message_visible (is_dead=? AND is_deferred=? AND visible_at<?)"

# By the name of each statement: how it finds its rows, as "table or alias: index (what is looked up in it)".
PLANS: Final[dict[str, set[str]]] = {
    "FIND_SETTINGS": {"settings: sqlite_autoindex_settings_1 (body=?)"},
    "ADD_SETTINGS": set(),
    "ADD_SAMPLE": set(),
    "END_OLD_SAMPLES": {"sample: sample_at (at<?)"},
    "POINTS": {"sample: sample_at (at>? AND at<?)"},
    "INSERT_RECORDS": set(),
    "INSERT_MESSAGE": set(),
    "RECEIVE": {"message: rowid (rowid=?)", f"message: {VISIBLE}", BY_URL},
    "NEXT_VISIBLE": {"message: message_visible (is_dead=? AND is_deferred=?)"},
    "CLAIM": {BY_URL},
    "LOSERS": {BY_URL},
    "KNOWN": {BY_URL},
    "FINISH": {BY_URL},
    "DELETE_MESSAGES_OF": {"message: message_url (url=?)"},
    "RETRY": {BY_URL},
    "DEFER": {"message: rowid (rowid=?)"},
    "DELETE": {"message: rowid (rowid=?)"},
    "PAST_DUE": {"r: record_due (due_at<?)", "m: message_url (url=?)"},
    "ORPHANS": {
        "r: rowid (rowid=?)",
        "s: rowid (rowid=?)",
        "found: sqlite_autoindex_record_1 (url=?)",
    },
    "MOVE_DUE_ON": {"record: rowid (rowid=?)"},
    "MOVED_ON": {"record: record_due (due_at>?)"},
    "MOVE_DUE_UP": {"record: rowid (rowid=?)"},
    "COUNTERS": {"counter: scan"},
    "ADD_TO_COUNTER": set(),
    "ADD_TO_HOST": set(),
    "HOSTS": {BY_HOST},
    "ALL_HOSTS": {"host: scan"},
    "ADD_HOST": set(),
    "SAVE_HOST": {BY_HOST},
    "BEGIN_REQUEST": set(),
    "END_REQUEST": {"request: PRIMARY KEY (host=? AND token=?)"},
    "REQUESTS": {"request: PRIMARY KEY (host=?)"},
    "ROBOTS": {"robots: sqlite_autoindex_robots_1 (origin=?)"},
    "LEASE_ROBOTS": set(),
    "SAVE_ROBOTS": set(),
    "MESSAGES_OF_HOST": {"message: message_url (url>? AND url<?)"},
    "RELEASE": {"message: rowid (rowid=?)"},
    "GET": {BY_URL},
    "SCAN": {"record: rowid (rowid>?)"},
    "QUEUE_STATS": {
        "counter: PRIMARY KEY (name=?)",
        "message: message_in_flight (visible_at>?)",
        "message: message_visible (is_dead=? AND is_deferred=? AND visible_at>?)",
        "message: message_visible (is_dead=?)",
        "message: scan",
    },
    "DEAD_LETTERS": {"message: message_visible (is_dead=? AND is_deferred=?)"},
    "REDRIVE": {"message: rowid (rowid=?)", "message: message_visible (is_dead=?)"},
    "CHECK_IN": set(),
    "CHECK_OUT": {"worker: PRIMARY KEY (worker_id=?)"},
    "WORKERS": {"worker: scan"},
    "PURGE": set(),  # whole tables are emptied without a look at their rows
    "PURGE_COUNTER": {"counter: PRIMARY KEY (name=?)"},
    "CLEAR_RECORDS": set(),
    "CLEAR_THE_REST[0]": set(),
    "CLEAR_THE_REST[1]": set(),
    "CLEAR_THE_REST[2]": set(),
    "CLEAR_THE_REST[3]": set(),
    "CLEAR_THE_REST[4]": set(),
    "CLEAR_THE_REST[5]": {"counter: scan"},
    "COUNT_TABLES": {"sqlite_master: scan"},
}
MEANT_SCANS: Final = {
    ("COUNTERS", "counter"): "it has a dozen rows, whatever the crawl's size",
    ("CLEAR_THE_REST[5]", "counter"): "the same",
    ("WORKERS", "worker"): "it has a row for each worker",
    ("COUNT_TABLES", "sqlite_master"): "the tables of the file, a dozen",
    ("ALL_HOSTS", "host"): "all hosts are asked for",
    ("QUEUE_STATS", "message"): "it ends at the first row that is no dead letter: the oldest",
}
MEANT_SORTS: Final = {"POINTS": "samples of the time that is asked for are grouped, whatever the queue's size"}


def constants(module: ModuleType) -> Iterator[tuple[str, str]]:
    """The statements that a module names, by their names."""
    for name, value in vars(module).items():
        if isinstance(value, str) and VERBS.match(value):
            yield name, value
        elif name.isupper() and isinstance(value, tuple):
            yield from ((f"{name}[{i}]", part) for i, part in enumerate(value) if VERBS.match(str(part)))


STATEMENTS: Final = dict(pair for module in MODULES for pair in constants(module))


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
    connection = open_to_work(str(tmp_path_factory.mktemp("plans") / "f.db"))
    if request.param != "as it is made":
        connection.executemany(sqlite.ADD_SETTINGS, [(str(n),) for n in range(50)])
        rows = [(f"https://e.com/{n}", "e.com", 0, None, 1, 0, None) for n in range(50)]
        connection.execute(sqlite.INSERT_RECORDS, {"entries": json.dumps(rows), "now": 1, "due": 2})
        for url, host, *_ in rows:
            connection.execute(sqlite.INSERT_MESSAGE, (url, host, "", 1.0, 1.0))
        connection.execute("ANALYZE")
    yield connection
    connection.close()


def test_every_statement_is_known() -> None:
    assert STATEMENTS.keys() == PLANS.keys(), "name the index that a new statement is meant to use"


@pytest.mark.parametrize("name", PLANS)
def test_a_statement_reads_what_it_needs_by_the_index_meant_for_it(connection: sqlite3.Connection, name: str) -> None:
    found, sorts = accesses(connection, STATEMENTS[name])
    assert found == PLANS[name]
    assert {access for access in found if access.endswith(": scan")} == {
        f"{table}: scan" for statement, table in MEANT_SCANS if statement == name
    }, "a scan costs as much as the table is long: if it is meant, say why"
    assert bool(sorts) == (name in MEANT_SORTS), sorts


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.__name__))
def test_no_statement_stands_where_this_test_does_not_see_it(module: ModuleType) -> None:
    """What is executed is a named constant, or nothing that reads a table."""
    tree = ast.parse(inspect.getsource(module))
    named = {
        target.id
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(target := node.target, ast.Name)
    }
    executed = 0
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if not (
            isinstance(call.func, ast.Attribute)
            and call.func.attr in ("execute", "executemany", "executescript", "_rows", "_change")
        ):
            continue
        executed += 1
        argument = call.args[0]
        if isinstance(argument, ast.Name):
            # A parameter called `statement` is what a helper was given: whoever calls it is looked at, too.
            assert argument.id in named | {"statement"}, ast.unparse(call)
        else:
            text = argument.values[0] if isinstance(argument, ast.JoinedStr) else argument
            assert isinstance(text, ast.Constant), ast.unparse(call)
            assert NO_STATEMENTS.match(str(text.value)), ast.unparse(call)
    assert executed > 5


def test_the_test_sees_a_scan_and_a_sort(connection: sqlite3.Connection) -> None:
    assert accesses(connection, "SELECT url FROM message WHERE host = ? ORDER BY host") == ({"message: scan"}, [])
    found, sorts = accesses(connection, "SELECT * FROM record WHERE status = :x ORDER BY depth")
    assert (found, len(sorts)) == ({"record: scan"}, 1)
