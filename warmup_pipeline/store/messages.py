"""The message log: every turn whose HTTP call began, and what became of it.

Holds: writing messages down before they are sent, recording outcomes, and the sums that limits and
metrics are made of. Root cause 6 (metrics from counters) is prevented by every number being a query
over this log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from warmup_pipeline.domain.failures import SENDER_ERRORS
from warmup_pipeline.domain.metrics import MessageCounts
from warmup_pipeline.domain.values import (
    ACCEPTED_STATES,
    LIMIT_STATES,
    ActivityState,
    FailureClass,
    MessageKind,
    MessageState,
)
from warmup_pipeline.store.bulk import insert_rows, update_rows
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.memory import remembered, remembered_until
from warmup_pipeline.store.schema import activities, conversations, messages

UNCONFIRMED_COUNTS_FOR: Final = timedelta(minutes=60)
"""How long a confirmable message counts without confirmation (domain.md, "Confirmed, not just accepted")."""

_accepted = messages.c.state.in_(sorted(ACCEPTED_STATES))
in_limits: Final = sa.or_(messages.c.state.in_(sorted(LIMIT_STATES)), messages.c.accepted_at.is_not(None))
"""A message that counts in its sender's limits. One that was accepted and failed later stays: the gateway
was given it, and a receipt that comes after the failure may lift it up again."""
_failed = messages.c.state == MessageState.FAILED
_is_sending = messages.c.state == MessageState.SENDING


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


def counting(at: datetime) -> sa.ColumnElement[bool]:
    """Return the condition that a message counts at an instant, as sent and as received."""
    return _counting(at - UNCONFIRMED_COUNTS_FOR)


def _counting(confirmed_until: Any) -> sa.ColumnElement[bool]:
    return sa.and_(
        _accepted,
        sa.or_(
            messages.c.confirmable.is_(sa.false()),
            messages.c.confirmed_at.is_not(None),
            messages.c.sent_at > confirmed_until,
        ),
    )


def _sum(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)


def insert(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write messages down as ``sending``: they take their place in the limits before any HTTP call."""
    insert_rows(tx, messages, rows)


