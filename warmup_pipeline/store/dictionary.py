"""What every column means, in one line.

Holds: :func:`column_description`, which the UI's column lists show, and :func:`data_dictionary`, which is
``docs/data-dictionary.md``. A column's own comment in the schema comes first; names that mean the same in
every table are explained here once. Do not add: tables.

``python -m warmup_pipeline.store.dictionary > docs/data-dictionary.md`` writes the document anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

_COMMON_COLUMNS: Final[Mapping[str, str]] = {
    "id": "The row's own id.",
    "pool": "The pool it belongs to.",
    "chip_id": "The chip it is about.",
    "cycle_id": "The cycle it belongs to.",
    "conversation_id": "The conversation it belongs to.",
    "activity_id": "The planned activity that brought it about.",
    "partner_activity_id": "The partner's own planned opening, where it had one due.",
    "opener_chip_id": "The chip that opens the conversation.",
    "responder_chip_id": "The chip that is written to first.",
    "sender_chip_id": "The chip that sends.",
    "recipient_chip_id": "The chip that is written to.",
    "approval_id": "The pre-send approval that allowed it; each is spent once.",
    "turn": "Which turn of the conversation, from 1.",
    "at": "The cycle's tick (UTC).",
    "day": "The local calendar day.",
    "state": "Where it stands.",
    "provider": "The gateway: evolution or z-api.",
    "kind": "text, picture or audio.",
    "decision": "approve, defer or block.",
    "phase": "The chip's phase at the time.",
    "hour_limit": "Effective limit per 60 minutes.",
    "day_limit": "Effective limit per local day.",
    "sent_in_hour": "Sends in the last 60 minutes when it was judged.",
    "sent_in_day": "Sends of the local day when it was judged.",
    "score": "The score.",
    "parts": "What the score is made of.",
    "level": "Trust level.",
    "computed_at": "The tick it was computed for (UTC).",
    "computed_day": "The local day it was computed for.",
    "age_reference": "From when the chip's age counts (UTC).",
    "detail": "The gateway's words, redacted.",
    "recovery_attempts": "Recovery attempts since it went down.",
    "last_recovery_at": "When the last recovery was attempted (UTC).",
    "last_recovery_action": "restart or connect.",
    "last_recovery_detail": "What the last recovery attempt brought.",
    "next_recovery_at": "When the next recovery may be attempted (UTC).",
    "sent_day": "Local day of the send time.",
    "accepted_at": "When the gateway accepted it (tick, UTC).",
    "confirmed_at": "When its delivery was confirmed (tick, UTC).",
    "gateway_message_id": "WhatsApp's id of the message.",
    "gateway_queue_id": "Id in the gateway's queue (Z-API).",
    "http_attempts": "HTTP requests made: 1, or 2 after the one retry.",
    "failure_class": "Why it failed: see the glossary.",
    "failure_status": "HTTP status of the refusal.",
    "criterion": "What the next phase asks for.",
    "next_phase": "The phase the criterion is for.",
    "value": "What the chip has.",
    "needed": "What it needs.",
    "comparison": ">= or <=.",
    "holds": "Whether the criterion holds.",
    "from_phase": "The phase it left.",
    "to_phase": "The phase it entered.",
    "warming_day": "Local days since the age reference.",
    "scope_id": "Of what: see scope.",
    "planned": "Activities planned for the day.",
    "executed": "Activities executed.",
    "conversa_par_succeeded": "Conversation turns accepted and not failed since.",
    "conversa_par_failed": "Conversation turns certainly not accepted.",
    "conversa_par_success_rate": "Succeeded / (succeeded + failed), 0-1.",
    "sent": "Messages accepted.",
    "received": "Messages received from other chips.",
    "delivered": "Messages confirmed as delivered.",
    "failed": "Messages that failed.",
    "unknown": "Messages of which nobody knows whether they went.",
    "conversations_opened": "Conversations opened (by the opener).",
    "transitions": "Phase changes.",
    "cycles_run": "Cycles that ran to their end.",
    "cycles_missed": "Five-minute slots without one.",
    "worst_cycle_s": "Longest cycle, in seconds.",
    "sent_total": "Messages sent in all, the opening balance included.",
    "received_total": "Messages received in all, the opening balance included.",
    "sent_today": "Messages sent on the local day.",
    "received_today": "Messages received on the local day.",
    "response_rate": "Received / sent, at most 1.",
    "delivery_rate": "Succeeded / attempted; empty before the first attempt.",
    "confirmed_share": "Confirmed / confirmable; empty where nothing can be confirmed.",
    "attempted": "Sends whose outcome is known and was in the sender's hand.",
    "succeeded": "Of those, accepted and not failed since.",
    "bidirectional": "Two-way conversations.",
    "media_kinds": "Kinds of media sent (0-2).",
    "errors_24h": "Errors of the chip's own channel in 24 hours.",
    "restriction_failures": "Sends refused as restricted.",
    "pictures": "Pictures sent that count.",
    "audios": "Audio notes sent that count.",
    "days_without_error": "Days since the last error.",
    "last_error_at": "Last error of its own channel (UTC).",
    "last_sent_at": "Last accepted send (UTC).",
    "author": "Who did it.",
    "trust_level": "Trust level at the time.",
    "policy": "Name and fingerprint of the policy.",
    "source": "warmup (this system) or import (the old one's history).",
    "planned_at": "When it was planned (tick, UTC).",
    "deferrals": "How many times it was put off.",
    "last_deferral": "Reason code of the last time.",
    "partners_today": "Distinct partners on the local day.",
}


_OF_ONE_TABLE: Final[Mapping[str, str]] = {
    "trust_scores.computed_at": "A tick for which it came out like this (UTC).",
    "warming_day.computed_at": "A tick for which it came out like this (UTC).",
    "phase_eligibility.computed_at": "A tick for which it came out like this (UTC).",
    "pools.name": "The pool's name.",
    "row_counts.table_name": "The table.",
    "pools.clock": "system (real time) or stepped (a demo: five minutes per cycle).",
    "pools.created_at": "When it came to be.",
    "chips.phase": "The chip's phase.",
    "chips.label": "What people call it.",
    "chips.role": "listener never takes part in warm-up; any other role does.",
    "chips.status": "provisioned, pending, warming, ready, active, degraded, paused, banned or cancelled.",
    "chips.status_since": "Since when the status is what it is.",
    "chips.phase_started_at": "When it entered its phase.",
    "chips.warming_started_at": "When its warm-up began; never reset.",
    "chips.cooldown_until": "Until when it rests after a failure.",
    "chips.cooldown_reason": "What it rests for.",
    "chips.last_error_code": "Class of its last error.",
    "chips.created_at": "When it was added.",
    "opening_balances.sent_on_day": "Sent on the import's day: counts against that day's limit.",
    "opening_balances.received_on_day": "Received on the import's day.",
    "activity_types.name": "CONVERSA_PAR, ENVIAR_MIDIA, MARCAR_LIDO, or a word of old data.",
    "activity_types.opens_conversation": "It opens a conversation (else it is an action of one chip).",
    "circuits.state": "closed, open or half_open.",
    "circuits.consecutive_failures": "Failures of its own channel in a row.",
    "circuits.opened_at": "When it opened; one probe is let through 300 s later.",
    "cycles.duration_s": "How long it took, in seconds.",
    "cycles.counts": "What each step counted.",
    "day_plans.revision": "0 for the day's plan; a phase change adds one.",
    "activities.final_at": "When it reached its final state (UTC).",
    "activities.type": "The activity type.",
    "conversations.dialogue_id": "Which dialogue of the library it follows.",
    "conversations.opens_with": "What its first turn is: text, picture or audio.",
    "conversations.turns_accepted": "How many turns the gateways accepted so far.",
    "conversations.created_at": "When the pair was made (tick, UTC).",
    "conversations.last_accepted_at": "Acceptance of its last turn so far (UTC).",
    "conversations.closed_at": "When it was closed (UTC).",
    "imported_interactions.type": "msg_enviada or status_criado.",
    "imported_interactions.error_code": "The old system's error code.",
    "deferrals.reason": "Reason code of the deferral.",
    "chip_days.status": "The chip's status at the day's end.",
    "chip_days.trust_score": "Trust score 0-100; empty before it was first scored.",
    "chip_days.braked": "A bad signal brakes its limits and holds its phase.",
    "kill_switches.scope": "all, pool or chip.",
    "kill_switches.reason": "Why it was set.",
    "kill_switches.set_at": "When it was set (the pool clock's time, UTC).",
    "kill_switches.expires_at": "When it ends by itself; empty for never.",
    "kill_switches.lifted_at": "When it was lifted; empty while it is on.",
    "kill_switches.lifted_by": "Who lifted it.",
    "webhook_inbox.peer_chip_id": "The chip at the other end, where it is one of the pool's.",
    "privacy_ids.learned_at": "When it was learned (UTC).",
    "operator_actions.action": "The job or command: pause_chips, set_kill_switch, ...",
    "operator_actions.target": "The chip's id, the pool's name, or * for everything.",
    "operator_actions.reason": "Why, in the operator's words.",
    "operator_actions.details": "What changed.",
}
"""What a column means in one table only."""


def column_description(column: sa.Column[Any]) -> str:
    """Return what a column means; empty where nobody has said so."""
    own = f"{column.table.name}.{column.name}"
    return column.comment or _OF_ONE_TABLE.get(own) or _COMMON_COLUMNS.get(column.name, "")


_PRODUCT: Final = "daily_summary"

_HEAD: Final = """# Data dictionary

