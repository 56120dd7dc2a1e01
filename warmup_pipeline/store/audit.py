"""Questions the asset checks ask of the whole database.

Holds: one function per question, each answering with what is wrong and how much was looked at. They
believe nothing that a step wrote elsewhere: every answer comes from the rows themselves.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from warmup_pipeline.domain.values import (
    OPEN_ACTIVITY_STATES,
    ActivityState,
    Decision,
    FailureClass,
    MessageState,
    Phase,
)
from warmup_pipeline.store import derivations, rollup_counts, rollups
from warmup_pipeline.store.attempts import (
    count_of,
    failed,
    is_history,
    old_attempt,
    old_failed,
    old_succeeded,
    succeeded,
)
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.looks import EVERYTHING, Depth
from warmup_pipeline.store.memory import remembered
from warmup_pipeline.store.messages import first_day, in_limits
from warmup_pipeline.store.schema import (
    activities,
    chip_metrics,
    chips,
    cycles,
    messages,
    opening_balances,
    phase_transitions,
    pools,
    presend_validations,
    warming_day,
)

When = TypeVar("When", bound=Hashable)

Attempts = tuple[int, int]
"""(succeeded, failed)."""


class seconds_of(GenericFunction[float]):  # noqa: N801 (a SQL function: named as it stands in SQL)
    """Seconds since 1970 of a stored time, on either database."""

    type = sa.Float()
    inherit_cache = True


@compiles(seconds_of, "sqlite")
def _seconds_sqlite(element: seconds_of, compiler: SQLCompiler, **kw: Any) -> str:
    return f"((julianday({compiler.process(element.clauses, **kw)}) - 2440587.5) * 86400.0)"


@compiles(seconds_of, "postgresql")
def _seconds_postgresql(element: seconds_of, compiler: SQLCompiler, **kw: Any) -> str:
    return f"EXTRACT(EPOCH FROM {compiler.process(element.clauses, **kw)})"


@dataclass(frozen=True, slots=True)
class Found:
    """What a question found: how many rows were looked at, how many are wrong, and whose they are."""

    looked_at: int
    wrong: int
    chip_ids: tuple[str, ...] = ()


def _found(tx: Transaction, looked_at: sa.Select[Any], wrong: sa.Select[Any]) -> Found:
    ids = list(tx.connection.execute(wrong).scalars().all())
    total = int(tx.connection.execute(looked_at).scalar_one())
    return Found(total, len(ids), tuple(sorted(set(ids))))


def _in_pool(table: sa.Table, pool: str | None) -> sa.ColumnElement[bool]:
    return sa.true() if pool is None else table.c.pool == pool


def open_activities_by_type(tx: Transaction, pool: str | None = None) -> list[tuple[str, str, int]]:
    """Return (pool, type, how many) of all activities that may still be executed, of one pool or of all."""
    query = (
        sa.select(activities.c.pool, activities.c.type, sa.func.count())
        .where(
            activities.c.pool.in_(sa.select(pools.c.name)) if pool is None else activities.c.pool == pool,
            activities.c.state.in_(sorted(OPEN_ACTIVITY_STATES)),
        )
        .group_by(activities.c.pool, activities.c.type)
        .order_by(activities.c.pool, activities.c.type)
    )
    return [(row[0], row[1], int(row[2])) for row in tx.connection.execute(query).all()]


def unapproved_messages(tx: Transaction, depth: Depth = EVERYTHING) -> Found:
    """Find messages whose approval is missing, is no approval, or was for something else."""
    approval = presend_validations
    wrong = (
        sa.select(messages.c.sender_chip_id)
        .outerjoin(approval, approval.c.id == messages.c.approval_id)
        .where(
            depth.of(messages, "sent_day"),
            sa.or_(
                approval.c.id.is_(None),
                approval.c.decision != Decision.APPROVE,
                approval.c.used_at.is_(None),
                approval.c.lapsed.is_(sa.true()),
                approval.c.sender_chip_id != messages.c.sender_chip_id,
                sa.func.coalesce(approval.c.recipient_chip_id, "") != messages.c.recipient_chip_id,
                sa.func.coalesce(approval.c.conversation_id, "") != messages.c.conversation_id,
                sa.func.coalesce(approval.c.turn, 0) != messages.c.turn,
                approval.c.at != messages.c.sent_at,
            ),
        )
    )
    return _found(tx, _number_of_messages(depth), wrong)


def _number_of_messages(depth: Depth) -> sa.Select[Any]:
    return sa.select(sa.func.count()).select_from(messages).where(depth.of(messages, "sent_day"))


def messages_of_the_future(tx: Transaction, at: Mapping[str, datetime]) -> int:
    """Return how many messages are dated later than their pool's time."""
    later = [
        sa.and_(messages.c.pool == pool, messages.c.sent_at > moment) for pool, moment in sorted(at.items())
    ]
    query = sa.select(sa.func.count()).select_from(messages).where(sa.or_(sa.false(), *later))
    return int(tx.connection.execute(query).scalar_one())


