"""Conversations: threads of turns between two chips.

Holds: opening, advancing and closing them, and what pairing must know of past ones. ``pair_key`` is
the two chip ids in order, so that a pair is one thing whoever opened.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from itertools import chain
from typing import Any, Final

import sqlalchemy as sa

from warmup_pipeline.domain.values import ConversationState, MessageKind
from warmup_pipeline.store.bulk import insert_rows, update_rows
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.memory import remembered
from warmup_pipeline.store.schema import conversations, messages

_NAMES_AT_ONCE: Final = 30_000
"""Values of one IN list: SQLite takes 32,766 variables, PostgreSQL 65,535."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """One row of ``conversations``: see the column comments there."""

    id: str
    pool: str
    opener_chip_id: str
    responder_chip_id: str
    pair_key: str
    dialogue_id: str
    opens_with: MessageKind
    turns: int
    turns_accepted: int
    state: ConversationState
    reason: str | None
    created_at: datetime
    opened_at: datetime | None
    next_due_at: datetime | None
    claimed_cycle_id: str | None
    last_accepted_at: datetime | None

    @property
    def next_turn(self) -> int:
        """The turn that comes next, from 1."""
        return self.turns_accepted + 1

    @property
    def next_sender(self) -> str:
        """The chip whose turn it is."""
        return self.opener_chip_id if self.next_turn % 2 == 1 else self.responder_chip_id

    @property
    def next_recipient(self) -> str:
        """The chip that is written to next."""
        return self.responder_chip_id if self.next_turn % 2 == 1 else self.opener_chip_id

    def turns_left(self) -> dict[str, int]:
        """Return the turns each side still has to send: its reservation against today's budget."""
        left = {self.opener_chip_id: 0, self.responder_chip_id: 0}
        for turn in range(self.next_turn, self.turns + 1):
            left[self.opener_chip_id if turn % 2 == 1 else self.responder_chip_id] += 1
        return left


@dataclass(frozen=True, slots=True)
class PastConversation:
    """What the unanswered cap must know of one past conversation."""

    pair_key: str
    opener_chip_id: str
    turns_accepted: int
    last_accepted_at: datetime


def pair_key(a: str, b: str) -> str:
    """Return the key of a pair, the same for (a, b) and (b, a)."""
    return f"{min(a, b)}|{max(a, b)}"


_columns = tuple(conversations.c[name] for name in Conversation.__dataclass_fields__)
# Not "other than closed": an index finds what is, not what is not.
_unclosed = sa.or_(
    *(conversations.c.state == s for s in ConversationState if s is not ConversationState.CLOSED)
)


def _conversation(row: sa.RowMapping) -> Conversation:
    data = dict(row)
    data |= {"state": ConversationState(data["state"]), "opens_with": MessageKind(data["opens_with"])}
    return Conversation(**data)


@remembered(conversations)
def unclosed(tx: Transaction, pool: str) -> list[Conversation]:
    """Return the pool's conversations that are opening or open, by id."""
    found = tx.connection.execute(_unclosed_of_pool(), {"in_pool": pool})
    return [_conversation(row) for row in found.mappings()]


@cache
def _unclosed_of_pool() -> sa.Select[Any]:
    return (
        sa.select(*_columns)
        .where(conversations.c.pool == sa.bindparam("in_pool"), _unclosed)
        .order_by(conversations.c.id)
    )


def claim(tx: Transaction, ids: Sequence[str], cycle_id: str) -> set[str]:
    """Give due turns to a cycle; returns those it got. What another process has locked or holds is left to it."""
    got: set[str] = set()
    for start in range(0, len(ids), _NAMES_AT_ONCE):
        asked = {"ids": list(ids[start : start + _NAMES_AT_ONCE]), "for_cycle": cycle_id}
        got |= set(tx.connection.execute(_free(), asked).scalars().all())
    change(tx, [{"id": i, "claimed_cycle_id": cycle_id} for i in sorted(got)])
    return got


