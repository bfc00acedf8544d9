"""``--file``: a list of URLs, from a file or standard input, and what is told of it while it is read."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from typing import Any, BinaryIO, Final, NamedTuple, cast

import click

from sqspider.cli.options import advised
from sqspider.cli.sections import all_of
from sqspider.crawl_row import Crawl
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Entry, Frontier
from sqspider.url import Refused, without_tracking
from sqspider.work.lists import LIST_FORMATS, Listed, ListError, RefusedLine, list_format_of, read_list
from sqspider.work.producer import Produced, enqueue_all, entries_of

STANDARD_INPUT: Final = "-"


def _one_file(context: click.Context, parameter: click.Parameter, paths: Sequence[str]) -> str | None:
    if len(paths) > 1:  # of an option that is given twice the last one would count, and the first list be lost
        raise click.BadParameter(
            "one file at a time: join lists of lines as `cat A B | sqspider enqueue -f -`.", context, parameter
        )
    return paths[0] if paths else None


def list_options(command: Any) -> Any:
    """The options that make a :class:`ListFile`: ``path``, ``list_format``, ``column``."""
    return all_of(
        click.option(
            "-f", "--file", "path", multiple=True, callback=_one_file, metavar="FILE",
            help="Also the URLs of a file, one a line, or as CSV or JSON lines where the name ends in .csv, .tsv, "
            ".jsonl or .ndjson; .gz may follow. - is standard input.",
        ),
        click.option(
            "--format", "list_format", type=click.Choice(LIST_FORMATS),
            help="What the file is, whatever its name. Of CSV and JSON the other fields are kept with each URL.",
        ),
        click.option(
            "--column", metavar="NAME",
            help="The column of CSV with the URL, by name or number, or the field of JSON.  "
            "[default: url; of CSV also link]",
        ),
    )(command)  # fmt: skip


class ListFile(NamedTuple):
    """A list that was named, and how to read it."""

    path: str | None
    form: str | None = None
    column: str | None = None

    @classmethod
    def named(cls, given: dict[str, Any]) -> ListFile:
        """From the options, which are taken out. Raises ``click.UsageError`` if they say nothing together."""
        named = cls(given.pop("path"), given.pop("list_format"), given.pop("column"))
        if named.path is None and (named.form or named.column):
            raise click.UsageError("--format and --column say how to read a file: name one with -f.")
        return named

    @contextmanager
    def opened(self) -> Iterator[Iterator[Listed | RefusedLine]]:
        """What it says, as it is read; nothing without a path. Raises ``click.UsageError`` if it cannot be read."""
        if self.path is None:
            yield iter(())
            return
        with _open(self.path) as file:
            yield self._read(self.path, file)

    def _read(self, path: str, file: BinaryIO) -> Iterator[Listed | RefusedLine]:
        """Its head is read at once: whether there is such a column is known before anything is done."""
        try:
            listed = read_list(file, self.form or list_format_of(path), self.column)
        except ListError as error:
            raise click.UsageError(f"{path}: {error}.") from None
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(path, error) from None
        return _guarded(path, listed)


def _guarded(path: str, listed: Iterator[Listed | RefusedLine]) -> Iterator[Listed | RefusedLine]:
    try:
        yield from listed
    except (OSError, EOFError, zlib.error) as error:  # what was read before is enqueued, and stays
        raise _unreadable(path, error) from None


NO_LIST: Final = ListFile(None)


@contextmanager
def _open(path: str) -> Iterator[BinaryIO]:
    if path == STANDARD_INPUT:
        if sys.stdin is None:  # it was closed by who started us
            raise click.UsageError("standard input cannot be read: it is closed.")
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise _unreadable(path, error) from None
    with file:
        if not path.lower().endswith(".gz"):
            yield file
            return
        import gzip  # here: few lists are packed

        yield cast(BinaryIO, gzip.GzipFile(fileobj=file))


def _unreadable(path: str, error: Exception) -> click.UsageError:
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return click.UsageError(f"{path} cannot be read: {why}.")


class ListTold:
    """What a person is told while URLs are taken in, on standard error."""

    def __init__(self, path: str | None, *, quiet: bool = False) -> None:
        self.path = path
        self._shows_progress = not quiet and sys.stderr is not None and sys.stderr.isatty()
        self._quiet = quiet
        self._shown = 0  # characters of the line that stands there

    def refused(self, line: RefusedLine) -> None:
        where = f"{self.path}, line {line.line}" if line.line else "argument"
        refused = advised(line.refused) if isinstance(line.refused, Refused) else line.refused
        self.say(f"refused: {where}: {refused}")

    def progress(self, produced: Produced) -> None:
        if self._shows_progress:
            self._show(f"{produced.total:,}: {produced.new:,} new, {produced.known:,} known")

    def end(self, produced: Produced) -> None:
        """That all was taken in; and that what a list says of known URLs was not, if so."""
        self._show("")
        if produced.kept and not self._quiet:
            urls = "URL was known, and keeps" if produced.kept == 1 else "URLs were known, and keep"
            self.say(f"{produced.kept:,} {urls} what was said before: the list's fields are not taken")

    def say(self, line: str) -> None:
        self._show("")
        print(line, file=sys.stderr)

    def _show(self, line: str) -> None:
        """Show a line in place of the one that stands there."""
        if line or self._shown:
            print(line.ljust(self._shown), end="\r", file=sys.stderr, flush=True)
        self._shown = len(line)


class Seeding:
    """URLs on their way into a frontier: those given by themselves, and a list's as it is read."""

    def __init__(
        self,
        texts: Sequence[str],
        listed: Iterator[Listed | RefusedLine],
        told: ListTold,
        *,
        assume_http: bool,
    ) -> None:
        self._told = told
        self._produced = Produced()
        read = partial(
            entries_of,
            settings=CrawlSettings(),
            assume_http=assume_http,
            produced=self._produced,
            on_refused=told.refused,
        )
        given = list(read(texts))
        self.seeds = [entry.url for entry in given]  # those given by themselves
        self._listed = read((), listed=listed)
        self._first = given or list(islice(self._listed, 1))  # whether there is any is known before anything is done

    @property
    def is_refused(self) -> bool:
        """Whether all that was given was. Raises ``click.UsageError`` where a list gives nothing."""
        if not self._first and not self.refused:
            raise click.UsageError(f"{self._told.path} names no URL.")
        return not self._first

    @property
    def is_empty(self) -> bool:
        return not self._first

    @property
    def refused(self) -> int:
        """How many were, so far."""
        return self._produced.refused.total()

    @property
    def new(self) -> int:
        """How many were, so far."""
        return self._produced.new

    async def enqueue(self, frontier: Frontier, crawl: Crawl, most: int | None = None) -> bool:
        """Put them into a crawl, so many at most; whether there are more."""
        self.seeds = [_url_in(crawl, url) for url in self.seeds]
        entries = (_entry_in(crawl, entry) for entry in chain(self._first, self._listed))
        await enqueue_all(
            frontier,
            islice(entries, most),
            crawl.settings,
            crawl=crawl.ref,
            produced=self._produced,
            on_batch=self._told.progress,
        )
        self._told.end(self._produced)
        return next(entries, None) is not None


def _entry_in(crawl: Crawl, entry: Entry) -> Entry:
    return Entry(url=_url_in(crawl, entry.url), settings=crawl.settings, crawl=crawl.ref, meta=entry.meta)


def _url_in(crawl: Crawl, url: str) -> str:
    """A canonical URL as a crawl has it."""
    return without_tracking(url) if crawl.settings.drop_tracking else url
