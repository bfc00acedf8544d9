"""How a command is asked to end: by signals, or by the end of the process that started it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, NoReturn

from sqspider.cli.exit_status import INTERRUPTED

# Ctrl-C; `kill`; the terminal was closed (POSIX); Ctrl-Break (Windows).
_ENDING: Final = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if name in signal.Signals.__members__
)


def _heard() -> list[signal.Signals]:
    """The signals to be heard. What `nohup` has switched off stays so."""
    hang_up = getattr(signal, "SIGHUP", None)
    return [number for number in _ENDING if number != hang_up or signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def stopping_on_signals(stop: Callable[[], None], *, at_once: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Within it the first signal calls ``stop``, in the running event loop; the second ends the process at once.

    At once means without another step, ``at_once`` apart: what is claimed is left to its lease, as after a crash.
    """
    was_asked = False

    def on_signal() -> None:
        nonlocal was_asked
        if was_asked:
            at_once()
            _say("\nstopped: what was in flight comes back when its lease ends")
            os._exit(INTERRUPTED)
        was_asked = True
        stop()
        _say("stopping: finishing what is in flight; once more stops at once")

    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _heard()}
    for number in before:
        _listen(loop, number, on_signal)
    try:
        yield
    finally:
        for number, handler in before.items():
            with suppress(NotImplementedError):  # on Windows, where the loop has none to remove
                loop.remove_signal_handler(number)
            signal.signal(number, handler)


def _listen(loop: asyncio.AbstractEventLoop, number: signal.Signals, call: Callable[[], None]) -> None:
    try:
        loop.add_signal_handler(number, call)
    except NotImplementedError:  # on Windows
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(call))


def _say(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:  # the terminal is gone: what is still said goes nowhere, and stops nobody
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)


@contextmanager
def asked_to_end(stop: Callable[[], object]) -> Iterator[None]:
    """Within it the first signal calls ``stop``, wherever the program is; the second raises as in
    :func:`unwinding_on_signals`."""
    was_asked = False

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal was_asked
        if was_asked:
            _raise_for(number)
        was_asked = True
        stop()
        _say("stopping: keeping what is done; once more stops at once")

    with _hearing(on_signal):
        yield


@contextmanager
def unwinding_on_signals() -> Iterator[None]:
    """Within it a signal raises at once, wherever the program is: what is open is closed, what is half-made removed.

    Raises ``KeyboardInterrupt`` for SIGINT and ``SystemExit`` for the others.
    """

    with _hearing(lambda number, _: _raise_for(number)):
        yield


def _raise_for(number: int) -> NoReturn:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(INTERRUPTED)


@contextmanager
def _hearing(on_signal: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, on_signal) for number in _heard()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_with_parent(stop: Callable[[], None]) -> None:
    """Call ``stop``, in the running event loop, when standard input ends: the parent held its other end."""
    loop = asyncio.get_running_loop()

    def wait() -> None:
        with suppress(OSError):
            while os.read(0, 4096):
                pass
        with suppress(RuntimeError):  # the loop has ended first
            loop.call_soon_threadsafe(stop)

    # A thread, for the event loop of Windows cannot watch a pipe, and that of POSIX would report its end again and
    # again.
    threading.Thread(target=wait, name="parent", daemon=True).start()
