"""The simulated gateways call webhooks: whatever stands in the outbox goes where its instance says.

Holds: :class:`Postman` and :class:`PostFaults` (calls that are late, doubled, out of order, or never
made). Add here: another way in which a call can go wrong. Do not add: bodies (``events``), HTTP (the
caller brings it).

Virtual time: a call is made when its time has come at the moment of :meth:`Postman.run`, so that a test
decides when. A call that is refused is made again as Evolution does (contract 1.16): not after 400,
401, 403, 404 or 422, and at most ten times.
"""

from __future__ import annotations

import heapq
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.gateways.simulator.core import SimulatorCore
from warmup_pipeline.gateways.simulator.wire import Request

MOST_ATTEMPTS: Final = 10
GIVEN_UP_AT_ONCE: Final = frozenset({400, 401, 403, 404, 422})
_FIRST_WAIT_MS: Final = 5_000
_LONGEST_WAIT_MS: Final = 300_000
_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class PostCall:
    """One call of a webhook. ``url`` and ``headers`` hold a secret."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


Post = Callable[[PostCall], int]
"""Makes a call and returns the answer's HTTP status; 0 where none came."""


@dataclass(frozen=True, slots=True)
class PostFaults:
    """How badly calls are made.

    Attributes:
        lose: share of events of which nobody is ever called.
        double: share of events that are told twice.
        late_ms: a call is late by up to this much, evenly: what differs by less may change places.
        seed: everything that looks random derives from it.
    """

    lose: float = 0.0
    double: float = 0.0
    late_ms: int = 0
    seed: int = 0


class Postman:
    """Calls the webhooks of one simulator's instances.

    Args:
        core: whose outbox; its instances need a webhook, or nothing is kept for them.
        post: makes a call.
        faults: how badly.

    Attributes:
        counts: answers by status, events, and those that were doubled.
        lost: the events of which nobody was told.
    """

    def __init__(self, core: SimulatorCore, post: Post, faults: PostFaults | None = None) -> None:
        self._core = core
        self._post = post
        self._faults = faults or PostFaults()
        self._random = random.Random(self._faults.seed)  # noqa: S311 (chance of a simulation)
        self._since = 0
        self._due: list[tuple[int, int, int, PostCall]] = []
        self._made = 0
        self.counts: Counter[str] = Counter()
        self.lost: list[Mapping[str, Any]] = []

    @property
    def waiting(self) -> int:
        """How many calls are still to be made."""
        return len(self._due)

    def run(self, now: datetime) -> int:
        """Make every call whose time has come; return how many were made."""
        at = round(now.timestamp() * 1000)
        self._collect()
        made = 0
        while self._due and self._due[0][0] <= at:
            _, _, attempt, call = heapq.heappop(self._due)
            status = self._post(call)
            made += 1
            self.counts[str(status)] += 1
            if 200 <= status < 300 or status in GIVEN_UP_AT_ONCE or attempt >= MOST_ATTEMPTS:
                continue
            wait = min(_LONGEST_WAIT_MS, _FIRST_WAIT_MS * 2 ** (attempt - 1))
            self._put(at + wait, call, attempt + 1)
        return made

    def _put(self, due: int, call: PostCall, attempt: int) -> None:
        self._made += 1
        heapq.heappush(self._due, (due, self._made, attempt, call))

    def _collect(self) -> None:
        while True:
            request = Request("GET", "/_sim/events", {"since": str(self._since), "limit": str(_PAGE)})
            document = json.loads(self._core.handle(request).body)
            for event in document["events"]:
                self._take(event)
            self._since = document["next_since"]
            if len(document["events"]) < _PAGE:
                return

    def _take(self, event: dict[str, Any]) -> None:
        to = event["to"]
        if to is None:
            return
        self.counts["events"] += 1
        if self._random.random() < self._faults.lose:
            self.lost.append(event)
            return
        copies = 2 if self._random.random() < self._faults.double else 1
        self.counts["doubled"] += copies - 1
        headers = {"Content-Type": "application/json", **(to["headers"] or {})}
        if event["provider"] == Provider.EVOLUTION.value:
            headers["User-Agent"] = "axios/1.7.9"
        body = json.dumps(event["body"], ensure_ascii=False).encode()
        for _ in range(copies):
            late = self._random.randint(0, self._faults.late_ms)
            self._put(event["at"] + late, PostCall(to["url"], headers, body), 1)
