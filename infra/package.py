"""Builds the function's zip, without docker and without a network: the crawler, and the wheels that it runs on.

    python infra/package.py arm64     for AWS: Linux on ARM64, the Python of ``FUNCTION_PYTHON``
    python infra/package.py local     its twin for this machine and this Python: for local engines

The same commit gives the same zip, byte for byte, whatever Python builds it: files in order, one date, fixed
permissions. All of it is compiled by a Python of the function's release, in a process of its own; another patch of that
may write other bytes, so the version is told. Where there is none, nothing is compiled: that is told, too.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from bytecode import Compiler, compile_all, compiler
from wheels import KINDS, ROOT, Kind, wheels_folder

LICENCES: Final = ROOT / "infra" / "licences"
EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip can hold

# Sources of extension modules, type hints, what installers note down. Licences stay.
LEFT_OUT_SUFFIXES: Final = (".c", ".cpp", ".h", ".pxd", ".pxi", ".pyi", ".pyx", ".typed")
LEFT_OUT_NAMES: Final = ("INSTALLER", "RECORD", "REQUESTED", "WHEEL", "top_level.txt", "direct_url.json")
LEFT_OUT_FOLDERS: Final = (
    "bin",
    "curl",  # an older interface, beside pycurl
    "cffi",  # the compiled ada_url needs _cffi_backend alone
    "sqspider/cli",
    "sqspider/extract",
    "sqspider/frontier/memory",
    "sqspider/frontier/sqlite",
    "sqspider/tables",
)
LEFT_OUT_FILES: Final = (
    "sqspider/__main__.py",
    "sqspider/api.py",
    "sqspider/chains.py",
    "sqspider/demo_site.py",
    "sqspider/export.py",
    "sqspider/link_fates.py",
    "sqspider/report.py",
    "sqspider/threaded.py",
)


class PackageError(Exception):
    """The zip cannot be built; the text says why."""


def zip_path(kind: Kind) -> Path:
    """Where the zip of a kind lies, unless another place is named."""
    return ROOT / "build" / f"function-{kind}.zip"


def release_of(kind: Kind) -> str:
    """The release of Python that a kind's wheels are for: ``3.13``. Raises :class:`PackageError`."""
    wheels = wheels_folder(kind)
    for path in wheels.glob("*.whl"):
        if found := re.search(r"-cp(\d)(\d+)-cp", path.name):
            return f"{found[1]}.{found[2]}"
    raise PackageError(f"the wheels are not in {wheels}: python infra/wheels.py {kind}")


def build(kind: Kind, target: Path) -> Compiler | None:
    """Build the zip of a kind; what has compiled it, if anything has. Raises :class:`PackageError`."""
    by = compiler(release_of(kind))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        folder = Path(name) / "content"
        _unpack(kind, folder)
        source = ROOT / "src"
        for path in (source / "sqspider").rglob("*.py"):
            copy = folder / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
        _add_licences(folder / "licences")
        _leave_out(folder)
        if by is not None:
            try:
                compile_all(by, folder)
            except subprocess.CalledProcessError as error:
                raise PackageError(f"Python {by.version} cannot compile all of it: see above") from error
        unfinished = Path(name) / "unfinished.zip"
        _write(unfinished, folder)
        unfinished.replace(target)
    return by


def _unpack(kind: Kind, folder: Path) -> None:
    wheels = wheels_folder(kind)
    if not (wheels / "installed").exists():
        raise PackageError(f"the wheels are not in {wheels}: python infra/wheels.py {kind}")
    for path in wheels.glob("*.whl"):
        with zipfile.ZipFile(path) as wheel:
            # What a wheel wants elsewhere than among the modules: none of ours does.
            if any(name.partition("/")[0].endswith(".data") for name in wheel.namelist()):
                raise PackageError(f"{path.name} has a .data folder: unpack it as an installer does")
            wheel.extractall(folder)


def _add_licences(folder: Path) -> None:
    """What may be done with the compiled libraries that wheels hold: they bring no licences of those."""
    shutil.copytree(LICENCES, folder)
    shutil.copy(ROOT / "docs" / "licences.md", folder / "README.md")
    shutil.copy(ROOT / "LICENSE", folder / "sqspider.txt")


def _leave_out(folder: Path) -> None:
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and (
            path.name.endswith(LEFT_OUT_SUFFIXES)
            or path.name in LEFT_OUT_NAMES
            or name in LEFT_OUT_FILES
            or name.startswith(tuple(f"{left_out}/" for left_out in LEFT_OUT_FOLDERS))
        ):
            path.unlink()


def _write(target: Path, folder: Path) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), EPOCH)
            entry.external_attr = 0o100644 << 16  # a regular file that everybody may read
            entry.create_system = 3  # Unix, whatever builds it
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the function's zip.")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--to", type=Path, metavar="FILE", help="default: build/function-KIND.zip")
    chosen = parser.parse_args()
    target = chosen.to or zip_path(chosen.kind)
    try:
        by = build(chosen.kind, target)
    except PackageError as error:
        print(error, file=sys.stderr)
        return 1
    if by is None:
        release = release_of(chosen.kind)
        print(
            f"nothing in it is compiled, for there is no python{release} on the PATH: the function starts 0.15 s later",
            file=sys.stderr,
        )
    content = target.read_bytes()
    with zipfile.ZipFile(target) as archive:
        unzipped = sum(entry.file_size for entry in archive.infolist())
    print(
        f"{target}: {len(content) / 1e6:.1f} MB, {unzipped / 1e6:.1f} MB unzipped, "
        f"compiled by {f'Python {by.version}' if by else 'nobody'}, sha256 {hashlib.sha256(content).hexdigest()[:16]}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
