"""Z-API keeps messages for an offline phone and fires them all when it reconnects: this prevents it.

Holds: :func:`has_given_up` and :func:`guard_queue`: what we no longer stand by is taken out of a
chip's queue, at best while the session is still down. Do not add: whether a session is down
(``watch``).

Source: domain.md, "Gateway queue guard".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from warmup_pipeline.domain.values import ConnectionState, ConversationState, MessageState
from warmup_pipeline.gateways.base import Channel, Gateway, GatewayError
from warmup_pipeline.store.deliveries import OpenMessage
from warmup_pipeline.store.messages import UNCONFIRMED_COUNTS_FOR
from warmup_pipeline.warmup.resolve import Answers, Question, candidates


@dataclass(frozen=True, slots=True)
class Removed:
    """What was taken out of one chip's queue.

    Attributes:
        message_ids: our ids of the messages.
        error: what ended it before everything was done; the next attempt does the rest.
        while_down: the session was down before and after it: none of them can have gone.
    """

    message_ids: tuple[str, ...] = ()
    error: GatewayError | None = None
    while_down: bool = False


def has_given_up(message: OpenMessage, at: datetime) -> bool:
    """Whether a message may not go any more, should it still stand in a queue.

    Given up are failed ones; unknown ones of a conversation that is over; and accepted ones that
    are older than an hour (they would have stopped counting) or whose conversation ended before its
    last turn. What is left is at most what an hour's limit allows.
    """
    over = message.conversation_state is ConversationState.CLOSED
    if message.state is MessageState.FAILED:
        return True
    if message.state is MessageState.UNKNOWN:
        return over
    too_old = message.accepted_at is not None and at - message.accepted_at > UNCONFIRMED_COUNTS_FOR
    return too_old or (over and message.turns_accepted < message.turns)


async def guard_queue(
    gateway: Gateway, channel: Channel, questions: Sequence[Question], *, at: datetime, is_down: bool
) -> Removed:
    """Take out of a chip's queue what we had given up on; what is not ours stays.

    Args:
        gateway: the chip's gateway.
        channel: the chip.
        questions: everything of ours that the queue may hold.
        at: logical time, UTC.
        is_down: the session was just seen closed or connecting, and can be believed.
    """
    removed = await _take_out(gateway, channel, questions, at)
    if not removed.message_ids or not is_down:
        return removed
    try:
        # Had it opened meanwhile, the head of the queue could have gone.
        still = (await gateway.connection_state(channel)).state is not ConnectionState.OPEN
    except GatewayError as error:
        return replace(removed, error=removed.error or error)
    return replace(removed, while_down=still)


async def _take_out(
    gateway: Gateway, channel: Channel, questions: Sequence[Question], at: datetime
) -> Removed:
    try:
        answers = Answers(queued={channel.chip_id: await gateway.queue_of(channel)})
    except GatewayError as error:
        return Removed(error=error)
    known = {q.message.gateway_message_id for q in questions if q.message.gateway_message_id is not None}
    removed: list[str] = []
    for question in questions:
        if not has_given_up(question.message, at):
            continue
        found = list(candidates(question, answers, known).values())
        if len(found) == 1 and found[0].queue_id is not None:
            try:
                await gateway.drop_from_queue(channel, found[0].queue_id)
            except GatewayError as error:
                return Removed(tuple(removed), error)
            removed.append(question.message.id)
    return Removed(tuple(removed))
