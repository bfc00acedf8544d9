"""What secrets say: looked up where a row says that they are to be found, and learned at once by what writes logs."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sqspider import secret
from sqspider.checks import check_header, shown
from sqspider.redact import LEAST_CHARACTERS, learn_secret

MAX_FILE_BYTES: Final = 8192


class SecretError(Exception):
    """A secret that cannot be had here; the text says which, and what to do. It never holds the secret."""


class Secrets:
    """What a worker may know: variables of ``environment`` whose names begin with ``SQSPIDER_SECRET_``, files below a
    folder that its start names, and what its own process was given."""

    def __init__(self, environment: Mapping[str, str] = os.environ, folder: str | None = None) -> None:
        self._environment = environment
        self._folder = folder

    def value(self, reference: str) -> str:
        """What a reference stands for. Raises :class:`SecretError`."""
        try:
            secret.check_secret("secret", reference)
        except (TypeError, ValueError) as error:
            raise SecretError(str(error)) from None
        kind, name = secret.kind_of(reference) or ("", "")
        found = {"env": self._in_environment, "file": self._in_folder, "process": self._in_process}[kind](name)
        try:
            check_header("secret", found)
        except ValueError:
            raise SecretError(f"what {shown(reference)} says is no line of printable ASCII characters") from None
        if len(found) < LEAST_CHARACTERS:
            raise SecretError(f"{shown(reference)} is shorter than {LEAST_CHARACTERS} characters: no log can hide that")
        learn_secret(found)
        return found

    def _in_environment(self, name: str) -> str:
        if name not in self._environment:
            raise SecretError(f"the environment has no {name}: set it, and start the worker again")
        return self._environment[name]

    def _in_process(self, key: str) -> str:
        found = secret.given_to_this_process(key)
        if found is None:
            raise SecretError("a secret was given to another process of Python, which alone has it: say it again here")
        return found

    def _in_folder(self, name: str) -> str:
        if self._folder is None:
            raise SecretError(f"it asks for the secret file:{name}: start the worker with --secrets FOLDER")
        try:
            return _read_below(Path(self._folder), name)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise SecretError(f"the secret file:{name} cannot be read below --secrets: {why}") from None


def _read_below(folder: Path, name: str) -> str:
    """A small file below a folder, without the line end at its end. Links may lead to places within it alone."""
    root = folder.resolve(strict=True)
    path = (root / name).resolve(strict=True)
    if not path.is_relative_to(root):
        raise ValueError("it leads out of that folder")
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no file")
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"it is longer than {MAX_FILE_BYTES:,} bytes")
    return data.decode("ascii", "strict").rstrip("\r\n")
