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
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage

from warmup_pipeline.orchestration.embedded_storage import EmbeddedStorage

STOCK = {"sqlite": {"base_dir": "history"}}
EMBEDDED = {
    "custom": {
        "module": EmbeddedStorage.__module__,
        "class": EmbeddedStorage.__name__,
        "config": {"base_dir": "history"},
    }
}


@dg.asset
def counted(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
    """Count to three."""
    context.log.info("counting")
    return dg.MaterializeResult(metadata={"rows": 3})


@dg.asset_check(asset=counted)
def is_counted() -> dg.AssetCheckResult:
    """Whether it was counted."""
    return dg.AssetCheckResult(passed=False, metadata={"wrong": 1})


JOB = dg.Definitions(
    assets=[counted], asset_checks=[is_counted], jobs=[dg.define_asset_job("count")]
).resolve_job_def("count")


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
