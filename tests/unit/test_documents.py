"""The documents name tests, files, commands, columns and modules: all of them are there, and none is missing."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import click
import pytest

import sqspider
from sqspider.cli import exit_status
from sqspider.cli.main import cli
from sqspider.export import FIELDS
from sqspider.figures import NAMESPACE, Sample
from sqspider.frontier import Entry
from sqspider.frontier.sqlite.file import SCHEMA_VERSION
from sqspider.record import Status
from tests.frontier.kit import finish_one, take_one, url, win
from tests.simulation.fake_dynamodb import INDEX, KEY, MOMENT, SHARD
from tests.simulation.fake_store import FakeAwsStore
from tests.write_reference import DESIGN, HOUSE, PAGES, REFERENCE, house

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FILES = {file.name for folder in ("src", "tests", "bench", "infra") for file in (ROOT / folder).rglob("*.py")}
ROOMS = "|".join(sorted(path.parent.name for path in (ROOT / "src" / "sqspider").glob("*/__init__.py")))
TESTS = "\n".join(file.read_text() for file in (ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_and_file_that_a_document_names_is_there(document: Path) -> None:
    text = document.read_text()
    names = set(re.findall(r"`(test_\w+)`", text))
    assert [name for name in sorted(names) if not re.search(rf"def {name}\(", TESTS)] == []
    rooms = set(re.findall(rf"`((?:{ROOMS})/[\w/.]+)`", text))
    assert [path for path in sorted(rooms) if not (ROOT / "src" / "sqspider" / path).exists()] == []
    assert sorted(set(re.findall(r"`(\w+\.py)`", text)) - FILES) == []
    decided = re.findall(rf"`(?:\w+\.)*(\w+)` in `(?:src/sqspider/)?((?:{ROOMS})/[\w/.]+)`", text)
    for name, path in decided:
        assert re.search(rf"\b{name}\b", (ROOT / "src" / "sqspider" / path).read_text()), f"{name} is not in {path}"
    paths = set(re.findall(r"`((?:tests|bench|infra|docs|src)/[\w/.]+)`", text))
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_page_begins_with_its_heading(document: Path) -> None:
    assert document.read_text().startswith("# ")


def test_every_page_has_its_kind() -> None:
    """`docs/README.md` leads to each page once; the decisions are listed in the design."""
    pages = [
        page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "decisions" and page.name != "README.md"
    ]
    linked = re.findall(r"\]\(([\w/.-]+\.md)\)", (ROOT / "docs" / "README.md").read_text())
    assert sorted(link for link in linked if not link.startswith("../")) == sorted(
        str(page.relative_to(ROOT / "docs")) for page in pages
    )
    decisions = re.findall(r"\]\(decisions/([\w.-]+)\)", (ROOT / "docs" / "design.md").read_text())
    assert decisions == sorted(page.name for page in (ROOT / "docs" / "decisions").glob("*.md"))


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_reference_is_what_the_code_says(name: str) -> None:
    """`python -m tests.write_reference` writes them anew."""
    assert (REFERENCE / name).read_text() == PAGES[name]()


def test_the_house_is_drawn_as_it_stands() -> None:
    """Every module, with what it says of itself, and the order of imports."""
    drawn = HOUSE.search(DESIGN.read_text())
    assert drawn is not None
    assert drawn[0] == house()


@pytest.mark.parametrize("room", ["archive", "extract"])
def test_the_map_of_a_large_room_has_each_of_its_files(room: str) -> None:
    folder = ROOT / "src" / "sqspider" / room
    plan = (folder / "__init__.py").read_text().partition("\n\n")[2]
    said = set(re.findall(r"\w+…?", re.sub(r"(?m)^.*?  +", "", plan)))
    groups = tuple(word.removesuffix("…") for word in said if word.endswith("…"))
    files = {file.stem for file in folder.glob("*.py")} - {"__init__"}
    assert [name for name in sorted(files) if name not in said and not name.startswith(groups)] == []


def test_every_page_of_reference_is_held() -> None:
    """Written from the code, or, as the exit statuses, held to what `docs/stability.md` has, which is held to the code."""
    assert {page.name for page in REFERENCE.glob("*.md")} == {*PAGES, "exit-status.md"}
    rows = re.findall(r"^\| (\d+) \|", (REFERENCE / "exit-status.md").read_text(), re.M)
    assert rows == stable("Exit statuses")[0].split()


def stable(chapter: str) -> list[str]:
    """The lists of a chapter of the page on stability, as they are written."""
    text = (ROOT / "docs" / "stability.md").read_text()
    section = text.partition(f"\n## {chapter}\n")[2].partition("\n## ")[0]
    found: list[str] = re.findall(r"^```\n(.+?)\n```$", section, re.M | re.S)
    assert found, f"there is no list in the chapter {chapter!r}"
    return found


def names_in(chapter: str, number: int = 0) -> list[str]:
    return stable(chapter)[number].split()


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[str]:
    """All commands, those within others named after both."""
    if path:
        yield "-".join(path)
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, (*path, name))


def page_fields() -> list[str]:
    return list(sqspider.Page.__struct_fields__)


def arguments() -> list[str]:
    return [name for name in inspect.signature(sqspider.crawl).parameters if name != "urls"]


def metrics() -> list[str]:
    return list(Sample(at=0.0, seconds=1.0, fetches=1).named())


def statuses() -> list[str]:
    return [str(value) for name, value in vars(exit_status).items() if name.isupper()]


STABLE: Final[dict[tuple[str, int], Callable[[], list[str]]]] = {
    ("Commands", 0): lambda: list(commands(cli)),
    ("Exit statuses", 0): statuses,
    ("Columns of `export`", 0): lambda: list(FIELDS),
    ("Statuses of a URL", 0): lambda: [status.value for status in Status],
    ("Python", 0): lambda: list(sqspider.__all__),
    ("Python", 1): page_fields,
    ("Python", 2): arguments,
    ("The SQLite file", 0): lambda: [str(SCHEMA_VERSION)],
    ("Metrics", 0): metrics,
}


@pytest.mark.parametrize(("chapter", "number"), STABLE)
def test_what_is_stable_is_what_the_code_has(chapter: str, number: int) -> None:
    assert names_in(chapter, number) == STABLE[chapter, number]()


def test_what_metrics_and_variables_are_called_is_stable() -> None:
    assert f"namespace `{NAMESPACE}`" in (ROOT / "docs" / "stability.md").read_text()
    source = "\n".join(file.read_text() for file in (ROOT / "src").rglob("*.py"))
    for name in names_in("The environment"):
        assert f'"{name}"' in source
    for line in stable("Lines of the log")[0].splitlines():
        assert f"{line.removesuffix('URL')}{{" in source


async def test_what_a_table_on_aws_holds_is_stable() -> None:
    store = FakeAwsStore()
    frontier = await store.open()
    whole = Entry(url=url("whole"), depth=1, parent=url("parent"), redirects=1, lastmod=1.0)
    await frontier.enqueue([whole])
    delivery = await take_one(frontier)
    items = [store.aws.table.items[whole.url]]
    claim = await win(frontier, delivery)
    items.append(store.aws.table.items[whole.url])
    await finish_one(frontier, claim, delivery)
    items.append(store.aws.table.items[whole.url])
    await store.close()
    assert names_in("The table on AWS") == [KEY, INDEX, SHARD, MOMENT]
    assert sorted(names_in("The table on AWS", 1)) == sorted({name for item in items for name in item})
