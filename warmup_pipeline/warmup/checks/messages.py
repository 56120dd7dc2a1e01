"""Checks on ``presend_validations`` and ``messages``: was what was sent allowed, and did it arrive?

Holds: the judges of these assets and their lines in :data:`CHECKS`. Source: domain.md, "Pre-send
validation", "Failures", "Health", and root causes 7 and 8.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final

from warmup_pipeline.domain import health
from warmup_pipeline.domain.health import Verdict, conversa_par_success
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.policy import HARD_CAPS
from warmup_pipeline.store import audit
from warmup_pipeline.store.audit import Found, PhaseLimits
from warmup_pipeline.store.messages import UNCONFIRMED_COUNTS_FOR
from warmup_pipeline.warmup.checks.depth import due_depth, note_whole
from warmup_pipeline.warmup.checks.scene import load_scene, none_wrong
from warmup_pipeline.warmup.checks.spec import CheckSpec
from warmup_pipeline.warmup.world import World


def every_send_was_approved(world: World, only: str | None = None) -> Verdict:
    """Judge whether every message has the approval that allowed exactly it (root cause 7)."""
    with world.store.read() as tx:
        scene = load_scene(tx, world, only)
        depth = due_depth(tx, world, scene, "every_send_was_approved")
        found = audit.unapproved_messages(tx, depth)
        ahead = audit.messages_of_the_future(tx, scene.at) if found.wrong else 0
    dated = f" ({ahead} of them dated in the future)" if ahead else ""
    note_whole(world, scene, "every_send_was_approved", depth, clean=not found.wrong)
    judged = none_wrong(
        "every_send_was_approved",
        scene,
        found,
        good="all {n} messages were approved before they were sent",
        bad="{n} messages are not what was approved, or were never approved" + dated,
    )
    return replace(judged, numbers={**judged.numbers, "dated_in_the_future": ahead})


def conversa_par_success_rate(world: World, only: str | None = None) -> Verdict:
    """Judge how many conversation turns were accepted."""
    with world.store.read() as tx:
        scene = load_scene(tx, world, only)
        days = {name: local_day(at, world.policy.zone) for name, at in scene.at.items()}
        since = {name: at - timedelta(hours=24) for name, at in scene.at.items()}
        by_pool = audit.attempts_by_pool(tx, day=days, since=since)
        types = sorted(world.activities.openings)
        due = audit.openings_due(tx, days, scene.at, types)
    today, lately = audit.all_attempts(by_pool)
    found = conversa_par_success(today, lately, sends_due_today=due > 0)
    # Asked of all pools at once the sum counts; the pools that by themselves would not pass are named.
    poor = tuple(
        f"pool {name}"
        for name, (its_today, its_lately) in sorted(by_pool.items())
        if not conversa_par_success(its_today, its_lately, sends_due_today=False).passed
    )
    return replace(found, concerned=poor)


def messages_confirmed(world: World, only: str | None = None) -> Verdict:
    """Judge how many deliveries were confirmed: accepted is not delivered."""
    with world.store.read() as tx:
        scene = load_scene(tx, world, only)
        between = {
            name: (at - timedelta(hours=24), at - UNCONFIRMED_COUNTS_FOR) for name, at in scene.at.items()
        }
        by_chip = audit.confirmations_by_chip(tx, between=between)
    every = [counts for its_chips in by_chip.values() for counts in its_chips.values()]
    found = health.messages_confirmed(sum(c for c, _ in every), sum(n for _, n in every))
    silent = [
        chip_id
        for its_chips in by_chip.values()
        for chip_id, (confirmed, attempts) in its_chips.items()
        if confirmed * 100 < health.CONFIRMED_PASSES_AT * attempts
    ]
    return found if found.passed else replace(found, concerned=scene.named(silent))


def phase_limits_respected(world: World, only: str | None = None) -> Verdict:
    """Judge whether any chip ever sent more than its phase allows in an hour or a day."""
    limits = PhaseLimits(
        policy=world.policy_name,
        of_policy={phase: (p.sends_per_hour, p.sends_per_day) for phase, p in world.policy.phases.items()},
        caps=HARD_CAPS,
    )
    with world.store.read() as tx:
        scene = load_scene(tx, world, only)
        depth = due_depth(tx, world, scene, "phase_limits_respected")
        day, hour = audit.over_day_limit(tx, limits, depth), audit.over_hour_limit(tx, limits, depth)
    found = Found(day.looked_at, day.wrong + hour.wrong, tuple(sorted({*day.chip_ids, *hour.chip_ids})))
    note_whole(world, scene, "phase_limits_respected", depth, clean=not found.wrong)
    judged = none_wrong(
        "phase_limits_respected",
        scene,
        found,
        good="all {n} sends were within the limits of their phase",
        bad="{n} sends were above a limit of their phase",
    )
    return replace(judged, numbers={**judged.numbers, "over_day": day.wrong, "over_hour": hour.wrong})


def no_duplicate_sends(world: World, only: str | None = None) -> Verdict:
    """Judge whether any turn was sent twice."""
    with world.store.read() as tx:
        scene = load_scene(tx, world, only)
        depth = due_depth(tx, world, scene, "no_duplicate_sends")
        found = audit.duplicate_messages(tx, depth)
    note_whole(world, scene, "no_duplicate_sends", depth, clean=not found.wrong)
    return none_wrong(
        "no_duplicate_sends",
        scene,
        found,
        good="none of {n} messages was sent twice",
        bad="{n} messages are doubles",
    )


def failures_carry_traceback(world: World, only: str | None = None) -> Verdict:
    """Judge whether every failure kept its traceback (root cause 8)."""
    with world.store.read() as tx:
        scene = load_scene(tx, world, only)
        depth = due_depth(tx, world, scene, "failures_carry_traceback")
        found = audit.failures_without_traceback(tx, depth)
    note_whole(world, scene, "failures_carry_traceback", depth, clean=not found.wrong)
    return none_wrong(
        "failures_carry_traceback",
        scene,
        found,
        good="all {n} failures kept their traceback, or say how they were heard of",
        bad="{n} failures have no traceback",
    )


def recipients_in_pool(world: World, only: str | None = None) -> Verdict:
    """Judge whether every message stayed among the operator's own chips of one pool."""
    with world.store.read() as tx:
        scene = load_scene(tx, world, only)
        depth = due_depth(tx, world, scene, "recipients_in_pool")
        found = audit.recipients_outside_pool(tx, depth)
    note_whole(world, scene, "recipients_in_pool", depth, clean=not found.wrong)
    return none_wrong(
        "recipients_in_pool",
        scene,
        found,
        good="all {n} messages went from a chip to another chip of its pool",
        bad="{n} messages left their pool",
    )


