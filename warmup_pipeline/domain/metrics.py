"""Chip metrics: what the message log and the opening balance say of one chip.

Holds: the sums a store query brings, the balance an import leaves, and the metrics made of both.
Add here: another metric. Do not add: queries (store), what the metrics mean for trust or phases.

Source: domain.md, "Metrics, trust, phases" and "Importing" (opening balance). Nothing here is a
counter kept by hand: every figure comes from the log each time (root cause 6).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from warmup_pipeline.domain.values import MessageKind

_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class MessageCounts:
    """Sums over one chip's message log.

    Attributes:
        sent_total: sends that count (accepted, not failed since, confirmed where that is required).
        received_total: the same of the other chips' sends to this one.
        sent_today: of ``sent_total``, those of the local day.
        received_today: of ``received_total``, those of the local day.
        attempted: sends whose call began, without unknown ones and those of the recipient's fault.
        succeeded: of ``attempted``, accepted and not failed since.
        unknown: sends whose outcome is not known.
        confirmable: sends whose delivery the gateway can confirm.
        confirmed: of ``confirmable``, those confirmed.
        bidirectional: conversations in which each side has a turn that counts.
        media_kinds: kinds of media really sent.
        errors_24h: failures of the sender's own channel in the last 24 hours.
        restriction_failures: of ``attempted``, those that failed as a restriction.
        last_error_at: the last failure of the sender's own channel.
        last_sent_at: the last send that counts against limits.
    """

    sent_total: int = 0
    received_total: int = 0
    sent_today: int = 0
    received_today: int = 0
    attempted: int = 0
    succeeded: int = 0
    unknown: int = 0
    confirmable: int = 0
    confirmed: int = 0
    bidirectional: int = 0
    media_kinds: frozenset[MessageKind] = field(default_factory=frozenset)
    errors_24h: int = 0
    restriction_failures: int = 0
    last_error_at: datetime | None = None
    last_sent_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OpeningBalance:
    """What an import brought along, to which the message log adds.

    Attributes:
        sent: sent in all before the import, ``sent_on_day`` included.
        received: received in all before the import, ``received_on_day`` included.
        bidirectional: bidirectional conversations before the import.
        day: the import's local day, ``None`` for a chip that was not imported.
        sent_on_day: of ``sent``, those of ``day``; they count against that day's limit.
        received_on_day: of ``received``, those of ``day``.
        last_error_at: the last error the old system knew of.
    """

    sent: int = 0
    received: int = 0
    bidirectional: int = 0
    day: date | None = None
    sent_on_day: int = 0
    received_on_day: int = 0
    last_error_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ChipMetrics:
    """The metrics of one chip at one instant; rates are fractions 0-1.

    Attributes:
        sent_total: sent in all, opening balance included.
        received_total: received in all, opening balance included.
        sent_today: sent on the local day.
        received_today: received on the local day.
        response_rate: received / sent in all, at most 1, and 0 while nothing was sent.
        delivery_rate: succeeded / attempted; ``None`` before the first attempt.
        confirmed_share: confirmed / confirmable; ``None`` while nothing could be confirmed.
        attempted: see :class:`MessageCounts`, as for the other counts here.
        succeeded: attempts that succeeded.
        unknown: sends whose outcome is not known.
        bidirectional: bidirectional conversations, opening balance included.
        media_kinds: kinds of media really sent.
        errors_24h: errors in the last 24 hours; an import's errors are never among them.
        restriction_failures: attempts that failed as a restriction.
        days_without_error: days since the last error; before any, since the age reference.
        last_error_at: the later of the log's and the import's last error.
        last_sent_at: the last send in the log.
        partners_today: distinct chips it opened, or was opened, a conversation with on the local day.
    """

    sent_total: int
    received_total: int
    sent_today: int
    received_today: int
    response_rate: float
    delivery_rate: float | None
    confirmed_share: float | None
    attempted: int
    succeeded: int
    unknown: int
    bidirectional: int
    media_kinds: frozenset[MessageKind]
    errors_24h: int
    restriction_failures: int
    days_without_error: float
    last_error_at: datetime | None
    last_sent_at: datetime | None
    partners_today: int


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def days_without_error(last_error_at: datetime | None, age_reference: datetime, at: datetime) -> float:
    """Return the days since the last error; before any, since the age reference."""
    since = age_reference if last_error_at is None else last_error_at
    return max(0.0, (at - since) / _ONE_DAY)


def chip_metrics(
    counts: MessageCounts,
    balance: OpeningBalance,
    *,
    at: datetime,
    today: date,
    age_reference: datetime,
    partners_today: int = 0,
) -> ChipMetrics:
    """Return the metrics of one chip.

    Args:
        counts: sums over its message log.
        balance: what an import brought; ``OpeningBalance()`` without one.
        at: the instant of the metrics.
        today: the local day of ``at``; the balance's day sums count only on their own day.
        age_reference: since when the chip ages (``phases.age_reference``).
        partners_today: distinct partners of that day.
    """
    sent = counts.sent_total + balance.sent
    received = counts.received_total + balance.received
    same_day = balance.day == today
    errors = [e for e in (counts.last_error_at, balance.last_error_at) if e is not None]
    last_error_at = max(errors, default=None)
    return ChipMetrics(
        sent_total=sent,
        received_total=received,
        sent_today=counts.sent_today + (balance.sent_on_day if same_day else 0),
        received_today=counts.received_today + (balance.received_on_day if same_day else 0),
        response_rate=min(1.0, received / sent) if sent else 0.0,
        delivery_rate=_share(counts.succeeded, counts.attempted),
        confirmed_share=_share(counts.confirmed, counts.confirmable),
        attempted=counts.attempted,
        succeeded=counts.succeeded,
        unknown=counts.unknown,
        bidirectional=counts.bidirectional + balance.bidirectional,
        media_kinds=counts.media_kinds,
        errors_24h=counts.errors_24h,
        restriction_failures=counts.restriction_failures,
        days_without_error=days_without_error(last_error_at, age_reference, at),
        last_error_at=last_error_at,
        last_sent_at=counts.last_sent_at,
        partners_today=partners_today,
    )
