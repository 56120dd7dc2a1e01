"""How large the Dagster home gets: cycles through Dagster over many days, old runs purged each night.

``python -m warmup_pipeline_tests.soak growth [--cycles N] [--keep-days N] [--cycles-a-day N]``

Every cycle is a real run of the job, on an instance in a folder of its own, with the audited pool and
the simulator, on the pool's stepped clock. A day is logical: after its cycles its runs are given its
date, its sensor ticks (2,880 in 24 hours) are written with it, and old runs are purged as of its
evening. A month as it would be: ``--cycles 8640 --cycles-a-day 288 --keep-days 14``; with fewer cycles
a day the same days come sooner.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click
import dagster as dg
import sqlalchemy as sa
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickData, TickStatus
from dagster._core.storage.runs.schema import RunsTable
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage

from warmup_pipeline.assembly import open_world
from warmup_pipeline.build import build_defs
from warmup_pipeline.orchestration import launching
from warmup_pipeline.orchestration.names import CYCLE_JOB, CYCLE_SENSOR, RESOURCE
from warmup_pipeline.orchestration.resources import WarmupAccess, warmup_resource
from warmup_pipeline.orchestration.retention import Purged, purge_old_runs
from warmup_pipeline.settings import Settings
from warmup_pipeline.warmup.checks import CHECKS
from warmup_pipeline.warmup.importing import import_pool
from warmup_pipeline.warmup.world import StandardLog

_ROOT: Final = Path(__file__).resolve().parents[2]
_AUDIT: Final = _ROOT / "warmup_pipeline" / "data" / "audit"
_AUDITED_AT: Final = datetime(2026, 2, 20, 11, 0, tzinfo=UTC)
_TICKS_PER_CYCLE: Final = 10
"""The sensor ticks every 30 s."""

BYTES_PER_CYCLE: Final = 900_000
"""The bound that docs/retention.md states: what a cycle's run takes on SQLite, with its ticks."""
BYTES_BESIDE: Final = 60_000_000
"""And what is there beside: empty tables, indexes, the newest run of every past day."""


@dataclass(frozen=True)
class Evening:
    """One logical day's end.

    Attributes:
        before: bytes of Dagster's history before the purge.
        after: the same after it.
        pool: bytes of the pool's own database and the simulator's, which are not purged.
        runs: runs still listed.
    """

    day: int
    before: int
    after: int
    pool: int
    runs: int
    purged: Purged


def bound(keep_days: int, cycles_a_day: int) -> int:
    """Return the bytes that Dagster's history stays under: the days kept, and the one under way."""
    return (keep_days + 1) * cycles_a_day * BYTES_PER_CYCLE + BYTES_BESIDE


def _sizes(home: Path) -> tuple[int, int]:
    history = pool = 0
    for folder, _, names in os.walk(home):
        for name in names:
            path = Path(folder) / name
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                continue
            if path.name.startswith(("warmup", "simulator")) or "simulator" in path.parts:
                pool += size
            else:
                history += size
    return history, pool


@contextmanager
def _project(root: Path) -> Iterator[tuple[Settings, dg.DagsterInstance]]:
    shutil.copy(_ROOT / "dagster.yaml", root / "dagster.yaml")
    before = Path.cwd()
    os.chdir(root)
    os.environ["DAGSTER_HOME"] = str(root)
    try:
        settings = Settings.from_environment(root, environ={"DAGSTER_HOME": str(root)})
        with open_world(settings, log=StandardLog()) as world:
            files = ("chips.csv", "warmup_schedule.csv", "chip_interactions.csv")
            import_pool(world, *(_AUDIT / name for name in files), stepped_from=_AUDITED_AT)
            with dg.DagsterInstance.get() as instance:
                # The world stays open: its simulator is the one that every run finds.
                yield settings, instance
    finally:
        os.chdir(before)


def _date_runs(instance: dg.DagsterInstance, run_ids: list[str], evening: datetime, a_day: int) -> None:
    """Give runs the times of the day that ends that evening, one after another."""
    storage = instance.run_storage
    if not isinstance(storage, SqlRunStorage):
        raise click.ClickException("the instance keeps its runs elsewhere")
    slot = timedelta(days=1) / a_day
    with storage.connect() as connection:
        for index, run_id in enumerate(run_ids):
            at = evening - slot * (len(run_ids) - index - 0.5)
            connection.execute(
                sa.update(RunsTable)
                .where(RunsTable.c.run_id == run_id)
                .values(update_timestamp=at.replace(tzinfo=None))
            )


