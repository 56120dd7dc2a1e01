"""Putting Python's collector of reference cycles off while a step makes rows by the thousand.

Holds: :func:`collecting_later`. Do not add: settings of the collector for the whole process.

The collector looks for objects that only refer to each other, each time some hundreds of objects more have
been made than gone, and now and then through everything there is. A derivation of ten thousand chips makes
some hundred thousand rows, none of which refers back to another: they go with their last reference, and
looking through them again and again cost as much as deriving them.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

Asked = ParamSpec("Asked")
Made = TypeVar("Made")


def collecting_later(step: Callable[Asked, Made]) -> Callable[Asked, Made]:
    """Have a step run without the collector, which goes on after it as before."""

    @wraps(step)
    def run(*args: Asked.args, **named: Asked.kwargs) -> Made:
        # Of steps at the same time the first one to begin has it go on, when that one ends.
        was_on = gc.isenabled()
        gc.disable()
        try:
            return step(*args, **named)
        finally:
            if was_on:
                gc.enable()

    return run
