"""``warmup purge``: remove what Dagster has kept for long enough, now instead of tonight.

Holds: the command. Do not add: what goes and what stays (``orchestration.retention``).
"""

from __future__ import annotations

import click
from sqlalchemy.exc import DBAPIError

from warmup_pipeline.cli import output
from warmup_pipeline.cli.session import InputError, Session, user


@click.command("purge")
@click.option(
    "--keep-days",
    type=click.IntRange(1),
    default=14,
    show_default=True,
    help="Runs and ticks of so many days stay.",
)
@click.option("--json", "as_json", is_flag=True, help="Report as JSON.")
@click.pass_context
def purge(context: click.Context, keep_days: int, as_json: bool) -> None:
    """Remove Dagster runs, their files and ticks older than some days.

    The pool's own data stays, and so do each day's newest success and each check's last result. The job
    purge_old_runs does the same every night. First thing to do on a full disk.
    """
    session = context.find_object(Session)
    if session is None:
        raise InputError("no session was begun")
    removed = _purged(keep_days)
    # Noted after the deed: on a full disk there is room for the note only now.
    from warmup_pipeline.warmup.operating import note_purge

    with session.world(gateways=False) as world:
        note_purge(world, keep_days=keep_days, removed=removed["runs"], author=user())
    if as_json:
        output.emit_json({"keep_days": keep_days, **removed})
        return
    click.echo(
        f"Removed {removed['runs']} runs and {removed['ticks']} ticks older than {keep_days} days, and what "
        f"{removed['left_behind']} runs no longer listed had left; {removed['freed'] / 1e6:.0f} MB given back."
    )


def _purged(keep_days: int) -> dict[str, int]:
    """Purge; where the disk is so full that no database can be opened, after making room without one."""
    from warmup_pipeline.cli.runs import make_room, open_runner
    from warmup_pipeline.orchestration.opening import HistoryError, chain_of
    from warmup_pipeline.store.trouble import is_out_of_room

    room = 0
    while True:
        try:
            with open_runner() as runner:
                removed = runner.purge(keep_days)
            return {**removed, "freed": removed["freed"] + room}
        except (DBAPIError, HistoryError) as error:
            # Each round takes more of the oldest files, until there are none that may go.
            full = any(is_out_of_room(one) for one in chain_of(error))
            made = make_room(keep_days) if full else 0
            if made == 0:
                raise
            room += made
