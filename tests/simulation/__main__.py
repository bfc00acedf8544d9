"""Plays histories: ``python -m tests.simulation ENGINE [--seed N] [--count N] [--every-kill] [--seconds N] ...``.

Each is played in a forked child, some after one another, which ends without cleaning up: what the dead left
behind must not run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final

from .plant import plant

TURN: Final = 25  # histories a child


def in_child(histories: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Reports of histories that are played in a fork."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as out:
            for report in histories:
                out.write(json.dumps(report) + "\n")
                out.flush()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as lines:
        yield from map(json.loads, lines)
    _, status = os.waitpid(child, 0)
    if status:
        raise SystemExit(f"the simulator itself failed (status {status})")


class Tally:
    """What many histories came to."""

    def __init__(self) -> None:
        self.sums: Counter[str] = Counter()
        self.kinds: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.traces: list[str] = []

    def add(self, report: dict[str, Any]) -> None:
        self.sums["histories"] += 1
        for name in ("kills", "points", "events", "calls", "requests", "writes", "failed_writes", "seconds"):
            self.sums[name] += report[name]
        for kind in dict.fromkeys(kind for kind, _ in report["violations"]):
            self.kinds[kind].append(report)

    def as_dict(self) -> dict[str, Any]:
        return {
            **self.sums,
            "violations": {
                kind: [
                    {"seed": r["seed"], "kill_at": r["kill_at"], "detail": dict(r["violations"])[kind]} for r in found
                ]
                for kind, found in self.kinds.items()
            },
        }


def play(engine: str, seeds: Iterable[int], *, is_small: bool = False) -> Iterator[dict[str, Any]]:
    """Reports of one history a seed; to be called in a child."""
    from .history import History, listen

    listen()
    for seed in seeds:
        try:
            yield History(engine, seed, is_small=is_small).run().as_dict()
        except BaseException:
            print(f"seed {seed}", file=sys.stderr)
            raise


def play_kills(engine: str, seed: int, points: Iterable[int]) -> Iterator[dict[str, Any]]:
    """Reports of one history, killed at each of some points in turn; to be called in a child."""
    from .history import History, listen

    listen()
    for point in points:
        yield History(engine, seed, kill_at=point).run().as_dict()


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.simulation")
    parser.add_argument("engine", choices=["memory", "sqlite", "aws"])
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--count", type=int, help="histories, or seeds with --every-kill (1; without end with a limit)")
    parser.add_argument(
        "--every-kill", action="store_true", help="a small history, killed at each of its points in turn"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of this machine's time")
    parser.add_argument("--events", type=float, default=float("inf"), help="callbacks, in all histories")
    parser.add_argument("--plant", help="a fault that is planted first")
    parser.add_argument("--until-found", action="store_true", help="end at the first violation")
    parser.add_argument("--json", action="store_true", help="print the figures as one object, and nothing else")
    parser.add_argument("-v", action="store_true", help="print each history")
    given = parser.parse_args()
    is_bounded = given.seconds < float("inf") or given.events < float("inf")
    count = given.count if given.count is not None else (1 << 40 if is_bounded else 1)
    if given.plant:
        plant(given.plant)
    import tests.simulation.history  # noqa: F401 - before the first fork, for all of them

    tally, started = Tally(), time.monotonic()
    turn_length = 5 if given.until_found else TURN

    def is_over() -> bool:
        is_late = time.monotonic() - started > given.seconds or tally.sums["events"] >= given.events
        return is_late or bool(given.until_found and tally.kinds)

    def turns() -> Iterator[Iterator[dict[str, Any]]]:
        for seed in range(given.seed, given.seed + count, 1 if given.every_kill else turn_length):
            if not given.every_kill:
                yield in_child(play(given.engine, range(seed, min(seed + turn_length, given.seed + count))))
                continue
            calm = next(in_child(play(given.engine, [seed], is_small=True)))
            yield iter([calm])
            for point in range(0, calm["points"], turn_length):
                points = range(point, min(point + turn_length, calm["points"]))
                yield in_child(play_kills(given.engine, seed, points))

    for turn in turns():
        for report in turn:
            tally.add(report)
            if given.v:
                shown = {
                    name: report[name]
                    for name in ("seed", "kill_at", "trace", "kills", "points", "events", "requests", "seconds")
                }
                print(*(f"{name} {value}" for name, value in shown.items()), flush=True)
                print("   ", report["plan"])
                for kind, detail in report["violations"]:
                    print(f"    {kind}: {detail}")
            tally.traces.append(report["trace"])
        if is_over():
            break
    if given.json:
        print(json.dumps({**tally.as_dict(), "traces": tally.traces}))
    else:
        _print(tally, time.monotonic() - started)
    sys.stdout.flush()
    sys.exit(1 if tally.kinds else 0)


def _print(tally: Tally, seconds: float) -> None:
    sums = tally.sums
    print(
        f"{sums['histories']:,} histories, {sums['kills']:,} kills, {sums['requests']:,} requests, "
        f"{sums['writes']:,} writes to archives ({sums['failed_writes']:,} more failed), "
        f"{sums['seconds'] / 3600:,.0f} virtual hours, {sums['events']:,} events, {sums['calls']:,} frontier calls "
        f"in {seconds:,.0f} s"
    )
    for kind, found in sorted(tally.kinds.items()):
        print(f"{kind}: {len(found)} histories")
        for report in found[:5]:
            detail = dict(report["violations"])[kind]
            at = "" if report["kill_at"] is None else f" (killed at {report['kill_at']})"
            print(f"    seed {report['seed']}{at}: {detail[:300]}")
    if not tally.kinds:
        print("0 violations")


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of texts keep one order
        arguments = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, arguments, {**os.environ, "PYTHONHASHSEED": "0"})
    main()
