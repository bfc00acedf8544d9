"""Which payloads the archive has already, as far as a process remembers: what is answered again refers to them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from sqspider.archive.warc import Answer
from sqspider.capture import Capture
from sqspider.record import CapturePlace

LEAST_BYTES: Final = 1024  # of a payload that is referred to: below, the reference is no smaller
MOST_PAYLOADS: Final = 50_000  # that are remembered, about 25 MB


class Payloads:
    """The places of payloads by their digests; the oldest are forgotten first."""

    def __init__(self, holds: Callable[[str], bool], most: int = MOST_PAYLOADS) -> None:
        self._holds = holds
        self._most = most
        self._places: OrderedDict[str, CapturePlace] = OrderedDict()  # each says its URL

    def learn(self, place: CapturePlace, url: str) -> None:
        """Remember where a payload of this URL lies."""
        if place.digest not in self._places and len(self._places) >= self._most:
            self._places.popitem(last=False)
        self._places[place.digest] = replace(place, url=url)

    def before(self, capture: Capture) -> CapturePlace | None:
        """Of its last good visit: where the payload lies; none: it is not known, or not there any more."""
        place = capture.before
        if place is None:
            return None
        place = place.payload or place
        return as_seen_from(capture.url, place, place.url or capture.url) if self._holds(place.file) else None

    def same(self, answer: Answer) -> CapturePlace | None:
        """Where the same payload lies; none: it is not known."""
        before = self.before(answer.capture)
        if before is not None and before.digest == answer.digest:
            return before
        return self.of(answer.digest, answer.capture.url)

    def of(self, digest: str, url: str) -> CapturePlace | None:
        """Where the payload of this digest lies, as a URL's record says it; none: it is not known."""
        place = self._places.get(digest)
        if place is None:
            return None
        if not self._holds(place.file):  # it was put elsewhere, or is forgotten
            del self._places[digest]
            return None
        return as_seen_from(url, place, place.url)


def is_worth_it(answer: Answer) -> bool:
    """Whether others may refer to its payload, or it to theirs: it is whole, and larger than a reference."""
    return answer.cut is None and len(answer.payload) > LEAST_BYTES


def as_seen_from(url: str, place: CapturePlace, of: str) -> CapturePlace:
    """A place that a URL's record refers to: it says whose it is only where that is another."""
    return replace(place, url="" if of == url else of, payload=None)
