"""Builds the function's zip, without docker: the crawler and the wheels that it runs on.

    python infra/package.py arm64     for AWS: Linux on ARM64, the Python of ``FUNCTION_PYTHON``
    python infra/package.py local     its twin for this machine and this Python: for local engines

The same input gives the same zip, byte for byte: files in order, one date, fixed permissions. It is compiled, if the
function's Python is here to do so: Lambda cannot keep what it compiles, and would do it at every start.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FUNCTION_PYTHON: Final = "3.13"
ROOT: Final = Path(__file__).parent.parent
KINDS: Final = ("arm64", "local")
PLATFORMS: Final = ("manylinux2014_aarch64", "manylinux_2_28_aarch64")  # Amazon Linux 2023 has glibc 2.34
EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can hold

# Sources of extension modules, type hints, what installers note down. Licences stay.
LEFT_OUT_SUFFIXES: Final = (".c", ".cpp", ".h", ".pxd", ".pxi", ".pyi", ".pyx", ".typed")
LEFT_OUT_NAMES: Final = ("INSTALLER", "RECORD", "REQUESTED", "WHEEL", "top_level.txt", "direct_url.json")
LEFT_OUT_FOLDERS: Final = (
    "bin",
    "cffi",  # the compiled ada_url needs _cffi_backend alone
    "sqspider/cli",
)
LEFT_OUT_FILES: Final = (
    "sqspider/__main__.py",
    "sqspider/api.py",
    "sqspider/demo_site.py",
    "sqspider/export.py",
    "sqspider/frontier/sqlite.py",
    "sqspider/frontier/sqlite_check.py",
    "sqspider/frontier/sqlite_file.py",
    "sqspider/frontier/sqlite_rows.py",
)


class PackageError(Exception):
    """The zip cannot be built; the text says why."""


def zip_path(kind: str) -> Path:
    """Where the zip of a kind lies."""
    return ROOT / "build" / f"function-{kind}.zip"


def build(kind: str, target: Path) -> None:
    """Build the zip of a kind (``arm64`` or ``local``). Raises :class:`PackageError`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        folder = Path(name)
        _install(kind, folder)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "src" / "sqspider", folder / "sqspider", ignore=ignored)
        _compile(kind, folder)
        unfinished = folder / "unfinished.zip"
        _write(unfinished, folder, sorted(_wanted(folder)))
        unfinished.replace(target)


def _install(kind: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-compile", "--no-deps", "--only-binary=:all:", "--target", str(folder)]
    command += ["--requirement", str(ROOT / "infra" / "function.txt")]
    command += ["--constraint", str(ROOT / "constraints.txt")]
    if kind == "arm64":
        command += ["--implementation", "cp", "--python-version", FUNCTION_PYTHON]
        for platform in PLATFORMS:
            command += ["--platform", platform]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise PackageError(f"pip could not install what the function runs on:\n{result.stderr.strip()}")


def _compile(kind: str, folder: Path) -> None:
    python = sys.executable if kind == "local" else f"python{FUNCTION_PYTHON}"
    # A name alone says little: version managers have one for every Python that might be chosen.
    is_here = shutil.which(python) and not subprocess.run([python, "-V"], capture_output=True, check=False).returncode
    if not is_here:
        print(f"not compiled, for there is no python{FUNCTION_PYTHON} here: a start takes about a second longer")
        return
    command = [python, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(folder), "-p", "/var/task", str(folder)]  # the same names wherever it is built
    subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": "0"}, check=True)


def _wanted(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        source = re.sub(r"__pycache__/(\w+)\.[^/]*\.pyc$", r"\1.py", name)
        if (
            path.is_file()
            and not path.name.endswith(LEFT_OUT_SUFFIXES)
            and path.name not in LEFT_OUT_NAMES
            and source not in LEFT_OUT_FILES
            and not name.startswith(tuple(f"{left_out}/" for left_out in LEFT_OUT_FOLDERS))
        ):
            yield path


def _write(target: Path, folder: Path, files: list[Path]) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for path in files:
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), EPOCH)
            entry.external_attr = 0o100644 << 16  # a regular file that everybody may read
            entry.create_system = 3  # Unix, whatever builds it
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the function's zip.")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--to", type=Path, metavar="FILE", help="default: build/function-KIND.zip")
    chosen = parser.parse_args()
    target = chosen.to or zip_path(chosen.kind)
    try:
        build(chosen.kind, target)
    except PackageError as error:
        print(error, file=sys.stderr)
        return 1
    content = target.read_bytes()
    with zipfile.ZipFile(target) as archive:
        unzipped = sum(entry.file_size for entry in archive.infolist())
    print(
        f"{target}: {len(content) / 1e6:.1f} MB, {unzipped / 1e6:.1f} MB unzipped, "
        f"sha256 {hashlib.sha256(content).hexdigest()[:16]}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
