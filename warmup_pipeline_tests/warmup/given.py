"""What a rule is given in a test: a past written straight into the log, and a gateway in trouble.

Holds: :func:`quiet_lab`, where nothing happens by itself; :func:`talked` and :func:`logged`, which
write what earlier cycles would have written; :func:`fault`, :func:`session` and :func:`at_gateway`,
which speak to the simulator; :func:`found`, :func:`the` and :func:`change`, for rows with their types.
Do not add: assertions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
import sqlalchemy as sa

from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.values import (
    ConversationState,
    Decision,
    MessageKind,
    MessageState,
    Phase,
    Provider,
)
from warmup_pipeline.store import conversations, message_writes, schema, validations
from warmup_pipeline.store.bulk import insert_new_rows
from warmup_pipeline.store.conversations import pair_key
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.ids import derived_id
from warmup_pipeline_tests.support import MORNING, Lab, chip_row, open_lab, token_of

SECOND = timedelta(seconds=1)


def chip(number: int) -> str:
    """Return the id of a chip that :func:`chip_row` makes."""
    return str(chip_row(number)["id"])


def talked(
    lab: Lab,
    opener: int,
    responder: int,
    *,
    at: datetime,
    accepted: int = 1,
    turns: int = 2,
    dialogue: str = "some-dialogue",
    created_at: datetime | None = None,
    last_at: datetime | None = None,
    next_due_at: datetime | None = None,
) -> str:
    """Write a conversation of two chips down, open if its next turn is due some time; returns its id.

    Args:
        lab: the lab.
        opener: number of the chip that opened.
        responder: number of the other one.
        at: when its opening was accepted, if any turn was.
        accepted: turns that were accepted.
        turns: turns of its dialogue.
        dialogue: the dialogue's id.
        created_at: when they were paired, if not at ``at``.
        last_at: when its last turn was accepted, if not at ``at``.
        next_due_at: when its next turn is due; the conversation is closed without one.
    """
    conversation_id = derived_id("test-conversation", opener, responder, at.isoformat(), dialogue)
    is_open = next_due_at is not None
    row = {
        "id": conversation_id,
        "pool": lab.pool,
        "opener_chip_id": chip(opener),
        "responder_chip_id": chip(responder),
        "pair_key": pair_key(chip(opener), chip(responder)),
        "dialogue_id": dialogue,
        "opens_with": MessageKind.TEXT,
        "turns": turns,
        "turns_accepted": accepted,
        "state": ConversationState.OPEN if is_open else ConversationState.CLOSED,
        "reason": None if is_open else "given_by_a_test",
        "created_at": created_at or at,
        "opened_at": at if accepted else None,
        "opened_day": local_day(at, lab.world.policy.zone) if accepted else None,
        "last_accepted_at": (last_at or at) if accepted else None,
        "closed_at": None if is_open else at,
        "next_due_at": next_due_at,
    }
    with lab.store.write() as tx:
        conversations.insert(tx, [row])
    return conversation_id


def logged(
    lab: Lab,
    sender: int,
    recipient: int,
    at: Sequence[datetime],
    *,
    state: MessageState = MessageState.DELIVERED,
    confirmed: bool = True,
    provider: Provider = Provider.EVOLUTION,
    phase: Phase = Phase.PRIMEIROS_CONTATOS,
) -> None:
    """Write first turns down that a chip sent at some instants, each with its cycle and its approval."""
    zone = lab.world.policy.zone
    for sent_at in at:
        day = local_day(sent_at, zone)
        cycle_id = derived_id("cycle", lab.pool, sent_at.isoformat())
        approval_id = derived_id("test-approval", sender, sent_at.isoformat())
        conversation_id = talked(
            lab, sender, recipient, at=sent_at, dialogue=f"logged-{sender}-{sent_at.isoformat()}"
        )
        with lab.store.write() as tx:
            insert_new_rows(
                tx,
                schema.cycles,
                [
                    {
                        "id": cycle_id,
                        "pool": lab.pool,
                        "tick": sent_at,
                        "day": day,
                        "policy": "default",
                        "mode": "simulated",
                        "state": "finished",
                        "began_at": sent_at,
                        "lease_until": sent_at,
                        "ended_at": sent_at,
                        "counts": {},
                    }
                ],
            )
            validations.insert(
                tx,
                [
                    {
                        "id": approval_id,
                        "pool": lab.pool,
                        "cycle_id": cycle_id,
                        "at": sent_at,
                        "day": day,
                        "subject": validations.OPENING,
                        "conversation_id": conversation_id,
                        "turn": 1,
                        "sender_chip_id": chip(sender),
                        "recipient_chip_id": chip(recipient),
                        "decision": Decision.APPROVE,
                        "phase": phase,
                        "hour_limit": 5,
                        "day_limit": 10,
                        "sent_in_hour": 0,
                        "sent_in_day": 0,
                        "used_at": sent_at,
                    }
                ],
            )
            message_writes.insert(
                tx,
                [
                    {
                        "id": derived_id("test-message", sender, sent_at.isoformat()),
                        "pool": lab.pool,
                        "cycle_id": cycle_id,
                        "approval_id": approval_id,
                        "conversation_id": conversation_id,
                        "turn": 1,
                        "sender_chip_id": chip(sender),
                        "recipient_chip_id": chip(recipient),
                        "provider": provider,
                        "kind": MessageKind.TEXT,
                        "phase": phase,
                        "state": state,
                        "sent_at": sent_at,
                        "sent_day": day,
                        "accepted_at": sent_at,
                        "confirmable": True,
                        "confirmed_at": sent_at if confirmed else None,
                        "http_attempts": 1,
                    }
                ],
            )


def fault(lab: Lab, *rules: dict[str, Any]) -> None:
    """Put fault rules in force, in place of all."""
    answer = httpx.post(f"{lab.base_url}/_sim/faults", json={"rules": list(rules)}, trust_env=False)
    answer.raise_for_status()


def hits(lab: Lab) -> int:
    """Return how many requests the first fault rule has struck."""
    rules = httpx.get(f"{lab.base_url}/_sim/faults", trust_env=False).json()["rules"]
    return int(rules[0]["hits"])


def at_gateway(lab: Lab) -> list[dict[str, Any]]:
    """Return everything the gateways accepted, oldest first."""
    found: list[dict[str, Any]] = httpx.get(f"{lab.base_url}/_sim/messages", trust_env=False).json()[
        "messages"
    ]
    return found


def found(lab: Lab, table: sa.Table, **where: Any) -> list[dict[str, Any]]:
    """Return the rows of a table with these values, as plain dictionaries; instants have their zone."""
    query = sa.select(table).where(*(table.c[name] == value for name, value in where.items()))
    with lab.store.read() as tx:
        return [dict(row) for row in tx.connection.execute(query).mappings()]


def the(lab: Lab, table: sa.Table, **where: Any) -> dict[str, Any]:
    """Return the one row of a table with these values."""
    (row,) = found(lab, table, **where)
    return row


def change(lab: Lab, table: sa.Table, values: Mapping[str, Any], **where: Any) -> None:
    """Change rows behind the program's back."""
    statement = (
        sa.update(table)
        .where(*(table.c[name] == value for name, value in where.items()))
        .values(dict(values))
    )
    with lab.store.write() as tx:
        tx.connection.execute(statement)