@cache
def _free() -> sa.Select[Any]:
    claimed_by = conversations.c.claimed_cycle_id
    return (
        sa.select(conversations.c.id)
        .where(
            conversations.c.id.in_(sa.bindparam("ids", expanding=True)),
            conversations.c.state == ConversationState.OPEN,
            conversations.c.next_due_at.is_not(None),
            sa.or_(claimed_by.is_(None), claimed_by == sa.bindparam("for_cycle")),
        )
        .with_for_update(skip_locked=True)
    )


def insert(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert conversations that are about to be opened."""
    insert_rows(tx, conversations, rows)


def change(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set columns of many unclosed conversations: rows of id and the same further columns."""
    update_rows(tx, conversations, rows, where=_unclosed)


def close(tx: Transaction, reasons: Mapping[str, str], *, at: datetime) -> None:
    """Close conversations: id -> reason."""
    update_rows(
        tx,
        conversations,
        [
            {
                "id": i,
                "state": ConversationState.CLOSED,
                "reason": reason,
                "closed_at": at,
                "next_due_at": None,
                "claimed_cycle_id": None,
            }
            for i, reason in reasons.items()
        ],
        where=_unclosed,
    )


def close_older_than(
    tx: Transaction, pool: str, *, created_before: datetime, at: datetime, reason: str
) -> int:
    """Close every conversation created before an instant; returns how many."""
    asked = {"in_pool": pool, "created_before": created_before, "now": at, "because": reason}
    return int(tx.connection.execute(_close_older_than(), asked).rowcount)


@cache
def _close_older_than() -> sa.Update:
    return (
        sa.update(conversations)
        .where(
            conversations.c.pool == sa.bindparam("in_pool"),
            _unclosed,
            conversations.c.created_at <= sa.bindparam("created_before"),
        )
        .values(
            state=ConversationState.CLOSED,
            reason=sa.bindparam("because"),
            closed_at=sa.bindparam("now"),
            next_due_at=None,
            claimed_cycle_id=None,
        )
    )


def release(tx: Transaction, pool: str, *, but_not_of: str) -> int:
    """Give back due turns held by cycles other than one: their processes are gone. Returns how many."""
    asked = {"in_pool": pool, "but_not_of": but_not_of}
    return int(tx.connection.execute(_release(), asked).rowcount)


@cache
def _release() -> sa.Update:
    return (
        sa.update(conversations)
        .where(
            conversations.c.pool == sa.bindparam("in_pool"),
            _unclosed,
            conversations.c.claimed_cycle_id.is_not(None),
            conversations.c.claimed_cycle_id != sa.bindparam("but_not_of"),
        )
        .values(claimed_cycle_id=None)
    )


def unsent(tx: Transaction, pool: str, *, but_not_of: str) -> list[str]:
    """Return conversations still opening, by other cycles, for which no message was ever written."""
    asked = {"in_pool": pool, "but_not_of": but_not_of}
    return list(tx.connection.execute(_unsent(), asked).scalars().all())


@cache
def _unsent() -> sa.Select[Any]:
    return (
        sa.select(conversations.c.id)
        .outerjoin(messages, messages.c.conversation_id == conversations.c.id)
        .where(
            conversations.c.pool == sa.bindparam("in_pool"),
            conversations.c.state == ConversationState.OPENING,
            messages.c.id.is_(None),
            sa.or_(
                conversations.c.claimed_cycle_id.is_(None),
                conversations.c.claimed_cycle_id != sa.bindparam("but_not_of"),
            ),
        )
        .order_by(conversations.c.id)
    )


def last_openings(tx: Transaction, pool: str, *, since: datetime) -> dict[str, datetime]:
    """Return when each pair last opened a conversation (by acceptance) after ``since``: pair key -> at."""
    found = tx.connection.execute(_last_openings(), {"in_pool": pool, "since": since})
    return {row[0]: row[1] for row in found}


@cache
def _last_openings() -> sa.Select[Any]:
    return (
        sa.select(conversations.c.pair_key, sa.func.max(conversations.c.opened_at))
        .where(
            conversations.c.pool == sa.bindparam("in_pool"), conversations.c.opened_at > sa.bindparam("since")
        )
        .group_by(conversations.c.pair_key)
    )


@remembered(conversations)
def partners_on(tx: Transaction, pool: str, day: date) -> dict[str, set[str]]:
    """Return the distinct partners of each chip on a local day, counted from acceptance."""
    partners: dict[str, set[str]] = {}
    for opener, responder in tx.connection.execute(_pairs_on(), {"in_pool": pool, "on_day": day}).all():
        partners.setdefault(opener, set()).add(responder)
        partners.setdefault(responder, set()).add(opener)
    return partners


@remembered(conversations)
def partner_counts(tx: Transaction, pool: str, day: date) -> dict[str, int]:
    """Return how many distinct partners each chip had on a local day."""
    rows = tx.connection.execute(_pairs_on(), {"in_pool": pool, "on_day": day}).all()
    # Whoever of a pair opened: each is the other's partner once.
    pairs = {(one, other) if one < other else (other, one) for one, other in rows}
    return Counter(chain.from_iterable(pairs))


@cache
def _pairs_on() -> sa.Select[Any]:
    return (
        sa.select(conversations.c.opener_chip_id, conversations.c.responder_chip_id)
        .where(
            conversations.c.pool == sa.bindparam("in_pool"),
            # One that was never opened has no day.
            conversations.c.opened_day == sa.bindparam("on_day"),
        )
        .distinct()
    )


def dialogues_used(tx: Transaction, pair_keys: Collection[str], *, since: datetime) -> dict[str, set[str]]:
    """Return the dialogues each of the pairs held since an instant: pair key -> dialogue ids."""
    used: dict[str, set[str]] = {}
    keys = sorted(pair_keys)
    for start in range(0, len(keys), _NAMES_AT_ONCE):
        asked = {"keys": keys[start : start + _NAMES_AT_ONCE], "since": since}
        for key, dialogue in tx.connection.execute(_dialogues_used(), asked).all():
            used.setdefault(key, set()).add(dialogue)
    return used


@cache
def _dialogues_used() -> sa.Select[Any]:
    return sa.select(conversations.c.pair_key, conversations.c.dialogue_id).where(
        conversations.c.pair_key.in_(sa.bindparam("keys", expanding=True)),
        conversations.c.created_at > sa.bindparam("since"),
        conversations.c.opened_at.is_not(None),
    )


def often_unanswered(tx: Transaction, pool: str, *, since: datetime) -> list[PastConversation]:
    """Return, oldest first, the conversations since an instant of pairs with two unanswered openings.

    A run of three unanswered turns always holds two conversations of which only the opening was
    ever accepted, so no other pair need be looked at.
    """
    found = tx.connection.execute(_often_unanswered(), {"in_pool": pool, "since": since})
    return [PastConversation(*row) for row in found]


@cache
def _often_unanswered() -> sa.Select[Any]:
    opened = sa.and_(
        conversations.c.pool == sa.bindparam("in_pool"), conversations.c.opened_at > sa.bindparam("since")
    )
    suspects = (
        sa.select(conversations.c.pair_key)
        .where(opened, conversations.c.turns_accepted == 1)
        .group_by(conversations.c.pair_key)
        .having(sa.func.count() >= 2)
    )
    return (
        sa.select(
            conversations.c.pair_key,
            conversations.c.opener_chip_id,
            conversations.c.turns_accepted,
            conversations.c.last_accepted_at,
        )
        .where(opened, conversations.c.turns_accepted > 0, conversations.c.pair_key.in_(suspects))
        .order_by(conversations.c.last_accepted_at)
    )
