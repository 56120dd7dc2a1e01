"""What gateways tell by webhook until a cycle applies it, and how each chip's connection went."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this version."""
    op.create_table(
        "connection_history",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column(
            "at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="The tick, or when a webhook said it.",
        ),
        sa.Column("source", sa.String(length=16), nullable=False, comment="asked, webhook or recovery."),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column(
            "detail",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="The gateway's words, redacted.",
        ),
        sa.CheckConstraint(
            "state IN ('open', 'connecting', 'closed', 'unknown')",
            name=op.f("ck_connection_history_state_known"),
        ),
        sa.CheckConstraint(
            "source IN ('asked', 'webhook', 'recovery')",
            name=op.f("ck_connection_history_source_known"),
        ),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_connection_history_chip_id")),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_connection_history_pool")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connection_history")),
        comment="Every change of a chip's connection, every recovery attempt, and what webhooks said of it.",
    )
    with op.batch_alter_table("connection_history", schema=None) as batch_op:
        batch_op.create_index("ix_connection_history_chip_id_at", ["chip_id", "at"], unique=False)
    op.create_table(
        "webhook_inbox",
        sa.Column(
            "key",
            sa.String(length=64),
            nullable=False,
            comment="Digest of what is said: said twice, it stands once.",
        ),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False, comment="receipt, arrival or connection."),
        sa.Column(
            "state",
            sa.String(length=16),
            nullable=False,
            comment="What a message or a connection is said to be.",
        ),
        sa.Column("gateway_message_id", sa.String(length=128), nullable=True),
        sa.Column("gateway_queue_id", sa.String(length=128), nullable=True),
        sa.Column("failure_class", sa.String(length=16), nullable=True),
        sa.Column(
            "words", sa.Text(), server_default="", nullable=False, comment="The gateway's words, redacted."
        ),
        sa.Column(
            "needs_person", sa.Text(), nullable=True, comment="What a person must do about a connection."
        ),
        sa.Column("peer_chip_id", sa.String(length=36), nullable=True),
        sa.Column(
            "peer_privacy_id", sa.String(length=64), nullable=True, comment="The other end's @lid address."
        ),
        sa.Column(
            "content",
            sa.String(length=16),
            nullable=True,
            comment="Kind of an arrival from a chip of the pool.",
        ),
        sa.Column("text", sa.Text(), nullable=True, comment="Its text: one of our own dialogues."),
        sa.Column("said_at", sa.DateTime(timezone=True), nullable=True, comment="The gateway's own time."),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="Real time of the (last) webhook.",
        ),
        sa.CheckConstraint(
            "kind IN ('receipt', 'arrival', 'connection')", name=op.f("ck_webhook_inbox_kind_known")
        ),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_webhook_inbox_chip_id")),
        sa.ForeignKeyConstraint(["peer_chip_id"], ["chips.id"], name=op.f("fk_webhook_inbox_peer_chip_id")),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_webhook_inbox_pool")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_webhook_inbox")),
        comment="What webhooks said and no cycle has applied yet. Applied rows are gone.",
    )
    with op.batch_alter_table("webhook_inbox", schema=None) as batch_op:
        batch_op.create_index("ix_webhook_inbox_pool_received_at", ["pool", "received_at"], unique=False)
    op.create_table(
        "webhook_sources",
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("first_heard_at", sa.DateTime(timezone=True), nullable=False, comment="Real time."),
        sa.Column("last_heard_at", sa.DateTime(timezone=True), nullable=False, comment="Real time."),
        sa.Column(
            "receipts_since",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Real time of the first receipt of a send of its own.",
        ),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_webhook_sources_chip_id")),
        sa.PrimaryKeyConstraint("chip_id", name=op.f("pk_webhook_sources")),
        comment="Whose webhooks have ever been heard. Z-API can confirm deliveries from then on.",
    )
    op.create_table(
        "privacy_ids",
        sa.Column("privacy_id", sa.String(length=64), nullable=False, comment="An address ...@lid."),
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("learned_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_privacy_ids_chip_id")),
        sa.PrimaryKeyConstraint("privacy_id", name=op.f("pk_privacy_ids")),
        comment="Which chip stands behind a WhatsApp privacy id, as gateways told it.",
    )
    with op.batch_alter_table("privacy_ids", schema=None) as batch_op:
        batch_op.create_index("ix_privacy_ids_chip_id", ["chip_id"], unique=False)
