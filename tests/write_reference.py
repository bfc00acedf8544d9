"""Writes from the code what the documents say of it: ``docs/reference``, and the house in ``docs/design.md``.
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
Run it after changing an option, a reason or a column of ``export``, and after moving a module.
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
"""
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
from __future__ import annotations
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
import ast
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
import re
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
import tomllib
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
from collections.abc import Callable, Iterator
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
from pathlib import Path
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
from typing import Final
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
import click
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
from sqspider.cli.main import cli
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
from sqspider.export import COLUMNS
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
from sqspider.record import BLOCKING_REASONS, Reason
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
from sqspider.retry import CARE, FINAL, RULES
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
from sqspider.tables.columns import Kind
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
ROOT: Final = Path(__file__).parent.parent
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
REFERENCE: Final = ROOT / "docs" / "reference"
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
DESIGN: Final = ROOT / "docs" / "design.md"
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
HOUSE: Final = re.compile(r"(?<=<!-- written from the code -->\n).*?(?=<!-- up to here -->)", re.S)
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
RECORD: Final = (ROOT / "src/sqspider/record.py").read_text()
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
MEANINGS: Final = dict(re.findall(r"^    ([A-Z_]+) = .*?# (.+)$", RECORD, re.M))
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
COLUMN_MEANINGS: Final = {
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    **dict(re.findall(r"^    ([a-z_]+): .*?# (.+)$", RECORD, re.M)),
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    "status": "`queued`, `processing`, `done`, `failed` or `blocked`",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    "reason": "why it failed or is blocked: [one of these](reasons.md)",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    "final_url": "where its redirects end: itself, if it is no redirect; none without an answer, or for a circle",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    "title": "of the page, on one line",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    "host": "of the URL, in canonical form",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    "enqueued_at": "when it was put in: recorded, or put back for a visit more",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    "finished_at": "when it was done, failed or blocked, last",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    "visits": "visits that have ended, as `done`, `failed` or `blocked`",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    "changed_at": "when a visit last found something else than the good one before",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    "error": "why the record cannot be read: then there is nothing but its URL",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    "redirect_to": "where its answer leads, if it is a redirect",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    "capture_file": "the file of the archive in which its last answer lies; none: there was none, or it is not kept",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    "capture_offset": "of its record in that file, in bytes",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    "capture_length": "of its record as it lies there, packed, in bytes",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    "payload_digest": "of the answer's payload as it was sent: `sha1:` and base32",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
}
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
KINDS: Final = {
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    Kind.TEXT: "text",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    Kind.INTEGER: "number",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    Kind.BOOLEAN: "true or false",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    Kind.TIME: "time, ISO 8601 in UTC",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    Kind.JSON: "object",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
}
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
def command_line() -> str:
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    """The help of every command, and of the commands within them."""
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    head = "# The command line\n\nWritten from the program's own `--help`. [Exit statuses](exit-status.md).\n"
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    _, *commands = _sections(cli, None)
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    return "\n".join([head, f"```\n{cli.get_help(_context(cli, None))}\n```\n", *commands])
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
def _context(command: click.Command, parent: click.Context | None) -> click.Context:
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    name = command.name if parent else "sqspider"
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    settings = command.context_settings
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    return click.Context(command, info_name=name, parent=parent, terminal_width=100, **settings)
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
def _sections(command: click.Command, parent: click.Context | None) -> Iterator[str]:
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    context = _context(command, parent)
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    yield f"## {context.command_path}\n\n```\n{command.get_help(context)}\n```\n"
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    if isinstance(command, click.Group):
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        for name in command.list_commands(context):
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
            inner = command.get_command(context, name)
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
            assert inner is not None
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
            yield from _sections(inner, context)
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
def reasons() -> str:
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    """The closed list of reasons, and when each is tried again."""
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    lines = [
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "# Reasons",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "Why a URL was refused, `failed` or `blocked`: the closed list, written from `record.py` and `retry.py`.",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "A reason with 1 try is final at once. Waits double with each try, up to an hour, with up to a quarter more",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "by chance; `first wait` is a multiple of 2 s. `Retry-After` is the least. *slows*: the host is asked less",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "often from then on; a 503 slows its host as a 429 does. 408 and 425 are tried three times, other client",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "errors once.",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "A try that is counted is a request that was made, while its host was well: `-` means that none is counted,",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "and the URL waits. It ends with such a reason only when its host was given up; then `detail` says so.",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "`whose` says whose trouble it may be: see [below](#trouble).",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "| reason | tries | first wait | whose | ends as | meaning |",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "|---|---|---|---|---|---|",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    ]
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    for reason in Reason:
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        rule = RULES.get(reason, FINAL)
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        tries = str(rule.max_tries) if rule.max_tries else "-"
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        wait = f"x {rule.wait_factor:g}" if rule.max_tries > 1 else ""
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        whose = rule.fault.value if reason in RULES else ""
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        whose += ", slows" if rule.slows else ""
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        ends = "blocked" if reason in BLOCKING_REASONS else "failed"
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        meaning = MEANINGS[reason.name]
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        lines.append(f"| `{reason.value}` | {tries} | {wait} | {whose} | {ends} | {meaning} |")
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    lines += [
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "## Trouble",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "Who rests, who probes, when it ends and who is told, as the code reads it (`retry.py`). In words:",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "[politeness](../politeness.md#trouble).",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "| whose | who rests | who probes | over by | given up | told |",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "|---|---|---|---|---|---|",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        *(
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
            f"| {fault.value} | {care.rests} | {care.probes} | {care.ends} | {care.gives_up} | {care.told} |"
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
            for fault, care in CARE.items()
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        ),
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    ]
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    return "\n".join(lines) + "\n"
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
def export() -> str:
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    """The columns that ``export`` writes, in order."""
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    lines = [
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "# What `export` writes",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "A record a row, in this order; written from `export.py` and `record.py`. New columns may come after these; these keep",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "their names ([what stays stable](../stability.md)). What there is not is `null`, in CSV empty. In Parquet a time is a",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "timestamp; where a file has no objects they are JSON. [How they are chosen and written](../guides/export.md).",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "| column | type | meaning |",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        "|---|---|---|",
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    ]
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    lines += [f"| `{column.name}` | {KINDS[column.kind]} | {COLUMN_MEANINGS[column.name]} |" for column in COLUMNS]
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    return "\n".join(lines) + "\n"
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
def house() -> str:
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    """The order of imports, and every module with the first sentence of its docstring, room by room."""
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    with (ROOT / "pyproject.toml").open("rb") as file:
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    layers = next(contract["layers"] for contract in contracts if contract.get("containers") == ["sqspider"])
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    return "\n".join(["", "```", *layers, "```", "", *_rooms(ROOT / "src" / "sqspider"), *_rooms(ROOT / "infra")])
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
def _rooms(folder: Path) -> Iterator[str]:
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    files = sorted(folder.glob("*.py"), key=lambda file: (file.stem != "__init__", file.name))
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    yield from (f"**`{folder.relative_to(ROOT).as_posix()}/`**", "", "| file | |", "|---|---|")
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    yield from (f"| `{file.name}` | {_said_of(file)} |" for file in files)
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    yield ""
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and list(path.glob("*.py"))):
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        yield from _rooms(inner)
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
def _said_of(file: Path) -> str:
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    """The first sentence of a module's docstring, as Markdown."""
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    paragraph = (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n\n")[0]
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    sentence = re.split(r"(?<=[.:]) (?=[A-Z])", " ".join(paragraph.split()))[0]
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    return re.sub(r":\w+:(?=`)", "", sentence).replace("``", "`").rstrip(".:").replace("|", "\\|")
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
PAGES: Final[dict[str, Callable[[], str]]] = {"cli.md": command_line, "reasons.md": reasons, "export.md": export}
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",

    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
if __name__ == "__main__":
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    for name, write in PAGES.items():
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
        (REFERENCE / name).write_text(write())
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
    DESIGN.write_text(HOUSE.sub(lambda _: house(), DESIGN.read_text()))
    "requisite": "A page needs it to be shown, and no link within the crawl led to it: it has no depth (`crawl --assets`).",
