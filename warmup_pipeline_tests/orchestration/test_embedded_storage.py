"""The embedded storage writes what Dagster's own writes, and either reads what the other wrote."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent, DagsterEventType
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

from warmup_pipeline.orchestration.embedded_storage import EmbeddedStorage
from warmup_pipeline_tests.orchestration.histories import JOB, RUN, run_them, written_to

STOCK = {"sqlite": {"base_dir": "history"}}
EMBEDDED = {
    "custom": {
        "module": EmbeddedStorage.__module__,
        "class": EmbeddedStorage.__name__,
        "config": {"base_dir": "history"},
    }
}


@contextmanager
def instance_with(storage: dict[str, Any], root: Path) -> Iterator[dg.DagsterInstance]:
    root.mkdir(exist_ok=True)
    history = json.loads(json.dumps(storage).replace('"history"', json.dumps(str(root / "history"))))
    (root / "dagster.yaml").write_text(yaml.safe_dump({"storage": history, "telemetry": {"enabled": False}}))
    with dg.DagsterInstance.from_config(str(root)) as instance:
        yield instance


def told(instance: dg.DagsterInstance, run_id: str) -> list[tuple[str | None, str]]:
    """Return what a run's log tells that does not differ from run to run."""
    return [
        (entry.dagster_event_type.value if entry.dagster_event_type else None, entry.step_key or "")
        for entry in instance.all_logs(run_id)
    ]


def known(instance: dg.DagsterInstance) -> dict[str, Any]:
    """Return what is known across runs."""
    key = dg.AssetKey("counted")
    check = dg.AssetCheckKey(key, "is_counted")
    summary = instance.event_log_storage.get_asset_check_summary_records([check])[check]
    last = summary.last_completed_check_execution_record
    assert last is not None
    assert last.evaluation is not None
    records = instance.fetch_materializations(key, limit=9).records
    return {
        "runs": [(run.job_name, run.status, run.tags) for run in instance.get_runs()],
        "materialized": [
            made.metadata["rows"].value
            for record in records
            if (made := record.asset_materialization) is not None
        ],
        "verdict": (last.evaluation.passed, last.evaluation.metadata["wrong"].value),
        "assets": [record.asset_entry.asset_key for record in instance.get_asset_records([key])],
    }


def written(root: Path) -> dict[str, list[str]]:
    """Return every row of every file of events, without what differs from run to run."""
    found: dict[str, list[str]] = {}
    for file in sorted((root / "history" / "history" / "runs").glob("*.db")):
        engine = sa.create_engine(f"sqlite:///{file}")
        with engine.connect() as connection:
            found |= {f"{file.stem}/{table}": rows for table, rows in written_to(connection).items()}
        engine.dispose()
    return found


def entry(run_id: str, kind: DagsterEventType, said: Any) -> EventLogEntry:
    """Return an event as Dagster hands it over."""
    return EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None,
        level=10,
        user_message="",
        run_id=run_id,
        timestamp=1_770_000_000.5,
        step_key="one",
        job_name="count",
        dagster_event=DagsterEvent(kind.value, "count", step_key="one", event_specific_data=said),
    )


def planned(run_id: str, *checks: str) -> list[EventLogEntry]:
    """Return that a run will make the asset and judge it."""
    key = dg.AssetKey("counted")
    made = AssetMaterializationPlannedData(key, partition=None, partitions_subset=None)
    return [
        entry(run_id, DagsterEventType.ASSET_MATERIALIZATION_PLANNED, made),
        *(
            entry(
                run_id,
                DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
                AssetCheckEvaluationPlanned(asset_key=key, check_name=check),
            )
            for check in checks
        ),
    ]


