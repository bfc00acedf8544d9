"""Tells the command line where a deployment is, by the ``.env`` of this folder; other lines there stay.

python infra/env_file.py write .env OUTPUTS.json STACK
python infra/env_file.py clear .env
python infra/env_file.py kept OUTPUTS.json STACK      what stays when the stack is destroyed
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

VARIABLES: Final = {
    "QUEUE_URL": "QueueUrl",
    "TABLE_NAME": "TableName",
    "AWS_REGION": "Region",
    "SQSPIDER_ARCHIVE": "Archive",  # where there is one
    "SQSPIDER_ARCHIVE_DAYS": "ArchiveDays",  # where it deletes pages by their age
}
ANY_KEPT: Final = """\
A table that was deployed with keep_table=true, the default, stays with all that was crawled; and so does a bucket with
the pages (archive=true, the default)."""
KEPT_ARCHIVE: Final = """\
The bucket {bucket} stays, with the pages that were kept. To remove it as well, at any time after it:
  aws s3 rb s3://{bucket} --force"""
KEPT: Final = """\
The table {table} stays, with all that was crawled (keep_table=true). To remove it as well:
  make deploy SET=keep_table=false        before the stack is destroyed; or at any time after it
  aws dynamodb update-table --table-name {table} --no-deletion-protection-enabled
  aws dynamodb delete-table --table-name {table}"""


def main(arguments: list[str]) -> int:
    action, *rest = arguments
    if action == "write":
        write(Path(rest[0]), outputs_of(rest[2], Path(rest[1])) or {})
    elif action == "clear":
        clear(Path(rest[0]))
    else:
        print(kept(outputs_of(rest[1], Path(rest[0]))))
    return 0


def outputs_of(stack: str, file: Path) -> dict[str, Any] | None:
    """What a stack put out when it was deployed from here; none if it was not."""
    outputs: dict[str, Any] | None = json.loads(file.read_text()).get(stack) if file.exists() else None
    return outputs


def write(file: Path, outputs: dict[str, Any]) -> None:
    """Name the deployment of these outputs in ``.env``."""
    lines = [f"{variable}={outputs[output]}" for variable, output in VARIABLES.items() if output in outputs]
    _replace(file, lines)
    print(f"written to {file}, which sqspider reads in its folder:", *lines, sep="\n  ")


def clear(file: Path) -> None:
    """Name none any more."""
    _replace(file, [])


def kept(outputs: dict[str, Any] | None) -> str:
    """What a destroyed stack leaves, and how that is removed."""
    if outputs is None:
        return ANY_KEPT
    left = [KEPT.format(table=outputs["KeptTable"])] if "KeptTable" in outputs else []
    left += [KEPT_ARCHIVE.format(bucket=outputs["KeptArchive"])] if "KeptArchive" in outputs else []
    return "\n".join(left) or "Nothing stays of the stack."


def _replace(file: Path, lines: list[str]) -> None:
    old = file.read_text().splitlines() if file.exists() else []
    left = [line for line in old if line.partition("=")[0].strip() not in VARIABLES] + lines
    if left:
        file.write_text("".join(f"{line}\n" for line in left))
    else:
        file.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
