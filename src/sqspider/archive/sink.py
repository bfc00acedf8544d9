"""Where a store's records go: the seam between what a record says and where its bytes lie."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from sqspider.archive.addresses import is_bucket

GATHER_SECONDS: Final = 5.0  # of a bucket: a PUT costs as much for one page as for fifty


class Begun(NamedTuple):
    """A file that takes records."""

    name: str  # without ``.open``
    warcinfo_id: str  # the WARC-Record-ID of its first record


class Sink(Protocol):
    """Where records go. One call at a time. Raises :class:`sqspider.capture.StoreError` for what cannot be written, and
    :class:`sqspider.capture.FullError` where there is no room."""

    gather_seconds: float  # see :class:`sqspider.capture.Store`
    most_bytes: int

    async def begun(self) -> Begun:
        """The file that the next records go to; begun, with its warcinfo record, if there is none. The same for whoever
        asks again before it appends."""

    async def append(self, members: bytes) -> int:
        """Write packed records to the file of :meth:`begun`: the offset at which they lie there, durable when it
        returns. All or nothing, as far as this process can."""

    def holds(self, name: str) -> bool:
        """Whether a file of earlier captures is there, as far as that costs nothing to know: what is not is referred to
        by none."""

    async def close(self) -> None:
        """Let go of the file."""


def gather_seconds_at(address: str) -> float:
    """How long the store of an archive at this address gathers, as :class:`sqspider.capture.Store` has it: known before
    one is opened, so that leases too short for it are told before anything is done."""
    return GATHER_SECONDS if is_bucket(address) else 0.0
