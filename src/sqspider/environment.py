"""Where a setting comes from: flags, then the environment, then a ``.env`` file, then defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

DEFAULT_FRONTIER: Final = "sqlite:sqspider.db"
ARCHIVE: Final = "SQSPIDER_ARCHIVE"
"""The variable that says where pages are kept; a stack's ``.env`` names its bucket."""

NO_ARCHIVE: Final = "none"  # in it: nowhere


def load_environment(folder: Path = Path()) -> Mapping[str, str]:
    """Add what a ``.env`` file in the folder says to the process's environment, and return that.

    To the process's own, for the AWS adapter, and workers of their own, look there. What is set already stays.
    """
    file = folder / ".env"
    if file.is_file():
        from dotenv import load_dotenv  # here: most runs have no such file

        load_dotenv(file, override=False)
    return os.environ


def frontier_address(flag: str | None, env: Mapping[str, str]) -> str:
    """The frontier to use: ``--frontier``, ``SQSPIDER_FRONTIER``, AWS if its queue and table are
    named, else a file in this folder.

    Raises ``ValueError`` if only one of queue and table is named: a file would not be what was meant.
    """
    if flag:
        return flag
    if named := env.get("SQSPIDER_FRONTIER"):
        return named
    missing = [name for name in ("QUEUE_URL", "TABLE_NAME") if not env.get(name)]
    if len(missing) == 1:
        there = "TABLE_NAME" if missing == ["QUEUE_URL"] else "QUEUE_URL"
        raise ValueError(
            f"{there} is set and {missing[0]} is not: set both for SQS and DynamoDB, or neither, or say --frontier"
        )
    return DEFAULT_FRONTIER if missing else "aws:"
