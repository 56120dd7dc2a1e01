"""Room on PostgreSQL's pages for rows that every cycle writes again, and no index that such a write has to change.

A row that is changed stays on its page, and its indexes are left alone, where the page has room for it and no
indexed column changes. Pages that are there already get their room as their rows are written anew.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_REWRITTEN = (
    "chip_message_days",
    "chip_message_totals",
    "chip_derivations",
    "chip_metrics",
    "trust_scores",
    "warming_day",
    "phase_eligibility",
    "chip_days",
    "daily_summary",
)


def _on_postgresql(change: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table in _REWRITTEN:
            op.execute(f"ALTER TABLE {table} {change}")


def upgrade() -> None:
    """Apply this version."""
    op.drop_index("ix_chip_derivations_pool_computed_at", table_name="chip_derivations")
    op.create_index("ix_chip_derivations_pool", "chip_derivations", ["pool"])
    _on_postgresql("SET (fillfactor = 50)")


def downgrade() -> None:
    """Take this version back."""
    _on_postgresql("RESET (fillfactor)")
    op.drop_index("ix_chip_derivations_pool", table_name="chip_derivations")
    op.create_index("ix_chip_derivations_pool_computed_at", "chip_derivations", ["pool", "computed_at"])
