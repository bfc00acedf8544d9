"""What `docs/python.md` shows runs as it stands there, but for the site that is crawled."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sites import Site

DOCUMENTS = Path(__file__).parent.parent.parent
GUIDE = (DOCUMENTS / "docs" / "python.md").read_text()
README = (DOCUMENTS / "README.md").read_text()
EXAMPLES = [
    (name, match[1])
    for name, text in (("guide", GUIDE), ("readme", README))
    for match in re.finditer(r"^```python\n(.+?)^```$", text, re.M | re.S)
]
START = '"https://example.com/"'


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    site.bodies = {
        "/": b'<title>Start</title><a href="/1">One</a><a href="/2">News</a><a href="/absent">Absent</a>',
        **{f"/{n}": f'<title>{n}</title><a href="/{n + 2}">On</a>'.encode() for n in range(1, 30)},
    }
    yield site
    site.close()


def run(example: str, site: Site, folder: Path) -> str:
    assert START in example
    example = example.replace(START, f'"{site.url}", delay_seconds=0, allow_private=True')
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize(("where", "example"), EXAMPLES, ids=lambda text: text.strip().splitlines()[-1].strip()[:40])
def test_an_example_runs(site: Site, tmp_path: Path, where: str, example: str) -> None:
    out = run(example, site, tmp_path)
    assert out or (tmp_path / "pages.jsonl").read_text().count("\n") > 1, where


def test_the_page_in_hand_at_a_stop_does_not_come_again(site: Site, tmp_path: Path) -> None:
    (example,) = [text for _, text in EXAMPLES if "pages.stop()" in text]
    first, second = run(example, site, tmp_path).split(), run(example, site, tmp_path).split()
    assert len(first) == 10
    assert second
    assert not set(first) & set(second)


def test_what_is_added_is_crawled(site: Site, tmp_path: Path) -> None:
    (example,) = [text for _, text in EXAMPLES if "pages.add(link)" in text]
    run(example, site, tmp_path)
    assert {"/", "/2"} <= set(site.paths)
    assert "/1" not in site.paths
