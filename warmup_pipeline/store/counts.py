"""The sums of the message log that metrics are made of, straight from the log.

Holds: :func:`counts`, which everything else that knows such a sum must equal, and what each sum is:
:func:`of_senders` and :func:`of_recipients`. Do not add: sums that are kept (``rollups``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from warmup_pipeline.domain.failures import SENDER_ERRORS
from warmup_pipeline.domain.metrics import MessageCounts
from warmup_pipeline.domain.values import FailureClass, MessageKind, MessageState
from warmup_pipeline.store.attempts import count_of
from warmup_pipeline.store.attempts import failed as failed_attempt
from warmup_pipeline.store.attempts import succeeded as accepted
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.memory import remembered_until
from warmup_pipeline.store.messages import UNCONFIRMED_COUNTS_FOR, counting_after
from warmup_pipeline.store.schema import conversations, messages

# Spelled out, so that the index on failed messages is seen to answer.
_failed: Final = messages.c.state == sa.literal_column(f"'{MessageState.FAILED.value}'")

is_error: Final = sa.and_(_failed, messages.c.failure_class.in_(sorted(SENDER_ERRORS)))
"""A failure of the sender's own channel."""


def of_senders(counts_now: sa.ColumnElement[bool]) -> dict[str, sa.ColumnElement[Any]]:
    """Return what is summed of each sender's messages, by name.

    Args:
        counts_now: the condition that a message counts (``messages.counting_after``).
    """
    # An attempt is a send whose outcome is known and was in the sender's hand (domain.md, "Metrics").
    not_our_own = messages.c.failure_class.not_in([FailureClass.RECIPIENT, FailureClass.BUG])
    can_be = sa.and_(accepted, messages.c.confirmable.is_(sa.true()))
    return {
        "sent": count_of(counts_now),
        "attempted": count_of(sa.or_(accepted, sa.and_(_failed, not_our_own))),
        "succeeded": count_of(accepted),
        "unknown": count_of(messages.c.state == MessageState.UNKNOWN),
        "confirmable": count_of(can_be),
        "confirmed": count_of(sa.and_(can_be, messages.c.confirmed_at.is_not(None))),
        "pictures": count_of(sa.and_(counts_now, messages.c.kind == MessageKind.PICTURE)),
        "audios": count_of(sa.and_(counts_now, messages.c.kind == MessageKind.AUDIO)),
        "sends": sa.func.count(),
        "delivered": count_of(sa.and_(accepted, messages.c.confirmed_at.is_not(None))),
        "failed": count_of(failed_attempt),
        "restrictions": count_of(sa.and_(_failed, messages.c.failure_class == FailureClass.RESTRICTION)),
    }


def of_recipients(counts_now: sa.ColumnElement[bool]) -> dict[str, sa.ColumnElement[Any]]:
    """Return what is summed of the messages to each recipient, by name."""
    return {"received": count_of(counts_now), "heard": count_of(accepted)}


