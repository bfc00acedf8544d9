"""Where captures lie once files of an archive were written anew: what the frontier is told, and the journal of it.

Files are written anew in rounds. What can be seen of one, by the state that its journal is in, and what becomes of it
where whoever did it died:

| state | what is there | what heals it |
|---|---|---|
| making | the old files, and new ones that nothing names | the new ones are removed |
| made | new files, whole, and old ones: the frontier names either | it is told again, the old ones are removed |
| told | the new files alone | it is told once more, for a day: for what was under way meanwhile |

Healing is what ``pack`` and ``forget`` do first, see ``rewriting``. A journal names files and offsets, and no URL.
"""

from __future__ import annotations

import enum
import gzip
import io
import json
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from sqspider.archive.errors import DamagedError, NoArchiveError
from sqspider.archive.files import Files
from sqspider.archive.names import JOURNAL, JOURNAL_ENDING
from sqspider.record import CapturePlace

_STEP: Final = 64 * 1024

T = TypeVar("T")


class State(enum.StrEnum):
    """How far a round has come."""

    MAKING = "making"
    MADE = "made"
    TOLD = "told"


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What a journal begins with."""

    state: State
    mark: str  # in the name of each file that is made
    host: str  # whose process it is
    pid: int
    began: float  # seconds since the epoch
    has_frontier: bool  # that is to be told
    version: int = 1


class _Extents:
    """Runs of bytes of one file that were copied: from where to where, into which file, and how far on."""

    __slots__ = ("ends", "shifts", "starts", "targets")

    def __init__(self) -> None:
        self.starts, self.ends, self.shifts, self.targets = (array("q") for _ in range(4))


class _Places(Mapping[tuple[str, int], CapturePlace | None]):
    """By file and offset, where a capture lies now: computed, for there may be millions. It is asked one at a time;
    :meth:`get` with the place as it was gives the place as it is, or that very place where nothing has moved."""

    def __getitem__(self, key: tuple[str, int]) -> CapturePlace | None:
        missing: Any = object()
        found: Any = self.get(key, missing)
        if found is missing:
            raise KeyError(key)
        place: CapturePlace | None = found
        return place


class Moved(_Places):
    """What moved in one round."""

    def __init__(self) -> None:
        self._sources: dict[str, _Extents] = {}
        self._targets: list[str] = []
        self._number_of: dict[str, int] = {}
        self._remade: dict[tuple[str, int], CapturePlace] = {}
        self.extents = 0

    @property
    def sources(self) -> list[str]:
        """The files that are replaced: what of them was neither copied nor remade was erased."""
        return list(self._sources)

    @property
    def targets(self) -> list[str]:
        """The files that were made."""
        return self._targets

    def replaces(self, source: str) -> None:
        """All of a file is replaced."""
        self._sources.setdefault(source, _Extents())

    def makes(self, target: str) -> None:
        """A file is made."""
        self._number_of.setdefault(target, len(self._targets))
        if self._number_of[target] == len(self._targets):
            self._targets.append(target)

    def copied(self, source: str, start: int, end: int, target: str, shift: int) -> None:
        """Note that some bytes lie in another file, so much further on. In the order of the source."""
        self.replaces(source)
        self.makes(target)
        extents = self._sources[source]
        extents.starts.append(start)
        extents.ends.append(end)
        extents.shifts.append(shift)
        extents.targets.append(self._number_of[target])
        self.extents += 1

    def remade(self, source: str, offset: int, place: CapturePlace) -> None:
        """Note that a record was made anew; its place has where its payload lies, if that is elsewhere by now."""
        self._remade[source, offset] = place

    def get(self, key: tuple[str, int], default: T | None = None) -> Any:
        """See :class:`_Places`."""
        if (remade := self._remade.get(key)) is not None:
            return remade
        file, offset = key
        extents = self._sources.get(file)
        if extents is None:
            return default
        at = bisect_right(extents.starts, offset) - 1
        if at < 0 or offset >= extents.ends[at]:
            return None
        before = default if isinstance(default, CapturePlace) else CapturePlace(file, offset, 0, "", 0.0)
        target = self._targets[extents.targets[at]]
        return msgspec.structs.replace(before, file=target, offset=offset + extents.shifts[at])

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Where runs began, and what was remade: not each capture."""
        yield from self._remade
        for source, extents in self._sources.items():
            yield from ((source, start) for start in extents.starts)

    def __len__(self) -> int:
        return self.extents + len(self._remade)

    def lines(self) -> Iterator[list[Any]]:
        """All of it, as lines of a journal."""
        for target in self._targets:
            yield ["made", target]
        for source, extents in self._sources.items():
            yield ["source", source]
            runs = zip(extents.starts, extents.ends, extents.targets, extents.shifts, strict=True)
            for start, end, target_number, shift in runs:
                yield ["copied", source, start, end, self._targets[target_number], shift]
        for (source, offset), place in self._remade.items():
            yield ["remade", source, offset, msgspec.to_builtins(place)]

    def take(self, line: list[Any]) -> None:
        """Read such a line."""
        match line:
            case ["made", str(target)]:
                self.makes(target)
            case ["source", str(source)]:
                self.replaces(source)
            case ["copied", str(source), int(start), int(end), str(target), int(shift)]:
                self.copied(source, start, end, target, shift)
            case ["remade", str(source), int(offset), list(place)]:
                self.remade(source, offset, msgspec.convert(place, CapturePlace))
            case _:
                raise ValueError(f"{line!r} is no line of a journal")


