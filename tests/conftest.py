"""What tests of several folders share."""

from __future__ import annotations

import asyncio
import fcntl
import functools
import gc
import json
import os
import pty
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

from package import build
from sqspider.demo_site import DemoSite
from wheels import Kind

from . import forked
from .aws.engines import EngineMissingError, Engines

# A test passes on a busy machine: no example is timed, and none is found to be too slow in coming.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

# A shell lets what it starts in the background not hear of Ctrl-C, nor nohup of a terminal that ends; what tests start
# must.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

ROOT = Path(__file__).parent.parent
INSTALLED = ROOT / ".engines"
CASES = ROOT.parent / "shared" / "cases"

Make = Callable[..., subprocess.CompletedProcess[str]]
Run = Callable[..., subprocess.CompletedProcess[str]]
Zip = Callable[[Kind], Path]


def load_cases(name: str) -> dict[str, Any]:
    """A file of test data from standards and peers; the test is skipped where it is not there."""
    path = CASES / name
    if not path.exists():
        pytest.skip(f"the shared cases are not here: {name}", allow_module_level=True)
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None]:
    """The thousands of tests stay: no collection of garbage need look at them while they are found, or afterwards."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None]:
    yield from skipped_where_an_engine_is_missing()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    yield from skipped_where_an_engine_is_missing()


def skipped_where_an_engine_is_missing() -> Generator[None]:
    """What every test that asks for an engine does where it is not here, and says so."""
    try:
        yield
    except EngineMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_remembered_of_a_test(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is allowed to a crawl here is kept in a folder of the user's, which no test touches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


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
    engines = Engines(may_install=False)
    yield engines
    engines.stop()


@pytest.fixture
async def site() -> AsyncIterator[DemoSite]:
    """A small demo site on loopback, in this process."""
    async with DemoSite(40, slow_seconds=0.2, trap_depth=5) as site:
        yield site


@pytest.fixture
def served_site() -> Iterator[str]:
    """The demo site in a thread of its own: its address."""
    site, is_over = DemoSite(60), asyncio.Event()
    loop: Future[asyncio.AbstractEventLoop] = Future()

    async def serve() -> None:
        async with site:
            loop.set_result(asyncio.get_running_loop())
            await is_over.wait()

    with ThreadPoolExecutor(1) as thread:
        serving = thread.submit(asyncio.run, serve())
        serves = loop.result()
        yield site.url
        serves.call_soon_threadsafe(is_over.set)
        serving.result()


@pytest.fixture
def sqspider(tmp_path: Path) -> Run:
    """Runs the command in a folder of its own, as a user does: ``sqspider("crawl", url)``."""
    return functools.partial(forked.run, cwd=tmp_path)


@pytest.fixture(scope="session")
def make(function_zip: Path) -> Make:
    """Runs `make` for what needs the CDK; the test is skipped where that is not installed.

    What is made lies beside the function's zip, which is made already, and nothing is installed anew.
    """
    require_installed("infra")
    stamps = [ROOT / ".venv/installed", *(INSTALLED / name / "installed" for name in ("infra", "wheels-local"))]
    as_they_are = [f"--old-file={stamp.relative_to(ROOT)}" for stamp in stamps]

    def run(*arguments: str, stdin: int = subprocess.DEVNULL, **environment: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        return subprocess.run(
            ["make", "--silent", *as_they_are, f"BUILD={function_zip.parent}", *arguments],
            cwd=ROOT,
            env={**inherited, **environment},
            stdin=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def zip_of(tmp_path_factory: pytest.TempPathFactory) -> Zip:
    """What is deployed as Lambda's function, by kind: built once for all processes of a run."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder

    def built(kind: Kind) -> Path:
        require_installed(f"wheels-{kind}")
        path = folder / f"function-{kind}.zip"
        with (folder / f"{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                build(kind, path)
        return path

    return built


@pytest.fixture(scope="session")
def function_zip(zip_of: Zip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That for this machine, in a folder of this process's own: the CDK writes beside it."""
    path = tmp_path_factory.mktemp("build") / "function-local.zip"
    shutil.copyfile(zip_of("local"), path)
    return path


@contextmanager
def terminal(typed: str) -> Iterator[int]:
    """A terminal at which somebody has typed something."""
    keyboard, screen = pty.openpty()
    try:
        os.write(keyboard, typed.encode())
        yield screen
    finally:
        os.close(screen)
        os.close(keyboard)


def require_installed(name: str) -> None:
    """Skip the test if what it needs was not installed under ``.engines/`` before the tests."""
    if not (INSTALLED / name / "installed").exists():
        pytest.skip(f"{name} is not installed: make test does it before the tests, where it can")


__all__ = ["CASES", "INSTALLED", "ROOT", "Make", "Run", "load_cases", "require_installed", "terminal"]
