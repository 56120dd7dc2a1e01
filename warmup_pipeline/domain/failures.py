"""What a gateway's refusal means: its class, whether to retry, how long to rest.

Holds: :class:`Evidence` (what was seen of a failed call, free of any gateway's wording),
:func:`classify`, :func:`may_retry`, :func:`cooldown`. Add here: a failure class and its rule. Do
not add: parsing of a gateway's bodies (the gateway's client makes the evidence).

Source: domain.md, "Failures"; it wins over gateway-contract.md 3.2 where they differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from warmup_pipeline.domain.values import FailureClass


class Stage(StrEnum):
    """How far a call got before it failed: what the gateway can have done follows from it."""

    CONNECT = "connect"
    """No connection was made (refused, no route, unknown host, connect timeout)."""
    BEFORE_WRITE = "before_write"
    """The connection broke before the request was written."""
    AFTER_WRITE = "after_write"
    """The request was written; no answer that can be read came back. It may have been acted on."""
    ANSWERED = "answered"
    """The gateway answered."""


class Scope(StrEnum):
    """Whose trouble a gateway-class failure is."""

    SERVER = "server"
    INSTANCE = "instance"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen of one failed call.

    Attributes:
        stage: how far the call got.
        status: HTTP status of the answer, ``None`` without one.
        text: the gateway's own words, flattened to one line (may hold phones: redact before showing).
        recipient_missing: the gateway said that the recipient is not on WhatsApp.
        disconnected: the gateway said that the sender's session is down.
        bad_credentials: the gateway refused our key or token, or does not know the instance's token.
        scope: with ``bad_credentials``: whether the key concerned is the server's or one instance's.
        retry_after: seconds the gateway asked to wait, ``None`` if it did not.
    """

    stage: Stage
    status: int | None = None
    text: str = ""
    recipient_missing: bool = False
    disconnected: bool = False
    bad_credentials: bool = False
    scope: Scope = Scope.SERVER
    retry_after: float | None = None


_RESTRICTION: Final = re.compile(
    r"(?<![a-z])(?:blocked|banned|restricted|restriction|spam|shadow[\s_-]?ban(?:ned)?|reject(?:ed|s)?)(?![a-z])",
    re.IGNORECASE,
)
"""Whole words; also in codes, where ``_`` or a digit is their edge (``account_banned``)."""
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
"""Where a code in camel case has an edge (``accountRestricted``)."""
_RATE: Final = re.compile(r"rate[\s_-]?overlimit", re.IGNORECASE)

SENDER_ERRORS: Final = frozenset(
    {
        FailureClass.DISCONNECTED,
        FailureClass.RATE_LIMITED,
        FailureClass.RESTRICTION,
        FailureClass.TRANSIENT,
        FailureClass.PERMANENT,
    }
)
"""Classes that are failures of the sender's own channel: they count for its breaker and its errors."""


def classify(evidence: Evidence) -> FailureClass:
    """Return the class of a failed call; the first rule that matches decides (domain.md, "Failures")."""
    if evidence.stage is Stage.AFTER_WRITE:
        return FailureClass.UNKNOWN
    if evidence.recipient_missing:
        return FailureClass.RECIPIENT
    if evidence.disconnected:
        return FailureClass.DISCONNECTED
    if evidence.status == 429 or _RATE.search(evidence.text):
        return FailureClass.RATE_LIMITED
    if evidence.status == 401 or evidence.bad_credentials or evidence.stage is Stage.CONNECT:
        return FailureClass.GATEWAY
    if _RESTRICTION.search(_CAMEL.sub(" ", evidence.text)):
        return FailureClass.RESTRICTION
    if evidence.status in (400, 403, 404):
        return FailureClass.PERMANENT
    if evidence.status is None or evidence.status >= 500:
        return FailureClass.TRANSIENT
    return FailureClass.PERMANENT


def may_retry(evidence: Evidence) -> bool:
    """Whether the gateway certainly did not act, so that one retry cannot double a message."""
    if evidence.stage in (Stage.CONNECT, Stage.BEFORE_WRITE):
        return True
    return evidence.stage is Stage.ANSWERED and evidence.status in (429, 503)


_RATE_REST: Final = timedelta(minutes=5)
_REST_BY_STATUS: Final = {400: timedelta(minutes=15), 403: timedelta(minutes=60), 503: timedelta(minutes=5)}
_RESTRICTION_REST: Final = timedelta(minutes=30)
_NO_REST: Final = timedelta(0)
_NO_COOLDOWN: Final = frozenset(
    {
        FailureClass.UNKNOWN,
        FailureClass.RECIPIENT,
        FailureClass.DISCONNECTED,
        FailureClass.GATEWAY,
        FailureClass.BUG,
    }
)


def cooldown(failure: FailureClass, evidence: Evidence) -> timedelta:
    """Return how long the sender rests after this failure (zero for none)."""
    if failure in _NO_COOLDOWN:
        return _NO_REST
    if failure is FailureClass.RATE_LIMITED:
        return max(_RATE_REST, timedelta(seconds=evidence.retry_after or 0))
    by_status = _REST_BY_STATUS.get(evidence.status or 0, _NO_REST)
    if failure is FailureClass.RESTRICTION:
        return max(_RESTRICTION_REST, by_status)
    return by_status
