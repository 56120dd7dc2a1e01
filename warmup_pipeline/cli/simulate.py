"""``warmup simulate``: a month of warm-up in seconds.

Holds: the command, its progress bar, and how its figures read. Do not add: how cycles run or what is
measured (``warmup.timelapse``), how a report looks (``warmup.timelapse.report``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from warmup_pipeline.cli import output
from warmup_pipeline.cli.session import InputError, InputFile, Session, Timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from warmup_pipeline.domain.policy import Policy
    from warmup_pipeline.warmup.timelapse import SimulationResult, SimulationSettings
    from warmup_pipeline.warmup.timelapse.report.data import ReportData

RULE_BROKEN: Final = 2
"""Exit code where a rule that must never break was measured to be broken."""

_MOST_DAYS: Final = 366
_MOST_CHIPS: Final = 1000


@click.command("simulate")
@click.option(
    "--days", type=click.IntRange(1, _MOST_DAYS), required=True, help="How many days of 24 hours to simulate."
)
@click.option("--chips", type=click.IntRange(1, _MOST_CHIPS), help="A fresh pool of so many chips.")
@click.option(
    "--pool",
    "folder",
    type=InputFile(),
    metavar="DIR",
    help="A pool imported from the old system's tables in DIR: chips.csv and, where there are, "
    "warmup_schedule.csv and chip_interactions.csv.",
)
@click.option(
    "--from",
    "begins_at",
    type=Timestamp(),
    help="The first moment, with its offset; by default that of the audit, or of DIR's export.",
)
@click.option("--policy", "policy", metavar="F", help="Policy file or preset; else the one in force.")
@click.option(
    "--compare", "compared", metavar="F", help="Another policy, simulated on the same pool and seed."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same result.")
@click.option(
    "--faults",
    "profile",
    default="none",
    show_default=True,
    metavar="PROFILE",
    help="What goes wrong: none, flaky, outage, restriction, zombie, churn, or a YAML file.",
)
@click.option("--report", "report", type=InputFile(), metavar="F.html", help="Write the report as one page.")
@click.option("--export", "export", type=InputFile(), metavar="DIR", help="Write the report's data as CSV.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
@click.pass_context
def simulate(
    context: click.Context,
    days: int,
    chips: int | None,
    folder: Path | None,
    begins_at: datetime | None,
    policy: str | None,
    compared: str | None,
    seed: int,
    profile: str,
    report: Path | None,
    export: Path | None,
    as_json: bool,
) -> None:
    """Rehearse days of warm-up in virtual time, against the simulated gateways.

    The production rules, store, gateway clients and cycle run; only the clock and the sockets differ.
    Nothing is sent, and the pool of WARMUP_DATABASE_URL is not touched. The same arguments give the
    same result, to the message.

    Exits with 2 if a limit, the window, a due time or a turn was measured not to be kept.
    """
    session = context.find_object(Session)
    if session is None:
        raise InputError("no session was begun")
    if (chips is None) == (folder is None):
        raise InputError(
            "say which pool: either --chips N for a fresh one, or --pool DIR for an imported one"
        )
    settings = _settings(
        session,
        days=days,
        chips=chips,
        folder=folder,
        begins_at=begins_at,
        policy=policy,
        seed=seed,
        profile=profile,
    )
    other = None if compared is None else replace(settings, policy=_policy(session, compared))
    _check_outputs(report, export)
    wants_data = bool(report or export or other)
    result, data = _run(settings, "Simulated days", wants_data=wants_data)
    document = result.document()
    broken = result.figures.broken_rules
    if data is not None:
        against = None
        if other is not None:
            other_result, other_data = _run(other, "With the other policy", wants_data=True)
            broken += other_result.figures.broken_rules
            against = (other_data, other.policy)
        document |= _write(data, settings.policy, against, report, export)
    if as_json:
        output.emit_json(document)
    else:
        _print(result, document, report, export)
    context.exit(RULE_BROKEN if broken else 0)


def _policy(session: Session, source: str | None) -> Policy:
    from warmup_pipeline.warmup.policies import PRESETS, load_policy

    if source is None:
        return load_policy(session.settings().policy)
    return load_policy(source if source in PRESETS else str(session.cwd / source))


def _settings(
    session: Session,
    *,
    days: int,
    chips: int | None,
    folder: Path | None,
    begins_at: datetime | None,
    policy: str | None,
    seed: int,
    profile: str,
) -> SimulationSettings:
    from warmup_pipeline.warmup.timelapse import (
        ProfileError,
        SimulationSettings,
        load_profile,
        shipped_profiles,
    )

    try:
        faults = load_profile(profile if profile in shipped_profiles() else str(session.cwd / profile))
    except ProfileError as error:
        raise InputError(str(error)) from None
    return SimulationSettings(
        policy=_policy(session, policy),
        days=days,
        faults=faults,
        chips=chips,
        pool_dir=folder,
        begins_at=begins_at,
        seed=seed,
    )


def _check_outputs(report: Path | None, export: Path | None) -> None:
    """Refuse what cannot be written before there is anything to write."""
    from warmup_pipeline.warmup.timelapse.report.files import OutputError, check_file

    try:
        if report is not None:
            check_file(report)
        if export is not None:
            from warmup_pipeline.warmup.timelapse.export import check_export

            check_export(export)
    except OutputError as error:
        raise InputError(str(error)) from None


@contextmanager
def _progress(label: str, days: int) -> Iterator[Any]:
    """Show how far virtual time has come, on a terminal only."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=days * 24, label=label, file=sys.stderr) as bar:
        begins_at: datetime | None = None
        shown = 0

        def tell(now: datetime) -> None:
            nonlocal begins_at, shown
            begins_at = begins_at or now
            hours = min(days * 24, (now - begins_at) // timedelta(hours=1))
            bar.update(hours - shown)
            shown = hours

        yield tell


def _run(
    settings: SimulationSettings, label: str, *, wants_data: bool
) -> tuple[SimulationResult, ReportData | None]:
    from warmup_pipeline.warmup.timelapse import simulate as run

    with (
        _progress(label, settings.days) as progress,
        run(settings, progress=progress) as (store, result),
    ):
        if not wants_data:
            return result, None
        from warmup_pipeline.warmup.timelapse.report.data import collect

        facts = {
            "faults": settings.faults.name,
            "seed": str(settings.seed),
            "days simulated": str(settings.days),
            "took": f"{result.wall_s:.1f} s",
        }
        return result, collect(store, settings.policy, facts=facts)


def _write(
    data: ReportData,
    policy: Policy,
    against: tuple[ReportData | None, Policy] | None,
    report: Path | None,
    export: Path | None,
) -> dict[str, Any]:
    """Write what was asked for; returns what the comparison adds to the document."""
    from warmup_pipeline.warmup.timelapse.compare import compare
    from warmup_pipeline.warmup.timelapse.report.files import OutputError

    other_data, other_policy = against if against is not None else (None, None)
    comparison = None if other_data is None else compare(data, other_data)
    try:
        if report is not None:
            from warmup_pipeline.warmup.timelapse.report.files import write_file
            from warmup_pipeline.warmup.timelapse.report.page import render

            other = None
            if other_data is not None and other_policy is not None and comparison is not None:
                other = (other_data, other_policy, comparison)
            write_file(report, render(data, policy, other=other))
        if export is not None:
            from warmup_pipeline.warmup.timelapse.export import export as write_export

            write_export(data, export, other=other_data)
    except OutputError as error:
        raise InputError(str(error)) from None
    return {} if comparison is None else {"comparison": comparison.document()}


# --- how it reads


def _print(
    result: SimulationResult, document: dict[str, Any], report: Path | None, export: Path | None
) -> None:
    settings, figures = result.settings, result.figures
    zone = settings.policy.zone
    click.secho(f"{settings.days} days of {result.chips} chips, in {result.wall_s:.0f} s", bold=True)
    click.echo(
        f"From {result.begins_at.astimezone(zone):%Y-%m-%d %H:%M}, policy {settings.policy.name}, faults "
        f"{settings.faults.name} ({settings.faults.description}), seed {settings.seed}."
    )
    output.heading("What happened")
    output.table(
        ("measured", "value"),
        [
            ("CONVERSA_PAR success", output.percent(figures.success_rate)),
            ("messages the gateways accepted", figures.messages),
            ("of unknown outcome", figures.unknown),
            ("sends above a limit", _must_be_none(figures.limit_violations)),
            ("turns sent twice", _must_be_none(figures.duplicate_sends)),
            ("sends outside the window", _must_be_none(figures.sends_outside_window)),
            ("executed before due", _must_be_none(figures.early_executions)),
            ("most sends of a chip in an hour", figures.most_in_hour),
            ("most sends of a chip in a day", figures.most_in_day),
            ("phases at the end", ", ".join(f"{n} {phase}" for phase, n in result.phases_at_end.items())),
        ],
    )
    output.heading("Phase changes")
    output.table(("chip", "to", "day", "warming day"), _changes(result))
    comparison = document.get("comparison")
    if comparison is not None:
        output.heading("With the other policy")
        this, other = comparison["this"], comparison["other"]
        output.table(
            ("", this["policy"], other["policy"]),
            [
                (name, this[name], other[name])
                for name in ("in_operacao", "median_days_to_operacao", "messages")
            ],
        )
    for path in (report, export):
        if path is not None:
            click.echo(f"Written: {path}")


def _changes(result: SimulationResult) -> Sequence[Sequence[object]]:
    return [
        (f"…{change.chip}", change.phase_to, change.day, change.warming_day) for change in result.transitions
    ]


def _must_be_none(count: int) -> str:
    return click.style(str(count), fg="red" if count else "green")
