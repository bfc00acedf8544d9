from __future__ import annotations

import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sqspider.frontier import FrontierSettings
from tests.aws import store
from tests.aws.engines import Engines
from tests.end_to_end.runtime import FunctionRuntime

StartRuntime = Callable[..., FunctionRuntime]


@pytest.fixture(scope="session")
def own_engines() -> Iterator[Engines]:
    """Those whose clock is the true one."""
    engines = Engines(may_install=False)
    yield engines
    engines.stop()


@pytest.fixture(scope="session")
def ministack(own_engines: Engines) -> dict[str, str]:
    """How to reach the one whose clock is the true one."""
    return {**own_engines.ministack(), "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture(scope="session")
def task_root(function_zip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The function's zip, unpacked."""
    root = tmp_path_factory.mktemp("function") / "task"
    with zipfile.ZipFile(function_zip) as archive:
        archive.extractall(root)
    return root


@pytest.fixture
async def place(ministack: dict[str, str]) -> AsyncIterator[dict[str, str]]:
    """A queue and a table as the stack makes them: the environment that names them."""
    place = await store.create(ministack, FrontierSettings(visibility_seconds=180))
    yield place
    await store.drop(place)


@pytest.fixture
def start_runtime(own_engines: Engines, task_root: Path, place: dict[str, str]) -> Iterator[StartRuntime]:
    """Starts the function in Lambda's runtime, with settings of its own."""
    emulator = own_engines.emulator()
    running: list[FunctionRuntime] = []

    def start(
        *,
        handler: str = "sqspider.lambda_handler.handler",
        timeout_seconds: int = 30,
        memory_mb: int | None = None,
        is_as_slow: bool = False,
        endpoint: str | None = None,
        place: dict[str, str] = place,
        **settings: Any,
    ) -> FunctionRuntime:
        variables = {f"SQSPIDER_{name.upper()}": str(value) for name, value in settings.items()}
        environment = {**place, "SQSPIDER_ALLOW_PRIVATE": "true", **variables}
        if endpoint is not None:
            environment["AWS_ENDPOINT_URL"] = endpoint
        runtime = FunctionRuntime(
            emulator,
            task_root,
            environment,
            handler=handler,
            timeout_seconds=timeout_seconds,
            memory_mb=memory_mb,
            is_as_slow=is_as_slow,
        )
        running.append(runtime)
        return runtime

    yield start
    for runtime in running:
        runtime.stop()
