"""Where rows are written: a file that appears whole at the end, or what takes them as they come."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final, Literal, TextIO

import click

from sqspider.cli.signals import unwinding_on_signals
from sqspider.cli.terminal import ESCAPED
from sqspider.export import FORMATS, Format

_SUFFIXES: Final = {**dict.fromkeys(("", ".jsonl", ".ndjson", ".json", ".txt"), "jsonl"), ".csv": "csv"}


class OutputError(click.ClickException):
    """What was to be written cannot be; the text says what and why."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path} cannot be written: {error.strerror}.")


def output_option(text: str) -> Callable[[Any], Any]:
    """``--output FILE``: a path that can be written, as far as can be told before it is."""
    more = "JSON lines, or CSV where the name ends so. A file is replaced as a whole; a device or pipe is written to."
    return click.option("--output", type=OutputPath(), metavar="FILE", help=f"{text} {more}")


class OutputPath(click.ParamType[Path]):
    """A path that can be written, as far as can be told before it is."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        try:
            _try(path)
        except OSError as error:
            self.fail(f"{path} cannot be written: {_why(path, error)}.", param, ctx)
        return path


def _why(path: Path, error: OSError) -> str:
    folder = Path(os.path.realpath(path)).parent
    return f"there is no folder {folder}" if not folder.is_dir() else error.strerror or str(error)


def _try(path: Path) -> None:
    """Raise ``OSError`` if the path cannot be written."""
    there = _stat(path)
    if there is not None and stat.S_ISDIR(there.st_mode):
        raise OSError(0, "it is a folder")
    if there is not None and not os.access(path, os.W_OK):
        raise OSError(0, "Permission denied")
    if there is None or stat.S_ISREG(there.st_mode):
        trial, file = _beside(Path(os.path.realpath(path)))
        file.close()
        trial.unlink()


def format_of(path: Path | None, chosen: str | None = None) -> Format:
    """The format that was chosen, else the one that the file's name asks for.

    Raises ``click.UsageError`` for a name that asks for another one.
    """
    suffix = path.suffix.lower() if path is not None else ""
    is_file = path is not None and (path.is_file() or not path.exists())
    name = chosen or _SUFFIXES.get(suffix, None if is_file else "jsonl")
    if name is None:
        raise click.UsageError(f"--output: {path}: rows are written as JSON lines or CSV: name it .jsonl or .csv.")
    return FORMATS[name]


def say_unreadable(urls: Sequence[str]) -> None:
    """Tell of records that are damaged, if there are any: their rows say what is wrong with each."""
    if urls:
        print(
            f"rows that cannot be read: {len(urls):,}, the first of them {urls[0]}: see the column error, "
            "and `sqspider status --check`",
            file=sys.stderr,
        )


@contextmanager
def written(path: Path | None) -> Iterator[TextIO]:
    """A file to write rows into; without a path, standard output.

    A regular file is replaced at the end, with its mode: half of it is never seen, and where something goes wrong, or
    a signal ends the program, the old one stays. Where the path is a link, so is what it leads to. Anything else (a
    device, a pipe, what standard output already is) is written to as it is.

    Raises :class:`OutputError` if it cannot be written; for standard output the ``OSError`` itself.
    """
    try:
        with unwinding_on_signals(), _opened(path) as file:
            yield file
    except OSError as error:
        if path is None:
            raise
        raise OutputError(path, error) from error


@contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    there = None if path is None else _stat(path)
    if path is None or (there is not None and _is_standard_output(there)):
        sys.stdout.flush()
        number = _number_of_standard_output()
        # Not sys.stdout itself: its encoding is the terminal's, and unbuffered it loses what a full disk did not take.
        with nullcontext(sys.stdout) if number is None else _text(os.dup(number), "w") as file:
            yield file
    elif there is not None and not stat.S_ISREG(there.st_mode):
        with _text(os.open(path, os.O_WRONLY), "w") as file:
            yield file
    else:
        with _replaced(Path(os.path.realpath(path)), there) as file:
            yield file


@contextmanager
def _replaced(path: Path, there: os.stat_result | None) -> Iterator[TextIO]:
    temporary, file = _beside(path)
    try:
        with file:
            if there is not None:
                temporary.chmod(stat.S_IMODE(there.st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):  # a signal may come just after the last step
            temporary.unlink()
        raise


def _beside(path: Path) -> tuple[Path, TextIO]:
    """A new file in the same folder, with the mode that new files have."""
    temporary = path.parent / f".sqspider-{secrets.token_hex(6)}"
    return temporary, _text(temporary, "x")


def _text(file: Path | int, mode: Literal["w", "x"]) -> TextIO:
    return open(file, mode, encoding="utf-8", errors=ESCAPED, newline="")


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _is_standard_output(there: os.stat_result) -> bool:
    number = _number_of_standard_output()
    return number is not None and os.path.samestat(there, os.fstat(number))


def _number_of_standard_output() -> int | None:
    """Its file descriptor; none where it was closed, or is no file but what a program put there."""
    try:
        number = sys.stdout.fileno()
        os.fstat(number)
    except (OSError, ValueError):
        return None
    return number
