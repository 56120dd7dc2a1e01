"""The day's plan of one chip: what it opens and marks, and when.

Holds: :func:`plan_day` and what it returns. Add here: another rule of planning. Do not add: when a
plan is made anew or stored (``warmup``), which types have executors (the registry is passed in, so
a type that nobody can execute cannot be planned: root cause 3), reply turns (conversations).

Source: domain.md, "Planning". A plan is a function of the chip, the day, its phase, its trust level
and the policy, so planning twice changes nothing; the random numbers come from a hash of these.
"""

from __future__ import annotations

import hashlib
import random
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import accumulate
from typing import Final

from warmup_pipeline.domain.limits import effective_limits, scaled
from warmup_pipeline.domain.localtime import window_bounds
from warmup_pipeline.domain.policy import PhasePlan, Policy
from warmup_pipeline.domain.values import CONVERSA_PAR, ENVIAR_MIDIA, Phase, TrustLevel

OPENINGS: Final = frozenset({CONVERSA_PAR, ENVIAR_MIDIA})
"""Activity types that open a conversation, and so cost sends."""

_TRIES: Final = 12
"""Draws of a free minute before the day counts as dense (then it is spread instead)."""

_ONE_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class PlannedItem:
    """One planned opening or marking.

    Attributes:
        type: activity type.
        due_at: when it is due, in UTC, on a whole minute.
    """

    type: str
    due_at: datetime


@dataclass(frozen=True, slots=True)
class DayPlan:
    """What one chip plans for one local day, by due time."""

    chip_id: str
    day: date
    phase: Phase
    trust_level: TrustLevel
    items: tuple[PlannedItem, ...]


@dataclass(frozen=True, slots=True)
class _Minutes:
    """The minutes of one day's window that may hold an activity.

    Attributes:
        due: the instant of each such minute.
        at: its number since the window's opening; ascending, gaps where an hour weighs nothing.
        weight_to: sum of weights up to and including each minute.
    """

    due: tuple[datetime, ...]
    at: tuple[int, ...]
    weight_to: tuple[float, ...]


