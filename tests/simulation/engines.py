"""The real adapters, each over an outside that is simulated.

An engine opens a handle for each process, with its weather, and handles for whoever looks on, without. What the
kernel does for a process that died, it does in ``abandon``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import msgspec

from sqspider.frontier import (
    Deferral,
    Delivery,
    Ends,
    Frontier,
    FrontierBusyError,
    FrontierSettings,
    Taking,
    Turned,
    TurningFrontier,
)
from sqspider.frontier.aws import AwsFrontier
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from sqspider.frontier.sqlite import SqliteFrontier
from sqspider.frontier.sqlite import messages as sqlite_messages
from sqspider.message import Message, decode_message

from . import fake_aws as aws_module
from .fake_aws import ENVIRONMENT, FakeAws, FakeTransport
from .loop import CURRENT, EPOCH, Process, point
from .witness import Witness

T = TypeVar("T")

SETTINGS = FrontierSettings()
BUSY_SECONDS = 30.0  # that SQLite waits for a lock


class Weather(NamedTuple):
    """What goes wrong with the store and with the queue: chances of one call, or of one delivery."""

    busy: float = 0.0  # refused after a long wait: it has not happened
    lost: float = 0.0  # it has happened, and the answer says that it may not have
    slow: float = 0.0  # it happens late
    late: float = 0.0  # it has happened, and the answer comes late
    dropped: float = 0.0  # a message that was received is lost for good
    doubled: float = 0.0  # there are two of it
    held: float = 0.0  # it comes again after a while, and behind others


class Engine(Protocol):
    """A store that processes share, for one history."""

    has_copies: bool  # its queue may deliver a message twice at a time
    tells_late: bool  # what its queue holds is told half a minute late
    witness: Witness

    async def open(self, process: Process, rng: random.Random) -> Frontier:
        """A process's own handle."""

    async def look(self, process: Process) -> Frontier:
        """A handle without weather, of a process that nothing happens to."""

    def abandon(self, process: Process) -> None:
        """Do what the kernel does when a process has died."""

    def finishes(self) -> dict[str, int]:
        """How often each record became final, where the store itself can tell; else nothing."""


class Storm:
    """The weather of one history: what each call meets."""

    def __init__(self, weather: Weather, rng: random.Random) -> None:
        self.weather, self._rng = weather, rng

    def strikes(self, chance: float) -> bool:
        return chance > 0 and CURRENT.get() is not None and self._rng.random() < chance

    def some(self) -> float:
        """Seconds that something takes too long."""
        return self._rng.choice((0.01, 0.1, 1.0, 4.0, 12.0))

    async def before(self) -> None:
        """What a call meets before it happens."""
        await point()
        if self.strikes(self.weather.busy):
            await asyncio.sleep(BUSY_SECONDS)
            raise FrontierBusyError("simulated: locked")
        if self.strikes(self.weather.slow):
            await asyncio.sleep(self.some())

    async def after(self) -> None:
        """And before it is answered."""
        await asyncio.sleep(self.some() if self.strikes(self.weather.late) else 0.001)
        await point()
        if self.strikes(self.weather.lost):
            raise FrontierBusyError("simulated: the answer was lost")


class Mail:
    """A frontier whose queue loses, doubles and holds back what is received."""

    def __init__(self, frontier: Frontier, storm: Storm, witness: Witness) -> None:
        self._frontier, self._storm, self._witness = frontier, storm, witness

    def __getattr__(self, name: str) -> Any:
        return getattr(self._frontier, name)

    async def receive(self, limit: int, *, wait_seconds: float = 0.0, crawl: str | None = None) -> list[Delivery]:
        deliveries = await self._frontier.receive(limit, wait_seconds=wait_seconds, crawl=crawl)
        return [delivery for delivery in deliveries if await self._arrives(delivery)]

    async def turn(self, ends: Ends, taking: Taking) -> Turned:
        turned = await cast(TurningFrontier, self._frontier).turn(ends, taking)
        # What was claimed in the same transaction cannot be lost on the way.
        taken = [one for one in turned.taken if one.claim is not None or await self._arrives(one.delivery)]
        return msgspec.structs.replace(turned, taken=taken)

    async def _arrives(self, delivery: Delivery) -> bool:
        weather, storm, frontier = self._storm.weather, self._storm, self._frontier
        message = decode_message(delivery.body)
        if not isinstance(message, Message):
            return True
        is_there = True
        if storm.strikes(weather.dropped):
            self._witness.dropped.append((message.url, self._witness.loop.now))
            await frontier.delete([delivery])
            is_there = False
        elif storm.strikes(weather.held):
            await frontier.defer([Deferral(delivery=delivery, until=frontier.now() + storm.some())])
            is_there = False
        if storm.strikes(weather.doubled):
            await frontier.send([delivery.body])
        return is_there


class _Inline:
    """Runs the steps of an adapter in place, with the weather of each."""

    def __init__(self, storm: Storm | None) -> None:
        self._storm = storm

    async def run(self, work: Callable[[], T], end: Callable[[], None] | None = None) -> T:
        if self._storm is None:
            return _whole(work, end)
        await self._storm.before()
        answer = _whole(work, end)
        await self._storm.after()
        return answer

    def close(self) -> None: ...