@dataclass(frozen=True, slots=True)
class PhaseLimits:
    """The limits that sends are judged by.

    Attributes:
        policy: the policy as cycles name it (``World.policy_name``).
        of_policy: sends per hour and per day of that policy's phases.
        caps: the same that no policy may exceed: what a send of a cycle under another policy, whose
            numbers are not kept, is judged by. A stricter policy does not make the past a fault.
    """

    policy: str
    of_policy: Mapping[Phase, tuple[int, int]]
    caps: Mapping[Phase, tuple[int, int]]

    def column(self, which: int) -> sa.ColumnElement[int]:
        """Return each message's limit, 0 for the hour's, 1 for the day's, by its phase and its cycle's policy."""

        def by_phase(limits: Mapping[Phase, tuple[int, int]]) -> sa.ColumnElement[int]:
            return sa.case(*[(messages.c.phase == phase, n[which]) for phase, n in limits.items()], else_=0)

        return sa.case((cycles.c.policy == self.policy, by_phase(self.of_policy)), else_=by_phase(self.caps))


_HOUR_MS = 3_600_000


def _over(
    tx: Transaction,
    limit: sa.ColumnElement[int],
    nth: sa.ColumnElement[int],
    brought: sa.ColumnElement[int],
    depth: Depth,
) -> Found:
    """Find sends that were, with what came before them, more than their limit."""
    judged = (
        sa.select(messages.c.sender_chip_id, limit.label("most"), nth.label("nth"), brought.label("brought"))
        .join(cycles, cycles.c.id == messages.c.cycle_id)
        .outerjoin(
            opening_balances,
            sa.and_(
                opening_balances.c.chip_id == messages.c.sender_chip_id,
                opening_balances.c.day == messages.c.sent_day,
            ),
        )
        .where(in_limits, depth.of(messages, "sent_day"))
        .subquery()
    )
    return _found(
        tx,
        _number_of_messages(depth).where(in_limits),
        sa.select(judged.c.sender_chip_id).where(judged.c.nth + judged.c.brought > judged.c.most),
    )


def over_day_limit(tx: Transaction, limits: PhaseLimits, depth: Depth = EVERYTHING) -> Found:
    """Find sends beyond their phase's limit on their local day.

    What an import says was sent on its day counts against that day (domain.md, "Importing").
    """
    nth = sa.func.row_number().over(
        partition_by=(messages.c.sender_chip_id, messages.c.sent_day),
        order_by=(messages.c.sent_at, messages.c.id),
    )
    return _over(tx, limits.column(1), nth, sa.func.coalesce(opening_balances.c.sent_on_day, 0), depth)


def over_hour_limit(tx: Transaction, limits: PhaseLimits, depth: Depth = EVERYTHING) -> Found:
    """Find sends beyond their phase's limit within (t - 60 min, t], t being their own send time."""
    nth = sa.func.count().over(
        partition_by=messages.c.sender_chip_id,
        order_by=seconds_of(messages.c.sent_at) * 1000,
        # 60 minutes ago exactly is out; 10 ms more, since a time in days loses a millisecond's part on SQLite.
        range_=(10 - _HOUR_MS, 0),
    )
    return _over(tx, limits.column(0), nth, sa.literal(0), depth)


