"""``warmup import``: the old system's tables, all or nothing.

Holds: the command and how its report reads. Do not add: what is taken over (``warmup.importing``).
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from warmup_pipeline.cli import output
from warmup_pipeline.cli.session import InputFile, Session, Timestamp, user
from warmup_pipeline.domain.values import DEFAULT_POOL


@click.command("import")
@click.option("--chips", "chips_file", type=InputFile(), required=True, help="chips.csv of the old system.")
@click.option("--schedule", type=InputFile(), help="warmup_schedule.csv: what was and is planned.")
@click.option("--interactions", type=InputFile(), help="chip_interactions.csv: what happened.")
@click.option("--pool", default=DEFAULT_POOL, show_default=True, help="Pool to import into; made if need be.")
@click.option(
    "--rebase-to",
    type=Timestamp(),
    help="Shift all times so that the moment of the export becomes this one. That moment is the newest "
    "thing the files say was done or noted, rounded up to five minutes.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and say what would happen; keep nothing.")
@click.option("--author", default=user, show_default="you", help="Who imports, for operator_actions.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
@click.pass_obj
def import_command(
    session: Session,
    chips_file: Path,
    schedule: Path | None,
    interactions: Path | None,
    pool: str,
    rebase_to: datetime | None,
    dry_run: bool,
    author: str,
    as_json: bool,
) -> None:
    """Import the old system's tables from CSV files: everything, or nothing at all.

    Files are UTF-8, separated by commas, with their columns named in the first line; missing optional
    columns and empty cells are normal. Every bad cell is named with its file, line, column and reason.
    Importing the same files twice changes nothing.
    """
    from warmup_pipeline.warmup.importing import import_pool

    with session.world(gateways=False) as world:
        report = import_pool(
            world,
            chips_file,
            schedule,
            interactions,
            pool=pool,
            rebase_to=rebase_to,
            dry_run=dry_run,
            author=author,
        )
        zone = world.policy.zone
    if as_json:
        output.emit_json(report.document())
        return
    done = "Would import" if dry_run else "Imported"
    if not report.changes_anything:
        done = "Nothing new: everything is there already in"
    click.secho(
        f"{done} into pool {pool!r}" if report.changes_anything else f"{done} pool {pool!r}", bold=True
    )
    output.table(
        ("what", "new", "there already"),
        [
            ("chips", report.chips_new, report.chips_unchanged),
            ("activities", report.activities_new, report.activities_unchanged),
            ("interactions", report.interactions_new, report.interactions_unchanged),
        ],
    )
    if report.chips_by_status:
        output.heading("New chips")
        output.table(("status", "chips"), report.chips_by_status.items())
    if report.activities_by_outcome:
        output.heading("New activities")
        output.table(("became", "activities"), report.activities_by_outcome.items())
    click.echo()
    click.echo(
        f"The files were exported at {output.shown_time(report.export_moment, zone) or 'an unknown time'}."
    )
    if report.shifted_s:
        click.echo(f"All times were shifted by {report.shifted_s / 3600:g} hours.")
    click.echo(
        f"It is {output.shown_time(report.at, zone)} in the pool; {report.day} is the day of the import."
    )
    for warning in report.warnings:
        click.secho(f"Note: {world.redactor.text(warning)}", fg="yellow", err=True)
