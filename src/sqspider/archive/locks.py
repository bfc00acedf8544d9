"""The lock of a file that is being written: its writer's, until it closes the file or dies."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

try:
    import fcntl
except ImportError:  # Windows: archives are read there, and not written
    HAS_LOCKS = False
else:
    HAS_LOCKS = True


def lock(descriptor: int) -> None:
    """Take the lock of an open file, without waiting for it.

    Raises ``BlockingIOError`` where somebody else has it, and ``OSError`` where the system or the file system has none.
    """
    if not HAS_LOCKS:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_locked(descriptor: int) -> bool:
    """Whether somebody else holds the lock of an open file: then its end is not written yet."""
    if not HAS_LOCKS:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False