@pytest.fixture
def run_of_each(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    """A run of the same job on either storage."""
    found = {}
    for name, storage in (("stock", STOCK), ("embedded", EMBEDDED)):
        with instance_with(storage, tmp_path / name) as instance:
            found[name] = (tmp_path / name, JOB.execute_in_process(instance=instance).run_id)
    return found


def test_the_same_run_leaves_the_same_events_records_and_schema_as_on_dagsters_own_storage(
    run_of_each: dict[str, tuple[Path, str]],
) -> None:
    logs, records, schemas, files = [], [], [], []
    for name, storage in (("stock", STOCK), ("embedded", EMBEDDED)):
        root, run_id = run_of_each[name]
        with instance_with(storage, root) as instance:
            assert (type(instance.event_log_storage) is SqliteEventLogStorage) is (name == "stock")
            logs.append(told(instance, run_id))
            records.append(known(instance))
        history = root / "history"
        files.append(
            sorted(str(p.relative_to(history)).replace(run_id, "RUN") for p in history.rglob("*.db"))
        )
        engine = sa.create_engine(f"sqlite:///{history / 'history' / 'runs' / f'{run_id}.db'}")
        with engine.connect() as connection:
            schemas.append(
                (
                    connection.exec_driver_sql(
                        "SELECT name, sql FROM sqlite_master WHERE name <> 'alembic_version' ORDER BY name"
                    ).all(),
                    connection.exec_driver_sql("SELECT version_num FROM alembic_version").all(),
                    connection.exec_driver_sql("PRAGMA journal_mode").scalar_one(),
                )
            )
        engine.dispose()

    assert logs[0] == logs[1]
    assert len(logs[0]) > 10
    assert records[0] == records[1]
    assert records[0]["materialized"] == [3]
    assert records[0]["verdict"] == (False, 1)
    assert schemas[0] == schemas[1]
    assert files[0] == files[1]


def test_every_row_of_every_table_is_the_one_that_dagsters_own_storage_writes(tmp_path: Path) -> None:
    rows = []
    for name, storage in (("stock", STOCK), ("embedded", EMBEDDED)):
        with instance_with(storage, tmp_path / name) as instance:
            run_them(instance)
        rows.append(written(tmp_path / name))

    stock, embedded = rows
    assert stock.keys() == embedded.keys()
    for table, of_stock in stock.items():
        assert embedded[table] == of_stock, table
    # Of the asset that was wiped, what was said of it before is gone.
    assert len(stock["index/asset_check_executions"]) == 2 + 4 * 4 - 3
    assert len(stock["index/asset_event_tags"]) > 6
    assert len(stock["index/asset_keys"]) == 3
    assert {len(stock[f"{RUN}{number}/event_logs"]) > 10 for number in range(6)} == {True}


def test_what_a_run_will_make_and_judge_is_stored_all_or_none(tmp_path: Path) -> None:
    with instance_with(EMBEDDED, tmp_path / "embedded") as instance:
        instance.event_log_storage.store_event_batch(planned(f"{RUN}0", "is_counted", "is_right"))
        before = written(tmp_path / "embedded")
        index = sa.create_engine(f"sqlite:///{tmp_path}/embedded/history/history/runs/index.db")
        with index.begin() as connection:
            connection.exec_driver_sql(
                "CREATE TRIGGER refuse BEFORE INSERT ON asset_check_executions WHEN NEW.check_name = 'is_right' "
                "BEGIN SELECT RAISE(ABORT, 'refused'); END"
            )
        with pytest.raises(sa.exc.IntegrityError, match="refused"):
            instance.event_log_storage.store_event_batch(planned(f"{RUN}0", "is_counted", "is_right"))
        assert written(tmp_path / "embedded") == before
        index.dispose()
    assert len(before[f"{RUN}0/event_logs"]) == len(before["index/event_logs"]) == 3
    assert len(before["index/asset_check_executions"]) == 2


def test_what_is_said_of_an_asset_or_a_check_is_one_transaction_of_each_file(tmp_path: Path) -> None:
    ended: list[str] = []

    def note(connection: sa.Connection) -> None:
        ended.append(Path(str(connection.engine.url.database)).stem)

    with instance_with(EMBEDDED, tmp_path / "embedded") as instance:
        JOB.execute_in_process(instance=instance)
        sa.event.listen(sa.Engine, "commit", note)
        try:
            instance.event_log_storage.store_event_batch(planned(f"{RUN}0", "is_counted", "is_right"))
            assert ended.count(f"{RUN}0") == 2  # the tables of a new run, and what is stored
            ended.clear()
            for one in planned(f"{RUN}0", "is_late"):
                instance.event_log_storage.store_event(one)
        finally:
            sa.event.remove(sa.Engine, "commit", note)
    # The run's own first: what is in the index is in the run's log.
    assert ended == [f"{RUN}0", "index", f"{RUN}0", "index"]


@pytest.mark.parametrize(("wrote", "reads"), [("stock", EMBEDDED), ("embedded", STOCK)])
def test_either_storage_reads_and_goes_on_with_what_the_other_wrote(
    run_of_each: dict[str, tuple[Path, str]], wrote: str, reads: dict[str, Any]
) -> None:
    root, run_id = run_of_each[wrote]
    with instance_with(reads, root) as instance:
        before = told(instance, run_id)
        again = JOB.execute_in_process(instance=instance)
        assert told(instance, again.run_id) == before
        assert len(before) > 10
        assert known(instance)["materialized"] == [3, 3]


def test_a_run_whose_file_was_purged_is_empty_and_other_runs_are_still_read(tmp_path: Path) -> None:
    with instance_with(EMBEDDED, tmp_path / "home") as instance:
        gone, kept = (JOB.execute_in_process(instance=instance).run_id for _ in range(2))
        whole = told(instance, kept)
        for file in (tmp_path / "home" / "history" / "history" / "runs").glob(f"{gone}.db*"):
            file.unlink()

        assert told(instance, gone) == []
        assert told(instance, kept) == whole


def test_more_runs_than_are_kept_open_are_all_read(tmp_path: Path) -> None:
    with instance_with(EMBEDDED, tmp_path / "home") as instance:
        runs = [JOB.execute_in_process(instance=instance).run_id for _ in range(12)]
        logs = [told(instance, run_id) for run_id in runs]
    assert len(logs[0]) > 10
    assert all(log == logs[0] for log in logs)


def test_the_projects_own_settings_name_the_embedded_storage() -> None:
    root = Path(__file__).resolve().parents[2]
    named = yaml.safe_load((root / "dagster.yaml").read_text())["storage"]["custom"]
    assert (named["module"], named["class"]) == (EmbeddedStorage.__module__, EmbeddedStorage.__name__)
    assert issubclass(EmbeddedStorage, DagsterSqliteStorage)
