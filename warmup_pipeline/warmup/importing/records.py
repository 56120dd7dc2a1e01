"""What the old system's files hold, typed: one record per row, and the three files together.

Holds: the records, and what all of them tell of the export. Do not add: reading (``reading``),
what becomes of a record (``writing``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from warmup_pipeline.domain.values import ActivityState, ChipStatus, Phase, Provider
from warmup_pipeline.warmup.csvfiles import Row
from warmup_pipeline.warmup.lifecycle import INTERVAL, slot_of


def instance_column(provider: Provider) -> str:
    """Return the column in which a provider's instance is named."""
    return "zapi_instance_id" if provider is Provider.Z_API else "instance_name"


@dataclass(frozen=True, slots=True)
class ChipRecord:
    """A row of ``chips.csv``; times in UTC as the file says them, not shifted. ``row`` is where it stands."""

    row: Row = field(repr=False)
    id: str
    phone: str = field(repr=False)
    provider: Provider
    instance: str
    label: str
    role: str
    status: ChipStatus
    phase: Phase
    phase_started_at: datetime | None
    warming_started_at: datetime | None
    cooldown_until: datetime | None
    last_error_at: datetime | None
    last_error_code: str
    last_error_text: str
    created_at: datetime | None
    sent: int
    received: int
    bidirectional: int
    sent_today: int
    received_today: int
    connected: bool | None


@dataclass(frozen=True, slots=True)
class ActivityRecord:
    """A row of ``warmup_schedule.csv``, its state in our words."""

    row: Row = field(repr=False)
    id: str
    chip_id: str
    type: str
    due_at: datetime
    state: ActivityState
    executed_at: datetime | None
    created_at: datetime | None
    result: str


@dataclass(frozen=True, slots=True)
class InteractionRecord:
    """A row of ``chip_interactions.csv``."""

    row: Row = field(repr=False)
    id: str
    chip_id: str
    type: str
    succeeded: bool
    error_code: str
    error_text: str
    at: datetime


@dataclass
class Files:
    """What the files hold, typed."""

    chips: list[ChipRecord] = field(default_factory=list)
    activities: list[ActivityRecord] = field(default_factory=list)
    interactions: list[InteractionRecord] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    ids_complete: bool = True
    """Every chip id of the chips file could be read, so that one not among them is unknown."""
    ids: set[str] = field(default_factory=set)

    def export_moment(self) -> datetime | None:
        """Return when the files were exported, as far as they tell.

        The newest moment at which the old system did or noted anything (not what it still planned,
        nor how long a chip rests), rounded up to the next five-minute slot.
        """
        times = [
            *(
                t
                for c in self.chips
                for t in (c.created_at, c.phase_started_at, c.warming_started_at, c.last_error_at)
            ),
            *(t for a in self.activities for t in (a.executed_at, a.created_at)),
            *(i.at for i in self.interactions),
        ]
        newest = max((t for t in times if t is not None), default=None)
        if newest is None:
            return None
        return newest if slot_of(newest) == newest else slot_of(newest) + INTERVAL
