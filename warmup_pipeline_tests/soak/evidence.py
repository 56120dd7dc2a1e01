"""What must be true after a soak, judged from the gateway's own log, where the truth is.

Holds: :func:`judge`, :func:`told`. Do not add: how the soak came about.

Source: domain.md, "Phase limits", "Failures" (at most once), "The cycle" (window, one send a cycle).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from warmup_pipeline.domain.conversation import CONVERSATION_LIFETIME
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.policy import Policy
from warmup_pipeline.domain.values import ActivityState, ConversationState, MessageState
from warmup_pipeline.store.engine import Store
from warmup_pipeline.store.schema import activities, conversations, messages, presend_validations


@dataclass
class Evidence:
    """What was found. Every list is empty when all is well; each entry names the rows it is about."""

    accepted: int = 0
    in_database: int = 0
    by_state: dict[str, int] = field(default_factory=dict)
    duplicates: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)
    over_hour_limit: list[str] = field(default_factory=list)
    over_day_limit: list[str] = field(default_factory=list)
    over_approved: list[str] = field(default_factory=list)
    too_close: list[str] = field(default_factory=list)
    outside_window: list[str] = field(default_factory=list)
    outside_pool: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)

    @property
    def complaints(self) -> dict[str, list[str]]:
        """Every finding that is not empty."""
        return {name: found for name, found in asdict(self).items() if isinstance(found, list) and found}


def judge(
    store: Store,
    accepted: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    policy: Policy,
    *,
    ended_at: datetime,
) -> Evidence:
    """Compare the gateway's log with the rules and with the database.

    Args:
        store: the pool's database, all processes ended.
        accepted: the simulator's ``/_sim/messages``, all of it.
        rows: the chips as they were declared; their phase must not have changed meanwhile.
        policy: whose limits hold.
        ended_at: the last cycle's tick: activities of local days before its own must be in a final state,
            conversations begun 24 hours before it closed, and no message may be ``sending``.
    """
    evidence = Evidence(accepted=len(accepted))
    turns = Counter((m["trace"]["conversation"], m["trace"]["turn"]) for m in accepted if m["trace"])
    evidence.duplicates = [f"conversation {c} turn {t}: {n} times" for (c, t), n in turns.items() if n > 1]
    evidence.outside_pool = [
        f"row {m['rowid']}" for m in accepted if m["recipient_instance"] is None or not m["trace"]
    ]
    _against_rules(evidence, accepted, rows, policy)
    _against_approvals(evidence, store, accepted, policy)
    _against_database(evidence, store, accepted)
    _stuck(evidence, store, local_day(ended_at, policy.zone), ended_at)
    return evidence


def _against_rules(
    evidence: Evidence,
    accepted: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    policy: Policy,
) -> None:
    phase_of = {row["instance"]: row["phase"] for row in rows}
    sends: dict[str, list[datetime]] = defaultdict(list)
    for message in accepted:
        sends[message["instance"]].append(datetime.fromisoformat(message["at"]))
    for instance, times in sends.items():
        times.sort()
        plan = policy.phases[phase_of[instance]]
        days = Counter(local_day(at, policy.zone) for at in times)
        evidence.over_day_limit += [f"{instance} {d}: {n}" for d, n in days.items() if n > plan.sends_per_day]
        for index, at in enumerate(times):
            in_hour = sum(1 for t in times[: index + 1] if t > at - timedelta(minutes=60))
            if in_hour > plan.sends_per_hour:
                evidence.over_hour_limit.append(f"{instance} {at}: {in_hour}")
            # 45 s is the smallest gap of any trust level.
            if index and at - times[index - 1] < timedelta(seconds=45):
                evidence.too_close.append(f"{instance} {times[index - 1]} and {at}")
            local = at.astimezone(policy.zone)
            if not 8 <= local.hour < 20:
                evidence.outside_window.append(f"{instance} {local}")


def _against_approvals(
    evidence: Evidence, store: Store, accepted: Sequence[Mapping[str, Any]], policy: Policy
) -> None:
    """What validation allowed (phase, trust and brake at that moment) against what the gateway saw by then."""
    query = sa.select(messages.c.id, presend_validations.c.hour_limit, presend_validations.c.day_limit).join(
        presend_validations, presend_validations.c.id == messages.c.approval_id
    )
    with store.read() as tx:
        allowed = {row.id: (row.hour_limit, row.day_limit) for row in tx.connection.execute(query)}
    sends: dict[str, list[datetime]] = defaultdict(list)
    for message in sorted(accepted, key=lambda m: (m["at"], m["rowid"])):
        at = datetime.fromisoformat(message["at"])
        earlier = sends[message["instance"]]
        earlier.append(at)
        hour, day = allowed.get((message["trace"] or {}).get("message_id"), (0, 0))
        in_hour = sum(1 for t in earlier if t > at - timedelta(minutes=60))
        in_day = sum(1 for t in earlier if local_day(t, policy.zone) == local_day(at, policy.zone))
        if in_hour > hour or in_day > day:
            evidence.over_approved.append(
                f"{message['instance']} {at}: {in_hour} of {hour} in the hour, {in_day} of {day} in the day"
            )


def _against_database(evidence: Evidence, store: Store, accepted: Sequence[Mapping[str, Any]]) -> None:
    with store.read() as tx:
        states = {
            row.id: row.state for row in tx.connection.execute(sa.select(messages.c.id, messages.c.state))
        }
    evidence.in_database = len(states)
    evidence.by_state = dict(Counter(str(state) for state in states.values()))
    for message in accepted:
        ours = message["trace"]["message_id"] if message["trace"] else None
        if ours not in states:
            evidence.lost.append(f"gateway row {message['rowid']} is not in the database")
        elif states[ours] == MessageState.FAILED and not message["failure"]:
            evidence.denied.append(f"message {ours} was accepted, the database says failed")


def _stuck(evidence: Evidence, store: Store, today: date, ended_at: datetime) -> None:
    unfinished = (ActivityState.PLANNED, ActivityState.CLAIMED)
    with store.read() as tx:
        held = tx.connection.execute(
            sa.select(activities.c.id, activities.c.state).where(
                activities.c.day < today, activities.c.state.in_(unfinished)
            )
        ).all()
        sending = tx.connection.execute(
            sa.select(messages.c.id).where(messages.c.state == MessageState.SENDING)
        ).all()
        talking = tx.connection.execute(
            sa.select(conversations.c.id, conversations.c.state).where(
                conversations.c.state != ConversationState.CLOSED,
                conversations.c.created_at <= ended_at - CONVERSATION_LIFETIME,
            )
        ).all()
    evidence.stuck = [
        *(f"activity {row.id} is {row.state}" for row in held),
        *(f"message {row.id} is sending" for row in sending),
        *(f"conversation {row.id} is {row.state} after its lifetime" for row in talking),
    ]


def told(found: Mapping[str, Any]) -> str:
    """Return a finding's fields on one line, lists by their length."""
    return ", ".join(f"{k}: {len(v) if isinstance(v, list) else v}" for k, v in found.items())
