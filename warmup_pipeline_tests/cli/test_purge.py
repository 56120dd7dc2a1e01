"""The trap: a purge from a terminal that does something else than the nightly one, or cannot be seen afterwards."""

from __future__ import annotations

import os
import shutil
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickData, TickStatus

from warmup_pipeline.store.engine import Store
from warmup_pipeline_tests.cli.conftest import Project
from warmup_pipeline_tests.support import rows_of


def test_purge_removes_what_is_old_says_so_and_is_kept_as_an_operators_action(project: Project) -> None:
    with dg.DagsterInstance.get() as instance:
        for days in (1, 9):
            instance.create_tick(
                TickData(
                    instigator_origin_id="origin",
                    instigator_name="sensor",
                    instigator_type=InstigatorType.SENSOR,
                    status=TickStatus.SKIPPED,
                    timestamp=(datetime.now(UTC) - timedelta(days=days)).timestamp(),
                    selector_id="selector",
                )
            )
    said = project.json("purge", "--keep-days", "7")
    assert said == {"keep_days": 7, "runs": 0, "ticks": 1, "left_behind": 0, "freed": 0}
    (file,) = project.root.rglob("warmup.db")
    (action,) = rows_of(Store(f"sqlite:///{file}"), "SELECT action, details FROM operator_actions")
    assert action["action"] == "purge_old_runs"
    assert '"keep_days": 7' in action["details"]


def test_purge_refuses_to_keep_nothing(project: Project) -> None:
    assert "--keep-days" in project.refused("purge", "--keep-days", "0")


def test_purge_makes_room_where_the_disk_is_so_full_that_dagsters_history_cannot_even_be_opened(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with dg.DagsterInstance.get():
        pass
    folder = project.root / ".dagster" / "history" / "runs"
    old = folder / f"{uuid.uuid4()}.db"
    old.write_bytes(b"x" * 1000)
    long_ago = (datetime.now(UTC) - timedelta(days=60)).timestamp()
    os.utime(old, (long_ago, long_ago))
    real = dg.DagsterInstance.get

    def get() -> dg.DagsterInstance:
        if old.exists():
            # As where no page more can be written, not even to read a log.
            engine = sa.create_engine(f"sqlite:///{tmp_path / 'full.db'}")
            with engine.begin() as connection:
                connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS t (words TEXT)")
                connection.exec_driver_sql("PRAGMA max_page_count = 2")
                connection.exec_driver_sql("INSERT INTO t VALUES (hex(zeroblob(100000)))")
        return real()

    monkeypatch.setattr(dg.DagsterInstance, "get", staticmethod(get))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert "disk is full: free some space" in project.refused("purge", "--keep-days", "90")
    assert project.json("purge", "--keep-days", "14")["freed"] >= 1000
    assert not old.exists()
