"""A process that fills the link table of a check while its crawl runs, so that little is left to be read at the end."""

from __future__ import annotations

import os
import select
import shutil
from pathlib import Path
from typing import Final

from sqspider.archive.errors import ArchiveError
from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD
from sqspider.cli.forking import Forked, can_fork, fork_workers
from sqspider.extract.link_keeping import Filling, LinkFileError, open_links
from sqspider.extract.link_table import FILE

PAUSE_SECONDS: Final = 0.2  # between two looks at what was written
_OVER: Final = b"over"


class LinkReader:
    """That process. Whatever becomes of it, what it has not read is left to whoever opens the table."""

    def __init__(self, forked: Forked) -> None:
        self._forked = forked

    @classmethod
    def begun(cls, archive: Path, temporary: Path | None) -> LinkReader | None:
        """Begin to read; none where no process can be had. ``temporary``: a folder that goes when the check is
        killed."""
        if not can_fork():
            return None

        def work(_: bytes) -> int:
            reading = _Reading()
            status = reading.read(archive)
            if reading.was_left and temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
            return status

        try:
            (forked,) = fork_workers(1, work)
        except OSError:
            return None
        forked.begin(b"begin")
        return cls(forked)

    async def ended(self) -> None:
        """Let it read what there is, and end."""
        self._forked.begin(_OVER)
        self._forked.stop()
        await self._forked.wait()

    def end(self) -> None:
        """End it at once. It may have ended already."""
        self._forked.end()


class _Reading:
    """What it does, until its standard input says that it is over, or ends: then the check was killed."""

    def __init__(self) -> None:
        self.was_left = False
        self._is_over = False

    def read(self, archive: Path) -> int:
        try:
            while not archive.is_dir():
                if self._hears_the_end():
                    return GOOD
            path = archive / FILE
            with (
                open_links(path) as connection,
                Filling(str(archive), path, connection, processes=1, forks=can_fork()) as filling,
            ):
                filling.keep_up(self._hears_the_end)
        except (ArchiveError, LinkFileError):
            return NOT_ALL_GOOD  # who reads the rest meets it again, and says it
        return GOOD

    def _hears_the_end(self) -> bool:
        if not self._is_over and select.select([0], [], [], PAUSE_SECONDS)[0]:
            told = os.read(0, 1024)
            self._is_over, self.was_left = True, not told
        return self._is_over
