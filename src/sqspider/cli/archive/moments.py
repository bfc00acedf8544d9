"""Moments and sizes, as commands of an archive take them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

import click

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", re.IGNORECASE)
_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


class Moment(click.ParamType[float]):
    """A moment in UTC, as ISO 8601 has it, or in the digits of an index."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            if value.isdecimal() and len(value) == 14:
                return datetime.strptime(value, "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
            when = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"{value!r} is no time: write it as 2026-01-31, 2026-01-31T12:00:00 or 20260131120000.", param, ctx
            )
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


class Size(click.ParamType[int]):
    """Bytes, with a unit: ``500MB``, ``1GB``. Powers of 1,000."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(str(value).strip())
        size = round(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
        if size < 1:
            self.fail(f"{value!r} is no size: write 500MB or 1GB.", param, ctx)
        return size
