"""Several cycle processes at once, and what the gateway saw of it.

``python -m warmup_pipeline_tests.soak races [--rounds N] [--chips N]``

A round starts two or four processes at the same moment, in one of three ways:

- ``tick``: each its own run, all for the same tick: one gets the pool, the others are refused;
- ``run``: all execute the same run, as if a run believed dead were executed again while it lives: the
  lease keeps none of them out, only what the database itself forbids does;
- ``lease``: each believes, by its own clock, that the lease of the others has ended: each takes the
  pool from the one before, in the middle of whatever that one does.

Every chip has an opening due in every round, and the phase's limits are low, so that they are what ends
its day; every ten rounds a new day begins. In every round one chip's breaker may be probed, with a
gateway that refuses it. Then the gateway's log is held against
the rules, and the gateway says how often each breaker was probed.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import click

from warmup_pipeline.domain.circuit import CLOSED, Circuit
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.policy import Policy
from warmup_pipeline.domain.values import CONVERSA_PAR, ActivityState, CircuitState, Phase, RowSource
from warmup_pipeline.store import activities, chips
from warmup_pipeline.store.engine import TakenByAnother
from warmup_pipeline.warmup.ids import derived_id
from warmup_pipeline.warmup.lifecycle import INTERVAL, CycleRefused
from warmup_pipeline.warmup.policies import load_policy
from warmup_pipeline.warmup.world import World
from warmup_pipeline_tests.soak.evidence import Evidence, judge, told
from warmup_pipeline_tests.soak.kills import MORNING, one_cycle
from warmup_pipeline_tests.soak.yard import POOL, REFUSED, Yard, open_yard

STOPPED: Final = 5
"""Exit code of a child that the database stopped in the middle: another process had been there."""

WAYS: Final = ("tick", "run", "lease")
ROUNDS_A_DAY: Final = 10
_LIMITS: Final = {"sends_per_hour": 5, "sends_per_day": 10}
"""Of the chips' phase. Twenty chips find partners for a little more than that."""


@dataclass
class Raced:
    """What the rounds came to.

    Attributes:
        ended: how the processes ended, by way: ``run ended``, ``run refused``, ``run stopped``.
        probed: rounds in which a breaker was probed once.
        probed_often: rounds in which one was probed more often than cycles began.
        failed: rounds in which a process failed in its own code.
    """

    ended: Counter[str] = field(default_factory=Counter)
    probed: int = 0
    probed_often: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    evidence: Evidence = field(default_factory=Evidence)

    @property
    def complaints(self) -> dict[str, list[str]]:
        """Every finding that is not empty."""
        own = {"probed_often": self.probed_often, "failed": self.failed}
        return {name: found for name, found in own.items() if found} | self.evidence.complaints


def tight_policy() -> Policy:
    """Return the default policy with low limits for the phase that the chips of a yard are in."""
    policy = load_policy("default")
    tight = policy.phases[Phase.EXPANSAO].model_copy(update=_LIMITS)
    return policy.model_copy(update={"phases": {**policy.phases, Phase.EXPANSAO: tight}})


def _racing_cycle(world: World, tick: datetime, run: str) -> int:
    try:
        return one_cycle(world, tick, run)
    except (CycleRefused, TakenByAnother) as error:
        print(error, file=sys.stderr)
        return STOPPED


def _start_together(yard: Yard, works: Sequence[tuple[Callable[[World], int], datetime]]) -> list[int]:
    """Do all these at once, each in a process of its own; returns their exit codes."""
    gate, opener = os.pipe()

    def waiting(work: Callable[[World], int]) -> Callable[[World], int]:
        def wait_and_work(world: World) -> int:
            os.close(opener)
            os.read(gate, 1)
            return work(world)

        return wait_and_work

    children = [yard.fork(waiting(work), now) for work, now in works]
    os.close(gate)
    os.close(opener)
    return [child.wait().code for child in children]


def _works(
    way: str, number: int, processes: int, tick: datetime
) -> list[tuple[Callable[[World], int], datetime]]:
    works: list[tuple[Callable[[World], int], datetime]] = []
    for process in range(processes):
        run = f"round-{number}" if way == "run" else f"round-{number}-{process}"
        at = tick + process * INTERVAL if way == "lease" else tick
        works.append((partial(_racing_cycle, tick=at, run=run), at + timedelta(seconds=1)))
    return works


