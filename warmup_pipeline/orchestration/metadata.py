"""What assets show of themselves in the UI: columns, tables, row counts, a step's numbers.

Holds: :func:`definition_metadata` and :func:`materialization_metadata`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import dagster as dg
import sqlalchemy as sa

from warmup_pipeline.store import rows
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.schema import metadata as tables
from warmup_pipeline.warmup.world import StepReport, World

LOG_TABLES: Final = frozenset({"messages", "pairings", "presend_validations", "phase_transitions"})
"""Assets whose materialization means that this cycle appended."""

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
    "days_without_error": "Days since the last error.",
    "last_error_at": "Last error of its own channel (UTC).",
    "last_sent_at": "Last accepted send (UTC).",
    "partners_today": "Distinct partners on the local day.",
}


def column_description(column: sa.Column[Any]) -> str:
    """Return what a column means."""
    return column.comment or _COMMON_COLUMNS.get(column.name, "")


def definition_metadata(table_name: str) -> dict[str, Any]:
    """Return the metadata of an asset's definition: its table and columns."""
    table = tables.tables[table_name]
    columns = [
        dg.TableColumn(
            name=column.name,
            type=str(column.type).lower(),
            description=column_description(column),
            constraints=dg.TableColumnConstraints(
                nullable=bool(column.nullable), unique=bool(column.primary_key)
            ),
        )
        for column in table.columns
    ]
    return {
        "dagster/column_schema": dg.TableSchema(columns=columns),
        "dagster/table_name": table_name,
    }


def plain_metadata(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Return numbers as metadata: what has no value is left out, what is nested becomes JSON."""
    shown: dict[str, Any] = {}
    for name, value in numbers.items():
        if value is None:
            continue
        shown[name] = dg.MetadataValue.json(value) if isinstance(value, dict | list | tuple) else value
    return shown


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; nothing in a cell can end the cell, the row or the table."""
    lines = [header, ["---"] * len(header), *([_cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def materialization_metadata(
    table_name: str, world: World, cycle: Cycle | None, report: StepReport
) -> dict[str, Any]:
    """Return what a materialization shows: row counts, the step's numbers, its first words."""
    shown = plain_metadata(report.numbers)
    table = tables.tables[table_name]
    with world.store.read() as tx:
        shown["dagster/row_count"] = rows.count(tx, table)
        if cycle is not None and table_name in LOG_TABLES:
            shown["rows_this_cycle"] = rows.count(tx, table, cycle_id=cycle.id)
    if cycle is not None:
        local = cycle.tick.astimezone(world.policy.zone)
        shown |= {"tick": f"{local:%Y-%m-%d %H:%M}", "pool": cycle.pool, "mode": cycle.mode}
    if report.notes:
        shown["notes"] = dg.MetadataValue.md("\n".join(f"- {note}" for note in report.notes))
    return shown
