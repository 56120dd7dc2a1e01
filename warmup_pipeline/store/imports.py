"""What an import asks of the database, and writes to it.

Holds: the questions that find what is there already, and the writing of an import's rows. An import
only ever adds rows: a chip, an activity or an interaction that is there stays as it is. Do not add:
the reading or judging of files (``warmup.importing``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.store import activities as activity_store
from warmup_pipeline.store import chips as chip_store
from warmup_pipeline.store.bulk import insert_new_rows, insert_rows
from warmup_pipeline.store.engine import ROWS_PER_STATEMENT, Transaction
from warmup_pipeline.store.schema import (
    activities,
    chip_connections,
    chips,
    day_plans,
    imported_interactions,
)


@dataclass(frozen=True, slots=True)
class KnownChip:
    """A chip that is there already. ``phone`` is the full number: compare it, never show it."""

    id: str
    pool: str
    phone: str
    provider: str
    instance: str


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), ROWS_PER_STATEMENT):
        yield ids[start : start + ROWS_PER_STATEMENT]


def known_chips(tx: Transaction) -> list[KnownChip]:
    """Return every chip of every pool, by id: phones and instances are unique over all of them."""
    query = sa.select(chips.c.id, chips.c.pool, chips.c.phone, chips.c.provider, chips.c.instance).order_by(
        chips.c.id
    )
    return [KnownChip(*row) for row in tx.connection.execute(query).all()]


def known_activities(tx: Transaction, ids: Sequence[str]) -> dict[str, str]:
    """Return which of these activities are there already: activity id -> chip id."""
    found: dict[str, str] = {}
    for chunk in _chunks(ids):
        query = sa.select(activities.c.id, activities.c.chip_id).where(activities.c.id.in_(chunk))
        found |= {row[0]: row[1] for row in tx.connection.execute(query).all()}
    return found


def known_interactions(tx: Transaction, ids: Sequence[str]) -> dict[str, str]:
    """Return which of these interactions are there already: interaction id -> chip id."""
    found: dict[str, str] = {}
    for chunk in _chunks(ids):
        query = sa.select(imported_interactions.c.id, imported_interactions.c.chip_id).where(
            imported_interactions.c.id.in_(chunk)
        )
        found |= {row[0]: row[1] for row in tx.connection.execute(query).all()}
    return found


def chips_planned_for(tx: Transaction, pool: str, day: date) -> set[str]:
    """Return the chips of a pool that have a plan for a local day."""
    query = (
        sa.select(day_plans.c.chip_id)
        .join(chips, chips.c.id == day_plans.c.chip_id)
        .where(chips.c.pool == pool, day_plans.c.day == day)
    )
    return set(tx.connection.execute(query).scalars().all())


def insert_chips(
    tx: Transaction,
    chip_rows: Sequence[Mapping[str, Any]],
    balance_rows: Sequence[Mapping[str, Any]],
    connection_rows: Sequence[Mapping[str, Any]],
) -> None:
    """Insert new chips with their opening balances, and what the old system said of their connections."""
    chip_store.insert(tx, chip_rows, balance_rows)
    insert_new_rows(tx, chip_connections, connection_rows)


def insert_history(
    tx: Transaction,
    plan_rows: Sequence[Mapping[str, Any]],
    activity_rows: Sequence[Mapping[str, Any]],
    interaction_rows: Sequence[Mapping[str, Any]],
) -> None:
    """Insert activities, the day plans that the kept ones make, and interactions."""
    activity_store.insert_history(tx, plan_rows, activity_rows)
    insert_rows(tx, imported_interactions, interaction_rows)
