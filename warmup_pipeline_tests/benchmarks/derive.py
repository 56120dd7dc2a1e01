"""What the derived assets of a cycle cost when the message log is long.

Holds: :func:`run`: a pool with a long past (``longlog``) goes on for some cycles, each with its sends and
receipts; what derives from the log is timed, beside a plain SQL aggregate over the same log, which is what
it would cost at least to sum it all. Do not add: thresholds for tests (a benchmark is measured, not
asserted).
"""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any, Final

import sqlalchemy as sa

from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.store import counts, derivations
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.warmup import forecast, lifecycle, summary
from warmup_pipeline.warmup.checks import CHECKS
from warmup_pipeline.warmup.derive.age import derive_warming_day
from warmup_pipeline.warmup.derive.eligibility import derive_phase_eligibility
from warmup_pipeline.warmup.derive.metrics import derive_chip_metrics
from warmup_pipeline.warmup.derive.transitions import derive_phase_transitions
from warmup_pipeline.warmup.derive.trust import derive_trust_scores
from warmup_pipeline_tests.benchmarks.longlog import POOL, LongLog, long_log
from warmup_pipeline_tests.benchmarks.options import AtLeast, Database

_STEPS: Final = (
    derive_chip_metrics,
    derive_trust_scores,
    derive_warming_day,
    derive_phase_eligibility,
    derive_phase_transitions,
    forecast.derive_phase_forecast,
    summary.summarise_cycle,
)

_PLAIN: Final = (
    "SELECT sender_chip_id, count(*), sum(CASE WHEN state IN ('accepted', 'at_whatsapp', 'delivered', 'read') "
    "THEN 1 ELSE 0 END), sum(CASE WHEN state = 'failed' THEN 1 ELSE 0 END), max(sent_at) "
    "FROM messages WHERE pool = :pool GROUP BY sender_chip_id"
)


@dataclass(frozen=True, slots=True)
class Measured:
    """The derived assets of a cycle beside a sum over the whole log.

    Attributes:
        database: ``sqlite`` or ``postgresql``.
        chips: chips of the pool.
        messages: messages of its log.
        per_cycle: messages that each measured cycle sent; as many were confirmed in it.
        first_s: seconds of the first cycle's derived assets, which roll the whole log up.
        all_chips_s: seconds of the derived assets of a cycle that derives every chip, as a day's first one.
        derive_s: seconds of the derived assets, each round.
        cpu_s: of them, processor seconds of this process, each round.
        steps_s: median seconds of each asset.
        floor_s: seconds of a plain SQL aggregate over the log, by sender, each round.
        ratio: median of derived assets / that, round by round.
        directly_s: (0 without checks) seconds of the sums that metrics are made of, straight from the log, once.
        whole_checks_s: seconds of each check where it looks at the whole log, as once a day, once.
        checks_s: seconds of each check in an ordinary cycle, once.
        load: how busy the machine was: processes wanting one of its processors, at the end.
        peak_mb: peak resident memory of this process, MiB.
    """

    database: str
    chips: int
    messages: int
    per_cycle: int
    first_s: float
    all_chips_s: float
    derive_s: Sequence[float]
    cpu_s: Sequence[float]
    floor_s: Sequence[float]
    ratio: float
    directly_s: float
    load: float
    steps_s: dict[str, float] = field(default_factory=dict)
    whole_checks_s: dict[str, float] = field(default_factory=dict)
    checks_s: dict[str, float] = field(default_factory=dict)
    peak_mb: float = 0.0

    def document(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def run(
    messages: Annotated[int, AtLeast(1000)] = 1_000_000,
    *,
    chips: Annotated[int, AtLeast(10)] = 10_000,
    per_day: Annotated[int, AtLeast(1)] = 20,
    database: Database = "sqlite",
    rounds: Annotated[int, AtLeast(1)] = 5,
    checks: Annotated[int, AtLeast(0)] = 1,
) -> Measured:
    """Measure the derived assets of cycles on a long log.

    Args:
        messages: messages of the log. The full form is 10,000,000, and 20,000,000 beside it.
        chips: chips of the pool.
        per_day: messages that a chip sends a day, on average: over so many days the log is spread.
        database: ``sqlite`` or ``postgresql``.
        rounds: cycles measured.
        checks: 0 leaves out what each check takes, and the sums straight from the log: minutes, of a long one.
    """
    with long_log(database, chip_count=chips, count=messages, per_day=per_day) as log:
        return measure(log, database=database, rounds=rounds, checks=bool(checks))


def measure(log: LongLog, *, database: str, rounds: int, checks: bool = True) -> Measured:
    """Measure on a log that is there."""
    at = log.at + lifecycle.INTERVAL
    _, first_s, _ = _timed_cycle(log, at, {})
    # The next ones derive what has changed; that of a new local day derives every chip, like this one.
    at += lifecycle.INTERVAL
    derivations_of_all_s = _all_chips(log, at)
    derive_s, cpu_s, floor_s = [], [], []
    steps: dict[str, list[float]] = {}
    for _ in range(rounds):
        at += lifecycle.INTERVAL
        _, taken, cpu = _timed_cycle(log, at, steps)
        derive_s.append(taken)
        cpu_s.append(cpu)
        before = time.perf_counter()
        with log.store.read() as tx:
            tx.connection.execute(sa.text(_PLAIN), {"pool": POOL}).fetchall()
        floor_s.append(time.perf_counter() - before)
    world = log.world(at + timedelta(minutes=1))
    directly_s = 0.0
    if checks:
        before = time.perf_counter()
        with log.store.read() as tx:
            counts.counts(tx, POOL, at=at, day=local_day(at, world.policy.zone))
        directly_s = time.perf_counter() - before
    looks: list[dict[str, float]] = [] if checks else [{}, {}]
    for _ in range(2 if checks else 0):
        taken_by = {}
        for spec in CHECKS:
            before = time.perf_counter()
            spec.judge(world)
            taken_by[spec.name] = round(time.perf_counter() - before, 2)
        looks.append(taken_by)
    return Measured(
        database=database,
        chips=len(log.rows),
        messages=log.count,
        per_cycle=log.per_cycle,
        first_s=round(first_s, 2),
        all_chips_s=round(derivations_of_all_s, 2),
        derive_s=[round(one, 2) for one in derive_s],
        cpu_s=[round(one, 2) for one in cpu_s],
        floor_s=[round(one, 2) for one in floor_s],
        ratio=round(statistics.median(d / f for d, f in zip(derive_s, floor_s, strict=True)), 3),
        directly_s=round(directly_s, 2),
        load=round(os.getloadavg()[0], 1),
        steps_s={name: round(statistics.median(taken), 2) for name, taken in steps.items()},
        whole_checks_s=looks[0],
        checks_s=looks[1],
        peak_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    )


def _all_chips(log: LongLog, at: Any) -> float:
    with log.store.write() as tx:
        derivations.forget(tx, POOL)
    return _timed_cycle(log, at, {})[1]


def _timed_cycle(log: LongLog, at: Any, steps: dict[str, list[float]]) -> tuple[Cycle, float, float]:
    """Make a cycle and derive from it; returns it, and seconds and processor seconds of deriving."""
    cycle = log.next_cycle(at)
    world = log.world(at)
    start, cpu = time.perf_counter(), time.process_time()
    for step in _STEPS:
        before = time.perf_counter()
        step(world, cycle)
        steps.setdefault(step.__name__, []).append(time.perf_counter() - before)
    taken = time.perf_counter() - start, time.process_time() - cpu
    lifecycle.end_cycle(world, cycle)
    return cycle, *taken