def duplicate_messages(tx: Transaction, depth: Depth = EVERYTHING) -> Found:
    """Find messages that a gateway knows under the same id, or turns of a conversation sent twice.

    A message that is looked at is compared with every other, however old.
    """
    looked_at = messages.alias("looked_at")
    chosen = depth.of(looked_at, "sent_day")
    known_as: sa.ColumnElement[bool] = messages.c.gateway_message_id.is_not(None)
    threads: sa.ColumnElement[bool] = sa.true()
    if depth.narrows:
        known_as = messages.c.gateway_message_id.in_(
            sa.select(looked_at.c.gateway_message_id).where(
                chosen, looked_at.c.gateway_message_id.is_not(None)
            )
        )
        threads = messages.c.conversation_id.in_(sa.select(looked_at.c.conversation_id).where(chosen))
    same_id = (
        sa.select(messages.c.provider, messages.c.gateway_message_id)
        .where(known_as)
        .group_by(messages.c.provider, messages.c.gateway_message_id)
        .having(sa.func.count() > 1)
        .subquery()
    )
    wrong = sa.select(messages.c.sender_chip_id).join(
        same_id,
        sa.and_(
            same_id.c.gateway_message_id == messages.c.gateway_message_id,
            same_id.c.provider == messages.c.provider,
        ),
    )
    found = _found(tx, _number_of_messages(depth), wrong)
    turns = (
        sa.select(sa.func.min(messages.c.sender_chip_id))
        .where(threads)
        .group_by(messages.c.conversation_id, messages.c.turn)
        .having(sa.func.count() > 1)
    )
    doubled = list(tx.connection.execute(turns).scalars().all())
    return Found(found.looked_at, found.wrong + len(doubled), tuple(sorted({*found.chip_ids, *doubled})))


def _is_empty(column: sa.ColumnElement[str | None]) -> sa.ColumnElement[bool]:
    return sa.func.length(sa.func.coalesce(column, "")) == 0


def failures_without_traceback(tx: Transaction, depth: Depth = EVERYTHING) -> Found:
    """Find failed or unknown messages, and such activities that have no message, without a traceback.

    Two kinds of failure have no traceback, since none of our code raised: a message that failed after
    it was accepted (the gateway said so later), and one whose process ended while it was being sent
    (found by the next cycle). They must say what happened in words instead.
    """
    bad_message = sa.and_(
        messages.c.state.in_([MessageState.FAILED, MessageState.UNKNOWN]), depth.of(messages, "sent_day")
    )
    only_heard_of = sa.or_(messages.c.accepted_at.is_not(None), messages.c.http_attempts == 0)
    bare = sa.and_(
        _is_empty(messages.c.traceback), ~sa.and_(only_heard_of, ~_is_empty(messages.c.failure_text))
    )
    of_messages = _found(
        tx,
        sa.select(sa.func.count()).select_from(messages).where(bad_message),
        sa.select(messages.c.sender_chip_id).where(bad_message, bare),
    )
    # An imported activity that our own cycle executed is ours; one that came as failed is history.
    ours = sa.and_(
        activities.c.state.in_([ActivityState.FAILED, ActivityState.UNKNOWN]),
        depth.of(activities, "day"),
        ~is_history,
        ~sa.exists().where(messages.c.activity_id == activities.c.id),
    )
    of_activities = _found(
        tx,
        sa.select(sa.func.count()).select_from(activities).where(ours),
        sa.select(activities.c.chip_id).where(ours, _is_empty(activities.c.traceback)),
    )
    return Found(
        of_messages.looked_at + of_activities.looked_at,
        of_messages.wrong + of_activities.wrong,
        tuple(sorted({*of_messages.chip_ids, *of_activities.chip_ids})),
    )


def recipients_outside_pool(tx: Transaction, depth: Depth = EVERYTHING) -> Found:
    """Find messages between chips of different pools, or of another pool than the message's.

    Where one pool is looked at, so are messages of pools that have no chips: no run of theirs looks.
    """
    sender, recipient = chips.alias("sender"), chips.alias("recipient")
    chosen = depth.of(messages, "sent_day")
    if depth.only is not None:
        nobodys = sa.select(pools.c.name).where(~sa.exists().where(chips.c.pool == pools.c.name))
        chosen = sa.or_(chosen, messages.c.pool.in_(nobodys))
    wrong = (
        sa.select(messages.c.sender_chip_id)
        .outerjoin(sender, sender.c.id == messages.c.sender_chip_id)
        .outerjoin(recipient, recipient.c.id == messages.c.recipient_chip_id)
        .where(
            chosen,
            sa.or_(
                recipient.c.id.is_(None),
                sender.c.id.is_(None),
                recipient.c.pool != messages.c.pool,
                sender.c.pool != messages.c.pool,
            ),
        )
    )
    return _found(tx, _number_of_messages(depth), wrong)


