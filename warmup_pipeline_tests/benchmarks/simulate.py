"""How long a simulated month takes, and whether memory stays flat over its days.

Holds: :func:`run`, :func:`growth_mb`. Do not add: thresholds for tests (a benchmark is measured, not asserted).
"""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from warmup_pipeline.warmup.policies import load_policy
from warmup_pipeline.warmup.timelapse import SimulationSettings, load_profile, simulate


@dataclass(frozen=True, slots=True)
class Measured:
    """One simulation's cost.

    Attributes:
        days: simulated days.
        chips: chips of the fresh pool.
        wall_s: seconds of real time.
        cpu_s: seconds of this process's processor time.
        cycles_run: cycles whose steps ran.
        messages: messages sent.
        peak_mb: peak resident memory of the process, MiB.
        growth_mb: see :func:`growth_mb`.
    """

    days: int
    chips: int
    wall_s: float
    cpu_s: float
    cycles_run: int
    messages: int
    peak_mb: float
    growth_mb: float

    def document(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def growth_mb(seen: Sequence[tuple[datetime, float]]) -> float:
    """Return what memory grew by once the first third of the time was over, MiB.

    What a result is measured with after the last cycle is not in it, but in ``peak_mb``.

    Args:
        seen: virtual times in order, and the resident memory at each, MiB.
    """
    begins, ends = seen[0][0], seen[-1][0]
    early = next(mb for at, mb in seen if at - begins >= (ends - begins) / 3)
    return round(seen[-1][1] - early, 1)


def run(days: int = 30, chips: int = 5, *, faults: str = "none", seed: int = 0) -> Measured:
    """Simulate a fresh pool and measure what it costs.

    Args:
        days: simulated days.
        chips: chips of the pool.
        faults: fault profile.
        seed: what draws come from.
    """
    settings = SimulationSettings(
        policy=load_policy("default"), days=days, faults=load_profile(faults), chips=chips, seed=seed
    )
    seen: list[tuple[datetime, float]] = []

    def look(now: datetime) -> None:
        seen.append((now, _resident_mb()))

    wall, cpu = time.perf_counter(), time.process_time()
    with simulate(settings, progress=look) as (_, result):
        return Measured(
            days=days,
            chips=chips,
            wall_s=round(time.perf_counter() - wall, 2),
            cpu_s=round(time.process_time() - cpu, 2),
            cycles_run=result.cycles_run,
            messages=result.figures.messages,
            peak_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            growth_mb=growth_mb(seen),
        )
