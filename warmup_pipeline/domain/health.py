"""Health: what a check's verdict is, and what all verdicts say together.

Holds: :class:`Verdict`, what the verdicts of several pools come to, the status made of verdicts, and the
judgement of CONVERSA_PAR success. Add here: a judgement that needs numbers only. Do not add: queries,
Dagster's check results, texts of remedies (they stand with each check).

Source: domain.md, "Health".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import Final

from warmup_pipeline.domain.values import HealthStatus

STALE_AFTER: Final = timedelta(minutes=10)
"""A verdict older than this is not a verdict."""

LEAST_ATTEMPTS: Final = 5
"""Attempts today before today alone is judged."""

PASSES_AT: Final = 80
WARNS_AT: Final = 50
TARGET: Final = 90
"""Success rates of CONVERSA_PAR, in percent: passes at, warns at, and what is aimed for (above)."""

CONVERSA_PAR_SUCCESS_RATE: Final = "conversa_par_success_rate"

MESSAGES_CONFIRMED: Final = "messages_confirmed"
LEAST_CONFIRMABLE: Final = 20
CONFIRMED_PASSES_AT: Final = 95
CONFIRMED_WARNS_AT: Final = 80
"""Confirmed deliveries: judged from so many attempts on; in percent, passes at and warns at."""


class Severity(StrEnum):
    """How bad it is when a check does not pass."""

    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check says.

    Attributes:
        check: the check's name.
        passed: whether all is well.
        severity: what it means where it is not.
        summary: one line an operator understands; no secret, no full phone number.
        numbers: the numbers that were judged, by name.
        concerned: the pools and chips it is about, as they may be shown.
    """

    check: str
    passed: bool
    severity: Severity
    summary: str
    numbers: Mapping[str, float | int | str | None] = field(default_factory=dict)
    concerned: tuple[str, ...] = ()


def health_of(verdicts: Iterable[Verdict]) -> HealthStatus:
    """Return the pool's health: critical if anything fails at ERROR, degraded if anything warns.

    Without a single verdict nothing is known, and silence is never healthy: that is critical.
    """
    known = list(verdicts)
    bad = {verdict.severity for verdict in known if not verdict.passed}
    if not known or Severity.ERROR in bad:
        return HealthStatus.CRITICAL
    return HealthStatus.DEGRADED if bad else HealthStatus.HEALTHY


_RANK: Final = {Severity.WARN: 0, Severity.ERROR: 1}

TOLD: Final = 5
"""How many other pools that are not well a verdict tells of; it counts them all."""


def together(pool: str, own: Verdict, others: Mapping[str, Verdict]) -> Verdict:
    """Return what a check says of all pools, of which one has just been judged.

    Nothing passes that does not pass in every pool, and the worst severity counts.

    Args:
        pool: the pool just judged; its numbers are kept.
        own: what is said of it.
        others: what was last said of each other pool.
    """
    if not others:
        return own
    bad = {name: one for name, one in sorted(others.items()) if not one.passed}
    well = len(others) - len(bad)
    # What is not well is said first.
    said = sorted([(pool, own), *list(bad.items())[:TOLD]], key=lambda named: named[1].passed)
    words = [f"{name}: {one.summary}" for name, one in said]
    if len(bad) > TOLD:
        words.append(f"{len(bad) - TOLD} more pools are not well")
    if well:
        words.append(f"{well} other pools are well" if well > 1 else "1 other pool is well")
    not_well = [one for one in (own, *bad.values()) if not one.passed]
    return replace(
        own,
        passed=not not_well,
        severity=max((one.severity for one in not_well), key=_RANK.__getitem__, default=own.severity),
        summary="; ".join(words),
        numbers={
            **own.numbers,
            "pool": pool,
            "pools_judged": 1 + len(others),
            "pools_not_well": len(not_well),
        },
        concerned=(*own.concerned, *(name for one in list(bad.values())[:TOLD] for name in one.concerned)),
    )


def conversa_par_success(
    today: tuple[int, int], last_24h: tuple[int, int], *, sends_due_today: bool
) -> Verdict:
    """Judge the success rate of CONVERSA_PAR attempts (openings and reply turns).

    Args:
        today: (succeeded, failed) of the local day; unknown ones are in neither.
        last_24h: the same of the last 24 hours, an import's history included.
        sends_due_today: whether anything was due to be sent today.

    Returns:
        Today is judged from five attempts on, else the last 24 hours: 80 % passes, 50 % warns,
        below fails. No attempt today although sends were due warns, or worse if the last 24 hours
        fail. No attempt at all with nothing due passes.
    """
    attempts_today = sum(today)
    judged_today = attempts_today >= LEAST_ATTEMPTS
    succeeded, failed = today if judged_today else last_24h
    attempts = succeeded + failed
    silent = attempts_today == 0 and sends_due_today
    rate = succeeded / attempts if attempts else None
    period = "today" if judged_today else "in the last 24 hours"
    numbers: dict[str, float | int | str | None] = {
        "success_rate": rate,
        "succeeded": succeeded,
        "failed": failed,
        "attempts_today": attempts_today,
        "period": "today" if judged_today else "last_24h",
        "target": TARGET / 100,
    }
    if rate is None:
        summary = "no CONVERSA_PAR attempt in the last 24 hours"
    else:
        summary = f"{succeeded} of {attempts} CONVERSA_PAR attempts succeeded {period} ({rate:.1%})"
    if silent:
        summary += "; none was made today although sends were due"
    # Whole numbers, so that exactly 80 % passes whatever the division rounds to.
    passes = succeeded * 100 >= PASSES_AT * attempts
    fails = succeeded * 100 < WARNS_AT * attempts
    return Verdict(
        check=CONVERSA_PAR_SUCCESS_RATE,
        passed=passes and not silent,
        severity=Severity.ERROR if fails else Severity.WARN,
        summary=summary,
        numbers=numbers,
    )


def messages_confirmed(confirmed: int, attempts: int) -> Verdict:
    """Judge how many of the messages that could be confirmed were confirmed.

    Args:
        confirmed: those whose delivery was seen.
        attempts: accepted messages that a gateway can confirm and that had an hour for it.

    Returns:
        No judgement, which passes, under 20 attempts; 95 % passes, 80 % warns, below fails.
    """
    share = confirmed / attempts if attempts else None
    judged = attempts >= LEAST_CONFIRMABLE
    if share is None:
        summary = "no message that could be confirmed in the last 24 hours"
    else:
        summary = f"{confirmed} of {attempts} messages that could be confirmed were ({share:.1%})"
        summary += "" if judged else f"; not judged under {LEAST_CONFIRMABLE}"
    return Verdict(
        check=MESSAGES_CONFIRMED,
        passed=not judged or confirmed * 100 >= CONFIRMED_PASSES_AT * attempts,
        severity=Severity.ERROR if confirmed * 100 < CONFIRMED_WARNS_AT * attempts else Severity.WARN,
        summary=summary,
        numbers={
            "confirmed": confirmed,
            "attempts": attempts,
            "confirmed_share": share,
            "judged": int(judged),
        },
    )
