"""Roll-ups of a long message log, by chip and local day; indexes for what a cycle asks of long tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def _sums() -> list[sa.Column[Any]]:
    return [
        sa.Column(
            "sent",
            sa.Integer(),
            nullable=False,
            comment="Sends that count: confirmed where that is required.",
        ),
        sa.Column(
            "received",
            sa.Integer(),
            nullable=False,
            comment="The same of other chips' sends to this one.",
        ),
        sa.Column("attempted", sa.Integer(), nullable=False),
        sa.Column("succeeded", sa.Integer(), nullable=False),
        sa.Column("unknown", sa.Integer(), nullable=False),
        sa.Column(
            "confirmable", sa.Integer(), nullable=False, comment="Accepted sends that can be confirmed."
        ),
        sa.Column("confirmed", sa.Integer(), nullable=False, comment="Of those, the confirmed ones."),
        sa.Column("pictures", sa.Integer(), nullable=False),
        sa.Column("audios", sa.Integer(), nullable=False),
        sa.Column("restrictions", sa.Integer(), nullable=False, comment="Sends refused as restricted."),
        sa.Column(
            "two_way", sa.Integer(), nullable=False, comment="Two-way conversations, by their first day."
        ),
        sa.Column("sends", sa.Integer(), nullable=False, comment="Its sends, whatever became of them."),
        sa.Column("delivered", sa.Integer(), nullable=False, comment="Accepted sends that were confirmed."),
        sa.Column("failed", sa.Integer(), nullable=False, comment="Attempts that certainly failed."),
        sa.Column("heard", sa.Integer(), nullable=False, comment="Other chips' accepted sends to this one."),
    ]


def _of_chip(table: str) -> list[sa.ForeignKeyConstraint]:
    return [
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f(f"fk_{table}_chip_id")),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f(f"fk_{table}_pool")),
    ]


def upgrade() -> None:
    """Apply this version."""
    op.create_table(
        "chip_message_days",
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        *_sums(),
        sa.Column("last_error_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_sent_at", sa.DateTime(timezone=True), nullable=True),
        *_of_chip("chip_message_days"),
        sa.PrimaryKeyConstraint("chip_id", "day", name=op.f("pk_chip_message_days")),
        comment="Roll-up of a long message log: what each chip's messages of each local day come to.",
    )
    with op.batch_alter_table("chip_message_days", schema=None) as batch_op:
        batch_op.create_index("ix_chip_message_days_pool_day", ["pool", "day"], unique=False)
        batch_op.create_index(
            "ix_chip_message_days_chip_id_last_error_at", ["chip_id", "last_error_at"], unique=False
        )
        batch_op.create_index(
            "ix_chip_message_days_chip_id_last_sent_at", ["chip_id", "last_sent_at"], unique=False
        )
    op.create_table(
        "chip_message_totals",
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        *_sums(),
        *_of_chip("chip_message_totals"),
        sa.PrimaryKeyConstraint("chip_id", name=op.f("pk_chip_message_totals")),
        comment="The sums of chip_message_days over all days.",
    )
    with op.batch_alter_table("chip_message_totals", schema=None) as batch_op:
        batch_op.create_index("ix_chip_message_totals_pool", ["pool"], unique=False)
    op.create_table(
        "chip_message_touches",
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column(
            "rolled_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="The tick that rolled the day up again; empty until then.",
        ),
        *_of_chip("chip_message_touches"),
        sa.PrimaryKeyConstraint("chip_id", "day", name=op.f("pk_chip_message_touches")),
        comment="Days of chips whose messages changed: what the roll-up has to look at again.",
    )
    with op.batch_alter_table("chip_message_touches", schema=None) as batch_op:
        batch_op.create_index("ix_chip_message_touches_pool_rolled_at", ["pool", "rolled_at"], unique=False)
    op.create_table(
        "message_rollups",
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column(
            "since",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="The tick at which its log had become long.",
        ),
        sa.Column(
            "verified_on",
            sa.Date(),
            nullable=True,
            comment="Last local day on which it was found equal to the whole log.",
        ),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_message_rollups_pool")),
        sa.PrimaryKeyConstraint("pool", name=op.f("pk_message_rollups")),
        comment="Pools whose message log is long, so that it is rolled up.",
    )
    op.create_table(
        "whole_looks",
        sa.Column("check_name", sa.String(length=64), nullable=False, comment="The check that looked."),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column(
            "clean_on",
            sa.Date(),
            nullable=False,
            comment="Last local day on which it found nothing wrong.",
        ),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_whole_looks_pool")),
        sa.PrimaryKeyConstraint("check_name", "pool", name=op.f("pk_whole_looks")),
        comment="When a check last looked at the whole of a long log and found nothing wrong.",
    )
    op.create_table(
        "row_counts",
        sa.Column("table_name", sa.String(length=64), nullable=False),
        sa.Column("until_day", sa.Date(), nullable=False, comment="The last day of which rows are in it."),
        sa.Column("rows", sa.Integer(), nullable=False, comment="Rows of the table up to that day."),
        sa.PrimaryKeyConstraint("table_name", name=op.f("pk_row_counts")),
        comment="How many old rows long tables have: counted once a local day.",
    )
    _index("messages", "unconfirmed", ["pool", "sender_chip_id", "sent_at"], _UNCONFIRMED)
    _index("messages", "activity_id", ["activity_id"], "activity_id IS NOT NULL")
    _index("conversations", "pool_opened_day", ["pool", "opened_day"])
    _index("presend_validations", "pool_day_decision", ["pool", "day", "decision"])
    op.drop_index("ix_presend_validations_pool_day", table_name="presend_validations")
    _index("activities", "imported", ["pool", "day"], "source = 'import'")
    _index("daily_summary", "running", ["day"], "final IS false")


_UNCONFIRMED = "confirmable IS true AND confirmed_at IS NULL"


def _index(table: str, name: str, columns: list[str], where: str | None = None) -> None:
    if where is None:
        op.create_index(f"ix_{table}_{name}", table, columns)
        return
    # SQLite compares an index's condition with a query's as text, and there truth values are numbers.
    on_sqlite = where.replace("IS true", "IS 1").replace("IS false", "IS 0")
    op.create_index(
        f"ix_{table}_{name}",
        table,
        columns,
        sqlite_where=sa.text(on_sqlite),
        postgresql_where=sa.text(where),
    )
