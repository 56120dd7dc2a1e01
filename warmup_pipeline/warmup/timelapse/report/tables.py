"""The tables of a report: which columns each has, and what they mean.

Holds: :data:`TABLES`. They are what is exported, and what stands under the charts. Add here: a column
(and fill it in ``data``). Do not add: rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class TableShape:
    """One table.

    Attributes:
        meaning: what one row is.
        columns: name of each column and what it means, in order.
    """

    meaning: str
    columns: Mapping[str, str]


_DAY: Final = {"day": "local calendar day", "day_number": "days since the report's first, 0 for that one"}
_CHIP: Final = {"chip_id": "the chip", "chip": "the end digits of its phone"}
_COUNT: Final = {"count": "how often"}

TABLES: Final[Mapping[str, TableShape]] = MappingProxyType(
    {
        "chips": TableShape(
            "a chip as it stands at the end",
            _CHIP
            | {
                "provider": "its gateway",
                "role": "its role; a listener takes no part",
                "status": "chip status",
                "status_reason": "why the status is what it is, where it is not ordinary",
                "phase": "warm-up phase",
                "warming_day": "local days since its age reference",
                "warming_started_at": "when it began to warm up, UTC",
                "trust": "trust score, 0-100",
                "trust_level": "the score's level",
                "connection": "what its gateway last said of its session",
                "sent_total": "messages sent so far, an import's included",
                "received_total": "messages received so far, an import's included",
                "response_rate": "received of sent, 0-1",
                "delivery_rate": "succeeded of attempted, 0-1",
                "confirmed_share": "confirmed of confirmable messages, 0-1",
                "bidirectional": "two-way conversations so far",
                "errors_24h": "its errors in the last 24 hours",
                "sent": "messages accepted within the report's days",
                "received": "accepted messages for it within the report's days",
                "ready_day": "local day on which it entered operacao, where it did within these days",
                "ready_warming_day": "its warming day then",
            },
        ),
        "chip_days": TableShape(
            "a chip on a local day",
            _DAY
            | _CHIP
            | {
                "status": "chip status at the day's end",
                "phase": "phase at the day's end",
                "warming_day": "warming day at the day's end",
                "trust": "trust score at the day's end, 0-100",
                "trust_level": "the score's level",
                "braked": "a bad signal braked it at the day's end",
                "counted": "sends that count against its limits: accepted, under way, unknown, imported",
                "day_limit": "highest effective limit of sends that it had that day",
                "most_in_hour": "most sends within any 60 minutes that end on that day",
                "hour_limit": "highest effective limit of sends within 60 minutes that it had that day",
                "sent": "messages accepted",
                "received": "accepted messages for it",
                "confirmed": "of those sent: seen as delivered, or by the receiving chip's gateway",
                "failed": "sends certainly not accepted",
                "unknown": "sends whose outcome is not known",
                "deferrals": "times something due was put off",
                "blocks": "times validation blocked something",
            },
        ),
        "transitions": TableShape(
            "a chip's step from one phase to the next",
            _DAY
            | _CHIP
            | {
                "at": "when, UTC",
                "from_phase": "the phase it left",
                "to_phase": "the phase it entered",
                "warming_day": "its warming day then",
            },
        ),
        "criteria": TableShape(
            "a criterion for a chip's next phase, as it stands at the end",
            _CHIP
            | {
                "next_phase": "the phase it is for",
                "criterion": "its name",
                "value": "what the chip has",
                "needed": "what it needs",
                "comparison": "how the two must compare",
                "holds": "whether it holds",
                "earliest_day": "earliest local day it can hold at the chip's pace",
            },
        ),
        "pairs": TableShape(
            "two chips, by who opened",
            {
                "opener_chip_id": "the chip that opened",
                "opener": "its end digits",
                "responder_chip_id": "the other chip",
                "responder": "its end digits",
                "opened": "conversations opened",
                "answered": "of those, answered at least once",
                "turns": "turns accepted in them, both sides'",
            },
        ),
        "refusals": TableShape(
            "how often a chip's sends were put off or blocked for one reason on a day",
            _DAY
            | _CHIP
            | {
                "decision": "defer (put off) or block",
                "reason": "reason code",
                "meaning": "the code in words",
            }
            | _COUNT,
        ),
        "failures": TableShape(
            "sends of a chip that failed alike",
            _CHIP
            | {
                "failure_class": "class of failure",
                "meaning": "the class in words",
                "failure_status": "HTTP status of the answer, where there was one",
            }
            | _COUNT,
        ),
        "signals": TableShape(
            "a bad signal, which brakes a chip and holds its phase",
            _DAY | _CHIP | {"at": "when, UTC", "kind": "what it was", "meaning": "the same in words"},
        ),
        "pool_days": TableShape(
            "the pool on a local day",
            _DAY
            | {
                "final": "the day is over",
                "planned": "activities planned",
                "executed": "activities executed",
                "conversa_par_succeeded": "CONVERSA_PAR attempts that succeeded",
                "conversa_par_failed": "those that certainly failed",
                "conversa_par_success_rate": "succeeded of both, 0-1",
                "sent": "messages accepted",
                "delivered": "messages confirmed",
                "failed": "sends certainly not accepted",
                "unknown": "sends whose outcome is not known",
                "day_limit": "sum of the effective day limits of chips that take part",
                "opened": "conversations opened",
                "answered": "of those, answered at least once",
                "whole": "of those, held to the last turn",
                "turns": "turns accepted in them",
                "transitions": "phase changes",
                "health": "health at the day's end",
                "cycles_run": "cycles that finished",
                "cycles_missed": "five-minute slots without one",
            },
        ),
        "conversation_ends": TableShape(
            "why conversations ended",
            {"reason": "reason code", "meaning": "the code in words"} | _COUNT,
        ),
        "activity_ends": TableShape(
            "how planned activities ended",
            {"type": "activity type", "state": "activity state", "reason": "reason code of a final state"}
            | _COUNT,
        ),
    }
)
"""Every table by its name."""
