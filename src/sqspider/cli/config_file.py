"""A crawl as a file (TOML): its name, its URLs, and its options by their names on the command line.

    crawl = "news"
    urls = ["https://example.com/"]
    depth = 3
    exclude = ["/archive/"]

What a file leaves out is as it is by default. One that merely lies in the folder was perhaps put there by somebody
else: it may say less than one that is named.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from sqspider.checks import proposal, shown
from sqspider.cli.options import Size
from sqspider.cli.said import options_of
from sqspider.crawl_row import Crawl, check_name
from sqspider.orders.order import ConfigFile
from sqspider.orders.said import NEW, OPTIONS, TO_ORIGINS, written
from sqspider.record import DEFAULT_CRAWL

FOUND: Final = "sqspider.toml"
"""The name of the file that is read where none is named."""

FORBIDDEN: Final = (
    *TO_ORIGINS,
    "send-to",
    "proxy",
    "allow-private",
    "allow-any-port",
    "ca-file",
    "client-cert",
    "client-key",
)
"""Of which a file that was found may say nothing: they reach where its writer may not."""

_OWN: Final = ("crawl", "urls")
EXTRACT: Final = "extract"  # a table: what is to be extracted while it crawls
MAX_BYTES: Final = 1024 * 1024


def config_option(words: str) -> Callable[[Any], Any]:
    """A file with a crawl."""
    return click.option("--config", "config", type=click.Path(path_type=Path), metavar="FILE", help=words)


def config_for(context: click.Context, named: Path | None, crawl: str | None) -> ConfigFile | None:
    """The file that was named, or the one that lies in the folder, if it is of this crawl.

    Raises ``click.UsageError``.
    """
    if named is not None:
        config = read_config(context, named)
        if crawl is not None and config.crawl not in (None, crawl):
            raise click.UsageError(f"{named} is of the crawl {config.crawl}, not of {crawl}.")
        return config
    found = Path(FOUND)
    if not found.is_file():
        return None
    config = read_config(context, found)
    if crawl is not None and crawl != (config.crawl or DEFAULT_CRAWL):
        return None
    forbidden: list[str] = [name for name in FORBIDDEN if name in config.said]
    if config.extract is not None:  # it may name code to be run, and a file to be written
        forbidden.append(f"[{EXTRACT}]")
    if forbidden:
        raise click.UsageError(
            f"{found} was found here, and not named: such a file may not say {' or '.join(forbidden)}. If it is yours, "
            f"say --config {found}."
        )
    return config


def read_config(context: click.Context, path: Path) -> ConfigFile:
    """What a file says, checked as the command line is. Raises ``click.UsageError``."""
    told = _told(path)
    extract = told.pop(EXTRACT, None)
    if extract is not None and not isinstance(extract, dict):
        raise _wrong(path, EXTRACT, "a table of rules: [extract]")
    options = options_of(context.command)
    for key in told:
        if key not in options and key not in _OWN:
            other = {text.removeprefix("--") for parameter in context.command.params for text in parameter.opts}
            if key in other - {"help"}:
                raise _wrong(path, key, "is of one run: say it on the command line")
            raise click.UsageError(f"{path}: {key!r} is no option of a crawl.{proposal(key, (*options, *_OWN))}")
    name = told.get("crawl")
    try:
        if name is not None:
            check_name(name)
    except (TypeError, ValueError) as error:
        raise click.UsageError(f"{path}: {error}.") from None
    said = {key: _value(context, options[key], path, key, value) for key, value in told.items() if key in options}
    return ConfigFile(path, name, tuple(_texts(path, "urls", told.get("urls", []))), said, extract)


def whole(said: dict[str, Any]) -> dict[str, Any]:
    """What a file says of every option: of what it leaves out, the default."""
    return {**{name: option.of(NEW) for name, option in OPTIONS.items()}, **said}


def as_toml(crawl: Crawl) -> str:
    """A crawl as a file says it, what is as by default left out."""
    told: dict[str, Any] = {"crawl": crawl.name, "urls": list(crawl.seeds)}
    for name, option in OPTIONS.items():
        if option.of(crawl) != option.of(NEW):
            told[name] = written(option, crawl)
    return "".join(f"{name} = {_as_value(value)}\n" for name, value in told.items() if value != [])


def _as_value(value: Any) -> str:
    """Texts, numbers, flags and lists of texts are written in TOML as in JSON, but for one sign."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _told(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read: {error.strerror}.") from None
    if len(data) > MAX_BYTES:
        raise click.UsageError(f"{path} is larger than {MAX_BYTES:,} bytes.")
    import tomllib  # here: most commands read no file

    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError:
        raise click.UsageError(f"{path} is no TOML: it is not in UTF-8.") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise click.UsageError(f"{path} is no TOML: {error}.") from None


def _value(context: click.Context, option: click.Parameter, path: Path, key: str, value: Any) -> Any:
    """A value as the command line would have it."""
    assert isinstance(option, click.Option)
    kind = option.type
    if option.multiple:
        return tuple(_converted(context, option, path, key, text) for text in _texts(path, key, value))
    if option.is_flag:
        if not isinstance(value, bool):
            raise _wrong(path, key, f"true or false, not {shown(value)}")
        return value
    if isinstance(kind, click.IntRange | click.FloatRange) and not (isinstance(kind, Size) and isinstance(value, str)):
        is_whole = isinstance(kind, click.IntRange)
        if type(value) is not int and (is_whole or type(value) is not float):
            raise _wrong(path, key, f"a {'whole ' if is_whole else ''}number, not {shown(value)}")
    elif not isinstance(value, str):
        raise _wrong(path, key, f"a text, not {shown(value)}")
    return _converted(context, option, path, key, value)


def _converted(context: click.Context, option: click.Option, path: Path, key: str, value: Any) -> Any:
    try:
        return option.type.convert(value, option, context)
    except click.BadParameter as error:
        raise _wrong(path, key, error.message.rstrip(".")) from None


def _texts(path: Path, key: str, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise _wrong(path, key, "a list of texts" if key in TO_ORIGINS else f"a list of texts, not {shown(value)}")
    return value


def _wrong(path: Path, key: str, why: str) -> click.UsageError:
    return click.UsageError(f"{path}: {key}: {why}.")
