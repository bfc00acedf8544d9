"""The corpus of every measurement: documentation as Debian packages it, served by nginx on loopback.

``python -m bench.corpus`` serves it until it is interrupted. Nothing is measured here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

BUILD: Final = Path(__file__).resolve().parent.parent / "build" / "bench"
START_SECONDS: Final = 10.0


class Source(NamedTuple):
    """One book of the corpus."""

    name: str  # its folder on the server
    package: str  # the Debian package that brings it
    folder: Path


SOURCES: Final = (
    Source("python", "python3-doc", Path("/usr/share/doc/python3.11/html")),
    Source("postgresql", "postgresql-doc-15", Path("/usr/share/doc/postgresql-doc-15/html")),
    Source("debian-handbook", "debian-handbook", Path("/usr/share/doc/debian-handbook/html/en-US")),
)
EXCLUDE: Final = "/_sources/|/_downloads/"
"""What every crawler leaves out, as a regular expression on URLs: the pages' sources and archives."""

NGINX_CONF: Final = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
{user}
events {{ worker_connections 1024; }}
http {{
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    log_format short '$status $request_uri';
    access_log {folder}/access.log short;
    client_body_temp_path {folder}/temp;
    proxy_temp_path {folder}/temp;
    fastcgi_temp_path {folder}/temp;
    uwsgi_temp_path {folder}/temp;
    scgi_temp_path {folder}/temp;
    sendfile on;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        root {folder}/docroot;
        index index.html;
    }}
}}
"""

INDEX: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>The corpus</title></head>
<body><h1>The corpus</h1><ul>
{items}
</ul></body></html>
"""


class Corpus:
    """nginx serving the corpus on a free port of 127.0.0.1, while the context lasts.

    Raises ``SystemExit`` with what is missing if it cannot be served on this machine.
    """

    def __init__(self, folder: Path = BUILD / "corpus") -> None:
        self._folder = folder
        self._log = folder / "access.log"
        self._log_start = 0
        self._nginx: subprocess.Popen[bytes]
        self.url = ""

    def __enter__(self) -> Self:
        nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        missing = [source.package for source in SOURCES if not (source.folder / "index.html").is_file()]
        if nginx is None:
            missing.insert(0, "nginx")
        if nginx is None or missing:
            raise SystemExit(f"the corpus needs Debian packages that are not here: apt-get install {' '.join(missing)}")
        port = _free_port()
        self._lay(port)
        self._nginx = subprocess.Popen([nginx, "-e", self._folder / "error.log", "-c", self._folder / "nginx.conf"])
        self.url = f"http://127.0.0.1:{port}/"
        self._wait_until_it_answers(port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._nginx.send_signal(signal.SIGTERM)
        self._nginx.wait()

    def _lay(self, port: int) -> None:
        docroot = self._folder / "docroot"
        docroot.mkdir(parents=True, exist_ok=True)
        for source in SOURCES:
            link = docroot / source.name
            link.unlink(missing_ok=True)
            link.symlink_to(source.folder, target_is_directory=True)
        items = "\n".join(f'<li><a href="{source.name}/index.html">{source.package}</a></li>' for source in SOURCES)
        (docroot / "index.html").write_text(INDEX.format(items=items), encoding="utf-8")
        # As root, nginx would change to a user that may not look into this folder.
        user = "user root;" if os.geteuid() == 0 else ""
        conf = NGINX_CONF.format(folder=self._folder, port=port, user=user)
        (self._folder / "nginx.conf").write_text(conf, encoding="utf-8")
        self._log.write_bytes(b"")

    def _wait_until_it_answers(self, port: int) -> None:
        give_up_at = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                if self._nginx.poll() is not None or time.monotonic() > give_up_at:
                    raise SystemExit(f"nginx did not start: see {self._folder / 'error.log'}") from None
                time.sleep(0.02)
            else:
                return

    def forget(self) -> None:
        """Leave out of :meth:`requests` what was asked for so far."""
        self._log_start = self._log.stat().st_size

    async def until(self, number: int) -> None:
        """Wait until so many requests were seen."""
        while self.requests().total() < number:
            await asyncio.sleep(0.005)

    def requests(self) -> Counter[str]:
        """Lines of "status path", as the server saw them, and how often. No robots.txt among them."""
        with self._log.open("rb") as file:
            file.seek(self._log_start)
            lines = file.read().decode("ascii", "replace").splitlines()
        return Counter(line for line in lines if not line.endswith(" /robots.txt"))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def main() -> None:
    """Serve the corpus until interrupted."""
    argparse.ArgumentParser(description="Serve the corpus on loopback until interrupted.").parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # and nginx with it
    with Corpus() as corpus:
        print(corpus.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
