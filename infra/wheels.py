"""Fetches the wheels that the function's zip is made of, once, into ``.engines/wheels-KIND``; see ``package``.

python infra/wheels.py arm64
python infra/wheels.py local
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, Literal

Kind = Literal["arm64", "local"]

FUNCTION_PYTHON: Final = "3.13"
ROOT: Final = Path(__file__).parent.parent
KINDS: Final[tuple[Kind, ...]] = ("arm64", "local")
PLATFORMS: Final = ("manylinux2014_aarch64", "manylinux_2_28_aarch64")  # Amazon Linux 2023 has glibc 2.34
FOR_AWS: Final = (
    *("--implementation", "cp", "--python-version", FUNCTION_PYTHON),
    *(part for platform in PLATFORMS for part in ("--platform", platform)),
)


def wheels_folder(kind: Kind) -> Path:
    """Where the wheels of a kind lie. All of them are there once its file ``installed`` is."""
    return ROOT / ".engines" / f"wheels-{kind}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Fetch the wheels that the function's zip is made of.")
    parser.add_argument("kind", choices=KINDS)
    kind: Kind = parser.parse_args().kind
    folder = wheels_folder(kind)
    shutil.rmtree(folder, ignore_errors=True)  # those of another version would be packed, too
    command = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(folder)]
    command += ["--requirement", str(ROOT / "infra" / "function.txt")]
    command += ["--constraint", str(ROOT / "constraints.txt")]
    if kind == "arm64":
        command += FOR_AWS
    if subprocess.run(command, check=False).returncode:  # what was wrong has been said
        return 1
    (folder / "installed").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
