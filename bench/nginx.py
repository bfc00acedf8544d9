"""nginx on loopback, which serves what is measured: its configuration, its start and end, and its log."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

START_SECONDS: Final = 10.0

_CONF: Final = """
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
{user}
events {{ worker_connections {connections}; }}
http {{
    {http}
    client_body_temp_path {folder}/temp;
    proxy_temp_path {folder}/temp;
    fastcgi_temp_path {folder}/temp;
    uwsgi_temp_path {folder}/temp;
    scgi_temp_path {folder}/temp;
    server {{
        listen {listen};
        root {docroot};
        index index.html;
    }}
}}
"""


def path_of_nginx() -> str | None:
    """Where the program is, if it is installed."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class Nginx:
    """nginx on a free port, with a folder of its own, while the context lasts. It serves what is in ``docroot``.

    ``http`` stands in its block of that name, ``listen`` behind the word, with PORT for the port; ``log`` stands behind
    the path of its log: a format, say. Raises ``SystemExit`` if it does not start.
    """

    def __init__(self, folder: Path, *, http: str, listen: str, log: str, connections: int) -> None:
        self.port = _free_port()
        self.docroot = folder / "docroot"
        self._folder = folder
        self._log = folder / "access.log"
        self._log_start = 0
        self._process: subprocess.Popen[bytes]
        self.docroot.mkdir(parents=True, exist_ok=True)
        # As root, nginx would change to a user that may not look into this folder.
        user = "user root;" if os.geteuid() == 0 else ""
        conf = _CONF.format(
            folder=folder, docroot=self.docroot, user=user, connections=connections, files=2 * connections,
            http=f"{http.strip()}\n    access_log {self._log} {log};", listen=listen.replace("PORT", str(self.port)),
        )  # fmt: skip
        (folder / "nginx.conf").write_text(conf, encoding="utf-8")

    def __enter__(self) -> Self:
        nginx = path_of_nginx()
        if nginx is None:
            raise SystemExit("what is measured is served by nginx: apt-get install nginx")
        self._log.write_bytes(b"")
        self._process = subprocess.Popen([nginx, "-e", self._folder / "error.log", "-c", self._folder / "nginx.conf"])
        self._wait_until_it_answers()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()

    def _wait_until_it_answers(self) -> None:
        give_up_at = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > give_up_at:
                    raise SystemExit(f"nginx did not start: see {self._folder / 'error.log'}") from None
                time.sleep(0.02)
            else:
                return

    def write_log(self) -> None:
        """Let it write what it has gathered."""
        self._process.send_signal(signal.SIGUSR1)  # it opens its log anew
        time.sleep(0.5)

    def forget(self) -> None:
        """Leave out of :meth:`requests` what was asked for so far."""
        self._log_start = self._log.stat().st_size

    def requests(self) -> list[str]:
        """The lines of its log since it was to forget."""
        with self._log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode("ascii", "replace").splitlines()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
