"""A bar on standard error that shows how far something is."""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress


def bar(*, quiet: bool = False) -> Progress:
    """A bar that is gone at the end. Where there is no terminal it is not there at all, nor as an empty line; nor if it
    is to be ``quiet``."""
    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=quiet or not console.is_terminal)
