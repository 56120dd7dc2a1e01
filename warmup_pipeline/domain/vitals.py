"""Signs of life: whether cycles go on, so that silence is never taken for health.

Holds: :func:`vitals`, which judges from ages alone, for the moments in which no check is evaluated.
Add here: another sign that can be seen when nothing runs. Do not add: what a check judges, where the
facts come from (``orchestration.scheduler``).

Source: domain.md, "Health" (a verdict older than 10 minutes is not a verdict) and "Silence is a
warning" (no cycle for 10 minutes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from warmup_pipeline.domain.health import STALE_AFTER, Severity

LATE_AFTER: Final = timedelta(minutes=7)
"""A cycle begins every five minutes, seconds into its slot; two minutes more and one is late."""

NONE_FOR: Final = STALE_AFTER
"""Without a cycle for this long nothing is known any more."""

UNHEARD_AFTER: Final = timedelta(minutes=2)
"""The daemon gives a sign every 30 s."""

WAITING_AFTER: Final = timedelta(minutes=2)
"""A cycle's run begins within seconds of being asked for."""


@dataclass(frozen=True, slots=True)
class LastCycle:
    """A pool's newest cycle: its pool, its state and when it began (real time)."""

    pool: str
    state: str
    began_at: datetime
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class SchedulerState:
    """What Dagster says of itself.

    Attributes:
        sensor_on: the sensor that asks for cycles is on.
        daemon_heard_at: last sign of the daemon that runs it; ``None`` if there never was one.
        waiting: runs of cycles that were asked for and have not begun.
        waiting_since: when the oldest of them was asked for.
        running: runs under way, which may be what they wait for.
        failed: ids of the first runs of cycles whose last run failed, the newest ones, whatever the cycle's row
            says: a cycle ends before its checks do.
    """

    sensor_on: bool = True
    daemon_heard_at: datetime | None = None
    waiting: int = 0
    waiting_since: datetime | None = None
    running: int = 0
    failed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Vital:
    """One sign of life.

    Attributes:
        name: a fact that must hold.
        passed: whether it does.
        severity: what it means where it does not.
        text: one line.
        concerned: the pools it is about.
        run_id: the run it is about.
    """

    name: str
    passed: bool
    severity: Severity
    text: str
    concerned: tuple[str, ...] = ()
    run_id: str | None = None

    @property
    def remedy(self) -> str:
        """What to do where it does not hold."""
        return REMEDIES[self.name]


REMEDIES: Final[Mapping[str, str]] = {
    "sensor_is_on": "In Dagster's UI, under Automation, switch warmup_cycle_sensor on.",
    "daemon_is_alive": "Start `dagster dev` (or the daemon's own process) on this home, and see why it ended.",
    "runs_begin": "See Runs > Queued: end a run that hangs; max_concurrent_runs and tag_concurrency_limits in "
    "dagster.yaml say how many run at once.",
    "cycles_go_on": "See in Dagster's UI that the daemon runs (Deployment > Daemons), that warmup_cycle_sensor is "
    "on (Automation) and what its last tick says.",
    "last_cycle_succeeded": "Open the run: its failed step shows the traceback. The next cycle goes on by itself.",
    "verdicts_are_fresh": "Let a cycle run: the sensor does, or `warmup cycle`.",
    "database_can_be_used": "Do what the text says; the next cycle goes on by itself.",
}
"""What to do where a sign of life is missing, by its name."""


def vitals(
    *,
    now: datetime,
    verdicts: Mapping[str, datetime | None],
    last_cycles: Sequence[LastCycle],
    scheduler: SchedulerState | None,
) -> list[Vital]:
    """Judge whether cycles go on.

    Args:
        now: the real time.
        verdicts: when each check was last evaluated, ``None`` if never.
        last_cycles: each pool's newest cycle, of the pools that ever had one.
        scheduler: what Dagster says of itself; ``None`` where cycles are run without it.

    Returns:
        The signs, causes before effects: sensor, daemon, queue, cycles, verdicts.
    """
    late = [one for one in last_cycles if now - one.began_at > LATE_AFTER]
    found = [] if scheduler is None else _scheduler(scheduler, now, late=bool(late))
    return [*found, _cycles_go_on(now, last_cycles, late), _last_cycle(last_cycles), _verdicts(now, verdicts)]


def _scheduler(state: SchedulerState, now: datetime, *, late: bool) -> list[Vital]:
    heard = state.daemon_heard_at
    # Cycles that a command runs need no daemon: it is missed where a cycle is.
    silent = late and heard is not None and now - heard > UNHEARD_AFTER
    waited = None if state.waiting_since is None else now - state.waiting_since
    stuck = waited is not None and waited > WAITING_AFTER
    return [
        Vital(
            "sensor_is_on",
            state.sensor_on,
            Severity.WARN,
            "the sensor that asks for cycles is on"
            if state.sensor_on
            else "the sensor warmup_cycle_sensor is switched off: no cycle begins by itself",
        ),
        Vital(
            "daemon_is_alive",
            not silent,
            Severity.WARN,
            f"the daemon has given no sign for {_minutes(now - heard)} minutes: no sensor runs"
            if silent and heard is not None
            else "nothing says that the daemon is down",
        ),
        Vital(
            "runs_begin",
            not stuck,
            Severity.WARN,
            f"{state.waiting} runs wait in the run queue, the oldest for {_minutes(waited)} minutes, "
            f"while {state.running} others run"
            if stuck and waited is not None
            else "no run waits in the run queue",
        ),
    ]


def _cycles_go_on(now: datetime, last_cycles: Sequence[LastCycle], late: Sequence[LastCycle]) -> Vital:
    oldest = max((now - one.began_at for one in late), default=timedelta())
    names = tuple(sorted(one.pool for one in late))
    return Vital(
        "cycles_go_on",
        not late,
        Severity.ERROR if oldest > NONE_FOR else Severity.WARN,
        f"no cycle has begun for {_minutes(oldest)} minutes in {', '.join(names)}"
        if late
        else f"the cycles of {len(last_cycles)} pool{'s' * (len(last_cycles) != 1)} go on",
        names,
    )


def _last_cycle(last_cycles: Sequence[LastCycle]) -> Vital:
    failed = [one for one in last_cycles if one.state == "failed"]
    return Vital(
        "last_cycle_succeeded",
        not failed,
        Severity.ERROR,
        "; ".join(f"the last cycle of pool {one.pool!r} failed" for one in failed)
        or "no pool's last cycle failed",
        tuple(one.pool for one in failed),
        failed[0].run_id if failed else None,
    )


def _verdicts(now: datetime, verdicts: Mapping[str, datetime | None]) -> Vital:
    never = [name for name, at in verdicts.items() if at is None]
    ages = [now - at for at in verdicts.values() if at is not None]
    old = [age for age in ages if age > STALE_AFTER]
    parts = []
    if never:
        parts.append(f"{len(never)} of {len(verdicts)} checks were never evaluated")
    if old:
        parts.append(
            f"{len(old)} of {len(verdicts)} checks were last evaluated up to {_minutes(max(old))} minutes ago"
        )
    return Vital(
        "verdicts_are_fresh",
        not parts,
        Severity.ERROR,
        "; ".join(parts) or "every check was evaluated in the last 10 minutes",
    )


def _minutes(age: timedelta) -> str:
    return f"{age.total_seconds() / 60:.0f}"
