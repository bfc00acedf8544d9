"""Installs the engines that stand in for AWS, and the judges of archives, each once, under ``.engines/``:
``python -m tests.aws.install``.

``make test`` does so before the tests, which install nothing themselves: one whose engine is not here
is skipped, and says so.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

PINS: Final = Path(__file__).parent / "engines.txt"
ROOT: Final = Path(__file__).parent.parent.parent / ".engines"
EMULATOR: Final = "aws-lambda-rie-x86_64"
# Where no registry can be reached npm waits for minutes unless told.
NPM_RETRIES: Final = ("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000")


class EngineMissingError(Exception):
    """An engine is not here, or cannot be; the text says why."""


def installed(engine: str, *, may_install: bool) -> Path:
    """The folder of an engine. Raises :class:`EngineMissingError` where it is not there."""
    folder = _folder_of(engine)
    done = folder / "installed"
    if done.exists():
        return folder
    if not may_install:
        raise EngineMissingError(f"{engine} is not installed: make test does it before the tests, where it can")
    with _alone(folder):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            INSTALLERS[engine](folder, pinned(engine))
            done.touch()
    return folder


def pinned(engine: str) -> list[str]:
    """The packages of an engine, with their versions."""
    for line in PINS.read_text().splitlines():
        first, *packages = line.split()
        if first == engine:
            return packages
    raise AssertionError(f"no {engine} in {PINS}")


def need(*programs: str) -> None:
    """Raise :class:`EngineMissingError` if one of them is not here."""
    for program in programs:
        if shutil.which(program) is None:
            raise EngineMissingError(f"there is no {program} here")


def _folder_of(engine: str) -> Path:
    return ROOT / f"{engine}-{hashlib.sha256(' '.join(pinned(engine)).encode()).hexdigest()[:8]}"


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process installs into a folder at a time."""
    ROOT.mkdir(exist_ok=True)
    with (ROOT / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(command: list[str], folder: Path) -> None:
    try:
        result = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
    except OSError as error:
        raise EngineMissingError(f"{command[0]}: {error}") from error
    if result.returncode:
        raise EngineMissingError(f"{' '.join(command[:3])} failed: {result.stderr.strip()[-300:]}")


def _install_environment(folder: Path, packages: list[str]) -> None:
    """In an environment of its own: it pins versions that are not ours, or has modules in it that another one's crash
    on."""
    _run([sys.executable, "-m", "venv", "venv"], folder)
    _run(["venv/bin/python", "-m", "pip", "install", "--quiet", *packages], folder)


def _install_dynamodb_local(folder: Path, packages: list[str]) -> None:
    """Its licence forbids to hand it on: it is fetched, never vendored."""
    need("java", "npm")
    _run(["npm", "pack", *NPM_RETRIES, *packages], folder)
    archive = next(folder.glob("*.tgz"))
    _run(["tar", "xzf", archive.name, "package/emulator"], folder)
    archive.unlink()


def _install_fauxqs(folder: Path, packages: list[str]) -> None:
    need("node", "npm")
    _run(["npm", "install", "--no-audit", "--no-fund", *NPM_RETRIES, *packages], folder)


def _install_emulator(folder: Path, packages: list[str]) -> None:
    """Lambda's runtime client in ``venv``, and AWS's interface emulator, which its SAM command line carries."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise EngineMissingError("the runtime interface emulator is here for Linux on x86_64 only")
    client, carrier = packages
    _run([sys.executable, "-m", "venv", "venv"], folder)
    _run(["venv/bin/python", "-m", "pip", "install", "--quiet", client], folder)
    _run(["venv/bin/python", "-m", "pip", "download", "--quiet", "--no-deps", carrier], folder)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        binary = archive.read(f"samcli/local/rapid/{EMULATOR}")
    wheel.unlink()
    (folder / EMULATOR).write_bytes(binary)
    (folder / EMULATOR).chmod(0o755)


INSTALLERS: Final[dict[str, Callable[[Path, list[str]], None]]] = {
    "ministack": _install_environment,
    "dynamodb-local": _install_dynamodb_local,
    "fauxqs": _install_fauxqs,
    "emulator": _install_emulator,
    "judge-warcio": _install_environment,
    "judge-fastwarc": _install_environment,
    "judge-pywb": _install_environment,
    "judge-linkchecker": _install_environment,
}


def main() -> int:
    for engine in INSTALLERS:
        if not (_folder_of(engine) / "installed").exists():
            print(f"installing {engine} into .engines ...", flush=True)  # noqa: T201
        try:
            installed(engine, may_install=True)
        except EngineMissingError as error:
            print(f"{engine} is not installed: the tests that need it are skipped: {error}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
