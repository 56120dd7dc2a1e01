"""What either storage of events says, having asked less, is what Dagster's own says of the same database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest
import sqlalchemy as sa
import yaml
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

from warmup_pipeline.orchestration.embedded_storage import EmbeddedStorage
from warmup_pipeline.orchestration.kept_postgres import KeptPostgresStorage
from warmup_pipeline_tests.conftest import new_postgres_database

DAYS = dg.StaticPartitionsDefinition(["mon", "tue"])
KEYS = [dg.AssetKey(name) for name in ("stated", "summed", "wiped", "never_made")]


@dg.asset
def stated() -> dg.MaterializeResult[Any]:
    """State."""
    return dg.MaterializeResult(metadata={"rows": 1})


@dg.asset(deps=[stated])
def wiped() -> dg.MaterializeResult[Any]:
    """State what is wiped later."""
    return dg.MaterializeResult(metadata={"rows": 2})


@dg.asset(partitions_def=DAYS, deps=[stated])
def summed() -> dg.MaterializeResult[Any]:
    """Sum a day up."""
    return dg.MaterializeResult(metadata={"rows": 3})


@dg.multi_asset_check(
    specs=[dg.AssetCheckSpec("is_sound", asset="stated"), dg.AssetCheckSpec("is_summed", asset="summed")]
)
def checks() -> Iterator[dg.AssetCheckResult]:
    """Say that both are well."""
    yield dg.AssetCheckResult(asset_key="stated", check_name="is_sound", passed=True)
    yield dg.AssetCheckResult(asset_key="summed", check_name="is_summed", passed=True)


JOB = dg.Definitions(
    assets=[stated, wiped, summed], asset_checks=[checks], jobs=[dg.define_asset_job("by_day")]
).resolve_job_def("by_day")


@pytest.fixture(params=["sqlite", "postgresql"])
def storages(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_server: str
) -> Iterator[dict[str, dict[str, Any]]]:
    """Dagster's own settings of a storage and the project's, of the same database."""
    if request.param == "sqlite":
        config = {"base_dir": str(tmp_path / "history")}
        yield {
            "stock": {"sqlite": config},
            "ours": {"custom": {**_named(EmbeddedStorage), "config": config}},
        }
        return
    with new_postgres_database(postgres_server) as database_url:
        url = database_url.replace("postgresql://", "postgresql+psycopg2://", 1)
        yield {
            "stock": {"postgres": {"postgres_url": url}},
            "ours": {"custom": {**_named(KeptPostgresStorage), "config": {"postgres_url": url}}},
        }


def _named(storage: type) -> dict[str, str]:
    return {"module": storage.__module__, "class": storage.__name__}


@contextmanager
def instance_with(storage: dict[str, Any], root: Path) -> Iterator[dg.DagsterInstance]:
    root.mkdir(exist_ok=True)
    (root / "dagster.yaml").write_text(yaml.safe_dump({"storage": storage, "telemetry": {"enabled": False}}))
    with dg.DagsterInstance.from_config(str(root)) as instance:
        yield instance


def run(instance: dg.DagsterInstance, day: str) -> str:
    return JOB.execute_in_process(instance=instance, partition_key=day).run_id


def said(instance: dg.DagsterInstance) -> list[Any]:
    """Return what the storage says of every asset: its record, and its newest materialization of each day."""
    events = cast("SqlEventLogStorage", instance.event_log_storage)
    return [
        *(events.get_asset_records(KEYS[: n + 1]) for n in range(len(KEYS))),
        events.get_latest_materialization_events(KEYS),
        *(
            events.fetch_materializations(
                dg.AssetRecordsFilter(key, asset_partitions=[day]), limit=limit, ascending=ascending
            )
            for key in KEYS
            for day in ("mon", "tue", "wed")
            for limit in (1, 2)
            for ascending in (False, True)
        ),
        *(events.fetch_materializations(key, limit=1) for key in KEYS),
        events.has_asset_key_col("cached_status_data"),
        events.has_asset_key_col("no_such_column"),
        events.has_secondary_index("asset_key_index_columns"),
        events.has_secondary_index("no_such_migration"),
        events.has_table("asset_event_tags"),
        events.has_table("no_such_table"),
    ]


def test_what_is_said_of_every_asset_is_what_dagsters_own_storage_says(
    storages: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    with (
        instance_with(storages["ours"], tmp_path / "ours") as ours,
        instance_with(storages["stock"], tmp_path / "stock") as stock,
    ):
        assert type(ours.event_log_storage) is not type(stock.event_log_storage)
        assert said(ours) == said(stock)
        run(ours, "mon")
        run(ours, "tue")
        run(stock, "tue")
        assert said(ours) == said(stock)
        ours.wipe_assets([dg.AssetKey("wiped")])
        assert said(ours) == said(stock)
        run(ours, "mon")
        of_all = said(stock)
        assert said(ours) == of_all
    assert len(of_all[3]) == 3
    assert sum(isinstance(one, dg.EventRecordsResult) and bool(one.records) for one in of_all) == 8 + 3


def test_a_check_of_a_partition_names_the_materialization_that_dagsters_own_storage_would(
    storages: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    named = []
    for name, storage in storages.items():
        with instance_with(storage, tmp_path / name) as instance:
            run_id = run(instance, "mon")
            named.append(
                [
                    (data.asset_check_key, data.target_materialization_data is not None)
                    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
                    if entry.dagster_event is not None
                    for data in [entry.dagster_event.asset_check_evaluation_data]
                ]
            )
    assert named[0] == named[1]
    assert [has for _, has in named[0]] == [False, True]


def test_a_run_does_not_ask_again_what_columns_there_are(
    storages: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    asked: list[str] = []

    def note(connection: object, cursor: object, statement: str, *more: object) -> None:
        asked.append(statement)

    with instance_with(storages["ours"], tmp_path / "ours") as instance:
        run(instance, "mon")
        sa.event.listen(sa.Engine, "before_cursor_execute", note)
        try:
            run(instance, "tue")
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", note)
    of_events = [one for one in asked if "asset" in one and ("table_xinfo" in one or "pg_catalog" in one)]
    assert of_events == []
    assert len(asked) > 50
