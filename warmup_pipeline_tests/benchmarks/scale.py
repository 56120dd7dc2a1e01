"""What a send costs where there are very many chips: pools beside one small pool, in the same run.

Holds: :func:`run`: every chip has a reply due, and each pool runs one cycle's steps up to sending, one pool
after another, against a gateway in a process of its own. The connection step, in which every chip is asked
for its state, is timed apart. Do not add: thresholds for tests (a benchmark is measured, not asserted).
"""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from warmup_pipeline.domain.values import MessageState
from warmup_pipeline.warmup import claim, connections, lifecycle, pair, send, validate
from warmup_pipeline_tests.benchmarks.cycle import MORNING
from warmup_pipeline_tests.benchmarks.options import AtLeast, Database
from warmup_pipeline_tests.benchmarks.replies import let_everyone_reply
from warmup_pipeline_tests.soak.yard import Yard, open_yard
from warmup_pipeline_tests.support import rows_of

# The day is not planned: only the replies go.
_STEPS: Final = (
    connections.refresh_connections,
    claim.claim_due,
    pair.pair_chips,
    validate.validate_sends,
    send.send_messages,
)


@dataclass(frozen=True, slots=True)
class Size:
    """Pools of one size.

    Attributes:
        pools: how many.
        chips: of all of them.
        sent: messages accepted.
        connections_s: seconds of the connection steps.
        sending_s: seconds of everything after them: claiming, validating, sending.
        sent_ms: milliseconds of ``sending_s`` per message.
        sent_processor_ms: of them, processor time of this process.
        by_step_s: seconds of each step.
    """

    pools: int
    chips: int
    sent: int
    connections_s: float
    sending_s: float
    sent_ms: float
    sent_processor_ms: float
    by_step_s: dict[str, float]

    def document(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class Measured:
    """Many chips beside few.

    Attributes:
        database: ``sqlite`` or ``postgresql``.
        latency_ms: of the gateway's answers.
        few: one pool of a thousand chips, the median of several rounds.
        many: the pools.
        ratio: milliseconds per message, many / few.
        peak_mb: peak resident memory of this process, MiB.
    """

    database: str
    latency_ms: int
    few: Size
    many: Size
    ratio: float
    peak_mb: float = field(default=0.0)

    def document(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return found | {"few": self.few.document(), "many": self.many.document()}


def run(
    chips: Annotated[int, AtLeast(3)] = 100_000,
    *,
    pool_count: Annotated[int, AtLeast(1)] = 4,
    few: Annotated[int, AtLeast(3)] = 1000,
    database: Database = "sqlite",
    latency_ms: Annotated[int, AtLeast(0)] = 50,
    rounds: Annotated[int, AtLeast(1)] = 5,
) -> Measured:
    """Measure the cost of a send in pools that hold very many chips.

    Args:
        chips: chips of all pools, each with one send due; every third is a Z-API chip.
        pool_count: how many pools they are spread over.
        few: chips of the one pool beside them.
        database: ``sqlite`` or ``postgresql``.
        latency_ms: how long the gateway takes for each answer.
        rounds: how often the small pool is measured; the many are measured once, being many.
    """
    small = _measured(few, 1, database, latency_ms, rounds)
    large = _measured(chips, pool_count, database, latency_ms, 1)
    return Measured(
        database=database,
        latency_ms=latency_ms,
        few=small,
        many=large,
        ratio=round(large.sent_ms / small.sent_ms, 2),
        peak_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    )


def _measured(chips: int, pool_count: int, database: str, latency_ms: int, rounds: int) -> Size:
    names = [f"pool-{number}" for number in range(pool_count)]
    with open_yard(database, at=MORNING, chip_count=chips, latency_ms=latency_ms, pool_names=names) as yard:
        each = [_round(yard, names, number) for number in range(rounds)]
    return sorted(each, key=lambda size: size.sent_ms)[len(each) // 2]


def _round(yard: Yard, names: Sequence[str], number: int) -> Size:
    # An hour apart: no limit decides what is measured.
    tick = MORNING + number * 12 * lifecycle.INTERVAL
    sent, processor_s = 0, 0.0
    by_step = dict.fromkeys((step.__name__ for step in _STEPS), 0.0)
    with yard.store() as store:
        for name in names:
            own = [row["id"] for row in yard.rows if row["pool"] == name]
            with store.write() as tx:
                let_everyone_reply(tx, name, own, tick, number)
            world = yard.world(store, tick)
            cycle, _ = lifecycle.begin_cycle(world, name, root_run_id=None, asked_tick=tick)
            for step in _STEPS:
                before, processor = time.perf_counter(), time.process_time()
                step(world, cycle)
                by_step[step.__name__] += time.perf_counter() - before
                if step is not connections.refresh_connections:
                    processor_s += time.process_time() - processor
            lifecycle.end_cycle(world, cycle)
            counted = rows_of(
                store,
                "SELECT count(*) AS n FROM messages WHERE cycle_id = :cycle AND state <> :failed",
                cycle=cycle.id,
                failed=MessageState.FAILED.value,
            )
            sent += int(counted[0]["n"])
    connecting = by_step["refresh_connections"]
    sending = sum(by_step.values()) - connecting
    return Size(
        pools=len(names),
        chips=len(yard.rows),
        sent=sent,
        connections_s=round(connecting, 2),
        sending_s=round(sending, 2),
        sent_ms=round(1000 * sending / sent, 3) if sent else float("inf"),
        sent_processor_ms=round(1000 * processor_s / sent, 3) if sent else float("inf"),
        by_step_s={name: round(taken, 2) for name, taken in by_step.items()},
    )
