"""``warmup policy check`` and ``warmup policy show``.

Holds: both commands. Do not add: what makes a policy valid (``domain.policy``, ``domain.reachability``).
"""

from __future__ import annotations

from typing import Any

import click

from warmup_pipeline.cli import output
from warmup_pipeline.cli.session import Session
from warmup_pipeline.domain.values import PHASE_ORDER, Phase


@click.group("policy", no_args_is_help=False)
def policy() -> None:
    """Check a policy, or show it with the earliest day of each phase."""


def _load(session: Session, source: str | None) -> Any:
    from warmup_pipeline.warmup.policies import PRESETS, load_policy

    if source is None:
        return load_policy(session.settings().policy)
    return load_policy(source if source in PRESETS else str(session.cwd / source))


def _document(found: Any) -> dict[str, Any]:
    from warmup_pipeline.domain.reachability import earliest_days

    days = earliest_days(found)
    return {
        "name": found.name,
        "fingerprint": found.fingerprint,
        "timezone": found.timezone,
        "earliest_day": {phase.value: days[phase] for phase in PHASE_ORDER},
        "policy": found.model_dump(mode="json"),
    }


def _rate(per_second: float | None) -> str:
    return "any number" if per_second is None else f"{per_second:g}"


@policy.command("check")
@click.argument("file", metavar="[F]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
@click.pass_obj
def check(session: Session, file: str | None, as_json: bool) -> None:
    """Validate a policy file (or preset) F; without F, the one WARMUP_POLICY names.

    Types, ranges and order are checked, and that each phase can be reached under the limits of the
    phases before it. What is wrong is said in one line, with what would work.
    """
    found = _load(session, file)
    document = _document(found)
    if as_json:
        output.emit_json({"valid": True} | document)
        return
    last = document["earliest_day"][Phase.OPERACAO.value]
    click.echo(
        f"{click.style('valid', fg='green')}: policy {found.name}@{found.fingerprint} reaches "
        f"{Phase.OPERACAO} on warming day {last} at the earliest"
    )


@policy.command("show")
@click.argument("file", metavar="[F]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
@click.pass_obj
def show(session: Session, file: str | None, as_json: bool) -> None:
    """Show a policy (F, or the one in force): its numbers, and the earliest day of each phase."""
    found = _load(session, file)
    document = _document(found)
    if as_json:
        output.emit_json(document)
        return
    window = found.window
    click.secho(f"Policy {found.name}@{found.fingerprint}", bold=True)
    click.echo(f"Sending from {window.start_hour:02d}:00 to {window.end_hour:02d}:00, {found.timezone}.")
    output.heading("Phases: what a chip plans and may send")
    output.table(
        ("phase", "earliest day", "a day", "an hour", "activities", "gap", "mix"),
        [
            (
                phase.value,
                document["earliest_day"][phase.value],
                plan.sends_per_day,
                plan.sends_per_hour,
                f"{plan.activities_min}–{plan.activities_max}" if plan.activities_max else 0,
                f"{plan.minimum_gap_minutes} min" if plan.activities_max else None,
                ", ".join(f"{name} {weight}" for name, weight in plan.mix.items() if weight) or None,
            )
            for phase, plan in ((phase, found.phases[phase]) for phase in PHASE_ORDER)
        ],
    )
    output.heading("To enter a phase")
    output.table(
        ("phase", "warming day", "sent", "received", "response", "trust", "two-way"),
        [
            (
                phase.value,
                f"{found.repouso_hours} hours" if phase is Phase.SETUP else needed.warming_day,
                needed.sent,
                needed.received,
                output.number(needed.response_rate),
                needed.trust,
                needed.bidirectional,
            )
            for phase, needed in ((phase, found.to_enter[phase]) for phase in PHASE_ORDER[1:])
        ],
    )
    click.echo(f"  and at most {found.max_errors_24h} errors in 24 hours")
    output.heading("Pace: how hard one run may ask the gateways")
    pace = found.pace
    output.table(
        ("requests at once, a server", "a second, a server", "a second, an instance", "one may take"),
        [
            (
                pace.connections_per_server,
                _rate(pace.requests_per_second_per_server),
                _rate(pace.requests_per_second_per_instance),
                f"{pace.timeout_seconds:g} s",
            )
        ],
    )
    output.heading("Trust")
    output.table(
        ("level", "from", "of the limits", "pause between sends"),
        [
            (
                output.coloured(level.value),
                band.at_least,
                output.percent(band.factor),
                f"{band.minimum_gap_seconds} s",
            )
            for level, band in found.trust_levels.items()
        ],
    )
