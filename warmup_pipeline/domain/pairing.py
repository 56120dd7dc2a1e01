"""Pairing: which two chips of a pool talk with each other in this cycle.

Holds: the choice of all pairs of one cycle. Do not add: who may be paired and how well two fit
(``domain.pair_rules``; :class:`_Pool` judges many pairs at once by the same rules, and a test holds the two
together), who is a candidate at all (validation and budget; the caller), conversations, how a matching
is found (``domain.matching``).

Source: domain.md, "Pairing".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from warmup_pipeline.domain.matching import (
    FREE,
    ChainSearch,
    Matching,
    augment,
    exact_matching,
    extend_greedily,
)
from warmup_pipeline.domain.pair_rules import (
    BASE_POINTS,
    COMPATIBLE_PHASE_POINTS,
    FAIR_TRUST,
    FAIR_TRUST_POINTS,
    INCOMPATIBLE_PHASE_POINTS,
    MAX_PARTNERS_PER_DAY,
    MOSTLY_RECEIVES,
    MOSTLY_SENDS,
    NEAR_TRUST,
    NEAR_TRUST_POINTS,
    NO_HISTORY,
    OPPOSITE_DIRECTION_POINTS,
    RECENT_POINTS,
    SAME_AREA_POINTS,
    SAME_REGION_POINTS,
    Candidate,
    PairHistory,
    direction_of,
    score,
)
from warmup_pipeline.domain.phones import area_code, region

EXACT_UP_TO: Final = 60
"""Chips to be matched up to which the optimum itself is found (0.07 s; the time grows with the cube)."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """Two chips that are to open one conversation now."""

    opener: str
    """Chip id of the one that sends the first turn; it always has an opening due."""
    responder: str
    score: int
    parts: Mapping[str, int]
    both_due: bool
    """Both had an opening due: one conversation serves both activities."""


@dataclass(frozen=True, slots=True)
class PairingResult:
    """The pairs of one cycle, in the order of the opener's chip id, and who found nobody."""

    pairings: tuple[Pairing, ...]
    unpaired: tuple[str, ...]
    """Chip ids with an opening due and no partner, in order (deferred with ``no_partner``)."""


def pair(
    candidates: Sequence[Candidate],
    history: PairHistory = NO_HISTORY,
    *,
    tick: datetime,
    max_partners: int = MAX_PARTNERS_PER_DAY,
) -> PairingResult:
    """Choose the pairs of one cycle.

    Chips with an opening due are matched with each other first: the most pairs, then the highest total
    score. Each one left over then gets the best other candidate that is still unused (as many as
    possible served, then the highest total). Between equal scores those who received least today come
    first; what is still equal is decided by a digest of chip id and tick. The order of ``candidates``
    does not matter. When both have an opening due, the one that sent less today in proportion to what
    it received opens; but one whose opening is a picture or an audio note sends it itself.

    Up to :data:`EXACT_UP_TO` chips the result is the optimum; beyond, it is found in near-linear time
    and comes within 0.5 % of it (``warmup_pipeline_tests.benchmarks.pairing``).

    Args:
        candidates: chips of one pool, each once.
        history: what is known about pairs at the tick.
        tick: the cycle's logical time, with a zone.
        max_partners: distinct partners per chip and local day.

    Raises:
        ValueError: a chip comes twice, or the tick has no zone.
    """
    if tick.tzinfo is None:
        raise ValueError("a tick has a time zone")
    if len({chip.chip_id for chip in candidates}) != len(candidates):
        raise ValueError("each chip is a candidate once")
    if not any(chip.has_opening for chip in candidates):
        return PairingResult((), ())
    pool = _Pool(candidates, history, tick, max_partners)
    due = [v for v, chip in enumerate(pool.chips) if chip.has_opening]
    others = [v for v, chip in enumerate(pool.chips) if not chip.has_opening]
    mate = _match_within(pool, due)
    left = [v for v in due if mate[v] == FREE]
    if left and others:
        for v, other in enumerate(_match_across(pool, left, others)):
            if other != FREE:
                mate[v] = other
    pairings = [
        _pairing(pool, v, mate[v], history)
        for v in due
        if mate[v] != FREE and (v < mate[v] or not pool.chips[mate[v]].has_opening)
    ]
    return PairingResult(
        tuple(sorted(pairings, key=lambda pairing: pairing.opener)),
        tuple(sorted(pool.chips[v].chip_id for v in due if mate[v] == FREE)),
    )


