"""The trap: a purge from a terminal that does something else than the nightly one, or cannot be seen afterwards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
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
