"""Every table of the pool's database.

Holds: the declared tables, their constraints and indexes. Add here: a table or column, together
with a migration (a test proves that migrations and declaration agree). Do not add: queries.

Full phone numbers stand in ``chips.phone`` and nowhere else. Times are UTC; columns called ``day``
or ending in ``_day`` are local calendar days of the policy's zone.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Date,
    Float,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from warmup_pipeline.domain.values import (
    ActivityState,
    ChipStatus,
    CircuitState,
    ClockKind,
    ConnectionState,
    ConversationState,
    Decision,
    FailureClass,
    HealthStatus,
    MessageKind,
    MessageState,
    Phase,
    Provider,
    RowSource,
    TrustLevel,
)
from warmup_pipeline.store.types import JsonDocument, UtcDateTime, one_of

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = String(36)


def _chip(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Id, ForeignKey("chips.id"), nullable=nullable)


pools = Table(
    "pools",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("clock", String(16), nullable=False, server_default=ClockKind.SYSTEM.value),
    Column("next_tick", UtcDateTime, comment="Stepped clock only: the tick the next cycle gets (UTC)."),
    Column("created_at", UtcDateTime, nullable=False),
    one_of("clock", ClockKind),
    CheckConstraint("(clock = 'stepped') = (next_tick IS NOT NULL)", name="stepped_has_tick"),
    comment="Groups of chips that only ever talk among themselves.",
)

chips = Table(
    "chips",
    metadata,
    Column("id", Id, primary_key=True),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    Column("phone", String(20), nullable=False, comment="E.164 digits. The only place with full numbers."),
    Column("last4", String(4), nullable=False, comment="What is shown of the phone."),
    Column("provider", String(16), nullable=False),
    Column("instance", String(128), nullable=False, comment="Evolution instance name, or Z-API instance id."),
    Column("label", String(128), nullable=False, server_default=""),
    Column("role", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("status_reason", Text, comment="Why the status is what it is, where it is not ordinary."),
    Column("status_since", UtcDateTime, nullable=False),
    Column("phase", String(32), nullable=False),
    Column("phase_started_at", UtcDateTime),
    Column("warming_started_at", UtcDateTime),
    Column("cooldown_until", UtcDateTime),
    Column("cooldown_reason", String(64)),
    Column("last_error_at", UtcDateTime),
    Column("last_error_code", String(64)),
    Column("last_error_text", Text, comment="Redacted: no secret, no full number."),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("phone"),
    UniqueConstraint("provider", "instance"),
    one_of("provider", Provider),
    one_of("status", ChipStatus),
    one_of("phase", Phase),
    Index("ix_chips_pool_status", "pool", "status"),
    comment="The operator's numbers.",
)

opening_balances = Table(
    "opening_balances",
    metadata,
    Column("chip_id", Id, ForeignKey("chips.id"), primary_key=True),
    Column("sent", Integer, nullable=False),
    Column("received", Integer, nullable=False),
    Column("bidirectional", Integer, nullable=False),
    Column("day", Date, nullable=False, comment="The import's local day."),
    Column("sent_on_day", Integer, nullable=False),
    Column("received_on_day", Integer, nullable=False),
    Column("last_error_at", UtcDateTime),
    CheckConstraint(
        "sent >= 0 AND received >= 0 AND bidirectional >= 0 AND sent_on_day >= 0 AND received_on_day >= 0",
        name="not_negative",
    ),
    comment="What an import says a chip had done before; the message log adds to it.",
)

activity_types = Table(
    "activity_types",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("executable", Boolean, nullable=False, comment="An executor is registered for it."),
    Column("opens_conversation", Boolean, nullable=False),
    comment="Words an activity may be; only executable ones may be planned. Kept from the registry.",
)

chip_connections = Table(
    "chip_connections",
    metadata,
    Column("chip_id", Id, ForeignKey("chips.id"), primary_key=True),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    Column("state", String(16), nullable=False, comment="Last definite answer of the gateway."),
    Column("since", UtcDateTime, nullable=False, comment="When the state became what it is."),
    Column("observed_at", UtcDateTime, comment="Last time the gateway gave a definite answer."),
    Column("asked_at", UtcDateTime, nullable=False, comment="Last time the gateway was asked."),
    Column("detail", Text, nullable=False, server_default=""),
    Column("needs_person", Text, comment="What a person must do, by name; empty if nobody need."),
    Column("recovery_attempts", Integer, nullable=False, server_default="0"),
    Column("last_recovery_at", UtcDateTime),
    Column("last_recovery_action", String(16)),
    Column("last_recovery_detail", Text),
    Column("next_recovery_at", UtcDateTime),
    Column("recovered_at", UtcDateTime, comment="When it last came back after being down."),
    Column("last_error_at", UtcDateTime, comment="Last connection-class error of a send; cleared on return."),
    Column("gateway_error", Text, comment="Why the gateway itself could not be asked; redacted."),
    Column("gateway_error_cycle_id", Id, comment="The cycle in which the gateway itself failed."),
    one_of("state", ConnectionState),
    Index("ix_chip_connections_pool", "pool"),
    comment="Connection state of each observed chip, as its gateway last said.",
)

connection_history = Table(
    "connection_history",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    _chip("chip_id"),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    Column("at", UtcDateTime, nullable=False, comment="The tick, or when a webhook said it."),
    Column("source", String(16), nullable=False, comment="asked, webhook or recovery."),
    Column("state", String(16), nullable=False),
    Column("detail", Text, nullable=False, server_default="", comment="The gateway's words, redacted."),
    one_of("state", ConnectionState),
    CheckConstraint("source IN ('asked', 'webhook', 'recovery')", name="source_known"),
    Index("ix_connection_history_chip_id_at", "chip_id", "at"),
    comment="Every change of a chip's connection, every recovery attempt, and what webhooks said of it.",
)

webhook_inbox = Table(
    "webhook_inbox",
    metadata,
    Column(
        "key", String(64), primary_key=True, comment="Digest of what is said: said twice, it stands once."
    ),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    _chip("chip_id"),
    Column("kind", String(16), nullable=False, comment="receipt, arrival or connection."),
    Column("state", String(16), nullable=False, comment="What a message or a connection is said to be."),
    Column("gateway_message_id", String(128)),
    Column("gateway_queue_id", String(128)),
    Column("failure_class", String(16)),
    Column("words", Text, nullable=False, server_default="", comment="The gateway's words, redacted."),
    Column("needs_person", Text, comment="What a person must do about a connection."),
    _chip("peer_chip_id", nullable=True),
    Column("peer_privacy_id", String(64), comment="The other end's @lid address."),
    Column("content", String(16), comment="Kind of an arrival from a chip of the pool."),
    Column("text", Text, comment="Its text: one of our own dialogues."),
    Column("said_at", UtcDateTime, comment="The gateway's own time."),
    Column("received_at", UtcDateTime, nullable=False, comment="Real time of the (last) webhook."),
    CheckConstraint("kind IN ('receipt', 'arrival', 'connection')", name="kind_known"),
    Index("ix_webhook_inbox_pool_received_at", "pool", "received_at"),
    comment="What webhooks said and no cycle has applied yet. Applied rows are gone.",
)

webhook_sources = Table(
    "webhook_sources",
    metadata,
    Column("chip_id", Id, ForeignKey("chips.id"), primary_key=True),
    Column("first_heard_at", UtcDateTime, nullable=False, comment="Real time."),
    Column("last_heard_at", UtcDateTime, nullable=False, comment="Real time."),
    Column("receipts_since", UtcDateTime, comment="Real time of the first receipt of a send of its own."),
    comment="Whose webhooks have ever been heard. Z-API can confirm deliveries from then on.",
)

privacy_ids = Table(
    "privacy_ids",
    metadata,
    Column("privacy_id", String(64), primary_key=True, comment="An address ...@lid."),
    _chip("chip_id"),
    Column("learned_at", UtcDateTime, nullable=False),
    Index("ix_privacy_ids_chip_id", "chip_id"),
    comment="Which chip stands behind a WhatsApp privacy id, as gateways told it.",
)

circuits = Table(
    "circuits",
    metadata,
    Column("chip_id", Id, ForeignKey("chips.id"), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("consecutive_failures", Integer, nullable=False),
    Column("opened_at", UtcDateTime),
    one_of("state", CircuitState),
    comment="The breaker of each chip's own channel. No row means closed.",
)

cycles = Table(
    "cycles",
    metadata,
    Column("id", Id, primary_key=True),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    Column("tick", UtcDateTime, nullable=False, comment="The cycle's one logical time."),
    Column("day", Date, nullable=False),
    Column("root_run_id", String(64), comment="Which Dagster run this cycle belongs to."),
    Column("policy", String(80), nullable=False, comment="Name and fingerprint."),
    Column("mode", String(16), nullable=False, comment="live or simulated."),
    Column("state", String(16), nullable=False),
    Column("began_at", UtcDateTime, nullable=False, comment="Real time."),
    Column(
        "lease_until", UtcDateTime, nullable=False, comment="Real time; after it another cycle may begin."
    ),
    Column("ended_at", UtcDateTime, comment="Real time."),
    Column("duration_s", Float),
    Column("counts", JsonDocument, nullable=False),
    Column("health", String(16), comment="Worst verdict of this cycle's checks so far."),
    UniqueConstraint("pool", "tick"),
    UniqueConstraint("root_run_id"),
    CheckConstraint("state IN ('running', 'finished', 'failed')", name="state_known"),
    CheckConstraint(
        "health IS NULL OR health IN (" + ", ".join(f"'{h.value}'" for h in HealthStatus) + ")",
        name="health_known",
    ),
    Index("ix_cycles_pool_state", "pool", "state"),
    Index("ix_cycles_day", "day"),
    comment="One row per warm-up cycle. Never purged.",
)

day_plans = Table(
    "day_plans",
    metadata,
    _chip("chip_id"),
    Column("day", Date, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("phase", String(32), nullable=False),
    Column("trust_level", String(16), nullable=False),
    Column("policy", String(80), nullable=False),
    Column("source", String(16), nullable=False),
    Column("planned", Integer, nullable=False),
    Column("planned_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("chip_id", "day", "revision"),
    one_of("phase", Phase),
    one_of("trust_level", TrustLevel),
    one_of("source", RowSource),
    comment="A chip's plan for a local day, made once; a phase change adds a revision.",
)

activities = Table(
    "activities",
    metadata,
    Column("id", Id, primary_key=True),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    _chip("chip_id"),
    Column("type", String(40), ForeignKey("activity_types.name"), nullable=False),
    Column("day", Date, nullable=False),
    Column("planned_at", UtcDateTime, nullable=False, comment="The due time first planned."),
    Column("due_at", UtcDateTime, nullable=False, comment="The due time now, after deferrals."),
    Column("state", String(16), nullable=False),
    Column("reason", String(64), comment="Reason code of a final state."),
    Column("detail", Text, comment="Words beside the reason; redacted."),
    Column("deferrals", Integer, nullable=False, server_default="0"),
    Column("last_deferral", String(64)),
    Column("cycle_id", Id, ForeignKey("cycles.id"), comment="The cycle that holds or ended it."),
    Column("conversation_id", Id),
    Column("source", String(16), nullable=False),
    Column("final_at", UtcDateTime),
    Column("traceback", Text, comment="Of a failure that has no message row; redacted."),
    one_of("state", ActivityState),
    one_of("source", RowSource),
    CheckConstraint(
        "(state IN ('planned', 'claimed')) = (reason IS NULL)", name="final_states_have_a_reason"
    ),
    CheckConstraint("state <> 'claimed' OR cycle_id IS NOT NULL", name="claimed_by_a_cycle"),
    Index("ix_activities_pool_state_due_at", "pool", "state", "due_at"),
    Index("ix_activities_chip_id_day", "chip_id", "day"),
    Index("ix_activities_day_pool", "day", "pool"),
    Index("ix_activities_cycle_id", "cycle_id"),
    Index(
        "ix_activities_imported",
        "pool",
        "day",
        sqlite_where=sa.text("source = 'import'"),
        postgresql_where=sa.text("source = 'import'"),
    ),
    comment="Planned openings and markings.",
)

conversations = Table(
    "conversations",
    metadata,
    Column("id", Id, primary_key=True),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    _chip("opener_chip_id"),
    _chip("responder_chip_id"),
    Column("pair_key", String(80), nullable=False, comment="Both chip ids in order: who, whoever opened."),
    Column("dialogue_id", String(80), nullable=False),
    Column("opens_with", String(16), nullable=False),
    Column("turns", Integer, nullable=False, comment="How many turns the dialogue has."),
    Column("turns_accepted", Integer, nullable=False, server_default="0"),
    Column("state", String(16), nullable=False),
    Column("reason", String(64), comment="Why it is closed."),
    Column("created_at", UtcDateTime, nullable=False),
    Column("opened_at", UtcDateTime, comment="Acceptance of the first turn."),
    Column("next_due_at", UtcDateTime, comment="When the next turn is due; empty while none is."),
    Column("claimed_cycle_id", Id, ForeignKey("cycles.id"), comment="The cycle holding the due turn."),
    Column("last_accepted_at", UtcDateTime),
    Column("closed_at", UtcDateTime),
    Column("opened_day", Date, comment="Local day of acceptance."),
    Column("deferrals", Integer, nullable=False, server_default="0"),
    Column("last_deferral", String(64)),
    one_of("state", ConversationState),
    one_of("opens_with", MessageKind),
    CheckConstraint("opener_chip_id <> responder_chip_id", name="two_chips"),
    CheckConstraint("turns BETWEEN 2 AND 6", name="turns_range"),
    CheckConstraint("turns_accepted BETWEEN 0 AND turns", name="accepted_range"),
    CheckConstraint("(state = 'closed') = (reason IS NOT NULL)", name="closed_has_a_reason"),
    Index(
        "uq_conversations_one_open_per_pair",
        "pair_key",
        unique=True,
        sqlite_where=sa.text("state <> 'closed'"),
        postgresql_where=sa.text("state <> 'closed'"),
    ),
    Index("ix_conversations_pool_state_next_due_at", "pool", "state", "next_due_at"),
    Index("ix_conversations_pair_key_created_at", "pair_key", "created_at"),
    Index("ix_conversations_pool_opened_at", "pool", "opened_at"),
    # Who opened with whom on a day is in the index itself.
    Index("ix_conversations_opened", "pool", "opened_day", "opener_chip_id", "responder_chip_id"),
    Index("ix_conversations_opener_chip_id", "opener_chip_id"),
    Index("ix_conversations_responder_chip_id", "responder_chip_id"),
    comment="Threads of turns between two chips.",
)

pairings = Table(
    "pairings",
    metadata,
    Column("id", Id, primary_key=True),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    Column("cycle_id", Id, ForeignKey("cycles.id"), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    _chip("opener_chip_id"),
    _chip("responder_chip_id"),
    Column("conversation_id", Id, ForeignKey("conversations.id"), nullable=False),
    Column("activity_id", Id, ForeignKey("activities.id"), nullable=False),
    Column("partner_activity_id", Id, ForeignKey("activities.id")),
    Column("score", Integer, nullable=False),
    Column("parts", JsonDocument, nullable=False),
    UniqueConstraint("cycle_id", "opener_chip_id"),
    UniqueConstraint("cycle_id", "responder_chip_id"),
    Index("ix_pairings_pool_at", "pool", "at"),
    comment="Who was paired with whom in each cycle, with the score and its parts.",
)

presend_validations = Table(
    "presend_validations",
    metadata,
    Column("id", Id, primary_key=True),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    Column("cycle_id", Id, ForeignKey("cycles.id"), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("day", Date, nullable=False),
    Column("subject", String(16), nullable=False, comment="opening, reply or action."),
    Column("activity_id", Id, ForeignKey("activities.id")),
    Column("conversation_id", Id, ForeignKey("conversations.id")),
    Column("turn", Integer),
    _chip("sender_chip_id"),
    _chip("recipient_chip_id", nullable=True),
    Column("decision", String(16), nullable=False),
    Column("reason", String(64), comment="Reason code; empty for an approval."),
    Column("until", UtcDateTime, comment="When the reason is expected to end."),
    Column("phase", String(32), nullable=False),
    Column("hour_limit", Integer, nullable=False),
    Column("day_limit", Integer, nullable=False),
    Column("sent_in_hour", Integer, nullable=False),
    Column("sent_in_day", Integer, nullable=False),
    Column("used_at", UtcDateTime, comment="When the approval was spent on a send."),
    Column("lapsed", Boolean, nullable=False, server_default=sa.false(), comment="Never used; void."),
    one_of("decision", Decision),
    one_of("phase", Phase),
    CheckConstraint("subject IN ('opening', 'reply', 'action')", name="subject_known"),
    CheckConstraint("(decision = 'approve') = (reason IS NULL)", name="refusal_has_a_reason"),
    UniqueConstraint("cycle_id", "sender_chip_id", "subject"),
    Index("ix_presend_validations_pool_day_decision", "pool", "day", "decision"),
    Index("ix_presend_validations_sender_chip_id_at", "sender_chip_id", "at"),
    Index(
        "ix_presend_validations_unused",
        "pool",
        "decision",
        "lapsed",
        sqlite_where=sa.text("used_at IS NULL"),
        postgresql_where=sa.text("used_at IS NULL"),
    ),
    comment="Every decision of pre-send validation. An approval is spent by exactly one message.",
)

messages = Table(
    "messages",
    metadata,
    Column("id", Id, primary_key=True),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    Column("cycle_id", Id, ForeignKey("cycles.id"), nullable=False),
    Column("approval_id", Id, ForeignKey("presend_validations.id"), nullable=False),
    Column("conversation_id", Id, ForeignKey("conversations.id"), nullable=False),
    Column("turn", Integer, nullable=False, comment="From 1."),
    Column("activity_id", Id, ForeignKey("activities.id"), comment="Openings only."),
    _chip("sender_chip_id"),
    _chip("recipient_chip_id"),
    Column("provider", String(16), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("media", String(80), comment="Name of the media file, where it is media."),
    Column("phase", String(32), nullable=False, comment="The sender's phase when it was sent."),
    Column("state", String(16), nullable=False),
    Column("sent_at", UtcDateTime, nullable=False, comment="The send time validation used (logical)."),
    Column("sent_day", Date, nullable=False),
    Column("accepted_at", UtcDateTime),
    Column("confirmable", Boolean, nullable=False, comment="The gateway can confirm deliveries."),
    Column("confirmed_at", UtcDateTime),
    Column("marked_read_at", UtcDateTime, comment="When the receiving chip marked it read."),
    Column("gateway_message_id", String(128)),
    Column("gateway_queue_id", String(128)),
    Column("http_attempts", Integer, nullable=False, server_default="0"),
    Column("failure_class", String(16)),
    Column("failure_status", Integer),
    Column("failure_text", Text, comment="The gateway's words, redacted."),
    Column("traceback", Text, comment="The whole traceback, redacted."),
    Column("ended_at", UtcDateTime, comment="Real time at which the outcome was recorded."),
    one_of("provider", Provider),
    one_of("kind", MessageKind),
    one_of("phase", Phase),
    one_of("state", MessageState),
    CheckConstraint("sender_chip_id <> recipient_chip_id", name="two_chips"),
    CheckConstraint("turn BETWEEN 1 AND 6", name="turn_range"),
    CheckConstraint(
        "failure_class IS NULL OR failure_class IN (" + ", ".join(f"'{f.value}'" for f in FailureClass) + ")",
        name="failure_class_known",
    ),
    CheckConstraint(
        "state NOT IN ('failed', 'unknown') OR failure_class IS NOT NULL", name="failures_have_a_class"
    ),
    UniqueConstraint("approval_id"),
    UniqueConstraint("conversation_id", "turn"),
    Index("ix_messages_sender_chip_id_sent_at", "sender_chip_id", "sent_at"),
    Index("ix_messages_recipient_chip_id_sent_at", "recipient_chip_id", "sent_at"),
    Index("ix_messages_pool_sent_day", "pool", "sent_day"),
    Index("ix_messages_pool_state_sent_at", "pool", "state", "sent_at"),
    Index("ix_messages_gateway_message_id", "gateway_message_id"),
    Index("ix_messages_cycle_id", "cycle_id"),
    Index(
        "ix_messages_activity_id",
        "activity_id",
        sqlite_where=sa.text("activity_id IS NOT NULL"),
        postgresql_where=sa.text("activity_id IS NOT NULL"),
    ),
    Index(
        "ix_messages_unconfirmed",
        "pool",
        "sender_chip_id",
        "sent_at",
        sqlite_where=sa.text("confirmable IS 1 AND confirmed_at IS NULL"),
        postgresql_where=sa.text("confirmable IS true AND confirmed_at IS NULL"),
    ),
    Index(
        "ix_messages_failed",
        "sender_chip_id",
        "sent_at",
        sqlite_where=sa.text("state = 'failed'"),
        postgresql_where=sa.text("state = 'failed'"),
    ),
    comment="Every turn whose HTTP call began, or was about to.",
)


def _sums() -> list[Column[Any]]:
    """Return the columns of sums over messages, for the tables that keep such sums."""
    return [
        Column(
            "sent", Integer, nullable=False, comment="Sends that count: confirmed where that is required."
        ),
        Column("received", Integer, nullable=False, comment="The same of other chips' sends to this one."),
        Column("attempted", Integer, nullable=False),
        Column("succeeded", Integer, nullable=False),
        Column("unknown", Integer, nullable=False),
        Column("confirmable", Integer, nullable=False, comment="Accepted sends that can be confirmed."),
        Column("confirmed", Integer, nullable=False, comment="Of those, the confirmed ones."),
        Column("pictures", Integer, nullable=False),
        Column("audios", Integer, nullable=False),
        Column("restrictions", Integer, nullable=False, comment="Sends refused as restricted."),
        Column("two_way", Integer, nullable=False, comment="Two-way conversations, by their first day."),
        Column("sends", Integer, nullable=False, comment="Its sends, whatever became of them."),
        Column("delivered", Integer, nullable=False, comment="Accepted sends that were confirmed."),
        Column("failed", Integer, nullable=False, comment="Attempts that certainly failed."),
        Column("heard", Integer, nullable=False, comment="Other chips' accepted sends to this one."),
    ]


chip_message_days = Table(
    "chip_message_days",
    metadata,
    _chip("chip_id"),
    Column("day", Date, nullable=False),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    *_sums(),
    PrimaryKeyConstraint("chip_id", "day"),
    Index("ix_chip_message_days_pool_day", "pool", "day"),
    comment="Roll-up of a long message log: what each chip's messages of each local day come to.",
)

chip_message_totals = Table(
    "chip_message_totals",
    metadata,
    Column("chip_id", Id, ForeignKey("chips.id"), primary_key=True),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    *_sums(),
    Index("ix_chip_message_totals_pool", "pool"),
    comment="The sums of chip_message_days over all days.",
)

conversation_touches = Table(
    "conversation_touches",
    metadata,
    Column("conversation_id", Id, ForeignKey("conversations.id"), primary_key=True),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    Column("stage", String(16), nullable=False, comment="Whether it is out of the roll-up, or in it again."),
    Column("rolled_at", UtcDateTime, comment="The tick that put it in again; empty until then."),
    CheckConstraint("stage IN ('noted', 'out', 'taken_up', 'in')", name="stage_known"),
    Index("ix_conversation_touches_stage_pool", "stage", "pool"),
    comment="Conversations whose messages changed: out of the roll-up until the next derivation.",
)

chip_derivations = Table(
    "chip_derivations",
    metadata,
    Column("chip_id", Id, ForeignKey("chips.id"), primary_key=True),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    Column("computed_at", UtcDateTime, nullable=False, comment="The last tick that derived it anew."),
    Column("judged_at", UtcDateTime, comment="The last tick that did and came to its end."),
    Column("next_at", UtcDateTime, comment="When time alone can change what is derived of it."),
    Column("status", String(16), nullable=False, comment="Its status then."),
    Column("role", String(32), nullable=False, comment="Its role then."),
    Column("phase", String(32), nullable=False, comment="Its phase then."),
    Column("phase_started_at", UtcDateTime, comment="Since when it was in it."),
    Column("warming_started_at", UtcDateTime, comment="Since when it had been warming."),
    Column("eligible", Boolean, comment="Whether every criterion of its next phase holds."),
    Column("limited_by", String(32), comment="The criterion that takes longest."),
    # Not by the tick: each cycle would take thousands of rows out of the index and put them in again.
    Index("ix_chip_derivations_pool", "pool"),
    comment="Pools with a long log: of which chips a cycle derives anew, and when that is due again.",
)

message_rollups = Table(
    "message_rollups",
    metadata,
    Column("pool", String(64), ForeignKey("pools.name"), primary_key=True),
    Column("since", UtcDateTime, nullable=False, comment="The tick at which its log had become long."),
    Column("rolled_until", Id, comment="How far the first roll-up has got, by id; empty: through all."),
    Column("verified_on", Date, comment="Last local day on which it was found equal to the whole log."),
    Column("derived_at", UtcDateTime, comment="The tick that last derived what has changed of its chips."),
    Column("derived_on", Date, comment="The local day of that tick."),
    Column("derived_by", String(128), comment="The policy it derived with."),
    comment="Pools whose message log is long, so that it is rolled up.",
)

whole_looks = Table(
    "whole_looks",
    metadata,
    Column("check_name", String(64), nullable=False, comment="The check that looked."),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    Column("clean_on", Date, nullable=False, comment="Last local day on which it found nothing wrong."),
    PrimaryKeyConstraint("check_name", "pool"),
    comment="When a check last looked at the whole of a long log and found nothing wrong.",
)

pool_verdicts = Table(
    "pool_verdicts",
    metadata,
    Column("check_name", String(64), nullable=False, comment="The check."),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    Column("judged_at", UtcDateTime, nullable=False, comment="The tick of the cycle that was judged."),
    Column("passed", Boolean, nullable=False, comment="Whether all was well in this pool."),
    Column("severity", String(8), nullable=False, comment="What it means where it was not: warn or error."),
    Column("summary", Text, nullable=False, comment="What the check said of this pool."),
    Column(
        "concerned", JsonDocument, nullable=False, comment="The chips it was about, as they may be shown."
    ),
    PrimaryKeyConstraint("check_name", "pool"),
    comment="What each check last said of each pool: a run judges its own pool and shows what is known of all.",
)

row_counts = Table(
    "row_counts",
    metadata,
    Column("table_name", String(64), primary_key=True),
    Column("until_day", Date, nullable=False, comment="The last day of which rows are in it."),
    Column("rows", Integer, nullable=False, comment="Rows of the table up to that day."),
    comment="How many old rows long tables have: counted once a local day.",
)

imported_interactions = Table(
    "imported_interactions",
    metadata,
    Column("id", Id, primary_key=True),
    _chip("chip_id"),
    Column("type", String(32), nullable=False),
    Column("succeeded", Boolean, nullable=False),
    Column("error_code", String(64)),
    Column("error_text", Text, comment="Redacted."),
    Column("at", UtcDateTime, nullable=False),
    Column("day", Date, nullable=False),
    CheckConstraint("type IN ('msg_enviada', 'status_criado')", name="type_known"),
    Index("ix_imported_interactions_chip_id_at", "chip_id", "at"),
    comment="History of the old system. Counts in no metric, limit or signal.",
)

deferrals = Table(
    "deferrals",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    Column("cycle_id", Id, ForeignKey("cycles.id"), nullable=False),
    Column("day", Date, nullable=False),
    _chip("chip_id"),
    Column("type", String(40), nullable=False, comment="Activity type, or REPLY for a reply turn."),
    Column("activity_id", Id, ForeignKey("activities.id")),
    Column("conversation_id", Id, ForeignKey("conversations.id")),
    Column("reason", String(64), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("until", UtcDateTime, nullable=False, comment="The new due time."),
    Index("ix_deferrals_day_pool", "day", "pool"),
    Index("ix_deferrals_activity_id", "activity_id"),
    comment="Every time something due was put off, and why.",
)

brake_signals = Table(
    "brake_signals",
    metadata,
    Column("chip_id", Id, ForeignKey("chips.id"), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("chip_id", "kind", "at"),
    comment="Bad signals: they brake a chip's limits and hold its phase for three days.",
)

chip_metrics = Table(
    "chip_metrics",
    metadata,
    Column("chip_id", Id, ForeignKey("chips.id"), primary_key=True),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    Column("computed_at", UtcDateTime, nullable=False, comment="The tick it was computed for."),
    Column("sent_total", Integer, nullable=False),
    Column("received_total", Integer, nullable=False),
    Column("sent_today", Integer, nullable=False),
    Column("received_today", Integer, nullable=False),
    Column("response_rate", Float, nullable=False),
    Column("delivery_rate", Float),
    Column("confirmed_share", Float),
    Column("attempted", Integer, nullable=False),
    Column("succeeded", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),
    Column("bidirectional", Integer, nullable=False),
    Column("media_kinds", Integer, nullable=False),
    Column("errors_24h", Integer, nullable=False),
    Column("restriction_failures", Integer, nullable=False),
    Column("days_without_error", Float, nullable=False),
    Column("last_error_at", UtcDateTime),
    Column("last_sent_at", UtcDateTime),
    Column("partners_today", Integer, nullable=False),
    Index("ix_chip_metrics_pool", "pool"),
    comment="What each chip has done, computed from the message log.",
)

trust_scores = Table(
    "trust_scores",
    metadata,
    Column("chip_id", Id, ForeignKey("chips.id"), primary_key=True),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    Column("computed_at", UtcDateTime, nullable=False),
    Column("score", Integer, nullable=False),
    Column("level", String(16), nullable=False),
    Column("parts", JsonDocument, nullable=False),
    CheckConstraint("score BETWEEN 0 AND 100", name="score_range"),
    one_of("level", TrustLevel),
    Index("ix_trust_scores_pool", "pool"),
    comment="Trust score 0-100 of each chip and what it is made of.",
)

warming_day = Table(
    "warming_day",
    metadata,
    Column("chip_id", Id, ForeignKey("chips.id"), primary_key=True),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    Column("computed_at", UtcDateTime, nullable=False),
    Column("computed_day", Date, nullable=False),
    Column("age_reference", UtcDateTime, nullable=False),
    Column("warming_day", Integer, comment="Local days since the age reference; empty while not warming."),
    Index("ix_warming_day_pool", "pool"),
    comment="How many local days each chip has been warming.",
)

phase_eligibility = Table(
    "phase_eligibility",
    metadata,
    Column("chip_id", Id, ForeignKey("chips.id"), nullable=False),
    Column("criterion", String(32), nullable=False),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    Column("computed_at", UtcDateTime, nullable=False),
    Column("phase", String(32), nullable=False),
    Column("next_phase", String(32), nullable=False),
    Column("value", Float),
    Column("needed", Float, nullable=False),
    Column("comparison", String(2), nullable=False),
    Column("holds", Boolean, nullable=False),
    Column("earliest_day", Date, comment="Earliest local day it can hold at the chip's pace."),
    Column("held_reason", Text, comment="Why the chip's phase is held: its brake's signals, or degraded."),
    Column("held_until", UtcDateTime, comment="When the hold ends by itself at the earliest."),
    PrimaryKeyConstraint("chip_id", "criterion"),
    one_of("phase", Phase),
    Index("ix_phase_eligibility_pool", "pool"),
    comment="Each criterion for the next phase of each chip, and whether it holds.",
)

phase_transitions = Table(
    "phase_transitions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    Column("cycle_id", Id, ForeignKey("cycles.id"), nullable=False),
    _chip("chip_id"),
    Column("from_phase", String(32), nullable=False),
    Column("to_phase", String(32), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("day", Date, nullable=False),
    Column("warming_day", Integer),
    Column("criteria", JsonDocument, nullable=False, comment="The values that justified it."),
    UniqueConstraint("cycle_id", "chip_id"),
    Index("ix_phase_transitions_chip_id_at", "chip_id", "at"),
    Index("ix_phase_transitions_pool_day", "pool", "day"),
    comment="Every phase change with the metrics that justified it.",
)

phase_forecast = Table(
    "phase_forecast",
    metadata,
    Column("day", Date, nullable=False, comment="The local day it was made on, in its first cycle."),
    _chip("chip_id"),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    Column("computed_at", UtcDateTime, nullable=False),
    Column("phase", String(32), nullable=False, comment="The phase the chip was in."),
    Column("next_phase", String(32), nullable=False, comment="The phase it waited for."),
    Column(
        "earliest_date", Date, comment="Earliest local day it can enter it; empty where none can be named."
    ),
    Column(
        "limited_by",
        String(32),
        comment="The criterion that takes longest, or held, degraded, not_taking_part; empty where nothing does.",
    ),
    PrimaryKeyConstraint("day", "chip_id"),
    one_of("phase", Phase),
    one_of("next_phase", Phase),
    Index("ix_phase_forecast_pool_day", "pool", "day"),
    comment="When each chip was expected to enter its next phase, forecast once a local day.",
)

chip_days = Table(
    "chip_days",
    metadata,
    _chip("chip_id"),
    Column("day", Date, nullable=False),
    Column("pool", String(64), ForeignKey("pools.name"), nullable=False),
    Column("as_of", UtcDateTime, nullable=False, comment="The day's last tick so far."),
    Column("status", String(16), nullable=False),
    Column("phase", String(32), nullable=False),
    Column("warming_day", Integer),
    Column("trust_score", Integer),
    Column("trust_level", String(16)),
    Column("hour_limit", Integer, nullable=False, comment="Effective: trust and brake included."),
    Column("day_limit", Integer, nullable=False, comment="Effective: trust and brake included."),
    Column("braked", Boolean, nullable=False),
    PrimaryKeyConstraint("chip_id", "day"),
    one_of("status", ChipStatus),
    one_of("phase", Phase),
    one_of("trust_level", TrustLevel),
    Index("ix_chip_days_pool_day", "pool", "day"),
    comment="How each chip stood at the end of each local day.",
)

daily_summary = Table(
    "daily_summary",
    metadata,
    Column("day", Date, nullable=False),
    Column("scope", String(8), nullable=False, comment="all, pool or chip."),
    Column("scope_id", String(64), nullable=False, comment="* for all, the pool's name, the chip's id."),
    Column("as_of", UtcDateTime, nullable=False, comment="Up to which instant it counts."),
    Column("final", Boolean, nullable=False, comment="The day is over."),
    Column("planned", Integer, nullable=False),
    Column("executed", Integer, nullable=False),
    Column("activities", JsonDocument, nullable=False, comment="Count by type and state."),
    Column("conversa_par_succeeded", Integer, nullable=False),
    Column("conversa_par_failed", Integer, nullable=False),
    Column("conversa_par_success_rate", Float),
    Column("deferrals", JsonDocument, nullable=False, comment="Count by reason."),
    Column("blocks", JsonDocument, nullable=False, comment="Count by reason."),
    Column("sent", Integer, nullable=False),
    Column("received", Integer, nullable=False),
    Column("delivered", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),
    Column("conversations_opened", Integer, nullable=False),
    Column("transitions", Integer, nullable=False),
    Column("health", String(16), comment="Health at the day's end (pool and all only)."),
    Column("cycles_run", Integer),
    Column("cycles_missed", Integer),
    Column("worst_cycle_s", Float),
    PrimaryKeyConstraint("day", "scope", "scope_id"),
    Index(
        "ix_daily_summary_running",
        "day",
        sqlite_where=sa.text("final IS 0"),
        postgresql_where=sa.text("final IS false"),
    ),
    CheckConstraint("scope IN ('all', 'pool', 'chip')", name="scope_known"),
    comment="What happened on each local day, for everything, each pool and each chip.",
)

kill_switches = Table(
    "kill_switches",
    metadata,
    Column("id", Id, primary_key=True),
    Column("scope", String(8), nullable=False),
    Column("target", String(64), nullable=False, comment="* for all, the pool's name, the chip's id."),
    Column("reason", Text, nullable=False),
    Column("author", String(80), nullable=False),
    Column("set_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("lifted_at", UtcDateTime),
    Column("lifted_by", String(80)),
    CheckConstraint("scope IN ('all', 'pool', 'chip')", name="scope_known"),
    Index("ix_kill_switches_lifted_at", "lifted_at"),
    comment="Sending switched off, for everything, a pool or a chip.",
)

operator_actions = Table(
    "operator_actions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False, comment="The pool clock's time."),
    Column("recorded_at", UtcDateTime, nullable=False, comment="Real time."),
    Column("author", String(80), nullable=False),
    Column("action", String(40), nullable=False),
    Column("target", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("details", JsonDocument, nullable=False),
    comment="Everything an operator did.",
)
