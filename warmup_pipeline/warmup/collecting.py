"""Putting Python's collector of reference cycles off while rows are made by the thousand.

Holds: :func:`collecting_later`, for one step, and :func:`collecting_seldom`, for calls that are out and for
thousands of cycles one after the other. Do not add: settings of the collector that outlast what they are for.

The collector looks for objects that only refer to each other, each time some hundreds of objects more have
been made than gone, and now and then through everything there is. A derivation of ten thousand chips makes
some hundred thousand rows, none of which refers back to another: they go with their last reference, and
looking through them again and again cost as much as deriving them.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Final, ParamSpec, TypeVar

Asked = ParamSpec("Asked")
Made = TypeVar("Made")

_SELDOM: Final = 20_000
"""Objects more before the collector looks at the newest ones: a cycle of 50 chips leaves about a thousand."""


def collecting_later(step: Callable[Asked, Made]) -> Callable[Asked, Made]:
    """Have a step run without the collector, which goes on after it as before."""

    @wraps(step)
    def run(*args: Asked.args, **named: Asked.kwargs) -> Made:
        with _later:
            return step(*args, **named)

    return run


class _Later:
    """Whether the collector was on before the first of those began who have it wait at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within = 0
        self._was_on = False

    def __enter__(self) -> None:
        with self._lock:
            self._within += 1
            if self._within == 1:
                self._was_on = gc.isenabled()
                gc.disable()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if self._within == 0 and self._was_on:
                gc.enable()


_later: Final = _Later()


class _Seldom:
    """How often the collector looked before the first of those began who have it look seldom at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within = 0
        self._before: tuple[int, int, int] = gc.get_threshold()
        self._was_frozen = False

    def begin(self) -> None:
        with self._lock:
            self._within += 1
            if self._within > 1:
                return
            self._before, self._was_frozen = gc.get_threshold(), gc.get_freeze_count() > 0
            gc.freeze()
            if self._before[0]:
                # 0: it does not look by itself at all, and is not made to.
                gc.set_threshold(_SELDOM, *self._before[1:])

    def end(self) -> None:
        with self._lock:
            self._within -= 1
            if self._within:
                return
            gc.set_threshold(*self._before)
            if not self._was_frozen:
                gc.unfreeze()


_seldom: Final = _Seldom()


@contextmanager
def collecting_seldom() -> Iterator[None]:
    """Have the collector look seldom, and never at what was there before; afterwards as often as it did.

    Where somebody had put objects out of its sight already, those of before stay out of it with them. Of those who
    want it at the same time, in several threads, the last to end has it look as often as before the first.
    """
    _seldom.begin()
    try:
        yield
    finally:
        _seldom.end()
