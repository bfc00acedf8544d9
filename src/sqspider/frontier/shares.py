"""How workers share what a run may take (``--max-pages``), exactly: a pure function of the run's row.

No worker spends what it has no share of, and all shares together with what is spent are never more than the most.
What a worker that died had of it is free again when its share has run out; one that lives asks again before that.
"""

from __future__ import annotations

from typing import Final

import msgspec


class Share(msgspec.Struct, frozen=True, array_like=True):
    """What one worker may spend, and until when."""

    pages: int
    until: float  # seconds since the epoch


class Run(msgspec.Struct, frozen=True):
    """The row of a run."""

    spent: int = 0
    shares: dict[str, Share] = {}  # by worker


def shared(
    run: Run, *, most: int, worker_id: str, spent: int, wanted: int, until: float, now: float
) -> tuple[Run, int]:
    """A run after a worker has spent some of its share, and asked for another; that share."""
    used = run.spent + spent
    shares = {name: share for name, share in run.shares.items() if name != worker_id and share.until > now}
    mine = max(0, min(wanted, most - used - sum(share.pages for share in shares.values())))
    if mine:
        shares[worker_id] = Share(mine, until)
    return Run(used, shares), mine


_decoder: Final = msgspec.json.Decoder(Run)
_encoder: Final = msgspec.json.Encoder()


def encode_run(run: Run) -> str:
    """A run's row as JSON, for a frontier to keep."""
    return _encoder.encode(run).decode()


def decode_run(text: str | bytes) -> Run:
    """Back from :func:`encode_run`. Raises ``msgspec.MsgspecError``."""
    return _decoder.decode(text)
