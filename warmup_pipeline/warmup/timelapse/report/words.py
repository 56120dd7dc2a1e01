"""What codes mean, in words that stand in a report.

Holds: one mapping per kind of code. Add here: the words of a new code (one without words stands for
itself). Do not add: rules; their source is domain.md and the modules that decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from warmup_pipeline.domain.values import FailureClass

REASONS: Final[Mapping[str, str]] = {
    "kill_switch": "sending was switched off",
    "chip_not_participating": "one side does not take part in warm-up",
    "outside_window": "outside the sending window",
    "sender_disconnected": "the sender's connection was not known to be open",
    "recipient_disconnected": "the other side's connection was not known to be open",
    "recent_gateway_error": "a connection error of this Z-API chip in the last 15 minutes",
    "circuit_open": "the sender's breaker was open after three failures in a row",
    "cooldown": "the sender rested after a failure",
    "gateway_down": "the gateway refused our credentials or could not be reached",
    "trust_critical": "the sender's trust was critical",
    "hour_limit": "the sender had used what it may send in an hour",
    "day_limit": "the sender had used what it may send in a day",
    "min_gap": "the sender's last send was a moment ago",
    "no_partner": "no other chip could talk with it then",
    "run_interrupted": "the run was interrupted; it went into the next cycle",
    "cycle_out_of_time": "the cycle's time was up; it went into the next one",
}
"""Why a send was deferred or blocked."""

FAILURES: Final[Mapping[str, str]] = {
    FailureClass.UNKNOWN: "no answer that can be read: perhaps sent, never sent again",
    FailureClass.RECIPIENT: "the recipient is not on WhatsApp; no fault of the sender",
    FailureClass.DISCONNECTED: "the sender's session was down",
    FailureClass.RATE_LIMITED: "the gateway asked for a slower pace",
    FailureClass.GATEWAY: "the gateway itself was unreachable or refused our credentials",
    FailureClass.RESTRICTION: "WhatsApp restricted the sender",
    FailureClass.TRANSIENT: "an error of the server or the connection that may pass",
    FailureClass.PERMANENT: "the gateway refused this send for good",
    FailureClass.BUG: "an error of this program",
}
"""Why a send did not succeed."""

CONVERSATION_ENDS: Final[Mapping[str, str]] = {
    **REASONS,
    "": "still going on",
    "completed": "every turn of its dialogue was accepted",
    "turn_failed": "a turn certainly failed",
    "lifetime_over": "it was a day old",
    "not_sent": "its opening was never sent",
    "our_own_bug": "an error of this program",
}
"""Why a conversation was closed."""

CRITERIA: Final[Mapping[str, str]] = {
    "warming_day": "warming day",
    "hours_since_start": "hours since it started",
    "sent": "messages sent",
    "received": "messages received",
    "response_rate": "response rate",
    "trust": "trust",
    "bidirectional": "two-way conversations",
    "errors_24h": "errors in 24 hours",
}
"""What a chip needs to enter its next phase."""

SIGNALS: Final[Mapping[str, str]] = {
    "restriction": "restricted by WhatsApp",
    "circuit_opened": "three failures in a row opened its breaker",
    "unconfirmed_deliveries": "too few of its deliveries were confirmed",
}
"""Why a chip was braked and its phase held."""

STATUS_REASONS: Final[Mapping[str, str]] = {
    "trust_critical": "its trust was critical",
    "restriction": "it was restricted",
    "errors_24h": "ten or more errors in 24 hours",
}
"""Why a chip is degraded."""
