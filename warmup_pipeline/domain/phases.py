"""Phases: how old a chip is, what it still needs, and when it moves on.

Holds: the age reference, the warming day, eligibility with every criterion explained, transitions.
Add here: another criterion (a line in ``_criteria``, its number in the policy's ``Criteria``, its
proof in ``reachability``). Do not add: the trust formula, degrading, where facts come from.

Source: domain.md, "Metrics, trust, phases" ("Warming day", "To enter a phase", "Phase eligibility"),
"Planning" (``repouso`` lasts 24 h) and root cause 4 (age reference).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Final
from zoneinfo import ZoneInfo

from warmup_pipeline.domain.limits import effective_limits
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.metrics import ChipMetrics
from warmup_pipeline.domain.planning import OPENINGS, most_openings
from warmup_pipeline.domain.policy import Policy
from warmup_pipeline.domain.trust import TrustInputs, trust_score
from warmup_pipeline.domain.values import LISTENER_ROLE, UNAGED_STATUSES, ChipStatus, Phase

WARMING_DAY: Final = "warming_day"
HOURS_SINCE_START: Final = "hours_since_start"
SENT: Final = "sent"
RECEIVED: Final = "received"
RESPONSE_RATE: Final = "response_rate"
TRUST: Final = "trust"
BIDIRECTIONAL: Final = "bidirectional"
ERRORS_24H: Final = "errors_24h"
"""Names of the criteria, as reports show them."""

FORESEEABLE_DAYS: Final = 366
"""A criterion further away than this has no date: no pace holds that long."""

_DAYS_OF_PLAN: Final = 2.0
"""As how many days of a chip's own record its phase's plan counts."""

_PARTNERS: Final = 5
"""Other chips of a pool that plans are foreseen for; the policy's partners a day bound it anyway."""

_ONE_DAY: Final = timedelta(days=1)
_ONE_HOUR: Final = timedelta(hours=1)


def age_reference(
    warming_started_at: datetime | None, phase_started_at: datetime | None, created_at: datetime
) -> datetime:
    """Return since when a chip ages: the start of warming, else of its phase, else its creation."""
    return warming_started_at or phase_started_at or created_at


def warming_day(
    *, status: ChipStatus, role: str, reference: datetime, at: datetime, zone: ZoneInfo
) -> int | None:
    """Return the local calendar days from ``reference`` to ``at``; 0 on the first day.

    ``None`` for listeners and for chips that have not begun (``provisioned``, ``pending``). A
    reference in the future counts as today.

    Raises:
        ValueError: one of the instants has no time zone.
    """
    if role == LISTENER_ROLE or status in UNAGED_STATUSES:
        return None
    return max(0, (local_day(at, zone) - local_day(reference, zone)).days)


@dataclass(frozen=True, slots=True)
class Entered:
    """What a chip had when it entered its phase: what came since is the pace of this phase.

    Attributes:
        sent: sends that counted then.
        received: the same of what it received.
        bidirectional: two-way conversations then.
    """

    sent: int
    received: int
    bidirectional: int


