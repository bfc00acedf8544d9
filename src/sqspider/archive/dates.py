"""Dates as WARC files write them (W3CDTF), and as they are kept: in microseconds since the epoch."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Final

_DATE: Final = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(?:Z|[+-]00:00))?)?)?", re.ASCII
)
_LATEST: Final = 253_402_300_799.0  # the last whole second of the year 9999: a fraction more is rounded beyond it


def microseconds(seconds: float) -> int:
    """Of a time since the epoch; and back from a place's ``at``, to the digit."""
    return round(seconds * 1_000_000)


def written_date(date: int) -> str:
    """A date, in microseconds since the epoch, as a WARC-Date says it."""
    seconds, fraction = divmod(date, 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:06d}Z"


def seconds_of(date: str) -> float | None:
    """A WARC-Date in seconds since the epoch; none: it is no date in UTC, as exact as it may be (W3CDTF)."""
    found = _DATE.fullmatch(date)
    if found is None:
        return None
    year, month, day, hour, minute, second = found.groups()[:6]
    try:
        whole = datetime(
            int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC
        )
    except ValueError:
        return None
    return min(whole.timestamp() + float(f"0.{found[7] or 0}"), _LATEST)
