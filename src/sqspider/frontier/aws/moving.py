"""How records are told where their captures lie by now.

The whole table is read, consistently: of a record that a read which is behind does not show, the place would be lost
with the file. What is written is fenced by what was read: a visit that ended since has a capture of its own.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from sqspider.frontier.aws.attributes import Item, n, number, plain, s
from sqspider.frontier.aws.items import encode_kept, encode_outcome, is_record, kept_in
from sqspider.frontier.aws.part import Part
from sqspider.frontier.aws.table import Statement
from sqspider.frontier.places import Moves, moved_kept, moved_outcome
from sqspider.frontier.values import FrontierBusyError
from sqspider.record import Outcome

ROUNDS: Final = 4  # in each of which somebody else changed what was read
READ: Final = ("url", "status", "attempt", "outcome", "kept")
SET_PLACES: Final = 'UPDATE "{table}"{set} WHERE "url" = ? AND "attempt" = ? AND "status" = ?{where}'


class Moving(Part):
    """Captures that lie elsewhere by now."""

    async def move_places(self, moves: Moves) -> int:
        found = 0
        names = {f"#{number}": name for number, name in enumerate(READ)}
        pages = self._table.scan(
            ProjectionExpression=", ".join(names), ExpressionAttributeNames=names, ConsistentRead=True
        )
        async for items in pages:
            waiting = [item for item in items if is_record(item["url"]["S"])]
            for _ in range(ROUNDS):
                statements = [it for item in waiting if (it := self._moves(item, moves)) is not None]
                if not statements:
                    break
                written = await self._table.write(statements)
                found += sum(w.is_done for w in written)
                # What others have changed meanwhile is read again, and what has no clear answer: it is not moved twice.
                left = [it.url for it, w in zip(statements, written, strict=True) if not w.is_done]
                waiting = list((await self._table.read(left)).values())
            else:
                raise FrontierBusyError(
                    f"the record of {waiting[0]['url']['S']} changes all the time, and could not be told where its "
                    "capture lies: do this again later"
                )
        return found

    def _moves(self, item: Item, moves: Moves) -> Statement | None:
        """What tells a record where its captures lie by now; none, if they lie there already, or it is damaged."""
        values, where = dict[str, dict[str, Any]](), list[dict[str, Any]]()
        if (outcome := _outcome_in(item)) is not None and (moved := moved_outcome(outcome, moves)) is not outcome:
            values["outcome"] = _with_capture_of(item["outcome"], moved)
        kept = kept_in(item)
        if kept is not None and (now := moved_kept(kept, moves)) is not kept and now is not None:
            values["kept"] = s(encode_kept(now))
            where = [item["kept"]]  # who finds a nearer way changes it, and nothing else
        if not values:
            return None
        fence = [s(item["url"]["S"]), n(number(item, "attempt")), item["status"]]
        sets = "".join(f' SET "{name}" = ?' for name in values)
        text = SET_PLACES.format(table=self._table.name, set=sets, where=' AND "kept" = ?' if where else "")
        return Statement(item["url"]["S"], text, [*values.values(), *fence, *where])


def _outcome_in(item: Item) -> Outcome | None:
    """The outcome of a record that may have a capture; the first version's, a text, has none."""
    if "M" not in item.get("outcome", {}):
        return None
    try:
        return msgspec.convert(plain(item["outcome"]), Outcome)
    except (msgspec.MsgspecError, ValueError):
        return None


def _with_capture_of(stored: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    """A stored outcome with the capture of another; whatever else is in it, by a later version too, stays."""
    own = encode_outcome(outcome)["M"]
    names = ("capture", "unkept")
    kept = {name: value for name, value in stored["M"].items() if name not in names}
    return {"M": kept | {name: own[name] for name in names if name in own}}
