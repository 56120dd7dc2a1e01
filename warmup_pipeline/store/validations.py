"""Decisions of pre-send validation, and the approvals among them.

Holds: storing decisions, spending approvals, letting unused ones lapse. An approval is a row here
with ``decision = approve``; ``messages.approval_id`` is unique and refers to it, so that a send
without an approval, or two from one, cannot be written down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.domain.values import Decision
from warmup_pipeline.store.bulk import insert_rows, update_rows
from warmup_pipeline.store.engine import ROWS_PER_STATEMENT, TakenByAnother, Transaction
from warmup_pipeline.store.memory import remembered
from warmup_pipeline.store.schema import presend_validations

ACTION = "action"
OPENING = "opening"
REPLY = "reply"


@dataclass(frozen=True, slots=True)
class Approval:
    """Leave to do one thing in one cycle. Only :func:`spendable` makes these, from stored decisions."""

    id: str
    subject: str
    activity_id: str | None
    conversation_id: str | None
    turn: int | None
    sender_chip_id: str
    recipient_chip_id: str | None
    at: datetime
    phase: str


def insert(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store decisions."""
    insert_rows(tx, presend_validations, rows)


def count_of_cycle(tx: Transaction, cycle_id: str) -> int:
    """Return how many decisions a cycle has stored."""
    return int(tx.connection.execute(_count_of_cycle(), {"in_cycle": cycle_id}).scalar_one())


@cache
def _count_of_cycle() -> sa.Select[Any]:
    return sa.select(sa.func.count()).where(presend_validations.c.cycle_id == sa.bindparam("in_cycle"))


_unused = sa.and_(
    presend_validations.c.decision == Decision.APPROVE,
    presend_validations.c.used_at.is_(None),
    presend_validations.c.lapsed.is_(sa.false()),
)


def spendable(tx: Transaction, cycle_id: str) -> list[Approval]:
    """Return a cycle's approvals that have neither been spent nor lapsed: replies first, then by id."""
    found = tx.connection.execute(_spendable(), {"in_cycle": cycle_id})
    return [Approval(**dict(row)) for row in found.mappings()]


@cache
def _spendable() -> sa.Select[Any]:
    return (
        sa.select(*(presend_validations.c[name] for name in Approval.__dataclass_fields__))
        .where(presend_validations.c.cycle_id == sa.bindparam("in_cycle"), _unused)
        .order_by(presend_validations.c.subject.desc(), presend_validations.c.id)
    )


class ApprovalGone(TakenByAnother):
    """An approval has been spent or has lapsed meanwhile: another process was there."""


def spend(tx: Transaction, ids: Sequence[str], *, at: datetime) -> None:
    """Mark approvals as spent, all or none: each allows one thing once.

    Raises:
        ApprovalGone: one of them has been spent or has lapsed since it was loaded.
    """
    spent = update_rows(tx, presend_validations, [{"id": i, "used_at": at} for i in ids], where=_unused)
    if spent != len(ids):
        raise ApprovalGone(
            f"{len(ids) - spent} of {len(ids)} approvals are spent or lapsed already: another process acts for "
            "this cycle; nothing is sent here"
        )


def not_lapsed(tx: Transaction, ids: Sequence[str]) -> set[str]:
    """Return which of these approvals have not lapsed, spent or not."""
    found: set[str] = set()
    for start in range(0, len(ids), ROWS_PER_STATEMENT):
        query = sa.select(presend_validations.c.id).where(
            presend_validations.c.id.in_(ids[start : start + ROWS_PER_STATEMENT]),
            presend_validations.c.lapsed.is_(sa.false()),
        )
        found.update(tx.connection.execute(query).scalars())
    return found


def lapse(tx: Transaction, ids: Sequence[str]) -> None:
    """Void approvals, spent or not: what they allowed was never begun."""
    update_rows(tx, presend_validations, [{"id": i, "used_at": None, "lapsed": True} for i in ids])


def lapse_unused(tx: Transaction, pool: str, *, but_not_of: str) -> int:
    """Void every unused approval of other cycles of the pool; returns how many."""
    result = tx.connection.execute(_lapse_unused(), {"in_pool": pool, "but_not_of": but_not_of})
    return int(result.rowcount)


@cache
def _lapse_unused() -> sa.Update:
    return (
        sa.update(presend_validations)
        .where(
            presend_validations.c.pool == sa.bindparam("in_pool"),
            presend_validations.c.cycle_id != sa.bindparam("but_not_of"),
            _unused,
        )
        .values(lapsed=True)
    )


@remembered(presend_validations)
def pending_by_sender(tx: Transaction, pool: str) -> dict[str, int]:
    """Return how many approved sends of each chip are neither spent nor lapsed: slots already taken."""
    found = tx.connection.execute(_pending_by_sender(), {"in_pool": pool})
    return {row[0]: int(row[1]) for row in found}


@cache
def _pending_by_sender() -> sa.Select[Any]:
    return (
        sa.select(presend_validations.c.sender_chip_id, sa.func.count())
        .where(
            presend_validations.c.pool == sa.bindparam("in_pool"),
            presend_validations.c.subject != ACTION,
            _unused,
        )
        .group_by(presend_validations.c.sender_chip_id)
    )


def counts_of_cycle(tx: Transaction, cycle_id: str) -> list[tuple[str, str | None, str, int]]:
    """Return a cycle's decisions as (decision, reason, subject, how many)."""
    found = tx.connection.execute(_counts_of_cycle(), {"in_cycle": cycle_id})
    return [(row[0], row[1], row[2], int(row[3])) for row in found]


@cache
def _counts_of_cycle() -> sa.Select[Any]:
    return (
        sa.select(
            presend_validations.c.decision,
            presend_validations.c.reason,
            presend_validations.c.subject,
            sa.func.count(),
        )
        .where(presend_validations.c.cycle_id == sa.bindparam("in_cycle"))
        .group_by(presend_validations.c.decision, presend_validations.c.reason, presend_validations.c.subject)
        .order_by(presend_validations.c.decision, presend_validations.c.reason, presend_validations.c.subject)
    )
