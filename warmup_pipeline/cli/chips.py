"""``warmup chips``: the pool from a terminal.

Holds: ``list``, ``show``, ``add``, ``start``, ``pause``, ``resume``; ``reconnect``, ``qr`` and
``webhooks``, which ask the gateways. Do not add: what they do (``warmup.operating``,
``warmup.sessions``), why a chip is where it is (``warmup.standing``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

import click

from warmup_pipeline.cli import output
from warmup_pipeline.cli.session import InputError, Session, user
from warmup_pipeline.domain.degrade import RETURN_TRUST
from warmup_pipeline.domain.values import DEFAULT_POOL, DEFAULT_ROLE, LISTENER_ROLE, ChipStatus, Provider

if TYPE_CHECKING:
    from warmup_pipeline.store.connections import Connection
    from warmup_pipeline.warmup.operating import Change
    from warmup_pipeline.warmup.standing import Allowance, ChipLine, ChipStanding

_Command = TypeVar("_Command", bound=Callable[..., Any])

_NAMES_HELP = "Each ID is a chip's id, instance, label, or the last four digits of its phone."


@click.group("chips", no_args_is_help=False)
def chips() -> None:
    """The chips: list them, see why one is where it is, start, pause and resume them."""


def _action_options(command: _Command) -> _Command:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Report as JSON."),
        click.option("--author", default=user, show_default="you", help="Who does it, for operator_actions."),
        click.option("--reason", default="", help="Why, for operator_actions."),
    ):
        command = option(command)
    return command


# --- list


@chips.command("list")
@click.option("--pool", help="Only this pool.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
@click.pass_obj
def list_command(session: Session, pool: str | None, as_json: bool) -> None:
    """List the chips with status, phase, warming day, trust and connection."""
    from warmup_pipeline.warmup.standing import list_chips

    with session.world(gateways=False) as world:
        lines = list_chips(world, pool)
    if as_json:
        output.emit_json([_line_document(line) for line in lines])
        return
    if not lines:
        click.echo("There are no chips; `warmup import` or `warmup chips add` brings some.")
        return
    output.table(
        ("chip", "label", "pool", "gateway", "status", "phase", "day", "trust", "connection"),
        [
            (
                f"…{line.chip.last4}",
                line.chip.label or line.chip.instance,
                line.chip.pool,
                line.chip.provider.value,
                output.coloured(line.chip.status.value)
                + (" (listener)" if line.chip.role == LISTENER_ROLE else ""),
                line.chip.phase.value,
                line.warming_day,
                None if line.trust is None else f"{line.trust[0]} {output.coloured(line.trust[1])}",
                _connection_word(line.connection),
            )
            for line in lines
        ],
        indent="",
    )


def _connection_word(connection: Connection | None) -> str | None:
    if connection is None:
        return None
    return output.coloured(connection.state.value) + ("" if connection.observed_at else ", not yet asked")


def _line_document(line: ChipLine) -> dict[str, Any]:
    chip = line.chip
    return {
        "id": chip.id,
        "last4": chip.last4,
        "label": chip.label,
        "pool": chip.pool,
        "provider": chip.provider.value,
        "instance": chip.instance,
        "role": chip.role,
        "status": chip.status.value,
        "participating": chip.takes_part,
        "phase": chip.phase.value,
        "warming_day": line.warming_day,
        "trust": None if line.trust is None else {"score": line.trust[0], "level": line.trust[1]},
        "connection": None if line.connection is None else line.connection.state.value,
    }


# --- show


@chips.command("show")
@click.argument("chip", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
@click.pass_obj
def show(session: Session, chip: str, as_json: bool) -> None:
    """Show why a chip is where it is and what it still needs.

    ID is the chip's id, instance, label, or the last four digits of its phone. What stops it now is
    judged by the same rules as in a cycle.
    """
    from warmup_pipeline.warmup.standing import explain_chip

    with session.world(gateways=False) as world:
        found = explain_chip(world, chip)
        zone = world.policy.zone
    if as_json:
        output.emit_json(_document(found))
    else:
        _print(found, zone)


def _print(found: ChipStanding, zone: ZoneInfo) -> None:
    chip = found.chip

    def when(at: Any) -> str:
        return output.shown_time(at, zone) or "–"

    click.secho(f"…{chip.last4}  {chip.label or chip.instance}", bold=True)
    where = f"pool {chip.pool} · {chip.provider} instance {chip.instance}"
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


def _document(found: ChipStanding) -> dict[str, Any]:
    chip, connection = found.chip, found.connection
    return {
        "id": chip.id,
        "last4": chip.last4,
        "label": chip.label,
        "pool": chip.pool,
        "provider": chip.provider.value,
        "instance": chip.instance,
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


# --- actions


def _report(changes: Sequence[Change], *, as_json: bool) -> None:
    if as_json:
        output.emit_json([change.document() for change in changes])
        return
    for change in changes:
        before = "new" if change.before is None else output.coloured(change.before)
        click.echo(f"…{change.last4}  {before} → {output.coloured(change.after)}  ({change.chip_id})")


@chips.command("add")
@click.argument("instance", metavar="ID")
@click.option("--phone", required=True, help="The chip's number; it is shown by its last four digits only.")
@click.option(
    "--provider",
    type=click.Choice([provider.value for provider in Provider]),
    default=Provider.EVOLUTION.value,
    show_default=True,
    help="The gateway it is reached through.",
)
@click.option("--label", default="", help="What people call it.")
@click.option("--role", default=DEFAULT_ROLE, show_default=True, help="'listener' never takes part.")
@click.option("--pool", default=DEFAULT_POOL, show_default=True, help="Its pool; made if need be.")
@_action_options
@click.pass_obj
def add(
    session: Session,
    instance: str,
    phone: str,
    provider: str,
    label: str,
    role: str,
    pool: str,
    reason: str,
    author: str,
    as_json: bool,
) -> None:
    """Add a chip as provisioned; `warmup chips start` lets it begin.

    ID is its Evolution instance name, or its Z-API instance id.
    """
    from warmup_pipeline.warmup.operating import add_chip

    with session.world(gateways=False) as world:
        change = add_chip(
            world,
            phone=phone,
            instance=instance,
            provider=provider,
            label=label,
            role=role,
            pool=pool,
            author=author,
            reason=reason,
        )
    _report([change], as_json=as_json)


@chips.command("start", epilog=_NAMES_HELP)
@click.argument("names", metavar="ID...", nargs=-1, required=True)
@_action_options
@click.pass_obj
def start(session: Session, names: tuple[str, ...], reason: str, author: str, as_json: bool) -> None:
    """Start chips: provisioned and pending ones begin to warm up, ready ones become active.

    A chip that never warmed up begins with 24 hours of repouso. All of them start, or none.
    """
    from warmup_pipeline.warmup.operating import start_chips

    with session.world(gateways=False) as world:
        changes = start_chips(world, names, author=author, reason=reason)
    _report(changes, as_json=as_json)


@chips.command("pause", epilog=_NAMES_HELP)
@click.argument("names", metavar="ID...", nargs=-1, required=True)
@_action_options
@click.pass_obj
def pause(session: Session, names: tuple[str, ...], reason: str, author: str, as_json: bool) -> None:
    """Pause chips: they send nothing until they are resumed, and keep what they have earned."""
    from warmup_pipeline.warmup.operating import pause_chips

    with session.world(gateways=False) as world:
        changes = pause_chips(world, names, author=author, reason=reason)
    _report(changes, as_json=as_json)


@chips.command("resume", epilog=_NAMES_HELP)
@click.argument("names", metavar="ID...", nargs=-1, required=True)
@_action_options
@click.pass_obj
def resume(session: Session, names: tuple[str, ...], reason: str, author: str, as_json: bool) -> None:
    """Resume paused chips: each gets the status back that it had."""
    from warmup_pipeline.warmup.operating import resume_chips

    with session.world(gateways=False) as world:
        changes = resume_chips(world, names, author=author, reason=reason)
    _report(changes, as_json=as_json)


@chips.command("reconnect", epilog=_NAMES_HELP)
@click.argument("names", metavar="ID...", nargs=-1, required=True)
@_action_options
@click.pass_obj
def reconnect(session: Session, names: tuple[str, ...], reason: str, author: str, as_json: bool) -> None:
    """Bring chips' sessions back now; say what a person must do where that is not enough."""
    from warmup_pipeline.warmup.sessions import reconnect_chips

    with session.world() as world:
        done = reconnect_chips(world, names, author=author, reason=reason)
    if as_json:
        output.emit_json([one.document() for one in done])
        return
    output.table(
        ("chip", "before", "did", "after", "what a person must do"),
        [
            (
                f"…{one.last4}",
                one.before,
                one.action,
                output.coloured(one.after),
                one.needs_person or one.detail,
            )
            for one in done
        ],
    )


