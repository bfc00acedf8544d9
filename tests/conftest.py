"""What tests of several folders share."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sqspider.demo_site import DemoSite

from .aws.engines import Engines

CASES = Path(__file__).parent.parent.parent / "shared" / "cases"

Run = Callable[..., subprocess.CompletedProcess[str]]


def load_cases(name: str) -> dict[str, Any]:
    """A file of test data from standards and peers; the test is skipped where it is not there."""
    path = CASES / name
    if not path.exists():
        pytest.skip(f"the shared cases are not here: {name}", allow_module_level=True)
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


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


__all__ = ["CASES", "Run", "load_cases"]
