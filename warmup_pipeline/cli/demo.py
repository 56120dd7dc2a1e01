"""``warmup demo``: the audited pool talks, against the simulator, through Dagster.

Holds: the command, its progress bar, and how its figures read. Do not add: what is measured
(``warmup.demo``).
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from warmup_pipeline.cli import output
from warmup_pipeline.cli.health import print_health
from warmup_pipeline.cli.session import InputError, Session
from warmup_pipeline.domain.values import DEFAULT_POOL

if TYPE_CHECKING:
    from warmup_pipeline.store.cycles import Cycle
    from warmup_pipeline.warmup.demo import Figures
    from warmup_pipeline.warmup.importing import ImportReport

RULE_BROKEN: Final = 2
"""Exit code where a cycle's run failed, or a rule that must never break was measured to be broken."""

_CYCLES: Final = 72
_MOST_CYCLES: Final = 10_000


@click.command("demo")
@click.option(
    "--cycles",
    "count",
    type=click.IntRange(1, _MOST_CYCLES),
    default=_CYCLES,
    show_default=True,
    help="How many cycles to run; each is five minutes on the demo's own clock.",
)
@click.option("--reset", is_flag=True, help="Remove the demo pool with its history first, and begin again.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
@click.pass_context
def demo(context: click.Context, count: int, reset: bool, as_json: bool) -> None:
    """Load the audited pool and run warm-up cycles against the simulator.

    The pool of the audit of 2026-02-20 is loaded as it was at 08:00, on a clock of its own that moves
    five minutes per cycle. Where the demo has run before, it goes on from there; --reset begins again,
    and from scratch it always ends with the same figures. It runs only in a database that holds no
    other pool, and --reset removes nothing but the demo.

    What it prints about sends was measured at the simulator, the gateways' side. Exits with 2 if a
    cycle failed or a limit, the window, a due time or a turn was not kept.
    """
    session = context.find_object(Session)
    if session is None:
        raise InputError("no session was begun")
    imported = _prepare(session, reset=reset)
    ran, failed_runs = _run_cycles(session, count)
    figures, health = _measure(session, ran)
    if as_json:
        output.emit_json(figures.document() | {"failed_runs": failed_runs, "health": health})
    else:
        _print(imported, figures, health, ran, failed_runs)
    context.exit(RULE_BROKEN if failed_runs or figures.broken_rules else 0)


def _prepare(session: Session, *, reset: bool) -> ImportReport | None:
    from warmup_pipeline.cli.runs import open_runner
    from warmup_pipeline.warmup.demo import prepare, remove

    # Closed before the cycles: a world is opened with the chips it knows.
    with session.world() as world:
        if reset and remove(world):
            with open_runner() as runner:
                runner.forget_runs(DEFAULT_POOL)
        return prepare(world)


def _run_cycles(session: Session, count: int) -> tuple[list[Cycle], int]:
    from warmup_pipeline.cli.runs import cycle_of, open_runner

    ran: list[Cycle] = []
    failed = 0
    # The simulator stays up between cycles: each run finds it there.
    with (
        session.world() as world,
        open_runner() as runner,
        click.progressbar(length=count, label="Warm-up cycles", file=sys.stderr, show_pos=True) as progress,
    ):
        for _ in range(count):
            run_id, succeeded = runner.run_cycle(DEFAULT_POOL)
            done = cycle_of(world, run_id)
            if done is None:
                why = runner.why_failed(run_id)
                raise InputError(f"run {run_id} began no cycle: {why}")
            ran.append(done)
            failed += not succeeded
            progress.update(1)
    return ran, failed


def _measure(session: Session, ran: list[Cycle]) -> tuple[Figures, dict[str, Any]]:
    from warmup_pipeline.cli.runs import open_runner
    from warmup_pipeline.warmup.demo import measure
    from warmup_pipeline.warmup.health_report import health_report

    with session.world() as world, open_runner() as runner:
        return measure(world, ran), health_report(world, runner.latest_results())


def _print(
    imported: ImportReport | None,
    figures: Figures,
    health: dict[str, Any],
    ran: list[Cycle],
    failed_runs: int,
) -> None:
    first, last = ran[0].tick, ran[-1].tick
    from warmup_pipeline.warmup.demo import STARTS_AT

    zone = STARTS_AT.tzinfo
    click.secho("The audited pool, warmed up against the simulator", bold=True)
    if imported is not None:
        kept = imported.activities_by_outcome.get("kept", 0)
        history = f"{imported.activities_new} activities ({kept} of them still to come)"
        click.echo(
            f"Loaded {imported.chips_new} chips, {history} and {imported.interactions_new} interactions."
        )
    else:
        click.echo("Went on with the demo that was here; --reset begins again.")
    click.echo(
        f"Ran {figures.cycles} cycles, {first.astimezone(zone):%Y-%m-%d %H:%M} to "
        f"{last.astimezone(zone):%H:%M} on the demo's clock."
    )

    output.heading("What happened")
    attempts = f"{figures.succeeded} of {figures.succeeded + figures.failed}, {figures.unknown} unknown"
    two_way = sum(one.bidirectional for one in figures.conversations)
    output.table(
        ("measured", "value"),
        [
            ("CONVERSA_PAR success", f"{output.percent(figures.success_rate)} ({attempts})"),
            ("messages the gateways accepted", figures.messages),
            ("conversations", f"{len(figures.conversations)}, {two_way} of them two-way"),
            ("sends above a limit", _must_be_none(figures.limit_violations)),
            ("sends outside the window", _must_be_none(figures.sends_outside_window)),
            ("executed before due", _must_be_none(figures.early_executions)),
            ("turns sent twice", _must_be_none(figures.duplicate_sends)),
            ("sends the database does not know", _must_be_none(figures.sends_not_in_log)),
            ("unimplemented types planned", _must_be_none(figures.unimplemented_planned)),
            ("cycles that failed", _must_be_none(failed_runs)),
        ],
    )

    output.heading("Conversations")
    output.table(
        ("opened by", "with", "turns", "two-way"),
        [
            (
                f"…{one.opener}",
                f"…{one.responder}",
                f"{one.turns_accepted} of {one.turns}",
                "yes" if one.bidirectional else "not yet",
            )
            for one in figures.conversations
        ],
    )

    output.heading("Chips")
    output.table(
        ("chip", "warming day", "sent", "received"),
        [
            (f"…{chip}", day, figures.sent_by_chip.get(chip), figures.received_by_chip.get(chip))
            for chip, day in figures.warming_day.items()
        ],
    )

    click.echo()
    for chip in figures.recovered:
        click.echo(f"…{chip} was disconnected and is back: {click.style('recovered', fg='green')}.")
    for chip, name in figures.stubs_cancelled:
        click.echo(f"{name} of …{chip}, planned by the old system, was cancelled: nothing can execute it.")

    click.echo()
    print_health(health)

    output.heading("See it in Dagster")
    beside = Path(sys.argv[0]).with_name("dagster")
    command = "dagster" if shutil.which("dagster") or not beside.exists() else os.path.relpath(beside)
    click.echo(f"  {command} dev")
    click.echo(
        "  then open http://127.0.0.1:3000: the same data and the same runs, and the sensor goes on with it."
    )


def _must_be_none(count: int) -> str:
    return click.style(str(count), fg="red" if count else "green")