Every table of the pool's database, generated from the schema: do not edit by hand. Times are UTC; columns
called `day` or ending in `_day` are local calendar days (`America/Sao_Paulo` unless the policy says
otherwise). Full phone numbers stand in `chips.phone` and nowhere else. Any SQL client may read while cycles
run: on SQLite open the file read-only (`file:.dagster/warmup.db?mode=ro`), readers and the writer do not
wait for each other.

`daily_summary` is meant for other tools: one row per local day and scope (`all`, each pool, each chip that
did something). Rates are fractions 0-1. A day is `final` once the next day's first cycle has run; late
confirmations can still move the day before. `daily_summary_export` writes the same rows as Parquet and CSV.
"""


def data_dictionary(metadata: sa.MetaData) -> str:
    """Return the data dictionary of a schema as Markdown: the product first, then by name."""
    tables = sorted(metadata.tables.values(), key=lambda table: (table.name != _PRODUCT, table.name))
    return "\n".join([_HEAD, *(_table(table) for table in tables)])


def _table(table: sa.Table) -> str:
    lines = [
        f"## {table.name}",
        "",
        table.comment or "",
        "",
        "| column | type | may be empty | meaning |",
        "|---|---|---|---|",
    ]
    for column in table.columns:
        key = " (key)" if column.primary_key else ""
        empty = "yes" if column.nullable else "no"
        lines.append(
            f"| `{column.name}`{key} | {_kind(column)} | {empty} | {column_description(column).replace('|', '/')} |"
        )
    return "\n".join([*lines, ""])


def _kind(column: sa.Column[Any]) -> str:
    name = type(column.type).__name__
    return {
        "String": "text",
        "Text": "text",
        "Integer": "integer",
        "Float": "number",
        "Boolean": "true/false",
        "Date": "date",
        "UtcDateTime": "time (UTC)",
        "JSON": "JSON",
    }.get(name, name.lower())


if __name__ == "__main__":
    from warmup_pipeline.store.schema import metadata as every_table

    print(data_dictionary(every_table), end="")  # noqa: T201 (this is a command)
