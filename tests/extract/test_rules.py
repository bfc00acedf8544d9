"""Rules as they are said, and how wrong ones are refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from sqspider.extract.harvest import Order
from sqspider.extract.rules import Fact, Field, Rules
from sqspider.extract.rules_said import KEYS, rules_of_options, rules_of_table, rules_of_toml

WHOLE = """
title = true
links = false
facts = ["language", "title"]
each = "css:.product"
main-by = "trafilatura"
max-bytes = 1000

[fields]
name = "css:h2"
price = { path = "css:.price | number", required = true }
"""


def test_a_file_says_all(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(WHOLE)
    assert rules_of_toml(file) == Rules(
        facts=(Fact.LANGUAGE, Fact.TITLE),
        fields=(Field(name="name", path="css:h2"), Field(name="price", path="css:.price | number", is_required=True)),
        each="css:.product",
        main_by="trafilatura",
        max_bytes=1000,
    )


def test_options_add_to_a_file() -> None:
    base = rules_of_table(
        {"title": True, "fields": {"a": "css:a", "b": "css:b"}, "apply": "m:f", "apply-columns": {"c": "text"}}, "it"
    )
    rules = rules_of_options(
        base=base, facts=["text", "title"], fields=[("b", "css:c"), ("d", "url")], required=["a", "d"]
    )
    assert rules == Rules(
        facts=(Fact.TITLE, Fact.TEXT),
        fields=(
            Field(name="a", path="css:a", is_required=True),
            Field(name="b", path="css:c"),
            Field(name="d", path="url", is_required=True),
        ),
        apply="m:f",
        apply_columns=(("c", "text"),),
    )
    assert rules_of_options(base=base, apply="m:g").apply_columns == ()  # which are of the other function
    assert rules_of_options() == Rules()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("titel = true", "'titel' is nothing that rules say. Did you mean 'title'?"), ("field = 1", "Did you mean 'fields'"), ("title = 1", "title: true or false, not 1"),
        ("title = 'css:h1'", "a field of that name stands in [fields]"), ("facts = ['titel']", "facts: 'titel' is none. Did you mean 'title'?"), ("facts = 'title'", "facts: a list of their names"),
        ("fields = 1", "fields: a table, not 1"), ("[fields]\na = 1", "a: a path, or a table with one, not 1"), ("[fields]\na = {path='url', require=true}", "Did you mean 'required'?"),
        ("[fields]\na = {required=true}", 'a: its path is missing: { path = "css:h1"'), ("[fields]\na = {path=1}", "a: path: a text, not 1"), ("[fields]\na = {path='url', required=1}", "a: required: true or false"),
        ("each = 1", "each: a text, not 1"), ("max-bytes = 0", "max_bytes: from 1 to"), ("max-bytes = 'all'", "max_bytes: a whole number"), ("apply = 'prices'", "'prices:offers', not 'prices'"),
        ("[apply-columns]\na = 'text'", "no function to apply"), ("apply = 'm:f'\n[apply-columns]\na = 'txt'", "a: 'txt' is no kind of column. Did you mean 'text'"), ("apply='m:f'\neach='css:a'", "not both"),
        ("apply = 'm:f'\n[apply-columns]\na = 'structs'", "no kind of column"), ("apply = 'm:f'\n[apply-columns]\nurl = 'text'", "url: that is the column of what was fetched"),
        ("[fields]\nurl = 'url'", "url: that is the column of what was fetched"), ("[fields]\nURL = 'url'", "URL: that is the column of"), ("[fields]\nelement = 'url'", "the number of a row in its page"),
        ("title=true\n[fields]\ntitle = 'css:h1'", "title: that is the column of a fact"), ("[fields]\na = 'url'\nA = 'url'", "A: that is the column of another field"), ("[fields]\n'a b' = 'url'", "a b: a name is letters"),
        ("[fields]\n'' = 'url'", "'': a name is letters"), ("a = ", "is no TOML"), ("title = true\ntitle = true", "is no TOML"),
    ],
)  # fmt: skip
def test_a_file_that_says_no_rules_is_refused_with_what_is_wrong(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"rules\.toml") as error:
        rules_of_toml(file)
    assert said in str(error.value)


def test_a_file_that_is_no_text_or_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    with pytest.raises(ValueError, match=r"rules\.toml cannot be read: No such file"):
        rules_of_toml(file)
    file.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="not in UTF-8"):
        rules_of_toml(file)
    file.write_bytes(b"#" * 1024 * 1024 + b"#")
    with pytest.raises(ValueError, match="larger than 1,048,576 bytes"):
        rules_of_toml(file)


def test_a_field_may_have_the_name_of_a_fact_that_is_not_asked_for() -> None:
    assert rules_of_options(facts=["text"], fields=[("title", "css:h1")]).fields[0].name == "title"
    with pytest.raises(ValueError, match=r"prise: no field of that name is looked for\. Did you mean 'price'\?"):
        rules_of_options(fields=[("price", "url")], required=["prise"])


def known(rules: Rules) -> str:
    """By which those are told apart who may go on with a table."""
    return Order(archive="a", to="b.csv", rules=rules).made_with()["rules"]


def test_rules_are_known_again_and_can_be_sent() -> None:
    told = {"title": True, "fields": {"a": {"path": "url", "required": True}}}
    rules = rules_of_table(told, "it")
    assert msgspec.json.decode(msgspec.json.encode(rules), type=Rules) == rules
    assert known(rules_of_table(told, "it")) == known(rules)
    others = [
        rules_of_table({"title": True, "fields": {"a": "url"}}, "it"),
        Rules(),
        Rules(max_bytes=5),
        Rules(each="css:a"),
    ]
    assert len({known(rules), *map(known, others)}) == 5


def test_each_fact_can_be_said() -> None:
    assert set(KEYS) >= {fact.value for fact in Fact}
    assert rules_of_table(dict.fromkeys((fact.value for fact in Fact), True), "it").facts == tuple(Fact)