def _prepare(yard: Yard, number: int, tick: datetime) -> str:
    """Let every chip have an opening due, and one chip's breaker its probe; returns that chip's instance."""
    probed = yard.rows[number % len(yard.rows)]
    day = local_day(tick, yard.policy.zone)
    with yard.store() as store, store.write() as tx:
        activities.insert_plans(
            tx,
            [],
            [
                {
                    "id": derived_id("race", number, row["id"]),
                    "pool": POOL,
                    "chip_id": row["id"],
                    "type": CONVERSA_PAR,
                    "day": day,
                    "planned_at": tick,
                    "due_at": tick,
                    "state": ActivityState.PLANNED,
                    "source": RowSource.WARMUP,
                }
                for row in yard.rows
            ],
        )
        # The last round's probe may have left its breaker open: every other chip may send.
        breakers = {row["id"]: CLOSED for row in yard.rows}
        breakers[probed["id"]] = Circuit(CircuitState.OPEN, 3, tick - timedelta(minutes=10))
        chips.set_breakers(tx, breakers)
    rule = {"match": {"instance": probed["instance"], "route": "any-send"}, "kind": "status", "code": 500}
    yard.ask("POST", "faults", json={"rules": [rule]})
    name: str = probed["instance"]
    return name


def _probes(yard: Yard) -> int:
    """How often the gateway was asked to send by the chip whose breaker is open."""
    (rule,) = yard.ask("GET", "faults")["rules"]
    return int(rule["hits"])


def race(yard: Yard, *, rounds: int, begins: datetime = MORNING) -> Raced:
    """Run the rounds and judge them."""
    raced = Raced()
    tick = begins
    for number in range(rounds):
        if number and number % ROUNDS_A_DAY == 0:
            tick = begins + (number // ROUNDS_A_DAY) * timedelta(days=1)
        way = WAYS[number % len(WAYS)]
        processes = 2 if (number // len(WAYS)) % 2 == 0 else 4
        probed = _prepare(yard, number, tick)
        codes = _start_together(yard, _works(way, number, processes, tick))
        said = {0: "ended", REFUSED: "refused", STOPPED: "stopped"}
        raced.ended.update(f"{way} {said.get(code, 'failed')}" for code in codes)
        if any(code not in said for code in codes):
            raced.failed.append(f"round {number} ({way}, {processes} processes)")
        hits = _probes(yard)
        raced.probed += hits == 1
        # A cycle five minutes later may probe again what failed before it.
        if hits > (processes if way == "lease" else 1):
            raced.probed_often.append(f"round {number} ({way}, {processes} processes): {probed} {hits} times")
        tick += (processes if way == "lease" else 1) * INTERVAL
    yard.ask("POST", "faults", json={"rules": []})
    with yard.store() as store:
        raced.evidence = judge(store, yard.accepted(), yard.rows, yard.policy, ended_at=tick)
    return raced


@click.command()
@click.option(
    "--database", type=click.Choice(["postgresql", "sqlite"]), default="postgresql", show_default=True
)
@click.option("--chips", "chip_count", type=click.IntRange(2), default=20, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=50, show_default=True)
def races(database: str, chip_count: int, rounds: int) -> None:
    """Let two and four cycle processes run at once; then judge from the gateway's log."""
    print(f"{database}, {chip_count} chips, {rounds} rounds of 2 and 4 processes", flush=True)
    with open_yard(database, at=MORNING, chip_count=chip_count, latency_ms=20, policy=tight_policy()) as yard:
        raced = race(yard, rounds=rounds)
    print(f"processes: {dict(sorted(raced.ended.items()))}")
    print(f"rounds with exactly one probe: {raced.probed}")
    print(told(asdict(raced.evidence)))
    if raced.complaints:
        for name, found in raced.complaints.items():
            print(f"{name}: {len(found)}, first: {found[:3]}")
        raise click.ClickException("two processes did what one may")
    shown: list[Any] = [raced.evidence.accepted, raced.probed]
    if not all(shown):
        raise click.ClickException("nothing was sent or probed: nothing shown")
