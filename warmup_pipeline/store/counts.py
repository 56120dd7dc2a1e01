"""The sums of the message log that metrics are made of, straight from the log.

Holds: :func:`counts`, which everything else that knows such a sum must equal, and what each sum is:
:func:`of_senders` and :func:`of_recipients`. Do not add: sums that are kept (``rollups``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
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
from warmup_pipeline.store.message_states import has_state
from warmup_pipeline.store.messages import UNCONFIRMED_COUNTS_FOR, counting_after
from warmup_pipeline.store.schema import conversations, messages

_failed: Final = has_state(MessageState.FAILED)

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

    Args:
        tx: the transaction.
        pool: the pool.
        at: the moment.
        day: its local day.
    """
    asked = {
        "in_pool": pool,
        "at": at,
        "today": day,
        "confirmed_until": at - UNCONFIRMED_COUNTS_FOR,
        "a_day_ago": at - timedelta(hours=24),
    }
    run = tx.connection.execute
    sent_by, received_by = _sums()
    sent = {row[0]: row for row in run(sent_by, asked).all()}
    received = {row[0]: (int(row[1]), int(row[2])) for row in run(received_by, asked).all()}
    two_way = {row[0]: int(row[1]) for row in run(_two_way(), asked).all()}
    return {
        chip_id: _message_counts(
            sent.get(chip_id, _NOTHING_SENT), received.get(chip_id, (0, 0)), two_way.get(chip_id, 0)
        )
        for chip_id in sorted({*sent, *received})
    }


_NOTHING_SENT: Final = ("", *(0 for _ in range(11)), None, None)
"""A chip that has sent nothing, in the order of the first of :func:`_sums`."""


def _message_counts(sent: Sequence[Any], received: tuple[int, int], bidirectional: int) -> MessageCounts:
    numbers = [int(value) for value in sent[1:12]]
    kinds = {kind for kind, n in ((MessageKind.PICTURE, numbers[7]), (MessageKind.AUDIO, numbers[8])) if n}
    return MessageCounts(
        sent_total=numbers[0],
        sent_today=numbers[1],
        received_total=received[0],
        received_today=received[1],
        attempted=numbers[2],
        succeeded=numbers[3],
        unknown=numbers[4],
        confirmable=numbers[5],
        confirmed=numbers[6],
        bidirectional=bidirectional,
        media_kinds=frozenset(kinds),
        errors_24h=numbers[9],
        restriction_failures=numbers[10],
        last_error_at=sent[12],
        last_sent_at=sent[13],
    )


@cache
def _sums() -> tuple[sa.Select[Any], sa.Select[Any]]:
    """Return the two queries of :func:`counts`, by sender and by recipient."""
    part = (
        messages.c.pool == sa.bindparam("in_pool"),
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


@cache
def _two_way() -> sa.Select[Any]:
    """Return the query for how many two-way conversations each chip has had: both sides had a turn that counts."""
    two_way = (
        sa.select(
            messages.c.conversation_id, conversations.c.opener_chip_id, conversations.c.responder_chip_id
        )
        .join(conversations, conversations.c.id == messages.c.conversation_id)
        .where(
            messages.c.pool == sa.bindparam("in_pool"),
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
