"""The derived tables: metrics, trust, warming day, eligibility, transitions.

Holds: replacing and reading them. They are computed from the log and can be recomputed at any time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from operator import attrgetter
from typing import Any, Final

import sqlalchemy as sa

from warmup_pipeline.domain.metrics import ChipMetrics
from warmup_pipeline.domain.phases import Entered
from warmup_pipeline.domain.values import MessageKind, MessageState, TrustLevel
from warmup_pipeline.store.bulk import Columns, insert_rows, replace_rows, stamp, update_rows, write_changed
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
from warmup_pipeline.store.scope import Kind, Scope, in_scope

_KINDS = (MessageKind.PICTURE, MessageKind.AUDIO)


def store_metrics(
    tx: Transaction,
    pool: str,
    found: Mapping[str, ChipMetrics],
    *,
    at: datetime,
    known: Collection[str] = (),
) -> None:
    """Replace the metrics of a pool's chips.

    Args:
        tx: the transaction.
        pool: the pool.
        found: the metrics by chip.
        at: the tick they were computed for.
        known: chips that have metrics in this pool already.
    """
    names = ("chip_id", "computed_at", "media_kinds", *metric_columns)
    rows = [(chip_id, at, len(one.media_kinds), *_values(one)) for chip_id, one in sorted(found.items())]
    update_rows(tx, chip_metrics, Columns.of(names, [row for row in rows if row[0] in known]), key="chip_id")
    new = Columns.of(("pool", *names), [(pool, *row) for row in rows if row[0] not in known])
    replace_rows(tx, chip_metrics, new)
    if tx.memory is not None:
        stored = {i: _as_stored(m) for i, m in sorted(found.items())}
        tell(tx, metrics_in, stored, Scope(pool))


def _as_stored(metrics: ChipMetrics) -> ChipMetrics:
    """Return metrics as they are read again: of the kinds of media only their number is kept."""
    kinds = _KINDS_OF[len(metrics.media_kinds)]
    return metrics if metrics.media_kinds == kinds else replace(metrics, media_kinds=kinds)


metric_columns = tuple(
    column.name
    for column in chip_metrics.c
    if column.name in ChipMetrics.__dataclass_fields__ and column.name != "media_kinds"
)
"""Columns of ``chip_metrics`` that stand one to one for fields of ``ChipMetrics``."""

_values: Final = attrgetter(*metric_columns)

JUDGED: Final = (
    "sent_total",
    "received_total",
    "delivery_rate",
    "attempted",
    "bidirectional",
    "errors_24h",
    "restriction_failures",
    "last_error_at",
)
"""Metrics by which, beside the number of media kinds, trust and phases are judged."""


def judged_in(tx: Transaction, scope: Scope) -> dict[str, tuple[Any, ...]]:
    """Return of each chip in a scope what it is judged by, as it is stored: its media kinds, then :data:`JUDGED`.

    A chip whose metrics are another pool's has none.
    """
    found = tx.connection.execute(_judged_of(scope.kind), {"own_pool": scope.pool, **scope.asked}).all()
    return {row[0]: tuple(row[1:]) for row in found}


@cache
def _judged_of(kind: Kind) -> sa.Select[Any]:
    own = chip_metrics.c
    return sa.select(own.chip_id, own.media_kinds, *(own[name] for name in JUDGED)).where(
        in_scope(chip_metrics, kind), own.pool == sa.bindparam("own_pool")
    )


def metrics(tx: Transaction, pool: str) -> dict[str, ChipMetrics]:
    """Return the stored metrics of a pool's chips. Which kinds of media is kept as how many."""
    return metrics_in(tx, Scope(pool))


@remembered(chip_metrics)
def metrics_in(tx: Transaction, scope: Scope) -> dict[str, ChipMetrics]:
    """Return the stored metrics of the chips in a scope."""
    found = {}
    for chip_id, *values in tx.connection.execute(_metrics(scope.kind), scope.asked).all():
        values[_PLACE_OF_KINDS] = _KINDS_OF[values[_PLACE_OF_KINDS]]
        found[chip_id] = ChipMetrics(*values)
    return found


_FIELDS: Final = tuple(ChipMetrics.__dataclass_fields__)
_PLACE_OF_KINDS: Final = _FIELDS.index("media_kinds")
_KINDS_OF = tuple(frozenset(_KINDS[:n]) for n in range(len(_KINDS) + 1))