def _alike(times: Mapping[str, When]) -> list[tuple[When, list[str]]]:
    """Return pools with what they have in common: those on the system clock have the same times.

    So a question about every pool takes a statement for each time, not for each pool.
    """
    found: dict[When, list[str]] = {}
    for pool, when in sorted(times.items(), key=lambda item: item[0]):
        found.setdefault(when, []).append(pool)
    return list(found.items())


def attempts_by_pool(
    tx: Transaction, *, day: Mapping[str, date], since: Mapping[str, datetime]
) -> dict[str, tuple[Attempts, Attempts]]:
    """Return each pool's CONVERSA_PAR attempts as (succeeded, failed): of its day, and since an instant.

    Those since the instant include the history an import brought (domain.md, "Importing").
    """
    found: dict[str, tuple[Attempts, Attempts]] = {}
    for (its_day, instant), names in _alike({pool: (day[pool], since[pool]) for pool in day}):
        today = messages.c.sent_day == its_day
        lately = messages.c.sent_at > instant
        query = (
            sa.select(
                messages.c.pool,
                count_of(sa.and_(today, succeeded)),
                count_of(sa.and_(today, failed)),
                count_of(sa.and_(lately, succeeded)),
                count_of(sa.and_(lately, failed)),
            )
            .where(
                messages.c.pool.in_(names),
                messages.c.sent_day >= min(its_day, first_day(instant)),
                sa.or_(today, lately),
            )
            .group_by(messages.c.pool)
        )
        ours = {row[0]: [int(n) for n in row[1:]] for row in tx.connection.execute(query).all()}
        history = (
            sa.select(activities.c.pool, count_of(old_succeeded), count_of(old_failed))
            .where(
                activities.c.pool.in_(names),
                old_attempt,
                sa.func.coalesce(activities.c.final_at, activities.c.due_at) > instant,
            )
            .group_by(activities.c.pool)
        )
        old = {row[0]: [int(n) for n in row[1:]] for row in tx.connection.execute(history).all()}
        for pool in names:
            mine, its = ours.get(pool, [0] * 4), old.get(pool, [0] * 2)
            found[pool] = (mine[0], mine[1]), (mine[2] + its[0], mine[3] + its[1])
    return found


def all_attempts(by_pool: Mapping[str, tuple[Attempts, Attempts]]) -> tuple[Attempts, Attempts]:
    """Return the sum over all pools of :func:`attempts_by_pool`."""
    today = [sum(n) for n in zip((0, 0), *(pair[0] for pair in by_pool.values()), strict=True)]
    lately = [sum(n) for n in zip((0, 0), *(pair[1] for pair in by_pool.values()), strict=True)]
    return (today[0], today[1]), (lately[0], lately[1])


def attempts(
    tx: Transaction, *, day: Mapping[str, date], since: Mapping[str, datetime]
) -> tuple[Attempts, Attempts]:
    """Return the attempts of all pools together; see :func:`attempts_by_pool`."""
    return all_attempts(attempts_by_pool(tx, day=day, since=since))


def confirmations_by_chip(
    tx: Transaction, *, between: Mapping[str, tuple[datetime, datetime]]
) -> dict[str, dict[str, tuple[int, int]]]:
    """Return, by pool and sending chip, (confirmed, could be) of what was accepted in (since, until].

    What failed because its recipient is not on WhatsApp could not be.
    """
    found: dict[str, dict[str, tuple[int, int]]] = {pool: {} for pool in between}
    for (since, until), names in _alike(between):
        query = (
            sa.select(
                messages.c.pool,
                messages.c.sender_chip_id,
                count_of(messages.c.confirmed_at.is_not(None)),
                sa.func.count(),
            )
            .where(
                messages.c.pool.in_(names),
                messages.c.sent_day >= first_day(since),
                messages.c.sent_at > since,
                messages.c.accepted_at <= until,
                messages.c.confirmable.is_(sa.true()),
                sa.func.coalesce(messages.c.failure_class, "") != FailureClass.RECIPIENT,
            )
            .group_by(messages.c.pool, messages.c.sender_chip_id)
            .order_by(messages.c.sender_chip_id)
        )
        for pool, chip_id, confirmed, could_be in tx.connection.execute(query).all():
            found[pool][chip_id] = (int(confirmed), int(could_be))
    return found


