"""A chip's standing, as ``warmup chips show`` prints it.

Holds: :func:`print_standing` and :func:`standing_document`. Do not add: why a chip is where it is
(``warmup.standing``), commands (``chips``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click

from warmup_pipeline.cli import output
from warmup_pipeline.domain.degrade import RETURN_TRUST
from warmup_pipeline.domain.values import LISTENER_ROLE, ChipStatus

if TYPE_CHECKING:
    from warmup_pipeline.warmup.standing import Allowance, ChipStanding


def print_standing(found: ChipStanding, zone: ZoneInfo) -> None:
    """Print where a chip stands, what stops it, and what it still needs; times in the pool's zone."""
    chip = found.chip

    def when(at: Any) -> str:
        return output.shown_time(at, zone) or "–"

    click.secho(f"…{chip.last4}  {output.named(chip.label or chip.instance)}", bold=True)
    where = f"pool {chip.pool} · {chip.provider} instance {output.named(chip.instance)}"
    click.echo(f"{chip.id} · {where} · it is {when(found.at)}")

    output.heading("Where it stands")
    reason = f": {chip.status_reason}" if chip.status_reason else ""
    _fact("status", f"{output.coloured(chip.status.value)} since {when(chip.status_since)}{reason}")
    if chip.role == LISTENER_ROLE:
        _fact("role", "listener: never takes part")
    day = "none: it does not age" if found.warming_day is None else str(found.warming_day)
    _fact("phase", f"{chip.phase} since {when(chip.phase_started_at)}; warming day {day}")
    if found.trust is None:
        _fact("trust", "not scored yet")
    else:
        parts = [f"{name} {output.number(value)}" for name, value in found.trust.parts.items() if value]
        level = output.coloured(found.trust.level.value)
        _fact("trust", f"{found.trust.score} {level} ({', '.join(parts)})")
    _fact("connection", _connection_text(found, when))
    _fact("breaker", found.breaker)
    if chip.cooldown_until is not None and chip.cooldown_until > found.at:
        _fact("cooldown", f"until {when(chip.cooldown_until)} ({chip.cooldown_reason or 'no reason kept'})")
    if found.braked_until is not None:
        why = found.hold.reason if found.hold is not None else "its signals"
        _fact(
            "brake and hold",
            f"until {when(found.braked_until)} for {why}: limits × {output.number(found.brake_factor)}, phase held",
        )
    if found.hold is not None and chip.status is ChipStatus.DEGRADED:
        _fact(
            "returns",
            f"by itself, {when(found.hold.until)} at the earliest: 24 hours without an error, connected, "
            f"trust {RETURN_TRUST} or more",
        )
    for switch in found.switches:
        until = f" until {when(switch.expires_at)}" if switch.expires_at else ""
        _fact("kill switch", f"{switch.scope}{until}, by {switch.author}: {switch.reason}")
    if chip.last_error_at is not None:
        code = f"{chip.last_error_code}: " if chip.last_error_code else ""
        _fact("last error", f"{when(chip.last_error_at)} {code}{chip.last_error_text or ''}")

    output.heading("What it may send")
    _fact("this hour", _allowance_text(found.hour))
    _fact("today", _allowance_text(found.day))
    if found.obstacle is None:
        _fact("now", click.style("nothing stops it", fg="green"))
    else:
        until = f"; ends {when(found.obstacle.until)}" if found.obstacle.until else ""
        _fact("now", f"{click.style(found.obstacle.code, fg='yellow')}: {found.obstacle.meaning}{until}")
    if found.next_activity is not None:
        put_off = found.next_activity.deferrals
        last = f", put off {put_off} times, last for {found.next_activity.last_deferral}" if put_off else ""
        _fact("next activity", f"{found.next_activity.type} at {when(found.next_activity.due_at)}{last}")
    if found.next_reply is not None:
        _fact("next reply", when(found.next_reply))

    if found.criteria:
        output.heading(f"To enter {found.criteria[0].next_phase}")
        output.table(
            ("criterion", "has", "needs", "holds", "earliest day"),
            [
                (
                    one.criterion,
                    output.number(one.value),
                    f"{one.comparison} {output.number(one.needed)}",
                    click.style("yes", fg="green") if one.holds else click.style("no", fg="yellow"),
                    None if one.holds else one.earliest_day,
                )
                for one in found.criteria
            ],
        )
        click.echo(f"  all of it on {found.eligible_on or 'no day that can be named yet'} at the earliest")

    if found.history:
        output.heading("Connection")
        output.table(
            ("at", "state", "by", "what was said"),
            [
                (when(step.at), output.coloured(step.state.value), step.source, step.detail or None)
                for step in found.history
            ],
        )
    if found.failures:
        output.heading("Last failures")
        output.table(
            ("at", "to", "class", "status", "words"),
            [
                (
                    when(one.at),
                    f"…{found.last4_of[one.recipient_chip_id]}",
                    one.failure_class.value,
                    one.status,
                    one.text,
                )
                for one in found.failures
            ],
        )