@dataclass(frozen=True, slots=True)
class PhaseFacts:
    """What eligibility looks at.

    Attributes:
        phase: the chip's phase.
        phase_started_at: when it entered that phase, where known.
        warming_day: see :func:`warming_day`.
        age: time since the age reference.
        metrics: the chip's metrics now.
        trust: its trust score now, 0-100.
        entered: what it had when it entered that phase; ``None`` where that is not known (an import).
    """

    phase: Phase
    phase_started_at: datetime | None
    warming_day: int | None
    age: timedelta
    metrics: ChipMetrics
    trust: int
    entered: Entered | None = None


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing a chip needs to enter the next phase.

    Attributes:
        name: ``warming_day`` (``hours_since_start`` for setup), ``sent``, ``received``,
            ``response_rate`` (0-1), ``trust``, ``bidirectional`` or ``errors_24h``.
        value: what the chip has; ``None`` where it has no such value (a listener's warming day).
        needed: what it needs.
        holds: whether it holds now.
        earliest_day: the local day on which it can hold at the chip's own pace; today where it
            holds, ``None`` where no day can be named.
        comparison: ``>=``, or ``<=`` for errors.
    """

    name: str
    value: float | None
    needed: float
    holds: bool
    earliest_day: date | None
    comparison: str = ">="


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Whether a chip may enter its next phase, and what it waits for.

    Attributes:
        current: the chip's phase.
        next: the phase that follows, ``None`` after ``operacao``.
        criteria: all that must hold to enter it.
        eligible: whether all hold (and there is a next phase).
        earliest_day: the local day by which all can hold; ``None`` where no day can be named.
        limited_by: the criterion that takes longest, ``None`` where all hold.
    """

    current: Phase
    next: Phase | None
    criteria: tuple[Criterion, ...]
    eligible: bool
    earliest_day: date | None
    limited_by: str | None


class _Forecast:
    """Earliest days of what one chip lacks.

    Counts go on at the chip's pace in its phase: what it did there per day, beside what the phase plans
    for an ordinary day, which counts as much as two days of its own; so the day after a chip enters a
    faster phase is not judged by the slower one. Where it is not known with what it entered its phase,
    they go on at its average since it started warming; while there is no such average yet, at the most
    its limit allows. The response rate can rise as fast as every further send is answered
    at the planned pace. Trust grows with age, days without an error and conversations, all
    else as it is. These are earliest days, no promises.
    """

    def __init__(self, facts: PhaseFacts, policy: Policy, at: datetime, zone: ZoneInfo) -> None:
        self._facts = facts
        self._policy = policy
        self._at = at
        self._zone = zone
        self.today = local_day(at, zone)
        self._days_so_far = max(facts.age / _ONE_DAY, 1.0)
        self._days_in_phase = 0.0
        if facts.phase_started_at is not None:
            self._days_in_phase = max(0.0, (at - facts.phase_started_at) / _ONE_DAY)

    def after(self, days: float) -> date | None:
        """Return the local day that lies ``days`` (fractions count) from now."""
        if not days <= FORESEEABLE_DAYS:
            return None
        return local_day(self._at + timedelta(days=days), self._zone)

    @cached_property
    def _planned_sends(self) -> int:
        level = self._policy.level_of(self._facts.trust)
        return effective_limits(self._policy, self._facts.phase, level, braked=False).day

    @cached_property
    def _planned_openings(self) -> int:
        sends = self._planned_sends
        turns = self._policy.phases[self._facts.phase].mean_dialogue_turns
        return max(1, sends // turns) if sends else 0

    @cached_property
    def _ordinary_openings(self) -> float:
        """Return how many conversations an ordinary day of the phase opens."""
        plan = self._policy.phases[self._facts.phase]
        most = most_openings(plan, self._planned_sends, _PARTNERS, self._policy.pairs.max_partners_per_day)
        weight = sum(plan.mix.values())
        if not most or not weight:
            return 0.0
        share = sum(plan.mix.get(kind, 0) for kind in OPENINGS) / weight
        trust = self._policy.trust_levels[self._policy.level_of(self._facts.trust)].factor
        return min(float(most), (plan.activities_min + plan.activities_max) / 2 * share * trust)

    @cached_property
    def _ordinary_sends(self) -> float:
        turns = self._policy.phases[self._facts.phase].mean_dialogue_turns
        return min(float(self._planned_sends), self._ordinary_openings * turns)

    def _pace(self, have: int, entered: int | None, ordinary: float, most: int) -> float:
        """Return how much more there is per day."""
        if entered is None:
            return have / self._days_so_far if have else float(most)
        gained = max(0, have - entered)
        return (gained + ordinary * _DAYS_OF_PLAN) / (self._days_in_phase + _DAYS_OF_PLAN)

    def _count(self, have: int, need: float, pace: float) -> date | None:
        return self.after((need - have) / pace) if pace > 0 else None

    def sent(self, need: float) -> date | None:
        """Return when enough is sent."""
        have, entered = self._facts.metrics.sent_total, self._facts.entered
        began = None if entered is None else entered.sent
        return self._count(have, need, self._pace(have, began, self._ordinary_sends, self._planned_sends))

    def received(self, need: float) -> date | None:
        """Return when enough is received; partners are taken to be under the same limits."""
        have, entered = self._facts.metrics.received_total, self._facts.entered
        began = None if entered is None else entered.received
        return self._count(have, need, self._pace(have, began, self._ordinary_sends, self._planned_sends))

    def bidirectional(self, need: float) -> date | None:
        """Return when there are enough two-way conversations."""
        return self._count(self._facts.metrics.bidirectional, need, self._pace_of_conversations)

    @cached_property
    def _pace_of_conversations(self) -> float:
        have, entered = self._facts.metrics.bidirectional, self._facts.entered
        began = None if entered is None else entered.bidirectional
        # It takes part in as many that others open.
        return self._pace(have, began, 2 * self._ordinary_openings, self._planned_openings)

    def response_rate(self, need: float) -> date | None:
        """Return when enough of what is sent is answered, if all of it is from now on."""
        pace = self._planned_sends
        if pace == 0:
            return None
        missing = need * self._facts.metrics.sent_total - self._facts.metrics.received_total
        if missing <= 0:
            return self.after(1 / pace)
        return self.after(missing / (pace * (1 - need))) if need < 1 else None

    def trust(self, need: float) -> date | None:
        """Return the first day on which the score can be high enough, from tomorrow on."""
        if self._trust_in(FORESEEABLE_DAYS) < need:
            return None
        low, high = 1, FORESEEABLE_DAYS
        while low < high:
            middle = (low + high) // 2
            if self._trust_in(middle) >= need:
                high = middle
            else:
                low = middle + 1
        return self.after(low)

    def _trust_in(self, days: int) -> int:
        metrics = self._facts.metrics
        pace = self._pace_of_conversations
        inputs = TrustInputs(
            age_days=self._facts.age / _ONE_DAY + days,
            response_rate=metrics.response_rate,
            delivery_rate=metrics.delivery_rate,
            has_sent=metrics.attempted > 0,
            attempted=metrics.attempted,
            restriction_failures=metrics.restriction_failures,
            media_kinds=len(metrics.media_kinds),
            errors_24h=0,
            bidirectional=metrics.bidirectional + int(pace * days),
            days_without_error=metrics.days_without_error + days,
            phase=self._facts.phase,
        )
        return trust_score(inputs, self._policy).score


def _criteria(
    facts: PhaseFacts, following: Phase, policy: Policy, forecast: _Forecast
) -> Iterator[Criterion]:
    """Give one criterion after the other: whoever only asks whether all hold stops at the first that does not."""
    needed = policy.to_enter[following]
    metrics = facts.metrics
    today = forecast.today

    if following is Phase.SETUP:
        hours = facts.age / _ONE_HOUR
        rested = facts.age >= timedelta(hours=policy.repouso_hours)
        until = today if rested else forecast.after((policy.repouso_hours - hours) / 24)
        yield Criterion(HOURS_SINCE_START, hours, policy.repouso_hours, rested, until)
    if following is not Phase.SETUP or needed.warming_day > 0:
        day = facts.warming_day
        if day is None:
            yield Criterion(WARMING_DAY, None, needed.warming_day, holds=False, earliest_day=None)
        else:
            missing = max(0, needed.warming_day - day)
            until = today + timedelta(days=missing)
            yield Criterion(WARMING_DAY, day, needed.warming_day, missing == 0, until)

    for name, value, need, earliest in (
        (SENT, metrics.sent_total, needed.sent, forecast.sent),
        (RECEIVED, metrics.received_total, needed.received, forecast.received),
        (RESPONSE_RATE, metrics.response_rate, needed.response_rate, forecast.response_rate),
        (TRUST, facts.trust, needed.trust, forecast.trust),
        (BIDIRECTIONAL, metrics.bidirectional, needed.bidirectional, forecast.bidirectional),
    ):
        if need is not None:
            holds = value >= need
            yield Criterion(name, value, need, holds, today if holds else earliest(need))

    few = metrics.errors_24h <= policy.max_errors_24h
    calm = today if few else today + _ONE_DAY
    yield Criterion(ERRORS_24H, metrics.errors_24h, policy.max_errors_24h, few, calm, "<=")


def eligibility(facts: PhaseFacts, policy: Policy, *, at: datetime, zone: ZoneInfo) -> Eligibility:
    """Return each criterion of the chip's next phase, and the earliest day all can hold.

    Raises:
        ValueError: ``at`` has no time zone.
    """
    following = facts.phase.next
    if following is None:
        return Eligibility(facts.phase, None, (), eligible=False, earliest_day=None, limited_by=None)
    forecast = _Forecast(facts, policy, at, zone)
    criteria = tuple(_criteria(facts, following, policy, forecast))
    lacking = [criterion for criterion in criteria if not criterion.holds]
    if not lacking:
        return Eligibility(
            facts.phase, following, criteria, eligible=True, earliest_day=forecast.today, limited_by=None
        )
    slowest = max(lacking, key=lambda criterion: criterion.earliest_day or date.max)
    return Eligibility(
        facts.phase,
        following,
        criteria,
        eligible=False,
        earliest_day=slowest.earliest_day,
        limited_by=slowest.name,
    )


def transition(
    facts: PhaseFacts,
    policy: Policy,
    *,
    at: datetime,
    zone: ZoneInfo,
    participating: bool,
    held: bool,
) -> Phase | None:
    """Return the phase the chip enters now, or ``None``; one phase at a time, never backwards.

    Args:
        facts: the chip's phase, age, metrics and trust.
        policy: whose criteria apply.
        at: the instant of the decision.
        zone: the zone of local days.
        participating: whether the chip takes part (status and role).
        held: whether its phase is held (by the brake, or by an operator).
    """
    following = facts.phase.next
    if not participating or held or following is None:
        return None
    criteria = _criteria(facts, following, policy, _Forecast(facts, policy, at, zone))
    return following if all(criterion.holds for criterion in criteria) else None


def status_after_entering(phase: Phase, status: ChipStatus) -> ChipStatus:
    """Return the status of a chip that just entered ``phase``: ``operacao`` makes it ``ready``."""
    if phase is Phase.OPERACAO and status is ChipStatus.WARMING:
        return ChipStatus.READY
    return status
