"""Moments, as commands take them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click


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
