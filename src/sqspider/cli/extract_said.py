"""That a crawl made rows, remembered on this machine: `--extract` is of one run, and who goes on without it is told.

Nothing is begun by what is remembered: rules may name code, and where rows go is a file.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from sqspider.crawl_row import Crawl
from sqspider.orders.consent import state_folder

if TYPE_CHECKING:
    from sqspider.cli.extract_behind import Following


class _Said(msgspec.Struct, frozen=True):
    """What was said, and where rows went."""

    words: str
    to: str  # an absolute path


def words_of(rules: Path | None, to: str | None, config: Path | None) -> str:
    """What somebody has said, to be said again."""
    told = (("--config", config), ("--extract", rules), ("--extract-to", to))
    return shlex.join(word for option, value in told if value is not None for word in (option, str(value)))


def rows_line(crawl: Crawl, following: Following | None) -> str | None:
    """Remember that a crawl makes rows; or say that it did, and does not now."""
    file = _file_of(crawl)
    try:
        if following is not None:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.write_bytes(msgspec.json.encode(_Said(following.words, os.path.abspath(following.to))))
            return None
        said = msgspec.json.decode(file.read_bytes(), type=_Said)
    except (OSError, msgspec.MsgspecError):  # then nobody is told
        return None
    if not os.path.lexists(said.to):
        return None
    return f"no rows are made, as they were with `{said.words}`: that is said to each run"


def _file_of(crawl: Crawl) -> Path:
    return state_folder() / "rows" / hashlib.sha256(crawl.id.encode()).hexdigest()
