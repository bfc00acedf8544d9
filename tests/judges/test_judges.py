"""What the tools of others say of our archives, and we of theirs."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
from collections import Counter
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from bench.corpus import EXCLUDE, Corpus

from sqspider.archive.cdxj import NAME, Line, parsed_line, write_index
from sqspider.archive.coding import Coding
from sqspider.archive.folder import Folder
from sqspider.archive.members import members
from sqspider.archive.reading import Captured, read_archive
from sqspider.archive.surt import surt_of
from tests.archive.ours import an_archive
from tests.archive.test_verify import faults_in
from tests.archive.warcs import good, packed, plain
from tests.conftest import Run
from tests.judges.judges import Replayed, asked, index_lines, replaying

URLS = [
    "http://www.example.org/A/../b//c?z&y=1&x=%41%2542",
    "https://münchen.example:8443/ä?ö",
    "http://192.0.2.1/a",
    "http://[2001:db8::1]:8080/a",
    "http://example.org/?sid=0123456789abcdef0123456789abcdef&b",
    "http://example.org/(S(4hqa0555fwsecu455xqckv45))/x.aspx",
]


async def _archive(folder: Path) -> list[Path]:
    await an_archive(folder)
    return files_in(folder)


def files_in(folder: Path, names: str = "*.warc.gz") -> list[Path]:
    return sorted(folder.glob(names))


async def test_warcio_finds_every_digest_right(tmp_path: Path) -> None:
    said = asked("warcio", "warcio", "check", "-v", *await _archive(tmp_path))
    assert said.is_right, said.text
    assert said.text.count("digest pass") > 30


@pytest.mark.prove
async def test_warcio_finds_a_wrong_digest(tmp_path: Path) -> None:
    """So its word is worth something."""
    (file,) = await _archive(tmp_path)
    content = gzip.decompress(file.read_bytes()).replace(b"<p>a page", b"<p>A page")
    changed = tmp_path / "changed.warc"
    changed.write_bytes(content)
    assert not asked("warcio", "warcio", "check", changed).is_right


async def test_fastwarc_finds_every_digest_right(tmp_path: Path) -> None:
    said = asked("fastwarc", "fastwarc", "check", *await _archive(tmp_path))
    assert said.is_right, said.text


@pytest.mark.prove
async def test_warcio_finds_what_we_pack_with_zstd_right_once_it_is_unpacked(tmp_path: Path) -> None:
    """None of the judges reads zstd by itself."""
    await an_archive(tmp_path, Coding.ZSTD)
    (file,) = files_in(tmp_path, "*.warc.zst")
    unpacked = tmp_path / "unpacked.warc"
    unpacked.write_bytes(b"".join(member.read(1 << 30) for member in members(io.BytesIO(file.read_bytes()))))
    said = asked("warcio", "warcio", "check", "-v", unpacked)
    assert said.is_right, said.text
    assert said.text.count("digest pass") > 30


async def test_cdxj_indexer_makes_our_index(tmp_path: Path) -> None:
    files = await _archive(tmp_path)
    write_index(Folder(str(tmp_path)))
    assert (tmp_path / NAME).read_bytes().splitlines() == index_lines(*files)


@pytest.mark.prove
@pytest.mark.parametrize("name", ["made.warc.gz", "made.warc"])
def test_cdxj_indexer_makes_our_index_of_the_files_of_others(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes((packed if name.endswith("gz") else plain)(good().values()))
    write_index(Folder(str(tmp_path)))
    assert (tmp_path / NAME).read_bytes().splitlines() == index_lines(file)


@pytest.mark.prove
def test_surt_makes_our_keys() -> None:
    script = (
        "import json, sys\nfrom surt import surt\nprint(json.dumps([surt(url) for url in json.loads(sys.argv[1])]))"
    )
    said = asked("fastwarc", "python", "-c", script, json.dumps(URLS))
    assert said.is_right, said.text
    assert [surt_of(url) for url in URLS] == json.loads(said.text)


WRITTEN_BY_WARCIO = """
import io, sys
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter
path, version, is_packed = sys.argv[1], sys.argv[2], sys.argv[3] == "gz"
with open(path, "wb") as out:
    writer = WARCWriter(out, gzip=is_packed, warc_version=version)
    writer.write_record(writer.create_warcinfo_record("made.warc.gz", {"software": "warcio"}))
    head = StatusAndHeaders("200 OK", [("Content-Type", "text/html"), ("X", "\\u00e9")], protocol="HTTP/1.1")
    answer = writer.create_warc_record("http://example.com/", "response", payload=io.BytesIO(b"hello"), http_headers=head)
    asked = StatusAndHeaders("GET / HTTP/1.1", [("Host", "example.com")], is_http_request=True)
    question = writer.create_warc_record("http://example.com/", "request", http_headers=asked)
    writer.write_request_response_pair(question, answer)
    digest, when = answer.rec_headers["WARC-Payload-Digest"], answer.rec_headers["WARC-Date"]
    writer.write_record(writer.create_revisit_record("http://example.com/a", digest, "http://example.com/", when, http_headers=head))
    writer.write_record(writer.create_warc_record("metadata://x/y", "metadata", payload=io.BytesIO(b"{}"), warc_content_type="application/json"))
    writer.write_record(writer.create_warc_record("urn:x:y", "resource", payload=io.BytesIO(b""), warc_content_type="text/plain"))
    chunked = StatusAndHeaders("200 OK", [("Transfer-Encoding", "chunked")], protocol="HTTP/1.1")
    writer.write_record(writer.create_warc_record("http://example.com/c", "response", payload=io.BytesIO(b"5\\r\\nhello\\r\\n0\\r\\n\\r\\n"), http_headers=chunked))
