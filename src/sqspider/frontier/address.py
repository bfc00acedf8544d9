"""What a frontier's address tells: the one place that looks at it. Nothing is opened here."""

from __future__ import annotations

from typing import Final

from sqspider.checks import shown

AWS: Final = "aws:"
IN_MEMORY: Final = "sqlite::memory:"  # gone with its process, and of it alone
_SQLITE: Final = "sqlite:"


def check_address(address: str) -> None:
    """Raise ``TypeError`` or ``ValueError`` for what names no frontier."""
    if not isinstance(address, str):
        raise TypeError(f"frontier: an address such as 'sqlite:crawl.db', not {shown(address)}")
    if not sqlite_path(address) and address != AWS:
        raise ValueError(f"frontier: {shown(address)} names no frontier: write sqlite:PATH, or aws:")


def sqlite_path(address: str) -> str | None:
    """The SQLite file that an address names, or ``:memory:``; none: it names another kind of frontier."""
    return address.removeprefix(_SQLITE) if address.startswith(_SQLITE) else None
