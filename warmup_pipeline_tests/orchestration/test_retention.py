"""The traps: a purge that stops at its first page, that forgets files, or that erases the last verdicts."""

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickData, TickStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.runs.schema import RunsTable
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage
from dagster._core.storage.schedules.schema import JobTickTable
from dagster._core.storage.schedules.sql_schedule_storage import SqlScheduleStorage

from warmup_pipeline.orchestration.names import PARTITION_TAG
from warmup_pipeline.orchestration.retention import purge_old_runs

CHECK = dg.AssetCheckKey(dg.AssetKey("counted"), "is_counted")
DAYS = dg.DailyPartitionsDefinition("2026-02-01")


@dg.asset(partitions_def=DAYS)
def counted(context: dg.AssetExecutionContext) -> None:
    """An asset like daily_summary."""
    if "fails" in context.run.tags:
        raise RuntimeError("as asked")


@dg.asset_check(asset=counted)
def is_counted() -> dg.AssetCheckResult:
    """A check like ours."""
    return dg.AssetCheckResult(passed=True)


@pytest.fixture
def instance(empty_project: object) -> dg.DagsterInstance:
    return empty_project.instance  # type: ignore[attr-defined,no-any-return]  # the conftest's Project


def run(instance: dg.DagsterInstance, day: str, *, age_days: int, fails: bool = False) -> str:
    """Run the asset and its check for a day, and make the run as old as asked."""
    job = dg.Definitions(
        assets=[counted], asset_checks=[is_counted], jobs=[dg.define_asset_job("count")]
    ).resolve_job_def("count")
    result = job.execute_in_process(
        instance=instance,
        partition_key=day,
        raise_on_error=False,
        tags={"fails": "yes"} if fails else None,
    )
    assert result.success is not fails
    storage = instance.run_storage
    assert isinstance(storage, SqlRunStorage)
    at = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=age_days)
    with storage.connect() as connection:
        connection.execute(
            sa.update(RunsTable).where(RunsTable.c.run_id == result.run_id).values(update_timestamp=at)
        )
    return result.run_id


def listed(instance: dg.DagsterInstance) -> set[str]:
    return {one.run_id for one in instance.get_runs()}


def check_rows(instance: dg.DagsterInstance) -> set[str]:
    storage = instance.event_log_storage
    assert isinstance(storage, SqlEventLogStorage)
    with storage.index_connection() as connection:
        return {row[0] for row in connection.execute(sa.select(AssetCheckExecutionsTable.c.run_id))}


