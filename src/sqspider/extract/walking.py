"""Walks what was not read yet of an archive: file by file, those that are being written as far as their last whole
capture.

Whoever walks takes the steps (``Cursor.take``) in the transaction in which he keeps what he made of the captures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from sqspider.archive.errors import DamagedError, NoArchiveError
from sqspider.archive.files import FileInfo, Files, warc_files
from sqspider.archive.gathering import Gathered, Sight, sights_from
from sqspider.archive.members import can_be_joined
from sqspider.archive.moves import State, journal_name, journals_in, read_head, read_journal
from sqspider.archive.names import mark_of_rewritten
from sqspider.archive.reading import Captured, captures_from
from sqspider.extract.cursor import Cursor, Step

T = TypeVar("T", Captured, Sight)
Damaged = Callable[[DamagedError], None]


def walk(files: Files, cursor: Cursor, on_damage: Damaged) -> Iterator[tuple[Captured | None, Step]]:
    """The captures that were not read yet, each with the step that was made with it; and steps without one.

    It goes through the files that there are now. Whoever wants all walks again, once he has taken the steps, until no
    more come: for what was written meanwhile, or moved. What cannot be read is told ``on_damage``, and the other files
    are read; the next walk tells it again. Raises :class:`sqspider.ArchiveError` where there is no archive.
    """
    return _walk(files, cursor, on_damage, captures_from)


def look(files: Files, cursor: Cursor, on_damage: Damaged) -> Iterator[tuple[Sight | None, Step]]:
    """The same without what was captured: for who hands it out to others."""
    return _walk(files, cursor, on_damage, sights_from)


def _walk(
    files: Files,
    cursor: Cursor,
    on_damage: Damaged,
    read: Callable[[Files, FileInfo, int], Iterator[Gathered[T]]],
) -> Iterator[tuple[T | None, Step]]:
    while True:
        is_moved = has_any = False
        for found, step in _walk_once(files, cursor, on_damage, read):
            if step is None:
                is_moved = True
                continue
            has_any = has_any or found is not None
            yield found, step
        if has_any or not is_moved:  # who got any walks again; till he has taken the steps, others would come twice
            return


def _walk_once(
    files: Files,
    cursor: Cursor,
    on_damage: Damaged,
    read: Callable[[Files, FileInfo, int], Iterator[Gathered[T]]],
) -> Iterator[tuple[T | None, Step | None]]:
    """Through the files that there are now; without a step: one was moved meanwhile, so there are others by now."""
    walked = set[str]()  # origins of files that were read to their end: their steps need not be taken yet
    standing = _standing(files, cursor)
    names = {info.name for info in standing}
    for info in standing:
        offset = cursor.reached(info.name)
        if offset is None or (info.is_open and info.size == offset):
            continue
        if not can_be_joined(files, info.name):  # from its midst on nothing of it can be unpacked
            offset = 0
            if read is sights_from:
                on_damage(_needs_dictionary(files, info.name))
                continue
        try:
            yield from _unread(files, cursor, info, offset, read(files, info, offset), walked, names)
        except NoArchiveError:
            if files.info(info.name) is not None:
                raise
            if any(there.name == info.name for there in warc_files(files)):
                on_damage(_not_there(files, info.name))
            else:
                yield None, None  # it was packed since: what is left of it lies in another file
        except DamagedError as error:
            on_damage(error)


def _standing(files: Files, cursor: Cursor) -> list[FileInfo]:
    """The files that are read now. While `archive pack` or `archive forget` is at work, or has died, others stand for
    one another: what is being made may yet be taken back, and what is replaced will be removed."""
    there = list(warc_files(files))
    made = [info.name for info in there if cursor.reached(info.name) is not None]
    journals = {journal_name(mark) for name in made if (mark := mark_of_rewritten(name)) is not None}
    not_now = set[str]()
    for journal in journals.union(journals_in(files)):
        head = read_head(files, journal)
        if head is not None and head.state is State.MADE and (found := read_journal(files, journal)) is not None:
            not_now.update(found[1].sources)
        elif head is not None and head.state is State.MAKING:
            not_now.update(info.name for info in there if mark_of_rewritten(info.name) == head.mark)
    return [info for info in there if info.name not in not_now]


def _not_there(files: Files, name: str) -> DamagedError:
    error = DamagedError(f"{files.address}: {name} is listed there, and cannot be had")
    error.file = name
    return error


def _needs_dictionary(files: Files, name: str) -> DamagedError:
    error = DamagedError(
        f"{files.address}: {name} cannot be read in pieces, for its members need the dictionary that it begins with: "
        "unpack it (`zstd -d`), or pack it with gzip"
    )
    error.file = name
    return error


def _unread(
    files: Files,
    cursor: Cursor,
    info: FileInfo,
    offset: int,
    found: Iterator[Gathered[T]],
    walked: set[str],
    standing: set[str],
) -> Iterator[tuple[T | None, Step]]:
    met = cursor.origins_in(info.name)
    states: dict[str, bool | None] = {}  # of origins: whether one has to look for each capture; none: all were read
    is_rewritten = mark_of_rewritten(info.name) is not None  # of others' files several may have one and the same id
    start = offset
    for capture, end, infos in found:
        for origin in infos:
            if is_rewritten and _is_of_others(files, cursor, info.name, origin, standing, is_again=origin in met):
                raise _shared(files, info.name, origin)
            met.add(origin)
        step = Step(info.name, start, end, infos)
        start = end
        if capture is None:
            yield None, step
            continue
        origin = capture.origin if capture.origin in met else info.name
        if origin not in states:
            is_done = is_rewritten and (origin in walked or cursor.is_done(origin))
            states[origin] = None if is_done else cursor.is_begun(origin)
        looks = states[origin]
        if looks is None or (looks and cursor.has_taken(origin, capture.identity)):
            yield None, step
        else:
            yield capture, step._replace(origin=origin, capture=capture.identity)
    if not info.is_open:
        yield None, Step(info.name, start, start, is_end=True)
        walked.update(met)


def _is_of_others(files: Files, cursor: Cursor, name: str, origin: str, standing: set[str], *, is_again: bool) -> bool:
    """Whether what is of an origin in a file that was written anew may be of another file than was read: one that has
    the same id. As long as none was read to its end, its captures are remembered one by one, and told apart."""
    others = cursor.others_with(origin, name)
    if not any(others.values()):
        return False
    sources = [other for other in others if mark_of_rewritten(other) is None]
    stands = any(source in standing and files.info(source) is not None for source in sources)  # so it is not that one
    return is_again or stands or len(sources) > 1 or cursor.is_shared(origin)


def _shared(files: Files, name: str, origin: str) -> DamagedError:
    error = DamagedError(
        f"{files.address}: {name} was made of files of others that have one and the same WARC-Record-ID in their "
        f"warcinfo ({origin}), and what was read of these cannot be told apart: begin anew (rows with --overwrite; "
        "links by removing their table), or keep such files out of `archive pack`"
    )
    error.file = name
    return error
