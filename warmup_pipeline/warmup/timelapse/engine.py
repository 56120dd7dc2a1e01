"""The cycle in virtual time.

Holds: :class:`Timelapse`, which runs production's own steps tick by tick against the simulator, and
:data:`STEPS`, their order. Do not add: rules, another way to do a step, what is measured (``result``).

Only the clock and the sockets differ from production: a cycle begins by ``lifecycle.begin_cycle``,
its steps are the functions that Dagster's ops call, and it ends by ``lifecycle.end_cycle``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.values import DEFAULT_POOL
from warmup_pipeline.gateways.simulator.core import SimulatorCore
from warmup_pipeline.store import timelapse as timelapse_store
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.types import forget_instants
from warmup_pipeline.warmup import lifecycle
from warmup_pipeline.warmup.checks import CHECKS, note_verdicts
from warmup_pipeline.warmup.claim import claim_due
from warmup_pipeline.warmup.connections import refresh_connections
from warmup_pipeline.warmup.derive.age import derive_warming_day
from warmup_pipeline.warmup.derive.eligibility import derive_phase_eligibility
from warmup_pipeline.warmup.derive.metrics import derive_chip_metrics
from warmup_pipeline.warmup.derive.transitions import derive_phase_transitions
from warmup_pipeline.warmup.derive.trust import derive_trust_scores
from warmup_pipeline.warmup.forecast import derive_phase_forecast
from warmup_pipeline.warmup.ids import derived_id
from warmup_pipeline.warmup.lifecycle import INTERVAL, LEASE
from warmup_pipeline.warmup.operating import start_chips
from warmup_pipeline.warmup.pair import pair_chips
from warmup_pipeline.warmup.plan import plan_day
from warmup_pipeline.warmup.send import send_messages
from warmup_pipeline.warmup.summary import summarise_cycle
from warmup_pipeline.warmup.timelapse.clock import VirtualClock
from warmup_pipeline.warmup.timelapse.horizon import next_tick
from warmup_pipeline.warmup.timelapse.weather import Weather
from warmup_pipeline.warmup.validate import validate_sends
from warmup_pipeline.warmup.world import StepReport, World

STEPS: Final[tuple[Callable[[World, Cycle], StepReport], ...]] = (
    refresh_connections,
    plan_day,
    claim_due,
    pair_chips,
    validate_sends,
    send_messages,
    derive_chip_metrics,
    derive_trust_scores,
    derive_warming_day,
    derive_phase_eligibility,
    derive_phase_transitions,
    derive_phase_forecast,
    summarise_cycle,
)
"""A cycle's steps, in the order of the graph in ``orchestration``."""

_FOR_PEOPLE: Final = (derive_phase_eligibility, summarise_cycle)
"""Steps that write anew what people read and no step does: within a day only their last run is seen."""

_ACTING: Final = tuple(step for step in STEPS if step not in _FOR_PEOPLE)

AUTHOR: Final = "timelapse"


@dataclass(frozen=True, slots=True)
class Start:
    """A chip that an operator starts once it is time."""

    chip_id: str
    at: datetime


