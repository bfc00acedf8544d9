"""How ``--help`` is laid out: options in sections with a title, in the order of their decorators."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, Final

import click

HELP: Final = ["-h", "--help"]  # the names of that option
_OWN: Final = "Options"
_titles: Final[dict[click.Parameter, str]] = {}  # of the section of each option that is in one


def all_of(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several decorators as one, in the order in which ``--help`` shall list what they add."""

    def decorate(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def section(title: str, *options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Several options as one decorator; ``--help`` lists them below a title."""

    def decorate(command: Any) -> Any:
        known = len(getattr(command, "__click_params__", ()))
        command = all_of(*options)(command)
        for parameter in command.__click_params__[known:]:
            _titles[parameter] = title
        return command

    return decorate


def _write(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    sections: dict[str, list[tuple[str, str]]] = {_OWN: []}
    for parameter in command.get_params(ctx):
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)) is not None:
            sections.setdefault(_titles.get(parameter, _OWN), []).append(record)
    for title, rows in sections.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


class Command(click.Command):
    """A command whose options are listed in sections, and that tells of ``-h`` however it is called."""

    def get_help_option_names(self, ctx: click.Context) -> list[str]:
        del ctx
        return HELP

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write(self, ctx, formatter)


class Group(Command, click.Group):
    """A command with commands of its own. One that is not there is told with those of like names, or with what
    ``otherwise`` says."""

    command_class = Command
    otherwise = ""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's own, which proposes commands of like names only where they are loaded already."""
        if args[0] in (names := self.list_commands(ctx)) or args[0].startswith("-"):
            return super().resolve_command(ctx, args)
        alike = " or ".join(repr(name) for name in get_close_matches(args[0], names))
        hint = f" Did you mean {alike}?" if alike else self.otherwise
        raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        self.format_commands(ctx, formatter)
