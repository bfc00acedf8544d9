"""What the guides of the harvest show runs as it stands there, and prints what stands there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.extract.common_crawl import NAME, Page, file_of
from tests.extract.guide_sites import CHEAPER, PRODUCTS, fill_company, fill_documentation, fill_shop
from tests.extract.guides import Done, Guide
from tests.sites import Site

TEXT = b"<html lang=en><title>%s</title><main><p>" + b"A worker claims a page and holds a lease. " * 8 + b"</main>"


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


def statuses(done: list[Done]) -> dict[str, int]:
    """Those blocks that did not end well."""
    return {each.block.text: each.status for each in done if each.status}


def test_prices(tmp_path: Path, site: Site) -> None:
    fill_shop(site)
    guide = Guide("prices.md", tmp_path, {"shop.example": site})
    guide.before("--again", lambda: fill_shop(site, CHEAPER))
    done = guide.follow()
    assert statuses(done) == {}, [each for each in done if each.status]
    rows = [json.loads(line) for line in (tmp_path / "daily.jsonl").read_text().splitlines()]
    assert {row["name"]: row["link"].rpartition("/")[2] for row in rows} == {name: name.lower() for name, _ in PRODUCTS}
    (tried,) = [each for each in done if "--limit 5" in each.block.text and "--rules" in each.block.text]
    assert {json.loads(line)["price"] for line in tried.output.splitlines()} == {1234.5, 89.0, 449.9, 129.0}


def test_a_corpus(tmp_path: Path, site: Site) -> None:
    fill_documentation(site)
    done = Guide("corpus.md", tmp_path, {"docs.example": site}).follow()
    assert statuses(done) == {}, [each for each in done if each.status]
    kept = [json.loads(line) for line in (tmp_path / "english.jsonl").read_text().splitlines()]
    paths = {row["url"].removeprefix(site.url) for row in kept}
    assert paths in ({"", "queue", "lease", "lease-near"}, {"", "queue", "lease-copy", "lease-near"})
    assert all(row["text"].startswith("# ") or "\n# " in row["text"] for row in kept)


def test_a_report_on_a_site(tmp_path: Path, site: Site) -> None:
    fill_company(site)
    done = Guide("seo.md", tmp_path, {"www.example": site}).follow()
    assert statuses(done) == {}, [each for each in done if each.status]


def test_old_archives(tmp_path: Path) -> None:
    old = tmp_path / "pages"
    old.mkdir()
    pages = [
        Page("https://docs.example/", TEXT % b"Start"),
        Page("https://docs.example/chunks", TEXT % b"Chunks", is_chunked=True),
        Page("https://docs.example/gzip", TEXT % b"Packed", is_packed=True, is_chunked=True),
        Page("https://docs.example/untyped", TEXT % b"Untyped", content_type=None),
        Page("https://cut.example/", b"<p>cut off", truncated="length"),
        Page("https://docs.example/gone", b"gone", http_status=404),
    ]
    for folder in (tmp_path, old):
        (folder / NAME).write_bytes(file_of(pages))
    done = Guide("old-archives.md", tmp_path, {}, {"/data/pages-of-2024": str(old)}).follow()
    assert statuses(done) == {}, [each for each in done if each.status]
    (missing,) = [json.loads(line) for line in (tmp_path / "missing.jsonl").read_text().splitlines()]
    assert missing["url"] == "https://docs.example/gone"
    titles = [json.loads(line)["title"] for line in (tmp_path / "june.jsonl").read_text().splitlines()]
    assert sorted(titles) == ["Chunks", "Packed", "Start", "Untyped"]
