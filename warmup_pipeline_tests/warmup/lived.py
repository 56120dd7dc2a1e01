"""A pool that has lived for two days, and every report that tests look at.

Holds: :func:`live`, which runs real cycles against the simulator with trouble in them. Do not add:
assertions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import httpx

from warmup_pipeline.domain.values import ChipStatus, Phase, Provider
from warmup_pipeline.store import derived
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.operating import pause_chips
from warmup_pipeline_tests.support import MORNING, Lab, chip_row, due_openings, open_lab, rows_of

REASON = "=SUM(A1) <b>ask +55 11 98765-4321</b>"
"""What an operator wrote when pausing a chip: a formula, markup and a full number."""


@dataclass(frozen=True)
class Life:
    """What tests compare a report with.

    Attributes:
        lab: the lab, with its database.
        rows: the chips' rows, full numbers included.
        trust_then: trust scores as they stood after the first day's last cycle.
    """

    lab: Lab
    rows: list[dict[str, Any]]
    trust_then: dict[str, int]

    @property
    def store(self) -> Store:
        return self.lab.store


@contextmanager
def live(store: Store) -> Iterator[Life]:
    """Run five chips for two short days; one is restricted, one paused, and another pool lives beside them."""
    with open_lab(store) as lab:
        rows = [
            chip_row(1, phase=Phase.EXPANSAO, days=9),
            chip_row(2, phase=Phase.EXPANSAO, days=9),
            # The same end digits as chip 1, in another area.
            chip_row(10_001, phase=Phase.SETUP, days=2, provider=Provider.Z_API),
            chip_row(4, days=5, ddd=11),
            chip_row(5, status=ChipStatus.PENDING, phase=Phase.REPOUSO),
            chip_row(6, phase=Phase.REPOUSO, days=2),
        ]
        lab.add(rows)
        ids = [row["id"] for row in rows[:4]]
        lab.cycle()
        due_openings(lab, ids)
        lab.cycles(12)
        _live_elsewhere(replace(lab, pool="elsewhere"))
        with store.read() as tx:
            trust_then = {chip: score for chip, (score, _) in derived.trust(tx, "default").items()}
        restricts = {
            "match": {"route": "any-send", "provider": "evolution", "instance": [rows[1]["instance"]]},
            "kind": "status",
            "code": 403,
            "body": "restriction",
        }
        httpx.post(f"{lab.base_url}/_sim/faults", json={"rules": [restricts]}).raise_for_status()
        lab.move_to(MORNING + timedelta(days=1))
        lab.cycle()
        due_openings(lab, ids)
        lab.cycles(8)
        pause_chips(lab.world, [rows[3]["id"]], author="somebody", reason=REASON)
        lab.cycle()
        yield Life(lab, rows, trust_then)


def _live_elsewhere(lab: Lab) -> None:
    rows = [chip_row(number, pool="elsewhere") for number in (8, 9)]
    lab.add(rows)
    due_openings(lab, [row["id"] for row in rows])
    lab.cycles(2)


def counted(store: Store, sql: str, **values: Any) -> int:
    """Return the single number that a query finds."""
    (row,) = rows_of(store, sql, **values)
    (number,) = row.values()
    return int(number or 0)