@cache
def _metrics(kind: Kind) -> sa.Select[Any]:
    return sa.select(chip_metrics.c.chip_id, *(chip_metrics.c[name] for name in _FIELDS)).where(
        in_scope(chip_metrics, kind)
    )


def computed_at(tx: Transaction, pool: str) -> dict[str, datetime]:
    """Return the tick for which the metrics of each chip of a pool were computed."""
    query = sa.select(chip_metrics.c.chip_id, chip_metrics.c.computed_at).where(chip_metrics.c.pool == pool)
    return {row[0]: row[1] for row in tx.connection.execute(query).all()}


SUMMED: Final = ("sent_today", "received_today", "bidirectional", "errors_24h", "unknown")
"""Metrics whose sums over a pool a cycle tells."""


def metric_sums(tx: Transaction, pool: str) -> dict[str, int]:
    """Return how many chips of a pool have metrics, and the sums of some of them."""
    row = tx.connection.execute(_metric_sums(), {"in_pool": pool}).one()
    return {name: int(value or 0) for name, value in zip(("chips", *SUMMED), row, strict=True)}


@cache
def _metric_sums() -> sa.Select[Any]:
    columns: list[sa.ColumnElement[Any]] = [sa.func.sum(chip_metrics.c[name]) for name in SUMMED]
    return sa.select(sa.func.count(), *columns).where(chip_metrics.c.pool == sa.bindparam("in_pool"))


