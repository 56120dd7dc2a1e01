"""Matchings in graphs of numbered vertices: who goes with whom, each vertex at most once.

Holds: the exact maximum matching (small graphs), and the three steps of the near-linear one
(greedy start, local search along alternating chains, augmenting paths through blossoms). Add here:
another way to find or improve a matching. Do not add: what a vertex is or what makes a pair good
(``domain.pairing`` knows chips and scores; here are numbers only).

A matching is a list ``mate``: ``mate[v]`` is the partner of vertex ``v``, or :data:`FREE`. Weights
are positive integers; 0 says that two vertices have no edge. A caller that wants as many pairs as
possible, whatever their weight, adds one large constant to the weight of every edge.

Everything is deterministic: the result depends on the arguments alone, ties on their order.

Source: domain.md, "Pairing" ("the most pairs, then the highest total score").
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import networkx as nx

FREE: Final = -1
"""The mate of a vertex that has none."""

Matching = list[int]
Weight = Callable[[int, int], int]
"""Weight of the edge between two vertices, symmetric; 0 where there is no edge."""

_CHAIN_STEPS: Final = 9
"""Edges a chain gives up at most: 14 found no more on pools of 300 chips, in half as much time again."""
_UNBOUNDED: Final = 1 << 62
_SPREAD: Final = 0.4
"""A chain that may still take ``e`` steps tries ``e ** _SPREAD`` ways on: wide first, then straight on,
and long where the graph offers few ways."""


def exact_matching(size: int, edges: Iterable[tuple[int, int, int]]) -> Matching:
    """Return the matching with the most edges and, among those, the highest total weight.

    Args:
        size: number of vertices, which are ``0 … size - 1``.
        edges: ``(u, v, weight)``; integer weights keep the computation exact, and they may be negative.

    The time grows with the cube of the number of vertices: 0.07 s at 60, 1 s at 150.
    """
    graph: nx.Graph[int] = nx.Graph()
    graph.add_weighted_edges_from(sorted((min(u, v), max(u, v), weight) for u, v, weight in edges))
    mate = [FREE] * size
    for u, v in nx.max_weight_matching(graph, maxcardinality=True):
        mate[u], mate[v] = v, u
    return mate


def extend_greedily(mate: Matching, edges: Iterable[tuple[int, int]]) -> int:
    """Add to ``mate``, in the order given, each edge whose two ends are free; return how many were added."""
    added = 0
    for u, v in edges:
        if mate[u] == FREE and mate[v] == FREE and u != v:
            mate[u], mate[v] = v, u
            added += 1
    return added


class ChainSearch:
    """Local search: exchanges edges of a matching along alternating chains while the total weight grows.

    A chain starts by giving up one edge (or at a free vertex), lets the vertex left behind take a
    better neighbour, that neighbour's mate another one, and so on; it ends where the last vertex left
    behind goes with the first, or at a free vertex. Only chains whose running gain stays positive are
    followed, which loses nothing: every improving cycle has such a starting point (Lin and Kernighan).

    Args:
        mate: the matching, changed in place.
        neighbours: for each vertex its candidates, best first; a chain leaves these lists only to close.
        neighbour_weights: the weights that go with ``neighbours``.
        weight: weight of any edge.
        least_gain: improvements below it are not looked for.
        effort: about how many steps to spend on the chains from one vertex.
    """

    def __init__(
        self,
        mate: Matching,
        neighbours: Sequence[Sequence[int]],
        neighbour_weights: Sequence[Sequence[int]],
        weight: Weight,
        *,
        least_gain: int = 1,
        effort: int = 240,
    ) -> None:
        self._mate = mate
        self._neighbours = neighbours
        self._neighbour_weights = neighbour_weights
        self._weight = weight
        self._least_gain = least_gain
        self._effort = effort
        self._held = [weight(v, other) if other != FREE else 0 for v, other in enumerate(mate)]
        self._tail = FREE
        self._tail_best = 0
        self._chain: list[int] = []

    def run(self, starts: Iterable[int]) -> int:
        """Improve from every start, and again from each vertex a change touched; return the total gain."""
        mate, weights = self._mate, self._neighbour_weights
        queue = deque(starts)
        queued = set(queue)
        total = 0
        while queue:
            start = queue.popleft()
            queued.discard(start)
            tail = mate[start]
            if not weights[start] or weights[start][0] - self._held[start] < self._least_gain:
                continue
            self._tail = tail
            self._chain = [start] if tail == FREE else [tail, start]
            self._tail_best = weights[tail][0] if tail != FREE and weights[tail] else _UNBOUNDED
            gain = self._follow(start, -self._held[start], self._effort)
            if gain <= 0:
                continue
            total += gain
            for vertex in self._apply():
                if vertex not in queued:
                    queued.add(vertex)
                    queue.append(vertex)
        return total

    def _follow(self, head: int, gain: int, effort: float) -> int:
        """Extend the chain from ``head``, whose running gain is ``gain``.

        Returns the gain of the first improvement found, which ``_chain`` then holds, else 0.
        """
        mate, held, weight, tail, chain = self._mate, self._held, self._weight, self._tail, self._chain
        least, tail_best = self._least_gain, self._tail_best
        deeper: list[tuple[int, int, int]] = []
        for edge, vertex in zip(self._neighbour_weights[head], self._neighbours[head], strict=True):
            taken = gain + edge
            if taken < least:
                break
            if vertex in chain:
                continue
            left = mate[vertex]
            if left == FREE:
                chain.append(vertex)
                return taken
            after = taken - held[vertex]
            if tail == FREE:
                # The vertex left behind may stay free: one edge went, one came.
                if after >= least:
                    chain += (vertex, left, FREE)
                    return after
            elif after + tail_best >= least:
                closing = weight(left, tail)
                if closing and after + closing >= least:
                    chain += (vertex, left)
                    return after + closing
            deeper.append((-after, vertex, left))
        if deeper and len(chain) < 2 * _CHAIN_STEPS:
            deeper.sort()
            count = min(len(deeper), max(1, round(effort**_SPREAD)))
            for after, vertex, left in deeper[:count]:
                chain += (vertex, left)
                found = self._follow(left, -after, effort / count)
                if found > 0:
                    return found
                del chain[-2:]
        return 0

    def _apply(self) -> list[int]:
        """Exchange the edges of the chain found; return its vertices.

        The chain reads ``[tail,] head, taken, left, taken, left …``: each head goes with what it took.
        It ends with a free vertex taken, with ``FREE`` (the last one left stays free), or with a vertex
        left behind that closes with the tail.
        """
        mate, held, chain = self._mate, self._held, self._chain
        touched = [vertex for vertex in chain if vertex != FREE]
        steps = chain if self._tail == FREE else chain[1:]
        if steps[-1] == FREE:
            mate[steps[-2]] = FREE
            held[steps[-2]] = 0
            steps = steps[:-2]
        elif len(steps) % 2:
            steps.append(self._tail)
        elif self._tail != FREE:
            mate[self._tail] = FREE
            held[self._tail] = 0
        for position in range(0, len(steps), 2):
            u, v = steps[position], steps[position + 1]
            mate[u], mate[v] = v, u
            held[u] = held[v] = self._weight(u, v)
        return touched


def augment(mate: Matching, adjacency: Sequence[Sequence[int]], *, budget: int) -> list[int]:
    """Enlarge the matching to the most edges the graph allows, by Edmonds' blossom search.

    Args:
        mate: the matching, changed in place; a matched vertex stays matched.
        adjacency: neighbours of each vertex, both directions listed.
        budget: how many edges to look at before giving up, so that the time stays linear.

    Returns:
        The vertices whose mate changed.
    """
    return _BlossomSearch(mate, adjacency, budget).run()


class _BlossomSearch:
    """Edmonds' search for augmenting paths, blossoms kept in a union-find structure.

    The tree of a search that fails is never part of a later path, so its vertices are left out of
    the searches that follow; that keeps many hopeless searches cheap.
    """

    _UNSEEN: Final = 0
    _EVEN: Final = 1
    _ODD: Final = 2

    def __init__(self, mate: Matching, adjacency: Sequence[Sequence[int]], budget: int) -> None:
        size = len(mate)
        self._mate = mate
        self._adjacency = adjacency
        self._budget = budget
        self._label = [self._UNSEEN] * size
        self._before = [FREE] * size
        self._base = list(range(size))
        self._seen_at = [0] * size
        self._clock = 0

    def run(self) -> list[int]:
        changed: list[int] = []
        roots = [v for v, other in enumerate(self._mate) if other == FREE and self._adjacency[v]]
        for root in roots:
            if self._budget <= 0:
                break
            if self._mate[root] == FREE:
                changed += self._grow(root)
        return changed

    def _find(self, vertex: int) -> int:
        base = self._base
        while base[vertex] != vertex:
            base[vertex] = base[base[vertex]]
            vertex = base[vertex]
        return vertex

    def _grow(self, root: int) -> list[int]:
        """Search from one free vertex; return the path's vertices, or nothing where there is no path."""
        label, before, mate = self._label, self._before, self._mate
        label[root] = self._EVEN
        tree = [root]
        queue = deque(tree)
        while queue:
            u = queue.popleft()
            self._budget -= len(self._adjacency[u])
            for v in self._adjacency[u]:
                if label[v] == self._UNSEEN:
                    before[v] = u
                    if mate[v] == FREE:
                        path = self._flip(v)
                        self._forget([*tree, v])
                        return path
                    label[v] = self._ODD
                    label[mate[v]] = self._EVEN
                    tree += (v, mate[v])
                    queue.append(mate[v])
                elif label[v] == self._EVEN and self._find(u) != self._find(v):
                    base = self._common_base(u, v)
                    self._shrink(u, v, base, queue)
                    self._shrink(v, u, base, queue)
        for vertex in tree:
            label[vertex] = self._ODD
        return []

    def _forget(self, tree: list[int]) -> None:
        for vertex in tree:
            self._label[vertex] = self._UNSEEN
            self._before[vertex] = FREE
            self._base[vertex] = vertex

    def _flip(self, end: int) -> list[int]:
        path: list[int] = []
        while end != FREE:
            u = self._before[end]
            following = self._mate[u]
            self._mate[end], self._mate[u] = u, end
            path += (end, u)
            end = following
        return path

    def _common_base(self, u: int, v: int) -> int:
        self._clock += 1
        u, v = self._find(u), self._find(v)
        while True:
            if u != FREE:
                if self._seen_at[u] == self._clock:
                    return u
                self._seen_at[u] = self._clock
                above = self._mate[u]
                u = self._find(self._before[above]) if above != FREE else FREE
            u, v = v, u

    def _shrink(self, x: int, y: int, base: int, queue: deque[int]) -> None:
        while self._find(x) != base:
            self._before[x] = y
            y = self._mate[x]
            if self._label[y] == self._ODD:
                self._label[y] = self._EVEN
                queue.append(y)
            for vertex in (x, y):
                if self._base[vertex] == vertex:
                    self._base[vertex] = base
            x = self._before[y]