def _pairing(pool: _Pool, first: int, second: int, history: PairHistory) -> Pairing:
    """Say who opens. Vertices are numbered by digest of chip id and tick, so a tie goes to the lower one."""
    a, b = pool.chips[first], pool.chips[second]
    if b.has_opening and a.opens_with_media is not b.opens_with_media:
        if b.opens_with_media:
            a, b = b, a
    elif b.has_opening:
        a_sends, b_sends = (
            (a.sent_today + 1) * (b.received_today + 1),
            (b.sent_today + 1) * (a.received_today + 1),
        )
        if (b_sends, second) < (a_sends, first):
            a, b = b, a
    parts = score(a, b, history)
    return Pairing(
        a.chip_id, b.chip_id, parts.total, parts.as_mapping(), both_due=a.has_opening and b.has_opening
    )


# --- The pool as numbers -------------------------------------------------------------------------

_Ints: TypeAlias = NDArray[np.int64]

_SCORE_UNIT: Final = 1 << 12
"""What one point weighs against messages received today, so that points always decide first: points
differ by ten at least, and :data:`_MOST_RECEIVED` times the few chips of one exchange stays below that."""
_MOST_RECEIVED: Final = 1_000
_EDGE: Final = 1 << 30
"""What one more pair weighs, against any difference in points: the most pairs come first."""
_FORBIDDEN: Final = 1
"""Marks a pair of the history as forbidden; anything else there is its points."""


