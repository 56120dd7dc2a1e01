"""What a simulation is measured to have done, from its database and from the gateways' own log.

Holds: :class:`SimulationResult` and :func:`measure_result`. Add here: another fact worth comparing.
Do not add: how it looks (``report``), judgements of single messages (``warmup.demo.measure``, which
this asks).

Source: interface.md, "Command line" (simulate).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.values import OBSERVED_STATUSES
from warmup_pipeline.store import chips
from warmup_pipeline.store import timelapse as timelapse_store
from warmup_pipeline.warmup.demo import Figures, measure, seen_message
from warmup_pipeline.warmup.timelapse.settings import SimulationSettings
from warmup_pipeline.warmup.timelapse.transport import answer_of

if TYPE_CHECKING:
    from warmup_pipeline.gateways.simulator.core import SimulatorCore
    from warmup_pipeline.warmup.demo import SeenMessage
    from warmup_pipeline.warmup.timelapse.engine import Timelapse

_PAGE = 5_000


@dataclass(frozen=True, slots=True)
class PhaseChange:
    """One transition.

    Attributes:
        chip: the end digits of the chip's phone.
        chip_id: the chip.
        phase_from: the phase it left.
        phase_to: the phase it entered.
        at: when, UTC.
        day: local days since the simulation's first, 0 for that one.
        warming_day: the chip's warming day then.
    """

    chip: str
    chip_id: str
    phase_from: str
    phase_to: str
    at: datetime
    day: int
    warming_day: int | None

    def document(self) -> dict[str, Any]:
        """Return it as interface.md names it."""
        return {
            "chip": self.chip,
            "from": self.phase_from,
            "to": self.phase_to,
            "day": self.day,
            "warming_day": self.warming_day,
        }


@dataclass(frozen=True)
class SimulationResult:
    """What came of a simulation.

    Attributes:
        settings: what was asked.
        begins_at: the first tick, UTC.
        ends_at: the end, exclusive, UTC.
        figures: what was measured about sends, at the gateways' side.
        chips: chips in the pool.
        cycles_run: cycles whose steps ran.
        cycles_stepped_over: ticks left out because nothing could change.
        transitions: every phase change, by time.
        phases_at_end: how many chips that take part or are degraded stand in each phase.
        success_by_day: CONVERSA_PAR attempts of each local day: (succeeded, failed).
        max_sends_per_chip_hour: most sends of one chip within 60 minutes.
        max_sends_per_chip_day: most sends of one chip on a local day.
        digest: fingerprint of every message and transition: the same where the results are the same.
        wall_s: seconds it took.
    """

    settings: SimulationSettings
    begins_at: datetime
    ends_at: datetime
    figures: Figures
    chips: int
    cycles_run: int
    cycles_stepped_over: int
    transitions: Sequence[PhaseChange]
    phases_at_end: Mapping[str, int]
    success_by_day: Mapping[date, tuple[int, int]]
    max_sends_per_chip_hour: int
    max_sends_per_chip_day: int
    digest: str
    wall_s: float

    def document(self) -> dict[str, Any]:
        """Return the result as interface.md names it, with a few keys more."""
        measured = self.figures.document()
        return {
            "days": self.settings.days,
            "chips": self.chips,
            "from": self.begins_at.astimezone(self.settings.policy.zone).isoformat(),
            "policy": self.settings.policy.name,
            "faults": self.settings.faults.name,
            "seed": self.settings.seed,
            "cycles": self.cycles_run + self.cycles_stepped_over,
            "cycles_stepped_over": self.cycles_stepped_over,
            **{
                name: measured[name]
                for name in (
                    "messages",
                    "conversa_par",
                    "conversations",
                    "unknown",
                    "limit_violations",
                    "duplicate_sends",
                    "sends_outside_window",
                    "early_executions",
                    "sends_not_in_log",
                    "sent_by_chip",
                    "received_by_chip",
                )
            },
            "transitions": [change.document() for change in self.transitions],
            "phases_at_end": dict(self.phases_at_end),
            "max_sends_per_chip_hour": self.max_sends_per_chip_hour,
            "max_sends_per_chip_day": self.max_sends_per_chip_day,
            "digest": self.digest,
            "wall_s": round(self.wall_s, 3),
        }


def seen_in_process(core: SimulatorCore) -> list[SeenMessage]:
    """Return everything a simulator in this process has accepted, in its order."""
    found: list[SeenMessage] = []
    since = 0
    while True:
        page = answer_of(core, "/_sim/messages", since=since, limit=_PAGE)
        if not page["messages"]:
            return found
        found += [seen_message(row) for row in page["messages"]]
        since = page["next_since"]


def measure_result(timelapse: Timelapse, settings: SimulationSettings, *, wall_s: float) -> SimulationResult:
    """Return what a simulation has done up to where it stands."""
    world, pool = timelapse.world, timelapse.pool
    zone = settings.policy.zone
    first = local_day(timelapse.begins_at, zone)
    with world.store.read() as tx:
        ran = timelapse_store.cycles_of(tx, pool)
        every_chip = {chip.id: chip for chip in chips.of_pool(tx, pool)}
        changes = timelapse_store.transitions(tx, pool)
        by_day = timelapse_store.attempts_by_day(tx, pool)
        digest = timelapse_store.digest(tx, pool)
    figures = measure(world, ran, pool=pool, seen=seen_in_process(timelapse.core))
    return SimulationResult(
        settings=settings,
        begins_at=timelapse.begins_at,
        ends_at=timelapse.now,
        figures=figures,
        chips=len(every_chip),
        cycles_run=timelapse.cycles_run,
        cycles_stepped_over=timelapse.cycles_stepped_over,
        transitions=[
            PhaseChange(
                every_chip[row.chip_id].last4,
                row.chip_id,
                row.from_phase,
                row.to_phase,
                row.at,
                (row.day - first).days,
                row.warming_day,
            )
            for row in changes
        ],
        phases_at_end=dict(
            sorted(
                Counter(c.phase.value for c in every_chip.values() if c.status in OBSERVED_STATUSES).items()
            )
        ),
        success_by_day=by_day,
        max_sends_per_chip_hour=figures.most_in_hour,
        max_sends_per_chip_day=figures.most_in_day,
        digest=digest,
        wall_s=wall_s,
    )
