"""``links``: who links where, what is broken, and the graph of it; kept up from the archive when it is asked."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import click

from sqspider.archive.files import FileInfo
from sqspider.cli.archive_place import archive_of, archive_option
from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD
from sqspider.cli.forking import can_fork
from sqspider.cli.frontier import is_absent, opened
from sqspider.cli.link_answers import Answers, Asked, Writer
from sqspider.cli.options import Whole, crawl_option, host_name
from sqspider.cli.order import row_if_named
from sqspider.cli.output import OutputError, check_new
from sqspider.cli.sections import Command, section
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.signals import unwinding_on_signals
from sqspider.cli.wording import counted, printable
from sqspider.environment import load_environment
from sqspider.extract.link_graph import is_graphml, write_graph
from sqspider.extract.link_keeping import Filling, LinkFileError, open_links
from sqspider.extract.link_queries import ALL_KINDS, LinkTable
from sqspider.extract.link_records import CapturedRecords, FrontierRecords
from sqspider.extract.link_table import FILE
from sqspider.extract.page_links import LinkKind
from sqspider.frontier import Frontier
from sqspider.orders.keeping import archive_of_frontier, is_folder
from sqspider.record import DEFAULT_CRAWL
from sqspider.tables.table import TableError
from sqspider.tables.target import How

EVERY_SECONDS: Final = 5.0  # it tells how far it has come
_NAMES: Final = {"from": "from_", "kind": "kinds"}  # as what an option is given
QUESTIONS: Final = ("to", "from", "broken", "redirects", "anchors", "external", "orphans", "graph")

questions = section(
    "What is asked: one of these",
    click.option("--to", metavar="URL", help="Which pages link to a URL, how, and with what words."),
    click.option("--from", "from_", metavar="URL", help="Which links a page has, and what became of each."),
    click.option("--broken", is_flag=True, help="Targets that fail, each with all links to it."),
    click.option("--redirects", is_flag=True, help="Targets that redirect, where to, and all links to them."),
    click.option("--anchors", is_flag=True, help="Links to a place in a page (#place) that is not there."),
    click.option("--external", is_flag=True, help="Hosts outside of the crawl that links lead to, and how many do."),
    click.option("--orphans", is_flag=True, help="Pages that no other page links to: of sitemaps and seeds."),
    click.option(
        "--graph", metavar="FILE",
        help="Write all links to a file: .parquet, .csv, .jsonl, .db or .graphml. It must not be there.",
    ),
)  # fmt: skip

which = section(
    "Which links",
    click.option(
        "--kind", "kinds", multiple=True, type=click.Choice([kind.value for kind in LinkKind]), metavar="KIND",
        help=f"Only links of this kind; may be said several times: {', '.join(LinkKind)}.",
    ),
    click.option("--host", callback=host_name, metavar="HOST", help="Only targets of this host; with --to, pages."),
    crawl_option("What became of targets in this crawl.  [default: in all crawls, what was fetched last]"),
    click.option("--limit", type=click.IntRange(1), metavar="N", help="Only so many answers."),
)  # fmt: skip


@click.command(cls=Command)
@questions
@which
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@click.option(
    "--links",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help=f"Where the table of links is kept.  [default: {FILE} in the archive's folder; elsewhere it is not kept]",
)
@click.option("--overwrite", is_flag=True, help="A file of --graph that is there is replaced.")
@click.option(
    "--processes",
    type=Whole(1, 512),
    metavar="N",
    help="So many read what is new at a time.  [default: as many as there are cores]",
)
@archive_option
@pass_shared
def links(
    shared: Shared, /, as_json: bool, file: Path | None, archive: str | None, processes: int | None, **said: Any
) -> int:
    """Tell who links where, which links are broken, and what else there is to links.

    The answers come from a table that is kept beside the archive; what was fetched since is read first. What became of
    a target is told by the frontier's records; with --archive, where no --frontier is named, by that archive alone.
    Without a question the table is kept up, and nothing else.

    Exit status 1 if --broken or --anchors finds something, if --to or --from finds nothing, or if something in the
    archive cannot be read.
    """
    question = _question(said)
    if question == "graph":
        check_new("--graph", said["graph"], overwrite=said["overwrite"], is_table=not is_graphml(said["graph"]))
    asked = Asked(
        kinds=frozenset(map(LinkKind, said["kinds"])) or ALL_KINDS,
        host=said["host"],
        limit=said["limit"],
        url=said["to"] or said["from_"],
    )
    address = archive_of(shared, archive)
    with unwinding_on_signals(), _table(address, file, processes or 0, tells=not as_json) as (table, is_whole):
        if question is None:
            _count(table, as_json=as_json)
            return GOOD if is_whole else NOT_ALL_GOOD
        if question == "graph":
            is_good = _write_graph(table, said["graph"], asked, overwrite=said["overwrite"])
        else:
            is_good = asyncio.run(_answer(shared, archive, said["crawl"], question, table, asked, as_json))
        return GOOD if is_good and is_whole else NOT_ALL_GOOD


def _count(table: LinkTable, *, as_json: bool) -> None:
    """Say how much there is."""
    captured, number = table.counts()
    if as_json:
        print(json.dumps({"urls": captured, "links": number}))
        return
    print(f"{counted(captured, 'URL', 'URLs')} captured, with {counted(number, 'link', 'links')}")
    print("ask about them with --broken, --to URL, …: `sqspider links --help` lists it", file=sys.stderr)


def _question(said: dict[str, Any]) -> str | None:
    named = [name for name in QUESTIONS if said[_NAMES.get(name, name)]]
    if len(named) > 1:
        raise click.UsageError(f"ask one thing at a time: {' or '.join(f'--{name}' for name in named)}.")
    if not named and (given := [f"--{it}" for it in ("kind", "host", "crawl", "limit") if said[_NAMES.get(it, it)]]):
        raise click.UsageError(f"{given[0]} chooses answers: ask for some, as --broken or --to URL.")
    if said["overwrite"] and named != ["graph"]:
        raise click.UsageError("--overwrite is of the file of --graph.")
    return named[0] if named else None


@contextmanager
def _table(address: str, file: Path | None, processes: int, *, tells: bool) -> Iterator[tuple[LinkTable, bool]]:
    """The table of an archive, kept up; and whether all of the archive could be read."""
    told = _Told()
    damages: list[str] = []

    def on_damage(why: str) -> None:
        damages.append(why)
        print(f"damaged: {printable(why)}", file=sys.stderr)

    with _place(address, file) as path:
        try:
            with open_links(path) as connection:
                begun = time.monotonic()
                with Filling(
                    address, path, connection, processes=processes, forks=can_fork(), on_damage=on_damage,
                    on_read=told.read, on_record=told.looked,
                ) as filling:  # fmt: skip
                    number = filling.read_new(lambda: print(f"waiting for who else reads into {path}", file=sys.stderr))
                if number and tells:
                    took = time.monotonic() - begun
                    print(f"{counted(number, 'capture', 'captures')} read in {took:.1f} s", file=sys.stderr)
                table = LinkTable(connection)
                if number and (unread := table.unread()):
                    print(
                        f"of {counted(unread, 'URL', 'URLs')} the links are not known: the same answer was captured "
                        "before, and that is not in the archive",
                        file=sys.stderr,
                    )
                connection.execute("BEGIN")  # an answer is of one moment, whoever reads more meanwhile
                yield table, not damages
        except LinkFileError as error:
            raise click.ClickException(f"{error}.") from None


@contextmanager
def _place(address: str, file: Path | None) -> Iterator[Path]:
    if file is not None:
        yield file
    elif is_folder(address) and Path(address).is_dir():
        yield Path(address) / FILE
    else:
        print(f"the table of links is not kept: --links FILE keeps that of {printable(address)}", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="sqspider-links-") as folder:
            yield Path(folder) / FILE


class _Told:
    """Tells, on standard error, how far it has come, every few seconds."""

    def __init__(self) -> None:
        self._next = time.monotonic() + EVERY_SECONDS
        self._looked = 0

    def looked(self, _: FileInfo) -> None:
        self._looked += 1
        if self._looked % 100 == 0:
            self._tell(f"looked for what revisits refer to in {self._looked:,} records")

    def read(self, captures: int) -> None:
        self._tell(f"read {captures:,} captures")

    def _tell(self, what: str) -> None:
        if (now := time.monotonic()) >= self._next:
            self._next = now + EVERY_SECONDS
            print(what, file=sys.stderr)


def _write_graph(table: LinkTable, target: str, asked: Asked, *, overwrite: bool) -> bool:
    try:
        number = write_graph(table, target, asked.kinds, How.OVERWRITE if overwrite else How.NEW)
    except TableError as error:
        raise OutputError(error) from None
    print(f"{counted(number, 'link', 'links')} written to {target}", file=sys.stderr)
    return True


async def _answer(
    shared: Shared, archive: str | None, crawl: str | None, question: str, table: LinkTable, asked: Asked, as_json: bool
) -> bool:
    async with _frontier(shared, archive) as frontier:
        if frontier is None:
            if crawl is not None:
                raise click.UsageError("--crawl is of a frontier's records: name that with --frontier.")
            answers = Answers(table, CapturedRecords(table), None, [])
        else:
            await row_if_named(frontier, crawl)
            crawls = [row for row in await frontier.crawls() if crawl in (None, row.name)]
            names = [crawl] if crawl else sorted({DEFAULT_CRAWL, *(row.name for row in crawls)})
            answers = Answers(table, FrontierRecords(frontier, crawls, names), frontier, crawls)
        return await answers.write(question, asked, Writer(as_json=as_json))


@asynccontextmanager
async def _frontier(shared: Shared, archive: str | None) -> AsyncIterator[Frontier | None]:
    """The frontier that tells what became of targets; none: it is not asked, or there is none."""
    is_its_own = archive is None or archive == archive_of_frontier(shared.frontier, load_environment())
    if not (is_its_own or shared.address is not None) or (shared.address is None and is_absent(shared)):
        print("what became of targets is told by the captures alone: no frontier is named", file=sys.stderr)
        yield None
        return
    async with opened(shared, looking=True) as frontier:
        yield frontier