class _Pool:
    """The candidates as arrays of integers, and the weight of one pair or of many.

    Vertices are numbered by a digest of chip id and tick: an order that does not depend on the
    caller's, and differs from cycle to cycle, so that no chip is always the first to be served.
    """

    def __init__(
        self, candidates: Iterable[Candidate], history: PairHistory, tick: datetime, max_partners: int
    ) -> None:
        salt = tick.astimezone(UTC).isoformat().encode()[:64]
        self.chips = sorted(
            candidates,
            key=lambda chip: (blake2b(chip.chip_id.encode(), digest_size=8, key=salt).digest(), chip.chip_id),
        )
        chips = self.chips
        self.size = len(chips)
        number = {chip.chip_id: v for v, chip in enumerate(chips)}
        regions: dict[str, int] = {}
        self._area = [int(area_code(chip.phone)) for chip in chips]
        self._region = [regions.setdefault(region(chip.phone), len(regions)) for chip in chips]
        self._rank = [chip.phase.rank for chip in chips]
        self._trust = [chip.trust for chip in chips]
        self._direction = [direction_of(chip) for chip in chips]
        self._received = [min(chip.received_today, _MOST_RECEIVED) for chip in chips]
        self.area, self.region, self.rank, self.trust, self.direction, self.received = (
            np.array(column, dtype=np.int64)
            for column in (
                self._area, self._region, self._rank, self._trust, self._direction, self._received,
            )
        )  # fmt: skip
        self.full_partners: dict[int, frozenset[int]] = {
            v: frozenset(number[other] for other in chip.partners_today if other in number)
            for v, chip in enumerate(chips)
            if len(chip.partners_today) >= max_partners
        }
        """Of each chip that may have no new partner today, the candidates that are no new ones."""
        self.full = np.zeros(self.size, dtype=bool)
        self.full[list(self.full_partners)] = True
        self._marks = self._known_pairs(history, number)
        keys = sorted(self._marks)
        self._mark_keys = np.array(keys, dtype=np.int64)
        self._mark_values = np.array([self._marks[key] for key in keys], dtype=np.int64)

    def _known_pairs(self, history: PairHistory, number: Mapping[str, int]) -> dict[int, int]:
        """Points, or :data:`_FORBIDDEN`, of each pair the history names, by ``lower * size + higher``."""
        marks: dict[int, int] = {}
        for pairs, mark in (
            (history.paired_within_24h, RECENT_POINTS),
            (history.open_between, _FORBIDDEN),
            (history.opened_within_4h, _FORBIDDEN),
            (history.resting, _FORBIDDEN),
        ):
            for key in pairs:
                ends = [number[chip_id] for chip_id in key if chip_id in number]
                if len(ends) == 2:
                    marks[min(ends) * self.size + max(ends)] = mark
        return marks

    def weight(self, u: int, v: int) -> int:
        """Weight of the pair for the matching, 0 where it is not allowed.

        One pair more outweighs all points, points outweigh what the two received today.
        """
        full = self.full_partners
        if full and ((u in full and v not in full[u]) or (v in full and u not in full[v])):
            return 0
        mark = self._marks.get(u * self.size + v if u < v else v * self.size + u, 0)
        if mark == _FORBIDDEN or u == v:
            return 0
        points = BASE_POINTS + mark
        if self._area[u] == self._area[v]:
            points += SAME_AREA_POINTS
        elif self._region[u] == self._region[v]:
            points += SAME_REGION_POINTS
        points += (
            COMPATIBLE_PHASE_POINTS if -1 <= self._rank[u] - self._rank[v] <= 1 else INCOMPATIBLE_PHASE_POINTS
        )
        distance = abs(self._trust[u] - self._trust[v])
        if distance <= NEAR_TRUST:
            points += NEAR_TRUST_POINTS
        elif distance <= FAIR_TRUST:
            points += FAIR_TRUST_POINTS
        # The two classes that attract each other are 1 and 2; their product is 2 only for them.
        if self._direction[u] * self._direction[v] == MOSTLY_SENDS * MOSTLY_RECEIVES:
            points += OPPOSITE_DIRECTION_POINTS
        return _EDGE + points * _SCORE_UNIT - self._received[u] - self._received[v]

    def weights(self, u: _Ints, v: _Ints) -> _Ints:
        """:meth:`weight` of many pairs; leaves out the rule on full chips, which are listed apart."""
        points = np.full(u.shape, BASE_POINTS, dtype=np.int64)
        points += np.where(
            self.area[u] == self.area[v],
            SAME_AREA_POINTS,
            np.where(self.region[u] == self.region[v], SAME_REGION_POINTS, 0),
        )
        points += np.where(
            np.abs(self.rank[u] - self.rank[v]) <= 1, COMPATIBLE_PHASE_POINTS, INCOMPATIBLE_PHASE_POINTS
        )
        distance = np.abs(self.trust[u] - self.trust[v])
        points += np.where(
            distance <= NEAR_TRUST, NEAR_TRUST_POINTS, np.where(distance <= FAIR_TRUST, FAIR_TRUST_POINTS, 0)
        )
        points += np.where(
            self.direction[u] * self.direction[v] == MOSTLY_SENDS * MOSTLY_RECEIVES,
            OPPOSITE_DIRECTION_POINTS,
            0,
        )
        forbidden = u == v
        if self._mark_keys.size:
            keys = np.minimum(u, v) * self.size + np.maximum(u, v)
            at = np.minimum(np.searchsorted(self._mark_keys, keys), self._mark_keys.size - 1)
            marks = np.where(self._mark_keys[at] == keys, self._mark_values[at], 0)
            forbidden |= marks == _FORBIDDEN
            points += marks
        weight = _EDGE + points * _SCORE_UNIT - self.received[u] - self.received[v]
        weight[forbidden] = 0
        return weight


# --- Exact choice, for few chips -----------------------------------------------------------------

_LOOK_AT_PAIRS_UP_TO: Final = 200_000
"""Pairs between chips left over and others up to which each is judged (0.2 s)."""


def _exact(pool: _Pool, edges: Iterable[tuple[int, int, int]], chips: int) -> Matching:
    """The optimum over ``(u, v, weight)``, its ties decided by the two chips' numbers.

    The weight is split again, so that the sum of what was received can never outweigh a point,
    however many pairs there are.
    """
    digest = 1 << 10
    second = digest * chips
    first = second * (2 * _MOST_RECEIVED + 1) * chips
    split = []
    for u, v, weight in edges:
        if weight:
            received = int(pool.received[u] + pool.received[v])
            points = (weight - _EDGE + received) // _SCORE_UNIT
            mixed = ((u + 1) * (v + 1) * 0x9E3779B1 >> 7) % digest
            split.append((u, v, points * first + (2 * _MOST_RECEIVED - received) * second + mixed))
    return exact_matching(pool.size, split)


