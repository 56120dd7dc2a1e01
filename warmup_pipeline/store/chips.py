"""The chips: who they are and where they stand.

Holds: loading and changing rows of ``chips``, opening balances, breakers and brake signals. Full
phone numbers leave this module only in :class:`Chip.phone`, for the gateways.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from operator import attrgetter
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from warmup_pipeline.domain.circuit import Circuit
from warmup_pipeline.domain.metrics import OpeningBalance
from warmup_pipeline.domain.values import (
    LISTENER_ROLE,
    PARTICIPATING_STATUSES,
    ChipStatus,
    CircuitState,
    Phase,
    Provider,
)
from warmup_pipeline.store.bulk import insert_new_rows, insert_rows, update_rows, upsert_rows
from warmup_pipeline.store.engine import ROWS_PER_STATEMENT, TakenByAnother, Transaction
from warmup_pipeline.store.memory import remembered
from warmup_pipeline.store.schema import brake_signals, chips, circuits, opening_balances, trust_scores
from warmup_pipeline.store.scope import Kind, Scope, in_scope


@dataclass(frozen=True, slots=True)
class Chip:
    """One row of ``chips``. ``phone`` is the full number: never show it, show ``last4``."""

    id: str
    pool: str
    phone: str
    last4: str
    provider: Provider
    instance: str
    label: str
    role: str
    status: ChipStatus
    status_reason: str | None
    status_since: datetime
    phase: Phase
    phase_started_at: datetime | None
    warming_started_at: datetime | None
    cooldown_until: datetime | None
    cooldown_reason: str | None
    last_error_at: datetime | None
    last_error_code: str | None
    last_error_text: str | None
    created_at: datetime

    @property
    def takes_part(self) -> bool:
        """Whether the chip takes part in warm-up."""
        return self.status in PARTICIPATING_STATUSES and self.role != LISTENER_ROLE

    def __repr__(self) -> str:
        """Show the chip without its number."""
        return f"Chip({self.id!r}, …{self.last4}, {self.status}, {self.phase})"


_columns = tuple(chips.c[name] for name in Chip.__dataclass_fields__)


_ENUMS = {"provider": Provider, "status": ChipStatus, "phase": Phase}
# Members by value: a look-up takes a fifth of what calling the enum does, and every chip has three.
_typed: tuple[tuple[int, dict[str, Any]], ...] = tuple(
    (place, {member.value: member for member in _ENUMS[column.name]})
    for place, column in enumerate(_columns)
    if column.name in _ENUMS
)


def _chip(row: sa.Row[Any]) -> Chip:
    values = list(row)
    for place, member_of in _typed:
        values[place] = member_of[values[place]]
    return Chip(*values)


@remembered(chips)
def of_pool(tx: Transaction, pool: str | None = None, *, statuses: Collection[ChipStatus] = ()) -> list[Chip]:
    """Return the chips of a pool (of every pool for ``None``), by id."""
    if pool is None:
        found = [_chip(row) for row in tx.connection.execute(_every()).all()]
    else:
        found = [_chip(row) for row in tx.connection.execute(_in_pool(), {"in_pool": pool}).all()]
    return [chip for chip in found if chip.status in statuses] if statuses else found


def by_phase(tx: Transaction, pool: str) -> dict[str, int]:
    """Return how many chips of a pool that have a trust score are in each phase."""
    return {row[0]: int(row[1]) for row in tx.connection.execute(_by_phase(), {"in_pool": pool}).all()}


@cache
def _by_phase() -> sa.Select[Any]:
    scored = sa.exists().where(trust_scores.c.chip_id == chips.c.id)
    return (
        sa.select(chips.c.phase, sa.func.count())
        .where(chips.c.pool == sa.bindparam("in_pool"), scored)
        .group_by(chips.c.phase)
        .order_by(sa.func.min(chips.c.id))
    )


def in_scope_of(tx: Transaction, scope: Scope) -> list[Chip]:
    """Return the chips that a derivation is about, by id."""
    if scope.kind is Kind.POOL:
        return of_pool(tx, scope.pool)
    return those(tx, in_scope(chips, scope.kind), scope.asked)


class Begun(NamedTuple):
    """What the age of a chip, and what follows from that, is derived from: the columns of its row."""

    id: str
    status: ChipStatus
    role: str
    phase: Phase
    warming_started_at: datetime | None
    phase_started_at: datetime | None
    created_at: datetime


def begun(tx: Transaction, scope: Scope) -> list[Begun]:
    """Return what the age of each chip that a derivation is about is derived from, by id."""
    if tx.memory is not None:
        return [Begun(*_BEGUN(chip)) for chip in in_scope_of(tx, scope)]
    rows = tx.connection.execute(_begun(scope.kind), scope.asked).all()
    return [
        Begun(chip_id, _STATUSES[status], role, _PHASES[phase], *times)
        for chip_id, status, role, phase, *times in rows
    ]


_BEGUN: Final = attrgetter(*Begun._fields)
_STATUSES: Final = {status.value: status for status in ChipStatus}
_PHASES: Final = {phase.value: phase for phase in Phase}


@cache
def _begun(kind: Kind) -> sa.Select[Any]:
    columns = (chips.c[name] for name in Begun._fields)
    return sa.select(*columns).where(in_scope(chips, kind)).order_by(chips.c.id)


def those(tx: Transaction, condition: sa.ColumnElement[bool], asked: Mapping[str, Any]) -> list[Chip]:
    """Return the chips that hold a condition of another module of this package, with its values, by id."""
    return [_chip(row) for row in tx.connection.execute(_every().where(condition), asked).all()]


@cache
def _every() -> sa.Select[Any]:
    return sa.select(*_columns).order_by(chips.c.id)


@cache
def _in_pool() -> sa.Select[Any]:
    return _every().where(chips.c.pool == sa.bindparam("in_pool"))


def participants(pool: str) -> sa.Select[tuple[str]]:
    """Return the query for the ids of a pool's participating chips."""
    return sa.select(chips.c.id).where(
        chips.c.pool == pool,
        chips.c.status.in_(sorted(PARTICIPATING_STATUSES)),
        chips.c.role != LISTENER_ROLE,
    )


