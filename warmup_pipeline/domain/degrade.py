"""When a chip is taken out, comes back, or is braked and held.

Holds: the reasons for degrading, the way back, the brake and its signals. Add here: another reason
or signal. Do not add: what a degraded or braked chip may still do (``presend``, ``limits``), the
search for signals in the log (store).

Source: domain.md, "Failures" (degrading) and "Brake and hold". ``banned`` never returns by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from warmup_pipeline.domain.policy import Policy
from warmup_pipeline.domain.values import ChipStatus, Phase, TrustLevel

TRUST_CRITICAL: Final = "trust_critical"
RESTRICTION: Final = "restriction"
ERRORS_24H: Final = "errors_24h"
"""Reason codes of degrading."""

ERRORS_THAT_DEGRADE: Final = 10
"""Errors of the sender's own channel in 24 hours."""

RETURN_AFTER: Final = timedelta(hours=24)
"""Time without an error before a degraded chip may return."""

RETURN_TRUST: Final = 40
"""Least trust score with which a degraded chip may return."""

RESTRICTED: Final = "restriction"
CIRCUIT_OPENED: Final = "circuit_opened"
UNCONFIRMED: Final = "unconfirmed_deliveries"
"""Kinds of brake signal: a restriction or shadow ban, the breaker opening, too few confirmed."""

JUDGED_DELIVERIES: Final = 20
"""How many of a chip's last confirmable messages are judged."""

CONFIRMABLE_AFTER: Final = timedelta(minutes=60)
"""Only messages older than this are judged: younger ones may still be confirmed."""

_LEAST_CONFIRMED_PERCENT: Final = 80

SIGNALS_FROM_MISSING: Final = JUDGED_DELIVERIES * (100 - _LEAST_CONFIRMED_PERCENT) // 100 + 1
"""With fewer unconfirmed messages than this among those judged there is no signal."""


def should_degrade(*, trust_level: TrustLevel, restriction_since_return: bool, errors_24h: int) -> str | None:
    """Return the reason code for which a participating chip is degraded, or ``None``.

    Args:
        trust_level: the chip's trust level now.
        restriction_since_return: a restriction was seen since the chip last took part again; an
            older one has been paid for.
        errors_24h: errors of its own channel in the last 24 hours, none of them imported.
    """
    if trust_level is TrustLevel.CRITICO:
        return TRUST_CRITICAL
    if restriction_since_return:
        return RESTRICTION
    if errors_24h >= ERRORS_THAT_DEGRADE:
        return ERRORS_24H
    return None


def may_return(*, last_error_at: datetime | None, at: datetime, connected: bool, trust: int) -> bool:
    """Whether a degraded chip takes part again: 24 h without an error, connected, trust 40 or more."""
    calm = last_error_at is None or at - last_error_at >= RETURN_AFTER
    return calm and connected and trust >= RETURN_TRUST


def returns_to(phase: Phase) -> ChipStatus:
    """Return the status a degraded chip comes back with: ``ready`` in ``operacao``, else ``warming``."""
    return ChipStatus.READY if phase is Phase.OPERACAO else ChipStatus.WARMING


@dataclass(frozen=True, slots=True)
class BrakeSignal:
    """One bad signal about a chip.

    Attributes:
        kind: ``restriction``, ``circuit_opened`` or ``unconfirmed_deliveries``.
        at: when it was seen.
    """

    kind: str
    at: datetime


def brake_until(signals: Iterable[BrakeSignal], policy: Policy) -> datetime | None:
    """Return when brake and hold end: some days after the last signal; ``None`` without a signal.

    The result may lie in the past: ``braked`` compares it with now. However many signals there
    are, the brake applies once and only its end moves.
    """
    last = max((signal.at for signal in signals), default=None)
    return None if last is None else last + timedelta(days=policy.brake.days)


def braked(until: datetime | None, at: datetime) -> bool:
    """Whether brake and hold are on at ``at``, given their end (exclusive)."""
    return until is not None and at < until


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a chip's phase does not move, and until when.

    Attributes:
        reason: the kinds of the signals that brake it, or what it was degraded for.
        until: when it ends by itself at the earliest; ``None`` where nothing can be said.
    """

    reason: str
    until: datetime | None


def hold_of(signals: Iterable[BrakeSignal], policy: Policy, at: datetime) -> Hold | None:
    """Return the hold that a chip's signals put on it at ``at``, naming every signal still in force."""
    days = timedelta(days=policy.brake.days)
    living = sorted((one for one in signals if at < one.at + days), key=lambda one: (one.at, one.kind))
    if not living:
        return None
    return Hold(", ".join(dict.fromkeys(one.kind for one in living)), living[-1].at + days)


def degraded_hold(reason: str | None, last_error_at: datetime | None, since: datetime) -> Hold:
    """Return the hold of a degraded chip: it returns at the earliest 24 h after its last error.

    Args:
        reason: what it was degraded for, where that was kept.
        last_error_at: its last error; ``None`` before any.
        since: when it was degraded; a chip without an error may return at once.
    """
    return Hold(
        f"degraded: {reason or 'no reason kept'}",
        since if last_error_at is None else last_error_at + RETURN_AFTER,
    )


def rest_until(restriction_at: datetime, policy: Policy) -> datetime:
    """Return until when a chip rests that was restricted at ``restriction_at`` (24 h by default)."""
    return restriction_at + timedelta(hours=policy.brake.restriction_rest_hours)


def delivery_signal(confirmed: int, confirmable: int) -> bool:
    """Whether too few of a chip's last messages were confirmed.

    Args:
        confirmed: how many of them were confirmed.
        confirmable: how many were looked at: its last 20 that the gateway could confirm and that
            are older than 60 minutes. Fewer than 20 are no signal.
    """
    return confirmable >= JUDGED_DELIVERIES and confirmed * 100 < _LEAST_CONFIRMED_PERCENT * confirmable
