"""The derived tables: metrics, trust, warming day, eligibility, transitions.

Holds: replacing and reading them. They are computed from the log and can be recomputed at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.domain.metrics import ChipMetrics
from warmup_pipeline.domain.phases import Entered
from warmup_pipeline.domain.values import MessageKind, MessageState, TrustLevel
from warmup_pipeline.store.bulk import insert_rows, replace_rows, write_changed
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.memory import remembered, tell
from warmup_pipeline.store.schema import (
    chip_metrics,
    chips,
    messages,
    phase_eligibility,
    phase_transitions,
    trust_scores,
    warming_day,
)

_KINDS = (MessageKind.PICTURE, MessageKind.AUDIO)


def store_metrics(tx: Transaction, pool: str, found: Mapping[str, ChipMetrics], *, at: datetime) -> None:
    """Replace the metrics of a pool's chips."""
    rows = []
    for chip_id, one in sorted(found.items()):
        row: dict[str, Any] = {name: getattr(one, name) for name in metric_columns}
        row |= {"chip_id": chip_id, "pool": pool, "computed_at": at, "media_kinds": len(one.media_kinds)}
        rows.append(row)
    replace_rows(tx, chip_metrics, rows)
    tell(
        tx,
        metrics,
        {
            i: replace(one, media_kinds=_stored_kinds(len(one.media_kinds)))
            for i, one in sorted(found.items())
        },
        pool,
    )


metric_columns = tuple(
    column.name
    for column in chip_metrics.c
    if column.name in ChipMetrics.__dataclass_fields__ and column.name != "media_kinds"
)
"""Columns of ``chip_metrics`` that stand one to one for fields of ``ChipMetrics``."""


@remembered(chip_metrics)
def metrics(tx: Transaction, pool: str) -> dict[str, ChipMetrics]:
    """Return the stored metrics of a pool's chips. Which kinds of media is kept as how many."""
    found = {}
    for chip_id, kinds, *values in tx.connection.execute(_metrics_of_pool(), {"in_pool": pool}).all():
        named = dict(zip(metric_columns, values, strict=True))
        found[chip_id] = ChipMetrics(media_kinds=_stored_kinds(kinds), **named)
    return found


def _stored_kinds(count: int) -> frozenset[MessageKind]:
    return frozenset(_KINDS[:count])


@cache
def _metrics_of_pool() -> sa.Select[Any]:
    return sa.select(
        chip_metrics.c.chip_id, chip_metrics.c.media_kinds, *(chip_metrics.c[name] for name in metric_columns)
    ).where(chip_metrics.c.pool == sa.bindparam("in_pool"))


