"""What a simulation is asked to be.

Holds: :class:`SimulationSettings`. Do not add: reading of the command line or environment.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from warmup_pipeline.domain.policy import Policy
from warmup_pipeline.warmup.timelapse.profiles import FaultProfile

MOST_DAYS = 366
MOST_CHIPS = 1000


@dataclass(frozen=True, slots=True)
class SimulationSettings:
    """One simulation; the same settings give the same result, to the message.

    Attributes:
        policy: the rules' numbers.
        days: how many days of 24 hours are simulated.
        faults: what goes wrong.
        chips: a fresh pool of so many chips; ``None`` with ``pool_dir``.
        pool_dir: a folder with the old system's tables (``chips.csv``, and ``warmup_schedule.csv`` and
            ``chip_interactions.csv`` where there are); ``None`` with ``chips``.
        begins_at: the first tick, on a five-minute slot; ``None``: the moment of the files' export, or
            of the audit.
        seed: what every draw comes from.
        step_over: leave out ticks at which nothing can change; ``False`` runs every one.
    """

    policy: Policy
    days: int
    faults: FaultProfile
    chips: int | None = None
    pool_dir: Path | None = None
    begins_at: datetime | None = None
    seed: int = 0
    step_over: bool = True
