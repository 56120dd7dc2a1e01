"""The sums of ``counts``, kept between one cycle and the next, for a database that one process alone works on.

Holds: :func:`counts_kept`, which sums up again the conversations that have changed since it was last asked,
and nothing else. A database of a time-lapse says which those are (``memory``), so what a cycle costs does
not grow with the log. Do not add: what a sum is (``counts``: whatever is summed here must equal it, which
``metrics_match_log`` proves by summing the log itself).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from warmup_pipeline.domain.failures import SENDER_ERRORS
from warmup_pipeline.domain.metrics import MessageCounts
from warmup_pipeline.domain.values import ACCEPTED_STATES, FailureClass, MessageKind, MessageState
from warmup_pipeline.store.counts import counts
from warmup_pipeline.store.engine import ROWS_PER_STATEMENT, Transaction
from warmup_pipeline.store.messages import UNCONFIRMED_COUNTS_FOR
from warmup_pipeline.store.schema import messages

_ACCEPTED: Final = frozenset(state.value for state in ACCEPTED_STATES)
_ERRORS: Final = frozenset(failure.value for failure in SENDER_ERRORS)
_NOT_OUR_OWN: Final = frozenset({FailureClass.RECIPIENT.value, FailureClass.BUG.value})
_A_DAY: Final = timedelta(hours=24)


class _Message(NamedTuple):
    """A row of the log, as far as it is summed; its columns have these names."""

    conversation_id: str
    turn: int
    sender_chip_id: str
    recipient_chip_id: str
    sent_at: datetime
    sent_day: date
    state: str
    kind: str
    failure_class: str | None
    confirmable: bool
    confirmed_at: datetime | None

    @property
    def accepted(self) -> bool:
        return self.state in _ACCEPTED

    @property
    def settled(self) -> bool:
        """Whether it counts whatever the time is."""
        return self.accepted and (not self.confirmable or self.confirmed_at is not None)

    @property
    def is_provisional(self) -> bool:
        """Whether it counts for an hour, and then only once it is confirmed."""
        return self.accepted and self.confirmable and self.confirmed_at is None

    @property
    def counted_as(self) -> Iterator[str]:
        """The names of its sender's sums that it is in, whatever the time is."""
        failed = self.state == MessageState.FAILED
        if self.settled:
            yield "sent"
            yield self.kind
        if self.accepted:
            yield "succeeded"
            if self.confirmable:
                yield "confirmable"
                if self.confirmed_at is not None:
                    yield "confirmed"
        if self.accepted or (failed and self.failure_class not in _NOT_OUR_OWN):
            yield "attempted"
        if self.state == MessageState.UNKNOWN:
            yield "unknown"
        if failed and self.failure_class == FailureClass.RESTRICTION:
            yield "restrictions"

    @property
    def is_error(self) -> bool:
        return self.state == MessageState.FAILED and self.failure_class in _ERRORS


def counts_kept(tx: Transaction, pool: str, *, at: datetime, day: date) -> dict[str, MessageCounts]:
    """Return what ``counts.counts`` returns.

    Args:
        tx: a transaction of a database with a memory.
        pool: the pool.
        at: the moment.
        day: its local day.
    """
    memory = tx.memory
    if memory is None or memory.is_overlapping:
        return counts(tx, pool, at=at, day=day)
    kept = memory.kept.get(pool)
    moved = memory.moved_in(pool)
    if not isinstance(kept, _Kept) or at < kept.at:
        # It is known what will count no more as time goes on, not what counted before.
        kept = _Kept()
        kept.take_up(_all(tx, pool))
        memory.kept[pool] = kept
    elif moved:
        kept.drop(moved)
        kept.take_up(_of(tx, moved))
    return kept.counts(at, day) if kept.latest <= at else counts(tx, pool, at=at, day=day)


def _all(tx: Transaction, pool: str) -> Iterable[_Message]:
    return _read(tx, _every(), {"in_pool": pool})


def _of(tx: Transaction, conversation_ids: Collection[str]) -> Iterable[_Message]:
    named = sorted(conversation_ids)
    for start in range(0, len(named), ROWS_PER_STATEMENT):
        yield from _read(tx, _some(), {"named": named[start : start + ROWS_PER_STATEMENT]})


def _read(tx: Transaction, query: sa.Select[Any], asked: dict[str, Any]) -> Iterable[_Message]:
    return (_Message(*row) for row in tx.connection.execute(query, asked).all())


@cache
def _every() -> sa.Select[Any]:
    return sa.select(*(messages.c[name] for name in _Message._fields)).where(
        messages.c.pool == sa.bindparam("in_pool")
    )


@cache
def _some() -> sa.Select[Any]:
    return sa.select(*(messages.c[name] for name in _Message._fields)).where(
        messages.c.conversation_id.in_(sa.bindparam("named", expanding=True))
    )


_LONG_AGO: Final = datetime(1, 1, 1, tzinfo=UTC)


