"""What a change of a crawl's row means, in words."""

from __future__ import annotations

from typing import Any

from sqspider.crawl_row import Crawl
from sqspider.orders.said import NEW, OPTIONS, RowOption, written
from sqspider.redact import redact


def changes_of(before: Crawl, after: Crawl) -> list[str]:
    """A line for each option of which two rows say different things: ``delay 0 → 2 s``."""
    lines = [
        _line(option, written(option, before), written(option, after))
        for option in OPTIONS.values()
        if option.of(before) != option.of(after)
    ]
    if before.state is not after.state:
        lines.append(f"{before.state.value} → {after.state.value}")
    return lines


def words_of(crawl: Crawl) -> list[str]:
    """What a crawl says otherwise than one of which nothing was said: ``depth 3``."""
    return [
        f"{option.name} {_worded(written(option, crawl))}{_unit(option, option.of(crawl))}"
        for option in OPTIONS.values()
        if option.of(crawl) != option.of(NEW)
    ]


def _line(option: RowOption, before: Any, after: Any) -> str:
    unit = _unit(option, after)
    was = f"{_value_of(option, before)}{'' if unit else _unit(option, before)}"
    return f"{option.name} {was} → {_value_of(option, after)}{unit}"


def _value_of(option: RowOption, value: Any) -> str:
    if option.field == "keep" and not value:  # of what is kept, none is a value, and means the opposite
        return "all"
    return _worded(value)


def _unit(option: RowOption, value: Any) -> str:
    if value is None:
        return ""
    return " s" if option.field.endswith("seconds") else " bytes" if option.field.endswith("bytes") else ""


def _worded(value: Any) -> str:
    match value:
        case None | []:
            return "none"
        case bool():
            return "on" if value else "off"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:g}" if float(f"{value:g}") == value else repr(value)
        case list():
            return " | ".join(redact(each) for each in value)
        case _:
            return redact(str(value))