def record(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> int:
    """Record outcomes of messages that are ``sending``: rows of id and the same further columns.

    Returns how many there were: fewer than asked where a later cycle has taken them over.
    """
    return update_rows(tx, messages, rows, where=_is_sending)


def states(tx: Transaction, ids: Sequence[str]) -> dict[str, MessageState]:
    """Return the state of each of these messages (at most ``ROWS_PER_STATEMENT``)."""
    query = sa.select(messages.c.id, messages.c.state).where(messages.c.id.in_(ids)).with_for_update()
    return {row[0]: MessageState(row[1]) for row in tx.connection.execute(query)}


def withdraw(tx: Transaction, ids: Sequence[str]) -> None:
    """Remove messages that are ``sending`` although their HTTP call was certainly never begun."""
    if ids:
        tx.connection.execute(
            sa.delete(messages).where(messages.c.id.in_(ids), messages.c.state == MessageState.SENDING)
        )


def change(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set columns of many messages: rows of id and the same further columns."""
    update_rows(tx, messages, rows)


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
    return {row[0]: MessageState(row[1]) for row in tx.connection.execute(query)}


@remembered(messages)
def use_of_limits(tx: Transaction, pool: str, *, at: datetime, day: date) -> dict[str, SendUse]:
    """Return what each chip of the pool has used of its limits: (at - 60 min, at], and the local day."""
    rows = tx.connection.execute(
        _use_of_limits(),
        {
            "in_pool": pool,
            "an_hour_ago": at - timedelta(minutes=60),
            "until": at,
            "today": day,
            "yesterday": day - timedelta(days=1),
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
            _sum(in_hour),
            sa.type_coerce(sa.func.min(sa.case((in_hour, messages.c.sent_at))), messages.c.sent_at.type),
            _sum(messages.c.sent_day == sa.bindparam("today")),
            sa.type_coerce(sa.func.max(messages.c.sent_at), messages.c.sent_at.type),
        )
        .where(
            messages.c.pool == sa.bindparam("in_pool"),
            messages.c.sent_day >= sa.bindparam("yesterday"),
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
        row[0]: (int(row[1]), 0) for row in tx.connection.execute(sent, asked)
    }
    for chip_id, count in tx.connection.execute(received, asked):
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


def unread(tx: Transaction, pool: str, chip_ids: Sequence[str], *, per_chip: int) -> dict[str, list[Unread]]:
    """Return the newest messages that chips received and have not marked read, at most ``per_chip`` each.

    Received is what was seen to arrive; where nobody can see that, what was accepted and has not failed.
    """
    if not chip_ids:
        return {}
    asked = {"in_pool": pool, "ids": list(chip_ids), "per_chip": per_chip}
    return _by_recipient(tx.connection.execute(_unread(), asked))


@cache
def _unread() -> sa.Select[Any]:
    return _newest_received(sa.and_(messages.c.marked_read_at.is_(None), _arrived()))


def received_since_last(
    tx: Transaction, pool: str, chip_ids: Sequence[str], activity_type: str, *, per_chip: int
) -> dict[str, list[Unread]]:
    """Return the newest messages that chips received since each last executed an activity of a type.

    For an action that answers to what came in and keeps nothing of its own: its activity says when.
    """
    if not chip_ids:
        return {}
    last = (
        sa.select(activities.c.chip_id, sa.func.max(activities.c.final_at).label("at"))
        .where(
            activities.c.chip_id.in_(sa.bindparam("ids", expanding=True)),
            activities.c.type == activity_type,
            activities.c.state == ActivityState.EXECUTED,
        )
        .group_by(activities.c.chip_id)
        .subquery()
    )
    before = sa.select(last.c.at).where(last.c.chip_id == messages.c.recipient_chip_id).scalar_subquery()
    since = sa.or_(before.is_(None), messages.c.sent_at >= before)
    arrived = sa.or_(_arrived(), messages.c.state == MessageState.READ)
    asked = {"in_pool": pool, "ids": list(chip_ids), "per_chip": per_chip}
    return _by_recipient(tx.connection.execute(_newest_received(sa.and_(since, arrived)), asked))


def _arrived() -> sa.ColumnElement[bool]:
    return sa.or_(
        messages.c.state == MessageState.DELIVERED,
        sa.and_(
            messages.c.confirmable.is_(sa.false()),
            sa.or_(*(messages.c.state == s for s in (MessageState.ACCEPTED, MessageState.AT_WHATSAPP))),
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


def counts(tx: Transaction, pool: str, *, at: datetime, day: date) -> dict[str, MessageCounts]:
    """Return the sums of the log that each chip's metrics are made of, for every chip that has any.

    The log is summed in two parts, of which the older one no longer depends on the time of day: what
    has been unconfirmed for an hour, or is an error of the last 24 hours, lies in the newer one.

    Args:
        tx: the transaction.
        pool: the pool.
        at: the moment.
        day: its local day.
    """
    last_old = day - _OLD_AFTER
    now = {
        "at": at,
        "today": day,
        "confirmed_until": at - UNCONFIRMED_COUNTS_FOR,
        "a_day_ago": at - timedelta(hours=24),
    }
    parts = (
        _old_sums(tx, pool, until_day=last_old),
        _summed(tx, {"in_pool": pool, "from_day": last_old + timedelta(days=1), "until_day": day, **now}),
    )
    two_way = bidirectional(tx, pool, at=at, day=day)
    return {
        chip_id: _message_counts(
            [part[chip_id] for part in parts if chip_id in part], two_way.get(chip_id, 0)
        )
        for chip_id in sorted({chip_id for part in parts for chip_id in part})
    }


_OLD_AFTER: Final = timedelta(days=2)
"""A message of the local day before yesterday was sent more than 24 hours ago, whatever the hour is now."""

_Sums = dict[str, tuple[Any, ...]]
"""By chip: how much of everything, in the order of :func:`_sums`, then what was received (all, today)."""

_SENT: Final = 13
"""How many values :func:`_sums` gives for a sender: eleven counts, and two times."""


def _moment_after(day: date) -> datetime:
    """Return a moment by which a local day is over by more than an hour in every zone, UTC."""
    return datetime.combine(day + timedelta(days=2), time(0), tzinfo=UTC)


@remembered_until(messages)
def _old_sums(tx: Transaction, pool: str, *, until_day: date) -> _Sums:
    settled = _moment_after(until_day)
    asked = {
        "in_pool": pool,
        "from_day": date.min,
        "until_day": until_day,
        "at": settled,
        "today": settled.date(),
        "confirmed_until": settled,
        "a_day_ago": settled,
    }
    return _summed(tx, asked)


def _summed(tx: Transaction, asked: Mapping[str, Any]) -> _Sums:
    sent, received = _sums()
    heard = {row[0]: (int(row[1]), int(row[2])) for row in tx.connection.execute(received, asked)}
    found: _Sums = {}
    for chip_id, *values in tx.connection.execute(sent, asked):
        found[chip_id] = (*map(int, values[:-2]), *values[-2:], *heard.pop(chip_id, (0, 0)))
    nothing = (*(0 for _ in range(_SENT - 2)), None, None)
    return found | {chip_id: (*nothing, *values) for chip_id, values in heard.items()}


def _message_counts(parts: Sequence[tuple[Any, ...]], bidirectional: int) -> MessageCounts:
    whole = [sum(values) for values in zip(*(part[: _SENT - 2] for part in parts), strict=True)]
    last_error, last_sent = (
        max((part[place] for part in parts if part[place] is not None), default=None)
        for place in (_SENT - 2, _SENT - 1)
    )
    kinds = {kind for kind, n in ((MessageKind.PICTURE, whole[7]), (MessageKind.AUDIO, whole[8])) if n}
    return MessageCounts(
        sent_total=whole[0],
        sent_today=whole[1],
        received_total=sum(part[_SENT] for part in parts),
        received_today=sum(part[_SENT + 1] for part in parts),
        attempted=whole[2],
        succeeded=whole[3],
        unknown=whole[4],
        confirmable=whole[5],
        confirmed=whole[6],
        bidirectional=bidirectional,
        media_kinds=frozenset(kinds),
        errors_24h=whole[9],
        restriction_failures=whole[10],
        last_error_at=last_error,
        last_sent_at=last_sent,
    )


@cache
def _sums() -> tuple[sa.Select[Any], sa.Select[Any]]:
    """Return the two queries of :func:`counts`, by sender and by recipient."""
    part = (
        messages.c.pool == sa.bindparam("in_pool"),
        messages.c.sent_day >= sa.bindparam("from_day"),
        messages.c.sent_day <= sa.bindparam("until_day"),
        messages.c.sent_at <= sa.bindparam("at"),
    )
    counts_now = _counting(sa.bindparam("confirmed_until"))
    today = messages.c.sent_day == sa.bindparam("today")
    error = sa.and_(_failed, messages.c.failure_class.in_(sorted(SENDER_ERRORS)))
    # An attempt is a send whose outcome is known and was in the sender's hand (domain.md, "Metrics").
    not_our_own = messages.c.failure_class.not_in([FailureClass.RECIPIENT, FailureClass.BUG])
    sent = (
        sa.select(
            messages.c.sender_chip_id,
            _sum(counts_now),
            _sum(sa.and_(counts_now, today)),
            _sum(sa.or_(_accepted, sa.and_(_failed, not_our_own))),
            _sum(_accepted),
            _sum(messages.c.state == MessageState.UNKNOWN),
            _sum(sa.and_(_accepted, messages.c.confirmable.is_(sa.true()))),
            _sum(
                sa.and_(
                    _accepted, messages.c.confirmable.is_(sa.true()), messages.c.confirmed_at.is_not(None)
                )
            ),
            _sum(sa.and_(counts_now, messages.c.kind == MessageKind.PICTURE)),
            _sum(sa.and_(counts_now, messages.c.kind == MessageKind.AUDIO)),
            _sum(sa.and_(error, messages.c.sent_at > sa.bindparam("a_day_ago"))),
            _sum(sa.and_(_failed, messages.c.failure_class == FailureClass.RESTRICTION)),
            sa.type_coerce(sa.func.max(sa.case((error, messages.c.sent_at))), messages.c.sent_at.type),
            sa.type_coerce(sa.func.max(sa.case((_accepted, messages.c.sent_at))), messages.c.sent_at.type),
        )
        .where(*part)
        .group_by(messages.c.sender_chip_id)
    )
    received = (
        sa.select(messages.c.recipient_chip_id, _sum(counts_now), _sum(sa.and_(counts_now, today)))
        .where(*part)
        .group_by(messages.c.recipient_chip_id)
    )
    return sent, received


def bidirectional(tx: Transaction, pool: str, *, at: datetime, day: date) -> dict[str, int]:
    """Return how many two-way conversations each chip has had: both sides had a turn that counts."""
    last_old = day - _OLD_AFTER
    old = _old_two_way(tx, pool, until_day=last_old)
    recent = _two_way_between(tx, pool, since=_made_before(last_old), before=_FOREVER, at=at)
    return {chip_id: old.get(chip_id, 0) + recent.get(chip_id, 0) for chip_id in {**old, **recent}}


_FOREVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
_ALWAYS: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _made_before(day: date) -> datetime:
    """Return a moment: of a conversation made before it every turn was sent by the end of a local day."""
    return _moment_after(day) - timedelta(days=3)


@remembered_until(messages)
def _old_two_way(tx: Transaction, pool: str, *, until_day: date) -> dict[str, int]:
    return _two_way_between(
        tx, pool, since=_ALWAYS, before=_made_before(until_day), at=_moment_after(until_day)
    )


def _two_way_between(
    tx: Transaction, pool: str, *, since: datetime, before: datetime, at: datetime
) -> dict[str, int]:
    asked = {
        "in_pool": pool,
        "at": at,
        "confirmed_until": at - UNCONFIRMED_COUNTS_FOR,
        "since": since,
        "since_day": since.date() - timedelta(days=1),
        "before": before,
    }
    return {row[0]: int(row[1]) for row in tx.connection.execute(_two_way(), asked)}


@cache
def _two_way() -> sa.Select[Any]:
    odd = messages.c.turn % 2 == 1
    counts_now = _counting(sa.bindparam("confirmed_until"))
    two_way = (
        sa.select(
            messages.c.conversation_id, conversations.c.opener_chip_id, conversations.c.responder_chip_id
        )
        .join(conversations, conversations.c.id == messages.c.conversation_id)
        .where(
            conversations.c.pool == sa.bindparam("in_pool"),
            conversations.c.created_at >= sa.bindparam("since"),
            conversations.c.created_at < sa.bindparam("before"),
            # No turn is older than its conversation: what the index on days finds is enough.
            messages.c.pool == sa.bindparam("in_pool"),
            messages.c.sent_day >= sa.bindparam("since_day"),
            messages.c.sent_at <= sa.bindparam("at"),
        )
        .group_by(
            messages.c.conversation_id, conversations.c.opener_chip_id, conversations.c.responder_chip_id
        )
        .having(sa.and_(_sum(sa.and_(counts_now, odd)) > 0, _sum(sa.and_(counts_now, ~odd)) > 0))
    ).cte("two_way")
    sides = sa.union_all(
        sa.select(two_way.c.opener_chip_id.label("chip_id")),
        sa.select(two_way.c.responder_chip_id.label("chip_id")),
    ).subquery()
    return sa.select(sides.c.chip_id, sa.func.count()).group_by(sides.c.chip_id)
