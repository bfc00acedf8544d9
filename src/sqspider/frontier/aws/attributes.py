"""Attribute values as DynamoDB's JSON writes them: ``{type: value}``.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_AttributeValue.html
"""

from __future__ import annotations

import math
from typing import Any

Item = dict[str, dict[str, Any]]  # name -> {type: value}


def s(text: str) -> dict[str, Any]:
    """A text."""
    return {"S": str(text)}


def n(number: float) -> dict[str, Any]:
    """A number as it is; one that DynamoDB does not have (infinite, out of its range) is for it to refuse."""
    is_whole = math.isfinite(number) and number == int(number)
    return {"N": str(int(number)) if is_whole else repr(number)}


def typed(value: Any) -> dict[str, Any]:
    """Any value of JSON: objects are maps, so that one can filter on what is in them."""
    match value:
        case bool():
            return {"BOOL": value}
        case int() | float():
            return n(value)
        case str():
            return s(value)
        case dict():
            return {"M": {name: typed(part) for name, part in value.items()}}
        case list() | tuple():
            return {"L": [typed(part) for part in value]}
        case None:
            return {"NULL": True}
    raise TypeError(f"no value of JSON: {value!r}")


def plain(value: dict[str, Any]) -> Any:
    """Back from :func:`typed`. Raises ``ValueError`` for what it does not write."""
    ((kind, raw),) = value.items()
    match kind:
        case "S" | "BOOL":
            return raw
        case "N":
            return float(raw) if set(raw) & set(".eE") else int(raw)
        case "M":
            return {name: plain(part) for name, part in raw.items()}
        case "L":
            return [plain(part) for part in raw]
        case "NULL":
            return None
    raise ValueError(f"no value of JSON: {kind}")


def text(item: Item, name: str) -> str | None:
    """A text of an item; none where it has none."""
    value = item.get(name)
    return value["S"] if value is not None else None


def texts(item: Item, name: str) -> frozenset[str]:
    """A set of texts of an item; an empty one, which DynamoDB does not have, where it has none."""
    value = item.get(name)
    return frozenset(value["SS"]) if value is not None else frozenset()


def number(item: Item, name: str) -> float:
    """A number of an item; 0 where it has none."""
    value = item.get(name)
    return float(value["N"]) if value is not None else 0.0


def optional(item: Item, name: str) -> float | None:
    """A number of an item; none where it has none."""
    return float(item[name]["N"]) if name in item else None
