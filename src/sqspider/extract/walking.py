"""Walks what was not read yet of an archive: file by file, those that are being written as far as their last whole
capture.

Whoever walks takes the steps (``Cursor.take``) in the transaction in which he keeps what he made of the captures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqspider.archive.errors import DamagedError, NoArchiveError
from sqspider.archive.files import FileInfo, Files, warc_files
from sqspider.archive.gathering import Gathered, Sight, sights_from
from sqspider.archive.members import can_be_joined
from sqspider.archive.moves import State, journal_name, journals_in, read_head, read_journal
from sqspider.archive.names import mark_of_rewritten
from sqspider.extract.cursor import Cursor, Step

Damaged = Callable[[DamagedError], None]


def look(files: Files, cursor: Cursor, on_damage: Damaged) -> Iterator[tuple[Sight | None, Step]]:
    """The captures that were not read yet, passed over, each with the step that is made with it; and steps without one.
    A capture that was taken from another file is there, too: its step has no origin.

    It goes through the files that there are now. Whoever wants all looks again, once he has taken the steps, until no
    more come: for what was written meanwhile, or moved. What cannot be read is told ``on_damage``, and the other files
    are read; the next look tells it again. Raises :class:`sqspider.ArchiveError` where there is no archive.
    """
    walked = set[str]()  # origins of files that were read to their end: their steps need not be taken yet
    for info in _standing(files, cursor):
        offset = cursor.reached(info.name)
        if offset is None or (info.is_open and info.size == offset):
            continue
        if not can_be_joined(files, info.name):  # from its midst on nothing of it can be unpacked
            on_damage(_needs_dictionary(files, info.name))
            continue
        try:
            yield from _unread(cursor, info, offset, sights_from(files, info, offset), walked)
        except NoArchiveError:
            if files.info(info.name) is not None:
                raise
            return  # it was packed since: what is left of it lies in another file, for the next look
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


def _needs_dictionary(files: Files, name: str) -> DamagedError:
    error = DamagedError(
        f"{files.address}: {name} cannot be read in pieces, for its members need the dictionary that it begins with: "
        "unpack it (`zstd -d`), or pack it with gzip"
    )
    error.file = name
    return error


def _unread(
    cursor: Cursor, info: FileInfo, offset: int, found: Iterator[Gathered[Sight]], walked: set[str]
) -> Iterator[tuple[Sight | None, Step]]:
    met = cursor.origins_in(info.name)
    states: dict[str, bool | None] = {}  # of origins: whether one has to look for each capture; none: all were read
    is_rewritten = mark_of_rewritten(info.name) is not None  # of others' files several may have one and the same id
    start = offset
    for capture, end, infos in found:
        met.update(infos)
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
            yield capture, step
        else:
            yield capture, step._replace(origin=origin, capture=capture.identity)
    if not info.is_open:
        yield None, Step(info.name, start, start, is_end=True)
        walked.update(met)
