"""What is told to a person, in words: how many, money, bytes, durations; and what strangers wrote."""

from __future__ import annotations

from sqspider.checks import printable as printable


def counted(number: int, one: str, more: str) -> str:
    """``1 page is``, ``2 pages are``."""
    return f"{number:,} {one if number == 1 else more}"


def dollars(cost: float) -> str:
    """Money with as many digits as matter: ``$0.0012``, ``$3.40``."""
    return f"${cost:,.2f}" if cost >= 1 else f"${cost:.4f}"


def human_bytes(number: float) -> str:
    """Bytes in a unit that fits: ``1.5 MB``. Powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 99.5 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"


def human_seconds(seconds: float) -> str:
    """A duration in a unit that fits: ``12.3 s``, ``4 min 05 s``, ``3 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
