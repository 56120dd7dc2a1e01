"""Giving every chip of a pool a reply that is due: what the benchmarks' cycles send.

Holds: :func:`let_everyone_reply`, :func:`ring`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from warmup_pipeline.domain.values import ConversationState, MessageKind
from warmup_pipeline.store import conversations
from warmup_pipeline.store.conversations import pair_key
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.warmup.ids import derived_id

DIALOGUE: Final = "cafe-acabou"
"""One of two texts: what it says does not matter, that the library knows it does."""


def ring(chip_ids: Sequence[str], number: int) -> list[tuple[str, str]]:
    """Return (who opened, whose turn it is) for every chip: a ring, wider each round, until it begins anew.

    At half the chips two of them would be each other's next: so wide it never is.

    Args:
        chip_ids: the chips; at least three.
        number: the round.
    """
    width = 1 + number % ((len(chip_ids) - 1) // 2)
    return [(chip_ids[(index + width) % len(chip_ids)], chip_id) for index, chip_id in enumerate(chip_ids)]


def let_everyone_reply(
    tx: Transaction, pool: str, chip_ids: Sequence[str], tick: datetime, number: int
) -> None:
    """Give every chip a conversation in which it is its turn.

    Args:
        tx: an open transaction.
        pool: the chips' pool.
        chip_ids: the chips; at least three.
        tick: when the replies are due.
        number: the round.
    """
    opened = tick - timedelta(minutes=6)
    found = []
    for opener, chip_id in ring(chip_ids, number):
        key = pair_key(opener, chip_id)
        found.append(
            {
                "id": derived_id("benchmark-conversation", tick.isoformat(), key),
                "pool": pool,
                "opener_chip_id": opener,
                "responder_chip_id": chip_id,
                "pair_key": key,
                "dialogue_id": DIALOGUE,
                "opens_with": MessageKind.TEXT,
                "turns": 2,
                "turns_accepted": 1,
                "state": ConversationState.OPEN,
                "created_at": opened,
                "opened_at": opened,
                "opened_day": opened.date(),
                "last_accepted_at": opened,
                "next_due_at": tick,
            }
        )
    conversations.insert(tx, found)
