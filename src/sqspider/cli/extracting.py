"""A run of ``extract``: what the options ask for, what is shown while it runs, and what is said at its end."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from sqspider.archive.errors import ArchiveError
from sqspider.cli.archive_place import archive_of
from sqspider.cli.exit_status import GOOD, INTERRUPTED, NOT_ALL_GOOD
from sqspider.cli.frontier import is_absent
from sqspider.cli.options import checked
from sqspider.cli.shared import Shared
from sqspider.cli.signals import stopping_softly
from sqspider.cli.wording import counted, human_seconds, printable
from sqspider.extract.harvest import Came, Harvest, Order
from sqspider.extract.rules import Fact, Rules
from sqspider.extract.rules_said import rules_of_options, rules_of_toml
from sqspider.extract.selection import Selection
from sqspider.extract.tally import NeverFound, Trouble
from sqspider.tables.table import TableError
from sqspider.tables.target import STANDARD_OUTPUT, How

SHOWN_ROWS: Final = 20  # of the first ones, on a terminal
EVERY_SECONDS: Final = 5.0  # between two lines of progress, and on a terminal:
LIVE_SECONDS: Final = 0.5
OWN_TROUBLES: Final = (Trouble.APPLY, Trouble.VALUE)  # of one's own code: the page did nothing wrong
_NEW_WORDS: Final = {Trouble.BINARY: "no text, whatever it is called"}


def run_extraction(shared: Shared, source: str | None, given: dict[str, Any]) -> int:
    """Run it; the exit status. Raises ``click.UsageError`` where nothing was written."""
    _check(given)
    order = _order_of(shared, source, given)