def openings_due(
    tx: Transaction, day: Mapping[str, date], at: Mapping[str, datetime], types: Sequence[str]
) -> int:
    """Return how many openings of the pools' days fell due for our cycles until their instants.

    Cancelled ones are left out, what the old system had ended already, and what a cycle holds now.
    """
    due = 0
    for (its_day, until), names in _alike({pool: (day[pool], at[pool]) for pool in at}):
        query = sa.select(sa.func.count()).where(
            activities.c.pool.in_(names),
            activities.c.day == its_day,
            activities.c.planned_at <= until,
            activities.c.type.in_(types),
            activities.c.state.not_in([ActivityState.CANCELLED, ActivityState.CLAIMED]),
            ~is_history,
        )
        due += int(tx.connection.execute(query).scalar_one())
    return due


def sends_since(tx: Transaction, pool: str, since: datetime) -> tuple[int, int]:
    """Return (approvals to send, messages that a gateway accepted) of a pool since an instant."""
    approved = sa.select(sa.func.count()).where(
        presend_validations.c.pool == pool,
        presend_validations.c.day >= first_day(since),
        presend_validations.c.at > since,
        presend_validations.c.subject != "action",
        presend_validations.c.decision == Decision.APPROVE,
    )
    sent = sa.select(sa.func.count()).where(
        messages.c.pool == pool,
        messages.c.sent_day >= first_day(since),
        messages.c.sent_at > since,
        succeeded,
    )
    run = tx.connection.execute
    return int(run(approved).scalar_one()), int(run(sent).scalar_one())


def all_transitions(tx: Transaction, pool: str | None = None) -> list[Mapping[str, Any]]:
    """Return every phase change of a pool, or of all, oldest first."""
    query = (
        sa.select(phase_transitions)
        .where(_in_pool(phase_transitions, pool))
        .order_by(phase_transitions.c.at, phase_transitions.c.chip_id)
    )
    return [dict(row) for row in tx.connection.execute(query).mappings()]


def accepted_by_chip(tx: Transaction, pool: str) -> dict[str, int]:
    """Return how many messages of each chip a gateway has accepted, ever: by the roll-up of a long log."""
    if rollups.is_rolled_up(tx, pool):
        return rollup_counts.accepted_by_chip(tx, pool)
    query = (
        sa.select(messages.c.sender_chip_id, sa.func.count())
        .where(messages.c.pool == pool, succeeded)
        .group_by(messages.c.sender_chip_id)
    )
    return {row[0]: int(row[1]) for row in tx.connection.execute(query).all()}


def _computed_at(tx: Transaction, table: sa.Table, pool: str | None) -> dict[str, datetime]:
    query = sa.select(table.c.pool, sa.func.min(table.c.computed_at)).group_by(table.c.pool)
    query = query.where(_in_pool(table, pool))
    return {row[0]: row[1] for row in tx.connection.execute(query).all()}


def metrics_computed_at(tx: Transaction, pool: str | None = None) -> dict[str, datetime]:
    """Return as of which tick each pool's ``chip_metrics`` are: its oldest computation among the rows.

    Of a long log only chips of which something changed are computed anew; the others' rows hold, too.
    """
    found = _computed_at(tx, chip_metrics, pool)
    for name, at in derivations.derived_at(tx).items():
        if name in found:
            found[name] = max(found[name], at)
    return found


def warming_days_are_of(tx: Transaction, pool: str | None = None) -> dict[str, date]:
    """Return the local day that each pool's rows of ``warming_day`` are of: the earliest of them."""
    query = sa.select(warming_day.c.pool, sa.func.min(warming_day.c.computed_day)).group_by(
        warming_day.c.pool
    )
    found = tx.connection.execute(query.where(_in_pool(warming_day, pool))).all()
    return {row[0]: row[1] for row in found}


@remembered(cycles, pools)
def last_finished_ticks(tx: Transaction, pool: str | None = None) -> dict[str, datetime]:
    """Return the tick of each pool's newest cycle that finished; with ``pool``, that pool's."""
    query = _last_finished(all_of_them=pool is None)
    found = tx.connection.execute(query, {} if pool is None else {"name_of": pool})
    return {row[0]: row[1] for row in found if row[1] is not None}


@cache
def _last_finished(*, all_of_them: bool) -> sa.Select[Any]:
    """Pool by pool: the newest is the first the index finds, however many cycles there were."""
    newest = (
        sa.select(cycles.c.tick)
        .where(cycles.c.pool == pools.c.name, cycles.c.state == "finished")
        .order_by(cycles.c.tick.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = sa.select(pools.c.name, newest)
    return query if all_of_them else query.where(pools.c.name == sa.bindparam("name_of"))