def store_trust(tx: Transaction, scope: Scope, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the trust scores of the chips in a scope; of marked ones, what came out the same may keep its tick."""
    if rows:
        # What a score is made of goes on with every second, in nearly every chip.
        _write_changed(tx, trust_scores, scope, rows, stamped=not scope.marked, asked=False)
    if tx.memory is not None:
        scored = {row["chip_id"]: (row["score"], row["level"]) for row in rows}
        tell(tx, trust_in, dict(sorted(scored.items())), scope)


def trust(tx: Transaction, pool: str) -> dict[str, tuple[int, TrustLevel]]:
    """Return each chip's trust score and level."""
    return trust_in(tx, Scope(pool))


@remembered(trust_scores)
def trust_in(tx: Transaction, scope: Scope) -> dict[str, tuple[int, TrustLevel]]:
    """Return the trust score and level of each chip in a scope."""
    found = tx.connection.execute(_trust(scope.kind), scope.asked).all()
    return {row[0]: (int(row[1]), _LEVELS[row[2]]) for row in found}


_LEVELS = {level.value: level for level in TrustLevel}


@cache
def _trust(kind: Kind) -> sa.Select[Any]:
    return sa.select(trust_scores.c.chip_id, trust_scores.c.score, trust_scores.c.level).where(
        in_scope(trust_scores, kind)
    )


def scores(tx: Transaction, pool: str) -> list[tuple[int, TrustLevel, int]]:
    """Return how many chips of a pool have each (score, level)."""
    query = (
        sa.select(trust_scores.c.score, trust_scores.c.level, sa.func.count())
        .where(trust_scores.c.pool == pool)
        .group_by(trust_scores.c.score, trust_scores.c.level)
    )
    return [(int(row[0]), _LEVELS[row[1]], int(row[2])) for row in tx.connection.execute(query).all()]


def trust_levels(tx: Transaction, pool: str) -> dict[str, TrustLevel]:
    """Return each chip's trust level."""
    return {chip_id: level for chip_id, (_, level) in trust(tx, pool).items()}


def store_warming_days(
    tx: Transaction, scope: Scope, rows: Sequence[Mapping[str, Any]], *, at: datetime, day: date
) -> None:
    """Replace the warming days of the chips in a scope; those of the pool's other chips hold on that day, too.

    Of marked ones, and of the others, what came out the same on that day keeps the tick that it has.
    """
    if rows:
        _write_changed(tx, warming_day, scope, rows, "computed_day", stamped=not scope.marked)
    if tx.memory is not None:
        days = {row["chip_id"]: row["warming_day"] for row in rows}
        tell(tx, warming_days_in, dict(sorted(days.items())), scope)
    if scope.marked:
        earlier = sa.and_(warming_day.c.pool == scope.pool, warming_day.c.computed_day != day)
        stamp(tx, warming_day, within=earlier, stamps={"computed_at": at, "computed_day": day})


def _write_changed(
    tx: Transaction,
    table: sa.Table,
    scope: Scope,
    rows: Sequence[Mapping[str, Any]],
    *more_stamps: str,
    whole: bool = False,
    stamped: bool = True,
    asked: bool = True,
) -> None:
    if tx.memory is not None and not whole:
        replace_rows(tx, table, rows)
        return
    stamps = {name: rows[0][name] for name in ("computed_at", *more_stamps)} if rows else {}
    within = scope.within(table)
    write_changed(tx, table, rows, within=within, stamps=stamps, whole=whole, stamped=stamped, asked=asked)


@remembered(warming_day)
def warming_days(tx: Transaction, pool: str | None = None) -> dict[str, int | None]:
    """Return each chip's stored warming day."""
    if pool is not None:
        return warming_days_in(tx, Scope(pool))
    query = sa.select(warming_day.c.chip_id, warming_day.c.warming_day)
    return {row[0]: row[1] for row in tx.connection.execute(query).all()}


@remembered(warming_day)
def warming_days_in(tx: Transaction, scope: Scope) -> dict[str, int | None]:
    """Return the stored warming day of each chip in a scope."""
    found = tx.connection.execute(_warming_days(scope.kind), scope.asked).all()
    return {row[0]: row[1] for row in found}


@cache
def _warming_days(kind: Kind) -> sa.Select[Any]:
    return sa.select(warming_day.c.chip_id, warming_day.c.warming_day).where(in_scope(warming_day, kind))


def age(tx: Transaction, pool: str) -> tuple[int, int, int | None]:
    """Return how many chips of a pool have a row, how many of them age, and the oldest warming day."""
    days = warming_day.c.warming_day
    query = sa.select(sa.func.count(), sa.func.count(days), sa.func.max(days)).where(
        warming_day.c.pool == pool
    )
    row = tx.connection.execute(query).one()
    return int(row[0]), int(row[1]), row[2]


def store_eligibility(tx: Transaction, scope: Scope, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace the whole eligibility of the chips in a scope: a chip in its last phase has no rows.

    Of marked ones, what came out the same keeps the tick that it has.
    """
    _write_changed(tx, phase_eligibility, scope, rows, whole=True, stamped=not scope.marked)


def add_transitions(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Note phase changes."""
    insert_rows(tx, phase_transitions, rows)


@remembered(phase_transitions)
def entered_with(tx: Transaction, scope: Scope) -> dict[tuple[str, str], Entered]:
    """Return what each chip in a scope had when it last entered a phase, by chip and phase."""
    return {
        (row[0], row[1]): Entered(*(int(row[2][name]["value"]) for name in _COUNTS))
        for row in tx.connection.execute(_entered(scope.kind), scope.asked).all()
        if all(row[2].get(name) is not None for name in _COUNTS)
    }


_COUNTS = ("sent", "received", "bidirectional")


@cache
def _entered(kind: Kind) -> sa.Select[Any]:
    return (
        sa.select(phase_transitions.c.chip_id, phase_transitions.c.to_phase, phase_transitions.c.criteria)
        .where(in_scope(phase_transitions, kind))
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


def _old_enough(table: Any) -> tuple[sa.ColumnElement[bool], ...]:
    of_days: sa.ColumnElement[bool] = table.c.sent_day >= sa.bindparam("since_day")
    return (
        # As something of which PostgreSQL knows nothing: the day and the instant say nearly the same, but it takes
        # both to narrow. It expects fewer than the newest that are looked at, and reads all that there are for them.
        sa.case((of_days, sa.true()), else_=sa.false()),
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
    # Chip by chip: by the pool alone the index would be gone through from the log's beginning.
    lacking = (
        sa.select(sa.func.count())
        .where(
            missed.c.pool == sa.bindparam("in_pool"),
            missed.c.sender_chip_id == chips.c.id,
            *_old_enough(missed),
            missed.c.confirmed_at.is_(None),
        )
        .correlate(chips)
        .scalar_subquery()
    )
    newest = (
        sa.select(messages.c.confirmed_at)
        .where(
            messages.c.sender_chip_id == chips.c.id,
            *_old_enough(messages),
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
    ).where(chips.c.pool == sa.bindparam("in_pool"), lacking >= sa.bindparam("missing"))
