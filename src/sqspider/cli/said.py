"""What a command line says of a crawl's row: see :mod:`sqspider.orders.said`.

An option that a user did not give says nothing, whatever its default; it goes back to that by ``--unset``.
"""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from sqspider.checks import proposal
from sqspider.cli.options import checked
from sqspider.orders import said
from sqspider.orders.said import NEW, OPTIONS

with_said = checked()(said.with_said)
checked_said = checked()(said.checked_said)
with_origins = checked()(said.with_origins)


def _unset(context: click.Context, parameter: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name.removeprefix("--") not in OPTIONS:
            words = f"{name!r} is no option of a crawl.{proposal(name.removeprefix('--'), OPTIONS)}"
            raise click.BadParameter(words, context, parameter)
    return tuple(name.removeprefix("--") for name in names)


unset_option = click.option(
    "--unset", multiple=True, callback=_unset, metavar="OPTION",
    help="Set an option of the crawl back to its default, as in `--unset depth --unset proxy`. May be repeated.",
)  # fmt: skip


def options_of(command: click.Command) -> dict[str, click.Parameter]:
    """The options of a command that set a field of a row, by their names in the table."""
    found = {}
    for parameter in command.params:
        for text in parameter.opts:
            if text.removeprefix("--") in OPTIONS:
                found[text.removeprefix("--")] = parameter
    return found


def said_in(context: click.Context) -> dict[str, Any]:
    """What the user gave on this command line, and what he wants unset."""
    given = {
        name: context.params[str(parameter.name)]
        for name, parameter in options_of(context.command).items()
        if context.get_parameter_source(str(parameter.name)) is not ParameterSource.DEFAULT
    }
    for name in context.params.get("unset", ()):
        if name in given:
            raise click.UsageError(f"--{name} and --unset {name} exclude each other.")
        given[name] = OPTIONS[name].of(NEW)
    return given
