"""``archive export``: pages as files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from sqspider.archive.export_files import Exported, Skipped, Written, export_files
from sqspider.archive.reading import files_to_read
from sqspider.cli.archive.walking import ToldOfFiles
from sqspider.cli.archive_place import archive_of, archive_option
from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.wording import counted, human_bytes, printable

_TOLD: int = 20  # URLs that were skipped, by name; the others are counted


@click.command(cls=Command)
@click.option(
    "--to",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The folder; made, if it is not there.",
)
@click.option("--convert-links", is_flag=True, help="Let pages lead to one another as files, and elsewhere in full.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line: each file, and what was skipped.")
@archive_option
@pass_shared
def command(
    shared: Shared, /, to: Path, convert_links: bool, overwrite: bool, as_json: bool, archive: str | None
) -> int:
    """Write the last good capture of each URL as a file, decoded, by host and path as `wget -m` would.

    Names are made safe for all systems, nothing is written outside of the folder, and no link in it is followed. Exit
    status 1 if there is no file of something that was answered well.
    """
    told = 0
    is_good = True

    def on_skipped(skipped: Skipped) -> None:
        nonlocal told, is_good
        told += 1
        is_good &= skipped.why.startswith("HTTP status") or skipped.why == "no good answer"
        if as_json:
            _print(skipped._asdict())
        elif told <= _TOLD:
            print(f"skipped {printable(skipped.url)}: {printable(skipped.why)}", file=sys.stderr)

    def on_written(written: Written) -> None:
        if as_json:
            _print(written._asdict())

    files = files_to_read(archive_of(shared, archive))
    done = export_files(
        files,
        to,
        convert_links=convert_links,
        overwrite=overwrite,
        on_file=ToldOfFiles("reading").file,
        on_written=on_written,
        on_skipped=on_skipped,
    )
    if not as_json:
        _say(done, to)
    return GOOD if is_good else NOT_ALL_GOOD


def _print(said: dict[str, Any]) -> None:
    print(json.dumps(said, ensure_ascii=False))


def _say(done: Exported, to: Path) -> None:
    if done.skipped.total() > _TOLD:
        for why, number in done.skipped.most_common():
            print(f"skipped {number:,}: {printable(why)}", file=sys.stderr)
    cut = f", {done.cut:,} of them cut, as they were kept" if done.cut else ""
    print(f"{counted(done.files, 'file', 'files')} ({human_bytes(done.bytes)}) written to {to}{cut}")
