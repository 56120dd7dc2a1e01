"""Checks on ``daily_summary``: is it what the log says, and do cycles run on time?

Holds: the judges of that asset and their lines in :data:`CHECKS`. Source: domain.md, "Daily
summary", "Health" and "Silence is a warning".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Final

from warmup_pipeline.domain.health import Severity, Verdict
from warmup_pipeline.domain.localtime import in_window, local_day
from warmup_pipeline.store import audit, cycles, pools, summaries
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.warmup.checks.scene import NAMED, few, load_scene
from warmup_pipeline.warmup.checks.spec import CheckSpec, verdict
from warmup_pipeline.warmup.summary import EVERYTHING, compute_day, compute_everything, compute_pool_day
from warmup_pipeline.warmup.world import World

NO_CYCLE_FOR: Final = timedelta(minutes=10)
SILENT_FOR: Final = timedelta(minutes=20)
SLOW_CYCLE_S: Final = 240.0

LATE: Final = "no cycle for 10 minutes (is the sensor on and the daemon running?)"
FAILED: Final = "the last cycle failed"


def summary_matches_log(world: World, only: str | None = None) -> Verdict:
    """Judge whether the stored summaries of today and yesterday are what the log says.

    The log of a pool moves while its cycle runs, which ends by summarising it; until then its rows,
    and those for everything, cannot be judged.
    """
    wrong: list[str] = []
    compared = 0
    with world.store.read() as tx:
        scene = load_scene(tx, world, only, with_chips=True)
        moving = {pool.name for pool in scene.pools if scene.is_running(pool.name)}
        unjudged = {("pool", name) for name in moving} | {
            ("chip", chip.id) for chip in scene.chips if chip.pool in moving
        }
        if moving:
            unjudged.add(("all", EVERYTHING))
        today = {local_day(at, world.policy.zone) for at in scene.at.values()}
        for day in sorted({d - timedelta(days=n) for d in today for n in (0, 1)}):
            stored = summaries.of_day(tx, day, only)
            if not stored:
                continue
            again = _again(tx, world, day, stored, only)
            fresh = {(row["scope"], row["scope_id"]): row for row in again}
            compared += len(fresh.keys() - unjudged)
            wrong += [
                f"{day} {scope} {scope_id[:8]}"
                for scope, scope_id in sorted({*fresh, *stored} - unjudged)
                if stored.get((scope, scope_id)) != fresh.get((scope, scope_id))
            ]
    return verdict(
        "summary_matches_log",
        passed=not wrong,
        summary=(
            f"all {compared} rows of the last two days' summary are what the log says"
            if not wrong
            else f"{len(wrong)} rows are not what the log says: {few(tuple(wrong))}; "
            "materialize daily_summary for that day"
        ),
        numbers={"rows": compared, "wrong": len(wrong), "pools_in_a_cycle": len(moving)},
        concerned=tuple(wrong[:NAMED]),
    )


def _again(
    tx: Transaction,
    world: World,
    day: date,
    stored: Mapping[tuple[str, str], Mapping[str, Any]],
    only: str | None,
) -> Sequence[Mapping[str, Any]]:
    """Return a day's rows computed anew, each as of when it was stored."""
    everything = stored.get(("all", EVERYTHING))
    as_of = None if everything is None or everything["final"] else everything["as_of"]
    of_pool = {
        name: None if row["final"] else row["as_of"]
        for (scope, name), row in stored.items()
        if scope == "pool"
    }
    if only is None:
        return compute_day(tx, world, day, as_of=as_of, of_pool=of_pool)
    mine = compute_pool_day(tx, world, day, only, as_of=of_pool.get(only, as_of))
    # The other pools' rows are judged by their own runs: here they are what they are.
    return [*mine, compute_everything(tx, day, as_of=everything["as_of"])] if everything else mine


def cycle_is_on_time(world: World, only: str | None = None) -> Verdict:
    """Judge whether cycles run every five minutes, end well, and send what they may."""
    now = world.now()
    late, failed, slow, silent = [], [], [], []
    with world.store.read() as tx:
        scene = load_scene(tx, world, only)
        for pool in scene.pools:
            last = scene.latest.get(pool.name)
            if last is None or _is_late(last, now):
                late.append(pool.name)
                continue
            if last.state == "failed":
                failed.append(pool.name)
            if last.duration_s is not None and last.duration_s > SLOW_CYCLE_S:
                slow.append(pool.name)
            # A window's first minutes have nothing to look back on.
            if in_window(last.tick, world.policy) and in_window(last.tick - SILENT_FOR, world.policy):
                approved, sent = audit.sends_since(tx, pool.name, last.tick - SILENT_FOR)
                if approved and not sent:
                    silent.append(pool.name)
    words = [
        (late, LATE),
        (failed, FAILED),
        (slow, f"the last cycle took more than {SLOW_CYCLE_S:.0f} s"),
        (silent, "sends were approved, but no gateway accepted one for 20 minutes"),
    ]
    problems = [f"{text}: {', '.join(names)}" for names, text in words if names]
    duration = max((c.duration_s for c in scene.latest.values() if c.duration_s is not None), default=None)
    return verdict(
        "cycle_is_on_time",
        passed=not problems,
        summary="; ".join(problems)
        if problems
        else f"the cycles of {len(scene.pools)} pool{'s' * (len(scene.pools) != 1)} are on time",
        numbers={
            "pools": len(scene.pools),
            "late": len(late),
            "failed": len(failed),
            "slow": len(slow),
            "silent": len(silent),
            "longest_s": duration,
        },
        concerned=tuple(sorted({*late, *failed, *slow, *silent})),
        severity=Severity.ERROR if failed else Severity.WARN,
    )


def _is_late(last: Cycle, now: datetime) -> bool:
    return now - last.began_at > NO_CYCLE_FOR


def pools_without_cycles(world: World, but_not: str) -> dict[str, Verdict]:
    """Return the verdicts on other pools whose cycles are late or fail: no run of theirs may come to say it."""
    now = world.now()
    with world.store.read() as tx:
        latest = cycles.latest_of_each_pool(tx)
        held = [pool.name for pool in pools.with_chips(tx) if pool.name != but_not]
    found = {}
    for name in held:
        last = latest.get(name)
        late = last is None or _is_late(last, now)
        if late or (last is not None and last.state == "failed"):
            found[name] = verdict(
                "cycle_is_on_time",
                passed=False,
                summary=LATE if late else FAILED,
                numbers={},
                concerned=(name,),
                severity=Severity.WARN if late else Severity.ERROR,
            )
    return found


CHECKS: Final = (
    CheckSpec(
        "daily_summary",
        "summary_matches_log",
        "The summary of today and yesterday equals a recomputation from the log.",
        summary_matches_log,
        remedy=(
            "Materialize `daily_summary` for the day it names: it is computed again from the log and sends "
            "nothing."
        ),
    ),
    CheckSpec(
        "daily_summary",
        "cycle_is_on_time",
        "Cycles run every five minutes, the last one did not fail, and what was approved is sent. Warns after "
        "10 minutes without a cycle or 20 without a send; fails if the last cycle failed.",
        cycle_is_on_time,
        remedy=(
            "See that the daemon runs (Deployment > Daemons) and that `warmup_cycle_sensor` is on "
            "(Automation); open the failed run if one is named."
        ),
        of_silent=pools_without_cycles,
    ),
)