class Chain(_Places):
    """What moved in several rounds, one after the other."""

    def __init__(self, rounds: Sequence[Moved]) -> None:
        self._rounds = rounds

    def get(self, key: tuple[str, int], default: T | None = None) -> Any:
        """See :class:`_Places`."""
        place: Any = default if isinstance(default, CapturePlace) else CapturePlace(*key, 0, "", 0.0)
        before = place
        for moved in self._rounds:
            place = moved.get((place.file, place.offset), place)
            if place is None:
                return None
        return default if place is before else place

    def __iter__(self) -> Iterator[tuple[str, int]]:
        for moved in self._rounds:
            yield from moved

    def __len__(self) -> int:
        return sum(map(len, self._rounds))


def journal_name(mark: str) -> str:
    """The name of a round's journal."""
    return f"{JOURNAL}{mark}{JOURNAL_ENDING}"


def journals_in(files: Files) -> list[str]:
    """The names of all journals of an archive."""
    return [info.name for info in files.all() if info.name.startswith(JOURNAL) and info.name.endswith(JOURNAL_ENDING)]


def write_journal(files: Files, head: Head, moved: Moved) -> None:
    """Write a round's journal, in place of what it said before."""
    files.write(journal_name(head.mark), _journal(head, moved))


def _journal(head: Head, moved: Moved) -> Iterator[bytes]:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1, mtime=0) as packer:
        packer.write(msgspec.json.encode(head) + b"\n")
        for line in moved.lines():
            packer.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            if buffer.tell() > _STEP:
                yield buffer.getvalue()
                buffer.seek(0)
                buffer.truncate()
    yield buffer.getvalue()


def read_head(files: Files, name: str) -> Head | None:
    """How far a round has come, by the name of its journal; none: it is not there any more. Raises
    :class:`DamagedError`."""
    found = _read(files, name, with_moves=False)
    return None if found is None else found[0]


def read_journal(files: Files, name: str) -> tuple[Head, Moved] | None:
    """The same, with what has moved."""
    return _read(files, name, with_moves=True)


def _read(files: Files, name: str, *, with_moves: bool) -> tuple[Head, Moved] | None:
    moved = Moved()
    try:
        with files.opened(name) as stream, gzip.GzipFile(fileobj=stream) as lines:
            head = msgspec.json.decode(lines.readline(), type=Head)
            for line in lines if with_moves else ():
                moved.take(json.loads(line))
    except NoArchiveError:  # whoever had it has come to its end
        return None
    except (OSError, EOFError, ValueError, msgspec.MsgspecError) as error:
        raise DamagedError(
            f"{files.address}: {name} cannot be read: {error}. It says which files were written anew in place of "
            "which; `sqspider archive verify` tells whether something is missing"
        ) from error
    return head, moved
