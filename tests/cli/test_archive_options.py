"""Where a crawl keeps pages, as a user says it, and what is said of it: on the command line and from Python."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sqspider as library
from sqspider.archive.addresses import files_at
from sqspider.orders.start import ArchivePlace
from tests.conftest import Run
from tests.sites import Site

HERE = ("--delay", "0", "--allow-private")
ROOT = b'<title>root</title><a href="/a">a</a><a href="/picture">p</a><a href="/gone">g</a>'


@pytest.fixture
def site() -> Iterator[Site]:
    """A page with links to another, to a picture and to nothing."""
    site = Site()
    site.bodies |= {
        "/": ROOT,
        "/a": b"<title>a</title>" + b"x" * 5000,
        "/picture": lambda _: (200, {"Content-Type": "image/png"}),
    }
    yield site
    site.close()


def warcs_in(folder: Path) -> list[str]:
    return [file.name for file in files_at(str(folder)).all()]


def rows(sqspider: Run) -> dict[str, dict[str, Any]]:
    """What is known of each URL, by its path."""
    lines = map(json.loads, sqspider("export").stdout.splitlines())
    return {"/" + line["url"].split("/", 3)[3]: line for line in lines}


# The place.


def test_a_crawl_keeps_its_pages_beside_its_frontier_and_says_so(sqspider: Run, site: Site, tmp_path: Path) -> None:
    done = sqspider("crawl", site.url, *HERE, "--json")
    assert "keeping pages in sqspider-archive (0 B so far)" in done.stderr.splitlines()[0]
    told = json.loads(done.stdout)["archive"]
    assert told["address"] == "sqspider-archive"
    assert told["files"] == len(warcs_in(tmp_path / "sqspider-archive")) == 1
    assert told["bytes"] == told["added_bytes"] > 1000
    again = sqspider("crawl", f"{site.url}?2", *HERE)
    assert "keeping pages in sqspider-archive (" in again.stderr
    assert "(0 B so far)" not in again.stderr
    assert "kept in sqspider-archive: " in again.stdout
    assert " in 2 files in all" in again.stdout
    status = json.loads(sqspider("status", "--json").stdout)["archive"]
    assert (status["address"], status["files"]) == ("sqspider-archive", 2)
    assert "archive: sqspider-archive: " in sqspider("status").stdout


def test_every_answer_has_its_place_in_the_record(sqspider: Run, site: Site) -> None:
    assert sqspider("crawl", site.url, *HERE, "--quiet").returncode == 0
    known = rows(sqspider)
    assert {path for path, row in known.items() if row["capture_file"]} == {"/", "/a", "/picture", "/gone"}


def test_a_place_of_ones_own_and_the_environments_and_none(
    sqspider: Run, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, (said, environment, kept_in) in enumerate(
        (
            (("--archive", "mine"), "theirs", "mine"),
            ((), "theirs", "theirs"),
            ((), "none", None),
            (("--no-archive",), "theirs", None),
            (("--archive", "none"), "theirs", None),
            (("--archive", "deep/er"), "none", "deep/er"),
        )
    ):
        monkeypatch.setenv("SQSPIDER_ARCHIVE", environment)
        before = {path.name for path in tmp_path.iterdir()}
        done = sqspider("crawl", site.url, *HERE, "--depth", "0", "--crawl", f"n{number}", *said, "--json")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)["archive"]
        if kept_in is None:
            assert told is None
            assert {path.name for path in tmp_path.iterdir()} - before <= {"sqspider.db"}
        else:
            assert told["address"] == kept_in
            assert len(warcs_in(tmp_path / kept_in)) == 1


def test_nothing_is_kept_of_a_frontier_in_memory(sqspider: Run, site: Site, tmp_path: Path) -> None:
    done = sqspider("--frontier", "sqlite::memory:", "crawl", site.url, *HERE, "--json")
    assert json.loads(done.stdout)["archive"] is None
    assert list(tmp_path.iterdir()) == []


def test_workers_that_are_processes_keep_pages_in_files_of_their_own(
    sqspider: Run, served_site: str, tmp_path: Path
) -> None:
    done = sqspider(
        "crawl", served_site, *HERE, "--exclude", "slow|huge|flaky", "--workers", "2", "--archive", "mine", "--json"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["archive"]["address"] == "mine"
    files = warcs_in(tmp_path / "mine")
    assert 1 <= len(files) <= 2
    known = rows(sqspider)
    assert {row["capture_file"] for row in known.values() if row["http_status"]} == set(files)


def test_consumers_keep_pages_too(sqspider: Run, site: Site, tmp_path: Path) -> None:
    sqspider("enqueue", f"{site.url}a", "--delay", "0")
    done = sqspider("consume", "--allow-private", "--until-empty")
    assert done.returncode == 0, done.stderr
    assert "keeping_pages" in done.stderr
    assert "archive=sqspider-archive bytes=0" in done.stderr
    assert rows(sqspider)["/a"]["capture_file"] in warcs_in(tmp_path / "sqspider-archive")
    sqspider("enqueue", f"{site.url}a?2", "--delay", "0")
    assert sqspider("consume", "--allow-private", "--until-empty", "--no-archive").returncode == 0
    assert rows(sqspider)["/a?2"]["capture_file"] is None


def test_looking_ahead_keeps_nothing(sqspider: Run, site: Site, tmp_path: Path) -> None:
    assert sqspider("crawl", site.url, *HERE, "--dry-run").returncode == 0
    assert sqspider("enqueue", site.url).returncode == 0
    assert sqspider("explain", f"{site.url}a").returncode == 1, "it is not followed from a page by itself"
    assert list(tmp_path.glob("*archive*")) == []


# What is refused, before anything is fetched.


@pytest.mark.parametrize("command", [("crawl",), ("consume",)])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--archive", "letter.txt"), "--archive: letter.txt can be no folder: it is a file"),
        (("--archive", "letter.txt/x"), "--archive: letter.txt/x can be no folder"),
        (("--archive", "full"), "--archive: full holds other things and no WARC file"),
        (("--archive", ""), "--archive: '' is neither a folder nor s3://BUCKET/PREFIX"),
        (("--archive", "s3://"), "--archive: s3:// names no bucket"),
        (
            ("--archive", "s3://bucket/pages", "--timeout", "10", "--lease", "32"),
            "a lease of 32 s is too short: it must be",
        ),
        (
            ("--archive", "s3://bucket/pages", "--timeout", "10", "--lease", "32"),
            "See --lease and --timeout, and --archive",
        ),
        (("--archive", "x", "--no-archive"), "--archive and --no-archive exclude each other"),
        (("--no-archive", "--archive-max-bytes", "5"), "--archive-max-bytes: no page is kept here"),
        (("--archive-max-bytes", "0"), "--archive-max-bytes"),
        (("--archive-coding", "rar"), "--archive-coding"),
    ],
)
def test_what_can_be_no_archive_is_refused_before_anything_is_fetched(
    sqspider: Run, site: Site, tmp_path: Path, command: tuple[str, ...], arguments: tuple[str, ...], says: str
) -> None:
    (tmp_path / "letter.txt").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    urls = (site.url,) if command == ("crawl",) else ("--until-empty",)
    done = sqspider(*command, *urls, *arguments)
    assert done.returncode == 2
    assert says in " ".join(done.stderr.replace("\u2502", "").split())
    assert site.requests == []
    assert not (tmp_path / "sqspider.db").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a folder in which nobody can write")
def test_a_folder_that_cannot_be_written_is_named_with_why(sqspider: Run, site: Site) -> None:
    done = sqspider("crawl", site.url, *HERE, "--archive", "/proc/self/pages")
    assert done.returncode == 2
    assert "--archive: /proc/self/pages cannot be written: " in done.stderr
    assert site.requests == []


# How much, and what.


def test_a_crawl_stops_by_itself_where_the_archive_is_full_and_goes_on(sqspider: Run, site: Site) -> None:
    """What was fetched and not kept is fetched again."""
    done = sqspider("crawl", site.url, *HERE, "--archive-max-bytes", "1")
    assert done.returncode == 1, done.stderr
    assert "raise --archive-max-bytes" in done.stderr
    assert "URL is left" in done.stderr or "URLs are left" in done.stderr
    assert all(row["http_status"] is None or row["capture_file"] for row in rows(sqspider).values())
    rest = sqspider("crawl", *HERE)
    assert rest.returncode == 0, rest.stderr
    assert all(row["capture_file"] for row in rows(sqspider).values())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_archive_that_is_full_already_is_told_before(sqspider: Run, site: Site, workers: str) -> None:
    assert sqspider("crawl", site.url, *HERE).returncode == 0
    done = sqspider("crawl", f"{site.url}?2", *HERE, "--archive-max-bytes", "100", "--workers", workers)
    assert done.returncode == 1
    assert "sqspider-archive has reached --archive-max-bytes already" in done.stderr
    assert "raise --archive-max-bytes if it was said" in done.stderr
    assert "1 URL is left" in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system with little room."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no small file system can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_disk_that_is_nearly_full_is_told_before_and_stops_the_crawl(
    sqspider: Run, site: Site, small_disk: Path, workers: str
) -> None:
    pages = small_disk / "pages"
    done = sqspider("crawl", site.url, *HERE, "--archive", str(pages), "--workers", workers)
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert f"the disk of {pages} is nearly full: 8.4 MB left. The crawl stops by itself at 1.0 GB" in said
    assert "1 URL is left: `sqspider crawl` goes on with it" in said
    assert rows(sqspider)["/"]["status"] == "queued"
    rest = sqspider("crawl", *HERE)
    assert rest.returncode == 0, rest.stderr
    assert len([row for row in rows(sqspider).values() if row["capture_file"]]) == 4


def test_a_consumer_that_has_no_room_says_what_to_do(sqspider: Run, site: Site) -> None:
    assert sqspider("crawl", site.url, *HERE).returncode == 0
    sqspider("enqueue", f"{site.url}?2", "--delay", "0")
    done = sqspider("consume", "--allow-private", "--until-empty", "--archive-max-bytes", "1")
    assert done.returncode == 1
    assert "sqspider-archive has reached --archive-max-bytes already" in done.stderr
    assert "stopped: " in done.stderr
    assert "raise --archive-max-bytes" in done.stderr


def test_a_crawl_says_what_of_it_is_kept(sqspider: Run, site: Site) -> None:
    done = sqspider("crawl", site.url, *HERE, "--keep", "text/html", "--keep-bytes", "100")
    assert "keeping pages of text/html in sqspider-archive" in done.stderr
    known = rows(sqspider)
    assert {path for path, row in known.items() if row["capture_file"]} == {"/", "/a", "/gone"}
    shown = sqspider("crawls", "show", "default").stdout
    assert "text/html" in shown
    toml = sqspider("crawls", "show", "default", "--toml").stdout
    assert 'keep = ["text/html"]\nkeep-bytes = 100\n' in toml
    changed = sqspider("crawls", "set", "default", "--keep", "none", "--unset", "keep-bytes")
    assert "keep text/html → none" in changed.stdout
    assert "keep none → all" in sqspider("crawls", "set", "default", "--unset", "keep").stdout
    assert sqspider("crawls", "set", "default", "--keep", "none").returncode == 0
    none = sqspider("crawl", f"{site.url}?2", "--depth", "0")
    assert "keeping no pages: the crawl says --keep none\n" in none.stderr


def test_sizes_are_said_with_units(sqspider: Run, site: Site, tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('keep-bytes = "2 kB"\nmax-body = 4000\n')
    done = sqspider("crawl", site.url, *HERE, "--config", "own.toml", "--archive-max-bytes", "1.5GB", "--quiet")
    assert done.returncode == 0, done.stderr
    assert "keep-bytes = 2000\nmax-body = 4000\n" in sqspider("crawls", "show", "default", "--toml").stdout
    changed = sqspider("crawls", "set", "default", "--keep-bytes", "5MB", "--limit-bytes", "2g", "--host-bytes", "7")
    assert "keep-bytes 2,000 → 5,000,000 bytes" in changed.stdout
    assert "limit-bytes none → 2,000,000,000 bytes" in changed.stdout
    for text in ("0", "0kB", "5XB", "5e3", "-1MB", "1.5", ""):
        assert sqspider("crawls", "set", "default", "--keep-bytes", text).returncode == 2, text


def test_sitemaps_are_kept_whatever_is_and_it_is_said_before(sqspider: Run, site: Site) -> None:
    listed = f"<urlset><url><loc>{site.url}a</loc></url></urlset>".encode()
    site.bodies["/sitemap.xml"] = listed
    site.with_bytes = {"Content-Type": "application/xml"}
    done = sqspider("crawl", site.url, *HERE, "--sitemaps", "--keep", "text/html", "--depth", "0")
    said = done.stderr.splitlines()
    assert [line.split()[0] for line in said[:2]] == ["keeping", "sitemap"], done.stderr
    assert done.stderr.count("keeping ") == 1
    found = sqspider("archive", "cat", f"{site.url}sitemap.xml")
    assert found.stdout == listed.decode()


# Removing it.


def test_cleanup_leaves_pages_unless_it_is_told_to(sqspider: Run, site: Site, tmp_path: Path) -> None:
    sqspider("crawl", site.url, *HERE)
    folder = tmp_path / "sqspider-archive"
    done = sqspider("cleanup", "--all", "--yes")
    assert "The pages that were kept stay in sqspider-archive (" in done.stderr
    assert len(warcs_in(folder)) == 1
    asked = sqspider("cleanup", "--archive")
    assert asked.returncode == 2, "nobody can be asked"
    assert "this removes 1 file with" in asked.stderr
    (folder / "index.cdxj").touch()
    removed = sqspider("cleanup", "--archive", "--yes")
    assert removed.returncode == 0, removed.stderr
    assert "removed 2 files with" in removed.stdout
    assert not folder.exists()
    none = sqspider("cleanup", "--archive", "--yes")
    assert (none.returncode, "there is none at sqspider-archive" in none.stderr) == (2, True)
    fresh = sqspider("cleanup", "--all", "--archive", "--yes")
    assert (fresh.returncode, "there is no archive at sqspider-archive" in fresh.stderr) == (0, True)


def test_cleanup_removes_no_file_of_somebody_else(sqspider: Run, site: Site, tmp_path: Path) -> None:
    sqspider("crawl", site.url, *HERE)
    folder = tmp_path / "sqspider-archive"
    others = {"letter.txt", "foreign.warc.gz", "other.wacz"}
    for name in others:
        (folder / name).write_bytes(b"theirs")
    done = sqspider("cleanup", "--all", "--archive", "--yes")
    assert done.returncode == 0, done.stderr
    assert "; 3 other files stay" in done.stdout
    assert set(warcs_in(folder)) == others


def test_cleanup_removes_what_the_dead_left_open_and_nothing_that_is_being_written(
    sqspider: Run, site: Site, tmp_path: Path
) -> None:
    sqspider("crawl", site.url, *HERE)
    folder = tmp_path / "sqspider-archive"
    name = warcs_in(folder)[0]
    opened = (folder / name).rename(folder / f"{name}.open")
    with opened.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as whoever writes it
        done = sqspider("cleanup", "--all", "--archive", "--yes")
    assert done.returncode == 2
    assert f"{name} in sqspider-archive is being written: stop the crawl" in " ".join(done.stderr.split())
    assert len(rows(sqspider)) == 4, "nothing was removed"
    assert sqspider("cleanup", "--archive", "--yes").returncode == 0
    assert not folder.exists()


# The demo.


def test_a_race_keeps_nothing(sqspider: Run) -> None:
    done = sqspider("demo", "race")
    frontier = re.search(r"Frontier: sqlite:(\S+)", done.stdout)
    assert frontier is not None
    assert [path.name for path in Path(frontier[1]).parent.iterdir() if path.is_dir()] == []


def test_the_demo_shows_what_is_kept(sqspider: Run) -> None:
    done = sqspider("demo", "--pages", "30")
    said = " ".join(done.stdout.split())
    assert re.search(r"Of [\d,]+ URLs the last answer is kept, as it was sent", said)
    shown = re.search(r"/page/1 is ([\d,]+) bytes of (\S+\.warc\.gz), from byte [\d,]+ on", said)
    folder = re.search(r"keeping pages in (\S+) \(0 B so far\)", done.stderr)
    assert shown is not None
    assert folder is not None
    assert warcs_in(Path(folder[1])) == [shown[2]]
    shutil.rmtree(Path(folder[1]).parent)


# From Python.


def test_a_page_is_kept_before_it_is_handed_out(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    seen = []
    for page in library.crawl(site.url, delay_seconds=0, allow_private=True, archive=str(folder)):
        assert page.capture is not None
        member = files_at(str(folder)).read(page.capture.file, page.capture.offset, page.capture.length)
        assert len(member) == page.capture.length
        seen.append(page.url)
    assert len(seen) == 4


def test_a_crawl_in_python_says_where_there_is_no_more_room(site: Site, tmp_path: Path) -> None:
    """And goes on, once there is."""
    said: dict[str, Any] = {
        "delay_seconds": 0, "allow_private": True, "frontier": f"sqlite:{tmp_path}/x.db", "archive": str(tmp_path / "pages"),
    }  # fmt: skip
    crawl = library.crawl(site.url, **said)
    crawl._archive = ArchivePlace(address=said["archive"], max_bytes=1)
    with pytest.raises(library.StoreError, match="pages"):
        list(crawl)
    assert len([page for page in library.crawl(site.url, **said) if page.capture]) == 4


def test_nothing_is_kept_in_python_unless_it_is_asked_for(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SQSPIDER_ARCHIVE", str(tmp_path / "theirs"))
    found = list(library.crawl(site.url, delay_seconds=0, allow_private=True, frontier="sqlite:x.db"))
    assert {page.capture for page in found} == {None}
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
