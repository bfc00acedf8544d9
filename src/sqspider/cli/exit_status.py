"""What a command's exit status says: see docs/reference/exit-status.md."""

from __future__ import annotations

from typing import Final

GOOD: Final = 0
NOT_ALL_GOOD: Final = 1  # something did not succeed
USAGE: Final = 2
NO_FRONTIER: Final = 3  # the frontier cannot be reached
INTERRUPTED: Final = 130  # stopped before its end: what a shell shows for a command that SIGINT ended