"""


@pytest.mark.prove
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("ending", ["gz", "warc"])
def test_what_warcio_writes_passes_and_is_read(tmp_path: Path, version: str, ending: str) -> None:
    file = tmp_path / ("made.warc.gz" if ending == "gz" else "made.warc")
    said = asked("warcio", "python", "-c", WRITTEN_BY_WARCIO, file, version, ending)
    assert said.is_right, said.text
    assert faults_in(tmp_path) == []
    bodies = [captured.body() for captured in read_archive(str(tmp_path))]
    assert bodies == [b"hello", b"", b"", b"hello"]
    write_index(Folder(str(tmp_path)))
    assert (tmp_path / NAME).read_bytes().splitlines() == index_lines(file)


class _Site(BaseHTTPRequestHandler):
    """A page, one of its chunks, a redirect, and one that is not there."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nhello\r\n0\r\n\r\n")
            return
        status = {"/moved": 301, "/": 200, "/robots.txt": 404}.get(self.path, 404)
        body = b'<a href="/chunked">a</a> <a href="/moved">b</a> <a href="/none">c</a>' if status == 200 else b""
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        if status == 301:
            self.send_header("Location", "/")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize("options", [(), ("--no-warc-compression",), ("--warc-dedup=none.cdx",)])
def test_what_wget_writes_passes_and_is_read(tmp_path: Path, options: tuple[str, ...]) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    (tmp_path / "none.cdx").write_text(" CDX a b a m s k r M V g u\n")
    command = ["wget", "-q", "-r", "--delete-after", "--warc-file=made", "--warc-cdx", "--no-proxy", *options, url]
    try:
        subprocess.run(command, cwd=tmp_path, check=False, stdin=subprocess.DEVNULL, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no wget here")
    finally:
        server.shutdown()
        server.server_close()
    assert faults_in(tmp_path) == []
    found = {captured.url.removeprefix(url): captured for captured in read_archive(str(tmp_path))}
    assert found["chunked"].body() == b"hello"
    assert found[""].request is not None
    assert found["moved"].http_status == 301


@pytest.mark.prove
async def test_pywb_replays_every_capture_byte_for_byte(tmp_path: Path) -> None:
    await an_archive(tmp_path / "archive")
    write_index(Folder(str(tmp_path / "archive")))
    assert replayed(tmp_path) > 10


@pytest.mark.prove
def test_judges_find_a_crawl_right_and_pywb_replays_it(tmp_path: Path, served_site: str, sqspider: Run) -> None:
    """With redirects, errors, and what was answered as before."""
    for more in ((), ("--again",)):
        sqspider("crawl", served_site, "--allow-private", "--delay", "0", "--archive", "archive", *more)
    judged(tmp_path, sqspider)
    assert replayed(tmp_path) > 60


@pytest.mark.prove
def test_judges_find_a_crawl_of_real_documentation_right_and_pywb_replays_it(tmp_path: Path, sqspider: Run) -> None:
    try:
        with Corpus(tmp_path / "corpus") as corpus:
            said = sqspider(
                "crawl", corpus.url, "--allow-private", "--delay", "0", "--exclude", EXCLUDE, "--archive", "archive"
            )
            assert "kept in" in said.stdout, said.stdout + said.stderr
    except SystemExit as error:
        pytest.skip(str(error))
    judged(tmp_path, sqspider)
    assert replayed(tmp_path) > 1000


def judged(folder: Path, sqspider: Run) -> None:
    """All that can be said of an archive without a replay."""
    files = files_in(folder / "archive")
    assert sqspider("archive", "index", "--archive", "archive").returncode == 0
    said = sqspider("archive", "verify", "--archive", "archive", "--frontier", "sqlite:sqspider.db")
    assert said.returncode == 0, said.stdout + said.stderr
    assert asked("warcio", "warcio", "check", *files).is_right
    assert all(asked("fastwarc", "fastwarc", "check", file).is_right for file in files)
    assert (folder / "archive" / NAME).read_bytes().splitlines() == index_lines(*files)


def replayed(folder: Path) -> int:
    """Have pywb replay what is indexed, and hold each answer against what was kept; how many there were."""
    archive = folder / "archive"
    lines = [parsed_line(line) for line in (archive / NAME).read_bytes().splitlines()]
    shared = Counter((line.key, line.time) for line in lines)
    wanted = {
        (line.file, line.offset) for line in lines if shared[line.key, line.time] == 1 and not leads_to_itself(line)
    }
    (folder / "pywb").mkdir()
    with replaying(folder / "pywb", *files_in(archive)) as replay:
        number = 0
        for captured in read_archive(str(archive)):
            if (captured.file, captured.offset) in wanted:
                number += 1
                hold(captured, replay.get(captured.url, time14(captured)))
    return number


def leads_to_itself(line: Line) -> bool:
    """A redirect, which may lead to where pywb takes it for one without end."""
    return line.status in ("301", "302", "303", "307", "308") and "self" in line.url


def time14(captured: Captured) -> str:
    return datetime.fromtimestamp(captured.at, UTC).strftime("%Y%m%d%H%M%S")


def hold(captured: Captured, got: Replayed) -> None:
    original = captured.original or captured
    assert got.body == original.payload, f"{captured.url}: {got}"
    assert got.http_status == original.http_status, captured.url
    assert got.headers.get("content-encoding") == original.header("content-encoding"), captured.url
