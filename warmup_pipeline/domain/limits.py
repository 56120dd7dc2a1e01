"""How much a chip may send: its phase limit, scaled by trust and brake.

Holds: :class:`Limits` and :func:`effective_limits`. Add here: another factor on limits. Do not add:
the counting of what was sent (the store does), the decision on one send (``presend``).

Source: domain.md, "Pre-send validation" (effective limit) and "Brake and hold".
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Final

from warmup_pipeline.domain.policy import Policy
from warmup_pipeline.domain.values import Phase, TrustLevel

_NO_FACTOR: Final = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Sends a chip may make.

    Attributes:
        hour: in the last 60 minutes, (t − 60 min, t].
        day: in the local calendar day.
    """

    hour: int
    day: int


@lru_cache(maxsize=4096)
def scaled(number: int, *factors: float) -> int:
    """Return ``number`` times ``factors``, rounded down, at least 1 where all are above 0.

    The factors are taken as the decimals they were written as: 10 × 0.8 × 0.75 is 6, whereas the
    binary fractions nearest to them could fall short of it and cost the chip a send.
    """
    if number <= 0 or any(factor <= 0 for factor in factors):
        return 0
    product = Fraction(number)
    for factor in factors:
        product *= Fraction(repr(factor))
    return max(1, int(product))


def effective_limits(policy: Policy, phase: Phase, level: TrustLevel, *, braked: bool) -> Limits:
    """Return the limits of a chip in ``phase`` with trust ``level``; never above the phase's own.

    Args:
        policy: whose phase limits, trust factors and brake factor apply.
        phase: the chip's phase.
        level: the chip's trust level; ``critico`` leaves nothing.
        braked: whether the chip is under the brake now (it applies once, never compounded).
    """
    plan = policy.phases[phase]
    trust = policy.trust_levels[level].factor
    brake = policy.brake.factor if braked else _NO_FACTOR
    return Limits(
        hour=scaled(plan.sends_per_hour, trust, brake),
        day=scaled(plan.sends_per_day, trust, brake),
    )
