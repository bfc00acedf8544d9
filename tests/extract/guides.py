"""Follows a guide: runs its blocks one after another, as they stand there, but for the site that is crawled.

A block ``sh`` is run by a shell, ``sql`` by DuckDB, ``python`` by Python, and ``toml`` is written into the file that its
first line names. A block without a kind behind one of ``sql`` or ``python`` is what that printed: it is held against it,
word for word.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tests.sites import Site

GUIDES: Final = Path(__file__).parent.parent.parent / "docs" / "guides"
_BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
_SQL: Final = "import duckdb, sys; found = duckdb.sql(sys.stdin.read()); found is None or found.show(max_width=500)"
_WORD: Final = re.compile(r"[^\s│┌┐└┘─├┤┬┴┼]+")


class Block(NamedTuple):
    """A block of a guide."""

    kind: str
    text: str


class Done(NamedTuple):
    """What came of a block."""

    block: Block
    status: int
    output: str
    errors: str


class Guide:
    """A guide, followed in a folder. ``hosts``: what the guide calls a site, and the site that is meant."""

    def __init__(
        self, name: str, folder: Path, hosts: Mapping[str, Site], paths: Mapping[str, str] | None = None
    ) -> None:
        text = (GUIDES / name).read_text()
        self.blocks = [Block(*found.groups()) for found in _BLOCK.finditer(text)]
        self._before: dict[str, Callable[[], None]] = {}
        self._folder = folder
        self._hosts = hosts
        self._paths = paths or {}

    def before(self, words: str, change: Callable[[], None]) -> None:
        """Change something of the site before the first block that has these words."""
        assert any(words in block.text for block in self.blocks)
        self._before[words] = change

    def follow(self) -> list[Done]:
        """Run all blocks; each that says what it prints prints that."""
        done = list[Done]()
        for block in self.blocks:
            for words in [words for words in self._before if words in block.text]:
                self._before.pop(words)()
            if block.kind == "toml":
                (self._folder / block.text.split()[1]).write_text(self._here(block.text))
            elif block.kind:
                done.append(self._run(block))
            else:
                assert words(self._there(done[-1].output)) == words(block.text), done[-1]
        return done

    def _run(self, block: Block) -> Done:
        text = self._here(block.text)
        if block.kind == "sh":
            # To a site on this machine nobody is polite; the guide's reader is.
            text = re.sub(r"(sqspider crawl\b)", r"\1 --allow-private --delay 0 --quiet", text)
            text = text.replace(".venv/bin/sqspider", f"{sys.executable} -m sqspider")
            command = ["sh", "-e", "-c", text]
        elif block.kind == "sql":
            command = [sys.executable, "-c", _SQL]
        else:
            command = [sys.executable, "-W", "error", "-c", text]
        ran = subprocess.run(
            command,
            cwd=self._folder,
            input=text if block.kind == "sql" else "",
            capture_output=True,
            text=True,
            check=False,
        )
        return Done(block, ran.returncode, ran.stdout, ran.stderr)

    def _here(self, text: str) -> str:
        for name, site in self._hosts.items():
            text = text.replace(f"https://{name}/", site.url)
        for path, here in self._paths.items():
            text = text.replace(path, here)
        return text

    def _there(self, text: str) -> str:
        for name, site in self._hosts.items():
            text = text.replace(site.url, f"https://{name}/")
        return text


def words(text: str) -> list[str]:
    """What is printed, without lines and spaces that a table has."""
    return _WORD.findall(text)
