"""sqspider: crawls every URL once and loses none.

    import sqspider

    for page in sqspider.crawl("https://example.com/", depth=2):
        print(page.url, page.http_status, page.title)

What is public is listed in ``__all__``, and imported when it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

from sqspider.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from sqspider.api import Crawl, crawl
    from sqspider.archive.errors import ArchiveError
    from sqspider.archive.reading import Captured, read_archive
    from sqspider.capture import StoreError
    from sqspider.frontier import Counts, FrontierError, FrontierUnavailableError
    from sqspider.pages import Link, Page
    from sqspider.record import CapturePlace, Reason, Status
    from sqspider.secret import Secret
    from sqspider.url import Scope

__all__ = [
    "ArchiveError",
    "CapturePlace",
    "Captured",
    "Counts",
    "Crawl",
    "FrontierError",
    "FrontierUnavailableError",
    "Link",
    "Page",
    "Reason",
    "Scope",
    "Secret",
    "Status",
    "StoreError",
    "crawl",
    "read_archive",
]

_HOMES: Final = {
    "Crawl": "sqspider.api",
    "crawl": "sqspider.api",
    "ArchiveError": "sqspider.archive.errors",
    "Captured": "sqspider.archive.reading",
    "read_archive": "sqspider.archive.reading",
    "Link": "sqspider.pages",
    "Page": "sqspider.pages",
    "StoreError": "sqspider.capture",
    "Counts": "sqspider.frontier",
    "FrontierError": "sqspider.frontier",
    "FrontierUnavailableError": "sqspider.frontier",
    "CapturePlace": "sqspider.record",
    "Reason": "sqspider.record",
    "Status": "sqspider.record",
    "Scope": "sqspider.url",
    "Secret": "sqspider.secret",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sqspider' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
