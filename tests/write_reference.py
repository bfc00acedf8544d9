"""Writes from the code what the documents say of it: ``docs/reference``, and the house in ``docs/design.md``.

Run it after changing an option, a reason or a column of ``export``, and after moving a module.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import click

from sqspider.cli.main import cli
from sqspider.export import COLUMNS
from sqspider.record import BLOCKING_REASONS, Reason
from sqspider.retry import CARE, FINAL, RULES
from sqspider.tables.columns import Kind

ROOT: Final = Path(__file__).parent.parent
REFERENCE: Final = ROOT / "docs" / "reference"
DESIGN: Final = ROOT / "docs" / "design.md"
HOUSE: Final = re.compile(r"(?<=<!-- written from the code -->\n).*?(?=<!-- up to here -->)", re.S)

RECORD: Final = (ROOT / "src/sqspider/record.py").read_text()
MEANINGS: Final = dict(re.findall(r"^    ([A-Z_]+) = .*?# (.+)$", RECORD, re.M))
COLUMN_MEANINGS: Final = {
    **dict(re.findall(r"^    ([a-z_]+): .*?# (.+)$", RECORD, re.M)),
    "status": "`queued`, `processing`, `done`, `failed` or `blocked`",
    "reason": "why it failed or is blocked: [one of these](reasons.md)",
    "final_url": "where its redirects end: itself, if it is no redirect; none without an answer, or for a circle",
    "title": "of the page, on one line",
    "host": "of the URL, in canonical form",
    "enqueued_at": "when it was put in: recorded, or put back for a visit more",
    "finished_at": "when it was done, failed or blocked, last",
    "visits": "visits that have ended, as `done`, `failed` or `blocked`",
    "changed_at": "when a visit last found something else than the good one before",
    "error": "why the record cannot be read: then there is nothing but its URL",
    "redirect_to": "where its answer leads, if it is a redirect",
    "capture_file": "the file of the archive in which its last answer lies; none: there was none, or it is not kept",
    "capture_offset": "of its record in that file, in bytes",
    "capture_length": "of its record as it lies there, packed, in bytes",
    "payload_digest": "of the answer's payload as it was sent: `sha1:` and base32",
    "requisite": "a page needs it to be shown, and nothing else leads to it: it has no `depth` (`crawl --assets`)",
}
KINDS: Final = {
    Kind.TEXT: "text",
    Kind.INTEGER: "number",
    Kind.BOOLEAN: "true or false",
    Kind.TIME: "time, ISO 8601 in UTC",
    Kind.JSON: "object",
}


def command_line() -> str:
    """The help of every command, and of the commands within them."""
    head = "# The command line\n\nWritten from the program's own `--help`. [Exit statuses](exit-status.md).\n"
    _, *commands = _sections(cli, None)
    return "\n".join([head, f"```\n{cli.get_help(_context(cli, None))}\n```\n", *commands])


def _context(command: click.Command, parent: click.Context | None) -> click.Context:
    name = command.name if parent else "sqspider"
    settings = command.context_settings
    return click.Context(command, info_name=name, parent=parent, terminal_width=100, **settings)


def _sections(command: click.Command, parent: click.Context | None) -> Iterator[str]:
    context = _context(command, parent)
    yield f"## {context.command_path}\n\n```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _sections(inner, context)


def reasons() -> str:
    """The closed list of reasons, and when each is tried again."""
    lines = [
        "# Reasons",
        "",
        "Why a URL was refused, `failed` or `blocked`: the closed list, written from `record.py` and `retry.py`.",
        "",
        "A reason with 1 try is final at once. Waits double with each try, up to an hour, with up to a quarter more",
        "by chance; `first wait` is a multiple of 2 s. `Retry-After` is the least. *slows*: the host is asked less",
        "often from then on; a 503 slows its host as a 429 does. 408 and 425 are tried three times, other client",
        "errors once.",
        "",
        "A try that is counted is a request that was made, while its host was well: `-` means that none is counted,",
        "and the URL waits. It ends with such a reason only when its host was given up; then `detail` says so.",
        "`whose` says whose trouble it may be: see [below](#trouble).",
        "",
        "| reason | tries | first wait | whose | ends as | meaning |",
        "|---|---|---|---|---|---|",
    ]
    for reason in Reason:
        rule = RULES.get(reason, FINAL)
        tries = str(rule.max_tries) if rule.max_tries else "-"
        wait = f"x {rule.wait_factor:g}" if rule.max_tries > 1 else ""
        whose = rule.fault.value if reason in RULES else ""
        whose += ", slows" if rule.slows else ""
        ends = "blocked" if reason in BLOCKING_REASONS else "failed"
        meaning = MEANINGS[reason.name]
        lines.append(f"| `{reason.value}` | {tries} | {wait} | {whose} | {ends} | {meaning} |")
    lines += [
        "",
        "## Trouble",
        "",
        "Who rests, who probes, when it ends and who is told, as the code reads it (`retry.py`). In words:",
        "[politeness](../politeness.md#trouble).",
        "",
        "| whose | who rests | who probes | over by | given up | told |",
        "|---|---|---|---|---|---|",
        *(
            f"| {fault.value} | {care.rests} | {care.probes} | {care.ends} | {care.gives_up} | {care.told} |"
            for fault, care in CARE.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def export() -> str:
    """The columns that ``export`` writes, in order."""
    lines = [
        "# What `export` writes",
        "",
        "A record a row, in this order; written from `export.py` and `record.py`. New columns may come after these; these keep",
        "their names ([what stays stable](../stability.md)). What there is not is `null`, in CSV empty. In Parquet a time is a",
        "timestamp; where a file has no objects they are JSON. [How they are chosen and written](../guides/export.md).",
        "",
        "| column | type | meaning |",
        "|---|---|---|",
    ]
    lines += [f"| `{column.name}` | {KINDS[column.kind]} | {COLUMN_MEANINGS[column.name]} |" for column in COLUMNS]
    return "\n".join(lines) + "\n"


def house() -> str:
    """The order of imports, and every module with the first sentence of its docstring, room by room."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract.get("containers") == ["sqspider"])
    return "\n".join(["", "```", *layers, "```", "", *_rooms(ROOT / "src" / "sqspider"), *_rooms(ROOT / "infra")])


def _rooms(folder: Path) -> Iterator[str]:
    files = sorted(folder.glob("*.py"), key=lambda file: (file.stem != "__init__", file.name))
    yield from (f"**`{folder.relative_to(ROOT).as_posix()}/`**", "", "| file | |", "|---|---|")
    yield from (f"| `{file.name}` | {_said_of(file)} |" for file in files)
    yield ""
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and list(path.glob("*.py"))):
        yield from _rooms(inner)


def _said_of(file: Path) -> str:
    """The first sentence of a module's docstring, as Markdown."""
    paragraph = (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n\n")[0]
    sentence = re.split(r"(?<=[.:]) (?=[A-Z])", " ".join(paragraph.split()))[0]
    return re.sub(r":\w+:(?=`)", "", sentence).replace("``", "`").rstrip(".:").replace("|", "\\|")


PAGES: Final[dict[str, Callable[[], str]]] = {"cli.md": command_line, "reasons.md": reasons, "export.md": export}


if __name__ == "__main__":
    for name, write in PAGES.items():
        (REFERENCE / name).write_text(write())
    DESIGN.write_text(HOUSE.sub(lambda _: house(), DESIGN.read_text()))
