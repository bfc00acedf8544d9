"""The deployment's settings and zip; and the checks of the stack, which run in the CDK's own environment."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

from package import build
from settings import SettingsError, StackSettings, read_settings
from tests.conftest import ROOT, Make

pytestmark = pytest.mark.xdist_group("deploy")  # they build and install in the same places

CDK: Final = ROOT / ".engines" / "infra"


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("make")
def test_the_stack_is_as_promised() -> None:
    checks = Path(__file__).parent / "stack_checks.py"
    command = [str(CDK / "venv" / "bin" / "python"), "-m", "pytest", "-c", os.devnull, "--noconftest"]
    command += ["-p", "no:cacheprovider", "--quiet", "--tb=short", str(checks)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "infra"),
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "18,20,22",
    }
    result = subprocess.run(command, cwd=checks.parent, env=environment, capture_output=True, text=True, check=False)
    print(result.stdout)  # noqa: T201 - what failed, for whoever reads the report
    assert result.returncode == 0
    assert " passed" in result.stdout


@pytest.mark.timeout(600)
def test_synth_refuses_with_one_sentence(make: Make) -> None:
    result = make("synth", "SET=visibility_seconds=20")
    assert result.returncode != 0
    assert "visibility_seconds=20 is shorter than timeout_seconds=30" in result.stderr
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"visibility_seconds": "29"}, "visibility_seconds=29 is shorter than timeout_seconds=30"),
        ({"visibility_seconds": "59"}, "between 60 and 43200"),
        ({"lease_seconds": "20"}, "must be longer than the fetch limit"),
        ({"lease_seconds": "29"}, "must not be shorter than timeout_seconds=30"),
        ({"lease_seconds": "181"}, "nor longer than visibility_seconds=180"),
        ({"fetch_seconds": "22"}, "timeout_seconds is 30, too short for fetch_seconds=22"),
        ({"timeout_seconds": "901"}, "Lambda takes 1 to 900"),
        ({"memory_mb": "64"}, "Lambda takes 128 to 10240"),
        ({"max_body_bytes": "10485760"}, "may need"),
        ({"batch_size": "11"}, "1 to 10"),
        ({"batch_size": "0"}, "1 to 10"),
        ({"max_concurrency": "1"}, "AWS takes 2 to 1000"),
        ({"log_days": "8"}, "CloudWatch Logs takes only"),
        ({"sweep_minutes": "0"}, "1 or more"),
        ({"alarm_email": "nobody"}, "no address"),
        ({"allow_private": "true"}, "package=local only"),
        ({"keep_table": "maybe"}, "true or false"),
        ({"package": "mips"}, "one of arm64, local"),
        ({"memory_mb": "much"}, "must be a number"),
    ],
)
def test_wrong_settings_are_refused_in_a_clear_sentence(given: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        read_settings(given.get)


def test_settings_are_read_from_texts() -> None:
    given = {"memory_mb": "512", "max_body_bytes": "10485760", "keep_table": "true", "fetch_seconds": "5.5"}
    settings = read_settings(given.get)
    assert settings == StackSettings(memory_mb=512, max_body_bytes=10_485_760, keep_table=True, fetch_seconds=5.5)
    environment = settings.function_settings().to_environment()
    assert environment["SQSPIDER_FETCH_SECONDS"] == "5.5"
    assert type(settings.function_settings()).read(environment) == settings.function_settings()


def test_the_zip_is_the_same_for_the_same_input(function_zip: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.zip"
    build("local", again)
    first, second = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (function_zip, again))
    assert first == second


def test_the_zip_holds_all_that_the_function_needs(function_zip: Path, tmp_path: Path) -> None:
    """Unpacked, and with nothing else to import from but the standard library."""
    with zipfile.ZipFile(function_zip) as archive:
        archive.extractall(tmp_path)
        names = archive.namelist()
    imports = "import sqspider.lambda_handler as door; door.handler; door.sweep"
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {imports}"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
    assert not [name for name in names if name.endswith((".c", ".pyi")) or name.startswith("sqspider/cli")]
    compiled = [name for name in names if name.endswith(".pyc")]
    assert len(compiled) == sum(name.endswith(".py") for name in names)


@pytest.mark.timeout(300)
def test_the_zip_for_aws_is_for_its_processor(tmp_path: Path) -> None:
    path = tmp_path / "function.zip"
    build("arm64", path)
    with zipfile.ZipFile(path) as archive:
        binaries = [name for name in archive.namelist() if name.endswith(".so")]
        for name in binaries:
            machine = int.from_bytes(archive.read(name)[18:20], "little")
            assert machine == 183, name  # EM_AARCH64
        assert any("cpython-313" in name for name in binaries)
        assert not [name for name in binaries if "x86_64" in name]
        unzipped = sum(entry.file_size for entry in archive.infolist())
    assert path.stat().st_size < 12_000_000
    assert unzipped < 50_000_000
