"""The proof that a policy lets a chip reach every phase in time.

Holds: what the phases before a phase make possible at best, the comparison with what entering it
needs, and the calendar of earliest days. Add here: the proof of a new criterion. Do not add: types
and ranges of single numbers (``policy``), forecasts for a real chip (``phases``).

Source: domain.md, "Metrics, trust, phases": loading a policy proves that each phase can be reached:
the sends a criterion needs must fit under the limits of the phases before it, or the load fails
saying which number cannot be met and what would.

The best case that is looked at is a pool whose chips all start together: verde limits, every
message answered, nothing failed, whole days from the entry of a phase up to but not including the
day of the next one. A policy refused here cannot be met by its own days; one that passes can be,
which is no promise that a chip will.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from warmup_pipeline.domain.limits import effective_limits
from warmup_pipeline.domain.planning import OPENINGS, most_openings
from warmup_pipeline.domain.policy import Criteria, PhasePlan, Policy
from warmup_pipeline.domain.trust import TrustInputs, trust_score
from warmup_pipeline.domain.values import ENVIAR_MIDIA, MEDIA_KINDS, PHASE_ORDER, Phase, TrustLevel

_CYCLES_PER_HOUR: Final = 12
"""At most one send per chip per cycle (domain.md, "The cycle")."""

_SECONDS_PER_HOUR: Final = 3600


class UnreachablePolicy(ValueError):
    """A number of the policy cannot be met; the text is one line with field, value and remedy."""


@dataclass(frozen=True, slots=True)
class _Daily:
    """What one day in a phase adds at best.

    Attributes:
        sends: turns sent, and, the partners being under the same limits, received.
        conversations: two-way conversations taken part in: as many opened as joined.
        media: whether media is sent.
        nothing_because: the field for which nothing can be sent, ``None`` where something can.
    """

    sends: int
    conversations: int
    media: bool
    nothing_because: str | None


def _nothing_because(phase: Phase, plan: PhasePlan, policy: Policy) -> str | None:
    if not policy.trust_levels[TrustLevel.VERDE].factor:
        return "trust_levels.verde.factor 0"
    if not plan.sends_per_day:
        return f"phases.{phase}.sends_per_day 0"
    if not plan.sends_per_hour:
        return f"phases.{phase}.sends_per_hour 0"
    if not plan.activities_max:
        return f"phases.{phase}.activities_max 0"
    if not any(plan.mix.get(kind) for kind in OPENINGS):
        return f"phases.{phase}.mix without {' or '.join(sorted(OPENINGS))}"
    return None


def _daily(phase: Phase, policy: Policy) -> _Daily:
    plan = policy.phases[phase]
    nothing_because = _nothing_because(phase, plan, policy)
    if nothing_because is not None:
        return _Daily(0, 0, media=False, nothing_because=nothing_because)

    hours = policy.window.end_hour - policy.window.start_hour
    pause = policy.trust_levels[TrustLevel.VERDE].minimum_gap_seconds
    limits = effective_limits(policy, phase, TrustLevel.VERDE, braked=False)
    sends = min(limits.day, limits.hour * hours, _CYCLES_PER_HOUR * hours)
    if pause:
        sends = min(sends, (hours * _SECONDS_PER_HOUR - 1) // pause + 1)

    weight = sum(plan.mix.values())
    opening_weight = sum(plan.mix.get(kind, 0) for kind in OPENINGS)
    partners = policy.pairs.max_partners_per_day
    planned = min(
        most_openings(plan, limits.day, partners, partners),
        -(-plan.activities_max * opening_weight // weight),
        (hours * 60 - 1) // plan.minimum_gap_minutes + 1,
    )
    conversations = min(2 * planned, sends)
    rest = policy.pairs.hours_between_openings
    if rest:
        conversations = min(conversations, partners * -(-hours // rest))
    return _Daily(sends, conversations, media=bool(plan.mix.get(ENVIAR_MIDIA)), nothing_because=None)


@dataclass(slots=True)
class _Gained:
    """What a chip can have by the day it enters a phase."""

    sends: int = 0
    conversations: int = 0
    media: bool = False


def _days_until(need: int, have: int, per_day: int) -> int | None:
    """Return how many more whole days make ``need`` of ``have``; ``None`` if none do."""
    if not per_day:
        return None
    return -(-(need - have) // per_day)


def _highest_trust(gained: _Gained, day: int, phase: Phase, policy: Policy) -> int:
    inputs = TrustInputs(
        age_days=day,
        response_rate=1.0 if gained.sends else 0.0,
        delivery_rate=1.0,
        has_sent=gained.sends > 0,
        attempted=gained.sends,
        restriction_failures=0,
        media_kinds=len(MEDIA_KINDS) if gained.media else 0,
        errors_24h=0,
        bidirectional=gained.conversations,
        days_without_error=day,
        phase=phase,
    )
    return trust_score(inputs, policy).score


def _refuse_unless_met(
    phase: Phase, criteria: Criteria, gained: _Gained, day: int, daily: _Daily, policy: Policy, idle: str
) -> None:
    """Raise for the first criterion that what is gained by ``day`` cannot meet."""
    field = f"to_enter.{phase}"
    for name, need, have, per_day in (
        ("sent", criteria.sent, gained.sends, daily.sends),
        ("received", criteria.received, gained.sends, daily.sends),
        ("bidirectional", criteria.bidirectional, gained.conversations, daily.conversations),
    ):
        if need > have:
            remedy = f"set it to {have} or less"
            more_days = _days_until(need, have, per_day)
            if more_days is not None:
                remedy += f", or {field}.warming_day to {day + more_days} or more"
            raise UnreachablePolicy(
                f"{field}.{name} {need} cannot be met by warming day {day}: the phases before it allow "
                f"{have} at most{idle}; {remedy}"
            )
    if criteria.response_rate and not gained.sends:
        raise UnreachablePolicy(
            f"{field}.response_rate {criteria.response_rate} cannot be met by warming day {day}: nothing "
            f"can be sent before{idle}; set it to 0"
        )
    if criteria.trust is not None:
        highest = _highest_trust(gained, day, PHASE_ORDER[phase.rank - 1], policy)
        if criteria.trust > highest:
            raise UnreachablePolicy(
                f"{field}.trust {criteria.trust} cannot be met by warming day {day}: the highest score "
                f"possible by then is {highest}{idle}; set it to {highest} or less"
            )


def earliest_days(policy: Policy) -> Mapping[Phase, int]:
    """Return the warming day on which each phase can be entered at best.

    Raises:
        UnreachablePolicy: a phase cannot be entered by its own warming day.
    """
    entered = {Phase.REPOUSO: 0}
    gained = _Gained()
    idle: list[str] = []
    for phase in PHASE_ORDER[1:]:
        before = PHASE_ORDER[phase.rank - 1]
        criteria = policy.to_enter[phase]
        rested = policy.repouso_hours // 24 if phase is Phase.SETUP else 0
        day = max(entered[before], criteria.warming_day, rested)
        days = day - entered[before]
        daily = _daily(before, policy)
        gained.sends += days * daily.sends
        gained.conversations += days * daily.conversations
        gained.media = gained.media or (days > 0 and daily.media)
        if daily.nothing_because is not None and before is not Phase.REPOUSO:
            idle.append(daily.nothing_because)
        because = f" (with {', '.join(idle)} nothing is sent there: raise it)" if idle else ""
        _refuse_unless_met(phase, criteria, gained, day, daily, policy, because)
        entered[phase] = day
    return entered


def prove_reachable(policy: Policy) -> None:
    """Prove that each phase can be entered by its own warming day.

    Raises:
        UnreachablePolicy: a number cannot be met; says which, and what would work.
    """
    earliest_days(policy)
