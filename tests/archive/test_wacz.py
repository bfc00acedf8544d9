"""A WACZ that others can read: whole or not there, its entries stored, its index leading to each capture."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sqspider.archive import wacz
from sqspider.archive.errors import ArchiveError, DamagedError
from sqspider.archive.folder import Folder
from sqspider.archive.wacz import Page, Wacz, pages_of, write_wacz
from sqspider.record import Outcome, Status, UrlRecord

from .small_warcs import NOON, Warc, fields_of, unpacked

INSTALLED = Path(__file__).parent.parent.parent / ".engines"


def archive(folder: Path) -> Folder:
    one, other = Warc("one.warc.gz"), Warc("20260501/two.warc.gz")
    for page in range(20):
        one.response(f"http://a.test/{page}", f"<title>{page}</title>".encode(), NOON + page)
        other.response(f"http://b.test/{page}", b"x", NOON + page, kind="image/png")
    one.response("http://a.test/3", b"<p>again", NOON + 1000)
    one.response("http://a.test/none", b"", NOON, status="404 Not Found")
    one.write(folder)
    other.write(folder)
    return Folder(str(folder))


def written(tmp_path: Path, **options: Any) -> tuple[Wacz, zipfile.ZipFile]:
    files = archive(tmp_path / "archive")
    to = tmp_path / "all.wacz"
    done = write_wacz(files, to, now=NOON, **options)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["all.wacz"]
    return done, zipfile.ZipFile(to)


def lines(file: zipfile.ZipFile, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read(name).splitlines()]


def test_entries_are_stored_and_told_of_with_their_digests(tmp_path: Path) -> None:
    done, file = written(tmp_path)
    assert (done.files, done.captures, done.pages, done.left_out) == (2, 42, 20, ())
    assert all(info.compress_type == zipfile.ZIP_STORED for info in file.infolist())
    package = json.loads(file.read("datapackage.json"))
    assert (package["wacz_version"], package["profile"]) == ("1.1.1", "data-package")
    told = {each["path"]: each for each in package["resources"]}
    assert told.keys() == set(file.namelist()) - {"datapackage.json", "datapackage-digest.json"}
    for path, each in told.items():
        content = file.read(path)
        assert (each["bytes"], each["hash"]) == (len(content), f"sha256:{hashlib.sha256(content).hexdigest()}")
    digest = json.loads(file.read("datapackage-digest.json"))
    assert digest["hash"] == f"sha256:{hashlib.sha256(file.read('datapackage.json')).hexdigest()}"
    assert file.read("archive/one.warc.gz") == (tmp_path / "archive/one.warc.gz").read_bytes()


def test_the_index_leads_to_each_capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wacz, "BLOCK_LINES", 5)
    _, file = written(tmp_path)
    heads = file.read("indexes/index.idx").decode().splitlines()
    assert json.loads(heads[0].partition(" 0 ")[2]) == {"format": "cdxj-gzip-1.0", "filename": "index.cdx.gz"}
    index = file.read("indexes/index.cdx.gz")
    all_lines = []
    for head in heads[1:]:
        key, time, place = head.split(" ", 2)
        said = json.loads(place)
        block = index[said["offset"] : said["offset"] + said["length"]]
        assert said["digest"] == f"sha256:{hashlib.sha256(block).hexdigest()}"
        block_lines = gzip.decompress(block).decode().splitlines()
        assert block_lines[0].startswith(f"{key} {time} {{")
        all_lines += block_lines
    assert len(heads) == 1 + 9
    assert all_lines == sorted(all_lines)
    for line in all_lines:
        said = json.loads(line.split(" ", 2)[2])
        start, length = int(said["offset"]), int(said["length"])
        ((_, content),) = unpacked(file.read(f"archive/{said['filename']}")[start : start + length])
        assert fields_of(content)["warc-target-uri"] == said["url"]


def test_pages_are_those_of_the_index_or_of_the_frontier(tmp_path: Path) -> None:
    _, file = written(tmp_path / "1")
    head, *pages = lines(file, "pages/pages.jsonl")
    assert head["format"] == "json-pages-1.0"
    assert {page["url"] for page in pages} == {f"http://a.test/{page}" for page in range(20)}
    assert next(page["ts"] for page in pages if page["url"].endswith("/3")) == "2026-05-01T12:16:40Z"
    told = [
        Page("http://a.test/1", NOON, "One", file="one.warc.gz"),
        Page("http://a.test/0", NOON + 1, None, is_seed=True),
        Page("http://a.test/2", NOON, file="elsewhere.warc.gz"),
    ]
    done, file = written(tmp_path / "2", pages=told, title="Mine")
    _, one, seed = lines(file, "pages/pages.jsonl")
    assert (one["title"], one["ts"], "seed" in one) == ("One", "2026-05-01T12:00:00Z", False)
    assert (seed["seed"], "title" in seed) == (True, False)
    package = json.loads(file.read("datapackage.json"))
    assert (package["title"], package["mainPageUrl"]) == ("Mine", "http://a.test/0")
    assert done.pages == 2


def test_a_url_may_have_what_begins_the_fields_of_a_line(tmp_path: Path) -> None:
    url = "http://a.test/?q=%7B%22a%22:%201%7D"
    warc = Warc("two.warc.gz")
    warc.response(url, b"<title>x</title>", NOON)
    warc.write(tmp_path / "archive" / "20260501")
    write_wacz(Folder(str(tmp_path / "archive")), tmp_path / "all.wacz", now=NOON)
    file = zipfile.ZipFile(tmp_path / "all.wacz")
    (line,) = gzip.decompress(file.read("indexes/index.cdx.gz")).splitlines()
    assert b"{" in line.split(b" ")[0]
    assert json.loads(line.split(b" ", 2)[2])["filename"] == "20260501-two.warc.gz"
    assert [page["url"] for page in lines(file, "pages/pages.jsonl")[1:]] == [url]


def test_a_url_of_others_need_not_be_utf_8(tmp_path: Path) -> None:
    warc = Warc("one.warc.gz", pack=lambda data: gzip.compress(data.replace(b"/~", b"/\xff")))
    warc.response("http://a.test/~", b"<title>x</title>", NOON)
    warc.write(tmp_path / "archive")
    write_wacz(Folder(str(tmp_path / "archive")), tmp_path / "all.wacz", now=NOON)
    (page,) = lines(zipfile.ZipFile(tmp_path / "all.wacz"), "pages/pages.jsonl")[1:]
    assert page["url"] == "http://a.test/\udcff"


def test_a_list_that_is_shown_at_once_is_no_longer_than_can_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wacz, "LISTED_PAGES", 5)
    done, file = written(tmp_path)
    assert done.pages == 20
    assert len(lines(file, "pages/pages.jsonl")) == 6
    assert len(lines(file, "pages/extraPages.jsonl")) == 16


def test_pages_of_records() -> None:
    place = Warc("a.warc.gz").response("http://a.test/", b"x")

    def record(name: str, depth: int = 0, **outcome: Any) -> UrlRecord:
        said = {"status": Status.DONE, "http_status": 200, "content_type": "text/html", "capture": place, **outcome}
        return UrlRecord(
            url=f"http://a.test/{name}", status=said["status"], depth=depth, parent="http://a.test/" if depth else None,
            outcome=Outcome(**said),
        )  # fmt: skip

    records = [
        record("seed", title="T"), record("below", 1), record("image", content_type="image/png"),
        record("redirect", http_status=301, redirect_to="http://a.test/"), record("unkept", capture=None),
        record("failed", status=Status.FAILED),
    ]  # fmt: skip
    assert list(pages_of(records)) == [
        Page("http://a.test/seed", NOON, "T", is_seed=True, file="a.warc.gz"),
        Page("http://a.test/below", NOON, file="a.warc.gz"),
    ]  # fmt: skip


def test_what_cannot_be_in_it_is_said_and_the_old_file_stays(tmp_path: Path) -> None:
    files = archive(tmp_path / "archive")
    to = tmp_path / "all.wacz"
    to.write_text("old")
    being_written = Warc("z.warc.gz")
    being_written.write(tmp_path / "archive", is_open=True)
    torn = Warc("torn.warc.gz")
    torn.response("http://a.test/torn", b"torn" * 100)
    torn.content = torn.content[:-30]
    torn.write(tmp_path / "archive")
    with pytest.raises(DamagedError, match="torn"):
        write_wacz(files, to, now=NOON)
    assert to.read_text() == "old"
    (tmp_path / "archive/torn.warc.gz").rename(tmp_path / "archive/other.warc.zst")
    with pytest.raises(ArchiveError, match="`zstd -d`, and pack that with `warcio recompress`"):
        write_wacz(files, to, now=NOON)
    assert to.read_text() == "old"
    (tmp_path / "archive/other.warc.zst").unlink()
    assert write_wacz(files, to, now=NOON).left_out == ("z.warc.gz",)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.wacz", "archive"]
    with pytest.raises(ArchiveError, match="cannot be written"):
        write_wacz(files, tmp_path / "none/all.wacz", now=NOON)


def test_the_judge_finds_nothing_wrong(tmp_path: Path) -> None:
    found = sorted(INSTALLED.glob("judge-warcio-*/venv/bin/wacz"))
    if not found:
        pytest.skip("the judges of archives are not installed: make engines")
    _, file = written(tmp_path, pages=[Page("http://a.test/1", NOON, "One", is_seed=True)])
    judge = subprocess.run(
        [found[0], "validate", "-f", str(file.filename)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )  # fmt: skip
    assert judge.returncode == 0, judge.stdout
    assert "Validation succeeded" in judge.stdout, judge.stdout


def test_what_does_not_fit_into_memory_need_not(tmp_path: Path) -> None:
    """A file of a size that a ZIP without its extension could not have, as far as the entries say."""
    files = archive(tmp_path / "archive")
    large = Warc("large.warc", pack=bytes)
    large.response("http://large.test/", random.Random(1).randbytes(3_000_000))
    large.write(tmp_path / "archive")
    write_wacz(files, tmp_path / "all.wacz", now=NOON)
    with zipfile.ZipFile(tmp_path / "all.wacz") as file:
        assert file.testzip() is None
        assert file.getinfo("archive/large.warc").file_size == len(large.content)
        assert file.getinfo("archive/large.warc").extract_version >= 45, "it could be larger than 4 GB"
