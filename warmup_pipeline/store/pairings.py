"""Who was paired with whom.

Holds: writing ``pairings`` and asking who has a partner in a cycle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.store.bulk import insert_rows
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.memory import remembered
from warmup_pipeline.store.schema import pairings


@dataclass(frozen=True, slots=True)
class StoredPairing:
    """A pair of one cycle and the activities it serves."""

    conversation_id: str
    activity_id: str
    partner_activity_id: str | None


def insert(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Note pairs."""
    insert_rows(tx, pairings, rows)


def chips_paired_in(tx: Transaction, cycle_id: str) -> set[str]:
    """Return the chips that have a partner in a cycle already."""
    found = tx.connection.execute(_chips_paired(), {"in_cycle": cycle_id})
    return {chip_id for row in found for chip_id in row}


@cache
def _chips_paired() -> sa.Select[Any]:
    return sa.select(pairings.c.opener_chip_id, pairings.c.responder_chip_id).where(
        pairings.c.cycle_id == sa.bindparam("in_cycle")
    )


@remembered(pairings)
def of_cycle(tx: Transaction, cycle_id: str) -> dict[str, StoredPairing]:
    """Return a cycle's pairs by conversation id."""
    found = tx.connection.execute(_of_cycle(), {"in_cycle": cycle_id})
    return {row[0]: StoredPairing(*row) for row in found}


@cache
def _of_cycle() -> sa.Select[Any]:
    return sa.select(
        pairings.c.conversation_id, pairings.c.activity_id, pairings.c.partner_activity_id
    ).where(pairings.c.cycle_id == sa.bindparam("in_cycle"))