CHECKS: Final = (
    CheckSpec(
        "presend_validations",
        "every_send_was_approved",
        "Every message has an approval of pre-send validation that allowed exactly it.",
        every_send_was_approved,
        remedy=(
            "A row was written or changed past the program. Launch `set_kill_switch` for the pool, and find "
            "out who did."
        ),
    ),
    CheckSpec(
        "messages",
        "conversa_par_success_rate",
        "How many conversation turns the gateways accepted: today from five attempts on, else in the last 24 "
        "hours. 80 % passes, 50 % warns, below fails; the target is above 90 %.",
        conversa_par_success_rate,
        remedy=(
            "Open the runs of the last cycles: each failed send is a red entry with its class and traceback. "
            "`warmup chips show` names a chip's last failures."
        ),
    ),
    CheckSpec(
        "messages",
        health.MESSAGES_CONFIRMED,
        "How many of the last 24 hours' accepted messages were seen to arrive, of those that a gateway can "
        "confirm and that had an hour for it. No judgement under 20; 95 % passes, 80 % warns, below fails.",
        messages_confirmed,
        remedy=(
            "`warmup chips show` on the chips it names: a session that says open and delivers nothing is "
            "restarted by itself. Where Z-API chips are named, see that `warmup serve` runs and that their "
            "webhooks reach it (`warmup doctor`)."
        ),
    ),
    CheckSpec(
        "messages",
        "phase_limits_respected",
        "No chip sent more than its phase allows within any 60 minutes or any local day.",
        phase_limits_respected,
        remedy=(
            "Launch `set_kill_switch` for the pool and `pause_chips` for the chips it names; then find out "
            "who wrote those rows: validation cannot let them through."
        ),
    ),
    CheckSpec(
        "messages",
        "no_duplicate_sends",
        "No turn of a conversation was sent twice.",
        no_duplicate_sends,
        remedy=(
            "Launch `set_kill_switch` for the pool and find out who wrote those rows: the tables' keys do "
            "not allow it."
        ),
    ),
    CheckSpec(
        "messages",
        "failures_carry_traceback",
        "Every failed or unknown send, and every such action, kept its whole traceback. One that no code of ours "
        "saw fail (reported by the gateway later, or cut off with the process) says so in words.",
        failures_carry_traceback,
        remedy=("A defect of this program or a row edited by hand: report it with the run's link."),
    ),
    CheckSpec(
        "messages",
        "recipients_in_pool",
        "Every message went from one of your chips to another one of the same pool.",
        recipients_in_pool,
        remedy=("Launch `set_kill_switch` for everything and find out who wrote those rows."),
    ),
)
