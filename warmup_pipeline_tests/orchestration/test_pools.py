"""The traps: a question per pool, and one pool's trouble that keeps the others' cycles away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import dagster as dg
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from warmup_pipeline.orchestration.names import (
    CYCLE_JOB,
    PARTITION_TAG,
    POLICY_TAG,
    POOL_TAG,
    RESOURCE,
    TICK_TAG,
)
from warmup_pipeline.orchestration.resources import WarmupAccess
from warmup_pipeline.orchestration.sensors import warmup_cycle_sensor
from warmup_pipeline.store import chips, migrate, pools
from warmup_pipeline_tests.orchestration.conftest import Project
from warmup_pipeline_tests.support import MORNING, chip_row


def add_pools(project: Project, numbers: range) -> list[str]:
    """Add pools of one chip each, on stepped clocks; returns their names."""
    names = [f"pool-{number:03d}" for number in numbers]
    store = project.store()
    migrate.upgrade(store)
    with store.write() as tx:
        for name in names:
            pools.step_from(tx, name, MORNING, at=MORNING)
        chips.insert(tx, [chip_row(n, pool=name) for n, name in zip(numbers, names, strict=True)], [])
    store.close()
    return names


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect what any engine of this process is asked: the pools' database and Dagster's own."""
    seen: list[str] = []

    def note(_: object, __: object, statement: str, *more: object) -> None:
        seen.append(statement)

    event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(sa.Engine, "before_cursor_execute", note)


def requests_of(result: dg.SensorResult) -> list[dg.RunRequest]:
    return [request for request in result.run_requests or [] if isinstance(request, dg.RunRequest)]


def evaluate(project: Project, cursor: str | None = None) -> dg.SensorResult:
    """Tick the sensor one minute into a slot."""
    context = dg.build_sensor_context(
        instance=project.instance,
        cursor=cursor,
        definitions=project.defs(),
        resources={
            RESOURCE: WarmupAccess(lambda: project.settings, now=lambda: MORNING + timedelta(minutes=1))
        },
    )
    result = warmup_cycle_sensor(context)
    assert isinstance(result, dg.SensorResult)
    return result


@pytest.fixture
def first_pool(empty_project: Project) -> Project:
    """A project with one pool."""
    add_pools(empty_project, range(1, 2))
    return empty_project


def test_a_tick_asks_for_one_run_of_each_of_500_pools_with_as_many_statements_as_for_one(
    first_pool: Project,
) -> None:
    evaluate(first_pool)  # the first look at a database checks its version
    with statements() as for_one:
        one = evaluate(first_pool)
    names = ["pool-001", *add_pools(first_pool, range(2, 501))]
    with statements() as for_all:
        every = evaluate(first_pool)
    assert len(requests_of(one)) == 1
    asked = requests_of(every)
    assert [request.tags[POOL_TAG] for request in asked] == names
    assert len({request.run_key for request in asked}) == 500
    assert {request.partition_key for request in asked} == {"2026-03-02"}
    assert {request.tags[TICK_TAG] for request in asked} == {MORNING.isoformat()}
    assert all(request.tags[POLICY_TAG].startswith("default@") for request in asked)
    assert for_one
    assert len(for_all) == len(for_one), "statements of a tick follow the number of pools"


def test_a_pool_whose_cycle_still_runs_waits_alone(first_pool: Project) -> None:
    names = ["pool-001", *add_pools(first_pool, range(2, 41))]
    job = first_pool.defs().resolve_job_def(CYCLE_JOB)
    first_pool.instance.create_run_for_job(
        job, tags={POOL_TAG: "pool-007", PARTITION_TAG: "2026-03-02"}, status=dg.DagsterRunStatus.STARTED
    )
    result = evaluate(first_pool)
    assert {request.tags[POOL_TAG] for request in requests_of(result)} == set(names) - {"pool-007"}
    assert set(json.loads(result.cursor or "{}")) == set(names) - {"pool-007"}


def test_a_pool_that_comes_later_in_a_slot_is_asked_for_and_the_others_are_not_again(
    first_pool: Project,
) -> None:
    first = evaluate(first_pool)
    add_pools(first_pool, range(2, 4))
    second = evaluate(first_pool, first.cursor)
    assert [request.tags[POOL_TAG] for request in requests_of(second)] == ["pool-002", "pool-003"]
    third = evaluate(first_pool, second.cursor)
    assert requests_of(third) == []
    assert third.skip_reason is not None
