"""How far back a check looks: the whole of a short log, and of a long one once a local day.

Holds: :class:`Depth`, the condition it makes of a table's rows, and when a check last looked at the whole
and found nothing wrong. Do not add: what is wrong (``audit``), when the whole is due (``warmup.checks``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.store.bulk import upsert_rows
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.schema import message_rollups, pools, whole_looks


@dataclass(frozen=True, slots=True)
class Depth:
    """How far back to look.

    Attributes:
        since: the pools of which only newer rows are looked at, each with the first local day of them.
        wholly: every other pool, where there is any in ``since``.
        only: the one pool that is looked at, ``None`` for every pool.
    """

    since: Mapping[str, date] = field(default_factory=dict)
    wholly: frozenset[str] = frozenset()
    only: str | None = None

    @property
    def narrows(self) -> bool:
        """Whether some rows are not looked at."""
        return bool(self.since) or self.only is not None

    def of(self, table: Any, day: str) -> sa.ColumnElement[bool]:
        """Return the condition that a row is looked at.

        Args:
            table: a table, or an alias of one, with the pool of each row.
            day: the column with its local day.
        """
        if not self.since:
            return sa.true() if self.only is None else table.c.pool == self.only
        # Ranges of the index on (pool, day); the first day of any pool will do for all.
        newer = sa.and_(table.c.pool.in_(sorted(self.since)), table.c[day] >= min(self.since.values()))
        return sa.or_(newer, table.c.pool.in_(sorted(self.wholly))) if self.wholly else newer


EVERYTHING = Depth()


def long_logs(tx: Transaction) -> set[str]:
    """Return the pools whose log is long."""
    return set(tx.connection.execute(sa.select(message_rollups.c.pool)).scalars().all())


def depth(tx: Transaction, since: Mapping[str, date], only: str | None = None) -> Depth:
    """Return the depth that looks at all rows of every pool but these; with ``only``, of that pool alone."""
    if only is not None:
        return Depth(since, only=only)
    if not since:
        return EVERYTHING
    every = tx.connection.execute(sa.select(pools.c.name)).scalars()
    return Depth(since, frozenset(every) - since.keys())


def clean_on(tx: Transaction, check_name: str) -> dict[str, date]:
    """Return, by pool, the last local day on which a check looked at the whole and found nothing wrong."""
    query = sa.select(whole_looks.c.pool, whole_looks.c.clean_on).where(
        whole_looks.c.check_name == check_name
    )
    return {row[0]: row[1] for row in tx.connection.execute(query).all()}


def note_clean(tx: Transaction, check_name: str, days: Mapping[str, date]) -> None:
    """Note that a check looked at the whole of some pools' logs and found nothing wrong."""
    upsert_rows(
        tx,
        whole_looks,
        [{"check_name": check_name, "pool": pool, "clean_on": day} for pool, day in sorted(days.items())],
    )