class _Kept:
    """What a pool's log comes to, conversation by conversation."""

    def __init__(self) -> None:
        self.at = self.latest = _LONG_AGO
        self._talks: dict[str, list[_Message]] = {}
        self._sums: dict[str, Counter[str]] = {}
        self._of_day: Counter[tuple[str, date, str]] = Counter()
        self._last: dict[tuple[str, str], datetime] = {}
        self._uncertain: set[tuple[str, str]] = set()
        # In which something counts, for an hour or for a day, only for the time being.
        self._for_now: set[str] = set()

    def drop(self, conversation_ids: Iterable[str]) -> None:
        """Leave conversations out."""
        for conversation_id in conversation_ids:
            talk = self._talks.pop(conversation_id, None)
            if talk is not None:
                self._add(talk, -1)
                self._for_now.discard(conversation_id)

    def take_up(self, found: Iterable[_Message]) -> None:
        """Count conversations, all of whose messages these are, in."""
        talks: dict[str, list[_Message]] = {}
        for message in found:
            talks.setdefault(message.conversation_id, []).append(message)
        self._talks |= talks
        for conversation_id, talk in talks.items():
            self._add(talk, 1)
            self.latest = max(self.latest, *(message.sent_at for message in talk))
            if any(message.is_provisional or message.is_error for message in talk):
                self._for_now.add(conversation_id)

    def _add(self, talk: Sequence[_Message], sign: int) -> None:
        for message in talk:
            sender, recipient = message.sender_chip_id, message.recipient_chip_id
            sums = self._sums.setdefault(sender, Counter())
            heard = self._sums.setdefault(recipient, Counter())
            for name in message.counted_as:
                sums[name] += sign
            if message.settled:
                heard["received"] += sign
                self._of_day[sender, message.sent_day, "sent"] += sign
                self._of_day[recipient, message.sent_day, "received"] += sign
            if message.is_error:
                self._note_last("error", message, sign)
            if message.accepted:
                self._note_last("sent", message, sign)
        if _is_two_way(message for message in talk if message.settled):
            for chip_id in _sides(talk):
                self._sums[chip_id]["two_way"] += sign

    def _note_last(self, what: str, message: _Message, sign: int) -> None:
        key = (what, message.sender_chip_id)
        last = self._last.get(key, _LONG_AGO)
        if message.sent_at < last:
            return
        if sign < 0:
            # It may come back at once, with a receipt; else it is looked for when it is asked.
            self._uncertain.add(key)
        else:
            self._last[key] = message.sent_at
            self._uncertain.discard(key)

    def _find_last(self) -> None:
        for what, chip_id in self._uncertain:
            found = [
                message.sent_at
                for talk in self._talks.values()
                for message in talk
                if message.sender_chip_id == chip_id
                and (message.is_error if what == "error" else message.accepted)
            ]
            self._last[what, chip_id] = max(found, default=_LONG_AGO)
        self._uncertain.clear()

    def counts(self, at: datetime, day: date) -> dict[str, MessageCounts]:
        """Return the sums by chip at a moment, which is no earlier one than the last."""
        self.at = at
        self._find_last()
        now: dict[str, Counter[str]] = {}
        for conversation_id in tuple(self._for_now):
            changes = list(_for_now(self._talks[conversation_id], at, day))
            if not changes:
                # Time only goes on: nothing of it comes back without a change of the log.
                self._for_now.discard(conversation_id)
            for chip_id, name in changes:
                now.setdefault(chip_id, Counter())[name] += 1
        return {
            chip_id: self._message_counts(chip_id, now.get(chip_id, _NOTHING), day)
            for chip_id in sorted(self._sums)
        }

    def _message_counts(self, chip_id: str, now: Mapping[str, int], day: date) -> MessageCounts:
        sums = self._sums[chip_id]

        def last(what: str) -> datetime | None:
            found = self._last.get((what, chip_id), _LONG_AGO)
            return None if found is _LONG_AGO else found

        return MessageCounts(
            sent_total=sums["sent"] + now["sent"],
            sent_today=self._of_day[chip_id, day, "sent"] + now["sent_today"],
            received_total=sums["received"] + now["received"],
            received_today=self._of_day[chip_id, day, "received"] + now["received_today"],
            attempted=sums["attempted"],
            succeeded=sums["succeeded"],
            unknown=sums["unknown"],
            confirmable=sums["confirmable"],
            confirmed=sums["confirmed"],
            bidirectional=sums["two_way"] + now["two_way"],
            media_kinds=frozenset(kind for kind in _MEDIA if sums[kind] + now[kind]),
            errors_24h=now["errors"],
            restriction_failures=sums["restrictions"],
            last_error_at=last("error"),
            last_sent_at=last("sent"),
        )


_NOTHING: Final[Counter[str]] = Counter()
_MEDIA: Final = (MessageKind.PICTURE, MessageKind.AUDIO)


def _for_now(talk: Sequence[_Message], at: datetime, day: date) -> Iterator[tuple[str, str]]:
    """Give what some messages of a conversation add to chips' sums only for the time being."""
    counting = []
    for message in talk:
        sender, recipient = message.sender_chip_id, message.recipient_chip_id
        if message.is_error and message.sent_at > at - _A_DAY:
            yield sender, "errors"
        if message.is_provisional and message.sent_at > at - UNCONFIRMED_COUNTS_FOR:
            counting.append(message)
            yield sender, "sent"
            yield recipient, "received"
            yield sender, message.kind
            if message.sent_day == day:
                yield sender, "sent_today"
                yield recipient, "received_today"
    settled = [message for message in talk if message.settled]
    if counting and not _is_two_way(settled) and _is_two_way([*settled, *counting]):
        for chip_id in _sides(talk):
            yield chip_id, "two_way"


def _is_two_way(talk: Iterable[_Message]) -> bool:
    return len({message.turn % 2 for message in talk}) > 1


def _sides(talk: Sequence[_Message]) -> tuple[str, str]:
    return talk[0].sender_chip_id, talk[0].recipient_chip_id
