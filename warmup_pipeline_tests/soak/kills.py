"""Cycles killed at random moments over a day, and what the gateway saw of it.

``python -m warmup_pipeline_tests.soak kills [--database sqlite|postgresql] [--kills N] [--ticks N] [--seed N]``

Each tick's cycle is a process that dies with SIGKILL at a drawn point (see ``yard.DeathClock``), is
started again (the same run, from its first step, as a restarted run would be at worst) or left to the
next tick's cycle, and so on until the day is over. Then the gateway's log is held against the rules.
"""

from __future__ import annotations

import random
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

from warmup_pipeline.warmup import lifecycle
from warmup_pipeline.warmup.timelapse.engine import STEPS
from warmup_pipeline.warmup.world import World
from warmup_pipeline_tests.soak.evidence import judge, told
from warmup_pipeline_tests.soak.yard import FAILED, POOL, REFUSED, Ended, Yard, open_yard

MORNING: Final = datetime(2026, 3, 2, 11, 0, tzinfo=UTC)
"""08:00 in America/Sao_Paulo on a Monday."""


def one_cycle(world: World, tick: datetime, run: str) -> int:
    """Run one whole cycle in this process; returns the exit code."""
    try:
        cycle, _ = lifecycle.begin_cycle(world, POOL, root_run_id=run, asked_tick=tick)
    except lifecycle.CycleRefused as error:
        print(error, file=sys.stderr)
        return REFUSED
    for step in STEPS:
        step(world, cycle)
    lifecycle.end_cycle(world, cycle)
    return 0


def kill_cycles(yard: Yard, chance: random.Random, *, ticks: int, kills: int) -> tuple[int, datetime]:
    """Run ``ticks`` cycles from :data:`MORNING`, killing ``kills`` times; returns how often, and the end.

    A cycle that came to its end before its drawn moment was not killed: a few more may be needed.
    """
    killed = 0
    usual = 200
    tick = MORNING
    for number in range(2 * ticks):
        if number >= ticks and killed >= kills:
            break
        run = f"run-{number}"
        due = round(kills * min(1.0, (number + 1) / ticks)) - killed
        # A crash is either followed by the same run again, or by the next tick's cycle.
        leaves = chance.random() < 0.3
        while True:
            dies_at = chance.randint(1, max(2, usual)) if due > 0 else None
            ended = _child(yard, tick, run, dies_at)
            if ended.killed:
                killed += 1
                due -= 1
                if leaves and due <= 0:
                    break
                continue
            usual = max(20, ended.count)
            break
        tick += lifecycle.INTERVAL
    return killed, tick


def _child(yard: Yard, tick: datetime, run: str, dies_at: int | None) -> Ended:
    ended = yard.fork(
        lambda world: one_cycle(world, tick, run), tick + timedelta(seconds=1), dies_at=dies_at
    ).wait()
    if ended.code in (FAILED, REFUSED):
        raise click.ClickException(
            f"the cycle of {tick:%H:%M} UTC failed in its own code; its traceback is above"
        )
    return ended


def settle(yard: Yard, tick: datetime) -> datetime:
    """Let a few undisturbed cycles of the next two nights put right what the last crash left.

    Returns the last one's tick. By then every conversation of the day is over.
    """
    midnight = MORNING - timedelta(hours=8)
    nights = [max(tick, midnight + timedelta(days=days, minutes=5)) for days in (1, 2)]
    for begins in nights:
        for number in range(3):
            tick = begins + number * lifecycle.INTERVAL
            _child(yard, tick, f"settling-{tick.isoformat()}", None)
    return tick


@click.command()
@click.option("--database", type=click.Choice(["sqlite", "postgresql"]), default="sqlite", show_default=True)
@click.option("--chips", "chip_count", type=click.IntRange(2), default=20, show_default=True)
@click.option(
    "--ticks", type=click.IntRange(1), default=144, show_default=True, help="144 are a day's window."
)
@click.option("--kills", type=click.IntRange(0), default=220, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="Repeats a run.")
@click.option("--resets", is_flag=True, help="The gateway also drops every tenth answer it accepted.")
def kills(database: str, chip_count: int, ticks: int, kills: int, seed: int, resets: bool) -> None:
    """Kill cycles at random moments over a simulated day; then judge from the gateway's log."""
    chance = random.Random(seed)
    print(f"{database}, {chip_count} chips, {ticks} ticks, {kills} kills, seed {seed}", flush=True)
    with open_yard(database, at=MORNING, chip_count=chip_count) as yard:
        if resets:
            yard.ask("POST", "faults", json={"rules": [{"match": {"route": "any-send"}, **_RESET}]})
        killed, tick = kill_cycles(yard, chance, ticks=ticks, kills=kills)
        ended = settle(yard, tick)
        with yard.store() as store:
            evidence = judge(store, yard.accepted(), yard.rows, yard.policy, ended_at=ended)
    print(f"killed {killed} times; {told(asdict(evidence))}")
    if killed < kills or not evidence.accepted:
        raise click.ClickException(
            f"only {killed} of {kills} kills and {evidence.accepted} messages: nothing shown"
        )
    if evidence.complaints:
        for name, found in evidence.complaints.items():
            print(f"{name}: {len(found)}, first: {found[:3]}")
        raise click.ClickException(f"repeat it with --seed {seed}")


_RESET: Final[dict[str, Any]] = {"kind": "reset_after", "probability": 0.1}
