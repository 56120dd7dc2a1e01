"""How a step that talks to gateways is ended from outside: Ctrl-C, or Dagster's termination of its run.

Holds: :func:`run_until_ended`. Dagster raises an exception wherever the main thread is; in an event loop that may be
a task that nobody waits for, a callback of asyncio's own, or the start of a thread. So within a loop a signal cuts off
the step's work, which ends as it must, and only then is it told as it would have been. Do not add: what the work
does when it is cut off.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, TypeVar

ResultT = TypeVar("ResultT")

_ENDING: Final = (signal.SIGINT, signal.SIGTERM)


def run_until_ended(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Do a step's asynchronous part in an event loop of its own, which is closed with it.

    Raises:
        BaseException: what the handler of a signal raises that came meanwhile; the work has ended by then. A second
            signal does not wait for that: everything in the loop is given up. A third is told where it comes.
    """
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        doing = loop.create_task(work)
        ways: tuple[Callable[[], object], ...] = (doing.cancel, loop.stop)
        with _told_at_the_end(lambda count: loop.call_soon_threadsafe(ways[count - 1]), len(ways)):
            return loop.run_until_complete(doing)


@contextmanager
def _told_at_the_end(heard_of: Callable[[int], object], at_most: int) -> Iterator[None]:
    """Let ``heard_of`` hear of the first so many signals, by their count; tell the first of them at the end."""
    if threading.current_thread() is not threading.main_thread():
        # Signals are none of this thread's business.
        yield
        return
    told: list[int] = []
    is_over = False
    before: dict[int, Callable[[int, FrameType | None], Any]] = {}

    def heard(number: int, frame: FrameType | None) -> None:
        if not is_over:
            told.append(number)
        if is_over or len(told) > at_most:
            before[number](number, frame)
        else:
            heard_of(len(told))

    for ending in _ENDING:
        handler = signal.getsignal(ending)
        if callable(handler):
            before[ending] = handler
            signal.signal(ending, heard)
    try:
        yield
    finally:
        is_over = True
        try:
            _install(before)
        finally:
            # A signal may have been told while they were put back.
            _install(before)
            if told:
                # Also where there were more: what a handler raises in a callback reaches nobody.
                before[told[0]](told[0], None)


def _install(handlers: dict[int, Callable[[int, FrameType | None], Any]]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
