"""Local days, hours and the sending window of instants that are kept in UTC.

Holds: the turning of instants into local days and windows, and back. Add here: another question
about local time. Do not add: a clock (instants are passed in), rules about what happens when.

Source: domain.md, "Words and values" (times are stored in UTC with a zone; days, hours and windows
are local to the policy's zone) and "The cycle" (sending window).

Every instant is an aware ``datetime`` in any zone; a naive one raises ``ValueError``, since a
naive instant read in the wrong zone would shift a whole day's limits.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from warmup_pipeline.domain.policy import Policy

_ONE_DAY = timedelta(days=1)


def _aware(at: datetime) -> datetime:
    if at.utcoffset() is None:
        raise ValueError("an instant without a time zone cannot be placed in a day; give it one, e.g. UTC")
    return at


def local_day(at: datetime, zone: ZoneInfo) -> date:
    """Return the calendar day that ``at`` falls on in ``zone``.

    Raises:
        ValueError: ``at`` has no time zone.
    """
    return _aware(at).astimezone(zone).date()


def _first_instant(day: date, hour: int, zone: ZoneInfo) -> datetime:
    """Return the UTC instant at which local ``hour`` (0-24) of ``day`` begins.

    With ``fold=0`` a time that a clock change skips becomes the instant of the change, and one
    that comes twice the first of the two: both are when the hour begins.
    """
    if hour == 24:
        day, hour = day + _ONE_DAY, 0
    return datetime.combine(day, time(hour), tzinfo=zone).astimezone(UTC)


def day_bounds(day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return a local day as UTC instants, start inclusive, end exclusive; 23 to 25 hours long."""
    return _first_instant(day, 0, zone), _first_instant(day, 24, zone)


def window_bounds(day: date, policy: Policy) -> tuple[datetime, datetime]:
    """Return the sending window of a local day as UTC instants, start inclusive, end exclusive."""
    zone = policy.zone
    return (
        _first_instant(day, policy.window.start_hour, zone),
        _first_instant(day, policy.window.end_hour, zone),
    )


def in_window(at: datetime, policy: Policy) -> bool:
    """Whether sending is open at ``at`` (08:00 inclusive to 20:00 exclusive, local, by default).

    Raises:
        ValueError: ``at`` has no time zone.
    """
    opens, closes = window_bounds(local_day(at, policy.zone), policy)
    return opens <= at < closes


def next_window_start(at: datetime, policy: Policy) -> datetime:
    """Return the next opening strictly after ``at``, in UTC.

    Before today's opening that is today's; at it, inside the window or after it, tomorrow's.

    Raises:
        ValueError: ``at`` has no time zone.
    """
    day = local_day(at, policy.zone)
    opens, _ = window_bounds(day, policy)
    while opens <= at:
        day += _ONE_DAY
        opens, _ = window_bounds(day, policy)
    return opens
