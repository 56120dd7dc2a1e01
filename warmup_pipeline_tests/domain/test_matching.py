"""Matchings of numbered vertices: guards against a pair lost, a vertex used twice, a total that shrinks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.domain.matching import (
    FREE,
    ChainSearch,
    Matching,
    augment,
    exact_matching,
    extend_greedily,
)

Edges = Mapping[tuple[int, int], int]

SIZE = 9
graphs = st.dictionaries(
    st.sampled_from(list(itertools.combinations(range(SIZE), 2))), st.integers(1, 60), max_size=30
)


def adjacency_of(edges: Edges, size: int = SIZE) -> list[list[int]]:
    """Neighbours, the heaviest first."""
    near: list[list[tuple[int, int]]] = [[] for _ in range(size)]
    for (u, v), weight in edges.items():
        near[u].append((-weight, v))
        near[v].append((-weight, u))
    return [[v for _, v in sorted(row)] for row in near]


def weight_in(edges: Edges):
    return lambda u, v: edges.get((min(u, v), max(u, v)), 0)


def search(mate: Matching, edges: Edges, **options: int) -> ChainSearch:
    near, weight = adjacency_of(edges, len(mate)), weight_in(edges)
    return ChainSearch(
        mate, near, [[weight(u, v) for v in row] for u, row in enumerate(near)], weight, **options
    )


def pairs_of(mate: Matching) -> list[tuple[int, int]]:
    return [(u, v) for u, v in enumerate(mate) if u < v]


def total(mate: Matching, edges: Edges) -> int:
    return sum(edges[pair] for pair in pairs_of(mate))


def assert_is_matching(mate: Matching, edges: Edges) -> None:
    for u, v in enumerate(mate):
        if v != FREE:
            assert mate[v] == u
            assert (min(u, v), max(u, v)) in edges


def best_by_brute_force(edges: Edges) -> tuple[int, int]:
    """Most pairs, then highest total, over every matching."""

    def best(rest: frozenset[int]) -> tuple[int, int]:
        if not rest:
            return (0, 0)
        u = min(rest)
        options = [best(rest - {u})]
        for v in rest - {u}:
            if (u, v) in edges:
                pairs, points = best(rest - {u, v})
                options.append((pairs + 1, points + edges[u, v]))
        return max(options)

    return best(frozenset(range(7)))


@given(
    st.dictionaries(
        st.sampled_from(list(itertools.combinations(range(7), 2))), st.integers(-60, 60), max_size=21
    )
)
def test_the_exact_matching_has_the_most_pairs_and_then_the_highest_total(edges):
    mate = exact_matching(7, ((u, v, weight) for (u, v), weight in edges.items()))
    assert_is_matching(mate, edges)
    assert (len(pairs_of(mate)), total(mate, edges)) == best_by_brute_force(edges)


@given(graphs, st.randoms(use_true_random=False))
def test_the_exact_matching_does_not_depend_on_the_order_of_edges(edges, shuffler):
    listed = [(u, v, weight) for (u, v), weight in edges.items()]
    turned = [(v, u, weight) for u, v, weight in listed]
    shuffler.shuffle(turned)
    assert exact_matching(SIZE, listed) == exact_matching(SIZE, turned)


@given(st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1)), max_size=40))
def test_the_greedy_matching_leaves_no_listed_edge_between_two_free_vertices(listed):
    mate = [FREE] * SIZE
    added = extend_greedily(mate, listed)
    assert added == len(pairs_of(mate))
    assert all(mate[mate[v]] == v for v in range(SIZE) if mate[v] != FREE)
    assert not [(u, v) for u, v in listed if u != v and mate[u] == FREE and mate[v] == FREE]


def test_the_greedy_matching_takes_edges_in_the_order_given():
    mate = [FREE] * 4
    extend_greedily(mate, [(1, 2), (0, 1), (2, 3), (0, 3)])
    assert mate == [3, 2, 1, 0]


@given(graphs, st.integers(0, 8))
def test_augmenting_reaches_the_size_of_a_maximum_matching_from_any_start(edges, taken):
    mate = [FREE] * SIZE
    extend_greedily(mate, list(edges)[:taken])
    matched_before = {v for v in range(SIZE) if mate[v] != FREE}
    before = list(mate)
    changed = augment(mate, adjacency_of(edges), budget=10_000)
    assert_is_matching(mate, edges)
    assert len(pairs_of(mate)) == len(nx.max_weight_matching(nx.Graph(list(edges)), maxcardinality=True))
    assert all(mate[v] != FREE for v in matched_before)
    assert {v for v in range(SIZE) if mate[v] != before[v]} <= set(changed)


@pytest.mark.parametrize("seed", range(3))
def test_augmenting_is_maximum_on_larger_sparse_graphs_full_of_odd_cycles(seed):
    rng = random.Random(seed)
    size = 240
    edges = {
        (u, v): 1
        for corner in range(0, size - 2, 3)
        for u, v in ((corner, corner + 1), (corner + 1, corner + 2), (corner, corner + 2))
    }
    for _ in range(60):
        u, v = sorted(rng.sample(range(size), 2))
        edges[u, v] = 1
    mate = [FREE] * size
    augment(mate, adjacency_of(edges, size), budget=1_000_000)
    assert_is_matching(mate, edges)
    assert len(pairs_of(mate)) == len(nx.max_weight_matching(nx.Graph(list(edges)), maxcardinality=True))


def test_augmenting_stops_when_its_budget_is_spent():
    edges = {(0, 1): 1, (2, 3): 1}
    mate = [FREE] * 4
    augment(mate, adjacency_of(edges, 4), budget=1)
    assert pairs_of(mate) == [(0, 1)]


@given(graphs, st.integers(0, 8))
def test_chains_of_exchanges_keep_a_matching_and_raise_its_total_by_the_gain_they_tell(edges, taken):
    mate = [FREE] * SIZE
    extend_greedily(mate, list(edges)[:taken])
    before = total(mate, edges)
    gain = search(mate, edges).run(range(SIZE))
    assert_is_matching(mate, edges)
    assert gain >= 0
    assert total(mate, edges) == before + gain


@given(graphs)
def test_after_the_chains_no_free_vertex_and_no_two_pairs_can_do_better_by_one_exchange(edges):
    mate = [FREE] * SIZE
    extend_greedily(mate, list(edges))
    search(mate, edges).run(range(SIZE))
    weight = weight_in(edges)
    for u, v in itertools.permutations(range(SIZE), 2):
        if mate[u] == FREE:
            assert weight(u, v) <= (weight(v, mate[v]) if mate[v] != FREE else 0)
        elif mate[v] not in (FREE, u) and weight(u, v) and weight(mate[u], mate[v]):
            held = weight(u, mate[u]) + weight(v, mate[v])
            assert weight(u, v) + weight(mate[u], mate[v]) <= held


def test_a_chain_closes_a_cycle_of_three_pairs():
    edges = {(0, 1): 10, (2, 3): 10, (4, 5): 10, (1, 2): 11, (3, 4): 11, (0, 5): 11}
    mate = [1, 0, 3, 2, 5, 4]
    assert search(mate, edges).run(range(6)) == 3
    assert pairs_of(mate) == [(0, 5), (1, 2), (3, 4)]


def test_a_chain_moves_the_free_vertex_where_it_costs_least():
    edges = {(0, 1): 5, (1, 2): 9}
    mate = [1, 0, FREE]
    assert search(mate, edges).run(range(3)) == 4
    assert mate == [FREE, 2, 1]


def test_gains_below_the_least_asked_for_are_left_alone():
    edges = {(0, 1): 5, (1, 2): 9}
    mate = [1, 0, FREE]
    assert search(mate, edges, least_gain=5).run(range(3)) == 0
    assert mate == [1, 0, FREE]
