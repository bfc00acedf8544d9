"""``enqueue``: the producer."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, TextIO

import click
from rich.console import Console

from sqspider.cli.main import Shared, pass_shared
from sqspider.cli.options import opened, settings_options, to_settings
from sqspider.producer import Produced, RefusedLine, produce
from sqspider.url import Scope


@click.command()
@click.argument("urls", nargs=-1, metavar="[URL]...")
@click.option("-f", "--file", "path", metavar="FILE", help="One URL a line; - is standard input.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
@settings_options(scope=Scope.PAGE)
@pass_shared
def enqueue(shared: Shared, /, urls: tuple[str, ...], path: str | None, as_json: bool, **given: Any) -> int:
    """Record URLs and put a message for each into the queue.

    A URL that is known already is left as it is, so doing it again after a break goes on from there.
    A line that is no URL is named and counted, the others go on; then the exit status is 1.
    """
    if not urls and path is None:
        raise click.UsageError("name a URL, or a file with -f.")
    settings = to_settings(given)
    console = Console(stderr=True)

    def refused(line: RefusedLine) -> None:
        where = f"{path}, line {line.line - len(urls)}" if line.line > len(urls) else "argument"
        console.print(f"refused: {where}: {line.refused}", markup=False, highlight=False, soft_wrap=True)

    def progress(produced: Produced) -> None:
        if console.is_terminal:
            console.print(
                f"{produced.total:,}: {produced.new:,} new, {produced.known:,} known",
                end="\r",
                highlight=False,
            )

    async def main(lines: TextIO | list[str]) -> Produced:
        async with opened(shared) as frontier:
            return await produce(frontier, chain(urls, lines), settings, on_refused=refused, on_batch=progress)

    with _lines(path) as lines:
        produced = asyncio.run(main(lines))
    if as_json:
        numbers = {"new": produced.new, "known": produced.known, "refused": produced.refused.total()}
        print(json.dumps({**numbers, "reasons": {reason.value: n for reason, n in produced.refused.items()}}))
    else:
        print(f"{produced.new:,} new, {produced.known:,} known, {produced.refused.total():,} refused")
    return 1 if produced.refused else 0


@contextmanager
def _lines(path: str | None) -> Iterator[TextIO | list[str]]:
    if path is None:
        yield []
    elif path == "-":
        yield sys.stdin
    else:
        try:
            file = open(path, encoding="utf-8", errors="replace")  # noqa: SIM115 - closed below
        except OSError as error:
            raise click.UsageError(f"{path} cannot be read: {error.strerror}.") from None
        with file:
            yield file
