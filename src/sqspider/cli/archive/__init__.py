"""``archive``: its commands, each in a module of its name here."""

from __future__ import annotations

import importlib
from typing import Final

import click

from sqspider.cli.sections import Group
from sqspider.cli.shared import shared_options

COMMANDS: Final = {
    "list": "List what is in an archive: its files, or captures of a URL.",
    "cat": "Write out what was captured of a URL.",
    "verify": "Check that nothing is missing, torn or damaged.",
    "repair": "Close the files of a crawler that died, cut behind their last whole record.",
    "index": "Write the index (CDXJ) anew.",
    "pack": "Write small files together into large ones.",
    "wacz": "Write all of it into one WACZ file, for replay in a browser.",
    "export": "Write the pages as files, by path.",
    "forget": "Erase captures: of a URL or a host, or by age.",
}


class _Commands(Group):
    """Commands by name, imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return [*COMMANDS]  # once it is imported, ``list`` is a module here

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"sqspider.cli.archive.{cmd_name}").command
        assert isinstance(command, click.Command)
        command.name = cmd_name  # its module's, whatever its function is called
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of ``--help``, without importing what it lists."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])


@click.group(cls=_Commands)
@shared_options
def archive() -> None:
    """Look into, check, and keep the archive of a crawl.

    Each command takes the archive that belongs to the frontier, or the one of --archive: a folder, or s3://BUCKET/PREFIX.
    """
