"""The time that all who share a queue and a table go by: AWS's own.

A lease, a slot and a delay hold between machines only if their clocks agree. Every answer of AWS
carries a date; where this machine's clock is further off than that can be explained, the difference
is added to it.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Final

from sqspider.frontier.values import Clock
from sqspider.log import get_logger

TOLERATED_SECONDS: Final = 2.0  # a date has whole seconds, and clocks that are set over the net differ a little

log = get_logger(__name__)


class AwsClock:
    """A clock in seconds since the epoch, set right by the dates of answers."""

    def __init__(self, clock: Clock) -> None:
        self.own = clock  # of this machine
        self.offset = 0.0  # what is added to it

    def __call__(self) -> float:
        return self.own() + self.offset

    def see(self, date: str, sent_at: float, received_at: float) -> None:
        """Take note of the date of an answer; ``sent_at`` and ``received_at`` are by this machine's clock.

        The answer was written between those two moments, so the true offset lies between two bounds.
        The one in use stays as long as it lies there too, or so nearly that nobody could tell.
        """
        try:
            second = parsedate_to_datetime(date).timestamp()
        except ValueError:
            return  # no date: nothing to be learnt
        least, most = second - received_at, second + 1 - sent_at
        if least > most:  # this machine's clock was set back meanwhile
            return
        if least - TOLERATED_SECONDS <= self.offset <= most + TOLERATED_SECONDS:
            return
        offset = (least + most) / 2
        self.offset = 0.0 if abs(offset) <= TOLERATED_SECONDS else offset
        log.warning("clock_differs", seconds_ahead=round(-offset, 1), used="AWS's" if self.offset else "this machine's")