def _whole(work: Callable[[], T], end: Callable[[], None] | None) -> T:
    answer = work()
    if end is not None:
        end()
    return answer


class MemoryEngine:
    """The adapter in memory: a store that processes share."""

    has_copies = tells_late = False

    def __init__(self, witness: Witness, weather: Weather, seed: int, _: Path) -> None:
        self.witness = witness
        self._storm = Storm(weather, random.Random(f"weather {seed}"))
        self._store = MemoryStore()

    async def open(self, process: Process, rng: random.Random) -> Frontier:
        frontier = MemoryFrontier(self._store, SETTINGS, clock=process.clock, rng=rng, runner=_Inline(self._storm))
        return cast(Frontier, Mail(frontier, self._storm, self.witness))

    async def look(self, process: Process) -> Frontier:
        return MemoryFrontier(self._store, SETTINGS, clock=process.clock, rng=random.Random(0), runner=_Inline(None))

    def abandon(self, process: Process) -> None: ...

    def finishes(self) -> dict[str, int]:
        return {}


class SqliteEngine:
    """The real adapter on one file in memory: a connection for each process, no thread."""

    has_copies = tells_late = False

    def __init__(self, witness: Witness, weather: Weather, seed: int, folder: Path) -> None:
        self.witness = witness
        # SQLite loses no answer: what was committed is answered, if late.
        self._storm = Storm(weather._replace(lost=0.0), random.Random(f"weather {seed}"))
        self._path = str(folder / "frontier.db")
        self._handles: dict[Process, SqliteFrontier] = {}
        sqlite_messages.POLL_SECONDS = (0.1, 5.0)  # type: ignore[misc] # most of a history is idle looks otherwise

    async def open(self, process: Process, rng: random.Random) -> Frontier:  # noqa: ARG002 - it leaves nothing to chance
        frontier = await self._open(process, self._storm)
        self._handles[process] = frontier
        return cast(Frontier, Mail(frontier, self._storm, self.witness))

    async def look(self, process: Process) -> Frontier:
        return await self._open(process, None)

    async def _open(self, process: Process, storm: Storm | None) -> SqliteFrontier:
        frontier = await SqliteFrontier.open(self._path, SETTINGS, clock=process.clock, runner=_Inline(storm))
        frontier._file.connection.execute("PRAGMA synchronous = OFF")  # the machine itself does not die here
        return frontier

    def abandon(self, process: Process) -> None:
        if frontier := self._handles.pop(process, None):
            frontier._file.connection.close()

    def finishes(self) -> dict[str, int]:
        return {}


class AwsEngine:
    """The real adapter over a fake of SQS and DynamoDB. Each process has a way to it of its own."""

    has_copies = True

    def __init__(self, witness: Witness, weather: Weather, seed: int, _: Path) -> None:
        self.witness = witness
        rng = random.Random(f"weather {seed}")
        self._storm = Storm(weather._replace(busy=0.0, lost=0.0), rng)
        loop = witness.loop
        self._aws = FakeAws(
            clock=lambda: EPOCH + loop.now,
            rng=rng,
            weather=aws_weather(weather, rng),
            visibility_seconds=SETTINGS.visibility_seconds,
            max_receives=SETTINGS.max_receives,
        )
        self.tells_late = self._aws.weather.figures_lag > 0

    async def open(self, process: Process, rng: random.Random) -> Frontier:
        return await self._open(
            process, rng, FakeTransport(self._aws, before=self._storm.before, after=self._storm.after)
        )

    async def look(self, process: Process) -> Frontier:
        return await self._open(process, random.Random(0), FakeTransport(self._aws, weather=aws_module.FAIR))

    async def _open(self, process: Process, rng: random.Random, transport: FakeTransport) -> Frontier:
        return await AwsFrontier.open(
            SETTINGS, clock=process.clock, rng=rng, environment=ENVIRONMENT, transport=transport
        )

    def abandon(self, process: Process) -> None: ...

    def finishes(self) -> dict[str, int]:
        return dict(self._aws.table.finished)


def aws_weather(weather: Weather, rng: random.Random) -> aws_module.Weather:
    """What AWS has in place of a lock that is held: throttling, lost answers, an index that lags."""
    if weather == Weather():
        return aws_module.FAIR
    return aws_module.Weather(
        throttled=rng.choice((0, 0.02, 0.1)),
        unreached=rng.choice((0, 0.01)),
        failed=rng.choice((0, 0.01)),
        lost=rng.choice((0, 0.01, 0.05)),
        partial=rng.choice((0, 0.02, 0.05)),
        duplicate=rng.choice((0, 0.02, 0.1)),
        undeleted=rng.choice((0, 0.02)),
        disorder=rng.random() < 0.5,
        index_lag=rng.choice((0, 0.2, 3)),
        figures_lag=rng.choice((0, 0, 30)),
        read_lag=rng.choice((0, 0, 1)),
    )


# Each engine by its name, as the command line takes it.

Make = Callable[[Witness, Weather, int, Path], Engine]
ENGINES: dict[str, Make] = {"memory": MemoryEngine, "sqlite": SqliteEngine, "aws": AwsEngine}
