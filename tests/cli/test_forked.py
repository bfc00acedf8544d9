"""A command that is forked for a test does, to the letter, what one that is started does; and starts by itself, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests import forked

# Imports each command's module where none of another's is.
EACH_ALONE: Final = """
import importlib, os, sys
from sqspider.cli.main import COMMANDS
for name in COMMANDS:
    if not (pid := os.fork()):
        importlib.import_module(f"sqspider.cli.{name}")
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        sys.exit(f"{name} imports too little")
"""


@pytest.mark.parametrize(
    ("arguments", "stdin", "status"),
    [
        (("--version",), None, 0),
        (("status",), None, 3),
        (("crawl", "no url"), None, 2),
        (("enqueue", "-f", "-"), "http://e.com/\nftp://e.com/\nhttp://ü.de/ä", 1),
        (("status", "--frontier", "memory:"), None, 2),
        (("hosts", "--frontier", "sqlite:of its own.db"), None, 3),
        (("enqueue", "http://e.com/\udce9"), None, 0),
        (("enqueue", "--help"), None, 0),
    ],
)
def test_it_says_what_one_that_is_started_says(
    tmp_path: Path, arguments: tuple[str, ...], stdin: str | None, status: int
) -> None:
    said = []
    for name in ("forked", "started"):
        folder = tmp_path / name
        folder.mkdir()
        env = {**os.environ, "COLUMNS": "70", "SQSPIDER_FRONTIER": "sqlite:f.db"}
        if name == "forked":
            done = forked.run(*arguments, cwd=folder, stdin=stdin, env=env)
        else:
            command = [sys.executable, "-m", "sqspider", *arguments]
            done = subprocess.run(
                command, cwd=folder, input=stdin or "", env=env, capture_output=True, text=True, check=False
            )
        said.append((done.returncode, done.stdout, done.stderr, sorted(file.name for file in folder.iterdir())))
    assert said[0] == said[1]
    assert said[0][0] == status


def test_each_command_imports_what_it_needs(tmp_path: Path) -> None:
    """Where all is imported, nobody would see what is not."""
    command = [sys.executable, "-c", EACH_ALONE]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
