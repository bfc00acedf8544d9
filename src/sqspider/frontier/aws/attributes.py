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
