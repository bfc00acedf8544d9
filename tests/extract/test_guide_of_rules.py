"""The guide on rules says what the code does: each path in its tables gives what stands beside it."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

from sqspider.extract.extractor import Extractor
from sqspider.extract.paths import FILTERS, SOURCES
from sqspider.extract.paths import Path as ValuePath
from sqspider.extract.rules import APPLY_KINDS, Fact, Rules
from sqspider.extract.rules_said import rules_of_table
from sqspider.extract.tally import Trouble
from tests.extract.pages import document, extracted, value

GUIDE: Final = (Path(__file__).parent.parent.parent / "docs" / "guides" / "rules.md").read_text()
BLOCKS: Final = dict(re.findall(r"^```(\w+)\n(.*?)^```$", GUIDE, re.M | re.S))
EXAMPLES: Final = [
    (path.replace(r"\|", "|"), json.loads(gives))
    for path, gives in re.findall(r"^\| `([^`]*:.*|url)` \| `(.*)` \|$", GUIDE, re.M)
]
PAGE: Final = document(BLOCKS["html"], url="https://shop.example/mills/?size=2")


@pytest.mark.parametrize(("path", "gives"), EXAMPLES)
def test_a_path_gives_what_stands_beside_it(path: str, gives: object) -> None:
    found = value(path, PAGE)
    assert (list(found) if isinstance(found, tuple) else found) == gives


def test_each_source_filter_fact_and_trouble_stands_in_it() -> None:
    assert len(EXAMPLES) > 25
    for source in SOURCES:
        assert any(path.startswith(source) for path, _ in EXAMPLES), source
    for name in FILTERS:
        assert any(re.search(rf"\| {name}\b", path) for path, _ in EXAMPLES), name
    for word in (*(fact.value for fact in Fact), *(trouble.value for trouble in Trouble), *APPLY_KINDS):
        assert f"`{word}`" in GUIDE, word


def test_its_rules_are_such() -> None:
    extractor = Extractor(rules_of_table(tomllib.loads(BLOCKS["toml"]), "guide"))
    names = [column.name for column in extractor.columns]
    (row,) = extractor.rows(PAGE)
    found = dict(zip(names, row, strict=True))
    assert (found["title"], found["name"], found["price"], found["link"], found["currency"]) == (
        "A mill", "Hand mill", 1234.5, "https://shop.example/mills/one", "EUR",
    )  # fmt: skip


def test_its_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mills.py").write_text(BLOCKS["python"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (row,) = extracted(Rules(apply="mills:offers"), PAGE)
    del sys.modules["mills"]
    assert (row["id"], row["words"], row["error"]) == (7, ("Hand", "mill"), None)


def test_numbers_are_as_it_says() -> None:
    for text, path, number in (("12,5", "css:p | number", 12.5), ("1,234", "css:p | number", 1234), ("1.234", "css:p | number", 1.234), ("1.234.567", "css:p | number", 1_234_567), ("1.234", "css:p | number(',')", 1234)):  # fmt: skip
        assert f"`{text}`" in GUIDE
        assert value(path, f"<p>{text}") == number
    assert ValuePath("css:p | number(',')").kind == "number"