@chips.command("qr")
@click.argument("name", metavar="ID")
@click.option("--code", "by_code", is_flag=True, help="A code to type on the phone instead of a picture.")
@click.option(
    "--output", "target", type=click.Path(path_type=Path), help="Write the picture (PNG) to this file."
)
@_action_options
@click.pass_obj
def show_qr(
    session: Session, name: str, by_code: bool, target: Path | None, reason: str, author: str, as_json: bool
) -> None:
    """Fetch the QR code of a chip's session as a PNG file, or a pairing code.

    ID is the chip's id, instance, label, or the last four digits of its phone. The code is a way into
    the chip's account as long as it lasts: the file can be read by you alone.
    """
    from warmup_pipeline.warmup.sessions import pairing_of

    with session.world() as world:
        shown = pairing_of(world, name, by_code=by_code, author=author, reason=reason)
    pairing = shown.pairing
    path = None
    if pairing.picture is not None:
        path = session.cwd / (target or Path(f"qr-{shown.chip.last4}.png"))
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_bytes(pairing.picture)
    if as_json:
        output.emit_json(
            {
                "chip": shown.chip.id,
                "connected": pairing.connected,
                "picture": None if path is None else str(path),
                "code": pairing.code,
                "expires_at": None if pairing.connected else shown.until,
            }
        )
    elif pairing.connected:
        click.echo(f"…{shown.chip.last4} is connected: there is nothing to scan.")
    elif path is None and pairing.code is None:
        click.echo("The gateway has no code yet; ask again in a few seconds.")
    else:
        click.echo(f"{path or pairing.code} (lasts {pairing.lasts.total_seconds():.0f} s)")