def _match_within(pool: _Pool, due: list[int]) -> Matching:
    """Match the chips with an opening due with each other."""
    if len(due) <= EXACT_UP_TO:
        edges = ((u, v, pool.weight(u, v)) for u, v in itertools.combinations(due, 2))
        return _exact(pool, edges, len(due))
    return _NearlyOptimal(pool, due, due).matching()


def _match_across(pool: _Pool, left: list[int], others: list[int]) -> Matching:
    """Serve the chips left over with candidates that have no opening due."""
    if len(left) > EXACT_UP_TO or len(left) * len(others) > _LOOK_AT_PAIRS_UP_TO:
        return _NearlyOptimal(pool, left, others).matching()
    # Of any one chip only its best len(left) others can matter: the rest cannot take all of them.
    edges = [
        (u, v, weight)
        for u in left
        for weight, v in sorted(
            ((pool.weight(u, v), v) for v in others), key=lambda option: (-option[0], option[1])
        )[: len(left)]
    ]
    return _exact(pool, edges, len(left) * 2)


# --- Nearly optimal choice, for many -------------------------------------------------------------

_LOOK_AT_ALL_UP_TO: Final = 1_200
"""Targets up to which every one is looked at; beyond, only those near a chip's place in sorted lists."""
_KEPT_OF_FEW: Final = 32
_KEPT_OF_MANY: Final = 16
"""Neighbours kept per chip."""
_REACH: Final = 2
"""Neighbours looked at on either side of a chip's place in each sorted list."""
_ROUNDS: Final = 8
"""How often chips still free get new lists among themselves."""
_SLICE: Final = 8_192
"""Chips whose neighbours are found at once (fewer where every target is looked at): bounds the memory."""
_MOST_EFFORT: Final = 240
_ALL_EFFORT: Final = 80_000
"""Chain steps per chip, and in a whole pool: many chips get less each, and need less, as they have choice."""
_BLOSSOM_STEPS: Final = 64
"""Edges per chip the search for more pairs may look at."""
_POLISH_UP_TO: Final = 1_000
_POLISH_KEPT: Final = 4
"""Chips up to which the result is polished by an exact matching over this many neighbours of each
(1,000 chips: 0.6 s)."""


