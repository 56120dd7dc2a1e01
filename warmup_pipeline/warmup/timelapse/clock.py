"""Virtual time: a clock that stands still while work is done and jumps where somebody waits.

Holds: :class:`VirtualClock` and the event loop that runs on it. Latency, hangs, deadlines and pauses
between retries pass in virtual time, with the same code that waits for them in production. Do not
add: what happens at which time (``engine``).
"""

from __future__ import annotations

import asyncio
import selectors
from datetime import UTC, datetime, timedelta


class VirtualClock:
    """A time that only moves when it is told to, or when every task of a loop waits.

    Args:
        begins_at: where it stands at first, with its zone.
    """

    def __init__(self, begins_at: datetime) -> None:
        self._origin = begins_at.astimezone(UTC)
        self._seconds = 0.0

    def now(self) -> datetime:
        """Return where the clock stands, UTC."""
        return self._origin + timedelta(seconds=self._seconds)

    @property
    def seconds(self) -> float:
        """Seconds since the clock was made: what event loops on it call the time."""
        return self._seconds

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self._seconds += max(0.0, seconds)

    def move_to(self, at: datetime) -> None:
        """Let time pass until ``at``; a time that is over changes nothing."""
        self._seconds = max(self._seconds, (at - self._origin).total_seconds())

    def event_loop(self) -> asyncio.AbstractEventLoop:
        """Return a new event loop on this clock. Nothing real can be waited for in it."""
        return _VirtualLoop(self)


class _JumpingSelector(selectors.SelectSelector):
    """Waits by letting virtual time pass."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready at once; else the time asked for has passed."""
        if timeout is None:
            # Only a signal (Ctrl-C) can wake a loop in which nothing is due.
            return super().select(None)
        if timeout > 0:
            self._clock.pass_by(timeout)
        return []


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock) -> None:
        self._virtual = clock
        super().__init__(_JumpingSelector(clock))

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._virtual.seconds
