"""One's own code: rows of it, and that nothing it does ends the run."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from http import HTTPStatus
from pathlib import Path

import pytest

from sqspider.extract.applying import held
from sqspider.extract.extractor import Extractor
from sqspider.extract.rules import Rules
from sqspider.extract.rules_said import rules_of_options
from sqspider.tables.columns import Column, Kind
from sqspider.tables.opening import encoder_of
from sqspider.tables.sqlite import SqliteRows
from tests.extract.pages import CASES, document, extracted

PRODUCT = (CASES / "product.html").read_text()
MODULE = '''
"""Code of a user."""
from datetime import datetime

def offers(document):
    for element in document.tree.select(".product"):
        yield {"id": int(element.attr("data-id")), "name": element.text.split()[0], "at": datetime(2024, 1, 2)}

offers.columns = {"id": "integer", "name": "text", "at": "time"}

def one(document):
    return {"id": 5, "name": document.url}

def none(document):
    return None

def some(document):
    return [{"id": 1}, None, {"id": 2}]

def breaks(document):
    yield {"id": 1}
    raise KeyError("no price")

def deeper(document):
    return int("x" + document.url)

def leaves(document):
    raise SystemExit(3)

def wrong(document):
    yield {"id": "seven", "name": "n"}
    yield {"nam": 1, "id": 2}
    yield "no row"
    yield {"id": 3}

def number(document):
    return 7

def interrupts(document):
    raise KeyboardInterrupt

class Own(BaseException):
    pass

def owns(document):
    raise Own("mine")

class Rude(Exception):
    def __str__(self):
        raise self

def rude(document):
    raise Rude

thing = 7
class Shop:
    @staticmethod
    def offers(document):
        return {"id": 9}

for function in (one, none, some, breaks, deeper, leaves, wrong, number, rude, interrupts, owns, Shop.offers):
    function.columns = {"id": "integer", "name": "text"}
def undeclared(document): ...
def odd(document): ...
odd.columns = {"url": "text"}
def odder(document): ...
odder.columns = {"a": "txt"}
'''


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "shop.py").write_text(MODULE)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def rows(name: str, **more: tuple[tuple[str, str], ...]) -> list[dict[str, object]]:
    return extracted(Rules(apply=f"shop:{name}", **more), document(PRODUCT))  # type: ignore[arg-type]  # of columns alone


def test_its_rows_stand_beside_fields_and_facts() -> None:
    found = extracted(
        rules_of_options(apply="shop:offers", fields=[("sku", "meta:sku")], facts=["language"]), document(PRODUCT)
    )
    assert [(row["element"], row["id"], row["name"]) for row in found] == [
        (0, 1, "Eins"),
        (1, 2, "Zwei"),
        (2, 3, "Drei"),
        (3, 4, "Ab"),
    ]
    assert {(row["sku"], row["language"], row["at"], row["error"]) for row in found} == {
        ("C40-MK4", "de-AT", datetime(2024, 1, 2, tzinfo=UTC).timestamp(), None)
    }
    assert list(found[0])[-5:] == ["language", "sku", "id", "name", "at"]


def test_it_gives_a_row_or_several_or_none() -> None:
    assert [row["name"] for row in rows("one")] == ["https://shop.example/things/page?size=2&colour=red"]
    assert rows("none") == []
    assert [(row["element"], row["id"]) for row in rows("some")] == [(0, 1), (1, 2)]
    assert [row["id"] for row in rows("Shop.offers")] == [9]


def test_rules_may_say_its_columns() -> None:
    found = rows("undeclared", apply_columns=(("a", "json"), ("b", "texts")))
    assert found == []
    assert [row["id"] for row in rows("one", apply_columns=(("id", "number"), ("name", "text")))] == [5.0]


@pytest.mark.parametrize(
    ("name", "kind", "errors"),
    [
        ("breaks", "apply", [None, "shop:breaks: KeyError: 'no price' (shop.py:22)"]),
        ("deeper", "apply", ["shop:deeper: ValueError: invalid literal for int() with base 10: 'xhttps://shop.example/things/page?size=2&colour=red' (shop.py:25)"]),
        ("leaves", "apply", ["shop:leaves: SystemExit: 3 (shop.py:28)"]),
        ("rude", "apply", ["shop:rude: Rude (shop.py:53)"]),
        ("owns", "apply", ["shop:owns: Own: mine (shop.py:46)"]),
        ("number", "apply", ["shop:number: TypeError: 'int' object is not iterable"]),
        ("wrong", "value", [
            "shop:wrong: id: a column of kind integer does not hold 'seven'", "shop:wrong: there is no column 'nam'. Did you mean 'name'?",
            "shop:wrong: a row is a dict, not 'no row'", None,
        ]),
    ],
)  # fmt: skip
def test_what_it_does_wrong_is_told_at_its_row_and_counted(name: str, kind: str, errors: list[str | None]) -> None:
    extractor = Extractor(Rules(apply=f"shop:{name}"))
    at = [column.name for column in extractor.columns].index("error")
    found = [row[at] for row in extractor.rows(document(PRODUCT))]
    assert len(found) == len(errors)
    for error, said in zip(found, errors, strict=True):
        assert error == said if said is None else str(error).startswith(said)
    assert extractor.take_tally().errors == {kind: 1}
    assert extractor.rows(document(PRODUCT))  # and it goes on


def test_a_keyboard_interrupt_is_its_own_where_ctrl_c_is_not_heard() -> None:
    with pytest.raises(KeyboardInterrupt):
        rows("interrupts")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert [row["error"] for row in rows("interrupts")] == ["shop:interrupts: KeyboardInterrupt (shop.py:40)"]
    finally:
        signal.signal(signal.SIGINT, before)


class Words(str):
    """Of a library's own kind of text."""


