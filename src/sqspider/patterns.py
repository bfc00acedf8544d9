"""Regular expressions from strangers, looked for with a limit.

One that takes every way through a text can need longer than anybody lives, and nothing else of the
process would go on meanwhile. Python's matcher looks for signals now and then, so a timer that counts
this process's own work ends it. Where no timer can be had (on Windows, outside the main thread) there
is no limit.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Final

SECONDS: Final = 2.0  # of work, for all that is looked for at one page
URLS_AT_A_TIME: Final = 1000

Patterns = tuple[re.Pattern[str], ...]


class TooSlowError(ValueError):
    """It takes too long to look for a regular expression."""


def chooses(url: str, include: Patterns, exclude: Patterns) -> bool:
    """Whether one of the first is in a URL, or there are none, and none of the second."""
    return (not include or any(pattern.search(url) for pattern in include)) and not any(
        pattern.search(url) for pattern in exclude
    )


class Search:
    """Looks for regular expressions, for so many seconds of work in all."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self._left = seconds

    def chosen(self, urls: Iterable[str], include: Patterns, exclude: Patterns) -> Iterator[str]:
        """Those of some URLs that the patterns choose, see :func:`chooses`. Raises :class:`TooSlowError`."""
        if not include and not exclude:
            yield from urls
            return
        rest = iter(urls)
        while some := list(islice(rest, URLS_AT_A_TIME)):  # setting the timer costs more than most searches do
            with self.limited():
                found = [url for url in some if chooses(url, include, exclude)]
            yield from found

    @contextmanager
    def limited(self) -> Iterator[None]:
        """Ends what is done within it with :class:`TooSlowError` when the time is up, or that of one that this lies
        in. It must not await."""
        if not _has_timer():
            yield
            return
        outer = signal.getitimer(signal.ITIMER_VIRTUAL)[0]  # none: 0
        if self._left <= 0:
            raise TooSlowError(_WHY)
        before = signal.signal(signal.SIGVTALRM, _end)
        started = time.process_time()
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, min(self._left, outer or self._left), _AGAIN_SECONDS)
            yield
        except TooSlowError:
            if not outer or self._left <= outer:
                self._left = 0.0  # by the timer's own count, which differs a little
            raise
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            taken = time.process_time() - started  # what the timer tells as left is no finer than its ticks
            self._left -= taken
            signal.signal(signal.SIGVTALRM, before)
            if outer:
                signal.setitimer(signal.ITIMER_VIRTUAL, max(outer - taken, 0.001), _AGAIN_SECONDS)


_AGAIN_SECONDS: Final = 0.1  # it is a ValueError, which what it meets may take for its own
_WHY: Final = f"a regular expression takes longer than {SECONDS:g} s: it may be matched in too many ways"


def _end(*_: object) -> None:
    raise TooSlowError(_WHY)


def _has_timer() -> bool:
    return (
        hasattr(signal, "SIGVTALRM")
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGVTALRM) in (signal.SIG_DFL, _end)  # else it is in use
    )