def store_trust(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the trust scores of a pool's chips."""
    if rows:
        pool = rows[0]["pool"]
        _write_changed(tx, trust_scores, pool, rows)
        scores = {row["chip_id"]: (row["score"], row["level"]) for row in rows}
        tell(tx, trust, {chip_id: scores[chip_id] for chip_id in sorted(scores)}, pool)


@remembered(trust_scores)
def trust(tx: Transaction, pool: str) -> dict[str, tuple[int, TrustLevel]]:
    """Return each chip's trust score and level."""
    found = tx.connection.execute(_trust_of_pool(), {"in_pool": pool})
    return {row[0]: (int(row[1]), TrustLevel(row[2])) for row in found}


@cache
def _trust_of_pool() -> sa.Select[Any]:
    return sa.select(trust_scores.c.chip_id, trust_scores.c.score, trust_scores.c.level).where(
        trust_scores.c.pool == sa.bindparam("in_pool")
    )


def trust_levels(tx: Transaction, pool: str) -> dict[str, TrustLevel]:
    """Return each chip's trust level."""
    return {chip_id: level for chip_id, (_, level) in trust(tx, pool).items()}


def store_warming_days(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the warming days of a pool's chips."""
    if rows:
        pool = rows[0]["pool"]
        _write_changed(tx, warming_day, pool, rows, "computed_day")
        days = {row["chip_id"]: row["warming_day"] for row in rows}
        tell(tx, warming_days, {chip_id: days[chip_id] for chip_id in sorted(days)}, pool)


def _write_changed(
    tx: Transaction,
    table: sa.Table,
    pool: str,
    rows: Sequence[Mapping[str, Any]],
    *more_stamps: str,
    whole: bool = False,
) -> None:
    if tx.memory is not None and not whole:
        replace_rows(tx, table, rows)
        return
    stamps = {name: rows[0][name] for name in ("computed_at", *more_stamps)} if rows else {}
    write_changed(tx, table, rows, within=table.c.pool == pool, stamps=stamps, whole=whole)


@remembered(warming_day)
def warming_days(tx: Transaction, pool: str | None = None) -> dict[str, int | None]:
    """Return each chip's stored warming day."""
    found = tx.connection.execute(_warming_days(everywhere=pool is None), {"in_pool": pool} if pool else {})
    return {row[0]: row[1] for row in found}


@cache
def _warming_days(*, everywhere: bool) -> sa.Select[Any]:
    query = sa.select(warming_day.c.chip_id, warming_day.c.warming_day)
    return query if everywhere else query.where(warming_day.c.pool == sa.bindparam("in_pool"))


def store_eligibility(tx: Transaction, pool: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the whole eligibility of a pool: a chip in its last phase has no rows."""
    _write_changed(tx, phase_eligibility, pool, rows, whole=True)


def add_transitions(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Note phase changes."""
    insert_rows(tx, phase_transitions, rows)


@remembered(phase_transitions)
def entered_with(tx: Transaction, pool: str) -> dict[tuple[str, str], Entered]:
    """Return what each chip had when it last entered a phase, by chip and phase."""
    return {
        (row[0], row[1]): Entered(*(int(row[2][name]["value"]) for name in _COUNTS))
        for row in tx.connection.execute(_entered(), {"in_pool": pool}).all()
        if all(row[2].get(name) is not None for name in _COUNTS)
    }


_COUNTS = ("sent", "received", "bidirectional")


@cache
def _entered() -> sa.Select[Any]:
    return (
        sa.select(phase_transitions.c.chip_id, phase_transitions.c.to_phase, phase_transitions.c.criteria)
        .where(phase_transitions.c.pool == sa.bindparam("in_pool"))
        .order_by(phase_transitions.c.at)
    )


def transitions_of_cycle(tx: Transaction, cycle_id: str) -> set[str]:
    """Return the chips that changed phase in a cycle."""
    return set(tx.connection.execute(_moved_in(), {"in_cycle": cycle_id}).scalars().all())


@cache
def _moved_in() -> sa.Select[Any]:
    return sa.select(phase_transitions.c.chip_id).where(
        phase_transitions.c.cycle_id == sa.bindparam("in_cycle")
    )


def recent_confirmations(
    tx: Transaction, pool: str, *, sent_before: datetime, since_day: date, last: int, missing: int
) -> dict[str, tuple[int, int]]:
    """Return, of the last confirmable messages of chips that lack some confirmations, (confirmed, looked at).

    Args:
        tx: the transaction.
        pool: the pool.
        sent_before: only messages sent before this instant: younger ones may still be confirmed.
        since_day: how far back to look, as a local day.
        last: how many of each chip's newest messages are looked at.
        missing: only chips of which so many of all these messages, or more, are unconfirmed.
    """
    rows = tx.connection.execute(
        _recent_confirmations(),
        {
            "in_pool": pool,
            "since_day": since_day,
            "since": datetime.combine(since_day, time(0), tzinfo=UTC) - timedelta(hours=14),
            "sent_before": sent_before,
            "last": last,
            "missing": missing,
        },
    )
    return {row[0]: (int(row[1]), int(row[2])) for row in rows}


def _judged(table: Any) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        table.c.sent_day >= sa.bindparam("since_day"),
        # Before any zone's beginning of that day: so that an index on a time answers.
        table.c.sent_at >= sa.bindparam("since"),
        table.c.sent_at < sa.bindparam("sent_before"),
        table.c.confirmable.is_(sa.true()),
        table.c.state.in_(
            [MessageState.ACCEPTED, MessageState.AT_WHATSAPP, MessageState.DELIVERED, MessageState.READ]
        ),
    )


@cache
def _recent_confirmations() -> sa.Select[Any]:
    """By sender, so that an index gives the newest first and no more than those are looked at.

    The index on what is unconfirmed is short, whatever the log is like: most chips are not in it.
    """
    missed = messages.alias("missed")
    suspects = (
        sa.select(missed.c.sender_chip_id)
        .where(missed.c.pool == sa.bindparam("in_pool"), *_judged(missed), missed.c.confirmed_at.is_(None))
        .group_by(missed.c.sender_chip_id)
        .having(sa.func.count() >= sa.bindparam("missing"))
    )
    newest = (
        sa.select(messages.c.confirmed_at)
        .where(
            messages.c.sender_chip_id == chips.c.id,
            *_judged(messages),
        )
        .order_by(messages.c.sent_at.desc())
        .limit(sa.bindparam("last", type_=sa.Integer))
        .correlate(chips)
    )
    confirmed, looked_at = newest.subquery(), newest.subquery()
    return sa.select(
        chips.c.id,
        sa.select(sa.func.count(confirmed.c.confirmed_at)).select_from(confirmed).scalar_subquery(),
        sa.select(sa.func.count()).select_from(looked_at).scalar_subquery(),
    ).where(chips.c.pool == sa.bindparam("in_pool"), chips.c.id.in_(suspects))
