"""The sums that metrics are made of, from a roll-up instead of from the log.

Holds: :func:`counts`, which must equal ``counts.counts``, and :func:`accepted_by_chip`. What depends on the
moment comes from the log itself, by an index: messages that count unconfirmed for an hour, errors of the last
24 hours, and when a chip last sent or failed. Do not add: whether a roll-up may be asked (``rollups.serves``).
"""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.domain.metrics import MessageCounts
from warmup_pipeline.domain.values import MessageKind
from warmup_pipeline.store.attempts import succeeded as accepted
from warmup_pipeline.store.counts import is_error, is_two_way
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.messages import UNCONFIRMED_COUNTS_FOR
from warmup_pipeline.store.rollup_sums import OF_METRICS, not_searched_by, provisional, settled
from warmup_pipeline.store.schema import chip_message_days, chip_message_totals, messages
from warmup_pipeline.store.scope import Kind, Scope, in_scope


def accepted_by_chip(tx: Transaction, pool: str) -> dict[str, int]:
    """Return how many messages of each chip were accepted and have not failed, by the roll-up."""
    totals = chip_message_totals
    query = sa.select(totals.c.chip_id, totals.c.succeeded).where(totals.c.pool == pool)
    return {row[0]: int(row[1]) for row in tx.connection.execute(query).all()}


def counts(
    tx: Transaction, pool: str, *, at: datetime, day: date, scope: Scope | None = None
) -> dict[str, MessageCounts]:
    """Return what ``counts.counts`` returns, from the roll-up where it serves (``rollups.serves``).

    Args:
        tx: the transaction.
        pool: the pool.
        at: the moment.
        day: its local day.
        scope: only of the chips in it; ``None``: of all chips of the pool.
    """
    if scope is None:
        scope = Scope(pool)
    asked = scope.asked | {
        "in_pool": pool,
        "today": day,
        "an_hour_ago": at - UNCONFIRMED_COUNTS_FOR,
        "a_day_ago": at - timedelta(hours=24),
    }
    sent: Counter[str] = Counter()
    sent_today: Counter[str] = Counter()
    received: Counter[str] = Counter()
    received_today: Counter[str] = Counter()
    media: set[tuple[str, MessageKind]] = set()
    for sender, recipient, its_day, kind in tx.connection.execute(_not_yet_confirmed(), asked).all():
        sent[sender] += 1
        received[recipient] += 1
        if its_day == day:
            sent_today[sender] += 1
            received_today[recipient] += 1
        media.add((sender, MessageKind(kind)))
    two_way: Counter[str] = Counter()
    for one, other in tx.connection.execute(_two_way_for_now(), asked).all():
        two_way.update((one, other))
    errors = {row[0]: int(row[1]) for row in tx.connection.execute(_errors_lately(), asked).all()}
    on_day = {row[0]: (row[1], row[2]) for row in tx.connection.execute(_of_today(), asked).all()}
    found = {}
    rows = tx.connection.execute(_totals(scope.kind), asked).all()
    # By their places, in the order of OF_METRICS: thousands of rows are asked for each column, and by its name that
    # takes three times as long.
    for (
        chip_id,
        sent_total,
        received_total,
        attempted,
        succeeded,
        unknown,
        confirmable,
        confirmed,
        pictures,
        audios,
        restrictions,
        two_way_total,
        last_error_at,
        last_sent_at,
    ) in rows:
        kinds = {
            kind
            for kind, n in ((MessageKind.PICTURE, pictures), (MessageKind.AUDIO, audios))
            if n or (chip_id, kind) in media
        }
        sent_on_day, received_on_day = on_day.get(chip_id, (0, 0))
        found[chip_id] = MessageCounts(
            sent_total=sent_total + sent.get(chip_id, 0),
            received_total=received_total + received.get(chip_id, 0),
            sent_today=sent_on_day + sent_today.get(chip_id, 0),
            received_today=received_on_day + received_today.get(chip_id, 0),
            attempted=attempted,
            succeeded=succeeded,
            unknown=unknown,
            confirmable=confirmable,
            confirmed=confirmed,
            bidirectional=two_way_total + two_way.get(chip_id, 0),
            media_kinds=frozenset(kinds),
            errors_24h=errors.get(chip_id, 0),
            restriction_failures=restrictions,
            last_error_at=last_error_at,
            last_sent_at=last_sent_at,
        )
    return found


@cache
def _totals(kind: Kind) -> sa.Select[Any]:
    totals = chip_message_totals

    def newest(condition: sa.ColumnElement[bool], name: str) -> sa.ColumnElement[Any]:
        # By the indexes on a sender's messages and on its failed ones: the newest come first.
        query = (
            sa.select(messages.c.sent_at)
            .where(messages.c.sender_chip_id == totals.c.chip_id, condition)
            .order_by(messages.c.sent_at.desc())
            .limit(sa.literal_column("1"))
            .correlate(totals)
        )
        return query.scalar_subquery().label(name)

    return (
        sa.select(
            totals.c.chip_id,
            *(totals.c[name] for name in OF_METRICS),
            newest(is_error, "last_error_at"),
            newest(accepted, "last_sent_at"),
        )
        .where(in_scope(totals, kind))
        .order_by(totals.c.chip_id)
    )


@cache
def _of_today() -> sa.Select[Any]:
    """Return the query for what each chip's messages of the day come to.

    By itself: on a day of which PostgreSQL knows nothing yet, it takes both sides of a join with it to be one row.
    """
    days = chip_message_days
    return sa.select(days.c.chip_id, days.c.sent, days.c.received).where(
        days.c.pool == sa.bindparam("in_pool"), days.c.day == sa.bindparam("today")
    )


def _of_the_last_hour() -> tuple[sa.ColumnElement[bool], ...]:
    return (
        messages.c.pool == sa.bindparam("in_pool"),
        messages.c.sent_at > sa.bindparam("an_hour_ago"),
        provisional,
    )


@cache
def _not_yet_confirmed() -> sa.Select[Any]:
    return sa.select(
        messages.c.sender_chip_id, messages.c.recipient_chip_id, messages.c.sent_day, messages.c.kind
    ).where(*_of_the_last_hour())


@cache
def _two_way_for_now() -> sa.Select[Any]:
    """Return the query for conversations that are two-way only while their last hour's turns count."""
    some = sa.select(messages.c.conversation_id).where(*_of_the_last_hour())
    now = sa.or_(settled, sa.and_(provisional, messages.c.sent_at > sa.bindparam("an_hour_ago")))
    return (
        sa.select(sa.func.min(messages.c.sender_chip_id), sa.func.max(messages.c.sender_chip_id))
        .where(messages.c.conversation_id.in_(some))
        .group_by(messages.c.conversation_id)
        .having(sa.and_(is_two_way(now), ~is_two_way(settled)))
    )


@cache
def _errors_lately() -> sa.Select[Any]:
    return (
        sa.select(messages.c.sender_chip_id, sa.func.count())
        .where(
            messages.c.pool == sa.bindparam("in_pool"),
            is_error,
            messages.c.sent_at > sa.bindparam("a_day_ago"),
        )
        # Not in the order of the index on senders: SQLite would look at every sender's messages for it.
        .group_by(not_searched_by(messages.c.sender_chip_id))
    )
