"""What commands ask of Dagster: run a cycle, read the latest check results, forget and purge runs.

Holds: these calls, so that one module of the command line knows ``orchestration.launching`` and
no command imports Dagster before it must. Do not add: anything that Dagster's own calls do (that is
``orchestration``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warmup_pipeline.domain.vitals import SchedulerState
    from warmup_pipeline.store.cycles import Cycle
    from warmup_pipeline.warmup.health_report import CheckResult
    from warmup_pipeline.warmup.world import World


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs cycles through Dagster, on the instance of the project's root."""

    instance: Any

    def run_cycle(self, pool: str, *, at: datetime | None = None) -> tuple[str, bool]:
        """Run one cycle of a pool; returns the run's id and whether it succeeded."""
        from warmup_pipeline.orchestration import launching

        run = launching.run_cycle(self.instance, pool, at=at)
        return run.run_id, run.succeeded

    def why_failed(self, run_id: str) -> str:
        """Return, in one line, why a run failed; its whole log is in the UI."""
        from warmup_pipeline.orchestration import history

        return history.why_failed(self.instance, run_id)

    def scheduler_state(self) -> SchedulerState:
        """Return what Dagster says of its sensor, its daemon and its run queue."""
        from warmup_pipeline.orchestration import history

        return history.scheduler_state(self.instance)

    def latest_results(self) -> list[CheckResult]:
        """Return the last completed result of each asset check."""
        from warmup_pipeline.orchestration import launching

        return list(launching.latest_results(self.instance))

    def purge(self, keep_days: int) -> dict[str, int]:
        """Remove what is older than so many days; returns what was removed, by name."""
        from warmup_pipeline.orchestration.retention import purge_old_runs

        return purge_old_runs(self.instance, keep_days=keep_days).numbers()

    def forget_runs(self, pool: str) -> int:
        """Delete the runs of a pool's cycles; returns how many."""
        from warmup_pipeline.orchestration import launching

        return int(launching.forget_runs(self.instance, pool))


@contextmanager
def open_runner() -> Iterator[Runner]:
    """Open the Dagster instance that DAGSTER_HOME names.

    Raises:
        warmup_pipeline.orchestration.opening.HistoryError: it cannot be opened.
    """
    from warmup_pipeline.orchestration.opening import open_instance

    with open_instance() as instance:
        yield Runner(instance)


def make_room(keep_days: int) -> int:
    """Remove event files of runs older than so many days without opening a database; returns the bytes."""
    from warmup_pipeline.orchestration.room import make_room as make

    return make(Path(os.environ["DAGSTER_HOME"]).expanduser(), keep_days=keep_days)


def cycle_of(world: World, run_id: str) -> Cycle | None:
    """Return the cycle that a run began, ``None`` if it began none."""
    from warmup_pipeline.store import cycles

    with world.store.read() as tx:
        return cycles.of_run(tx, run_id)