class _NearlyOptimal:
    """A matching between ``sources`` and ``targets`` (the same chips, or disjoint ones).

    1. Each source gets a short list of good neighbours (:class:`_NeighbourFinder`). Chips that may have
       no new partner today are listed with the few they may have.
    2. Edges are taken greedily, best first; chips still free get new lists among themselves.
    3. Chains of exchanges raise the total.
    4. Augmenting paths give a partner to chips still free, where there is one.
    5. Where the chips are few enough, an exact matching over the shortest lists and the pairs found.
    """

    def __init__(self, pool: _Pool, sources: list[int], targets: list[int]) -> None:
        self._pool = pool
        self._sources = np.array(sources, dtype=np.int64)
        self._targets = np.array(targets, dtype=np.int64)
        self._inside = sources == targets
        self._is_source, self._is_target = bytearray(pool.size), bytearray(pool.size)
        for v in sources:
            self._is_source[v] = 1
        for v in targets:
            self._is_target[v] = 1
        self._kept = _KEPT_OF_FEW if len(targets) <= _LOOK_AT_ALL_UP_TO else _KEPT_OF_MANY
        self._mate: Matching = [FREE] * pool.size
        self._near: list[list[int]] = [[] for _ in range(pool.size)]
        self._near_weights: list[list[int]] = [[] for _ in range(pool.size)]
        self._new_edges: list[tuple[_Ints, _Ints, _Ints]] = []

    def matching(self) -> Matching:
        """Run the five steps."""
        self._list_partners_of_full_chips()
        self._list_neighbours(self._sources, self._targets)
        self._take_new_edges()
        for _ in range(_ROUNDS):
            sources = self._open_to_all(self._free(self._sources))
            targets = sources if self._inside else self._open_to_all(self._free(self._targets))
            self._list_neighbours(sources, targets)
            if not self._take_new_edges():
                break
        self._improve(self._sources.tolist())
        self._complete()
        if self._sources.size <= _POLISH_UP_TO:
            self._polish()
        return self._mate

    def _free(self, chips: _Ints) -> _Ints:
        free: _Ints = chips[np.array(self._mate, dtype=np.int64)[chips] == FREE]
        return free

    def _open_to_all(self, chips: _Ints) -> _Ints:
        return chips[~self._pool.full[chips]]

    def _list_partners_of_full_chips(self) -> None:
        """List the edges of chips that may have no new partner today: few, and in no other list."""
        edges = set()
        for u, partners in self._pool.full_partners.items():
            for v in partners:
                weight = self._pool.weight(u, v)
                if weight and self._is_source[u] and self._is_target[v]:
                    edges.add((-weight, u, v))
                if weight and self._is_source[v] and self._is_target[u]:
                    edges.add((-weight, v, u))
        for loss, u, v in sorted(edges):
            self._near[u].append(v)
            self._near_weights[u].append(-loss)
        if edges:
            losses, sources, targets = np.array(sorted(edges), dtype=np.int64).T
            self._new_edges.append((-losses, sources, targets))

    def _list_neighbours(self, sources: _Ints, targets: _Ints) -> None:
        """Add good neighbours among ``targets`` to the lists of ``sources``, best first."""
        sources, targets = self._open_to_all(sources), self._open_to_all(targets)
        if sources.size == 0 or targets.size == 0:
            return
        finder = _NeighbourFinder(self._pool, targets, self._kept)
        for start in range(0, sources.size, finder.slice):
            block = sources[start : start + finder.slice]
            weights, found = finder.best(block)
            for u, row, names in zip(block.tolist(), weights.tolist(), found.tolist(), strict=True):
                while row and not row[-1]:
                    row.pop()
                    names.pop()
                if self._near[u]:
                    known = dict(zip(self._near[u] + names, self._near_weights[u] + row, strict=True))
                    names = sorted(known, key=known.__getitem__, reverse=True)
                    row = [known[v] for v in names]
                self._near[u], self._near_weights[u] = names, row
            real = weights.ravel() > 0
            self._new_edges.append(
                (weights.ravel()[real], np.repeat(block, weights.shape[1])[real], found.ravel()[real])
            )

    def _take_new_edges(self) -> int:
        """Take the edges listed last, best first, where both chips are free; return how many were."""
        if not self._new_edges:
            return 0
        weights, sources, targets = (np.concatenate(column) for column in zip(*self._new_edges, strict=True))
        self._new_edges.clear()
        order = np.argsort(-weights, kind="stable")
        return extend_greedily(self._mate, zip(sources[order].tolist(), targets[order].tolist(), strict=True))

    def _improve(self, starts: list[int]) -> None:
        # A gain below half of ten points could only be one in messages received.
        ChainSearch(
            self._mate,
            self._near,
            self._near_weights,
            self._pool.weight,
            least_gain=5 * _SCORE_UNIT,
            effort=min(_MOST_EFFORT, _ALL_EFFORT // self._sources.size),
        ).run(starts)

    def _complete(self) -> None:
        """Reach the most pairs: augmenting paths, then chains from what they changed."""
        free = self._free(self._sources)
        if free.size < (2 if self._inside else 1):
            return
        if self._inside:
            # A free chip may take a matched one; list those that would set free as each other's neighbours.
            freed = {self._mate[v] for u in free.tolist() for v in self._near[u]} | set(free.tolist())
            heads = np.array(sorted(freed - {FREE}), dtype=np.int64)
            self._list_neighbours(heads, heads)
            self._new_edges.clear()
        adjacency: list[list[int]] = [[] for _ in range(self._pool.size)]
        for u in self._sources.tolist():
            for v in self._near[u]:
                adjacency[u].append(v)
                adjacency[v].append(u)
        changed = augment(self._mate, adjacency, budget=_BLOSSOM_STEPS * self._pool.size)
        self._improve(sorted(v for v in {*changed, *free.tolist()} if self._is_source[v]))

    def _polish(self) -> None:
        """Solve exactly over few edges, the present pairs among them: no worse, mostly better."""
        edges: dict[tuple[int, int], int] = {}
        for u in self._sources.tolist():
            kept = len(self._near[u]) if self._pool.full[u] else _POLISH_KEPT
            for v, weight in zip(self._near[u][:kept], self._near_weights[u], strict=False):
                edges[min(u, v), max(u, v)] = weight
            v = self._mate[u]
            if v != FREE:
                edges[min(u, v), max(u, v)] = self._pool.weight(u, v)
        self._mate = exact_matching(self._pool.size, ((u, v, weight) for (u, v), weight in edges.items()))


class _NeighbourFinder:
    """Finds good neighbours of chips among ``targets`` without looking at every pair.

    The targets stand in lists sorted by (area code, phase, trust), (region, phase, trust) and (phase,
    trust), once all of them and once those of each direction. A chip looks around its own place, for its
    own phase and both neighbouring ones: all that score well are near. Few targets are all looked at.
    """

    _PHASE_STEP: Final = 1 << 10
    """Room for a trust score below each phase."""
    _PLACE_STEP: Final = _PHASE_STEP << 4
    """Room for every phase below each place."""

    def __init__(self, pool: _Pool, targets: _Ints, kept: int) -> None:
        self._pool = pool
        self._targets = targets
        self._kept = kept
        self._all = targets.size <= _LOOK_AT_ALL_UP_TO
        self.slice = 1_024 if self._all else _SLICE
        """How many chips to ask for at once."""
        if self._all:
            return
        self._places = (pool.area, pool.region, np.zeros(pool.size, dtype=np.int64))
        self._lists: list[tuple[int | None, int, _Ints, _Ints, _Ints]] = []
        """Direction of the chips that look here (``None``: all), kind of place, keys, how many follow
        with the same key, chips."""
        for looking, listed in (
            (None, None),
            (MOSTLY_SENDS, MOSTLY_RECEIVES),
            (MOSTLY_RECEIVES, MOSTLY_SENDS),
        ):
            members = targets if listed is None else targets[pool.direction[targets] == listed]
            if members.size == 0:
                continue
            for kind in range(len(self._places)):
                keys = self._key(members, kind)
                order = np.argsort(keys, kind="stable")
                keys = keys[order]
                equal = np.searchsorted(keys, keys, side="right") - np.arange(keys.size)
                self._lists.append((looking, kind, keys, equal, members[order]))

    def _key(self, chips: _Ints, kind: int) -> _Ints:
        pool = self._pool
        # One phase is left free at the bottom, for the one before the first.
        return (
            self._places[kind][chips] * self._PLACE_STEP
            + (pool.rank[chips] + 1) * self._PHASE_STEP
            + pool.trust[chips]
        )

    def best(self, chips: _Ints) -> tuple[_Ints, _Ints]:
        """Weights and vertices of the best neighbours found, one row per chip, best first, 0 where none."""
        size = self._pool.size
        found = (
            np.broadcast_to(self._targets, (chips.size, self._targets.size))
            if self._all
            else self._around(chips)
        )
        own = np.broadcast_to(chips[:, None], found.shape)
        weight = self._pool.weights(own, found)
        # One number per neighbour that sorts by weight, then by distance from the chip's own number, so
        # that chips with equal choices do not all make the same one.
        ranked = np.sort(size - 1 - (found - own) % size + weight * size, axis=1)[:, ::-1]
        if not self._all:
            ranked[:, 1:][ranked[:, 1:] == ranked[:, :-1]] = 0
            ranked = np.sort(ranked, axis=1)[:, ::-1]
        ranked = ranked[:, : self._kept]
        return ranked // size, (size - 1 - ranked % size + own[:, :1]) % size

    def _around(self, chips: _Ints) -> _Ints:
        """Targets near each chip's place in every list, one row per chip; itself where there are none."""
        direction = self._pool.direction[chips]
        columns: list[_Ints] = []
        for looking, kind, keys, equal, members in self._lists:
            at = slice(None) if looking is None else np.flatnonzero(direction == looking)
            lookers = chips[at]
            own_key = self._key(lookers, kind)
            for shift in (-self._PHASE_STEP, 0, self._PHASE_STEP):
                left = np.minimum(np.searchsorted(keys, own_key + shift), keys.size - 1)
                # Chips with the same key would all look at the same few: spread them over their equals.
                middle = left + np.where(keys[left] == own_key + shift, lookers % equal[left], 0)
                for step in range(-_REACH, _REACH + 1):
                    column = chips.copy()
                    column[at] = members[np.clip(middle + step, 0, members.size - 1)]
                    columns.append(column)
        return np.stack(columns, axis=1)
