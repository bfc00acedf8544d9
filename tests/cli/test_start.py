"""What a start of a command imports, by name: what a library costs, who does not use it does not pay."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

import pytest

# Runs a command, and writes down what is loaded at its end.
RUN: Final = """
import json, sys
from sqspider.__main__ import main
try:
    main()
finally:
    files = {name: str(getattr(module, "__file__", "")) for name, module in list(sys.modules.items())}
    libraries = {name.partition(".")[0] for name, file in files.items() if "site-packages" in file}
    with open("loaded.json", "w") as written:
        json.dump([sorted(libraries), sorted(files)], written)
"""
BY_OTHERS: Final = {"typing_extensions"}  # msgspec looks for it, and does without
STATUS: Final = {"ada_url", "click", "msgspec"}
CRAWL: Final = STATUS | {"isal", "pycurl", "uvloop", "webencodings"}
ONCE: Final = ("crawl", "SITE", "--depth", "0", "--allow-private", "--quiet")

# Of ours and Python's, what a plain crawl of plain pages has no use for.
RARE: Final = {
    "email", "http.client", "multiprocessing", "sqspider.demo_site", "sqspider.frontier.aws", "sqspider.frontier.memory",
    "sqspider.frontier.sqlite.upgrade", "sqspider.web.legacy", "sqspider.web.sitemap", "sqspider.work.sitemaps",
    "urllib.request",
}  # fmt: skip
FOR_WORK: Final = RARE | {"asyncio", "sqlite3", "sqspider.frontier", "sqspider.web", "sqspider.work", "ssl"}
FOR_FETCHING: Final = RARE | {"sqspider.politeness", "sqspider.web.fetch", "sqspider.work.worker"}


class Loaded(NamedTuple):
    libraries: set[str]
    modules: set[str]


def loaded_by(folder: Path, *arguments: str) -> Loaded:
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    libraries, modules = json.loads((folder / "loaded.json").read_text())
    return Loaded({name for name in libraries if not name.startswith("_")} - BY_OTHERS, set(modules))


@pytest.mark.parametrize(
    ("arguments", "libraries", "none_of"),
    [
        (("--version",), {"click"}, FOR_WORK),
        (("--help",), {"click"}, FOR_WORK),
        (("status", "--json"), STATUS, FOR_FETCHING),
        (("status",), STATUS | {"rich"}, FOR_FETCHING),
        ((*ONCE, "--json"), CRAWL, RARE),
        (ONCE, CRAWL | {"rich"}, RARE),
        ((*ONCE, "--json", "--ignore-robots"), CRAWL | {"structlog"}, RARE),  # it warns: and structlog brings no rich
    ],
)
def test_a_command_imports_what_it_uses(
    tmp_path: Path, served_site: str, arguments: tuple[str, ...], libraries: set[str], none_of: set[str]
) -> None:
    if arguments[0] == "status":
        loaded_by(tmp_path, "enqueue", served_site)
    loaded = loaded_by(tmp_path, *(f"{served_site}page/1" if each == "SITE" else each for each in arguments))
    assert loaded.libraries == libraries
    assert loaded.modules & none_of == set()


def test_rich_is_there_for_who_needs_it_after_a_line_of_the_log(tmp_path: Path, served_site: str) -> None:
    """structlog was kept from importing it."""
    once = (f"{served_site}page/1" if each == "SITE" else each for each in ONCE)
    assert loaded_by(tmp_path, *once, "--ignore-robots").libraries == CRAWL | {"rich", "structlog"}


def test_who_keeps_no_page_imports_none_of_what_writes_them(tmp_path: Path, served_site: str) -> None:
    once = (f"{served_site}page/1" if each == "SITE" else each for each in ONCE)
    loaded = loaded_by(tmp_path, *once, "--no-archive")
    assert "isal" not in loaded.libraries
    assert loaded.modules & {"sqspider.archive.store", "sqspider.archive.warc", "sqspider.archive.folder_sink"} == set()
