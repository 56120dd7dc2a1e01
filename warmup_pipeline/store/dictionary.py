"""What every column means, in one line.

Holds: :func:`column_description`, which the UI's column lists and the data dictionary show. A column's own
comment in the schema comes first; names that mean the same in every table are explained here once. Do
not add: tables.
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
    "days_without_error": "Days since the last error.",
    "last_error_at": "Last error of its own channel (UTC).",
    "last_sent_at": "Last accepted send (UTC).",
    "partners_today": "Distinct partners on the local day.",
}


def column_description(column: sa.Column[Any]) -> str:
    """Return what a column means; empty where nobody has said so."""
    return column.comment or _COMMON_COLUMNS.get(column.name, "")
