"""Checks on ``chip_connections``: are the chips reachable, and do the gateways take our credentials?

Holds: the judges of that asset and their lines in :data:`CHECKS`. Source: domain.md, "The cycle",
step 1, and "Silence is a warning".
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from warmup_pipeline.domain.health import Severity, Verdict
from warmup_pipeline.domain.presend import is_connected
from warmup_pipeline.domain.values import LISTENER_ROLE, OBSERVED_STATUSES, ConnectionState
from warmup_pipeline.store import audit
from warmup_pipeline.store.deliveries import confirmed_since_recovery
from warmup_pipeline.store.messages import UNCONFIRMED_COUNTS_FOR
from warmup_pipeline.warmup.checks.scene import NAMED, few, load_scene
from warmup_pipeline.warmup.checks.spec import CheckSpec, verdict
from warmup_pipeline.warmup.watch import ZOMBIE_DETAIL, ZOMBIE_RESTART
from warmup_pipeline.warmup.world import World

DOWN_WARNS_AFTER: Final = timedelta(minutes=10)

MUTE_FROM: Final = 4
"""Messages of a pool of which none arrived, from which on its sessions are dead, whatever they say: twice as
many as make a zombie of one chip."""

REASONS: Final = 3
"""Different reasons that a summary gives."""


def providers_connected(world: World, only: str | None = None) -> Verdict:
    """Judge whether every participating chip is reachable."""
    with world.store.read() as tx:
        scene = load_scene(tx, world, only, with_chips=True)
        between = {
            name: (at - timedelta(hours=24), at - UNCONFIRMED_COUNTS_FOR) for name, at in scene.at.items()
        }
        arrived = audit.confirmations_by_chip(tx, between=between)
        restarted = [
            chip.id
            for chip in scene.participants
            if (one := scene.connections.get(chip.id)) and one.last_recovery_action == ZOMBIE_RESTART
        ]
        # Its gateway says open, as it did before: only a delivery shows that the session lives.
        zombies = sorted(set(restarted) - confirmed_since_recovery(tx, restarted))
    down, needing = [], []
    up = 0
    for chip in scene.participants:
        at = scene.at[chip.pool]
        one = scene.connections.get(chip.id)
        if is_connected(scene.standing(chip), at):
            up += 1
            continue
        since = (
            one.since if one and one.state is not ConnectionState.OPEN else (one.observed_at if one else None)
        )
        if one is not None and one.needs_person:
            needing.append(chip)
        if since is None or at - since >= DOWN_WARNS_AFTER or (one is not None and one.needs_person):
            down.append(chip.id)
    for chip in scene.chips:
        # A degraded chip is recovered, too, so what only a person can do for it is said here.
        one = scene.connections.get(chip.id)
        watched = chip.status in OBSERVED_STATUSES and chip.role != LISTENER_ROLE
        if watched and not chip.takes_part and one is not None and one.needs_person:
            needing.append(chip)
    mute = [
        chip_id
        for its_chips in arrived.values()
        if sum(n for _, n in its_chips.values()) >= MUTE_FROM and not any(c for c, _ in its_chips.values())
        for chip_id in its_chips
    ]
    total = len(scene.participants)
    named = scene.named(down)
    if not down:
        summary = f"{up} of {total} participating chips are connected"
    else:
        summary = f"{len(down)} of {total} participating chips are down: {few(named)}"
        words = [scene.connections[chip_id].detail for chip_id in down if chip_id in scene.connections]
        said = list(dict.fromkeys(word for word in words if word))
        if said:
            summary += f" ({'; '.join(said[:REASONS])})"
    if zombies:
        summary += f". {len(zombies)} deliver nothing: {few(scene.named(zombies))}: {ZOMBIE_DETAIL}"
        summary += "; restarted, and no delivery was seen since"
    if mute:
        sent = sum(
            n for its_chips in arrived.values() for chip_id, (_, n) in its_chips.items() if chip_id in mute
        )
        summary += f". None of {sent} messages of the last 24 hours arrived: these sessions are open and dead"
    if needing:
        asks = [f"…{chip.last4}: {scene.connections[chip.id].needs_person}" for chip in needing]
        summary += f". A person is needed: {'; '.join(asks[:NAMED])}"
    return verdict(
        "providers_connected",
        passed=not down and not needing and not zombies and not mute,
        summary=summary,
        numbers={
            "participating": total,
            "connected": up,
            "down": len(down),
            "needs_person": len(needing),
            "zombies": len(zombies),
            "mute": len(mute),
        },
        concerned=scene.named({*down, *zombies, *mute, *(chip.id for chip in needing)}),
        severity=Severity.ERROR if mute or (down and not up) else Severity.WARN,
    )


def gateway_credentials_valid(world: World, only: str | None = None) -> Verdict:
    """Judge whether the gateways themselves answered and took our credentials in the last cycle."""
    with world.store.read() as tx:
        scene = load_scene(tx, world, only, with_chips=True)
    refused = {
        chip.id: one.gateway_error
        for chip in scene.chips
        if (one := scene.connections.get(chip.id)) is not None
        and one.gateway_error is not None
        and chip.pool in scene.latest
        and one.gateway_error_cycle_id == scene.latest[chip.pool].id
    }
    named = scene.named(refused)
    reasons = sorted({reason for reason in refused.values() if reason})
    asked = len(scene.connections)
    return verdict(
        "gateway_credentials_valid",
        passed=not refused,
        summary=(
            f"the gateways of {asked} chips answered and took our credentials"
            if not refused
            else f"a gateway refused us or could not be reached for {few(named)}: {'; '.join(reasons[:3])}"
        ),
        numbers={"asked": asked, "refused": len(refused)},
        concerned=named,
    )


CHECKS: Final = (
    CheckSpec(
        "chip_connections",
        "providers_connected",
        "Every participating chip's session is open and delivers. Warns when one is down for 10 minutes, says open "
        "but delivers nothing, or needs a person (named, with what to do); fails when none is connected, or when "
        "nothing of what a pool sent in 24 hours arrived.",
        providers_connected,
        remedy=(
            "Recovery is tried every 15 minutes by itself. Where a person is named, do what it says: launch "
            "`show_qr_code` and scan it with the chip's phone. `reconnect_chips` tries at once."
        ),
    ),
    CheckSpec(
        "chip_connections",
        "gateway_credentials_valid",
        "The gateways answered in the last cycle and took our keys and tokens. A gateway that refused or could "
        "not be reached stops its chips, through no fault of theirs.",
        gateway_credentials_valid,
        remedy=(
            "See that the gateway's server runs, then check EVOLUTION_API_URL and EVOLUTION_API_KEY, "
            "ZAPI_CLIENT_TOKEN and WARMUP_SECRETS_FILE. The next cycle asks again."
        ),
    ),
)
