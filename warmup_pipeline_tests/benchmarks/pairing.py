"""How near the pairs of a cycle come to the optimum, how long they take, and whether anyone is flooded.

Holds: :func:`run`. The floor is an exact maximum-weight matching of the same chips, by a library of
its own that shares nothing with ours. Do not add: thresholds for tests (a benchmark is measured, not
asserted).
"""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import rustworkx

from warmup_pipeline.domain.pair_rules import Candidate, PairHistory, allowed, pair_key, score
from warmup_pipeline.domain.pairing import pair
from warmup_pipeline.domain.values import PHASE_ORDER
from warmup_pipeline_tests.benchmarks.options import AtLeast

TICK: Final = datetime(2026, 3, 2, 13, 0, tzinfo=UTC)
"""10:00 in America/Sao_Paulo on a Monday."""

_AREAS: Final = (11, 12, 13, 21, 22, 31, 41, 51, 71, 81, 91)
_TICKS_A_DAY: Final = 144
"""Five-minute ticks from 08:00 to 20:00."""


@dataclass(frozen=True, slots=True)
class Against:
    """Our pairs beside the optimum's, of one random pool in which every chip has an opening due.

    Attributes:
        chips: how many.
        share: our total score / the optimum's (which has as many pairs).
        pairs_short: pairs that the optimum has more than we.
        worst_pair_behind: how much lower our lowest score is than the optimum's.
        seconds: ours.
        floor_s: the exact matching's.
    """

    chips: int
    share: float
    pairs_short: int
    worst_pair_behind: int
    seconds: float
    floor_s: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What pairing costs and is worth.

    Attributes:
        optimum: one entry per size that the optimum was computed for.
        seconds: median seconds for pools too large for it, by chips.
        received_most_over_mean: openings received by the chip that received most / the mean, over three
            days of chips of one area code.
        received_least_over_mean: the same of the chip that received least.
    """

    optimum: Sequence[Against]
    seconds: dict[int, float]
    received_most_over_mean: float
    received_least_over_mean: float

    def document(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "optimum": [
                {name: getattr(one, name) for name in one.__dataclass_fields__} for one in self.optimum
            ],
            "seconds": {str(chips): taken for chips, taken in self.seconds.items()},
            "received_most_over_mean": self.received_most_over_mean,
            "received_least_over_mean": self.received_least_over_mean,
        }


def run(
    optimum_at: Sequence[int] = (100, 300, 1000),
    large: Sequence[int] = (20_000, 100_000),
    *,
    days: Annotated[int, AtLeast(1)] = 3,
    chips_of_one_area: Annotated[int, AtLeast(4)] = 500,
    rounds: Annotated[int, AtLeast(1)] = 5,
    seed: Annotated[int, AtLeast(0)] = 0,
) -> Measured:
    """Measure pairing.

    Args:
        optimum_at: numbers of chips that the optimum is computed for, too (its time grows with the cube).
        large: numbers of chips that are only timed.
        days: simulated days of the fairness run.
        chips_of_one_area: its chips.
        rounds: how often a large pool is timed.
        seed: what draws come from.
    """
    seconds = {}
    for size in large:
        chips = _chips(size, seed, everyone_due=False)
        taken = []
        for _ in range(rounds):
            before = time.perf_counter()
            pair(chips, tick=TICK)
            taken.append(time.perf_counter() - before)
        seconds[size] = round(statistics.median(taken), 2)
    most, least = _fairness(chips_of_one_area, days, seed)
    return Measured([_against_optimum(size, seed) for size in optimum_at], seconds, most, least)


def _chips(count: int, seed: int, *, everyone_due: bool, areas: Sequence[int] = _AREAS) -> list[Candidate]:
    chance = random.Random(f"{seed}/{count}")
    return [
        Candidate(
            chip_id=f"chip-{number:06d}",
            phone=f"55{chance.choice(areas)}9{number:08d}",
            phase=chance.choice(PHASE_ORDER[1:]),
            trust=chance.randint(20, 95),
            sent_today=chance.randint(0, 9),
            received_today=chance.randint(0, 9),
            has_opening=everyone_due or chance.random() < 0.8,
        )
        for number in range(count)
    ]


def _against_optimum(count: int, seed: int) -> Against:
    chips = _chips(count, seed, everyone_due=True)
    before = time.perf_counter()
    ours = pair(chips, tick=TICK).pairings
    taken = time.perf_counter() - before
    graph = rustworkx.PyGraph(multigraph=False)
    graph.add_nodes_from(range(count))
    graph.add_edges_from(
        [
            (a, b, score(chips[a], chips[b]).total)
            for a, b in itertools.combinations(range(count), 2)
            if allowed(chips[a], chips[b])
        ]
    )
    before = time.perf_counter()
    best = rustworkx.max_weight_matching(graph, max_cardinality=True, weight_fn=int)
    floor = time.perf_counter() - before
    scores = [score(chips[a], chips[b]).total for a, b in best]
    return Against(
        chips=count,
        share=round(sum(p.score for p in ours) / sum(scores), 5),
        pairs_short=len(scores) - len(ours),
        worst_pair_behind=max(0, min(scores) - min(p.score for p in ours)),
        seconds=round(taken, 3),
        floor_s=round(floor, 3),
    )


def _fairness(count: int, days: int, seed: int) -> tuple[float, float]:
    """Pair chips of one area code for some days; returns (most, least) received, over the mean."""
    chance = random.Random(f"{seed}/fair")
    chips = {
        chip.chip_id: replace(chip, sent_today=0, received_today=0)
        for chip in _chips(count, seed, everyone_due=False, areas=(11,))
    }
    received: Counter[str] = Counter()
    opened: dict[frozenset[str], datetime] = {}
    for number in range(days * _TICKS_A_DAY):
        day, slot = divmod(number, _TICKS_A_DAY)
        tick = TICK.replace(hour=11) + timedelta(days=day, minutes=5 * slot)
        if slot == 0:
            chips = {
                i: replace(c, sent_today=0, received_today=0, partners_today=frozenset())
                for i, c in chips.items()
            }
        # About ten openings a day and chip.
        now = [replace(chip, has_opening=chance.random() < 10 / _TICKS_A_DAY) for chip in chips.values()]
        history = PairHistory(
            opened_within_4h={k for k, at in opened.items() if at > tick - timedelta(hours=4)},
            paired_within_24h={k for k, at in opened.items() if at > tick - timedelta(hours=24)},
        )
        for one in pair(now, history, tick=tick).pairings:
            opener, responder = chips[one.opener], chips[one.responder]
            received[one.responder] += 1
            opened[pair_key(one.opener, one.responder)] = tick
            # Each side has two turns of a conversation of four.
            for chip, other in ((opener, responder), (responder, opener)):
                chips[chip.chip_id] = replace(
                    chip,
                    sent_today=chip.sent_today + 2,
                    received_today=chip.received_today + 2,
                    partners_today=chip.partners_today | {other.chip_id},
                )
    mean = sum(received.values()) / count
    return round(max(received.values()) / mean, 2), round(min(received[i] for i in chips) / mean, 2)
