"""Questions about single chips, for people: what a chip waits for, and what last went wrong.

Holds: queries for ``chips list`` and ``chips show``, and what operators did to a chip before. Each
is about one chip or a page of them, never part of a cycle. Add here: another thing an operator asks
about a chip. Do not add: words about the answers (``warmup.standing``), changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.domain.values import (
    ActivityState,
    ChipStatus,
    ConversationState,
    FailureClass,
    MessageState,
    TrustLevel,
)
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.schema import (
    activities,
    conversations,
    kill_switches,
    messages,
    operator_actions,
    phase_eligibility,
    trust_scores,
)


@dataclass(frozen=True, slots=True)
class StoredTrust:
    """A chip's trust score, its level, and what it is made of."""

    score: int
    level: TrustLevel
    parts: dict[str, float]


@dataclass(frozen=True, slots=True)
class StoredCriterion:
    """One row of ``phase_eligibility``: see the column comments there."""

    criterion: str
    next_phase: str
    value: float | None
    needed: float
    comparison: str
    holds: bool
    earliest_day: date | None


@dataclass(frozen=True, slots=True)
class NextActivity:
    """What a chip does next."""

    type: str
    due_at: datetime
    deferrals: int
    last_deferral: str | None


@dataclass(frozen=True, slots=True)
class FailedSend:
    """A send that failed, or whose outcome is not known. ``text`` is redacted."""

    at: datetime
    failure_class: FailureClass
    status: int | None
    text: str | None
    recipient_chip_id: str


@dataclass(frozen=True, slots=True)
class Switch:
    """A kill switch that is on."""

    scope: str
    target: str
    reason: str
    author: str
    set_at: datetime
    expires_at: datetime | None


def trust_of(tx: Transaction, chip_id: str) -> StoredTrust | None:
    """Return a chip's stored trust."""
    row = tx.connection.execute(
        sa.select(trust_scores.c.score, trust_scores.c.level, trust_scores.c.parts).where(
            trust_scores.c.chip_id == chip_id
        )
    ).first()
    return None if row is None else StoredTrust(int(row[0]), TrustLevel(row[1]), dict(row[2]))


def criteria_of(tx: Transaction, chip_id: str) -> list[StoredCriterion]:
    """Return each stored criterion of a chip's next phase; none in the last phase."""
    query = (
        sa.select(*(phase_eligibility.c[name] for name in StoredCriterion.__dataclass_fields__))
        .where(phase_eligibility.c.chip_id == chip_id)
        .order_by(phase_eligibility.c.holds, phase_eligibility.c.criterion)
    )
    return [StoredCriterion(*row) for row in tx.connection.execute(query).all()]


def next_activity(tx: Transaction, chip_id: str) -> NextActivity | None:
    """Return a chip's next planned activity."""
    row = tx.connection.execute(
        sa.select(activities.c.type, activities.c.due_at, activities.c.deferrals, activities.c.last_deferral)
        .where(activities.c.chip_id == chip_id, activities.c.state == ActivityState.PLANNED)
        .order_by(activities.c.due_at, activities.c.id)
        .limit(1)
    ).first()
    return None if row is None else NextActivity(*row)


def next_reply(tx: Transaction, chip_id: str) -> datetime | None:
    """Return when the chip's next reply turn is due: turns alternate, the opener has the odd ones."""
    theirs = sa.case(
        (conversations.c.turns_accepted % 2 == 0, conversations.c.opener_chip_id),
        else_=conversations.c.responder_chip_id,
    )
    query = sa.select(sa.func.min(conversations.c.next_due_at)).where(
        conversations.c.state == ConversationState.OPEN,
        sa.or_(conversations.c.opener_chip_id == chip_id, conversations.c.responder_chip_id == chip_id),
        theirs == chip_id,
    )
    due: datetime | None = tx.connection.execute(query).scalar_one()
    return due


def failed_sends(tx: Transaction, chip_id: str, *, limit: int) -> list[FailedSend]:
    """Return a chip's newest sends that failed or are unknown, newest first."""
    query = (
        sa.select(
            messages.c.sent_at,
            messages.c.failure_class,
            messages.c.failure_status,
            messages.c.failure_text,
            messages.c.recipient_chip_id,
        )
        .where(
            messages.c.sender_chip_id == chip_id,
            messages.c.state.in_([MessageState.FAILED, MessageState.UNKNOWN]),
        )
        .order_by(messages.c.sent_at.desc(), messages.c.id)
        .limit(limit)
    )
    return [
        FailedSend(row[0], FailureClass(row[1]), row[2], row[3], row[4])
        for row in tx.connection.execute(query).all()
    ]


def switches_on(tx: Transaction, *, at: datetime, pool: str, chip_id: str) -> list[Switch]:
    """Return the kill switches that cover a chip at an instant, widest first."""
    query = (
        sa.select(*(kill_switches.c[name] for name in Switch.__dataclass_fields__))
        .where(
            kill_switches.c.lifted_at.is_(None),
            sa.or_(kill_switches.c.expires_at.is_(None), kill_switches.c.expires_at > at),
            sa.or_(
                kill_switches.c.scope == "all",
                sa.and_(kill_switches.c.scope == "pool", kill_switches.c.target == pool),
                sa.and_(kill_switches.c.scope == "chip", kill_switches.c.target == chip_id),
            ),
        )
        .order_by(kill_switches.c.scope, kill_switches.c.set_at)
    )
    return [Switch(*row) for row in tx.connection.execute(query).all()]


def statuses_before(tx: Transaction, action: str, chip_ids: Sequence[str]) -> dict[str, ChipStatus]:
    """Return, of each chip an operator's action was done to, the status it had before the newest one."""
    query = (
        sa.select(operator_actions.c.target, operator_actions.c.details)
        .where(operator_actions.c.action == action, operator_actions.c.target.in_(chip_ids))
        .order_by(operator_actions.c.id)
    )
    found: dict[str, ChipStatus] = {}
    for target, details in tx.connection.execute(query).all():
        before: Any = details.get("from")
        if before in tuple(ChipStatus):
            found[target] = ChipStatus(before)
    return found
