"""``warmup cycle``: one cycle through Dagster, or a rehearsal that sends nothing.

Holds: the command and how its summary reads. Do not add: what a cycle does.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from warmup_pipeline.cli import output
from warmup_pipeline.cli.session import InputError, Session, Timestamp
from warmup_pipeline.domain.values import DEFAULT_POOL
from warmup_pipeline.settings import LIVE, Settings, is_loopback

if TYPE_CHECKING:
    from warmup_pipeline.store.cycle_report import CycleFacts

FAILED_RUN: Final = 2
"""Exit code where the cycle's run failed."""


@click.command("cycle")
@click.option("--pool", default=DEFAULT_POOL, show_default=True, help="The pool whose cycle it is.")
@click.option("--at", type=Timestamp(), help="The cycle's logical time; now unless given.")
@click.option("--dry-run", is_flag=True, help="Decide everything, send nothing and keep nothing.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
@click.pass_context
def cycle(context: click.Context, pool: str, at: datetime | None, dry_run: bool, as_json: bool) -> None:
    """Run one cycle of a pool through Dagster, and print what it did.

    In live mode --at needs --dry-run, or gateways that are all on loopback: a logical time of one's own
    choosing must never reach a real number. A dry run asks the gateways for connection states, and
    nothing else. Exits with 2 where the run failed; its page in the UI has the traceback.
    """
    session = context.find_object(Session)
    if session is None:
        raise InputError("no session was begun")
    settings = session.settings()
    if at is not None and not dry_run:
        _require_loopback(settings)
    document, succeeded = (_rehearsed if dry_run else _run)(session, settings, pool, at)
    if as_json:
        output.emit_json(document)
    else:
        _print(document, succeeded=succeeded)
    context.exit(0 if succeeded else FAILED_RUN)


def _require_loopback(settings: Settings) -> None:
    """Refuse a chosen time where a gateway is not on this machine.

    Raises:
        InputError: it names the variable.
    """
    if settings.mode != LIVE:
        return
    gateways = settings.live_gateways()
    named = (("EVOLUTION_API_URL", gateways.evolution_url), ("ZAPI_BASE_URL", gateways.zapi_base_url))
    for variable, url in named:
        if url and not is_loopback(url):
            raise InputError(f"--at in live mode needs --dry-run, or gateways on loopback; {variable} is not")


def _document(
    tick: datetime, run_id: str | None, facts: CycleFacts, duration_s: float | None
) -> dict[str, Any]:
    return {
        "tick": tick.isoformat(),
        "run_id": run_id,
        "claimed": facts.claimed,
        "approved": facts.approved,
        "deferred": dict(facts.deferred),
        "blocked": dict(facts.blocked),
        "sent": facts.sent,
        "failed": facts.failed,
        "unknown": facts.unknown,
        "transitions": facts.transitions,
        "duration_s": duration_s,
    }


def _rehearsed(
    session: Session, settings: Settings, pool: str, at: datetime | None
) -> tuple[dict[str, Any], bool]:
    from warmup_pipeline.warmup.rehearsal import rehearse_cycle

    with session.world() as world:
        begun = world.now()
        found = rehearse_cycle(world, pool, at=at)
        document = _document(found.tick, None, found.facts, (world.now() - begun).total_seconds())
    return document | {"pool": pool, "mode": settings.mode, "dry_run": True, "error": None}, True


def _run(session: Session, settings: Settings, pool: str, at: datetime | None) -> tuple[dict[str, Any], bool]:
    from warmup_pipeline import assembly
    from warmup_pipeline.cli.runs import cycle_of, open_runner
    from warmup_pipeline.store import pools
    from warmup_pipeline.store.cycle_report import facts_of_cycle

    # The simulator, where there is one, stays for the length of the command.
    with session.world() as world:
        with world.store.read() as tx:
            pools.get(tx, pool)
        assembly.require_credentials(world)
        with open_runner() as runner:
            run_id, succeeded = runner.run_cycle(pool, at=at)
            why = "" if succeeded else runner.why_failed(run_id)
        done = cycle_of(world, run_id)
        if done is None:
            raise InputError(f"run {run_id} began no cycle: {why}")
        with world.store.read() as tx:
            facts = facts_of_cycle(tx, done.id)
    document = _document(done.tick, run_id, facts, done.duration_s)
    return document | {"pool": pool, "mode": settings.mode, "dry_run": False, "error": why or None}, succeeded


def _print(document: Mapping[str, Any], *, succeeded: bool) -> None:
    title = "Rehearsed" if document["dry_run"] else "Ran"
    click.secho(f"{title} the cycle of {document['tick']} in pool {document['pool']!r}", bold=True)
    click.echo(f"  gateways    {document['mode']}")
    for name in ("claimed", "approved", "sent", "failed", "unknown", "transitions"):
        click.echo(f"  {name:<11} {document[name]}")
    for name in ("deferred", "blocked"):
        reasons = ", ".join(f"{code} {count}" for code, count in document[name].items())
        click.echo(f"  {name:<11} {reasons or 0}")
    if document["duration_s"] is not None:
        click.echo(f"  duration    {document['duration_s']:.2f} s")
    if document["dry_run"]:
        click.echo("Nothing was sent and nothing was kept.")
    elif not succeeded:
        click.secho(f"The run failed: {document['error']}", fg="red")
        click.echo(f"Its page in the UI has the traceback: run {document['run_id']}.")