def latest(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
    """Return when the last of the messages that hold a condition was sent."""
    # max() over a CASE loses the column's type; it is given back here.
    return sa.type_coerce(sa.func.max(sa.case((condition, messages.c.sent_at))), messages.c.sent_at.type)


def is_two_way(counts_now: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Return the condition that each side of a conversation, whose messages are grouped, has had a turn."""
    odd = messages.c.turn % 2 == 1
    return sa.and_(count_of(sa.and_(counts_now, odd)) > 0, count_of(sa.and_(counts_now, ~odd)) > 0)


def counts(tx: Transaction, pool: str, *, at: datetime, day: date) -> dict[str, MessageCounts]:
    """Return the sums of the log that each chip's metrics are made of, for every chip that has any.

    The log is summed in parts, of which the older ones no longer depend on the time of day: what has been
    unconfirmed for less than an hour, or is an error of the last 24 hours, lies in the newest one.

    Args:
        tx: the transaction.
        pool: the pool.
        at: the moment.
        day: its local day.
    """
    confirmed_until = at - UNCONFIRMED_COUNTS_FOR
    now = {
        "in_pool": pool,
        "until_day": day,
        "at": at,
        "today": day,
        "confirmed_until": confirmed_until,
        "a_day_ago": at - timedelta(hours=24),
    }
    settled_until = day - _OLD_AFTER
    parts = [_old_sums(tx, pool, until_day=settled_until)]
    if tx.memory is not None:
        # Asked once and remembered, where nothing of yesterday depends on the hour any more.
        yesterday = day - timedelta(days=1)
        of_yesterday = _sums_of_day(tx, pool, until_day=yesterday)
        if all(_is_settled(sums, until=confirmed_until) for sums in of_yesterday.values()):
            parts.append(of_yesterday)
            settled_until = yesterday
    parts.append(_summed(tx, {"from_day": settled_until + timedelta(days=1), **now}))
    two_way = _bidirectional(tx, pool, at=at, settled_until=settled_until)
    return {
        chip_id: _message_counts(
            [part[chip_id] for part in parts if chip_id in part], two_way.get(chip_id, 0)
        )
        for chip_id in sorted({chip_id for part in parts for chip_id in part})
    }


_OLD_AFTER: Final = timedelta(days=2)
"""A message of the local day before yesterday was sent more than 24 hours ago, whatever the hour is now."""

_ERRORS: Final = 9
"""Which of the sums are the errors of 24 hours."""

_Sums = dict[str, tuple[Any, ...]]
"""By chip: how much of everything, in the order of :func:`_sums`, then what was received (all, today)."""

_SENT: Final = 13
"""How many values :func:`_sums` gives for a sender: eleven counts, and two times."""


def _is_settled(sums: tuple[Any, ...], *, until: datetime) -> bool:
    """Whether a chip's sums hold no error, and nothing that was accepted after an instant."""
    last_sent = sums[_SENT - 1]
    return not sums[_ERRORS] and (last_sent is None or last_sent <= until)


def _moment_after(day: date) -> datetime:
    """Return a moment by which a local day is over by more than an hour in every zone, UTC."""
    return datetime.combine(day + timedelta(days=2), time(0), tzinfo=UTC)


@remembered_until(messages)
def _old_sums(tx: Transaction, pool: str, *, until_day: date) -> _Sums:
    return _settled_sums(tx, pool, from_day=date.min, until_day=until_day)


@remembered_until(messages)
def _sums_of_day(tx: Transaction, pool: str, *, until_day: date) -> _Sums:
    """Return the sums of one day that is over, with all its errors as if they were of the last 24 hours."""
    return _settled_sums(tx, pool, from_day=until_day, until_day=until_day, errors_since=_ALWAYS)


def _settled_sums(
    tx: Transaction, pool: str, *, from_day: date, until_day: date, errors_since: datetime | None = None
) -> _Sums:
    settled = _moment_after(until_day)
    asked = {
        "in_pool": pool,
        "from_day": from_day,
        "until_day": until_day,
        "at": settled,
        "today": settled.date(),
        "confirmed_until": settled,
        "a_day_ago": errors_since or settled,
    }
    return _summed(tx, asked)


def _summed(tx: Transaction, asked: Mapping[str, Any]) -> _Sums:
    sent, received = _sums()
    heard = {row[0]: (int(row[1]), int(row[2])) for row in tx.connection.execute(received, asked).all()}
    found: _Sums = {}
    for chip_id, *values in tx.connection.execute(sent, asked).all():
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
    counts_now = counting_after(sa.bindparam("confirmed_until"))
    today = messages.c.sent_day == sa.bindparam("today")
    sums = of_senders(counts_now)
    sent = (
        sa.select(
            messages.c.sender_chip_id,
            sums["sent"],
            count_of(sa.and_(counts_now, today)),
            sums["attempted"],
            sums["succeeded"],
            sums["unknown"],
            sums["confirmable"],
            sums["confirmed"],
            sums["pictures"],
            sums["audios"],
            count_of(sa.and_(is_error, messages.c.sent_at > sa.bindparam("a_day_ago"))),
            sums["restrictions"],
            latest(is_error),
            latest(accepted),
        )
        .where(*part)
        .group_by(messages.c.sender_chip_id)
    )
    received = (
        sa.select(
            messages.c.recipient_chip_id,
            of_recipients(counts_now)["received"],
            count_of(sa.and_(counts_now, today)),
        )
        .where(*part)
        .group_by(messages.c.recipient_chip_id)
    )
    return sent, received


def _bidirectional(tx: Transaction, pool: str, *, at: datetime, settled_until: date) -> dict[str, int]:
    """Return how many two-way conversations each chip has had: both sides had a turn that counts.

    Args:
        tx: the transaction.
        pool: the pool.
        at: the moment.
        settled_until: up to which local day no message's counting depends on the hour any more.
    """
    if tx.memory is None:
        return _two_way_between(tx, pool, since=_ALWAYS, before=_FOREVER, at=at)
    parts = (
        _old_two_way(tx, pool, until_day=settled_until - timedelta(days=1)),
        _last_two_way(tx, pool, until_day=settled_until),
        _two_way_between(tx, pool, since=_made_before(settled_until), before=_FOREVER, at=at),
    )
    chip_ids = {chip_id for part in parts for chip_id in part}
    return {chip_id: sum(part.get(chip_id, 0) for part in parts) for chip_id in chip_ids}


_FOREVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
_ALWAYS: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _made_before(day: date) -> datetime:
    """Return a moment: of a conversation made before it every turn was sent by the end of a local day."""
    # A conversation is over after a day, and no zone's day ends before 10:00 UTC.
    return datetime.combine(day, time(10), tzinfo=UTC) - timedelta(days=1)


@remembered_until(messages)
def _old_two_way(tx: Transaction, pool: str, *, until_day: date) -> dict[str, int]:
    return _two_way_between(
        tx, pool, since=_ALWAYS, before=_made_before(until_day), at=_moment_after(until_day)
    )


@remembered_until(messages)
def _last_two_way(tx: Transaction, pool: str, *, until_day: date) -> dict[str, int]:
    """Return those made last of whose conversations every turn was sent by the end of a day."""
    since, before = _made_before(until_day - timedelta(days=1)), _made_before(until_day)
    return _two_way_between(tx, pool, since=since, before=before, at=_moment_after(until_day))


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
    return {row[0]: int(row[1]) for row in tx.connection.execute(_two_way(), asked).all()}


@cache
def _two_way() -> sa.Select[Any]:
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
        .having(is_two_way(counting_after(sa.bindparam("confirmed_until"))))
    ).cte("two_way")
    sides = sa.union_all(
        sa.select(two_way.c.opener_chip_id.label("chip_id")),
        sa.select(two_way.c.responder_chip_id.label("chip_id")),
    ).subquery()
    return sa.select(sides.c.chip_id, sa.func.count()).group_by(sides.c.chip_id)
