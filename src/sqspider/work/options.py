"""How one worker works: its options and their bounds, and how long a lease must be for a fetch."""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec

from sqspider.checks import Range, check_line, check_numbers, optional, seconds
from sqspider.host_trouble import PATIENCE, Patience
from sqspider.politeness import BEGIN_SECONDS
from sqspider.work.large_bodies import SPACE_SECONDS

MOST_OF_A_POLL: Final = 10  # messages that SQS gives
END_SECONDS: Final = 10.0  # of a lease after the fetch: parsing, keeping in a file, ending, clocks
LEAST_GATHER_SECONDS: Final = 10.0  # that are always there for gathering, for a store that does so for longer
WRITE_SECONDS: Final = 5.0  # of a write to such a store


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How one worker works.

    Raises ``TypeError`` or ``ValueError`` for what is out of bounds, in words that begin with the field's name.
    """

    worker_id: str
    concurrency: int = 32  # fetches at a time
    batch_size: int | None = None  # messages a poll; none: what SQS gives, or of turns what there is room for
    lease_seconds: float = 60.0
    poll_seconds: float = 0.1  # the longest wait of one poll
    linger_seconds: float = 0.01  # what is gathered for so long goes to the frontier together
    first_retry_seconds: float = 2.0  # the wait after the first trouble; it doubles
    robots_grace_seconds: float = 86_400.0
    new_host_grace_seconds: float = PATIENCE.new_host_seconds  # for a host in trouble that never answered
    host_grace_seconds: float = PATIENCE.known_host_seconds  # and for one that has
    first_rest_seconds: float = PATIENCE.first_rest_seconds  # of a host in trouble; it doubles
    failures_to_rest: int = PATIENCE.failures_to_rest  # in a row, of a host that it may be or its URLs
    sweep_seconds: float = 30.0  # between two sweeps
    seen_urls: int = 200_000  # links that are known to be recorded, so as not to ask again
    large_bodies: int | None = None  # bodies past LARGE_BYTES at a time, until their links are recorded
    max_pages: int | None = None  # fetched in this run, after which no more is taken; redirects not counted
    max_bytes: int | None = None  # decoded bytes in the frontier, likewise
    run: str | None = None  # workers of one run share its limit of pages; none: a run of its own

    ranges: ClassVar[dict[str, Range]] = {
        "concurrency": Range(1, 1000),
        "batch_size": optional(1, MOST_OF_A_POLL),
        "lease_seconds": seconds(1, 43_200),  # SQS's longest visibility timeout
        "poll_seconds": seconds(0, 20),  # SQS's longest poll
        "linger_seconds": seconds(0, 60),
        "first_retry_seconds": seconds(0, 3600),
        "robots_grace_seconds": seconds(0, 30 * 86_400),
        "new_host_grace_seconds": seconds(0, 30 * 86_400),
        "host_grace_seconds": seconds(0, 30 * 86_400),
        "first_rest_seconds": seconds(0.01, 3600),
        "failures_to_rest": Range(1),
        "sweep_seconds": seconds(0.01, 86_400),
        "seen_urls": Range(0),
        "large_bodies": optional(1),
        "max_pages": optional(1),
        "max_bytes": optional(1),
    }

    def __post_init__(self) -> None:
        check_numbers(self, self.ranges)
        check_line("worker_id", self.worker_id)
        if self.run is not None:
            check_line("run", self.run)

    @property
    def most_of_a_poll(self) -> int:
        """How many messages one poll of a queue takes."""
        return self.batch_size or MOST_OF_A_POLL

    @property
    def space_seconds(self) -> float:
        """The longest wait in the middle of a fetch."""
        return SPACE_SECONDS if self.large_bodies is not None else 0.0

    @property
    def patience(self) -> Patience:
        """How long a host in trouble is waited for."""
        return Patience(
            first_rest_seconds=self.first_rest_seconds,
            new_host_seconds=self.new_host_grace_seconds,
            known_host_seconds=self.host_grace_seconds,
            failures_to_rest=self.failures_to_rest,
        )

    def lease_needed(self, fetch_seconds: float, gather_seconds: float = 0.0) -> float:
        """How many seconds of a lease must be left when a fetch begins. ``gather_seconds``: as of
        :class:`sqspider.capture.Store`; who gathers writes over a network."""
        store_seconds = min(gather_seconds, LEAST_GATHER_SECONDS) + WRITE_SECONDS if gather_seconds > 0 else 0.0
        return fetch_seconds + self.space_seconds + store_seconds + END_SECONDS

    def check(self, fetch_seconds: float, gather_seconds: float = 0.0) -> None:
        """Raise ``ValueError`` where a lease could end before what was fetched is kept."""
        needed = self.lease_needed(fetch_seconds, gather_seconds)
        margin = needed + BEGIN_SECONDS - fetch_seconds  # for another permission to begin
        if self.lease_seconds <= fetch_seconds + margin:
            raise ValueError(
                f"a lease of {self.lease_seconds:g} s is too short: it must be longer than the fetch limit "
                f"({fetch_seconds:g} s) and a margin of {margin:g} s"
            )