class Timelapse:
    """A pool in virtual time, which stands before a tick and can be moved on.

    Between two moves anything may be done to ``world`` that an operator can do (operator actions, an
    import, another policy): the next tick is then never stepped over.

    Args:
        world: simulated, on ``clock``, with the simulator's transport.
        core: the simulator.
        clock: the virtual clock.
        weather: what goes wrong when.
        starts: chips to be started.
        begins_at: the first tick.
        step_over: leave out ticks at which nothing can change.
        pool: the pool's name.
    """

    def __init__(
        self,
        world: World,
        core: SimulatorCore,
        clock: VirtualClock,
        weather: Weather,
        starts: Sequence[Start],
        *,
        begins_at: datetime,
        step_over: bool = True,
        pool: str = DEFAULT_POOL,
    ) -> None:
        self.world = world
        self.core = core
        self.clock = clock
        self.weather = weather
        self.pool = pool
        self.step_over = step_over
        self.begins_at = begins_at
        self.now = begins_at
        """The next tick to run, UTC."""
        self.cycles_run = 0
        self.cycles_stepped_over = 0
        self._starts = sorted(starts, key=lambda start: (start.at, start.chip_id))

    @property
    def has_starts(self) -> bool:
        """Whether chips are still to be started."""
        return bool(self._starts)

    # -- moving on -----------------------------------------------------------------------------

    def step(self) -> Cycle:
        """Run the cycle of ``now``, then stand before the tick after it.

        Raises:
            Exception: a step failed; the cycle is noted as failed, and ``now`` has moved on.
        """
        tick = self.now
        self.now = tick + INTERVAL
        cycle = self._cycle(tick, STEPS)
        self.world.store.settle()
        return cycle

    def run_until(self, at: datetime, *, progress: Callable[[datetime], None] | None = None) -> None:
        """Run every cycle before ``at`` that may change anything, the next one always.

        Where ticks are stepped over, so are a cycle's steps whose result a later cycle of the same day
        replaces before anybody looks. Afterwards every table is as if nothing had been left out.

        Args:
            at: where to stop; its own tick is not run.
            progress: told the time after each cycle.
        """
        while self.now < at:
            last = self.now
            whole = not self.step_over or self.is_last_of_day(last)
            self.now = last + INTERVAL
            cycle = self._cycle(last, STEPS if whole else _ACTING)
            following = self._following(last, at) if self.step_over else self.now
            if not whole and following >= at:
                for step in _FOR_PEOPLE:
                    step(self.world, cycle)
            if following > self.now:
                self._note_stepped_over(self.now, (following - self.now) // INTERVAL)
                self.now = following
            if progress is not None:
                progress(self.now)
        # Whoever acts between two moves does so at this tick, whether those before it were run or not.
        self.clock.move_to(self.now)
        self.world.store.settle()

    def _following(self, last: datetime, end: datetime) -> datetime:
        """Return the next tick after ``last`` that may change anything, ``end`` at the latest."""
        wake = [end]
        edge = self.weather.next_edge(last)
        if edge is not None:
            wake.append(edge)
        # Whatever an episode (or whoever acts at the end) does to the gateways, they were asked just before:
        # how old the last look is decides whether a chip counts as connected.
        wake = [at - INTERVAL if at - INTERVAL > last else at for at in wake]
        if self._starts:
            wake.append(self._starts[0].at)
        return min(next_tick(self, last, min(wake)), end)

    def _note_stepped_over(self, first: datetime, count: int) -> None:
        """Keep the cycles' calendar whole: a tick that was looked ahead at is not one that was missed."""
        ticks = [first + n * INTERVAL for n in range(count)]
        world = self.world
        rows = [
            Cycle(
                id=derived_id("cycle", self.pool, tick.isoformat()),
                pool=self.pool,
                tick=tick,
                day=local_day(tick, world.policy.zone),
                root_run_id=None,
                policy=world.policy_name,
                mode=world.mode,
                state="finished",
                began_at=tick,
                lease_until=tick + LEASE,
                ended_at=tick,
                duration_s=0.0,
                counts={"stepped_over": True},
                health=None,
            )
            for tick in ticks
        ]
        with world.store.write() as tx:
            timelapse_store.insert_stepped_over(tx, rows)
        self.cycles_stepped_over += count

    # -- one cycle -----------------------------------------------------------------------------

    def _cycle(self, tick: datetime, steps: Sequence[Callable[[World, Cycle], StepReport]]) -> Cycle:
        world = self.world
        self.clock.move_to(tick)
        self.weather.come_to(tick)
        self._start_chips(tick)
        cycle, _ = lifecycle.begin_cycle(world, self.pool, root_run_id=None, asked_tick=tick)
        counts = {}
        try:
            for step in steps:
                report = step(world, cycle)
                report.raise_bugs()
                counts[step.__name__] = dict(report.numbers)
        except BaseException:
            lifecycle.fail_cycle(world, cycle)
            raise
        cycle = lifecycle.end_cycle(world, cycle, counts)
        self.cycles_run += 1
        if self.is_last_of_day(tick):
            self.check(cycle)
            # Memory is to stay as it is over the days.
            forget_instants()
        return cycle

    def is_last_of_day(self, tick: datetime) -> bool:
        """Whether the tick after this one belongs to another local day."""
        zone = self.world.policy.zone
        return local_day(tick, zone) != local_day(tick + INTERVAL, zone)

    def _start_chips(self, tick: datetime) -> None:
        due = [start.chip_id for start in self._starts if start.at <= tick]
        if due:
            start_chips(self.world, due, author=AUTHOR, reason="its turn")
            self._starts = self._starts[len(due) :]

    def check(self, cycle: Cycle) -> list[str]:
        """Run every check as after a production cycle; returns the names of those that did not pass."""
        verdicts = [spec.judge(self.world) for spec in CHECKS]
        note_verdicts(self.world, cycle.id, verdicts)
        return [verdict.check for verdict in verdicts if not verdict.passed]
