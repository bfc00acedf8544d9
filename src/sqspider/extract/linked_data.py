"""JSON that pages carry: their JSON-LD, and paths into it and into any other.

A path is keys with dots between them: ``offers.price``. Arrays on its way are gone through; ``[0]`` takes one of their
elements (from its end, if it is negative), and ``[type=Product]`` those objects that say so. Of JSON-LD, ``type`` and
``id`` stand for ``@type`` and ``@id``, and a type for the address that ends with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    import turbohtml

MAX_DEPTH: Final = 100  # of objects and arrays within one another; whoever reads rows reads them, too

_STEP: Final = re.compile(r"\.?([^.\[\]]+)|\[(-?[0-9]+)\]|\[([^=\[\]]+)=([^\[\]]*)\]")


class Step(NamedTuple):
    """One step of a path: a key, an element, or those objects of which a key has a value."""

    key: str | None
    place: int | None = None
    value: str | None = None


def steps_of(path: str) -> tuple[Step, ...]:
    """A path. Raises ``ValueError`` for what is none, and says where."""
    steps: list[Step] = []
    at = 0
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None or (found[1] is not None and path.startswith(".", at) == (at == 0)):
            raise ValueError(f"unexpected {path[at]!r} at {at} in {path!r}: it is written as in 'offers[0].price'")
        if found[1] is not None:
            steps.append(Step(found[1].strip()))
        elif found[2] is not None:
            steps.append(Step(None, int(found[2])))
        else:
            steps.append(Step(found[3].strip(), None, found[4].strip().strip("'\"")))
        at = found.end()
    return tuple(steps)


def walk(values: Iterable[object], steps: tuple[Step, ...]) -> Iterable[object]:
    """What lies at the end of a path."""
    for step in steps:
        values = _walk_step(values, step)
    return values


def _walk_step(values: Iterable[object], step: Step) -> Iterator[object]:
    for value in values:
        if step.place is not None:
            if isinstance(value, list) and -len(value) <= step.place < len(value):
                yield value[step.place]
            continue
        for each in _objects_in(value):
            found = _member(each, step.key or "")
            if step.value is None:
                if found is not None:
                    yield found
            elif any(_says(one, step.value) for one in (found if isinstance(found, list) else (found,))):
                yield each


def _objects_in(value: object) -> Iterator[dict[str, object]]:
    """An object, or those of an array, in however many arrays it lies."""
    rest = [value]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            yield value
        elif isinstance(value, list):
            rest.extend(reversed(value))


def _member(of: dict[str, object], key: str) -> object:
    value = of.get(key)
    return of.get(f"@{key}") if value is None and key in ("type", "id") else value


def _says(value: object, wanted: str) -> bool:
    return isinstance(value, str | int | float) and (
        str(value) == wanted or str(value).endswith((f"/{wanted}", f"#{wanted}"))
    )


def linked_data_in(tree: turbohtml.Document) -> list[object]:
    """The objects of a page's JSON-LD, those of its graphs too; what is no JSON is left out."""
    found: list[object] = []
    for script in tree.select('script[type^="application/ld+json" i]'):
        for each in _objects_in(json_of(script.text)):
            found.append(each)
            found.extend(_objects_in(each.get("@graph")))
    return found


_AROUND: Final = re.compile(
    r"\A\s*(?:<!--|//\s*<!\[CDATA\[|/\*\s*<!\[CDATA\[\s*\*/)|(?:-->|//\s*\]\]>|/\*\s*\]\]>\s*\*/)?[\s;]*\Z"
)


def json_of(text: str) -> Any:
    """A text of JSON as Python has it; none: it is none that others can read. Line ends in its texts, and what hid it
    from old browsers, are let through."""
    try:
        value = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        try:
            value = json.loads(_AROUND.sub("", text), strict=False, parse_constant=_refuse)
            msgspec.json.encode(value)  # half of a character is in no file
        except (ValueError, RecursionError):
            return None
    return None if _is_deep(value) else value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(each.values())
            elif isinstance(each, list):
                inner.extend(each)
        if not inner:
            return False
        level = inner
    return True
