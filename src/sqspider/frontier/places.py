"""What records say of their captures once the archive was put in order: packed into other files, or erased in part.

Pure functions; whoever keeps records writes down what they give back, and only where that is something else.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sqspider.record import CapturePlace, Kept, Outcome

Moves = Mapping[tuple[str, int], CapturePlace | None]
"""By file and offset, where a capture lies now; none: it was erased. Of a place its file, offset and length count, and
the payload, where it names one: the rest is as it was made. It is asked about one at a time, with the place as it was:
who moves whole files can compute the answer."""

replace = msgspec.structs.replace


def moved(place: CapturePlace, moves: Moves) -> CapturePlace | None:
    """A place, or the payload that it refers to, as it is now; the very same, if nothing has moved."""
    payload = None if place.payload is None else moved(place.payload, moves)
    if payload is not place.payload:
        place = replace(place, payload=payload)
    to = moves.get((place.file, place.offset), place)
    if to is None or to is place:
        return to
    return replace(place, file=to.file, offset=to.offset, length=to.length, payload=to.payload or place.payload)


def moved_outcome(outcome: Outcome, moves: Moves) -> Outcome:
    """An outcome as it is said now; the very same, if nothing of it has moved."""
    if outcome.capture is None or (capture := moved(outcome.capture, moves)) is outcome.capture:
        return outcome
    return replace(outcome, capture=capture, unkept=capture is None)


def moved_kept(kept: Kept | None, moves: Moves) -> Kept | None:
    """The same of what is kept from visit to visit."""
    if kept is None or kept.good is None or (good := moved_outcome(kept.good, moves)) is kept.good:
        return kept
    return replace(kept, good=good)
