"""When a check looks at the whole of a long log, and when at what is new.

Holds: :func:`due_depth` and :func:`note_whole`. A log that is not long (``store.rollups``) is looked at
wholly in every cycle. A long one is once a local day, each check in a cycle of its own after midnight, when
nothing is sent; in between, its last days are. What was found wrong is looked at wholly again in every
cycle until it is right, so that no finding is gone after five minutes. Do not add: a check.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

from warmup_pipeline.domain.localtime import day_bounds, local_day
from warmup_pipeline.store import looks
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.looks import Depth
from warmup_pipeline.warmup.checks.scene import Scene
from warmup_pipeline.warmup.world import World

LOOKS_BACK: Final = timedelta(days=2)
"""How far back a long log is looked at in an ordinary cycle: longer than a conversation and its receipts last."""

_ORDER: Final = (
    "every_send_was_approved",
    "phase_limits_respected",
    "no_duplicate_sends",
    "failures_carry_traceback",
    "recipients_in_pool",
)
"""The checks that look back, each of which waits a cycle longer after midnight than the one before."""

_APART: Final = timedelta(minutes=5)


def due_depth(tx: Transaction, world: World, scene: Scene, check_name: str) -> Depth:
    """Return how far back a check looks now."""
    clean = looks.clean_on(tx, check_name)
    since = {}
    for pool in looks.long_logs(tx) & scene.at.keys():
        at = scene.at[pool]
        today = local_day(at, world.policy.zone)
        waits_until = day_bounds(today, world.policy.zone)[0] + _APART * (1 + _ORDER.index(check_name))
        last = clean.get(pool, date.min)
        if last >= today or (last == today - timedelta(days=1) and at < waits_until):
            since[pool] = today - LOOKS_BACK
    return looks.depth(tx, since, scene.only)


def note_whole(world: World, scene: Scene, check_name: str, depth: Depth, *, clean: bool) -> None:
    """Note of which long logs the whole was looked at and nothing was wrong."""
    if not clean:
        return
    with world.store.read() as tx:
        whole = (looks.long_logs(tx) & scene.at.keys()) - depth.since.keys()
    if whole:
        days = {pool: local_day(scene.at[pool], world.policy.zone) for pool in whole}
        with world.store.write() as tx:
            looks.note_clean(tx, check_name, days)
