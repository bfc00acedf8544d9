"""The documents name tests, files and commands: all of them are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
TESTS = "\n".join(file.read_text() for file in (ROOT / "tests").rglob("*.py"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_and_file_that_a_document_names_is_there(document: Path) -> None:
    text = document.read_text()
    names = set(re.findall(r"`(test_\w+)`", text))
    assert [name for name in sorted(names) if not re.search(rf"def {name}\(", TESTS)] == []
    paths = set(re.findall(r"`((?:tests|bench|infra|docs)/[\w/.]+)`", text))
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
