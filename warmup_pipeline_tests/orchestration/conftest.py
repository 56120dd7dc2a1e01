"""A project root of the test's own: settings, a Dagster instance, and the audited pool imported."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from warmup_pipeline.assembly import open_world
from warmup_pipeline.build import build_defs
from warmup_pipeline.orchestration import launching
from warmup_pipeline.orchestration.names import CYCLE_JOB, RESOURCE
from warmup_pipeline.orchestration.resources import ChangeWorld, WarmupAccess, warmup_resource
from warmup_pipeline.settings import Settings
from warmup_pipeline.store import migrate
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.importing import import_pool
from warmup_pipeline.warmup.world import StandardLog
from warmup_pipeline_tests.warmup.offline import AUDITED_AT

_ROOT = Path(__file__).resolve().parents[2]
_AUDIT = _ROOT / "warmup_pipeline" / "data" / "audit"


@dataclass
class Project:
    """One project root with its Dagster instance."""

    root: Path
    settings: Settings
    instance: dg.DagsterInstance

    def defs(self, change_world: ChangeWorld | None = None) -> dg.Definitions:
        """Return the project's definitions on this root."""
        make = lambda: WarmupAccess(lambda: self.settings, change_world=change_world)  # noqa: E731
        return build_defs(resource_overrides={RESOURCE: warmup_resource(make)})

    def cycle(self, change_world: ChangeWorld | None = None) -> launching.RanCycle:
        """Run one cycle."""
        job = self.defs(change_world).resolve_job_def(CYCLE_JOB)
        return launching.run_cycle(self.instance, "default", settings=self.settings, job=job)

    def store(self) -> Store:
        """Open the pool's database."""
        return Store(self.settings.database_url)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Return what a query finds."""
        import sqlalchemy as sa

        store = self.store()
        with store.read() as tx:
            found = [dict(row) for row in tx.connection.execute(sa.text(sql)).mappings()]
        store.close()
        return found

    def log(self, run_id: str) -> list[str]:
        """Return every text of a run's stored log, errors with their stacks and causes included."""
        texts = []
        for entry in self.instance.all_logs(run_id):
            texts.append(entry.user_message)
            data = entry.dagster_event.event_specific_data if entry.dagster_event else None
            error = getattr(data, "error", None)
            if error is not None:
                texts.append(error.to_string())
        return texts


@pytest.fixture(scope="session")
def blank_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose databases, Dagster's and the pool's, are made and empty: to be copied."""
    root = tmp_path_factory.mktemp("blank")
    shutil.copy(_ROOT / "dagster.yaml", root / "dagster.yaml")
    settings = Settings.from_environment(root, environ={"DAGSTER_HOME": str(root)})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("DAGSTER_HOME", str(root))
        with dg.DagsterInstance.get():
            store = Store(settings.database_url)
            migrate.upgrade(store)
            store.close()
    return root


@pytest.fixture
def empty_project(blank_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project without a pool."""
    shutil.copytree(blank_home, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    settings = Settings.from_environment(tmp_path, environ={"DAGSTER_HOME": str(tmp_path)})
    with dg.DagsterInstance.get() as instance:
        yield Project(tmp_path, settings, instance)


@pytest.fixture
def project(empty_project: Project) -> Project:
    """A project with the audited pool, on a stepped clock at 2026-02-20 08:00 local."""
    with open_world(empty_project.settings, log=StandardLog()) as world:
        import_pool(
            world,
            _AUDIT / "chips.csv",
            _AUDIT / "warmup_schedule.csv",
            _AUDIT / "chip_interactions.csv",
            stepped_from=AUDITED_AT,
        )
    return empty_project
