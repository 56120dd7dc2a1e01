"""Running cycles from a command, listed and re-executable like the sensor's.

Holds: every call to Dagster that is not public: creating a run with the code location's origin (a
run of ``execute_in_process`` is not listed under its job and cannot be re-executed from the UI),
executing it in this process, and reading the last completed result of a check (the newest record
may be a planned one that hides the last verdict). Tests hold them to what they promise.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, cast

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord
from sqlalchemy.exc import SQLAlchemyError

from warmup_pipeline.assembly import open_reading_world, open_store, utc_now
from warmup_pipeline.domain.health import Severity
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.values import ClockKind
from warmup_pipeline.orchestration.names import (
    CODE_MODULE,
    CYCLE_JOB,
    EXACT_TAG,
    PARTITION_TAG,
    POLICY_TAG,
    POOL_TAG,
    TICK_TAG,
)
from warmup_pipeline.settings import Settings
from warmup_pipeline.store import cycles, pools
from warmup_pipeline.store.pools import Pool
from warmup_pipeline.store.trouble import StoreError
from warmup_pipeline.warmup.checks import CHECKS
from warmup_pipeline.warmup.health_report import CheckResult
from warmup_pipeline.warmup.lifecycle import fail_cycle
from warmup_pipeline.warmup.policies import load_policy
from warmup_pipeline.warmup.world import StandardLog

_ORIGIN = RemoteJobOrigin(
    RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(CODE_MODULE), "__repository__"), CYCLE_JOB
)

# The run's log is in Dagster; a command's own output stays readable.
_QUIET_CONSOLE = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True, slots=True)
class RanCycle:
    """A cycle's run that has ended."""

    run_id: str
    succeeded: bool


@lru_cache(maxsize=1)
def _cycle_job() -> dg.JobDefinition:
    from warmup_pipeline.build import build_defs

    return build_defs().resolve_job_def(CYCLE_JOB)


def run_cycle(
    instance: dg.DagsterInstance,
    pool: str,
    *,
    at: datetime | None = None,
    settings: Settings | None = None,
    job: dg.JobDefinition | None = None,
) -> RanCycle:
    """Run one cycle of a pool in this process, as a run that Dagster lists and can re-execute.

    Args:
        instance: the Dagster instance.
        pool: the pool's name.
        at: the cycle's logical time; ``None`` for the pool clock's now.
        settings: where the database is; from the environment unless given.
        job: the job to run; the project's own unless given.

    Raises:
        warmup_pipeline.store.engine.PoolNotFound: there is no such pool.
        sqlalchemy.exc.SQLAlchemyError: Dagster's own history cannot be used; the pool is free again.
    """
    found = settings or Settings.from_environment()
    # Open until the run is over: the last one that closes an embedded database writes its log back.
    with open_store(found) as store:
        with store.read() as tx:
            clock = pools.get(tx, pool)
        return _run(instance, pool, clock, at, found, job or _cycle_job())


def _run(
    instance: dg.DagsterInstance,
    pool: str,
    clock: Pool,
    at: datetime | None,
    settings: Settings,
    job: dg.JobDefinition,
) -> RanCycle:
    policy = load_policy(settings.policy)
    stepped = clock.clock is ClockKind.STEPPED
    tick = clock.now(utc_now().replace(microsecond=0)) if stepped or at is None else at
    tags = {
        TICK_TAG: tick.isoformat(),
        POOL_TAG: pool,
        POLICY_TAG: f"{policy.name}@{policy.fingerprint}",
        PARTITION_TAG: local_day(tick, policy.zone).isoformat(),
    }
    if at is not None and not stepped:
        tags[EXACT_TAG] = "true"
    run = instance.create_run_for_job(job, tags=tags, run_config=_QUIET_CONSOLE, remote_job_origin=_ORIGIN)
    try:
        result = execute_run(InMemoryJob(job), run, instance, raise_on_error=False)
    except SQLAlchemyError:
        # Dagster's own history cannot be written, so nothing in there will ever say that the run has ended.
        with suppress(StoreError):
            _give_back(settings, run.run_id)
        raise
    if not result.success and _was_interrupted(instance, run.run_id):
        _give_back(settings, run.run_id)
        raise KeyboardInterrupt
    return RanCycle(run.run_id, result.success)


def _was_interrupted(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether somebody pressed Ctrl-C: Dagster takes it for a failure of the step that was under way."""
    ended = instance.all_logs(
        run_id, of_type={dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.PIPELINE_CANCELED}
    )
    for entry in ended:
        event = entry.dagster_event
        if event is not None and event.event_type is dg.DagsterEventType.PIPELINE_CANCELED:
            return True
        error = getattr(event and event.event_specific_data, "error", None)
        while error is not None:
            if error.cls_name in ("DagsterExecutionInterruptedError", "KeyboardInterrupt"):
                return True
            error = error.cause
    return False


def _give_back(settings: Settings, run_id: str) -> None:
    """Mark the cycle of a run that was broken off as failed, so that the pool is free at once."""
    with open_reading_world(settings, log=StandardLog()) as world:
        with world.store.read() as tx:
            cycle = cycles.of_run(tx, run_id)
        if cycle is not None:
            fail_cycle(world, cycle)


def forget_runs(instance: dg.DagsterInstance, pool: str) -> int:
    """Delete the runs of a pool's cycles; returns how many."""
    runs = instance.get_runs(filters=dg.RunsFilter(tags={POOL_TAG: pool}))
    for run in runs:
        instance.delete_run(run.run_id)
    return len(runs)


def _last_completed(summary: Any) -> AssetCheckExecutionRecord | None:
    return cast("AssetCheckExecutionRecord | None", summary.last_completed_check_execution_record)


def latest_results(instance: dg.DagsterInstance) -> list[CheckResult]:
    """Return the last completed result of each asset check that has one."""
    keys = [dg.AssetCheckKey(dg.AssetKey(spec.asset), spec.name) for spec in CHECKS]
    records = instance.event_log_storage.get_asset_check_summary_records(keys)
    found = []
    for key in keys:
        summary = records.get(key)
        record = _last_completed(summary) if summary is not None else None
        evaluation = record.evaluation if record is not None else None
        if record is None or evaluation is None:
            continue
        warns = evaluation.severity is dg.AssetCheckSeverity.WARN
        found.append(
            CheckResult(
                asset=key.asset_key.to_user_string(),
                check=key.name,
                passed=evaluation.passed,
                severity=Severity.WARN if warns else Severity.ERROR,
                description=evaluation.description or "",
                evaluated_at=datetime.fromtimestamp(record.create_timestamp, UTC),
                metadata={name: value.value for name, value in evaluation.metadata.items()},
                run_id=record.run_id,
            )
        )
    return found
