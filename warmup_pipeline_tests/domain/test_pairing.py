"""Pairing: guards against the broken system's mistakes (nobody pairable, the same few chips flooded)
and against forbidden, doubled, unfair or irreproducible pairs."""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmup_pipeline.domain import pairing as rules
from warmup_pipeline.domain.pair_rules import Candidate, PairHistory, ScoreParts, allowed, pair_key, score
from warmup_pipeline.domain.pairing import EXACT_UP_TO, PairingResult, pair
from warmup_pipeline.domain.phones import REGION_OF
from warmup_pipeline.domain.values import PHASE_ORDER, Phase

TICK = datetime(2026, 2, 20, 11, 0, tzinfo=UTC)
IDS = [f"chip-{number:02d}" for number in range(11)]


def chip(chip_id: str = "a", area: str = "11", **changes) -> Candidate:
    facts = Candidate(
        chip_id=chip_id,
        phone=f"55{area}900000001",
        phase=Phase.EXPANSAO,
        trust=50,
        sent_today=0,
        received_today=0,
        has_opening=True,
    )
    return replace(facts, **changes)


candidates = st.builds(
    chip,
    chip_id=st.sampled_from(IDS),
    area=st.sampled_from(["11", "12", "13", "21", "31", "81"]),
    phase=st.sampled_from(Phase),
    trust=st.integers(0, 100),
    sent_today=st.integers(0, 6),
    received_today=st.integers(0, 6),
    has_opening=st.booleans(),
    partners_today=st.frozensets(st.sampled_from([*IDS, "retired"]), max_size=6),
)
pools = st.lists(candidates, max_size=len(IDS), unique_by=lambda candidate: candidate.chip_id)
chip_pairs = st.sets(
    st.sampled_from([pair_key(a, b) for a, b in itertools.combinations([*IDS, "retired"], 2)]), max_size=12
)
histories = st.builds(
    PairHistory,
    open_between=chip_pairs,
    opened_within_4h=chip_pairs,
    paired_within_24h=chip_pairs,
    resting=chip_pairs,
)


def optimum(one_side: Sequence[Candidate], other_side: Sequence[Candidate] | None, history: PairHistory):
    """Most pairs, then highest total, and its worst pair, from a library's exact matching."""
    graph: nx.Graph[str] = nx.Graph()
    couples = (
        itertools.combinations(one_side, 2) if other_side is None else itertools.product(one_side, other_side)
    )
    for a, b in couples:
        if allowed(a, b, history):
            graph.add_edge(a.chip_id, b.chip_id, weight=score(a, b, history).total)
    scores = [graph.edges[edge]["weight"] for edge in nx.max_weight_matching(graph, maxcardinality=True)]
    return len(scores), sum(scores), min(scores, default=0)


def used(result: PairingResult) -> list[str]:
    return [chip_id for pairing in result.pairings for chip_id in (pairing.opener, pairing.responder)]


def assert_follows_the_rules(result: PairingResult, pool: Sequence[Candidate], history: PairHistory) -> None:
    by_id = {candidate.chip_id: candidate for candidate in pool}
    assert len(used(result)) == len(set(used(result))), "one partner per chip per cycle"
    for pairing in result.pairings:
        opener, responder = by_id[pairing.opener], by_id[pairing.responder]
        assert opener.chip_id != responder.chip_id
        assert allowed(opener, responder, history)
        assert opener.has_opening
        assert pairing.both_due == responder.has_opening
        assert pairing.score == score(opener, responder, history).total == sum(pairing.parts.values())
    due = {candidate.chip_id for candidate in pool if candidate.has_opening}
    assert set(result.unpaired) == due - set(used(result))
    assert len(result.unpaired) == len(set(result.unpaired))


# --- Score ---------------------------------------------------------------------------------------


def test_the_best_pair_has_every_point():
    a = chip("a", sent_today=4, received_today=0)
    b = chip("b", sent_today=0, received_today=4)
    assert score(a, b) == ScoreParts(base=50, place=50, phase=40, trust=20, direction=20, recent=0)
    assert score(a, b).total == 180


def test_the_worst_pair_has_a_negative_total():
    a = chip("a", area="11", phase=Phase.SETUP, trust=0)
    b = chip("b", area="81", phase=Phase.OPERACAO, trust=100)
    history = PairHistory(paired_within_24h={pair_key("a", "b")})
    assert score(a, b, history) == ScoreParts(base=50, place=0, phase=-20, trust=0, direction=0, recent=-50)
    assert score(a, b, history).total == -20