def _tick(instance: dg.DagsterInstance, at: datetime, count: int) -> None:
    for number in range(count):
        instance.create_tick(
            TickData(
                instigator_origin_id="growth",
                instigator_name=CYCLE_SENSOR,
                instigator_type=InstigatorType.SENSOR,
                status=TickStatus.SKIPPED,
                timestamp=(at - timedelta(seconds=30 * number)).timestamp(),
                selector_id="growth",
                skip_reason="default: the slot 08:05 has its cycle",
            )
        )


def _still_shows(instance: dg.DagsterInstance) -> list[str]:
    """Return what an operator would miss after a purge: an asset or check that shows nothing."""
    missing = [
        asset
        for asset in sorted({spec.asset for spec in CHECKS})
        if instance.get_latest_materialization_event(dg.AssetKey(asset)) is None
    ]
    shown = {(result.asset, result.check) for result in launching.latest_results(instance)}
    return missing + [f"{spec.asset}: {spec.name}" for spec in CHECKS if (spec.asset, spec.name) not in shown]


def grow(*, cycles: int, keep_days: int, cycles_a_day: int) -> tuple[list[Evening], list[str]]:
    """Run the cycles; returns every evening, and what shows nothing in the end."""
    evenings: list[Evening] = []
    with TemporaryDirectory(prefix="warmup-growth-") as folder:
        root = Path(folder)
        with _project(root) as (settings, instance):
            make = lambda: WarmupAccess(lambda: settings)  # noqa: E731
            job = build_defs(resource_overrides={RESOURCE: warmup_resource(make)}).resolve_job_def(CYCLE_JOB)
            began = datetime.now(UTC)
            for day in range(1, -(-cycles // cycles_a_day) + 1):
                evening = began + timedelta(days=day)
                todays = min(cycles_a_day, cycles - (day - 1) * cycles_a_day)
                ran = [
                    launching.run_cycle(instance, "default", settings=settings, job=job)
                    for _ in range(todays)
                ]
                if not all(run.succeeded for run in ran):
                    raise click.ClickException(f"a cycle of day {day} failed")
                ids = [run.run_id for run in ran]
                _date_runs(instance, ids, evening, cycles_a_day)
                _tick(instance, evening, _TICKS_PER_CYCLE * todays)
                before, _ = _sizes(root)
                purged = purge_old_runs(instance, keep_days=keep_days, now=evening)
                after, pool = _sizes(root)
                evenings.append(Evening(day, before, after, pool, instance.get_runs_count(), purged))
                click.echo(shown(evenings[-1]))
            return evenings, _still_shows(instance)


def shown(evening: Evening) -> str:
    """Return an evening as a line."""
    return (
        f"day {evening.day:3}: history {evening.before / 1e6:7.1f} MB before, {evening.after / 1e6:7.1f} MB after; "
        f"removed {evening.purged.runs} runs and {evening.purged.ticks} ticks, {evening.runs} runs kept; "
        f"the pool's own data {evening.pool / 1e6:.1f} MB"
    )


def has_settled(evenings: list[Evening], keep_days: int) -> bool:
    """Whether the history's size, once the first runs were purged, has not grown by more than a tenth."""
    settled = [evening.before for evening in evenings[keep_days + 1 :]]
    return len(settled) >= 2 and max(settled) <= 1.1 * settled[0]


@click.command()
@click.option("--cycles", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--keep-days", type=click.IntRange(1), default=3, show_default=True)
@click.option("--cycles-a-day", type=click.IntRange(1, 288), default=100, show_default=True)
def growth(cycles: int, keep_days: int, cycles_a_day: int) -> None:
    """Run cycles through Dagster for many days, purging every night, and see the home stop growing."""
    evenings, missing = grow(cycles=cycles, keep_days=keep_days, cycles_a_day=cycles_a_day)
    limit = bound(keep_days, cycles_a_day)
    most = max(evening.before for evening in evenings)
    click.echo(f"most: {most / 1e6:.1f} MB, bound {limit / 1e6:.1f} MB")
    if missing:
        raise click.ClickException(f"shows nothing any more: {', '.join(missing)}")
    if most > limit:
        raise click.ClickException("the history is larger than the bound")
    if not has_settled(evenings, keep_days):
        raise click.ClickException("the history has not stopped growing (are there days enough?)")
