"""A roll-up holds what all conversations come to that are not out of it; a message's change takes its out.

What was rolled up before is rolled up anew by the next cycle of each long log, in parts.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from warmup_pipeline.store.types import UtcDateTime

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TIMES = ("last_error_at", "last_sent_at")


def _forget() -> None:
    for table in ("chip_message_days", "chip_message_totals", "message_rollups"):
        op.execute(sa.table(table).delete())


def upgrade() -> None:
    """Apply this version."""
    _forget()
    op.drop_index("ix_chip_message_touches_pool_rolled_at", table_name="chip_message_touches")
    op.drop_table("chip_message_touches")
    op.create_table(
        "conversation_touches",
        sa.Column("conversation_id", sa.String(36), nullable=False),
        sa.Column("pool", sa.String(64), nullable=False),
        sa.Column(
            "stage",
            sa.String(16),
            nullable=False,
            comment="Whether it is out of the roll-up, or in it again.",
        ),
        sa.Column("rolled_at", UtcDateTime(), comment="The tick that put it in again; empty until then."),
        sa.CheckConstraint(
            "stage IN ('noted', 'out', 'taken_up', 'in')", name=op.f("ck_conversation_touches_stage_known")
        ),
        sa.ForeignKeyConstraint(
            ["conversation_id"],
            ["conversations.id"],
            name=op.f("fk_conversation_touches_conversation_id"),
        ),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_conversation_touches_pool")),
        sa.PrimaryKeyConstraint("conversation_id", name=op.f("pk_conversation_touches")),
        comment="Conversations whose messages changed: out of the roll-up until the next derivation.",
    )
    op.create_index("ix_conversation_touches_stage_pool", "conversation_touches", ["stage", "pool"])
    with op.batch_alter_table("chip_message_days", schema=None) as batch_op:
        for name in _TIMES:
            batch_op.drop_index(f"ix_chip_message_days_chip_id_{name}")
            batch_op.drop_column(name)
    op.add_column(
        "message_rollups",
        sa.Column(
            "rolled_until",
            sa.String(36),
            comment="How far the first roll-up has got, by id; empty: through all.",
        ),
    )
    op.drop_index("ix_conversations_pool_opened_day", table_name="conversations")
    op.create_index(
        "ix_conversations_opened",
        "conversations",
        ["pool", "opened_day", "opener_chip_id", "responder_chip_id"],
    )
    op.create_index(
        "ix_messages_failed",
        "messages",
        ["sender_chip_id", "sent_at"],
        sqlite_where=sa.text("state = 'failed'"),
        postgresql_where=sa.text("state = 'failed'"),
    )


def downgrade() -> None:
    """Take this version back."""
    op.drop_index("ix_messages_failed", table_name="messages")
    op.drop_index("ix_conversations_opened", table_name="conversations")
    op.create_index("ix_conversations_pool_opened_day", "conversations", ["pool", "opened_day"])
    _forget()
    op.drop_column("message_rollups", "rolled_until")
    with op.batch_alter_table("chip_message_days", schema=None) as batch_op:
        for name in _TIMES:
            batch_op.add_column(sa.Column(name, UtcDateTime()))
            batch_op.create_index(f"ix_chip_message_days_chip_id_{name}", ["chip_id", name])
    op.drop_index("ix_conversation_touches_stage_pool", table_name="conversation_touches")
    op.drop_table("conversation_touches")
    op.create_table(
        "chip_message_touches",
        sa.Column("chip_id", sa.String(36), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("pool", sa.String(64), nullable=False),
        sa.Column(
            "rolled_at", UtcDateTime(), comment="The tick that rolled the day up again; empty until then."
        ),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_chip_message_touches_chip_id")),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_chip_message_touches_pool")),
        sa.PrimaryKeyConstraint("chip_id", "day", name=op.f("pk_chip_message_touches")),
        comment="Days of chips whose messages changed: what the roll-up has to look at again.",
    )
    op.create_index("ix_chip_message_touches_pool_rolled_at", "chip_message_touches", ["pool", "rolled_at"])