class _Days:
    """Remembers the minutes of the days planned last; they depend on the policy and the day only."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._minutes = lru_cache(maxsize=8)(self._compute)

    def minutes(self, day: date) -> _Minutes:
        return self._minutes(day)

    def _compute(self, day: date) -> _Minutes:
        weights = self._policy.window.hour_weights
        opens, closes = window_bounds(day, self._policy)
        due: list[datetime] = []
        at: list[int] = []
        each: list[float] = []
        for minute in range(int((closes - opens) / _ONE_MINUTE)):
            instant = opens + minute * _ONE_MINUTE
            # Read from the clock, not counted: a clock change may fall into a window.
            weight = weights.get(instant.astimezone(self._policy.zone).hour, 0.0)
            if weight > 0:
                due.append(instant)
                at.append(minute)
                each.append(weight)
        return _Minutes(tuple(due), tuple(at), tuple(accumulate(each)))


_DAYS: Final[dict[str, _Days]] = {}
_POLICIES_REMEMBERED: Final = 8


def _minutes_of(day: date, policy: Policy) -> _Minutes:
    known = _DAYS.get(policy.fingerprint)
    if known is None:
        if len(_DAYS) >= _POLICIES_REMEMBERED:
            _DAYS.clear()
        known = _DAYS[policy.fingerprint] = _Days(policy)
    return known.minutes(day)


class _Draw:
    """Reproducible draws.

    Only ``Random.random()`` is used: it alone is promised to give the same numbers in every Python.
    """

    def __init__(self, *key: object) -> None:
        text = "\x1f".join(map(str, key))
        digest = hashlib.sha256(text.encode()).digest()
        self.random = random.Random(int.from_bytes(digest[:16])).random  # noqa: S311 - a plan is no secret

    def below(self, bound: int) -> int:
        """Return a whole number in 0 … ``bound`` − 1."""
        return int(self.random() * bound)

    def shuffle(self, items: list[str]) -> None:
        """Put ``items`` in a random order."""
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]


def _apportion(count: int, weights: Mapping[str, int], draw: _Draw) -> dict[str, int]:
    """Return how many of each type make up ``count``: the weights' shares, the rest drawn by weight.

    Whole shares are given out first, so that even a short day has the mix and not only its average.
    """
    total = sum(weights.values())
    shares = {kind: count * weight // total for kind, weight in weights.items()}
    remainders = [(kind, count * weight % total) for kind, weight in weights.items()]
    for _ in range(count - sum(shares.values())):
        mark = draw.random() * sum(remainder for _, remainder in remainders)
        for index, (kind, remainder) in enumerate(remainders):  # noqa: B007 - the last one is kept
            mark -= remainder
            if mark < 0:
                break
        shares[kind] += 1
        remainders[index] = (kind, 0)
    return shares


def most_openings(plan: PhasePlan, day_limit: int, others_in_pool: int, partners_a_day: int) -> int:
    """Return how many openings a day's plan may hold.

    At most max(1, ⌊day limit ÷ mean dialogue length⌋) where the limit is above 0, and at most
    ⌈3·min(partners a day, others)/2⌉.
    """
    if day_limit <= 0:
        return 0
    affordable = max(1, day_limit // plan.mean_dialogue_turns)
    return min(affordable, -(-3 * min(partners_a_day, max(0, others_in_pool)) // 2))


def _types(
    count: int, most: int, plan: PhasePlan, executable: frozenset[str], openings: frozenset[str], draw: _Draw
) -> tuple[list[str], list[str]]:
    """Return the day's openings and its other activities, as types.

    What openings may not take up is left to the others (a marking costs no send), so the day keeps
    its count wherever its mix has any.
    """
    # Sorted: a mapping read back from a file in another order must give the same plan.
    mix = {kind: weight for kind, weight in sorted(plan.mix.items()) if weight and kind in executable}
    opening = {kind: weight for kind, weight in mix.items() if kind in openings}
    other = {kind: weight for kind, weight in mix.items() if kind not in openings}
    groups = {
        name: sum(weights.values()) for name, weights in (("openings", opening), ("others", other)) if weights
    }
    if not groups:
        return [], []
    wanted = _apportion(count, groups, draw).get("openings", 0)
    opened = min(wanted, most)
    chosen: list[list[str]] = []
    for number, weights in ((opened, opening), (count - opened, other)):
        split = _apportion(number, weights, draw) if weights and number else {}
        kinds = [kind for kind, times in split.items() for _ in range(times)]
        draw.shuffle(kinds)
        chosen.append(kinds)
    return chosen[0], chosen[1]


def _most_at_gap(slots: int, gap: int) -> int:
    return (slots - 1) // gap + 1 if slots else 0


def _free_minutes(count: int, gap: int, minutes: _Minutes, draw: _Draw) -> list[int]:
    """Return ``count`` indices into ``minutes``, ascending, at least ``gap`` minutes apart.

    Each is drawn by the hours' weights and drawn again where it is too near another. A day too
    dense for that is spread over the window instead: the gaps are laid out first, and what is left
    of the window is dealt out between them by weight, so that no day is a comb of equal gaps.
    """
    placed: list[int] = []
    top = minutes.weight_to[-1]
    last = len(minutes.at) - 1
    for _ in range(count):
        for _ in range(_TRIES):
            index = min(bisect_right(minutes.weight_to, draw.random() * top), last)
            spot = bisect_left(placed, index)
            before = spot == 0 or minutes.at[index] - minutes.at[placed[spot - 1]] >= gap
            after = spot == len(placed) or minutes.at[placed[spot]] - minutes.at[index] >= gap
            if before and after:
                placed.insert(spot, index)
                break
        else:
            return _spread(count, gap, minutes, draw)
    return placed


def _spread(count: int, gap: int, minutes: _Minutes, draw: _Draw) -> list[int]:
    """Return ``count`` indices at least ``gap`` apart; they always fit (see ``_most_at_gap``)."""
    slots = len(minutes.at)
    slack = slots - (count - 1) * gap
    top = minutes.weight_to[-1]
    starts = sorted(
        min(bisect_right(minutes.weight_to, draw.random() * top), slots - 1) * slack // slots
        for _ in range(count)
    )
    return [start + position * gap for position, start in enumerate(starts)]


def plan_day(
    *,
    chip_id: str,
    day: date,
    phase: Phase,
    trust_level: TrustLevel,
    policy: Policy,
    executable: frozenset[str],
    others_in_pool: int,
    braked: bool = False,
    not_before: datetime | None = None,
    revision: int = 0,
    openings: frozenset[str] = OPENINGS,
) -> DayPlan:
    """Return what a participating chip plans for a local day.

    Args:
        chip_id: the chip; two chips never share their random numbers.
        day: local calendar day.
        phase: its phase, for count, gap and mix.
        trust_level: scales the count and the limits; ``critico`` plans nothing.
        policy: whose numbers apply.
        executable: activity types with a registered executor; no other is planned.
        others_in_pool: other candidates for a conversation; without one nothing is opened.
        braked: whether the brake lowers the chip's limits.
        not_before: for a chip that joins late: what the day's plan had before it is left out.
        revision: how many plans of this day went before (a phase change plans anew); a new one
            draws anew.
        openings: types that open a conversation.

    Raises:
        ValueError: ``not_before`` has no time zone.
    """
    if not_before is not None and not_before.utcoffset() is None:
        raise ValueError("not_before has no time zone; give it one, e.g. UTC")
    plan = policy.phases[phase]
    draw = _Draw(chip_id, day.isoformat(), phase, trust_level, policy.fingerprint, revision)
    drawn = plan.activities_min + draw.below(plan.activities_max - plan.activities_min + 1)
    count = scaled(drawn, policy.trust_levels[trust_level].factor)
    if count == 0:
        return DayPlan(chip_id, day, phase, trust_level, ())

    day_limit = effective_limits(policy, phase, trust_level, braked=braked).day
    most = most_openings(plan, day_limit, others_in_pool, policy.pairs.max_partners_per_day)
    opened, others = _types(count, most, plan, executable, openings, draw)

    minutes = _minutes_of(day, policy)
    gap = plan.minimum_gap_minutes
    # Openings first: where the window is too short for all, markings are what is not planned.
    kinds = (opened + others)[: _most_at_gap(len(minutes.at), gap)]
    if not kinds:
        return DayPlan(chip_id, day, phase, trust_level, ())
    places = _free_minutes(len(kinds), gap, minutes, draw)
    draw.shuffle(kinds)
    items = tuple(
        PlannedItem(kind, due)
        for kind, due in zip(kinds, (minutes.due[place] for place in places), strict=True)
        if not_before is None or due >= not_before
    )
    return DayPlan(chip_id, day, phase, trust_level, items)