def session(lab: Lab, row: Mapping[str, Any], **declared: Any) -> None:
    """Declare a chip's instance to the simulator anew, e.g. with ``state="close"`` and ``needs_qr=True``."""
    instance = {
        "provider": row["provider"],
        "name": row["instance"],
        "phone": row["phone"],
        "token": token_of(dict(row)),
        **declared,
    }
    answer = httpx.post(
        f"{lab.base_url}/_sim/instances", json={"instances": [instance], "overwrite": True}, trust_env=False
    )
    answer.raise_for_status()


def dialogue_of(lab: Lab, turns: int) -> str:
    """Return the id of a written dialogue of so many turns, all of them text."""
    return next(
        one.id
        for one in lab.world.library.dialogues
        if len(one.turns) == turns and one.opens_with is MessageKind.TEXT
    )


@contextmanager
def quiet_lab(store: Store, rows: Sequence[dict[str, Any]], *, at: datetime) -> Iterator[Lab]:
    """Open a lab in which chips were found connected before the window opened, and nothing is planned.

    Args:
        store: an empty store.
        rows: the chips.
        at: when the next cycle is, on the day of :data:`MORNING` at 08:00 or later.
    """
    with open_lab(store, at=MORNING - timedelta(minutes=5)) as lab:
        lab.add(rows)
        lab.cycle()
        change(lab, schema.activities, {"state": "cancelled", "reason": "by_a_test"}, state="planned")
        lab.move_to(at)
        yield lab