@pytest.mark.parametrize(
    ("one", "other", "points"),
    [
        ("11", "11", 50),
        ("12", "19", 30),
        ("12", "12", 50),
        ("11", "12", 0),
        ("41", "55", 30),
        ("81", "21", 0),
    ],
)
def test_a_shared_area_code_counts_more_than_a_shared_region(one, other, points):
    assert score(chip("a", area=one), chip("b", area=other)).place == points


@pytest.mark.parametrize(("one", "other"), itertools.product(PHASE_ORDER, repeat=2))
def test_phases_are_compatible_when_they_are_the_same_or_neighbours(one, other):
    steps = abs(PHASE_ORDER.index(one) - PHASE_ORDER.index(other))
    assert score(chip("a", phase=one), chip("b", phase=other)).phase == (40 if steps <= 1 else -20)


@pytest.mark.parametrize(
    ("trust", "points"),
    [(50, 20), (60, 20), (40, 20), (61, 10), (39, 10), (70, 10), (30, 10), (71, 0), (29, 0)],
)
def test_trust_counts_within_ten_and_within_twenty_points(trust, points):
    assert score(chip("a", trust=50), chip("b", trust=trust)).trust == points


@pytest.mark.parametrize(
    ("a_counts", "b_counts", "points"),
    [
        ((3, 1), (0, 1), 20),  # 4/2 against 1/2
        ((2, 1), (0, 1), 0),  # 3/2 is not over 1.5
        ((15, 9), (0, 1), 20),  # 16/10
        ((3, 1), (6, 9), 0),  # 7/10 is not under 0.7
        ((3, 1), (68, 99), 20),  # 69/100
        ((3, 1), (0, 0), 0),
        ((3, 1), (9, 1), 0),  # both mostly send
        ((0, 4), (1, 9), 0),  # both mostly receive
    ],
)
def test_a_sender_and_a_receiver_attract_each_other(a_counts, b_counts, points):
    a = chip("a", sent_today=a_counts[0], received_today=a_counts[1])
    b = chip("b", sent_today=b_counts[0], received_today=b_counts[1])
    assert score(a, b).direction == score(b, a).direction == points


def test_a_pair_of_the_last_day_loses_fifty_points():
    history = PairHistory(paired_within_24h={pair_key("b", "a")})
    assert score(chip("a"), chip("b"), history).total == score(chip("a"), chip("b")).total - 50


def test_the_parts_are_named_and_sum_up_to_the_total():
    parts = score(chip("a"), chip("b"))
    assert parts.as_mapping() == {
        "base": 50,
        "place": 50,
        "phase": 40,
        "trust": 20,
        "direction": 0,
        "recent": 0,
    }
    assert sum(parts.as_mapping().values()) == parts.total


@given(candidates, candidates, histories)
def test_the_score_is_symmetric_and_in_its_range(a, b, history):
    assert score(a, b, history) == score(b, a, history)
    assert -20 <= score(a, b, history).total <= 180
    assert score(a, b, history).total % 10 == 0


@given(pools, histories)
def test_judging_many_pairs_at_once_gives_the_points_and_permissions_of_judging_one(pool, history):
    numbers = rules._Pool(pool, history, TICK, 5)
    everyone = np.arange(numbers.size)
    for u, v in itertools.product(range(numbers.size), repeat=2):
        a, b = numbers.chips[u], numbers.chips[v]
        weight = numbers.weight(u, v)
        assert (weight > 0) == allowed(a, b, history)
        many = int(numbers.weights(everyone[u : u + 1], everyone[v : v + 1])[0])
        if weight:
            received = a.received_today + b.received_today
            assert weight == rules._EDGE + score(a, b, history).total * rules._SCORE_UNIT - received
            assert many == weight
        elif not (numbers.full[u] or numbers.full[v]):
            assert many == 0


# --- Permission ----------------------------------------------------------------------------------


def test_a_chip_is_never_allowed_with_itself():
    assert not allowed(chip("a"), chip("a"))


@pytest.mark.parametrize(
    ("fact", "permitted"),
    [("open_between", False), ("opened_within_4h", False), ("resting", False), ("paired_within_24h", True)],
)
def test_open_recent_and_resting_pairs_are_forbidden_but_yesterdays_are_not(fact, permitted):
    history = PairHistory(**{fact: {pair_key("a", "b")}})
    assert allowed(chip("a"), chip("b"), history) is permitted
    assert allowed(chip("b"), chip("a"), history) is permitted
    assert allowed(chip("a"), chip("c"), history)


