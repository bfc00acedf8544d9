"""An asynchronous generator, iterated over from code that is not asynchronous.

It runs in a thread with an event loop of its own, so it goes on while an item is being looked at. However the
iteration ends (a ``break``, an exception, Ctrl-C, being forgotten, the end of the program), the generator is closed,
the loop too, and the thread has ended, before the program goes on. Only where it is forgotten and then found by
another thread, in its search for cycles, is it told to end without a wait: that thread may be needed for the end.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures.thread  # noqa: F401 - before our own registration below, so that its end comes after ours
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, suppress
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from sqspider.log import get_logger

T = TypeVar("T")
log = get_logger(__name__)


def iterate(generate: Callable[[], AsyncGenerator[T, None]]) -> Iterator[T]:
    """The items of an asynchronous generator, each asked for when it is wanted. Raises what the generator raises."""
    thread = _Thread(generate)
    try:
        thread.start()
        while (item := thread.next_item()) is not None:
            yield item[0]
    finally:
        thread.close()


class _Thread(Generic[T]):
    """The thread, its event loop, and what goes to and fro."""

    def __init__(self, generate: Callable[[], AsyncGenerator[T, None]]) -> None:
        self._generate = generate
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._wanted = asyncio.Semaphore(0)
        self._items: SimpleQueue[tuple[T] | None] = SimpleQueue()  # none: there is no other
        self._error: BaseException | None = None  # what the generator raised, until somebody was told
        self._is_left = False
        self._asker: threading.Thread | None = None  # who iterates
        self._ended = threading.Event()
        # A thread that is no daemon would be waited for before the program's end could stop it.
        self._thread = threading.Thread(target=self._run, name="sqspider", daemon=True)

    def start(self) -> None:
        self._thread.start()
        _running.add(self)

    def next_item(self) -> tuple[T] | None:
        self._asker = threading.current_thread()
        with suppress(RuntimeError):  # it has ended, and the loop is closed: that is in the queue
            self._loop.call_soon_threadsafe(self._wanted.release)
        item = self._items.get()
        if self._error is not None and item is None:
            error, self._error = self._error, None
            raise error
        return item

    def close(self) -> None:
        """Stop it; whoever iterated waits until nothing of it is left. Any thread may find that it was forgotten, one
        of its own too."""
        if self._thread.ident is None:
            self._loop.close()
        elif sys.is_finalizing() or threading.current_thread() is not self._asker:
            self._leave()  # other threads do not run any more, or wait for this one
        else:
            self.end()

    def end(self) -> None:
        """Stop it, and wait until nothing of it is left; a second Ctrl-C meanwhile stops it at once."""
        try:
            self._leave()
            self._ended.wait()
        except BaseException:
            self._leave(at_once=True)
            self._ended.wait()
            raise
        self._thread.join()
        if self._error is not None and not isinstance(self._error, asyncio.CancelledError):
            log.warning("crawl_left", error=str(self._error))

    def _leave(self, *, at_once: bool = False) -> None:
        """Let it close; ``at_once``: whatever closing it waits for."""

        def cancel() -> None:
            is_closing, self._is_left = self._is_left, True
            if self._task is None:
                return
            if not is_closing:
                self._task.cancel()
            elif at_once:  # once it has heard of the first one: two that it hears of together are one
                self._loop.call_soon(self._task.cancel)

        with suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(cancel)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._hand_out())
        except BaseException as error:  # noqa: BLE001 - raised again where the items are asked for
            self._error = error
        finally:
            self._items.put(None)
            _running.discard(self)
            self._ended.set()

    async def _hand_out(self) -> None:
        self._task = asyncio.current_task()
        if self._is_left:
            return
        async with aclosing(self._generate()) as items:
            while True:
                await self._wanted.acquire()
                try:
                    self._items.put((await anext(items),))
                except StopAsyncIteration:
                    return


_running: weakref.WeakSet[_Thread[Any]] = weakref.WeakSet()


def _close_all() -> None:
    for thread in list(_running):
        thread.end()


# At the end of the program, before pools of threads refuse the work that closing needs. `atexit` comes too late for
# that, but early enough to stop them.
getattr(threading, "_register_atexit", atexit.register)(_close_all)
