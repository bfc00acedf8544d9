"""The deployment's settings and zip; and the checks of the stack, which run in the CDK's own environment."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

from bytecode import Compiler, compiler
from env_file import clear, kept, outputs_of, write
from package import LEFT_OUT_FILES, LEFT_OUT_FOLDERS
from settings import SettingsError, StackSettings, read_settings
from sqspider.lambda_handler import FunctionSettings
from tests.conftest import INSTALLED, ROOT, Make, Zip, require_installed, terminal
from wheels import KINDS, Kind


def test_the_stack_is_as_promised() -> None:
    require_installed("infra")
    checks = Path(__file__).parent / "stack_checks.py"
    command = [str(INSTALLED / "infra" / "venv" / "bin" / "python"), "-m", "pytest", "-c", os.devnull, "--noconftest"]
    command += ["-p", "no:cacheprovider", "--quiet", "--tb=short", str(checks)]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'infra'}{os.pathsep}{ROOT / 'src'}",
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "18,20,22",
    }
    result = subprocess.run(command, cwd=checks.parent, env=environment, capture_output=True, text=True, check=False)
    print(result.stdout)  # noqa: T201 - what failed, for whoever reads the report
    assert result.returncode == 0
    assert " passed" in result.stdout


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
        ({"lease_seconds": "40"}, "must be longer than the fetch limit"),  # and than what keeping pages takes
        ({"lease_seconds": "25", "archive": "false"}, "must be longer than the fetch limit"),
        (
            {"lease_seconds": "29", "fetch_seconds": "1", "archive": "false"},
            "must not be shorter than timeout_seconds=30",
        ),
        ({"lease_seconds": "181"}, "nor longer than visibility_seconds=180"),
        ({"fetch_seconds": "22"}, "timeout_seconds is 30, too short for fetch_seconds=22"),
        ({"timeout_seconds": "901"}, "Lambda takes 1 to 900"),
        ({"memory_mb": "64"}, "Lambda takes 128 to 10240"),
        ({"max_body_bytes": "10485760"}, "may need"),
        ({"batch_size": "11"}, "^batch_size: from 1 to 10, not 11"),
        ({"batch_size": "0"}, "^batch_size: from 1 to 10, not 0"),
        ({"max_body_bytes": "0"}, "^max_body_bytes: 1 or more, not 0"),
        ({"fetch_seconds": "nan"}, "^fetch_seconds: from 0.1 to 3,600, not nan"),
        ({"lease_seconds": "inf"}, "^lease_seconds: from 1 to 43,200, not inf"),
        ({"user_agent": ""}, "^user_agent: must not be empty"),
        ({"contact": "a\nb"}, "^contact: printable"),
        ({"max_concurrency": "1"}, "AWS takes 2 to 1000"),
        ({"log_days": "8"}, "CloudWatch Logs takes only"),
        ({"sweep_minutes": "0"}, "between 1 and 60"),
        ({"sweep_minutes": "61"}, "between 1 and 60"),
        ({"oldest_age_minutes": "0"}, "1 or more"),
        ({"alarm_email": "nobody"}, "no address"),
        ({"allow_private": "true"}, "package=local only"),
        ({"send_to": "https://shop.example/login"}, "^send_to: scheme, host and port alone"),
        ({"proxies": "http://me:word@proxy.example:3128"}, "^proxy: a password is not written down"),
        ({"secrets": "the-password-itself"}, "^secrets: NAME=ID"),
        ({"secrets": "shop=login"}, "^secrets: a secret is named env:SQSPIDER_SECRET_NAME"),
        ({"secrets": "SHOP={{resolve:ssm:other}}"}, "^secrets: .* is no name or ARN"),
        ({"keep_table": "maybe"}, "true or false"),
        ({"archive_days": "-1"}, "between 0 .* and 36500"),
        ({"archive_days": "9", "archive": "false"}, "nothing is kept"),
        ({"package": "mips"}, "one of arm64, local"),
        ({"memory_mb": "much"}, "must be a number"),
    ],
)
def test_wrong_settings_are_refused_in_a_clear_sentence(given: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        read_settings(given.get)


def test_settings_are_read_from_texts() -> None:
    given = {"memory_mb": "512", "max_body_bytes": "10485760", "keep_table": "true", "fetch_seconds": "5.5"}
    settings = read_settings({**given, "sweep_minutes": "10"}.get)
    assert settings == StackSettings(
        memory_mb=512, max_body_bytes=10_485_760, keep_table=True, fetch_seconds=5.5, sweep_minutes=10
    )
    environment = settings.function_settings().to_environment()
    assert environment["SQSPIDER_FETCH_SECONDS"] == "5.5"
    assert environment["SQSPIDER_SWEEP_SECONDS"] == "600.0"
    assert type(settings.function_settings()).read(environment) == settings.function_settings()


def test_the_function_refuses_an_archive_that_is_no_place_in_s3() -> None:
    read = FunctionSettings.read
    assert read({"SQSPIDER_ARCHIVE": "s3://pages/crawl"}).archive == "s3://pages/crawl"
    for wrong in ("pages", "s3://Pages/x", "s3://"):
        with pytest.raises(ValueError, match=r"archive: .* is no place in S3"):
            read({"SQSPIDER_ARCHIVE": wrong})


def test_one_commit_makes_one_zip_whatever_builds_it(function_zip: Path, tmp_path: Path) -> None:
    """By every Python that is here, elsewhere, and with another umask and order of sets."""
    pythons = {sys.executable, *filter(None, map(shutil.which, ("python3", "python3.12", "python3.13", "python3.14")))}
    supported = "import sys; sys.exit(sys.version_info < (3, 11))"
    for number, python in enumerate(sorted(pythons)):
        # A name alone says little: version managers have one for every Python that might be chosen.
        if subprocess.run([python, "-c", supported], capture_output=True, check=False).returncode:
            continue
        path = tmp_path / f"by {number}" / "function.zip"
        command = [python, str(ROOT / "infra" / "package.py"), "local", "--to", str(path)]
        environment = {**os.environ, "PYTHONHASHSEED": str(number), "TZ": "Asia/Tokyo"}
        subprocess.run(command, check=True, cwd=tmp_path, env=environment, umask=0o077, stdout=subprocess.DEVNULL)
        assert path.read_bytes() == function_zip.read_bytes(), python


def test_the_zip_holds_all_that_the_function_needs(function_zip: Path, tmp_path: Path) -> None:
    """Unpacked, and with nothing else to import from but the standard library."""
    with zipfile.ZipFile(function_zip) as archive:
        archive.extractall(tmp_path)
        names = archive.namelist()
    imports = "import sqspider.lambda_handler as door; door.handler; door.sweep"
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {imports}"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
    assert not [name for name in names if name.endswith((".c", ".pyi")) or name.startswith("sqspider/cli")]
    tag = sys.implementation.cache_tag
    for name in [name for name in names if name.endswith(".py")]:
        folder, _, file = f"/{name}".rpartition("/")
        compiled = f"{folder}/__pycache__/{file.removesuffix('.py')}.{tag}.pyc".lstrip("/")
        with zipfile.ZipFile(function_zip) as archive:
            assert archive.read(compiled)[4:8] == b"\1\0\0\0", name  # PEP 552: it is not compared with its source


def test_what_compiles_is_a_python_of_the_functions_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is called."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    monkeypatch.setenv("PATH", str(tmp_path))
    for release in (own, "3.99"):
        (tmp_path / f"python{release}").write_text("#!/bin/sh\necho 2.7.18\n")
        (tmp_path / f"python{release}").chmod(0o755)
    assert compiler(own) == Compiler(sys.executable, platform.python_version())
    assert compiler("3.99") is None


@pytest.mark.skipif(sys.version_info[:2] == (3, 13), reason="this Python is the function's")
def test_where_there_is_no_python_of_the_function_nothing_is_compiled_and_that_is_told(tmp_path: Path) -> None:
    require_installed("wheels-arm64")
    path = tmp_path / "function.zip"
    command = [sys.executable, str(ROOT / "infra" / "package.py"), "arm64", "--to", str(path)]
    done = subprocess.run(command, check=True, env={"PATH": ""}, capture_output=True, text=True)
    assert "nothing in it is compiled" in done.stderr
    with zipfile.ZipFile(path) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".pyc")]


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_wheels_bundle_has_its_licence_in_the_zip(kind: Kind, zip_of: Zip) -> None:
    with zipfile.ZipFile(zip_of(kind)) as archive:
        names = archive.namelist()
        page = archive.read("licences/README.md").decode()
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| ")]
    files, texts = ({name for row in rows for name in re.findall("`([^`]+)`", row[column])} for column in (3, 5))
    bundled = {re.split("[-.]", Path(name).name)[0] for name in names if name.partition("/")[0].endswith(".libs")}
    assert "libcurl" in bundled
    assert bundled <= files
    written = {Path(name).name for name in names if name.startswith("licences/")}
    assert written == texts - {".dist-info"} | {"README.md", "sqspider.txt"}
    for wheel in {name.partition("/")[0] for name in names if ".dist-info/" in name}:
        assert any(name.startswith(f"{wheel}/licenses/") for name in names), wheel


def test_what_is_left_out_of_the_zip_is_there_to_be_left_out() -> None:
    """A module that was moved would be packed, and its old name stay in the list."""
    for name in (*LEFT_OUT_FILES, *LEFT_OUT_FOLDERS):
        assert not name.startswith("sqspider/") or (ROOT / "src" / name).exists(), name


def test_the_zip_for_aws_is_for_its_processor(zip_of: Zip) -> None:
    path = zip_of("arm64")
    with zipfile.ZipFile(path) as archive:
        binaries = [name for name in archive.namelist() if ".so" in Path(name).suffixes]
        for name in binaries:
            machine = int.from_bytes(archive.read(name)[18:20], "little")
            assert machine == 183, name  # EM_AARCH64
        assert any("cpython-313" in name for name in binaries)
        assert not [name for name in binaries if "x86_64" in name]
        unzipped = sum(entry.file_size for entry in archive.infolist())
        is_compiled = any(name.endswith(".pyc") for name in archive.namelist())
    told = re.search(
        r"\| zip \| (\S+) MB, (\S+) MB unpacked \((\S+) and (\S+) ", (ROOT / "docs" / "aws.md").read_text()
    )
    assert told is not None
    sizes = [float(each) * 1e6 for each in told.groups()[0 if is_compiled else 2 :][:2]]
    assert [path.stat().st_size, unzipped] == pytest.approx(sizes, rel=0.04)


SAYS_WHAT_IT_WOULD_DO: Final = ("CDK=echo would", "SET=package=local")


@pytest.mark.parametrize("target", ["synth", "bootstrap", "diff", "destroy"])
def test_each_build_folder_has_an_assembly_of_its_own(
    make: Make, function_zip: Path, tmp_path: Path, target: str
) -> None:
    """Two runs of the CDK that write into one folder refuse each other."""
    said = make(target, *SAYS_WHAT_IT_WOULD_DO, f"ENV_FILE={tmp_path / '.env'}")
    assert said.returncode == 0, said.stderr
    assembly = function_zip.parent / "cdk.out"
    assert f"would synth --no-notices --quiet --output {assembly}" in said.stdout
    how = "--no-notices --method=template" if target == "diff" else "--no-notices"
    assert target == "synth" or f"would {target} {how} --app {assembly}" in said.stdout


def test_nothing_is_deployed_where_nobody_can_be_asked(make: Make) -> None:
    result = make("deploy", *SAYS_WHAT_IT_WOULD_DO)
    assert result.returncode != 0
    assert "nobody to ask here" in result.stderr
    assert "would deploy" not in result.stdout


@pytest.mark.parametrize("answer", ["n", "", "maybe"])
def test_a_deployment_is_shown_and_asked_for(make: Make, answer: str) -> None:
    with terminal(f"{answer}\n") as screen:
        result = make("deploy", *SAYS_WHAT_IT_WOULD_DO, stdin=screen)
    assert result.returncode != 0
    assert "nothing was deployed" in result.stderr
    shown, asked, rest = result.stdout.partition("Deploy this? [y/N]")
    assert "would diff --no-notices --method=template" in shown  # looking makes nothing in the account
    assert asked
    assert "would deploy" not in rest


def test_who_destroys_is_told_what_stays(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs.json"
    assert "keep_table=true" in kept(outputs_of("sqspider", outputs))  # deployed from another folder
    outputs.write_text('{"sqspider": {"TableName": "records", "KeptTable": "records"}, "other": {"TableName": "x"}}')
    told = kept(outputs_of("sqspider", outputs))
    assert "The table records stays" in told
    assert "--table-name records --no-deletion-protection-enabled" in told
    assert kept(outputs_of("other", outputs)) == "Nothing stays of the stack."
    outputs.write_text('{"sqspider": {"KeptArchive": "pages"}}')
    assert kept(outputs_of("sqspider", outputs)).startswith("The bucket pages stays")


def test_the_env_file_names_the_archive_where_there_is_one(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("OTHER=1\nSQSPIDER_ARCHIVE=s3://old/pages\n")
    outputs = {"QueueUrl": "https://q", "TableName": "t", "Region": "eu-west-1"}
    write(file, {**outputs, "Archive": "s3://new/pages", "ArchiveDays": "400"})
    assert file.read_text().splitlines()[-2:] == ["SQSPIDER_ARCHIVE=s3://new/pages", "SQSPIDER_ARCHIVE_DAYS=400"]
    write(file, {**outputs, "Archive": "s3://new/pages"})
    assert file.read_text().splitlines()[-1] == "SQSPIDER_ARCHIVE=s3://new/pages"
    write(file, outputs)
    assert "SQSPIDER_ARCHIVE" not in file.read_text()
    clear(file)
    assert file.read_text() == "OTHER=1\n"