def test_a_sixth_partner_of_the_day_is_forbidden_and_a_known_one_is_not():
    full = chip("a", partners_today=frozenset({"b", "c", "d", "e", "f"}))
    assert not allowed(full, chip("g"))
    assert not allowed(chip("g"), full)
    assert allowed(full, chip("b"))
    assert allowed(chip("b", partners_today=frozenset({"a"})), full)
    assert allowed(full, chip("g"), max_partners=6)
    assert allowed(chip("a", partners_today=frozenset({"b", "c", "d", "e"})), chip("g"))


def test_a_known_partner_is_refused_when_it_would_be_a_sixth_for_the_other():
    a = chip("a", partners_today=frozenset({"b"}))
    b = chip("b", partners_today=frozenset({"1", "2", "3", "4", "5"}))
    assert not allowed(a, b)


# --- Choice --------------------------------------------------------------------------------------


@given(pools, histories)
def test_no_chip_is_paired_with_itself_or_twice_or_against_a_rule(pool, history):
    assert_follows_the_rules(pair(pool, history, tick=TICK), pool, history)


@given(pools, histories)
def test_chips_with_a_conversation_due_get_the_most_pairs_then_the_highest_total(pool, history):
    result = pair(pool, history, tick=TICK)
    due = [candidate for candidate in pool if candidate.has_opening]
    among_due = [pairing for pairing in result.pairings if pairing.both_due]
    assert (len(among_due), sum(pairing.score for pairing in among_due)) == optimum(due, None, history)[:2]


@given(pools, histories)
def test_chips_left_over_get_the_most_and_best_of_the_others(pool, history):
    result = pair(pool, history, tick=TICK)
    among_due = {chip_id for p in result.pairings if p.both_due for chip_id in (p.opener, p.responder)}
    left = [candidate for candidate in pool if candidate.has_opening and candidate.chip_id not in among_due]
    others = [candidate for candidate in pool if not candidate.has_opening]
    served = [pairing for pairing in result.pairings if not pairing.both_due]
    assert (len(served), sum(pairing.score for pairing in served)) == optimum(left, others, history)[:2]


@given(pools, histories, st.randoms(use_true_random=False))
def test_the_result_does_not_depend_on_the_order_of_the_candidates(pool, history, shuffler):
    shuffled = list(pool)
    shuffler.shuffle(shuffled)
    assert pair(shuffled, history, tick=TICK) == pair(pool, history, tick=TICK)


@given(pools, histories)
def test_the_same_instant_written_in_another_zone_gives_the_same_result(pool, history):
    local = TICK.astimezone(timezone(timedelta(hours=-3)))
    assert pair(pool, history, tick=local) == pair(pool, history, tick=TICK)


def test_somebody_is_better_than_nobody_even_at_a_negative_total():
    a = chip("a", area="11", phase=Phase.SETUP, trust=0)
    b = chip("b", area="81", phase=Phase.OPERACAO, trust=100)
    result = pair([a, b], PairHistory(paired_within_24h={pair_key("a", "b")}), tick=TICK)
    assert [pairing.score for pairing in result.pairings] == [-20]


def test_more_pairs_are_better_than_better_pairs():
    """b and c match best, but that would leave a and d, who know nobody else, alone."""
    a, b, c, d = (
        chip(name, area=area) for name, area in (("a", "81"), ("b", "11"), ("c", "11"), ("d", "21"))
    )
    history = PairHistory(resting={pair_key("a", "c"), pair_key("a", "d"), pair_key("b", "d")})
    result = pair([a, b, c, d], history, tick=TICK)
    assert {pair_key(p.opener, p.responder) for p in result.pairings} == {
        pair_key("a", "b"),
        pair_key("c", "d"),
    }


def test_a_chip_alone_stays_unpaired():
    assert pair([chip("a")], tick=TICK) == PairingResult((), ("a",))


def test_a_pool_with_nothing_due_pairs_nobody():
    assert pair([chip("a", has_opening=False), chip("b", has_opening=False)], tick=TICK) == PairingResult(
        (), ()
    )
    assert pair([], tick=TICK) == PairingResult((), ())


def test_a_pair_both_due_is_one_conversation_and_one_with_a_chip_not_due_is_not_both_due():
    due = pair([chip("a"), chip("b")], tick=TICK).pairings
    assert [p.both_due for p in due] == [True]
    one = pair([chip("a", has_opening=False), chip("b")], tick=TICK).pairings
    assert [(p.opener, p.responder, p.both_due) for p in one] == [("b", "a", False)]


