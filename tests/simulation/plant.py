"""Faults that are planted on purpose: each takes a guard away, and some history must show it.

A fault is a text of the product's source and what stands in its place; it is played in a copy of the product, so
that nothing is patched behind anybody's back. A text that is not there exactly once is an error: then the guard
has moved, and its fault with it.
"""

from __future__ import annotations

import atexit
import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple


class Change(NamedTuple):
    """A text of the product, and what takes its place."""

    room: str  # the folder or file that it is in
    old: str
    new: str


ANSWERS: Final = "frontier/answers.py"
WAYS: Final = "frontier/ways.py"
MEMORY: Final = "frontier/memory"
PLANTS: Final[dict[str, Change]] = {
    # Claims
    "lease": Change(ANSWERS, "if record.lease_until < now:", 'if record.lease_until < float("inf"):'),
    "finished": Change(
        ANSWERS,
        "        return Lost(url=url, why=LostReason.FINISHED)\n",
        "        return None\n",
    ),
    "fence of finish": Change(
        MEMORY, "self._store.held(finish.claim, Operation.FINISH)", "self._store.records.get(finish.claim.url)"
    ),
    "fence of retry": Change(
        MEMORY, "self._store.held(retry.claim, Operation.RETRY)", "self._store.records.get(retry.claim.url)"
    ),
    "fence of prolong": Change(
        MEMORY, "self._store.held(hold.claim, Operation.PROLONG)", "self._store.records.get(hold.claim.url)"
    ),
    "held until it was dealt with": Change("work", "self.holding.hold(visit, end)", "self.end(visit, end)"),
    "unended": Change(ANSWERS, "unended=record.unended + 1,", "unended=record.unended,"),
    "unused claims": Change(ANSWERS, "claim.unended - 1 if retry.is_unused else 0", "0"),
    "crashed": Change("work", "if claim.unended > GIVEN_UP_AFTER:", "if claim.unended > 1_000_000:"),
    "suspects alone": Change(
        "work", "if claim.unended > SUSPECTED_AFTER and not is_alone:", "if claim.unended > 1_000_000:"
    ),
    "counters": Change(ANSWERS, "changes[before.value] = -count", "pass"),
    "counters of visits": Change(ANSWERS, "much = -count if is_reopened else count", "much = count"),
    "reopening what is open": Change(
        ANSWERS, "    if record.status not in LIFE[Operation.REOPEN]:\n", "    if record.visit < 0:\n"
    ),
    "changes": Change(
        "revisit.py", "    if good.redirect_to != outcome.redirect_to:\n", "    if good is not outcome:\n"
    ),
    # Ways
    "nearer ways": Change(WAYS, "if entry.depth >= depth and entry.redirects >= redirects:", "if depth >= 0:"),
    "nearer ways handed on": Change(
        WAYS, "    return Consequence.HAND_ON if is_nearer else Consequence.NONE\n", "    return Consequence.NONE\n"
    ),
    "nearer ways of what is visited": Change(
        MEMORY,
        "        self._follow(known, Fall(judged,",
        "        0 and self._follow(known, Fall(judged,",
    ),
    "what is recorded and no nearer": Change(
        "work",
        "if message.settings.max_depth is None else depth",
        "if message.settings.max_depth is None else ANY",
    ),
    "the record's way": Change("work", "            visit.message = on_its_way(visit.message, claim)\n", ""),
    # Crawls
    "crawls that rest": Change(
        "work",
        "        if copy.rests:\n            return Unfit.RESTS\n",
        "        if False:\n            return Unfit.RESTS\n",
    ),
    "what was put aside": Change(MEMORY, "unparked = self._store.queue.unpark(ref, self._clock())", "unparked = 0"),
    "what is cut": Change(
        "work",
        "        if row is None or message.depth == 0:\n            return False\n",
        "        if message.depth >= 0:\n            return False\n",
    ),
    "what comes back": Change("widening.py", "    if widening is None or record", "    if record.depth >= 0 or record"),
    # Captures
    "kept before the end": Change(
        "work",
        """        if capture is None:
            self._endings.finish(visit, end)
            return
""",
        """        if capture is not None:
            self.note(capture)
        if True:
            self._endings.finish(visit, end)
            return
""",
    ),
    "kept before it is tried again": Change(
        "work",
        "            self._keep(visit, capture, partial(self._end_given_back, at, outcome, tried))\n",
        "            self._endings.give_back(visit, at, outcome, tried=tried)\n",
    ),
    "what could not be kept": Change(
        "work", "            self._endings.give_back(visit, self.worth_while_at)\n", "            then(visit, None)\n"
    ),
    "captures that lie elsewhere": Change(MEMORY, "kept = moved_kept(record.kept, moves)\n", "kept = record.kept\n"),
    "what is unchanged and lies elsewhere": Change(
        "frontier/places.py",
        "None if place.payload is None else moved(place.payload, moves)\n",
        "place.payload\n",
    ),
    # Messages
    "message kept until the end": Change(
        "work",
        "        ended = self._desk.finish(",
        "        self._desk.delete(visit.delivery)\n        ended = self._desk.finish(",
    ),
    "links": Change(MEMORY, "self._enqueue(finish.links)", "self._enqueue(finish.links[1:])"),
    "stale receipt": Change(MEMORY, "if stored is not None and stored.receipt == delivery.receipt else None", ""),
    "receives of a deferral": Change(
        MEMORY,
        'replace(stored, receive_count=0, receipt=""), until, message)\n',
        'replace(stored, receipt=""), until, message)\n',
    ),
    "dead letters": Change(ANSWERS, "return receives >= max_receives", "return receives >= 1_000_000"),
    "sweeps": Change("work", "        await asyncio.sleep(every_seconds)\n", "        await asyncio.sleep(1e9)\n"),
    "orphan test": Change(MEMORY, "record.enqueued_at if store.queue.holds(record.key) else None", "None"),
    "due_at moved on": Change(
        ANSWERS, "return now + max(due_seconds, min(waited, LONGEST_LOOK_AGAIN_SECONDS))", "return now"
    ),
    "generation of the frontier": Change(
        "work",
        "if self.generation != self._frontier.generation:",
        "if self.generation > self._frontier.generation:",
    ),
    # Shares
    "spent with the end": Change(MEMORY, "            if run in self._store.runs:  #", "            if not run:  #"),
    "shares of others": Change(
        "frontier/shares.py", "others = sum(share.pages for share in shares.values())", "others = 0"
    ),
    # Hosts
    "delay": Change(
        "host.py",
        "again_at = max(row.rest_until, row.last_request + entrance.delay_seconds)",
        "again_at = row.rest_until",
    ),
    "requests at once": Change(
        "host.py", "if len(requests) >= (1 if row.rests else entrance.per_host):", "if len(requests) >= 1_000_000:"
    ),
    "late permissions": Change("politeness", "is_late = age > permission.good_for", "is_late = age > 1_000_000"),
    "host version": Change("host.py", "if old.version != row.version:", "if old.version < row.version:"),
    "slots": Change("host.py", "next_slot = first + demand.count * demand.spacing_seconds", "next_slot = first"),
    "slots of turns": Change(
        "host.py", "    state, slot = reserved(state, demand, now)\n", "    _, slot = reserved(state, demand, now)\n"
    ),
    "generation of slots": Change(
        "host.py",
        "if entrance.generation is not None and entrance.generation != row.generation:",
        "if entrance.generation == -1:",
    ),
    "orders at enter": Change("host.py", "    if row.is_paused or row.is_blocked:\n", "    if row.version < 0:\n"),
    "orders where nothing is entered": Change(
        "politeness", "        return row.is_paused or row.is_blocked\n", "        return False\n"
    ),
    "robots.txt": Change("politeness", "if verdict.allowed:", "if verdict.allowed or self._clock() % 1 < 0.05:"),
    # Trouble
    "trouble costs no try": Change("work", "if not learned.counts:", "if learned.again_at < 0:"),
    "one rest an incident": Change(
        "host_trouble.py", "return asked_at <= row.rested_at or asked_at < row.rest_until", "return asked_at < 0"
    ),
    "given up": Change(
        "host_trouble.py", "if rests >= GIVE_UP_PROBES and now - since >= limit:", "if rests >= 1_000_000:"
    ),
    "given up too soon": Change(
        "host_trouble.py", "if rests >= GIVE_UP_PROBES and now - since >= limit:", "if rests >= 2:"
    ),
    "our own trouble": Change("politeness", "return self.is_down or heard_at < began_at", "return heard_at < -1"),
    "redirects in a row": Change("work", "MAX_REDIRECTS: Final = 10", "MAX_REDIRECTS: Final = 1_000"),
}


def product() -> Path:
    """The folder of the product that would be imported."""
    spec = importlib.util.find_spec("sqspider")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def planted(change: Change, root: Path) -> tuple[Path, str]:
    """A file below the product's folder, and its text with the fault. Raises ``ValueError`` where the text that it
    replaces is not in its room exactly once."""
    room = root / change.room
    sources = {file: file.read_text() for file in ([room] if room.is_file() else sorted(room.rglob("*.py")))}
    times = sum(source.count(change.old) for source in sources.values())
    if times != 1:
        raise ValueError(f"{change.room} has {times} times, not once: {change.old!r}")
    file = next(file for file, source in sources.items() if change.old in source)
    return file, sources[file].replace(change.old, change.new)


def plant(name: str) -> None:
    """Let the product be imported from a copy with a fault. To be called before anything of it is imported."""
    assert not any(module.partition(".")[0] == "sqspider" for module in sys.modules)
    change = PLANTS[name]
    folder = Path(tempfile.mkdtemp(prefix="planted-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # children that end by os._exit leave it alone
    shutil.copytree(product(), folder / "sqspider", ignore=shutil.ignore_patterns("__pycache__"))
    file, source = planted(change, folder / "sqspider")
    file.write_text(source)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
