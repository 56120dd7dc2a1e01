"""What each check last said of each pool.

Holds: :func:`keep`, :func:`of_other_pools`. Do not add: judging (``warmup.checks``), what verdicts come to
together (``domain.health``).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa

from warmup_pipeline.domain.health import Severity, Verdict
from warmup_pipeline.store.bulk import upsert_rows
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.schema import chips, pool_verdicts


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


def of_other_pools(tx: Transaction, pool: str, check_names: Collection[str]) -> dict[str, dict[str, Verdict]]:
    """Return what checks last said of all other pools that have chips: check -> pool -> verdict.

    Of those that passed only that they did: there may be hundreds.
    """
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
        )
        .where(
            row.check_name.in_(sorted(check_names)),
            row.pool != pool,
            sa.exists().where(chips.c.pool == row.pool),
        )
        .order_by(row.check_name, row.pool)
    )
    found: dict[str, dict[str, Verdict]] = {name: {} for name in check_names}
    for name, of_pool, passed, severity, summary, concerned in tx.connection.execute(query):
        found[name][of_pool] = Verdict(
            name, bool(passed), Severity(severity), summary, {}, tuple(concerned or ())
        )
    return found