def test_chips_with_a_conversation_due_are_paired_with_each_other_before_better_others():
    pool = [chip("a", area="11"), chip("b", area="81"), chip("c", area="11", has_opening=False)]
    result = pair(pool, tick=TICK)
    assert {pair_key(p.opener, p.responder) for p in result.pairings} == {pair_key("a", "b")}


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_of_two_chips_both_due_the_one_that_sent_less_for_what_it_received_opens(names):
    quiet, busy = names
    pool = [chip(quiet, sent_today=2, received_today=4), chip(busy, sent_today=1, received_today=0)]
    assert [p.opener for p in pair(pool, tick=TICK).pairings] == [quiet]


def test_who_opens_between_equals_changes_with_the_tick():
    openers = {
        pair([chip("a"), chip("b")], tick=TICK + timedelta(minutes=5 * cycle)).pairings[0].opener
        for cycle in range(20)
    }
    assert openers == {"a", "b"}


def test_between_equal_scores_the_one_that_received_least_today_is_chosen():
    others = [
        chip(f"o{received}", has_opening=False, sent_today=received, received_today=received)
        for received in (3, 1, 2)
    ]
    for cycle in range(10):
        result = pair([chip("a"), *others], tick=TICK + timedelta(minutes=5 * cycle))
        assert [p.responder for p in result.pairings] == ["o1"]


def test_points_decide_before_messages_received():
    near = chip("near", has_opening=False, sent_today=900, received_today=900)
    far = chip("far", area="81", has_opening=False)
    assert [p.responder for p in pair([chip("a"), near, far], tick=TICK).pairings] == ["near"]


def test_between_equals_the_tick_decides_who_is_chosen():
    others = [chip(f"o{number}", has_opening=False) for number in range(4)]
    chosen = {
        pair([chip("a"), *others], tick=TICK + timedelta(minutes=5 * cycle)).pairings[0].responder
        for cycle in range(40)
    }
    assert chosen == {"o0", "o1", "o2", "o3"}


def test_a_chip_given_twice_is_refused():
    with pytest.raises(ValueError, match="once"):
        pair([chip("a"), chip("a", trust=10)], tick=TICK)


def test_a_tick_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="zone"):
        pair([chip("a")], tick=TICK.replace(tzinfo=None))


# --- Large pools ---------------------------------------------------------------------------------


def large_pool(size: int, seed: int, *, areas: int = len(REGION_OF), links: int = 2, due: float = 1.0):
    """A seeded pool and history, ``links`` random past pairs per chip."""
    rng = random.Random(seed)
    codes = rng.sample(sorted(REGION_OF), areas)
    ids = [f"chip-{number:05d}" for number in range(size)]
    partners: dict[str, set[str]] = defaultdict(set)
    recent, forbidden = set(), set()
    for one in ids:
        for other in rng.sample(ids, links):
            if one == other:
                continue
            recent.add(pair_key(one, other))
            if rng.random() < 0.5:
                partners[one].add(other)
                partners[other].add(one)
            if rng.random() < 0.3:
                forbidden.add(pair_key(one, other))
    pool = [
        Candidate(
            chip_id=chip_id,
            phone=f"55{rng.choice(codes)}9{number:08d}",
            phase=rng.choice(PHASE_ORDER[1:]),
            trust=rng.randrange(101),
            sent_today=rng.randrange(12),
            received_today=rng.randrange(12),
            has_opening=rng.random() < due,
            partners_today=frozenset(partners[chip_id]),
        )
        for number, chip_id in enumerate(ids)
    ]
    return pool, PairHistory(opened_within_4h=forbidden, paired_within_24h=recent)


LARGE = [
    pytest.param(120, {}, id="whole country"),
    pytest.param(201, {"areas": 6}, id="odd, six area codes"),
    pytest.param(160, {"links": 6}, id="many chips without a new partner to have"),
    pytest.param(150, {"areas": 1, "links": 0}, id="one area code, no history"),
]


@pytest.mark.parametrize(("size", "options"), LARGE)
def test_large_pools_come_within_half_a_percent_of_the_optimum(size, options):
    pool, history = large_pool(size, 7, **options)
    result = pair(pool, history, tick=TICK)
    assert_follows_the_rules(result, pool, history)
    pairs, total, worst = optimum(pool, None, history)
    assert pairs > EXACT_UP_TO // 2
    assert len(result.pairings) == pairs
    assert sum(pairing.score for pairing in result.pairings) >= 0.995 * total
    assert min(pairing.score for pairing in result.pairings) >= worst - 20


