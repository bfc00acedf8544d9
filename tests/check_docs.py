"""Checks the documentation: every relative link and anchor leads somewhere. Run by ``make check``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.M | re.S)
HEADING = re.compile(r"^#+ +(.+?) *$", re.M)


def anchors_of(text: str) -> set[str]:
    """The anchors of a document's headings, as the usual renderers make them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(FENCE.sub("", text))
    }


def main() -> int:
    """Print each dead link; the exit status is 1 if there is one."""
    dead = []
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    for document in documents:
        for target in LINK.findall(FENCE.sub("", document.read_text())):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (document.parent / path).resolve() if path else document
            is_dead = not file.exists()
            if not is_dead and anchor and file.suffix == ".md":
                is_dead = anchor not in anchors_of(file.read_text())
            if is_dead:
                dead.append(f"{document.relative_to(ROOT)}: {target}")
    sys.stdout.write("".join(f"dead link in {line}\n" for line in dead))
    sys.stdout.write(f"{len(documents)} documents, {len(dead)} dead links\n")
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