def test_old_runs_go_over_several_pages_with_their_files_and_check_rows(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    old = [run(instance, "2026-02-10", age_days=20) for _ in range(5)]
    young = run(instance, "2026-02-10", age_days=1)
    files = [path for run_id in old for path in tmp_path.rglob(f"*{run_id}*")]
    assert files, "there is something to forget"
    assert purge_old_runs(instance, keep_days=14, batch=2).runs == 5
    assert listed(instance) == {young}
    assert [path for run_id in old for path in tmp_path.rglob(f"*{run_id}*")] == []
    assert check_rows(instance) == {young}


def test_the_newest_success_of_each_partition_stays_and_so_does_what_the_ui_shows_of_it(
    instance: dg.DagsterInstance,
) -> None:
    first = run(instance, "2026-02-10", age_days=30)
    second = run(instance, "2026-02-10", age_days=29)
    failed = run(instance, "2026-02-10", age_days=28, fails=True)
    other = run(instance, "2026-02-11", age_days=27)
    assert purge_old_runs(instance, keep_days=14).runs == 2
    assert listed(instance) == {second, other}
    assert first not in listed(instance)
    assert failed not in listed(instance)
    assert instance.get_materialized_partitions(counted.key) == {"2026-02-10", "2026-02-11"}


def test_the_last_completed_result_of_a_check_stays_though_its_run_goes(instance: dg.DagsterInstance) -> None:
    gone = run(instance, "2026-02-10", age_days=30)
    # The check of the newer run never completed: its row says only that it was planned.
    failed = run(instance, "2026-02-10", age_days=20, fails=True)
    storage = instance.run_storage
    assert isinstance(storage, SqlRunStorage)
    with storage.connect() as connection:
        connection.execute(sa.update(RunsTable).where(RunsTable.c.run_id == gone).values(status="FAILURE"))
    assert purge_old_runs(instance, keep_days=14).runs == 2
    assert listed(instance) == set()
    assert check_rows(instance) == {gone}
    assert failed not in check_rows(instance)
    summary = instance.event_log_storage.get_asset_check_summary_records([CHECK])[CHECK]
    assert summary.last_completed_check_execution_record is not None


def test_the_run_that_purges_and_runs_that_go_on_stay(instance: dg.DagsterInstance) -> None:
    mine = run(instance, "2026-02-10", age_days=30, fails=True)
    running = run(instance, "2026-02-12", age_days=30)
    storage = instance.run_storage
    assert isinstance(storage, SqlRunStorage)
    with storage.connect() as connection:
        connection.execute(sa.update(RunsTable).where(RunsTable.c.run_id == running).values(status="STARTED"))
    assert purge_old_runs(instance, keep_days=14, but_not=mine).runs == 0
    assert listed(instance) == {mine, running}
    tags = instance.get_runs()[0].tags
    assert PARTITION_TAG in tags


def tick(instance: dg.DagsterInstance, at: datetime, *, words: str = "nothing to do") -> None:
    instance.create_tick(
        TickData(
            instigator_origin_id="origin",
            instigator_name="sensor",
            instigator_type=InstigatorType.SENSOR,
            status=TickStatus.SKIPPED,
            timestamp=at.timestamp(),
            selector_id="selector",
            skip_reason=words,
        )
    )


def test_old_ticks_go_and_young_ones_stay(instance: dg.DagsterInstance) -> None:
    now = datetime.now(UTC)
    for days in (20, 15, 13):
        tick(instance, now - timedelta(days=days))
    assert purge_old_runs(instance, keep_days=14).ticks == 2
    (left,) = instance.get_ticks("origin", "selector")
    assert left.timestamp == pytest.approx((now - timedelta(days=13)).timestamp())


def test_what_a_run_left_behind_goes_though_nobody_lists_it_any_more(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    gone, kept = (run(instance, "2026-02-10", age_days=1) for _ in range(2))
    # As a process does that ends after the first of the two deletions, or an older program did.
    instance.run_storage.delete_run(gone)
    files = [path for path in tmp_path.rglob(f"*{gone}*") if path.exists()]
    assert files
    assert purge_old_runs(instance, keep_days=14).left_behind == 0, "it may just be beginning"
    for path in files:
        os.utime(path, (0, 0))
    assert purge_old_runs(instance, keep_days=14).left_behind == 1
    assert list(tmp_path.rglob(f"*{gone}*")) == []
    assert list(tmp_path.rglob(f"*{kept}*"))
    assert check_rows(instance) == {kept}


def test_a_file_that_has_grown_large_is_made_small_again(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=40)
    tick(instance, long_ago, words="x" * 50_000)
    storage = instance.schedule_storage
    assert isinstance(storage, SqlScheduleStorage)
    columns = [c for c in JobTickTable.c if c.name != "id"]
    with storage.connect() as connection:
        for _ in range(8):
            copies = sa.select(*columns)
            connection.execute(sa.insert(JobTickTable).from_select([c.name for c in columns], copies))
    (file,) = tmp_path.rglob("schedules.db")
    grown = file.stat().st_size
    assert grown > 10_000_000
    purged = purge_old_runs(instance, keep_days=14)
    assert purged.ticks == 2**8
    assert purged.freed > 10_000_000
    assert file.stat().st_size < grown / 10
    tick(instance, datetime.now(UTC))
    assert len(instance.get_ticks("origin", "selector")) == 1, "it is as good as before"


def log_of(tmp_path: Path) -> Path:
    (file,) = tmp_path.rglob("schedules.db-wal")
    return file


def test_a_write_ahead_log_is_taken_up_and_one_that_somebody_reads_is_left_for_another_night(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    storage = instance.schedule_storage
    assert isinstance(storage, SqlScheduleStorage)
    tick(instance, datetime.now(UTC))
    (file,) = tmp_path.rglob("schedules.db")
    with closing(sqlite3.connect(file)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM job_ticks").fetchone()
        tick(instance, datetime.now(UTC), words="x" * 50_000)
        purge_old_runs(instance, keep_days=14)
        assert log_of(tmp_path).stat().st_size > 50_000
        with storage.connect() as connection:
            patience = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
        assert patience > 0, "who comes next waits for others again"
    purge_old_runs(instance, keep_days=14)
    assert log_of(tmp_path).stat().st_size == 0