def test_many_chips_left_over_are_served_as_well_as_the_optimum_would():
    """Openings between the due chips are all forbidden, so that every one of them is left over."""
    pool, history = large_pool(260, 3, links=2)
    due_ids = [candidate.chip_id for candidate in pool[:80]]
    pool = [replace(candidate, has_opening=number < 80) for number, candidate in enumerate(pool)]
    forbidden = {pair_key(a, b) for a, b in itertools.combinations(due_ids, 2)}
    history = replace(history, resting=forbidden)
    result = pair(pool, history, tick=TICK)
    assert_follows_the_rules(result, pool, history)
    pairs, total, _ = optimum(pool[:80], pool[80:], history)
    assert pairs > EXACT_UP_TO
    assert len(result.pairings) == pairs
    assert sum(pairing.score for pairing in result.pairings) >= 0.995 * total


def test_more_chips_left_over_than_others_use_up_all_the_others():
    pool, _ = large_pool(120, 5, links=0)
    pool = [replace(candidate, has_opening=number < 90) for number, candidate in enumerate(pool)]
    forbidden = {pair_key(a.chip_id, b.chip_id) for a, b in itertools.combinations(pool[:90], 2)}
    result = pair(pool, PairHistory(resting=forbidden), tick=TICK)
    assert_follows_the_rules(result, pool, PairHistory(resting=forbidden))
    assert len(result.pairings) == 30
    assert len(result.unpaired) == 60


@pytest.mark.parametrize("size", [150, 1500])
def test_large_results_do_not_depend_on_the_order_of_the_candidates(size):
    pool, history = large_pool(size, 11, due=0.9)
    shuffled = random.Random(1).sample(pool, len(pool))
    result = pair(pool, history, tick=TICK)
    assert_follows_the_rules(result, pool, history)
    assert pair(shuffled, history, tick=TICK) == result


def test_thousands_of_chips_all_find_somebody_and_mostly_somebody_good():
    pool, history = large_pool(3000, 2, areas=10)
    result = pair(pool, history, tick=TICK)
    assert_follows_the_rules(result, pool, history)
    # A chip that has had its partners of the day may have nobody left whom it may meet again.
    alone = sum(
        not any(allowed(chip, other, history) for other in pool if other is not chip) for chip in pool
    )
    assert len(result.unpaired) == alone + (len(pool) - alone) % 2
    # The optimum is at most every chip's best: 180 with an opposite direction, else 160.
    assert sum(pairing.score for pairing in result.pairings) / len(result.pairings) > 158


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 9), st.integers(1, 67))
def test_no_large_pool_breaks_a_rule_or_misses_a_pair(seed, links, areas):
    pool, history = large_pool(EXACT_UP_TO + 12, seed, areas=areas, links=links, due=0.95)
    result = pair(pool, history, tick=TICK)
    assert_follows_the_rules(result, pool, history)
    due = [candidate for candidate in pool if candidate.has_opening]
    among_due = [pairing for pairing in result.pairings if pairing.both_due]
    assert len(among_due) == optimum(due, None, history)[0]


def test_no_chip_of_one_area_code_is_starved_or_flooded_over_three_days():
    """Every conversation has four turns; due openings come at random, eight a day on average."""
    rng = random.Random(65)
    ids = [f"chip-{number:03d}" for number in range(100)]
    received: Counter[str] = Counter()
    talked: dict[frozenset[str], datetime] = {}
    for day in range(3):
        sent_today, received_today = Counter[str](), Counter[str]()
        partners: dict[str, set[str]] = defaultdict(set)
        for cycle in range(72):
            tick = TICK + timedelta(days=day, minutes=10 * cycle)
            pool = [
                chip(
                    chip_id,
                    trust=40 + number % 30,
                    sent_today=sent_today[chip_id],
                    received_today=received_today[chip_id],
                    has_opening=rng.random() < 8 / 72,
                    partners_today=frozenset(partners[chip_id]),
                )
                for number, chip_id in enumerate(ids)
            ]
            ages = {key: tick - at for key, at in talked.items()}
            history = PairHistory(
                opened_within_4h={key for key, age in ages.items() if age < timedelta(hours=4)},
                paired_within_24h={key for key, age in ages.items() if age < timedelta(hours=24)},
            )
            for pairing in pair(pool, history, tick=tick).pairings:
                talked[pair_key(pairing.opener, pairing.responder)] = tick
                for one, other in itertools.permutations((pairing.opener, pairing.responder)):
                    partners[one].add(other)
                    sent_today[one] += 2
                    received_today[one] += 2
                    received[one] += 2
    mean = sum(received.values()) / len(ids)
    assert mean > 12
    assert max(received.values()) <= 2 * mean
    assert min(received[chip_id] for chip_id in ids) >= mean / 2
