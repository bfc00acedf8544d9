"""``archive wacz``: all of an archive in one file, for replay in a browser."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from sqspider.archive.addresses import files_at
from sqspider.archive.wacz import ENDING, pages_of, write_wacz
from sqspider.cli.archive.blocking import blocking
from sqspider.cli.archive.walking import ToldOfFiles
from sqspider.cli.archive_place import archive_of, archive_option
from sqspider.cli.exit_status import GOOD
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.wording import counted, human_bytes


@click.command(cls=Command)
@click.option(
    "--to",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The file; one that is there is replaced.  [default: here, named after the archive]",
)
@click.option("--title", default="", help="What it is called.  [default: the archive's name]")
@archive_option
@pass_shared
def command(shared: Shared, /, to: Path | None, title: str, archive: str | None) -> int:
    """Write an archive into one WACZ file, which https://replayweb.page shows in a browser.

    Its pages are those that the frontier's records name, with their titles; without a frontier those of the index.
    Files that are being written are left out.
    """
    address = archive_of(shared, archive)
    name = address.rstrip("/").rpartition("/")[2].strip(".") or "sqspider-archive"
    to = to or Path(f"{name}{ENDING}")
    with blocking(shared, looking=True) as frontier:
        pages = None if frontier is None else (page for batch in frontier.records() for page in pages_of(batch))
        done = write_wacz(
            files_at(address), to, now=time.time(), pages=pages, title=title, on_file=ToldOfFiles("reading").file
        )
    if done.left_out:
        left_out = counted(len(done.left_out), "file that is being written is", "files that are being written are")
        print(
            f"{left_out} left out; once a crawl has died, `sqspider archive repair` closes its files", file=sys.stderr
        )
    captures, pages_said = counted(done.captures, "capture", "captures"), counted(done.pages, "page", "pages")
    print(f"{to}: {human_bytes(done.bytes)}, {captures}, {pages_said}")
    return GOOD
