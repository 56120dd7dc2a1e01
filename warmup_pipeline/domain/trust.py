"""The trust score: how much exercise a chip has earned.

Holds: the formula, its inputs and its parts. Add here: another part of the score (with its cap).
Do not add: where the inputs come from (``metrics``), what a level allows (policy, ``limits``).

Source: domain.md, "Metrics, trust, phases": a score of 0-100, rounded down and clipped, each part
linear up to its cap. The caps are the formula's own and no policy number; the levels are policy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from warmup_pipeline.domain.policy import Policy
from warmup_pipeline.domain.values import Phase, TrustLevel

BASE: Final = 30.0
PHASE_BONUS: Final[Mapping[Phase, float]] = {
    Phase.REPOUSO: 0.0,
    Phase.SETUP: 1.5,
    Phase.PRIMEIROS_CONTATOS: 3.0,
    Phase.EXPANSAO: 6.0,
    Phase.PRE_OPERACAO: 10.5,
    Phase.TESTE_GRADUACAO: 13.5,
    Phase.OPERACAO: 15.0,
}

_TOLERANCE: Final = 1e-9
"""A sum of thirds and sevenths that is 60 by the rules must not be 59 for its last binary digit."""


@dataclass(frozen=True, slots=True)
class TrustInputs:
    """What the score is made of.

    Attributes:
        age_days: days since the age reference.
        response_rate: received / sent, 0-1.
        delivery_rate: succeeded / attempted, 0-1; ``None`` before the first attempt.
        has_sent: whether the chip ever attempted a send; without one the delivery part is full.
        attempted: attempts that count (neither unknown nor the recipient's fault).
        restriction_failures: attempts that failed as a restriction.
        media_kinds: different kinds of media used (picture, audio).
        errors_24h: errors of the sender's own channel in the last 24 hours.
        bidirectional: bidirectional conversations in all.
        days_without_error: days since the last error.
        phase: the chip's phase.
    """

    age_days: float
    response_rate: float
    delivery_rate: float | None
    has_sent: bool
    attempted: int
    restriction_failures: int
    media_kinds: int
    errors_24h: int
    bidirectional: int
    days_without_error: float
    phase: Phase


@dataclass(frozen=True, slots=True)
class TrustScore:
    """A score, its level, and the points each part gave or took (they explain the score).

    Attributes:
        score: whole points, 0-100.
        level: the policy's level of that score.
        parts: points by part; their sum, clipped and rounded down, is the score.
    """

    score: int
    level: TrustLevel
    parts: Mapping[str, float]


_DAYS_UNTIL_FULL: Final[Mapping[str, tuple[float, float]]] = {"age": (30, 15), "days_without_error": (7, 10)}
"""Parts that grow with time alone: days until they are full, and the points they have then."""

_EARLY_DAYS: Final = 1 / 24
"""How much sooner than computed a change is looked for: binary fractions are no excuse for missing it."""


def _linear(value: float, full_at: float, points: float) -> float:
    """Return ``points`` in proportion to ``value``, from 0 up to all of them at ``full_at``."""
    return points * min(max(value / full_at, 0.0), 1.0)


def trust_score(inputs: TrustInputs, policy: Policy) -> TrustScore:
    """Return the trust score of one chip; it never falls when one thing alone gets better."""
    delivery = 1.0 if inputs.delivery_rate is None or not inputs.has_sent else inputs.delivery_rate
    restricted = inputs.restriction_failures / max(inputs.attempted, 1)
    parts = {
        "base": BASE,
        "age": _linear(inputs.age_days, *_DAYS_UNTIL_FULL["age"]),
        "response_rate": _linear(inputs.response_rate, 0.5, 20),
        "delivery_rate": _linear(delivery, 0.95, 15),
        "restrictions": -_linear(restricted, 0.1, 20),
        "media_kinds": _linear(inputs.media_kinds, 2, 10),
        "errors_24h": -_linear(inputs.errors_24h, 5, 10),
        "bidirectional": _linear(inputs.bidirectional, 20, 15),
        "days_without_error": _linear(inputs.days_without_error, *_DAYS_UNTIL_FULL["days_without_error"]),
        "phase": PHASE_BONUS[inputs.phase],
    }
    score = min(100, max(0, math.floor(math.fsum(parts.values()) + _TOLERANCE)))
    return TrustScore(score=score, level=policy.level_of(score), parts=parts)


def days_until_more(inputs: TrustInputs, score: TrustScore) -> float | None:
    """Return in how many days time alone can raise a score at the earliest; ``None``: never.

    Age and days without an error grow by a day a day, all else as it is; so a score never falls by time.
    It is a bound, a little early: each of both slows down only when it is full.
    """
    a_day = sum(
        points / full_at
        for name, (full_at, points) in _DAYS_UNTIL_FULL.items()
        if (inputs.age_days if name == "age" else inputs.days_without_error) < full_at
    )
    if a_day == 0 or score.score >= 100:
        return None
    missing = score.score + 1 - math.fsum(score.parts.values())
    return max(0.0, missing / a_day - _EARLY_DAYS)
