"""``archive index``: the index of what lies in an archive."""

from __future__ import annotations

import click

from sqspider.archive.addresses import files_at
from sqspider.archive.cdxj import NAME, write_index
from sqspider.cli.archive.walking import Told
from sqspider.cli.archive_place import archive_of, archive_option
from sqspider.cli.exit_status import GOOD
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.wording import counted


@click.command(cls=Command)
@archive_option
@pass_shared
def command(shared: Shared, /, archive: str | None) -> int:
    """Write the index of an archive anew: index.cdxj, by which pywb and others find captures, as `archive cat` does.

    It is sorted on disk, where TMPDIR says, and takes about 400 bytes a capture there. Whoever reads meanwhile sees the
    index that was there before.
    """
    address = archive_of(shared, archive)
    told = Told("indexed")
    lines = write_index(files_at(address), told.record)
    print(f"{counted(lines, 'capture is', 'captures are')} in {address.rstrip('/')}/{NAME}")
    return GOOD
