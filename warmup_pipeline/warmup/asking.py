"""Asking the gateways about messages whose end is not known: as few calls as can tell.

Holds: :func:`ask`: the sender's own list first, one call for all of a chip's open messages; the
receiver's list where that did not tell; a queue where there is one; a privacy id where nothing else
tells who the other end is. Do not add: what the answers mean (``resolve``, ``confirm``), writing
anything down.

Nothing open, nothing asked. Calls go out concurrently across chips and only until a given time:
what was not asked is asked by the next cycle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from warmup_pipeline.domain.values import CONFIRMED_STATES, MessageState, Provider
from warmup_pipeline.gateways.base import GatewayError, Listed, Listing
from warmup_pipeline.gateways.hub import GatewayHub
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.warmup.gateway_step import channel_of, run_together
from warmup_pipeline.warmup.resolve import (
    CLOCKS_DIFFER_BY,
    Answers,
    Question,
    anonymous_ends,
    candidates,
)

LOOK_UPS_TAKE: Final = 60.0
"""Seconds of a cycle that look-ups may begin in: sending must not wait for them for long."""

_SLACK: Final = timedelta(minutes=5)
"""Around the time of a message whose id is known: the gateway keeps whole seconds, by its own clock."""


@dataclass
class Asked:
    """What was asked, and what went wrong.

    Attributes:
        answers: what the gateways list.
        calls: how many look-ups were made.
        refused: how many the gateways did not answer; asked again by the next cycle.
        bugs: exceptions of our own code; the other look-ups were made all the same.
    """

    answers: Answers = field(default_factory=Answers)
    calls: int = 0
    refused: int = 0
    bugs: list[Exception] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _LookUp:
    chip: Chip
    into: dict[str, Listing]
    since: datetime
    sent_only: bool = False
    queue: bool = False


def _since(question: Question) -> datetime:
    return question.around - (CLOCKS_DIFFER_BY if question.is_unknown else _SLACK)


def _grouped(
    questions: Sequence[Question], *, by_recipient: bool, reachable: Collection[str], provider: Provider
) -> list[tuple[Chip, datetime]]:
    """Return the chips to ask, each with the earliest time that matters."""
    earliest: dict[str, tuple[Chip, datetime]] = {}
    for question in questions:
        chip = question.recipient if by_recipient else question.sender
        if chip.provider is not provider or chip.id not in reachable:
            continue
        since = _since(question)
        if chip.id not in earliest or since < earliest[chip.id][1]:
            earliest[chip.id] = (chip, since)
    return list(earliest.values())


def _is_settled(question: Question, answers: Answers, known: Collection[str]) -> bool:
    """Whether the sender's side told all there is to know."""
    found = candidates(question, answers, known)
    if question.is_unknown:
        return len(found) == 1
    settled = CONFIRMED_STATES | {MessageState.FAILED}
    return any(listed.state in settled for listed in found.values())


class _Asker:
    def __init__(self, hub: GatewayHub, asked: Asked, until: datetime) -> None:
        self._hub = hub
        self._asked = asked
        self._listed_until = until
        self._not_after = asyncio.get_running_loop().time() + LOOK_UPS_TAKE

    async def look_up(self, look_ups: Sequence[_LookUp]) -> None:
        results = await run_together(look_ups, self._one, lane=lambda wanted: wanted.chip.provider)
        self._asked.bugs += [result for result in results if isinstance(result, Exception)]

    async def _one(self, wanted: _LookUp) -> None:
        if asyncio.get_running_loop().time() > self._not_after:
            return
        gateway, channel = self._hub.gateway(wanted.chip.provider), channel_of(wanted.chip)
        self._asked.calls += 1
        try:
            wanted.into[wanted.chip.id] = (
                await gateway.queue_of(channel)
                if wanted.queue
                else await gateway.messages_of(
                    channel, wanted.since, self._listed_until, sent_only=wanted.sent_only
                )
            )
        except GatewayError:
            # Nothing is lost: the next cycle asks again, and a gateway that does not answer shows in
            # the chip's connection.
            self._asked.refused += 1
            return
        self._asked.answers.server[wanted.chip.id] = gateway.server_of(channel)

    async def learn_privacy_id(self, wanted: tuple[Chip, Chip]) -> None:
        asked_of, about = wanted
        if asyncio.get_running_loop().time() > self._not_after:
            return
        self._asked.calls += 1
        try:
            found = await self._hub.gateway(asked_of.provider).privacy_id(channel_of(asked_of), about.phone)
        except GatewayError:
            self._asked.refused += 1
            return
        if found is not None:
            self._asked.answers.privacy_ids[about.id] = found


async def ask(
    hub: GatewayHub,
    questions: Sequence[Question],
    *,
    reachable: Mapping[str, Chip],
    known: Collection[str],
    until: datetime,
    told: Mapping[str, Sequence[Listed]],
    privacy_ids: Mapping[str, str],
) -> Asked:
    """Ask about messages; see the module's text.

    Args:
        hub: the gateways, open.
        questions: what is open.
        reachable: chips whose gateway answers in this cycle, by id; others are not asked.
        known: gateway ids that are those of messages of ours already.
        until: the latest gateway time that matters.
        told: arrivals that webhooks told of, by receiving chip; never all there are.
        privacy_ids: privacy ids that are known already, by chip id.
    """
    asked = Asked()
    if not questions:
        return asked
    answers = asked.answers
    answers.privacy_ids |= privacy_ids
    answers.received |= {c: Listing(tuple(found), complete=False) for c, found in told.items()}
    asker = _Asker(hub, asked, until)
    unknown = [question for question in questions if question.is_unknown]
    first = [
        _LookUp(chip, answers.sent, since, sent_only=True)
        for chip, since in _grouped(
            questions, by_recipient=False, reachable=reachable, provider=Provider.EVOLUTION
        )
    ]
    first += [
        _LookUp(chip, answers.queued, since, queue=True)
        for chip, since in _grouped(unknown, by_recipient=False, reachable=reachable, provider=Provider.Z_API)
    ]
    await asker.look_up(first)
    still_open = [question for question in questions if not _is_settled(question, answers, known)]
    await asker.look_up(
        [
            _LookUp(chip, answers.received, since)
            for chip, since in _grouped(
                still_open, by_recipient=True, reachable=reachable, provider=Provider.EVOLUTION
            )
        ]
    )
    ends = {
        (asked_id, about.id): (reachable[asked_id], about)
        for question in unknown
        if not candidates(question, answers, known)
        for asked_id, about in anonymous_ends(question, answers, known)
    }
    results = await run_together(ends.values(), asker.learn_privacy_id, lane=lambda ask: ask[0].provider)
    asked.bugs += [result for result in results if isinstance(result, Exception)]
    return asked
