"""A bar on standard error that shows how far something is."""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress


def bar() -> Progress:
    """A bar that is gone at the end. Where there is no terminal it is not there at all, nor as an empty line."""
    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)
