"""The sensor: one cycle per five-minute slot and pool, without drift.

Holds: ``warmup_cycle_sensor``. It ticks every 30 s and asks for a slot once, with pool and slot as
the run key; a tick that asks for nothing says why.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import dagster as dg

from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.privacy import Redactor
from warmup_pipeline.domain.values import ClockKind
from warmup_pipeline.orchestration.jobs import CYCLE_JOB_DEFINITION
from warmup_pipeline.orchestration.names import (
    CYCLE_JOB,
    CYCLE_SENSOR,
    POLICY_TAG,
    POOL_TAG,
    TICK_TAG,
)
from warmup_pipeline.orchestration.resources import WarmupAccess
from warmup_pipeline.store import pools
from warmup_pipeline.store.migrate import StoreError
from warmup_pipeline.warmup.lifecycle import STEPPED_NEVER_LIVE, slot_of
from warmup_pipeline.warmup.policies import load_policy

TICK_EVERY_S: Final = 30
TOO_LATE_IN_SLOT: Final = timedelta(seconds=150)
"""On real time, a slot this far gone is left to the next one: a cycle needs its time."""

UNFINISHED: Final = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def _cursor(text: str | None) -> dict[str, str]:
    try:
        stored = json.loads(text or "{}")
    except ValueError:
        return {}
    return stored if isinstance(stored, dict) else {}


def _busy(instance: dg.DagsterInstance, names: Sequence[str]) -> set[str]:
    """Return which of the pools have a run that has not ended, with one question for all of them."""
    if not names:
        return set()
    unfinished = dg.RunsFilter(tags={POOL_TAG: list(names)}, statuses=UNFINISHED)
    return {run.tags[POOL_TAG] for run in instance.get_runs(filters=unfinished)}


@dg.sensor(
    name=CYCLE_SENSOR,
    job=CYCLE_JOB_DEFINITION,
    minimum_interval_seconds=TICK_EVERY_S,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=f"Runs {CYCLE_JOB} once per five-minute slot for every pool that has chips.",
)
def warmup_cycle_sensor(context: dg.SensorEvaluationContext, warmup: dg.ResourceParam[WarmupAccess]) -> Any:
    """Ask for the cycle of the slot that is running, for each pool that has not had it."""
    now = warmup.now()
    slot = slot_of(now)
    asked = _cursor(context.cursor)
    requests: list[dg.RunRequest] = []
    reasons: list[str] = []
    try:
        with warmup.store() as (store, settings):
            policy = load_policy(settings.policy)
            with store.read() as tx:
                held = pools.with_chips(tx)
    except (StoreError, ValueError) as error:
        # One line that says what to do; the cursor stays, so that the slot is asked for once it is mended.
        return dg.SkipReason(Redactor().text(str(error)))
    due = [pool.name for pool in held if asked.get(pool.name, "") < slot.isoformat()]
    busy = _busy(context.instance, due)
    for pool in held:
        if asked.get(pool.name) == slot.isoformat():
            reasons.append(f"{pool.name}: the slot {slot.astimezone(policy.zone):%H:%M} has its cycle")
        elif asked.get(pool.name, "") > slot.isoformat():
            later = datetime.fromisoformat(asked[pool.name]).astimezone(policy.zone)
            reasons.append(
                f"{pool.name}: the slot {later:%Y-%m-%d %H:%M} has had its cycle already, so this machine's clock "
                "went back: cycles go on once it has passed that time again"
            )
        elif pool.clock is ClockKind.STEPPED and not settings.is_simulated:
            reasons.append(f"{pool.name}: it {STEPPED_NEVER_LIVE}")
        elif pool.name in busy:
            reasons.append(f"{pool.name}: a cycle is still running")
        elif pool.clock is ClockKind.SYSTEM and now - slot > TOO_LATE_IN_SLOT:
            reasons.append(f"{pool.name}: the slot is nearly over, the next one gets a cycle")
        else:
            tick = pool.now(slot)
            asked[pool.name] = slot.isoformat()
            requests.append(
                dg.RunRequest(
                    run_key=f"{pool.name}:{slot.isoformat()}",
                    partition_key=local_day(tick, policy.zone).isoformat(),
                    tags={
                        TICK_TAG: tick.isoformat(),
                        POOL_TAG: pool.name,
                        POLICY_TAG: f"{policy.name}@{policy.fingerprint}",
                    },
                )
            )
    if not held:
        reasons.append(
            "there are no chips: run `warmup demo`, or import a pool with `warmup import` or import_pool"
        )
    skip = None if requests else dg.SkipReason("; ".join(reasons))
    return dg.SensorResult(run_requests=requests, skip_reason=skip, cursor=json.dumps(asked, sort_keys=True))
