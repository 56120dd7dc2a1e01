"""What each check last said of each pool.

Holds: :func:`keep`, :class:`Kept`, :func:`of_other_pools`. Do not add: judging (``warmup.checks``), what
verdicts come to together (``domain.health``).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from warmup_pipeline.domain.health import Severity, Verdict
from warmup_pipeline.store.bulk import upsert_rows
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.schema import chips, cycles, pool_verdicts


def keep(tx: Transaction, pool: str, verdicts: Collection[Verdict], *, at: datetime) -> None:
    """Keep what checks say of a pool, in place of what they said before.

    Args:
        tx: an open transaction.
        pool: the pool.
        verdicts: what is said of it.
        at: the tick of the cycle that was judged.
    """
    upsert_rows(
        tx,
        pool_verdicts,
        [
            {
                "check_name": one.check,
                "pool": pool,
                "judged_at": at,
                "passed": one.passed,
                "severity": one.severity.value,
                "summary": one.summary,
                "concerned": list(one.concerned),
            }
            for one in verdicts
        ],
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """What a check last said of a pool.

    Attributes:
        verdict: of one that passed only that it did: there may be hundreds.
        judged_at: the tick of the cycle that was judged.
        ended_at: the tick of the pool's newest cycle that has ended, whichever way.
    """

    verdict: Verdict
    judged_at: datetime
    ended_at: datetime | None


def of_other_pools(tx: Transaction, pool: str, check_names: Collection[str]) -> dict[str, dict[str, Kept]]:
    """Return what checks last said of all other pools that have chips: check -> pool -> what is kept."""
    newest = (
        sa.select(cycles.c.tick)
        .where(cycles.c.pool == pool_verdicts.c.pool, cycles.c.state != "running")
        .order_by(cycles.c.tick.desc())
        .limit(1)
        .scalar_subquery()
    )
    row = pool_verdicts.c
    bad = sa.not_(row.passed)
    query = (
        sa.select(
            row.check_name,
            row.pool,
            row.passed,
            row.severity,
            sa.case((bad, row.summary), else_=""),
            sa.case((bad, row.concerned), else_=sa.null()),
            row.judged_at,
            newest,
        )
        .where(
            row.check_name.in_(sorted(check_names)),
            row.pool != pool,
            sa.exists().where(chips.c.pool == row.pool),
        )
        .order_by(row.check_name, row.pool)
    )
    found: dict[str, dict[str, Kept]] = {name: {} for name in check_names}
    for name, of_pool, passed, severity, summary, concerned, judged_at, ended_at in tx.connection.execute(
        query
    ):
        verdict = Verdict(name, bool(passed), Severity(severity), summary, {}, tuple(concerned or ()))
        found[name][of_pool] = Kept(verdict, judged_at, ended_at)
    return found
