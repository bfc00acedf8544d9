"""Tells the command line where a deployment is, by the ``.env`` of this folder; other lines there stay.

python infra/env_file.py write OUTPUTS.json STACK
python infra/env_file.py clear
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

VARIABLES: Final = {"QUEUE_URL": "QueueUrl", "TABLE_NAME": "TableName", "AWS_REGION": "Region"}


def main(arguments: list[str]) -> int:
    file = Path(arguments[1])
    old = file.read_text().splitlines() if file.exists() else []
    lines = [line for line in old if line.partition("=")[0].strip() not in VARIABLES]
    if arguments[0] == "write":
        outputs = json.loads(Path(arguments[2]).read_text())[arguments[3]]
        new = [f"{variable}={outputs[output]}" for variable, output in VARIABLES.items()]
        lines += new
        print(f"written to {file}, which sqspider reads in its folder:", *new, sep="\n  ")
    if lines:
        file.write_text("".join(f"{line}\n" for line in lines))
    else:
        file.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
