"""Compiles what goes into the function's zip, by a Python of the release that the function has.

Lambda cannot keep what it compiles, and would do so at every start: half of the time that an import takes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

VERSION: Final = "import platform; print(platform.python_version())"


class Compiler(NamedTuple):
    """A Python that compiles."""

    python: str
    version: str  # to the patch: bytecode may differ between two of one release


def compiler(release: str) -> Compiler | None:
    """A Python of a release (``3.13``): the one on the ``PATH``, which is the same whatever Python builds, or else the
    one that runs. None: there is none here."""
    for python in (shutil.which(f"python{release}"), sys.executable):
        if python is None:
            continue
        # A name alone says little: version managers have one for every Python that might be chosen.
        asked = subprocess.run([python, "-I", "-S", "-c", VERSION], capture_output=True, text=True, check=False)
        version = asked.stdout.strip()
        if asked.returncode == 0 and version.startswith(f"{release}."):
            return Compiler(python, version)
    return None


def compile_all(compiler: Compiler, folder: Path) -> None:
    """Put bytecode beside every source below a folder. Raises ``subprocess.CalledProcessError`` if any has none.

    It is taken as it is, whatever the date of its source. Paths in it begin at the folder; an import makes them whole.
    """
    command = [
        compiler.python,
        "-I",
        "-S",
        "-m",
        "compileall",
        "-q",
        "-j",
        "1",
        "--invalidation-mode",
        "unchecked-hash",
    ]
    subprocess.run([*command, "-s", str(folder), str(folder)], check=True)
