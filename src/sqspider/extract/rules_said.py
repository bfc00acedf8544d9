"""Rules as people say them: a file (TOML), a table in one, or options on a command line.

title = true
each = "css:.product"

[fields]
name = "css:h2"
price = { path = "css:.price | number", required = true }
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from sqspider.checks import proposal, shown
from sqspider.extract.rules import Fact, Field, Rules

MAX_FILE_BYTES: Final = 1024 * 1024

_FACTS: Final = tuple(str(fact.value) for fact in Fact)
_TEXTS: Final = ("each", "apply", "main-by")
KEYS: Final = (*_FACTS, "facts", "fields", *_TEXTS, "apply-columns", "max-bytes")
"""What rules may say."""


def rules_of_toml(path: Path) -> Rules:
    """The rules of a file. Raises ``ValueError`` for what is none: which file, where in it, and what is wrong."""
    return rules_of_table(table_in(path), str(path))


def table_in(path: Path) -> dict[str, Any]:
    """What a file (TOML) says. Raises ``ValueError``."""
    import tomllib  # here: few commands read such a file

    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"{path} is larger than {MAX_FILE_BYTES:,} bytes")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no TOML: it is not in UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no TOML: {error}") from None


def rules_of_table(told: Mapping[str, Any], where: str) -> Rules:
    """The rules of a table of TOML. Raises ``ValueError`` that begins with where it stands."""
    try:
        return _rules_of(told)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None


def rules_of_options(
    *,
    base: Rules | None = None,
    facts: Iterable[str] = (),
    fields: Iterable[tuple[str, str]] = (),
    required: Iterable[str] = (),
    each: str | None = None,
    apply: str | None = None,
    main_by: str | None = None,
    max_bytes: int | None = None,
) -> Rules:
    """Rules of a command line, on top of those of a file (``base``): fields with their paths, and the names of those
    that are required. Raises ``TypeError`` or ``ValueError``."""
    base = base or Rules()
    named = {field.name: field for field in base.fields}
    for name, path in fields:
        named[name] = Field(name=name, path=path)
    for name in required:
        if name not in named:
            raise ValueError(f"{name}: no field of that name is looked for.{proposal(name, named)}")
        named[name] = Field(name=name, path=named[name].path, is_required=True)
    found = {str(fact.value): fact for fact in (*base.facts, *map(_fact, facts))}
    return Rules(
        facts=tuple(found.values()),
        fields=tuple(named.values()),
        each=base.each if each is None else each,
        apply=base.apply if apply is None else apply,
        apply_columns=base.apply_columns if apply in (None, base.apply) else (),
        main_by=base.main_by if main_by is None else main_by,
        max_bytes=base.max_bytes if max_bytes is None else max_bytes,
    )


def _rules_of(told: Mapping[str, Any]) -> Rules:
    for key in told:
        if key not in KEYS:
            raise ValueError(f"{key!r} is nothing that rules say.{proposal(key, KEYS)}")
    said: dict[str, Any] = {}
    for key in _TEXTS:
        if key in told:
            said[key.replace("-", "_")] = _text(key, told[key])
    if "max-bytes" in told:
        said["max_bytes"] = told["max-bytes"]
    columns = _table("apply-columns", told.get("apply-columns", {}))
    fields = _table("fields", told.get("fields", {}))
    return Rules(
        facts=tuple(dict.fromkeys(_facts_in(told))),
        fields=tuple(_field(name, value) for name, value in fields.items()),
        apply_columns=tuple((name, _text(name, kind)) for name, kind in columns.items()),
        **said,
    )


def _facts_in(told: Mapping[str, Any]) -> Iterable[Fact]:
    named = told.get("facts", [])
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise ValueError(f"facts: a list of their names, not {shown(named)}")
    yield from map(_fact, named)
    for name in _FACTS:
        if name not in told:
            continue
        if not isinstance(told[name], bool):
            raise TypeError(f"{name}: true or false, not {shown(told[name])}; a field of that name stands in [fields]")
        if told[name]:
            yield Fact(name)


def _fact(name: str) -> Fact:
    if name not in _FACTS:
        raise ValueError(f"facts: {name!r} is none.{proposal(name, _FACTS) or ' They are ' + ', '.join(_FACTS) + '.'}")
    return Fact(name)


def _field(name: str, value: Any) -> Field:
    if isinstance(value, str):
        return Field(name=name, path=value)
    if not isinstance(value, dict):
        raise TypeError(f"{name}: a path, or a table with one, not {shown(value)}")
    for key in value:
        if key not in ("path", "required"):
            raise ValueError(
                f"{name}: {key!r} is nothing that is said of a field.{proposal(key, ('path', 'required'))}"
            )
    if not isinstance(value.get("required", False), bool):
        raise TypeError(f"{name}: required: true or false, not {shown(value['required'])}")
    if "path" not in value:
        raise ValueError(f'{name}: its path is missing: {{ path = "css:h1", required = true }}')
    return Field(name=name, path=_text(f"{name}: path", value["path"]), is_required=value.get("required", False))


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{key}: a text, not {shown(value)}")
    return value


def _table(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{key}: a table, not {shown(value)}")
    return value
