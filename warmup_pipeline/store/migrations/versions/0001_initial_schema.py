"""Initial schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply this version."""
    op.create_table(
        "activity_types",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("executable", sa.Boolean(), nullable=False, comment="An executor is registered for it."),
        sa.Column("opens_conversation", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_activity_types")),
        comment="Words an activity may be; only executable ones may be planned. Kept from the registry.",
    )
    op.create_table(
        "daily_summary",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("scope", sa.String(length=8), nullable=False, comment="all, pool or chip."),
        sa.Column(
            "scope_id",
            sa.String(length=64),
            nullable=False,
            comment="* for all, the pool's name, the chip's id.",
        ),
        sa.Column(
            "as_of", sa.DateTime(timezone=True), nullable=False, comment="Up to which instant it counts."
        ),
        sa.Column("final", sa.Boolean(), nullable=False, comment="The day is over."),
        sa.Column("planned", sa.Integer(), nullable=False),
        sa.Column("executed", sa.Integer(), nullable=False),
        sa.Column("activities", sa.JSON(), nullable=False, comment="Count by type and state."),
        sa.Column("conversa_par_succeeded", sa.Integer(), nullable=False),
        sa.Column("conversa_par_failed", sa.Integer(), nullable=False),
        sa.Column("conversa_par_success_rate", sa.Float(), nullable=True),
        sa.Column("deferrals", sa.JSON(), nullable=False, comment="Count by reason."),
        sa.Column("blocks", sa.JSON(), nullable=False, comment="Count by reason."),
        sa.Column("sent", sa.Integer(), nullable=False),
        sa.Column("received", sa.Integer(), nullable=False),
        sa.Column("delivered", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("unknown", sa.Integer(), nullable=False),
        sa.Column("conversations_opened", sa.Integer(), nullable=False),
        sa.Column("transitions", sa.Integer(), nullable=False),
        sa.Column(
            "health",
            sa.String(length=16),
            nullable=True,
            comment="Health at the day's end (pool and all only).",
        ),
        sa.Column("cycles_run", sa.Integer(), nullable=True),
        sa.Column("cycles_missed", sa.Integer(), nullable=True),
        sa.Column("worst_cycle_s", sa.Float(), nullable=True),
        sa.CheckConstraint("scope IN ('all', 'pool', 'chip')", name=op.f("ck_daily_summary_scope_known")),
        sa.PrimaryKeyConstraint("day", "scope", "scope_id", name=op.f("pk_daily_summary")),
        comment="What happened on each local day, for everything, each pool and each chip.",
    )
    op.create_table(
        "kill_switches",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("scope", sa.String(length=8), nullable=False),
        sa.Column(
            "target",
            sa.String(length=64),
            nullable=False,
            comment="* for all, the pool's name, the chip's id.",
        ),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("author", sa.String(length=80), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lifted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lifted_by", sa.String(length=80), nullable=True),
        sa.CheckConstraint("scope IN ('all', 'pool', 'chip')", name=op.f("ck_kill_switches_scope_known")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kill_switches")),
        comment="Sending switched off, for everything, a pool or a chip.",
    )
    with op.batch_alter_table("kill_switches", schema=None) as batch_op:
        batch_op.create_index("ix_kill_switches_lifted_at", ["lifted_at"], unique=False)

    op.create_table(
        "operator_actions",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, comment="The pool clock's time."),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False, comment="Real time."),
        sa.Column("author", sa.String(length=80), nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("target", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operator_actions")),
        comment="Everything an operator did.",
    )
    op.create_table(
        "pools",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("clock", sa.String(length=16), server_default="system", nullable=False),
        sa.Column(
            "next_tick",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Stepped clock only: the tick the next cycle gets (UTC).",
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "(clock = 'stepped') = (next_tick IS NOT NULL)", name=op.f("ck_pools_stepped_has_tick")
        ),
        sa.CheckConstraint("clock IN ('system', 'stepped')", name=op.f("ck_pools_clock_known")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_pools")),
        comment="Groups of chips that only ever talk among themselves.",
    )
    op.create_table(
        "chips",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column(
            "phone",
            sa.String(length=20),
            nullable=False,
            comment="E.164 digits. The only place with full numbers.",
        ),
        sa.Column("last4", sa.String(length=4), nullable=False, comment="What is shown of the phone."),
        sa.Column("provider", sa.String(length=16), nullable=False),
        sa.Column(
            "instance",
            sa.String(length=128),
            nullable=False,
            comment="Evolution instance name, or Z-API instance id.",
        ),
        sa.Column("label", sa.String(length=128), server_default="", nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column(
            "status_reason",
            sa.Text(),
            nullable=True,
            comment="Why the status is what it is, where it is not ordinary.",
        ),
        sa.Column("status_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("phase", sa.String(length=32), nullable=False),
        sa.Column("phase_started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("warming_started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cooldown_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cooldown_reason", sa.String(length=64), nullable=True),
        sa.Column("last_error_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error_code", sa.String(length=64), nullable=True),
        sa.Column(
            "last_error_text", sa.Text(), nullable=True, comment="Redacted: no secret, no full number."
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "phase IN ('repouso', 'setup', 'primeiros_contatos', 'expansao', 'pre_operacao', 'teste_graduacao', 'operacao')",
            name=op.f("ck_chips_phase_known"),
        ),
        sa.CheckConstraint("provider IN ('evolution', 'z-api')", name=op.f("ck_chips_provider_known")),
        sa.CheckConstraint(
            "status IN ('provisioned', 'pending', 'warming', 'ready', 'active', 'degraded', 'paused', 'banned', 'cancelled')",
            name=op.f("ck_chips_status_known"),
        ),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_chips_pool")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chips")),
        sa.UniqueConstraint("phone", name=op.f("uq_chips_phone")),
        sa.UniqueConstraint("provider", "instance", name=op.f("uq_chips_provider_instance")),
        comment="The operator's numbers.",
    )
    with op.batch_alter_table("chips", schema=None) as batch_op:
        batch_op.create_index("ix_chips_pool_status", ["pool", "status"], unique=False)

    op.create_table(
        "cycles",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column(
            "tick", sa.DateTime(timezone=True), nullable=False, comment="The cycle's one logical time."
        ),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column(
            "root_run_id",
            sa.String(length=64),
            nullable=True,
            comment="Which Dagster run this cycle belongs to.",
        ),
        sa.Column("policy", sa.String(length=80), nullable=False, comment="Name and fingerprint."),
        sa.Column("mode", sa.String(length=16), nullable=False, comment="live or simulated."),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False, comment="Real time."),
        sa.Column(
            "lease_until",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="Real time; after it another cycle may begin.",
        ),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True, comment="Real time."),
        sa.Column("duration_s", sa.Float(), nullable=True),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column(
            "health",
            sa.String(length=16),
            nullable=True,
            comment="Worst verdict of this cycle's checks so far.",
        ),
        sa.CheckConstraint(
            "health IS NULL OR health IN ('healthy', 'degraded', 'critical')",
            name=op.f("ck_cycles_health_known"),
        ),
        sa.CheckConstraint("state IN ('running', 'finished', 'failed')", name=op.f("ck_cycles_state_known")),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_cycles_pool")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cycles")),
        sa.UniqueConstraint("pool", "tick", name=op.f("uq_cycles_pool_tick")),
        sa.UniqueConstraint("root_run_id", name=op.f("uq_cycles_root_run_id")),
        comment="One row per warm-up cycle. Never purged.",
    )
    with op.batch_alter_table("cycles", schema=None) as batch_op:
        batch_op.create_index("ix_cycles_day", ["day"], unique=False)
        batch_op.create_index("ix_cycles_pool_state", ["pool", "state"], unique=False)

    op.create_table(
        "activities",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column(
            "planned_at", sa.DateTime(timezone=True), nullable=False, comment="The due time first planned."
        ),
        sa.Column(
            "due_at", sa.DateTime(timezone=True), nullable=False, comment="The due time now, after deferrals."
        ),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=True, comment="Reason code of a final state."),
        sa.Column("detail", sa.Text(), nullable=True, comment="Words beside the reason; redacted."),
        sa.Column("deferrals", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_deferral", sa.String(length=64), nullable=True),
        sa.Column(
            "cycle_id", sa.String(length=36), nullable=True, comment="The cycle that holds or ended it."
        ),
        sa.Column("conversation_id", sa.String(length=36), nullable=True),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("final_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "traceback", sa.Text(), nullable=True, comment="Of a failure that has no message row; redacted."
        ),
        sa.CheckConstraint(
            "(state IN ('planned', 'claimed')) = (reason IS NULL)",
            name=op.f("ck_activities_final_states_have_a_reason"),
        ),
        sa.CheckConstraint("source IN ('warmup', 'import')", name=op.f("ck_activities_source_known")),
        sa.CheckConstraint(
            "state <> 'claimed' OR cycle_id IS NOT NULL", name=op.f("ck_activities_claimed_by_a_cycle")
        ),
        sa.CheckConstraint(
            "state IN ('planned', 'claimed', 'executed', 'failed', 'unknown', 'blocked', 'expired', 'cancelled', 'nothing_to_do')",
            name=op.f("ck_activities_state_known"),
        ),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_activities_chip_id")),
        sa.ForeignKeyConstraint(["cycle_id"], ["cycles.id"], name=op.f("fk_activities_cycle_id")),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_activities_pool")),
        sa.ForeignKeyConstraint(["type"], ["activity_types.name"], name=op.f("fk_activities_type")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_activities")),
        comment="Planned openings and markings.",
    )
    with op.batch_alter_table("activities", schema=None) as batch_op:
        batch_op.create_index("ix_activities_chip_id_day", ["chip_id", "day"], unique=False)
        batch_op.create_index("ix_activities_cycle_id", ["cycle_id"], unique=False)
        batch_op.create_index("ix_activities_day_pool", ["day", "pool"], unique=False)
        batch_op.create_index("ix_activities_pool_state_due_at", ["pool", "state", "due_at"], unique=False)

    op.create_table(
        "brake_signals",
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_brake_signals_chip_id")),
        sa.PrimaryKeyConstraint("chip_id", "kind", "at", name=op.f("pk_brake_signals")),
        comment="Bad signals: they brake a chip's limits and hold its phase for three days.",
    )
    op.create_table(
        "chip_connections",
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column(
            "state", sa.String(length=16), nullable=False, comment="Last definite answer of the gateway."
        ),
        sa.Column(
            "since", sa.DateTime(timezone=True), nullable=False, comment="When the state became what it is."
        ),
        sa.Column(
            "observed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Last time the gateway gave a definite answer.",
        ),
        sa.Column(
            "asked_at", sa.DateTime(timezone=True), nullable=False, comment="Last time the gateway was asked."
        ),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "needs_person",
            sa.Text(),
            nullable=True,
            comment="What a person must do, by name; empty if nobody need.",
        ),
        sa.Column("recovery_attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_recovery_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_recovery_action", sa.String(length=16), nullable=True),
        sa.Column("last_recovery_detail", sa.Text(), nullable=True),
        sa.Column("next_recovery_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "recovered_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When it last came back after being down.",
        ),
        sa.Column(
            "last_error_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Last connection-class error of a send; cleared on return.",
        ),
        sa.Column(
            "gateway_error",
            sa.Text(),
            nullable=True,
            comment="Why the gateway itself could not be asked; redacted.",
        ),
        sa.Column(
            "gateway_error_cycle_id",
            sa.String(length=36),
            nullable=True,
            comment="The cycle in which the gateway itself failed.",
        ),
        sa.CheckConstraint(
            "state IN ('open', 'connecting', 'closed', 'unknown')",
            name=op.f("ck_chip_connections_state_known"),
        ),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_chip_connections_chip_id")),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_chip_connections_pool")),
        sa.PrimaryKeyConstraint("chip_id", name=op.f("pk_chip_connections")),
        comment="Connection state of each observed chip, as its gateway last said.",
    )
    with op.batch_alter_table("chip_connections", schema=None) as batch_op:
        batch_op.create_index("ix_chip_connections_pool", ["pool"], unique=False)

    op.create_table(
        "chip_metrics",
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column(
            "computed_at", sa.DateTime(timezone=True), nullable=False, comment="The tick it was computed for."
        ),
        sa.Column("sent_total", sa.Integer(), nullable=False),
        sa.Column("received_total", sa.Integer(), nullable=False),
        sa.Column("sent_today", sa.Integer(), nullable=False),
        sa.Column("received_today", sa.Integer(), nullable=False),
        sa.Column("response_rate", sa.Float(), nullable=False),
        sa.Column("delivery_rate", sa.Float(), nullable=True),
        sa.Column("confirmed_share", sa.Float(), nullable=True),
        sa.Column("attempted", sa.Integer(), nullable=False),
        sa.Column("succeeded", sa.Integer(), nullable=False),
        sa.Column("unknown", sa.Integer(), nullable=False),
        sa.Column("bidirectional", sa.Integer(), nullable=False),
        sa.Column("media_kinds", sa.Integer(), nullable=False),
        sa.Column("errors_24h", sa.Integer(), nullable=False),
        sa.Column("restriction_failures", sa.Integer(), nullable=False),
        sa.Column("days_without_error", sa.Float(), nullable=False),
        sa.Column("last_error_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("partners_today", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_chip_metrics_chip_id")),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_chip_metrics_pool")),
        sa.PrimaryKeyConstraint("chip_id", name=op.f("pk_chip_metrics")),
        comment="What each chip has done, computed from the message log.",
    )
    with op.batch_alter_table("chip_metrics", schema=None) as batch_op:
        batch_op.create_index("ix_chip_metrics_pool", ["pool"], unique=False)

    op.create_table(
        "circuits",
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("consecutive_failures", sa.Integer(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('closed', 'open', 'half_open')", name=op.f("ck_circuits_state_known")),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_circuits_chip_id")),
        sa.PrimaryKeyConstraint("chip_id", name=op.f("pk_circuits")),
        comment="The breaker of each chip's own channel. No row means closed.",
    )
    op.create_table(
        "conversations",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("opener_chip_id", sa.String(length=36), nullable=False),
        sa.Column("responder_chip_id", sa.String(length=36), nullable=False),
        sa.Column(
            "pair_key",
            sa.String(length=80),
            nullable=False,
            comment="Both chip ids in order: who, whoever opened.",
        ),
        sa.Column("dialogue_id", sa.String(length=80), nullable=False),
        sa.Column("opens_with", sa.String(length=16), nullable=False),
        sa.Column("turns", sa.Integer(), nullable=False, comment="How many turns the dialogue has."),
        sa.Column("turns_accepted", sa.Integer(), server_default="0", nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=True, comment="Why it is closed."),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "opened_at", sa.DateTime(timezone=True), nullable=True, comment="Acceptance of the first turn."
        ),
        sa.Column(
            "next_due_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When the next turn is due; empty while none is.",
        ),
        sa.Column(
            "claimed_cycle_id", sa.String(length=36), nullable=True, comment="The cycle holding the due turn."
        ),
        sa.Column("last_accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("opened_day", sa.Date(), nullable=True, comment="Local day of acceptance."),
        sa.Column("deferrals", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_deferral", sa.String(length=64), nullable=True),
        sa.CheckConstraint(
            "(state = 'closed') = (reason IS NOT NULL)", name=op.f("ck_conversations_closed_has_a_reason")
        ),
        sa.CheckConstraint(
            "opens_with IN ('text', 'picture', 'audio')", name=op.f("ck_conversations_opens_with_known")
        ),
        sa.CheckConstraint(
            "state IN ('opening', 'open', 'closed')", name=op.f("ck_conversations_state_known")
        ),
        sa.CheckConstraint("opener_chip_id <> responder_chip_id", name=op.f("ck_conversations_two_chips")),
        sa.CheckConstraint("turns BETWEEN 2 AND 6", name=op.f("ck_conversations_turns_range")),
        sa.CheckConstraint(
            "turns_accepted BETWEEN 0 AND turns", name=op.f("ck_conversations_accepted_range")
        ),
        sa.ForeignKeyConstraint(
            ["claimed_cycle_id"], ["cycles.id"], name=op.f("fk_conversations_claimed_cycle_id")
        ),
        sa.ForeignKeyConstraint(
            ["opener_chip_id"], ["chips.id"], name=op.f("fk_conversations_opener_chip_id")
        ),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_conversations_pool")),
        sa.ForeignKeyConstraint(
            ["responder_chip_id"], ["chips.id"], name=op.f("fk_conversations_responder_chip_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conversations")),
        comment="Threads of turns between two chips.",
    )
    with op.batch_alter_table("conversations", schema=None) as batch_op:
        batch_op.create_index("ix_conversations_opener_chip_id", ["opener_chip_id"], unique=False)
        batch_op.create_index(
            "ix_conversations_pair_key_created_at", ["pair_key", "created_at"], unique=False
        )
        batch_op.create_index("ix_conversations_pool_opened_at", ["pool", "opened_at"], unique=False)
        batch_op.create_index(
            "ix_conversations_pool_state_next_due_at", ["pool", "state", "next_due_at"], unique=False
        )
        batch_op.create_index("ix_conversations_responder_chip_id", ["responder_chip_id"], unique=False)
        batch_op.create_index(
            "uq_conversations_one_open_per_pair",
            ["pair_key"],
            unique=True,
            sqlite_where=sa.text("state <> 'closed'"),
            postgresql_where=sa.text("state <> 'closed'"),
        )

    op.create_table(
        "day_plans",
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("phase", sa.String(length=32), nullable=False),
        sa.Column("trust_level", sa.String(length=16), nullable=False),
        sa.Column("policy", sa.String(length=80), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("planned", sa.Integer(), nullable=False),
        sa.Column("planned_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "phase IN ('repouso', 'setup', 'primeiros_contatos', 'expansao', 'pre_operacao', 'teste_graduacao', 'operacao')",
            name=op.f("ck_day_plans_phase_known"),
        ),
        sa.CheckConstraint("source IN ('warmup', 'import')", name=op.f("ck_day_plans_source_known")),
        sa.CheckConstraint(
            "trust_level IN ('verde', 'amarelo', 'laranja', 'vermelho', 'critico')",
            name=op.f("ck_day_plans_trust_level_known"),
        ),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_day_plans_chip_id")),
        sa.PrimaryKeyConstraint("chip_id", "day", "revision", name=op.f("pk_day_plans")),
        comment="A chip's plan for a local day, made once; a phase change adds a revision.",
    )
    op.create_table(
        "imported_interactions",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("succeeded", sa.Boolean(), nullable=False),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_text", sa.Text(), nullable=True, comment="Redacted."),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.CheckConstraint(
            "type IN ('msg_enviada', 'status_criado')", name=op.f("ck_imported_interactions_type_known")
        ),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_imported_interactions_chip_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_imported_interactions")),
        comment="History of the old system. Counts in no metric, limit or signal.",
    )
    with op.batch_alter_table("imported_interactions", schema=None) as batch_op:
        batch_op.create_index("ix_imported_interactions_chip_id_at", ["chip_id", "at"], unique=False)

    op.create_table(
        "opening_balances",
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("sent", sa.Integer(), nullable=False),
        sa.Column("received", sa.Integer(), nullable=False),
        sa.Column("bidirectional", sa.Integer(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False, comment="The import's local day."),
        sa.Column("sent_on_day", sa.Integer(), nullable=False),
        sa.Column("received_on_day", sa.Integer(), nullable=False),
        sa.Column("last_error_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "sent >= 0 AND received >= 0 AND bidirectional >= 0 AND sent_on_day >= 0 AND received_on_day >= 0",
            name=op.f("ck_opening_balances_not_negative"),
        ),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_opening_balances_chip_id")),
        sa.PrimaryKeyConstraint("chip_id", name=op.f("pk_opening_balances")),
        comment="What an import says a chip had done before; the message log adds to it.",
    )
    op.create_table(
        "phase_eligibility",
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("criterion", sa.String(length=32), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("computed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("phase", sa.String(length=32), nullable=False),
        sa.Column("next_phase", sa.String(length=32), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("needed", sa.Float(), nullable=False),
        sa.Column("comparison", sa.String(length=2), nullable=False),
        sa.Column("holds", sa.Boolean(), nullable=False),
        sa.Column(
            "earliest_day",
            sa.Date(),
            nullable=True,
            comment="Earliest local day it can hold at the chip's pace.",
        ),
        sa.CheckConstraint(
            "phase IN ('repouso', 'setup', 'primeiros_contatos', 'expansao', 'pre_operacao', 'teste_graduacao', 'operacao')",
            name=op.f("ck_phase_eligibility_phase_known"),
        ),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_phase_eligibility_chip_id")),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_phase_eligibility_pool")),
        sa.PrimaryKeyConstraint("chip_id", "criterion", name=op.f("pk_phase_eligibility")),
        comment="Each criterion for the next phase of each chip, and whether it holds.",
    )
    with op.batch_alter_table("phase_eligibility", schema=None) as batch_op:
        batch_op.create_index("ix_phase_eligibility_pool", ["pool"], unique=False)

    op.create_table(
        "phase_transitions",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("cycle_id", sa.String(length=36), nullable=False),
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("from_phase", sa.String(length=32), nullable=False),
        sa.Column("to_phase", sa.String(length=32), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("warming_day", sa.Integer(), nullable=True),
        sa.Column("criteria", sa.JSON(), nullable=False, comment="The values that justified it."),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_phase_transitions_chip_id")),
        sa.ForeignKeyConstraint(["cycle_id"], ["cycles.id"], name=op.f("fk_phase_transitions_cycle_id")),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_phase_transitions_pool")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_phase_transitions")),
        sa.UniqueConstraint("cycle_id", "chip_id", name=op.f("uq_phase_transitions_cycle_id_chip_id")),
        comment="Every phase change with the metrics that justified it.",
    )
    with op.batch_alter_table("phase_transitions", schema=None) as batch_op:
        batch_op.create_index("ix_phase_transitions_chip_id_at", ["chip_id", "at"], unique=False)
        batch_op.create_index("ix_phase_transitions_pool_day", ["pool", "day"], unique=False)

    op.create_table(
        "trust_scores",
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("computed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("score", sa.Integer(), nullable=False),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("parts", sa.JSON(), nullable=False),
        sa.CheckConstraint(
            "level IN ('verde', 'amarelo', 'laranja', 'vermelho', 'critico')",
            name=op.f("ck_trust_scores_level_known"),
        ),
        sa.CheckConstraint("score BETWEEN 0 AND 100", name=op.f("ck_trust_scores_score_range")),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_trust_scores_chip_id")),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_trust_scores_pool")),
        sa.PrimaryKeyConstraint("chip_id", name=op.f("pk_trust_scores")),
        comment="Trust score 0-100 of each chip and what it is made of.",
    )
    with op.batch_alter_table("trust_scores", schema=None) as batch_op:
        batch_op.create_index("ix_trust_scores_pool", ["pool"], unique=False)

    op.create_table(
        "warming_day",
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("computed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("computed_day", sa.Date(), nullable=False),
        sa.Column("age_reference", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "warming_day",
            sa.Integer(),
            nullable=True,
            comment="Local days since the age reference; empty while not warming.",
        ),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_warming_day_chip_id")),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_warming_day_pool")),
        sa.PrimaryKeyConstraint("chip_id", name=op.f("pk_warming_day")),
        comment="How many local days each chip has been warming.",
    )
    with op.batch_alter_table("warming_day", schema=None) as batch_op:
        batch_op.create_index("ix_warming_day_pool", ["pool"], unique=False)

    op.create_table(
        "deferrals",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("cycle_id", sa.String(length=36), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("chip_id", sa.String(length=36), nullable=False),
        sa.Column(
            "type", sa.String(length=40), nullable=False, comment="Activity type, or REPLY for a reply turn."
        ),
        sa.Column("activity_id", sa.String(length=36), nullable=True),
        sa.Column("conversation_id", sa.String(length=36), nullable=True),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False, comment="The new due time."),
        sa.ForeignKeyConstraint(["activity_id"], ["activities.id"], name=op.f("fk_deferrals_activity_id")),
        sa.ForeignKeyConstraint(["chip_id"], ["chips.id"], name=op.f("fk_deferrals_chip_id")),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversations.id"], name=op.f("fk_deferrals_conversation_id")
        ),
        sa.ForeignKeyConstraint(["cycle_id"], ["cycles.id"], name=op.f("fk_deferrals_cycle_id")),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_deferrals_pool")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deferrals")),
        comment="Every time something due was put off, and why.",
    )
    with op.batch_alter_table("deferrals", schema=None) as batch_op:
        batch_op.create_index("ix_deferrals_activity_id", ["activity_id"], unique=False)
        batch_op.create_index("ix_deferrals_day_pool", ["day", "pool"], unique=False)

    op.create_table(
        "pairings",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("cycle_id", sa.String(length=36), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("opener_chip_id", sa.String(length=36), nullable=False),
        sa.Column("responder_chip_id", sa.String(length=36), nullable=False),
        sa.Column("conversation_id", sa.String(length=36), nullable=False),
        sa.Column("activity_id", sa.String(length=36), nullable=False),
        sa.Column("partner_activity_id", sa.String(length=36), nullable=True),
        sa.Column("score", sa.Integer(), nullable=False),
        sa.Column("parts", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["activity_id"], ["activities.id"], name=op.f("fk_pairings_activity_id")),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversations.id"], name=op.f("fk_pairings_conversation_id")
        ),
        sa.ForeignKeyConstraint(["cycle_id"], ["cycles.id"], name=op.f("fk_pairings_cycle_id")),
        sa.ForeignKeyConstraint(["opener_chip_id"], ["chips.id"], name=op.f("fk_pairings_opener_chip_id")),
        sa.ForeignKeyConstraint(
            ["partner_activity_id"], ["activities.id"], name=op.f("fk_pairings_partner_activity_id")
        ),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_pairings_pool")),
        sa.ForeignKeyConstraint(
            ["responder_chip_id"], ["chips.id"], name=op.f("fk_pairings_responder_chip_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pairings")),
        sa.UniqueConstraint("cycle_id", "opener_chip_id", name=op.f("uq_pairings_cycle_id_opener_chip_id")),
        sa.UniqueConstraint(
            "cycle_id", "responder_chip_id", name=op.f("uq_pairings_cycle_id_responder_chip_id")
        ),
        comment="Who was paired with whom in each cycle, with the score and its parts.",
    )
    with op.batch_alter_table("pairings", schema=None) as batch_op:
        batch_op.create_index("ix_pairings_pool_at", ["pool", "at"], unique=False)

    op.create_table(
        "presend_validations",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("cycle_id", sa.String(length=36), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("subject", sa.String(length=16), nullable=False, comment="opening, reply or action."),
        sa.Column("activity_id", sa.String(length=36), nullable=True),
        sa.Column("conversation_id", sa.String(length=36), nullable=True),
        sa.Column("turn", sa.Integer(), nullable=True),
        sa.Column("sender_chip_id", sa.String(length=36), nullable=False),
        sa.Column("recipient_chip_id", sa.String(length=36), nullable=True),
        sa.Column("decision", sa.String(length=16), nullable=False),
        sa.Column(
            "reason", sa.String(length=64), nullable=True, comment="Reason code; empty for an approval."
        ),
        sa.Column(
            "until", sa.DateTime(timezone=True), nullable=True, comment="When the reason is expected to end."
        ),
        sa.Column("phase", sa.String(length=32), nullable=False),
        sa.Column("hour_limit", sa.Integer(), nullable=False),
        sa.Column("day_limit", sa.Integer(), nullable=False),
        sa.Column("sent_in_hour", sa.Integer(), nullable=False),
        sa.Column("sent_in_day", sa.Integer(), nullable=False),
        sa.Column(
            "used_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When the approval was spent on a send.",
        ),
        sa.Column(
            "lapsed", sa.Boolean(), server_default=sa.false(), nullable=False, comment="Never used; void."
        ),
        sa.CheckConstraint(
            "(decision = 'approve') = (reason IS NULL)",
            name=op.f("ck_presend_validations_refusal_has_a_reason"),
        ),
        sa.CheckConstraint(
            "decision IN ('approve', 'defer', 'block')", name=op.f("ck_presend_validations_decision_known")
        ),
        sa.CheckConstraint(
            "phase IN ('repouso', 'setup', 'primeiros_contatos', 'expansao', 'pre_operacao', 'teste_graduacao', 'operacao')",
            name=op.f("ck_presend_validations_phase_known"),
        ),
        sa.CheckConstraint(
            "subject IN ('opening', 'reply', 'action')", name=op.f("ck_presend_validations_subject_known")
        ),
        sa.ForeignKeyConstraint(
            ["activity_id"], ["activities.id"], name=op.f("fk_presend_validations_activity_id")
        ),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversations.id"], name=op.f("fk_presend_validations_conversation_id")
        ),
        sa.ForeignKeyConstraint(["cycle_id"], ["cycles.id"], name=op.f("fk_presend_validations_cycle_id")),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_presend_validations_pool")),
        sa.ForeignKeyConstraint(
            ["recipient_chip_id"], ["chips.id"], name=op.f("fk_presend_validations_recipient_chip_id")
        ),
        sa.ForeignKeyConstraint(
            ["sender_chip_id"], ["chips.id"], name=op.f("fk_presend_validations_sender_chip_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_presend_validations")),
        sa.UniqueConstraint(
            "cycle_id",
            "sender_chip_id",
            "subject",
            name=op.f("uq_presend_validations_cycle_id_sender_chip_id_subject"),
        ),
        comment="Every decision of pre-send validation. An approval is spent by exactly one message.",
    )
    with op.batch_alter_table("presend_validations", schema=None) as batch_op:
        batch_op.create_index("ix_presend_validations_pool_day", ["pool", "day"], unique=False)
        batch_op.create_index(
            "ix_presend_validations_sender_chip_id_at", ["sender_chip_id", "at"], unique=False
        )

    op.create_table(
        "messages",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("pool", sa.String(length=64), nullable=False),
        sa.Column("cycle_id", sa.String(length=36), nullable=False),
        sa.Column("approval_id", sa.String(length=36), nullable=False),
        sa.Column("conversation_id", sa.String(length=36), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False, comment="From 1."),
        sa.Column("activity_id", sa.String(length=36), nullable=True, comment="Openings only."),
        sa.Column("sender_chip_id", sa.String(length=36), nullable=False),
        sa.Column("recipient_chip_id", sa.String(length=36), nullable=False),
        sa.Column("provider", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column(
            "media", sa.String(length=80), nullable=True, comment="Name of the media file, where it is media."
        ),
        sa.Column(
            "phase", sa.String(length=32), nullable=False, comment="The sender's phase when it was sent."
        ),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column(
            "sent_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="The send time validation used (logical).",
        ),
        sa.Column("sent_day", sa.Date(), nullable=False),
        sa.Column("accepted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("confirmable", sa.Boolean(), nullable=False, comment="The gateway can confirm deliveries."),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "marked_read_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="When the receiving chip marked it read.",
        ),
        sa.Column("gateway_message_id", sa.String(length=128), nullable=True),
        sa.Column("gateway_queue_id", sa.String(length=128), nullable=True),
        sa.Column("http_attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failure_class", sa.String(length=16), nullable=True),
        sa.Column("failure_status", sa.Integer(), nullable=True),
        sa.Column("failure_text", sa.Text(), nullable=True, comment="The gateway's words, redacted."),
        sa.Column("traceback", sa.Text(), nullable=True, comment="The whole traceback, redacted."),
        sa.Column(
            "ended_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="Real time at which the outcome was recorded.",
        ),
        sa.CheckConstraint(
            "failure_class IS NULL OR failure_class IN ('unknown', 'recipient', 'disconnected', 'rate_limited', 'gateway', 'restriction', 'transient', 'permanent', 'bug')",
            name=op.f("ck_messages_failure_class_known"),
        ),
        sa.CheckConstraint("kind IN ('text', 'picture', 'audio')", name=op.f("ck_messages_kind_known")),
        sa.CheckConstraint(
            "phase IN ('repouso', 'setup', 'primeiros_contatos', 'expansao', 'pre_operacao', 'teste_graduacao', 'operacao')",
            name=op.f("ck_messages_phase_known"),
        ),
        sa.CheckConstraint("provider IN ('evolution', 'z-api')", name=op.f("ck_messages_provider_known")),
        sa.CheckConstraint(
            "state IN ('sending', 'accepted', 'at_whatsapp', 'delivered', 'read', 'failed', 'unknown')",
            name=op.f("ck_messages_state_known"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('failed', 'unknown') OR failure_class IS NOT NULL",
            name=op.f("ck_messages_failures_have_a_class"),
        ),
        sa.CheckConstraint("sender_chip_id <> recipient_chip_id", name=op.f("ck_messages_two_chips")),
        sa.CheckConstraint("turn BETWEEN 1 AND 6", name=op.f("ck_messages_turn_range")),
        sa.ForeignKeyConstraint(["activity_id"], ["activities.id"], name=op.f("fk_messages_activity_id")),
        sa.ForeignKeyConstraint(
            ["approval_id"], ["presend_validations.id"], name=op.f("fk_messages_approval_id")
        ),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversations.id"], name=op.f("fk_messages_conversation_id")
        ),
        sa.ForeignKeyConstraint(["cycle_id"], ["cycles.id"], name=op.f("fk_messages_cycle_id")),
        sa.ForeignKeyConstraint(["pool"], ["pools.name"], name=op.f("fk_messages_pool")),
        sa.ForeignKeyConstraint(
            ["recipient_chip_id"], ["chips.id"], name=op.f("fk_messages_recipient_chip_id")
        ),
        sa.ForeignKeyConstraint(["sender_chip_id"], ["chips.id"], name=op.f("fk_messages_sender_chip_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
        sa.UniqueConstraint("approval_id", name=op.f("uq_messages_approval_id")),
        sa.UniqueConstraint("conversation_id", "turn", name=op.f("uq_messages_conversation_id_turn")),
        comment="Every turn whose HTTP call began, or was about to.",
    )
    with op.batch_alter_table("messages", schema=None) as batch_op:
        batch_op.create_index("ix_messages_cycle_id", ["cycle_id"], unique=False)
        batch_op.create_index("ix_messages_gateway_message_id", ["gateway_message_id"], unique=False)
        batch_op.create_index("ix_messages_pool_sent_day", ["pool", "sent_day"], unique=False)
        batch_op.create_index("ix_messages_pool_state_sent_at", ["pool", "state", "sent_at"], unique=False)
        batch_op.create_index(
            "ix_messages_recipient_chip_id_sent_at", ["recipient_chip_id", "sent_at"], unique=False
        )
        batch_op.create_index(
            "ix_messages_sender_chip_id_sent_at", ["sender_chip_id", "sent_at"], unique=False
        )
