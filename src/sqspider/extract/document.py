"""A capture as rules see it: its answer decoded, its tree parsed once, both only when something asks for them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from sqspider.archive.reading import Captured
from sqspider.web.charset import decode, encoding_of_answer, mime_type_of
from sqspider.web.links import base_url

if TYPE_CHECKING:
    import turbohtml

MAX_BODY_BYTES: Final = 16 * 1024 * 1024  # of a decoded body that is looked at; a tree takes eight times as much


class Document:
    """A page, or whatever else was answered. ``crawl`` and ``visit`` are its record's, where a frontier was asked."""

    def __init__(
        self,
        captured: Captured,
        *,
        crawl: str | None = None,
        visit: int | None = None,
        max_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self.captured = captured
        self.crawl = crawl
        self.visit = visit
        self._max_bytes = max_bytes

    @property
    def url(self) -> str:
        """What was asked for."""
        return self.captured.url

    @property
    def at(self) -> float:
        """When, in seconds since the epoch."""
        return self.captured.at

    @property
    def http_status(self) -> int | None:
        return self.captured.http_status

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Of the answer, as they were sent; a revisit's own."""
        return tuple(self.captured.headers)

    def header(self, name: str) -> str | None:
        """The first header of a name, in any case."""
        return self.captured.header(name)

    @cached_property
    def media_type(self) -> str:
        """As the answer says it, in small letters and without parameters; empty where it says none that is one."""
        found = mime_type_of([value for name, value in self.headers if name.lower() == "content-type"])
        return found.essence if found else ""

    @cached_property
    def body(self) -> bytes:
        """The body decoded, as far as it is looked at. Raises :class:`sqspider.web.body.DecodeError`."""
        return self.captured.body(self._max_bytes)

    @cached_property
    def encoding(self) -> str:
        """By which a browser would read it."""
        return encoding_of_answer(self.body, self.headers)

    @cached_property
    def markup(self) -> str:
        """The body as text; what does not decode is U+FFFD."""
        return decode(self.body, self.encoding)

    @cached_property
    def tree(self) -> turbohtml.Document:
        """The tree of a page."""
        import turbohtml

        return turbohtml.parse(self.markup, positions=False)

    @cached_property
    def base_url(self) -> str:
        """What its references are relative to."""
        # What is in a template is not on the page, and browsers run scripts.
        base = self.tree.select_one("base[href]:not(noscript *, template *)")
        return base_url(None if base is None else str(base.attrs.get("href") or ""), self.url)
