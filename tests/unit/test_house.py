"""The marks of the house: what a reader may count on in any file of the crawler and of its stack.

Read from the files themselves. The order of imports is in ``pyproject.toml``, and held by ``make check``; but
import-linter knows packages alone, so that of the modules of ``infra`` stands here.
"""

from __future__ import annotations

import ast
import functools
import graphlib
import pkgutil
import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from sqspider.cli.main import COMMANDS

ROOT: Final = Path(__file__).parent.parent.parent
MAX_FILE_LINES: Final = 420
MAX_CLASS_LINES: Final = 300
MAX_METHODS: Final = 25  # of a class's own
SHORT_LINES: Final = 25  # of a function, with its docstring
SHORT_SHARE: Final = 0.9

INFRA_ORDER: Final = (
    ("app",),
    ("stack",),
    ("alarms", "dashboard", "findings", "outputs"),
    ("functions",),
    ("grants",),
    ("archive", "env_file", "package", "permissions", "queues", "settings", "table"),
    ("bytecode", "wheels"),
)
"""Who imports whom in ``infra``: a module only those below it, none beside it."""

REFERENCE: Final = re.compile(r":\w+:`~?(sqspider(?:\.\w+)+)`")  # of one module to what is in another
LOSES_ITS_PLACE: Final = re.compile(r"(?<![|])\)[*+?]\+")  # a group that is repeated, with no way back

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module(NamedTuple):
    """A file of Python, and what is in it."""

    tree: ast.Module
    lines: int


@functools.cache
def modules_below(folder: Path) -> dict[str, Module]:
    """All modules of a folder, by the names that they are imported by."""
    found = {}
    for file in sorted(folder.rglob("*.py")):
        parts = file.relative_to(folder).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = file.read_text()
        found[name] = Module(ast.parse(text), len(text.splitlines()))
    return found


def lines_of(node: ast.ClassDef | Function) -> int:
    """From its first line, decorators apart, to its last."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def too_long_files(modules: Mapping[str, Module]) -> list[str]:
    return [f"{name}: {module.lines} lines" for name, module in modules.items() if module.lines > MAX_FILE_LINES]


def too_large_classes(modules: Mapping[str, Module]) -> list[str]:
    found = []
    for name, module in modules.items():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                lines, methods = lines_of(node), sum(isinstance(part, Function) for part in node.body)
                if lines > MAX_CLASS_LINES or methods > MAX_METHODS:
                    found.append(f"{name}.{node.name}: {lines} lines, {methods} methods")
    return found


def function_lengths(modules: Mapping[str, Module]) -> list[int]:
    """The lines of every function, of those within others, too."""
    return [
        lines_of(node) for module in modules.values() for node in ast.walk(module.tree) if isinstance(node, Function)
    ]


def short_share(modules: Mapping[str, Module]) -> float:
    """The share of functions that are short."""
    lengths = function_lengths(modules)
    return sum(length <= SHORT_LINES for length in lengths) / len(lengths)


def without_docstring(modules: Mapping[str, Module]) -> list[str]:
    return [name for name, module in modules.items() if not ast.get_docstring(module.tree)]


def imports_of(name: str, modules: Mapping[str, Module]) -> set[str]:
    """Which of the modules one imports: at its head, within its functions, and for type checks alone."""
    imported: set[str] = set()
    for node in ast.walk(modules[name].tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports by a relative name"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                imported.add(whole if whole in modules else node.module or "")
    return imported & modules.keys() - {name}


def circle(modules: Mapping[str, Module]) -> list[str]:
    """Modules that import one another in a circle; none, if there is no circle."""
    try:
        graphlib.TopologicalSorter({name: imports_of(name, modules) for name in modules}).prepare()
    except graphlib.CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def against_order(modules: Mapping[str, Module], order: tuple[tuple[str, ...], ...]) -> Iterator[str]:
    """Imports that do not lead down, and modules that have no place."""
    level_of = {name: level for level, names in enumerate(order) for name in names}
    for name in modules:
        if name not in level_of:
            yield f"{name} has no place in the order"
            continue
        for imported in imports_of(name, modules):
            if level_of.get(imported, -1) <= level_of[name]:
                yield f"{name} imports {imported}"


def infra() -> dict[str, Module]:
    return modules_below(ROOT / "infra")


def everything() -> dict[str, Module]:
    return {**modules_below(ROOT / "src"), **infra()}


def test_the_crawler_and_its_stack_are_looked_at() -> None:
    assert {"sqspider", "sqspider.frontier.port", "sqspider.web.fetch", "stack", "settings"} <= everything().keys()


def test_no_file_is_too_long() -> None:
    assert too_long_files(everything()) == []


def test_no_class_is_too_large() -> None:
    assert too_large_classes(everything()) == []


def test_nine_functions_in_ten_are_short() -> None:
    share = short_share(everything())
    assert share >= SHORT_SHARE, (
        f"{share:.1%} of {len(function_lengths(everything()))} functions have {SHORT_LINES} lines or fewer"
    )


def test_no_pattern_goes_on_in_the_midst_of_what_did_not_match() -> None:
    """Pages were read wrong on Debian 12: see ``web/tags.py``. Nobody here would have seen it."""
    found = [file.name for file in (ROOT / "src").rglob("*.py") if LOSES_ITS_PLACE.search(file.read_text())]
    assert not found


def test_modules_do_not_import_one_another_in_a_circle() -> None:
    assert circle(everything()) == []


def test_every_module_says_what_is_in_it() -> None:
    assert without_docstring(everything()) == []


def test_what_a_text_refers_to_is_where_it_says() -> None:
    for file in sorted((ROOT / "src").rglob("*.py")):
        for name in REFERENCE.findall(file.read_text()):
            try:
                pkgutil.resolve_name(name)
            except (ImportError, AttributeError):
                pytest.fail(f"{file.name} refers to {name}, which is not there")


def test_no_command_is_missing_where_they_are_kept_apart() -> None:
    """A command that is new gets its place there; that `demo` is a crawl is known."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    apart = next(set(c["modules"]) for c in contracts if c["name"].startswith("Commands know nothing of each other"))
    assert apart == {f"sqspider.cli.{name}" for name in COMMANDS if name != "demo"}


