"""The corpus of every measurement: documentation as Debian packages it, served by nginx on loopback.

``python -m bench.corpus`` serves it until it is interrupted. Nothing is measured here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from bench.nginx import Nginx, path_of_nginx

BUILD: Final = Path(__file__).resolve().parent.parent / "build" / "bench"


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

_HTTP: Final = """
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    log_format short '$status $request_uri';
    sendfile on;
"""

INDEX: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>The corpus</title></head>
<body><h1>The corpus</h1><ul>
{items}
</ul></body></html>
"""


class Corpus:
    """nginx serving the corpus on a free port of 127.0.0.1, while the context lasts; ``more_http``: of its settings.

    Raises ``SystemExit`` with what is missing if it cannot be served on this machine.
    """

    def __init__(self, folder: Path = BUILD / "corpus", more_http: str = "") -> None:
        listen = "127.0.0.1:PORT backlog=1024"
        self._nginx = Nginx(folder, http=_HTTP + more_http, listen=listen, log="short", connections=1024)
        self.url = f"http://127.0.0.1:{self._nginx.port}/"
        self.forget = self._nginx.forget

    def __enter__(self) -> Self:
        missing = [source.package for source in SOURCES if not (source.folder / "index.html").is_file()]
        if path_of_nginx() is None:
            missing.insert(0, "nginx")
        if missing:
            raise SystemExit(f"the corpus needs Debian packages that are not here: apt-get install {' '.join(missing)}")
        self._lay()
        self._nginx.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._nginx.__exit__(kind, error, trace)

    def _lay(self) -> None:
        docroot = self._nginx.docroot
        for source in SOURCES:
            link = docroot / source.name
            link.unlink(missing_ok=True)
            link.symlink_to(source.folder, target_is_directory=True)
        items = "\n".join(f'<li><a href="{source.name}/index.html">{source.package}</a></li>' for source in SOURCES)
        (docroot / "index.html").write_text(INDEX.format(items=items), encoding="utf-8")

    async def until(self, number: int) -> None:
        """Wait until so many requests were seen."""
        while self.requests().total() < number:
            await asyncio.sleep(0.005)

    def requests(self) -> Counter[str]:
        """Lines of "status path", as the server saw them, and how often. No robots.txt among them."""
        return Counter(line for line in self._nginx.requests() if not line.endswith(" /robots.txt"))


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
