"""``warmup chips``: the pool from a terminal.

Holds: ``list``, ``show``, ``add``, ``start``, ``pause``, ``resume``; ``reconnect``, ``qr`` and
``webhooks``, which ask the gateways. Do not add: what they do (``warmup.operating``,
``warmup.sessions``), why a chip is where it is (``warmup.standing``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from warmup_pipeline.cli import output
from warmup_pipeline.cli.chip_page import print_standing, standing_document
from warmup_pipeline.cli.session import InputError, Session, user
from warmup_pipeline.domain.values import DEFAULT_POOL, DEFAULT_ROLE, LISTENER_ROLE, Provider

if TYPE_CHECKING:
    from warmup_pipeline.store.connections import Connection
    from warmup_pipeline.warmup.operating import Change
    from warmup_pipeline.warmup.standing import ChipLine

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
                output.named(line.chip.label or line.chip.instance),
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
        "label": output.named(chip.label),
        "pool": chip.pool,
        "provider": chip.provider.value,
        "instance": output.named(chip.instance),
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
        output.emit_json(standing_document(found))
    else:
        print_standing(found, zone)


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
