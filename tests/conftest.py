"""What tests of several folders share."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from sqspider.demo_site import DemoSite

from .aws.engines import Engines

ROOT = Path(__file__).parent.parent
CASES = ROOT.parent / "shared" / "cases"

Make = Callable[..., subprocess.CompletedProcess[str]]
Run = Callable[..., subprocess.CompletedProcess[str]]


def load_cases(name: str) -> dict[str, Any]:
    """A file of test data from standards and peers; the test is skipped where it is not there."""
    path = CASES / name
    if not path.exists():
        pytest.skip(f"the shared cases are not here: {name}", allow_module_level=True)
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


@pytest.fixture(autouse=True)
def _loggers_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A logger that is kept would go on writing to the stream of the test in which logging was begun."""
    configure = structlog.configure

    def without_keeping(**options: Any) -> None:
        configure(**{**options, "cache_logger_on_first_use": False})

    monkeypatch.setattr(structlog, "configure", without_keeping)
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def engines() -> Iterator[Engines]:
    """The engines that stand in for AWS; each is started once, when it is first needed."""
    engines = Engines()
    yield engines
    engines.stop()


@pytest.fixture
async def site() -> AsyncIterator[DemoSite]:
    """A small demo site on loopback, in this process."""
    async with DemoSite(40, slow_seconds=0.2, trap_depth=5) as site:
        yield site


@pytest.fixture
def served_site() -> Iterator[str]:
    """The demo site in a process of its own: its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sqspider.demo_site", "--pages", "60"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    yield url
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def sqspider(tmp_path: Path) -> Run:
    """Runs the command in a folder of its own, as a user does: ``sqspider("crawl", url)``."""

    def run(*arguments: str, timeout: float = 60, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sqspider", *arguments],
            cwd=tmp_path,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def make() -> Make:
    """Runs `make` for what needs the CDK, which is installed first; the test is skipped where there is no Node."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no Node here: the CDK needs it")

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        return subprocess.run(
            ["make", "--silent", f"PYTHON={sys.executable}", *arguments],
            cwd=ROOT,
            env={**inherited, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    installed = run(".engines/infra/installed")
    assert installed.returncode == 0, installed.stderr[-2000:]
    return run


@pytest.fixture(scope="session")
def function_zip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is deployed as Lambda's function, for this machine."""
    path = tmp_path_factory.mktemp("zip") / "function.zip"
    command = [sys.executable, str(ROOT / "infra" / "package.py"), "local", "--to", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path


__all__ = ["CASES", "ROOT", "Make", "Run", "load_cases"]
