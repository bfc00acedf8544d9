"""The seam of an archive: what is called with visits before their end, so that nothing ends that is not kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sqspider.work.page import Visited


class StoreError(Exception):
    """What was fetched could not be kept. Its claims are given back, and no URL pays for it."""


class Store(Protocol):
    """Keeps what was fetched."""

    async def keep(self, visits: Sequence[Visited]) -> Sequence[str | None]:
        """Keep some visits; where each is, in their order, or none for what is not kept at all.

        What it returns for is durable. Raises :class:`StoreError` where it is not, for all of them together; what
        was kept of them then does no harm. The same visit may come again: its worker died before its end.
        """


class NoStore:
    """Keeps nothing."""

    async def keep(self, visits: Sequence[Visited]) -> Sequence[str | None]:
        return [None] * len(visits)