@pytest.mark.parametrize(
    ("value", "kind"),
    [(Words("a"), Kind.TEXT), (Words("ä\0"), Kind.TEXT), ([Words("a")], Kind.TEXTS), (HTTPStatus.OK, Kind.INTEGER)],
)
def test_kinds_of_a_librarys_own_are_written_as_what_they_are(value: object, kind: Kind) -> None:
    for name in ("jsonl", "csv", "sqlite"):
        columns = (Column("a", kind),)
        encoder = SqliteRows(columns) if name == "sqlite" else encoder_of(name, columns)
        assert encoder.encode([(held(value, kind),)])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("shopp:offers", "there is no module 'shopp' here"), ("shop:offrs", "there is no 'offrs' in 'shop'. Did you mean 'offers'?"), ("shop:thing", "shop:thing is no function, but 7"),
        ("shop:undeclared", "does not say its columns"), ("shop:odd", "url: that is the column of what was fetched"), ("shop:odder", "'txt' is no kind of column. Did you mean 'text'"),
        ("raises:f", "the module 'raises' does not import: ZeroDivisionError: division by zero (raises.py:2)"), ("exits:f", "the module 'exits' does not import: SystemExit: bye"),
        ("written:f", "the module 'written' does not import: SyntaxError"), ("lacks:f", "the module 'lacks' does not import: ModuleNotFoundError: No module named 'nobody_has_this'"),
    ],
)  # fmt: skip
def test_code_that_is_not_there_is_refused_with_its_own_error(said: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "raises.py").write_text("\n1 / 0\n")
    (tmp_path / "exits.py").write_text("raise SystemExit('bye')")
    (tmp_path / "written.py").write_text("def f(:")
    (tmp_path / "lacks.py").write_text("import nobody_has_this")
    with pytest.raises(ValueError, match="apply: ") as error:
        Extractor(Rules(apply=said))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("value", "kind", "there"),
    [
        ("a\0", Kind.TEXT, "a"), (True, Kind.BOOLEAN, True), (7, Kind.INTEGER, 7), (7.0, Kind.INTEGER, 7), (7, Kind.NUMBER, 7.0), (5, Kind.TIME, 5.0), (["a", "b\0"], Kind.TEXTS, ("a", "b")),
        ((), Kind.TEXTS, ()), ({"a": (1, None)}, Kind.JSON, {"a": [1, None]}), (datetime(2024, 1, 1, tzinfo=UTC).date(), Kind.TIME, 1704067200.0),
    ],
)  # fmt: skip
def test_values_that_columns_hold(value: object, kind: Kind, there: object) -> None:
    assert held(value, kind) == there
    assert type(held(value, kind)) is type(there)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, Kind.TEXT), (b"a", Kind.TEXT), (1, Kind.BOOLEAN), (True, Kind.INTEGER), (7.5, Kind.INTEGER), ("7", Kind.INTEGER), (2**63, Kind.INTEGER), ("7", Kind.NUMBER), (float("nan"), Kind.NUMBER), (True, Kind.NUMBER),
        (1e300, Kind.TIME), (datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12))), Kind.TIME), ("2024", Kind.TIME), ("ab", Kind.TEXTS), (["a", 1], Kind.TEXTS), (object(), Kind.JSON), ({1, object()}, Kind.JSON),
    ],
)  # fmt: skip
def test_values_that_columns_do_not_hold(value: object, kind: Kind) -> None:
    with pytest.raises((TypeError, ValueError)):
        held(value, kind)