@chips.command("webhooks", epilog=_NAMES_HELP)
@click.argument("names", metavar="ID...", nargs=-1, required=True)
@click.option(
    "--url", required=True, help="Where the gateways reach `warmup serve`, e.g. https://warmup.example.com."
)
@_action_options
@click.pass_context
def webhooks(
    context: click.Context, names: tuple[str, ...], url: str, reason: str, author: str, as_json: bool
) -> None:
    """Set chips' webhooks at their gateways: what they call, and with which secret.

    Exits with 1 where a gateway did not take it.
    """
    from warmup_pipeline.warmup.sessions import point_webhooks

    session = context.find_object(Session)
    if session is None:
        raise InputError("no session was begun")
    secret = session.settings().webhook_secret
    if secret is None:
        raise InputError("WARMUP_WEBHOOK_SECRET is not set: set it first, here and for `warmup serve`")
    if not url.startswith(("http://", "https://")) or "?" in url or "#" in url:
        raise InputError("--url must begin with http:// or https:// and have no ? or # part")
    with session.world() as world:
        done = point_webhooks(world, names, base_url=url, secret=secret, author=author, reason=reason)
    if as_json:
        output.emit_json([{"id": c.id, "last4": c.last4, "set": p is None, "problem": p} for c, p in done])
    else:
        output.table(("chip", "webhook"), [(f"…{chip.last4}", problem or "set") for chip, problem in done])
    context.exit(int(any(problem is not None for _, problem in done)))