def _fact(name: str, text: str) -> None:
    click.echo(f"  {click.style(f'{name:<15}', dim=True)} {text}")


def _allowance_text(allowance: Allowance) -> str:
    return f"{allowance.used} of {allowance.limit} used, {allowance.left} left"


def _connection_text(found: ChipStanding, when: Callable[[Any], str]) -> str:
    one = found.connection
    if one is None:
        return "never asked"
    text = f"{output.coloured(one.state.value)} since {when(one.since)}"
    text += f", last confirmed {when(one.observed_at)}" if one.observed_at else ", as imported: not yet asked"
    if one.needs_person:
        text += f"; needs a person: {one.needs_person}"
    if one.next_recovery_at:
        text += f"; next recovery attempt from {when(one.next_recovery_at)}"
    return text + (f"; {one.gateway_error}" if one.gateway_error else "")


def standing_document(found: ChipStanding) -> dict[str, Any]:
    """Return the same as data; times in UTC."""
    chip, connection = found.chip, found.connection
    return {
        "id": chip.id,
        "last4": chip.last4,
        "label": output.named(chip.label),
        "pool": chip.pool,
        "provider": chip.provider.value,
        "instance": output.named(chip.instance),
        "role": chip.role,
        "at": found.at,
        "status": chip.status.value,
        "status_reason": chip.status_reason,
        "status_since": chip.status_since,
        "participating": chip.takes_part,
        "phase": chip.phase.value,
        "phase_started_at": chip.phase_started_at,
        "warming_started_at": chip.warming_started_at,
        "warming_day": found.warming_day,
        "trust": None
        if found.trust is None
        else {"score": found.trust.score, "level": found.trust.level.value, "parts": found.trust.parts},
        "connection": None
        if connection is None
        else {
            "state": connection.state.value,
            "since": connection.since,
            "observed_at": connection.observed_at,
            "needs_person": connection.needs_person,
            "next_recovery_at": connection.next_recovery_at,
            "gateway_error": connection.gateway_error,
        },
        "breaker": found.breaker,
        "cooldown_until": chip.cooldown_until,
        "cooldown_reason": chip.cooldown_reason,
        "braked_until": found.braked_until,
        "hold": None if found.hold is None else {"reason": found.hold.reason, "until": found.hold.until},
        "kill_switches": [
            {"scope": one.scope, "reason": one.reason, "author": one.author, "expires_at": one.expires_at}
            for one in found.switches
        ],
        "hour": {"limit": found.hour.limit, "used": found.hour.used, "left": found.hour.left},
        "day": {"limit": found.day.limit, "used": found.day.used, "left": found.day.left},
        "next_activity": None
        if found.next_activity is None
        else {
            "type": found.next_activity.type,
            "due_at": found.next_activity.due_at,
            "deferrals": found.next_activity.deferrals,
            "last_deferral": found.next_activity.last_deferral,
        },
        "next_reply": found.next_reply,
        "obstacle": None
        if found.obstacle is None
        else {
            "decision": found.obstacle.decision.value,
            "code": found.obstacle.code,
            "meaning": found.obstacle.meaning,
            "until": found.obstacle.until,
        },
        "next_phase": found.criteria[0].next_phase if found.criteria else None,
        "eligible_on": None if found.eligible_on is None else found.eligible_on.isoformat(),
        "criteria": [
            {
                "criterion": one.criterion,
                "value": one.value,
                "needed": one.needed,
                "comparison": one.comparison,
                "holds": one.holds,
                "earliest_day": None if one.earliest_day is None else one.earliest_day.isoformat(),
            }
            for one in found.criteria
        ],
        "last_error": {"at": chip.last_error_at, "code": chip.last_error_code, "text": chip.last_error_text},
        "connection_history": [
            {"at": step.at, "state": step.state.value, "source": step.source, "detail": step.detail}
            for step in found.history
        ],
        "failures": [
            {
                "at": one.at,
                "to": found.last4_of[one.recipient_chip_id],
                "class": one.failure_class.value,
                "status": one.status,
                "text": one.text,
            }
            for one in found.failures
        ],
    }
