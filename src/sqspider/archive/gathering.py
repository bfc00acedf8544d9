"""Brings together what is of one exchange: the answer, what was asked, what is told of it, where that lies together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from sqspider.archive.cdxj import CAPTURE_KINDS
from sqspider.archive.errors import DamagedError
from sqspider.archive.files import FileInfo, Files
from sqspider.archive.http_messages import fields_in
from sqspider.archive.originals import Reference
from sqspider.archive.records import Fields, Record, RecordError, measured, records_of, without_brackets

_SIDE_BYTES: Final = 1024 * 1024  # of a request's head, or of metadata, that is kept with its answer
_SIDES: Final = 8  # requests and metadata before their answer that wait for it
_SIDE_KINDS: Final = ("request", "metadata")


class _Capture(Protocol):
    """What others tell of."""

    identity: str
    length: int
    request: bytes | None
    metadata: Fields


T = TypeVar("T", bound=_Capture)


class Side(NamedTuple):
    """A record that tells of a capture."""

    kind: str
    identity: str
    concurrent: frozenset[str]  # to which records
    content: bytes

    @classmethod
    def of(cls, record: Record) -> Side:
        content = record.read(_SIDE_BYTES)
        concurrent = frozenset(map(without_brackets, record.all("warc-concurrent-to")))
        return cls(record.kind, record.identity, concurrent, content)


class Sight:
    """A capture that was passed over: who it is, and how large."""

    def __init__(self, record: Record) -> None:
        self.identity = record.identity
        self.origin = record.origin
        self.size = record.size  # of its block, bytes
        self.offset = record.offset
        self.reference = Reference.of(record.fields) if record.kind == "revisit" else None
        self.length = 0
        self.request: bytes | None = None
        self.metadata: Fields = ()


class Gathered(NamedTuple, Generic[T]):
    """A capture, and how far its file was read with it. The last of a file has none, if others than captures follow."""

    capture: T | None
    end: int  # offset in the file where what is of others begins; it is never amid what was packed together
    infos: tuple[str, ...]  # identities of the ``warcinfo`` records that came since the one before


def sights_from(files: Files, info: FileInfo, offset: int = 0) -> Iterator[Gathered[Sight]]:
    """The captures of one file, passed over: for who hands them out to others. Costs a fraction of reading them."""
    return gathered(files, info, offset, _seen)


def gathered(
    files: Files,
    info: FileInfo,
    offset: int,
    take: Callable[[Record], T | Side | None],
    *,
    hands_out_torn: bool = False,
) -> Iterator[Gathered[T]]:
    """What ``take`` makes of the records of one file, from an offset on. ``hands_out_torn``: of a file that is being
    written the last capture, too, though something may be told of it yet. Raises :class:`DamagedError`."""
    name = info.name
    with files.opened(name, offset) as stream:
        gathering = _Gathering[T](offset)
        try:
            for record, taken in measured(records_of(stream, name, offset), take):
                yield from gathering.take(record, taken)
        except RecordError as error:
            if error.is_torn and info.is_open:
                yield from gathering.rest(error.offset) if hands_out_torn else gathering.told(error.offset)
                return
            yield from gathering.rest(error.offset)
            advice = (
                "`sqspider archive repair` cuts off what a crawler that died left"
                if error.is_torn
                else "put that file elsewhere, and the others are read (`archive verify` lists what it held)"
            )
            damage = DamagedError(f"{files.address}: {error}; {advice}")
            damage.file = name
            raise damage from error
        if info.is_open and not hands_out_torn:
            yield from gathering.told(gathering.end)
        else:
            yield from gathering.rest(gathering.end)


class _Gathering(Generic[T]):
    """Brings together what is of one capture: it waits until a record comes that is of none before it."""

    def __init__(self, offset: int) -> None:
        self.end = offset  # of the last record that came
        self._captured: T | None = None
        self._next: int | None = None  # where the first record lies that is of none before it
        self._concurrent: frozenset[str] = frozenset()
        self._sides: OrderedDict[str, Side] = OrderedDict()  # that came before their answer
        self._infos: list[str] = []

    def take(self, record: Record, taken: T | Side | None) -> Iterator[Gathered[T]]:
        self.end = record.offset + record.length
        if isinstance(taken, Side):
            if self._captured is not None and self._is_of_it(taken):
                _tell(self._captured, taken)
                return
            if self._next is None:
                self._next = record.offset
            self._sides[taken.identity] = taken
            if len(self._sides) > _SIDES:
                self._sides.popitem(last=False)
            return
        yield from self.rest(record.offset)
        if taken is not None:
            taken.length = record.length
            self._captured = taken
            self._concurrent = frozenset(map(without_brackets, record.all("warc-concurrent-to")))
            for side in [side for side in self._sides.values() if self._is_of_it(side)]:
                _tell(taken, self._sides.pop(side.identity))
        elif record.kind == "warcinfo":
            self._infos.append(record.identity)

    def rest(self, end: int) -> Iterator[Gathered[T]]:
        """What waits, and whatever came since."""
        if self._captured is not None or self._infos:
            yield Gathered(self._captured, end if self._next is None else self._next, tuple(self._infos))
        self._captured, self._next, self._infos = None, None, []

    def told(self, end: int) -> Iterator[Gathered[T]]:
        """The same at an end behind which somebody still writes: what is told of a capture is written last."""
        if self._captured is None or self._captured.metadata:
            yield from self.rest(end)

    def _is_of_it(self, side: Side) -> bool:
        captured = self._captured
        return captured is not None and (captured.identity in side.concurrent or side.identity in self._concurrent)


def _tell(captured: _Capture, side: Side) -> None:
    if side.kind == "request":
        captured.request = side.content
    else:
        captured.metadata += fields_in(side.content)


def side_of(record: Record) -> Side | None:
    """What a record tells of a capture; none: it is not of that kind."""
    return Side.of(record) if record.kind in _SIDE_KINDS else None


def _seen(record: Record) -> Sight | Side | None:
    return Sight(record) if record.kind in CAPTURE_KINDS else side_of(record)