def anybody_takes_part(tx: Transaction) -> bool:
    """Whether any chip of any pool takes part in warm-up."""
    query = sa.select(chips.c.id).where(
        chips.c.status.in_(sorted(PARTICIPATING_STATUSES)), chips.c.role != LISTENER_ROLE
    )
    return tx.connection.execute(query.limit(1)).first() is not None


def of_ids(tx: Transaction, chip_ids: Collection[str]) -> list[Chip]:
    """Return the chips of these ids, by id."""
    wanted = sorted(chip_ids)
    found: list[Chip] = []
    for start in range(0, len(wanted), ROWS_PER_STATEMENT):
        some = wanted[start : start + ROWS_PER_STATEMENT]
        found += [_chip(row) for row in tx.connection.execute(_every().where(chips.c.id.in_(some))).all()]
    return found


def find(tx: Transaction, name: str) -> list[Chip]:
    """Return the chips that a person may mean: by id, instance, label, or last four digits."""
    return [
        _chip(row)
        for row in tx.connection.execute(
            sa.select(*_columns)
            .where(
                sa.or_(
                    chips.c.id == name, chips.c.instance == name, chips.c.label == name, chips.c.last4 == name
                )
            )
            .order_by(chips.c.id)
        ).all()
    ]


def known_ids(tx: Transaction) -> set[str]:
    """Return every chip id."""
    return set(tx.connection.execute(sa.select(chips.c.id)).scalars().all())


def taken(tx: Transaction) -> tuple[dict[str, str], dict[tuple[str, str], str]]:
    """Return who has which phone and which (provider, instance): phone -> id, channel -> id."""
    rows = tx.connection.execute(
        sa.select(chips.c.id, chips.c.phone, chips.c.provider, chips.c.instance)
    ).all()
    return {r.phone: r.id for r in rows}, {(r.provider, r.instance): r.id for r in rows}


def insert(tx: Transaction, rows: Sequence[Mapping[str, Any]], balances: Sequence[Mapping[str, Any]]) -> None:
    """Insert chips, and the opening balances of those that have one."""
    insert_rows(tx, chips, rows)
    insert_rows(tx, opening_balances, balances)


