"""Code of one's own at which processes die."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from sqspider.extract.document import Document

PAGE = "/killer"


def deadly(document: Document) -> dict[str, str]:
    """Kills the process at one page, each time; notes each page that it is asked for."""
    with Path(os.environ["KILLING_LOG"]).open("a") as log:
        log.write(f"{document.url}\n")
    if document.url.endswith(PAGE):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"seen": document.url}


def endless(document: Document) -> None:
    """Never comes back; notes who it is."""
    del document
    Path(os.environ["KILLING_LOG"]).write_text(f"{os.getpid()}\n")
    while True:
        pass


vars(endless)["columns"] = {"seen": "text"}
vars(deadly)["columns"] = {"seen": "text"}
