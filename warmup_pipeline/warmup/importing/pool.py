"""Importing into a pool: read, judge, write, all or nothing.

Holds: :func:`import_pool`. Do not add: what a file may say (``reading``), what becomes of it
(``writing``).
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

from warmup_pipeline.domain.values import DEFAULT_POOL, ClockKind
from warmup_pipeline.store import pools
from warmup_pipeline.warmup.csvfiles import Problems
from warmup_pipeline.warmup.importing.reading import Reader
from warmup_pipeline.warmup.importing.report import ImportRefused, ImportReport
from warmup_pipeline.warmup.importing.writing import Writer
from warmup_pipeline.warmup.lifecycle import STEPPED_NEVER_LIVE
from warmup_pipeline.warmup.world import World


class _DryRun(Exception):
    """Everything was done; nothing is to be kept."""


def _keep_unless(report: ImportReport) -> None:
    """Roll the transaction back that this is called in, if the import is a dry run."""
    if report.dry_run:
        raise _DryRun


_LONGEST_NAME: Final = 64


def _refuse_demo_live(world: World, pool: str) -> None:
    if world.is_simulated:
        return
    with world.store.read() as tx:
        stepped = any(one.name == pool and one.clock is ClockKind.STEPPED for one in pools.every(tx))
    if stepped:
        raise ImportRefused([f"pool {pool!r} {STEPPED_NEVER_LIVE}"])


def import_pool(
    world: World,
    chips: Path,
    schedule: Path | None = None,
    interactions: Path | None = None,
    *,
    pool: str = DEFAULT_POOL,
    rebase_to: datetime | None = None,
    dry_run: bool = False,
    stepped_from: datetime | None = None,
    author: str = "operator",
) -> ImportReport:
    """Import the old system's tables into a pool; everything or nothing. Twice is the same as once.

    The import's moment is the pool's clock. What is still planned for its local day is kept and is
    that chip's plan for the day; a participating chip with nothing kept is planned by the next cycle.

    Args:
        world: what to work with.
        chips: ``chips.csv``.
        schedule: ``warmup_schedule.csv``, where there is one.
        interactions: ``chip_interactions.csv``, where there is one.
        pool: the pool to import into; made if it is not there.
        rebase_to: shift all times of the files by the same length, such that the moment of the
            export (the newest thing the old system noted, rounded up to five minutes) becomes this.
        dry_run: check and do everything, and keep nothing.
        stepped_from: make the pool's clock a stepped one that stands here (a demo); else the pool's
            clock is left as it is.
        author: who imports, for ``operator_actions``.

    Raises:
        ImportRefused: something is wrong with the files, or does not fit what is there.
    """
    problems = Problems(world.redactor)
    pool, author = pool.strip(), world.redactor.text(author.strip())
    for name, value in (("pool", pool), ("author", author)):
        if not 1 <= len(value) <= _LONGEST_NAME:
            raise ImportRefused([f"{name} must be 1 to {_LONGEST_NAME} characters"])
    _refuse_demo_live(world, pool)
    reader = Reader(problems, world.activities.types())
    reader.read(chips, schedule, interactions)
    if problems:
        raise ImportRefused(problems.lines)
    try:
        with world.store.write() as tx:
            writer = Writer(tx, world, reader.files, problems, pool=pool, rebase_to=rebase_to)
            report = writer.write(stepped_from=stepped_from, author=author, dry_run=dry_run)
            _keep_unless(report)
    except _DryRun:
        return report
    return report