def change(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set columns of many chips: every row has ``id`` and the same further columns."""
    update_rows(tx, chips, rows)


@remembered(opening_balances, chips)
def balances(tx: Transaction, pool: str) -> dict[str, OpeningBalance]:
    """Return the opening balance of each chip that has one."""
    found = tx.connection.execute(_balances(), {"in_pool": pool})
    return {row[0]: OpeningBalance(*row[1:]) for row in found}


@cache
def _balances() -> sa.Select[Any]:
    return (
        sa.select(
            opening_balances.c.chip_id,
            opening_balances.c.sent,
            opening_balances.c.received,
            opening_balances.c.bidirectional,
            opening_balances.c.day,
            opening_balances.c.sent_on_day,
            opening_balances.c.received_on_day,
            opening_balances.c.last_error_at,
        )
        .join(chips, chips.c.id == opening_balances.c.chip_id)
        .where(chips.c.pool == sa.bindparam("in_pool"))
    )


@remembered(circuits, chips)
def breakers(tx: Transaction, pool: str) -> dict[str, Circuit]:
    """Return the breaker of each chip that is not simply closed."""
    return {
        row.chip_id: Circuit(CircuitState(row.state), row.consecutive_failures, row.opened_at)
        for row in tx.connection.execute(_breakers(), {"in_pool": pool}).all()
    }


def every_breaker(tx: Transaction, pool: str | None = None) -> dict[str, Circuit]:
    """Return the breaker of each chip of a pool, or of any, that is not simply closed."""
    query = sa.select(
        circuits.c.chip_id, circuits.c.state, circuits.c.consecutive_failures, circuits.c.opened_at
    )
    if pool is not None:
        query = query.join(chips, chips.c.id == circuits.c.chip_id).where(chips.c.pool == pool)
    return {
        row.chip_id: Circuit(CircuitState(row.state), row.consecutive_failures, row.opened_at)
        for row in tx.connection.execute(query).all()
    }


@cache
def _breakers() -> sa.Select[Any]:
    return (
        sa.select(circuits.c.chip_id, circuits.c.state, circuits.c.consecutive_failures, circuits.c.opened_at)
        .join(chips, chips.c.id == circuits.c.chip_id)
        .where(chips.c.pool == sa.bindparam("in_pool"))
    )


_is_open = circuits.c.state == CircuitState.OPEN


class ProbeUnderWay(TakenByAnother):
    """A breaker was not open any more when its probe was to begin: another process was there."""


def begin_probes(tx: Transaction, probing: Mapping[str, Circuit]) -> None:
    """Let each of these open breakers have its one probe: compare and set, all or none.

    Raises:
        ProbeUnderWay: one of them is not open any more.
    """
    begun = update_rows(
        tx,
        circuits,
        [{"chip_id": chip_id, "state": circuit.state} for chip_id, circuit in sorted(probing.items())],
        key="chip_id",
        where=_is_open,
    )
    if begun != len(probing):
        raise ProbeUnderWay(
            f"{len(probing) - begun} of {len(probing)} breakers already have their probe: another process acts "
            "for this pool; nothing is approved here"
        )


def set_breakers(tx: Transaction, changed: Mapping[str, Circuit]) -> None:
    """Store breakers."""
    upsert_rows(
        tx,
        circuits,
        [
            {
                "chip_id": chip_id,
                "state": circuit.state,
                "consecutive_failures": circuit.consecutive_failures,
                "opened_at": circuit.opened_at,
            }
            for chip_id, circuit in sorted(changed.items())
        ],
    )


def rest_half_open_breakers(tx: Transaction, pool: str) -> None:
    """Put breakers whose probe never reported back to open: another probe may go."""
    tx.connection.execute(_rest_half_open(), {"in_pool": pool})


@cache
def _rest_half_open() -> sa.Update:
    in_pool = sa.select(chips.c.id).where(chips.c.pool == sa.bindparam("in_pool"))
    return (
        sa.update(circuits)
        .where(circuits.c.state == CircuitState.HALF_OPEN, circuits.c.chip_id.in_(in_pool))
        .values(state=CircuitState.OPEN)
    )


def add_brake_signals(tx: Transaction, signals: Sequence[tuple[str, str, datetime]]) -> None:
    """Store bad signals as (chip id, kind, at); one already there stays as it is."""
    insert_new_rows(tx, brake_signals, [{"chip_id": c, "kind": k, "at": at} for c, k, at in signals])


def move_brake_signals(
    tx: Transaction, signals: Sequence[tuple[str, str, datetime]], *, at: datetime
) -> None:
    """Move bad signals that last on to an instant: (chip id, kind, where each stands now)."""
    for start in range(0, len(signals), ROWS_PER_STATEMENT):
        rows = signals[start : start + ROWS_PER_STATEMENT]
        key = sa.tuple_(brake_signals.c.chip_id, brake_signals.c.kind, brake_signals.c.at)
        tx.connection.execute(sa.update(brake_signals).where(key.in_(rows)).values(at=at))


@remembered(brake_signals, chips)
def last_brake_signals(
    tx: Transaction, pool: str, *, since: datetime
) -> dict[str, list[tuple[str, datetime]]]:
    """Return each chip's last signal of each kind at or after ``since``."""
    found: dict[str, list[tuple[str, datetime]]] = {}
    for chip_id, kind, at in tx.connection.execute(_last_signals(), {"in_pool": pool, "since": since}).all():
        found.setdefault(chip_id, []).append((kind, at))
    return found


@cache
def _last_signals() -> sa.Select[Any]:
    return (
        sa.select(brake_signals.c.chip_id, brake_signals.c.kind, sa.func.max(brake_signals.c.at))
        .join(chips, chips.c.id == brake_signals.c.chip_id)
        .where(chips.c.pool == sa.bindparam("in_pool"), brake_signals.c.at >= sa.bindparam("since"))
        .group_by(brake_signals.c.chip_id, brake_signals.c.kind)
        .order_by(brake_signals.c.chip_id, brake_signals.c.kind)
    )
