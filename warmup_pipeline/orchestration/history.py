"""What Dagster's own history says: is the sensor on, does the daemon live, which runs failed and why.

Holds: the questions that health and alerts ask of the instance. Some of these calls are not public;
tests hold them to what they promise. Do not add: results of asset checks (``launching``), judging
(``domain.vitals``), changes (``retention``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorStatus, InstigatorType

from warmup_pipeline.domain.vitals import SchedulerState
from warmup_pipeline.orchestration.names import CYCLE_JOB, CYCLE_SENSOR

_WAITING: Final = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
]
_SENSOR_DAEMON: Final = "SENSOR"
_OVERLAP: Final = timedelta(minutes=10)
"""How far back failures are looked for again: a run's end is stored a moment after it ended."""
_ROOT_TAG: Final = "dagster/root_run_id"
_AT_ONCE: Final = 200


def scheduler_state(instance: dg.DagsterInstance) -> SchedulerState:
    """Return what Dagster says of the sensor, the daemon and the run queue."""
    states = [
        state
        for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR)
        if state.instigator_name == CYCLE_SENSOR
    ]
    heartbeat = instance.get_daemon_heartbeats().get(_SENSOR_DAEMON)
    waiting = instance.get_run_records(
        filters=dg.RunsFilter(job_name=CYCLE_JOB, statuses=_WAITING), ascending=True, limit=_AT_ONCE
    )
    return SchedulerState(
        # One that was never switched has no state of its own: it is on, as the code declares.
        sensor_on=not states or any(state.status is not InstigatorStatus.STOPPED for state in states),
        daemon_heard_at=None if heartbeat is None else datetime.fromtimestamp(heartbeat.timestamp, UTC),
        waiting=len(waiting),
        waiting_since=_utc(waiting[0].create_timestamp) if waiting else None,
        running=instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])),
        failed=_failed_cycles(instance),
    )


def _failed_cycles(instance: dg.DagsterInstance) -> frozenset[str]:
    """Return the first runs of the last cycles that failed and were not run again with success."""

    def roots(status: dg.DagsterRunStatus, tags: Mapping[str, Any] | None = None) -> set[str]:
        filters = dg.RunsFilter(job_name=CYCLE_JOB, statuses=[status], tags=tags)
        runs = instance.get_runs(filters=filters, limit=_AT_ONCE)
        return {run.root_run_id or run.run_id for run in runs}

    failed = roots(dg.DagsterRunStatus.FAILURE)
    if failed:
        failed -= roots(dg.DagsterRunStatus.SUCCESS, {_ROOT_TAG: sorted(failed)})
    return frozenset(failed)


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run that failed: its id, its job, and when it ended."""

    run_id: str
    job: str
    ended_at: datetime


def failed_since(
    instance: dg.DagsterInstance, since: datetime, *, but_not: Collection[str] = ()
) -> list[FailedRun]:
    """Return the runs that failed since (ten minutes before) an instant, oldest first.

    Args:
        instance: the Dagster instance.
        since: up to where failures are known.
        but_not: ids of the runs that are known already.
    """
    after = since - _OVERLAP
    records = instance.get_run_records(
        filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=after), limit=_AT_ONCE
    )
    found = []
    for record in records:
        # A run that somebody tags later is updated, but ended when it ended.
        ended = _utc(record.update_timestamp)
        if record.end_time is not None:
            ended = datetime.fromtimestamp(record.end_time, UTC)
        run = record.dagster_run
        if ended >= after and run.run_id not in but_not:
            found.append(FailedRun(run.run_id, run.job_name, ended))
    return sorted(found, key=lambda one: (one.ended_at, one.run_id))


def why_failed(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return, in one line, why a run failed; its whole log is in the UI."""
    for event in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        error = getattr(event.dagster_event and event.dagster_event.event_specific_data, "error", None)
        if error is not None:
            # An exception of a step stands as the cause of Dagster's own.
            told = error.cause or error
            line = next((line for line in told.message.splitlines() if line.strip()), "")
            return str(line).split(": ", 1)[-1].strip()
    for event in instance.all_logs(run_id, of_type=dg.DagsterEventType.PIPELINE_FAILURE):
        message = event.dagster_event.message if event.dagster_event else None
        if message:
            return message.splitlines()[0]
    return "its log says why"


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at
