"""The message log: every turn whose HTTP call began, and what became of it.

Holds: what a cycle asks of the log: what of its limits each chip has used, what was interrupted, what
is unread. Do not add: writing (``message_writes``, the one place), the sums that metrics are made of
(``counts``, ``rollups``). Root cause 6 (metrics from counters) is prevented by every number being a
query over this log.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from warmup_pipeline.domain.values import (
    ACCEPTED_STATES,
    LIMIT_STATES,
    ActivityState,
    MessageState,
)
from warmup_pipeline.store.attempts import count_of
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.memory import remembered
from warmup_pipeline.store.message_states import has_state
from warmup_pipeline.store.schema import activities, messages

UNCONFIRMED_COUNTS_FOR: Final = timedelta(minutes=60)
"""How long a confirmable message counts without confirmation (domain.md, "Confirmed, not just accepted")."""

_accepted = messages.c.state.in_(sorted(ACCEPTED_STATES))
in_limits: Final = sa.or_(messages.c.state.in_(sorted(LIMIT_STATES)), messages.c.accepted_at.is_not(None))
"""A message that counts in its sender's limits. One that was accepted and failed later stays: the gateway
was given it, and a receipt that comes after the failure may lift it up again."""
_is_sending = has_state(MessageState.SENDING)


@dataclass(frozen=True, slots=True)
class SendUse:
    """What of its limits a chip has used."""

    in_hour: int
    oldest_in_hour: datetime | None
    in_day: int
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class Unread:
    """A message a chip has received and not marked read."""

    message_id: str
    recipient_chip_id: str
    sender_chip_id: str
    gateway_message_id: str


def first_day(since: datetime) -> date:
    """Return a local day before which nothing is that happened at an instant or later, in any zone.

    What is asked for by time is asked for by day as well: the indexes are on days.
    """
    return (since - timedelta(hours=12)).date()


def counting(at: datetime) -> sa.ColumnElement[bool]:
    """Return the condition that a message counts at an instant, as sent and as received."""
    return counting_after(at - UNCONFIRMED_COUNTS_FOR)


def counting_after(confirmed_until: Any) -> sa.ColumnElement[bool]:
    """Return the condition that a message counts, where one sent until an instant must be confirmed."""
    return sa.and_(
        _accepted,
        sa.or_(
            messages.c.confirmable.is_(sa.false()),
            messages.c.confirmed_at.is_not(None),
            messages.c.sent_at > confirmed_until,
        ),
    )


def states(tx: Transaction, ids: Sequence[str]) -> dict[str, MessageState]:
    """Return the state of each of these messages (at most ``ROWS_PER_STATEMENT``)."""
    query = sa.select(messages.c.id, messages.c.state).where(messages.c.id.in_(ids)).with_for_update()
    return {row[0]: MessageState(row[1]) for row in tx.connection.execute(query).all()}


def interrupted(tx: Transaction, pool: str, *, but_not_of: str) -> list[tuple[str, str]]:
    """Return messages left ``sending`` by other cycles, as (id, conversation id): they may have gone."""
    found = tx.connection.execute(_interrupted(), {"in_pool": pool, "but_not_of": but_not_of})
    return [(row[0], row[1]) for row in found]


@cache
def _interrupted() -> sa.Select[Any]:
    return (
        sa.select(messages.c.id, messages.c.conversation_id)
        .where(
            messages.c.pool == sa.bindparam("in_pool"),
            _is_sending,
            messages.c.cycle_id != sa.bindparam("but_not_of"),
        )
        .order_by(messages.c.id)
    )


def states_of_openings(tx: Transaction, pool: str, activity_ids: Sequence[str]) -> dict[str, MessageState]:
    """Return the state of the first turn that each of these activities brought about."""
    if not activity_ids:
        return {}
    query = sa.select(messages.c.activity_id, messages.c.state).where(
        messages.c.pool == pool, messages.c.activity_id.in_(activity_ids)
    )
    return {row[0]: MessageState(row[1]) for row in tx.connection.execute(query).all()}


@remembered(messages)
def use_of_limits(tx: Transaction, pool: str, *, at: datetime, day: date) -> dict[str, SendUse]:
    """Return what each chip of the pool has used of its limits: (at - 60 min, at], and the local day.

    No pause between two sends is longer than that hour (``policy.TrustBand``), so nobody is limited by what was
    sent before both. The hour counts whole whatever zone the days were written in: an operator may change it.
    """
    an_hour_ago = at - timedelta(minutes=60)
    rows = tx.connection.execute(
        _use_of_limits(),
        {
            "in_pool": pool,
            "an_hour_ago": an_hour_ago,
            "until": at,
            "today": day,
            "first_day": min(day, first_day(an_hour_ago)),
        },
    )
    return {row[0]: SendUse(int(row[1]), row[2], int(row[3]), row[4]) for row in rows}


@cache
def _use_of_limits() -> sa.Select[Any]:
    in_hour = sa.and_(
        messages.c.sent_at > sa.bindparam("an_hour_ago"), messages.c.sent_at <= sa.bindparam("until")
    )
    # min() and max() over a CASE lose the column's type; it is given back here.
    return (
        sa.select(
            messages.c.sender_chip_id,
            count_of(in_hour),
            sa.type_coerce(sa.func.min(sa.case((in_hour, messages.c.sent_at))), messages.c.sent_at.type),
            count_of(messages.c.sent_day == sa.bindparam("today")),
            sa.type_coerce(sa.func.max(messages.c.sent_at), messages.c.sent_at.type),
        )
        .where(
            messages.c.pool == sa.bindparam("in_pool"),
            messages.c.sent_day >= sa.bindparam("first_day"),
            in_limits,
        )
        .group_by(messages.c.sender_chip_id)
    )


@remembered(messages)
def traffic_today(tx: Transaction, pool: str, day: date) -> dict[str, tuple[int, int]]:
    """Return what each chip sent and received on a local day: chip id -> (sent, received)."""
    asked = {"in_pool": pool, "today": day}
    sent, received = _traffic()
    traffic: dict[str, tuple[int, int]] = {
        row[0]: (int(row[1]), 0) for row in tx.connection.execute(sent, asked).all()
    }
    for chip_id, count in tx.connection.execute(received, asked).all():
        traffic[chip_id] = (traffic.get(chip_id, (0, 0))[0], int(count))
    return traffic


@cache
def _traffic() -> tuple[sa.Select[Any], sa.Select[Any]]:
    here = sa.and_(
        messages.c.pool == sa.bindparam("in_pool"), messages.c.sent_day == sa.bindparam("today"), _accepted
    )
    sent = (
        sa.select(messages.c.sender_chip_id, sa.func.count()).where(here).group_by(messages.c.sender_chip_id)
    )
    received = (
        sa.select(messages.c.recipient_chip_id, sa.func.count())
        .where(here)
        .group_by(messages.c.recipient_chip_id)
    )
    return sent, received


LOOKED_BACK_AT: Final = timedelta(days=7)
"""How far back a chip looks at what it received: however long its past is, it does not go through all of it."""


def unread(
    tx: Transaction, pool: str, chip_ids: Sequence[str], *, at: datetime, per_chip: int
) -> dict[str, list[Unread]]:
    """Return the newest messages that chips received and have not marked read, at most ``per_chip`` each.

    Received is what was seen to arrive; where nobody can see that, what was accepted and has not failed.
    What came more than a week before ``at`` is left as it is.
    """
    if not chip_ids:
        return {}
    asked = {"in_pool": pool, "ids": list(chip_ids), "since": at - LOOKED_BACK_AT, "per_chip": per_chip}
    return _by_recipient(tx.connection.execute(_unread(), asked))


@cache
def _unread() -> sa.Select[Any]:
    return _newest_received(sa.and_(messages.c.marked_read_at.is_(None), _arrived()))


def received_since_last(
    tx: Transaction, pool: str, chip_ids: Sequence[str], activity_type: str, *, at: datetime, per_chip: int
) -> dict[str, list[Unread]]:
    """Return the newest messages that chips received since each last executed an activity of a type.

    For an action that answers to what came in and keeps nothing of its own: its activity says when. What
    came more than a week before ``at`` is left as it is.
    """
    if not chip_ids:
        return {}
    asked = {
        "in_pool": pool,
        "ids": list(chip_ids),
        "of_type": activity_type,
        "since": at - LOOKED_BACK_AT,
        "per_chip": per_chip,
    }
    return _by_recipient(tx.connection.execute(_received_since_last(), asked))


@cache
def _received_since_last() -> sa.Select[Any]:
    last = (
        sa.select(activities.c.chip_id, sa.func.max(activities.c.final_at).label("at"))
        .where(
            activities.c.chip_id.in_(sa.bindparam("ids", expanding=True)),
            activities.c.type == sa.bindparam("of_type"),
            activities.c.state == ActivityState.EXECUTED,
        )
        .group_by(activities.c.chip_id)
        .subquery()
    )
    before = sa.select(last.c.at).where(last.c.chip_id == messages.c.recipient_chip_id).scalar_subquery()
    since = sa.or_(before.is_(None), messages.c.sent_at >= before)
    arrived = sa.or_(_arrived(), has_state(MessageState.READ))
    return _newest_received(sa.and_(since, arrived))


def _arrived() -> sa.ColumnElement[bool]:
    return sa.or_(
        has_state(MessageState.DELIVERED),
        sa.and_(
            messages.c.confirmable.is_(sa.false()),
            sa.or_(*(has_state(s) for s in (MessageState.ACCEPTED, MessageState.AT_WHATSAPP))),
        ),
    )


def _newest_received(which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    rank = (
        sa.func.row_number()
        .over(partition_by=messages.c.recipient_chip_id, order_by=(messages.c.sent_at.desc(), messages.c.id))
        .label("rank")
    )
    ranked = (
        sa.select(
            messages.c.id,
            messages.c.recipient_chip_id,
            messages.c.sender_chip_id,
            messages.c.gateway_message_id,
            rank,
        )
        .where(
            messages.c.pool == sa.bindparam("in_pool"),
            messages.c.recipient_chip_id.in_(sa.bindparam("ids", expanding=True)),
            messages.c.sent_at > sa.bindparam("since"),
            which,
            messages.c.gateway_message_id.is_not(None),
        )
        .subquery()
    )
    return (
        sa.select(*(c for c in ranked.c if c.name != "rank"))
        .where(ranked.c.rank <= sa.bindparam("per_chip"))
        .order_by(ranked.c.recipient_chip_id, ranked.c.rank)
    )


def _by_recipient(rows: Iterable[Any]) -> dict[str, list[Unread]]:
    found: dict[str, list[Unread]] = {}
    for row in rows:
        found.setdefault(row.recipient_chip_id, []).append(Unread(*row))
    return found
