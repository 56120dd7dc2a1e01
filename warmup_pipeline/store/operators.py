"""What operators do: kill switches and the record of every action.

Holds: ``kill_switches`` and ``operator_actions``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.store.bulk import insert_rows
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.memory import remembered
from warmup_pipeline.store.schema import chips, kill_switches, operator_actions


@dataclass(frozen=True, slots=True)
class KillSwitches:
    """What is switched off at an instant."""

    everything: bool
    pools: frozenset[str]
    chips: frozenset[str]

    def covers(self, pool: str, chip_id: str) -> bool:
        """Whether sending is switched off for a chip of a pool."""
        return self.everything or pool in self.pools or chip_id in self.chips


@remembered(kill_switches)
def kill_switches_at(tx: Transaction, at: datetime) -> KillSwitches:
    """Return what is switched off: neither lifted nor expired."""
    rows = tx.connection.execute(_switched_off(), {"at": at}).all()
    return KillSwitches(
        everything=any(scope == "all" for scope, _ in rows),
        pools=frozenset(target for scope, target in rows if scope == "pool"),
        chips=frozenset(target for scope, target in rows if scope == "chip"),
    )


@cache
def _switched_off() -> sa.Select[Any]:
    return sa.select(kill_switches.c.scope, kill_switches.c.target).where(
        kill_switches.c.lifted_at.is_(None),
        sa.or_(kill_switches.c.expires_at.is_(None), kill_switches.c.expires_at > sa.bindparam("at")),
    )


@dataclass(frozen=True, slots=True)
class SwitchedOff:
    """One kill switch that is on.

    Attributes:
        scope: ``all``, ``pool`` or ``chip``.
        target: the pool's name or the chip's id; ``*`` for all.
        last4: the chip's last four digits, where it is one chip's.
        chips_pool: that chip's pool.
    """

    scope: str
    target: str
    last4: str | None
    chips_pool: str | None
    reason: str
    author: str
    set_at: datetime
    expires_at: datetime | None

    def is_on(self, times: Mapping[str, datetime]) -> bool:
        """Whether it is not over yet, by the clock of its pool; where it is about all, by anybody's.

        Args:
            times: each pool's time.
        """
        if self.expires_at is None:
            return True
        pool = self.target if self.scope == "pool" else self.chips_pool
        return any(self.expires_at > at for name, at in times.items() if pool in (None, name))


def switched_off(tx: Transaction) -> list[SwitchedOff]:
    """Return the kill switches that are not lifted, each with who set it and why: the widest first.

    Some may be over (``expires_at``), by the clock of the pool they are about.
    """
    columns = (
        kill_switches.c[name] for name in ("scope", "target", "reason", "author", "set_at", "expires_at")
    )
    rows = tx.connection.execute(
        sa.select(*columns, chips.c.last4, chips.c.pool.label("chips_pool"))
        .select_from(
            kill_switches.outerjoin(
                chips, sa.and_(kill_switches.c.scope == "chip", chips.c.id == kill_switches.c.target)
            )
        )
        .where(kill_switches.c.lifted_at.is_(None))
        .order_by(
            sa.case({"all": 0, "pool": 1}, value=kill_switches.c.scope, else_=2),
            kill_switches.c.target,
            kill_switches.c.set_at,
        )
    )
    return [SwitchedOff(**row) for row in rows.mappings()]


def set_kill_switch(tx: Transaction, row: Mapping[str, Any]) -> None:
    """Switch sending off."""
    insert_rows(tx, kill_switches, [row])


def lift_kill_switch(tx: Transaction, scope: str, target: str, *, at: datetime, author: str) -> int:
    """Switch sending on again; returns how many switches were lifted."""
    result = tx.connection.execute(
        sa.update(kill_switches)
        .where(
            kill_switches.c.scope == scope,
            kill_switches.c.target == target,
            kill_switches.c.lifted_at.is_(None),
        )
        .values(lifted_at=at, lifted_by=author)
    )
    return int(result.rowcount)


def record_action(
    tx: Transaction,
    *,
    at: datetime,
    recorded_at: datetime,
    author: str,
    action: str,
    target: str,
    reason: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Keep what an operator did."""
    insert_rows(
        tx,
        operator_actions,
        [
            {
                "at": at,
                "recorded_at": recorded_at,
                "author": author,
                "action": action,
                "target": target,
                "reason": reason,
                "details": dict(details or {}),
            }
        ],
    )
