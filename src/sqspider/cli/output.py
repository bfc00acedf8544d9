"""Where rows are written: a file or a folder, as its name says, or standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from sqspider.cli.signals import unwinding_on_signals
from sqspider.cli.terminal import ESCAPED
from sqspider.tables.columns import Column
from sqspider.tables.opening import check_target, format_of, open_table
from sqspider.tables.table import Table, TableError, whole
from sqspider.tables.target import STANDARD_OUTPUT, How, is_file, open_target, try_target


class OutputError(click.ClickException):
    """What was to be written cannot be; the text says what and why."""

    def __init__(self, error: TableError) -> None:
        super().__init__(f"{error}.")


def output_option(text: str) -> Callable[[Any], Any]:
    """``--output FILE``: a name that can be written, as far as can be told before it is."""
    more = (
        "Its name says how: .jsonl (or without an ending), .csv, .parquet, .db (SQLite, table rows), or a folder "
        "of Parquet files with a / at its end. A file is replaced as a whole; a device or pipe is written to."
    )
    return click.option("--output", "--to", "output", type=_Output(), metavar="FILE", help=f"{text} {more}")


class _Output(click.ParamType[str]):
    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            check_target(str(value))
        except TableError as error:
            self.fail(f"{error}.", param, ctx)
        return str(value)


class TextPath(click.ParamType[Path]):
    """A file of text that can be written, as far as can be told before it is."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        try:
            try_target(str(value))
        except TableError as error:
            self.fail(f"{error}.", param, ctx)
        return Path(value)


def check_format(output: str | None, chosen: str | None = None) -> None:
    """Raise ``click.UsageError`` for a name, or a format, that nothing can be written by."""
    try:
        format_of(output or STANDARD_OUTPUT, chosen)
    except TableError as error:
        raise click.UsageError(f"--output: {error}.") from None


def check_new(option: str, target: str, *, overwrite: bool, is_table: bool = True) -> None:
    """Raise ``click.UsageError`` for a file that cannot be written, or is there and was not to be replaced: before
    anything is read for it. ``is_table``: its name says in which format."""
    try:
        if is_table:
            format_of(target)
        check_target(target)
        is_there = not overwrite and is_file(target)
    except TableError as error:
        raise click.UsageError(f"{option}: {error}.") from None
    if is_there:
        raise click.UsageError(f"{option}: {target} is there already: --overwrite replaces it.")


def say_unreadable(urls: Sequence[str]) -> None:
    """Tell of records that are damaged, if there are any: their rows say what is wrong with each."""
    if urls:
        print(
            f"rows that cannot be read: {len(urls):,}, the first of them {urls[0]}: see the column error, "
            "and `sqspider status --check`",
            file=sys.stderr,
        )


@contextmanager
def written(
    output: str | None, columns: tuple[Column, ...], form: str | None = None, how: How = How.OVERWRITE
) -> Iterator[Table]:
    """A table to write rows into; without a name, on standard output.

    A file appears at the end: where something goes wrong, or a signal ends the program, the old one stays.

    Raises :class:`OutputError` if it cannot be written; for standard output the ``OSError`` itself.
    """
    try:
        with (
            unwinding_on_signals(),
            whole(open_table(output or STANDARD_OUTPUT, columns, how=how, format=form)) as table,
        ):
            yield table
    except TableError as error:
        raise OutputError(error) from error


def write_text(path: Path, lines: Iterable[str]) -> None:
    """Write lines of text into a file, which appears as a whole at the end. Raises :class:`OutputError`."""
    try:
        with unwinding_on_signals(), whole(open_target(str(path), How.OVERWRITE)) as target:
            for line in lines:
                target.write(f"{line}\n".encode(errors=ESCAPED))
    except TableError as error:
        raise OutputError(error) from error