def test_what_is_installed_is_not_kept_and_no_link_is() -> None:
    """A link to an environment of somebody's own would have every checkout install into that one."""
    kept = subprocess.run(["git", "ls-files", "--stage"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if kept.returncode:
        pytest.skip("this is no checkout")
    assert [line for line in kept.stdout.splitlines() if line.startswith("120000")] == []
    ignored = set((ROOT / ".gitignore").read_text().split())
    assert {".venv", ".engines"} <= ignored, "with a slash at its end a line is of folders alone, and of no link to one"


def test_the_stack_imports_one_way() -> None:
    assert list(against_order(infra(), INFRA_ORDER)) == []
    assert {name for names in INFRA_ORDER for name in names} == infra().keys()


def written(folder: Path, **files: str) -> dict[str, Module]:
    """A small tree of the package ``p``: what could fail above fails with it."""
    (folder / "p").mkdir()
    for name, text in {"__init__": '"""P."""', **files}.items():
        (folder / "p" / f"{name}.py").write_text(text)
    return modules_below(folder)


def test_a_long_file_is_found(tmp_path: Path) -> None:
    modules = written(tmp_path, longest="1\n" * MAX_FILE_LINES, longer="1\n" * (MAX_FILE_LINES + 1))
    assert too_long_files(modules) == ["p.longer: 421 lines"]


def test_a_large_class_is_found(tmp_path: Path) -> None:
    def with_methods(number: int) -> str:
        return "class C:\n" + "".join(f"    async def m{at}(self): ...\n" for at in range(number))

    modules = written(
        tmp_path,
        full=with_methods(MAX_METHODS),
        fuller=with_methods(MAX_METHODS + 1),
        longest="class C:\n" + "    x = 1\n" * (MAX_CLASS_LINES - 1),
        longer="def f():\n    class D:\n" + "        x = 1\n" * MAX_CLASS_LINES,
    )
    assert too_large_classes(modules) == ["p.fuller.C: 27 lines, 26 methods", "p.longer.D: 301 lines, 0 methods"]


def test_long_functions_are_counted(tmp_path: Path) -> None:
    long = "@cache\ndef f():\n" + "    1\n" * SHORT_LINES
    short = "class C:\n    async def f(self):\n        def g(): ...\n" + "        1\n" * (SHORT_LINES - 2)
    assert short_share(written(tmp_path, a=long, b=short)) == 2 / 3


@pytest.mark.parametrize(
    "back",
    [
        "from p.a import X",
        "from p import a",
        "import p.a",
        "if TYPE_CHECKING:\n    from p.a import X",
        "def f():\n    from p.a import X",
    ],
)
def test_a_circle_is_found(tmp_path: Path, back: str) -> None:
    modules = written(tmp_path, a="import p.b", b="import p.c", c=back)
    assert sorted(set(circle(modules))) == ["p.a", "p.b", "p.c"]


def test_what_is_no_circle_is_none(tmp_path: Path) -> None:
    assert circle(written(tmp_path, a="import p.b, p.c, os", b="from p import c", c="import sys")) == []


def test_a_module_without_a_docstring_is_found(tmp_path: Path) -> None:
    assert without_docstring(written(tmp_path, a='"""A."""', b="# B.\nX = 1", c="")) == ["p.b", "p.c"]


def test_an_import_against_the_order_is_found(tmp_path: Path) -> None:
    modules = written(tmp_path, a="import p.b", b="import p.c", c="import p.a", d="")
    order = (("p.a",), ("p.b", "p.c"), ("p",))
    assert list(against_order(modules, order)) == [
        "p.b imports p.c",
        "p.c imports p.a",
        "p.d has no place in the order",
    ]
