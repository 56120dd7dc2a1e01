"""The fourth step: who opens a conversation with whom.

Holds: :func:`pair_chips`. Who fits whom is ``domain.pairing``; which dialogue both can afford is
``domain.conversation``. Source: domain.md, "Pairing" and "A conversation".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from warmup_pipeline.domain import pairing
from warmup_pipeline.domain.conversation import (
    MIN_TURNS,
    REPEAT_AFTER,
    Dialogue,
    affordable,
    max_turns,
    pick,
    turns_by_side,
)
from warmup_pipeline.domain.localtime import window_bounds
from warmup_pipeline.domain.pair_rules import Candidate, PairHistory
from warmup_pipeline.domain.presend import is_connected, takes_part, validate
from warmup_pipeline.domain.values import (
    ActivityState,
    CircuitState,
    ConversationState,
    Decision,
    MessageKind,
)
from warmup_pipeline.store import activities, conversations, messages
from warmup_pipeline.store import pairings as pairing_store
from warmup_pipeline.store.activities import Activity, Deferral, Ending
from warmup_pipeline.store.conversations import PastConversation, pair_key
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.warmup.facts import PoolFacts, load_facts
from warmup_pipeline.warmup.ids import derived_id
from warmup_pipeline.warmup.lifecycle import hold_pool
from warmup_pipeline.warmup.world import StepReport, World

TRY_AGAIN_AFTER: Final = timedelta(minutes=15)
"""When a deferral has no known end (domain.md, "Pairing")."""

_PAIRED_RECENTLY: Final = timedelta(hours=24)
"""For how long having been paired costs a pair points."""

_LOOK_BACK: Final = timedelta(days=7)
"""How far back a run of unanswered turns can reach: each opening of it rests at most a day."""

_OPENER_TURNS, _RESPONDER_TURNS = turns_by_side(MIN_TURNS)


def resting_pairs(
    past: Iterable[PastConversation], *, at: Any, cap: int, rest: timedelta
) -> set[frozenset[str]]:
    """Return the pairs that rest: ``cap`` unanswered turns in a row, the last less than ``rest`` ago.

    Args:
        past: conversations with an accepted turn, oldest first.
        at: the cycle's tick.
        cap: turns in a row, by one side, that went unanswered.
        rest: how long the pair then rests.
    """
    runs: dict[str, tuple[str, int, Any]] = {}
    for conversation in past:
        opener = conversation.opener_chip_id
        first, _, second = conversation.pair_key.partition("|")
        other = second if opener == first else first
        speaker, length, _ = runs.get(conversation.pair_key, ("", 0, None))
        # Turns alternate, so a conversation adds its opening to the opener's own run, and any further
        # turn starts a run of one by whoever spoke last.
        if conversation.turns_accepted == 1:
            length = length + 1 if speaker == opener else 1
            speaker = opener
        else:
            speaker, length = (opener if conversation.turns_accepted % 2 else other), 1
        runs[conversation.pair_key] = (speaker, length, conversation.last_accepted_at)
    return {
        frozenset(key.split("|"))
        for key, (_, length, last) in runs.items()
        if length >= cap and last is not None and last + rest > at
    }


def _history(tx: Transaction, world: World, cycle: Cycle, facts: PoolFacts) -> PairHistory:
    rules = world.policy.pairs
    between = timedelta(hours=rules.hours_between_openings)
    openings = conversations.last_openings(tx, cycle.pool, since=cycle.tick - max(between, _PAIRED_RECENTLY))
    past = conversations.often_unanswered(tx, cycle.pool, since=cycle.tick - _LOOK_BACK)
    return PairHistory(
        open_between={frozenset((c.opener_chip_id, c.responder_chip_id)) for c in facts.unclosed},
        opened_within_4h={frozenset(k.split("|")) for k, at in openings.items() if at > cycle.tick - between},
        paired_within_24h={
            frozenset(k.split("|")) for k, at in openings.items() if at > cycle.tick - _PAIRED_RECENTLY
        },
        resting=resting_pairs(
            past, at=cycle.tick, cap=rules.unanswered_turns, rest=timedelta(hours=rules.unanswered_rest_hours)
        ),
    )


def _can_be_written_to(facts: PoolFacts, chip_id: str, cycle: Cycle) -> bool:
    """Whether a chip may be the other side: it takes part, is connected, rests not, and can answer."""
    standing = facts.standing(chip_id)
    sender = facts.sender(chip_id)
    return (
        takes_part(standing)
        and is_connected(standing, cycle.tick)
        and not sender.killed
        and sender.circuit.state is not CircuitState.OPEN
        and (sender.cooldown_until is None or sender.cooldown_until <= cycle.tick)
        and facts.budget_of(sender, chip_id) >= _RESPONDER_TURNS
    )


def pair_chips(world: World, cycle: Cycle) -> StepReport:
    """Pair the chips that hold a due opening, choose their dialogues, and note the pairs."""
    with world.store.write() as tx:
        hold_pool(world, tx, cycle)
        claimed = activities.claimed_by(tx, cycle.id)
        waiting = {
            a.chip_id: a for a in claimed if a.type in world.activities.openings and a.conversation_id is None
        }
        if not waiting:
            # As in most cycles: nothing need be known of the pool to pair nobody.
            return _report([], no_partner=0, budget_reserved=0, no_dialogue=0)
        facts = load_facts(tx, world, cycle)
        # An opener that validation would refuse whoever it wrote to is left for validation to say why.
        ready = {
            chip_id: activity
            for chip_id, activity in waiting.items()
            if validate(facts.send(chip_id, None)).decision is Decision.APPROVE
        }
        short = {chip_id for chip_id in ready if facts.budget(chip_id) < _OPENER_TURNS}
        openers = {chip_id: a for chip_id, a in ready.items() if chip_id not in short}
        already = pairing_store.chips_paired_in(tx, cycle.id)
        candidates = _candidates(tx, world, facts, cycle, openers, already) if openers else []
        result = pairing.pair(
            candidates,
            _history(tx, world, cycle, facts),
            tick=cycle.tick,
            max_partners=world.policy.pairs.max_partners_per_day,
        )
        used = conversations.dialogues_used(
            tx, {pair_key(p.opener, p.responder) for p in result.pairings}, since=cycle.tick - REPEAT_AFTER
        )
        opened, no_dialogue = _open(world, cycle, facts, openers, result.pairings, used)
        conversations.insert(tx, [row for row, _ in opened])
        pairing_store.insert(tx, [row for _, row in opened])
        activities.attach_conversations(tx, {p["activity_id"]: p["conversation_id"] for _, p in opened})
        activities.attach_conversations(
            tx,
            {p["partner_activity_id"]: p["conversation_id"] for _, p in opened if p["partner_activity_id"]},
        )
        without = {
            **dict.fromkeys(sorted(short), "budget_reserved"),
            **dict.fromkeys(result.unpaired, "no_partner"),
            **dict.fromkeys(no_dialogue, "no_dialogue"),
        }
        _put_off(tx, world, cycle, ready, without)
    names = {chip_id: f"…{chip.last4}" for chip_id, chip in facts.chips.items()}
    notes = [
        f"{names[p['opener_chip_id']]} → {names[p['responder_chip_id']]} (score {p['score']})"
        for _, p in opened[:10]
    ]
    return _report(
        [p["score"] for _, p in opened],
        notes,
        candidates=len(candidates),
        no_partner=len(result.unpaired),
        budget_reserved=len(short),
        no_dialogue=len(no_dialogue),
    )


def _report(scores: Sequence[float], notes: Sequence[str] = (), **counts: int) -> StepReport:
    mean = round(sum(scores) / len(scores), 1) if scores else None
    return StepReport({"paired": len(scores), **counts, "mean_score": mean}, tuple(notes))


def _is_media(world: World, activity: Activity) -> bool:
    return MessageKind.TEXT not in world.activities.openings[activity.type].opens_with


def _candidates(
    tx: Transaction,
    world: World,
    facts: PoolFacts,
    cycle: Cycle,
    openers: Mapping[str, Activity],
    already: set[str],
) -> list[Candidate]:
    traffic = messages.traffic_today(tx, cycle.pool, cycle.day)
    partners = conversations.partners_on(tx, cycle.pool, cycle.day)
    found = []
    for chip_id, chip in facts.chips.items():
        if chip_id in already or not (chip_id in openers or _can_be_written_to(facts, chip_id, cycle)):
            continue
        sent, received = traffic.get(chip_id, (0, 0))
        found.append(
            Candidate(
                chip_id=chip_id,
                phone=chip.phone,
                phase=chip.phase,
                trust=facts.trust.get(chip_id, (0, None))[0],
                sent_today=sent,
                received_today=received,
                has_opening=chip_id in openers,
                opens_with_media=chip_id in openers and _is_media(world, openers[chip_id]),
                partners_today=frozenset(partners.get(chip_id, ())),
            )
        )
    return found


def _open(
    world: World,
    cycle: Cycle,
    facts: PoolFacts,
    openers: Mapping[str, Activity],
    pairs: Sequence[pairing.Pairing],
    used: Mapping[str, set[str]],
) -> tuple[list[tuple[dict[str, Any], dict[str, Any]]], list[str]]:
    """Choose a dialogue for each pair; returns (conversation row, pairing row)s, and who found none."""
    opened: list[tuple[dict[str, Any], dict[str, Any]]] = []
    without: list[str] = []
    for pair in pairs:
        activity = openers[pair.opener]
        key = pair_key(pair.opener, pair.responder)
        conversation_id = derived_id("conversation", cycle.id, key)
        dialogue = _dialogue(world, facts, pair, activity, used.get(key, set()), seed=conversation_id)
        if dialogue is None:
            without.append(pair.opener)
            if pair.both_due:
                without.append(pair.responder)
            continue
        partner = openers.get(pair.responder) if pair.both_due else None
        conversation = {
            "id": conversation_id,
            "pool": cycle.pool,
            "opener_chip_id": pair.opener,
            "responder_chip_id": pair.responder,
            "pair_key": key,
            "dialogue_id": dialogue.id,
            "opens_with": dialogue.opens_with,
            "turns": len(dialogue.turns),
            "state": ConversationState.OPENING,
            "created_at": cycle.tick,
            "claimed_cycle_id": cycle.id,
        }
        opened.append(
            (
                conversation,
                {
                    "id": derived_id("pairing", cycle.id, key),
                    "pool": cycle.pool,
                    "cycle_id": cycle.id,
                    "at": cycle.tick,
                    "opener_chip_id": pair.opener,
                    "responder_chip_id": pair.responder,
                    "conversation_id": conversation_id,
                    "activity_id": activity.id,
                    "partner_activity_id": partner.id if partner else None,
                    "score": pair.score,
                    "parts": dict(pair.parts),
                },
            )
        )
    return opened, without


def _dialogue(
    world: World, facts: PoolFacts, pair: pairing.Pairing, activity: Activity, used: set[str], *, seed: str
) -> Dialogue | None:
    opener, responder = facts.chips[pair.opener], facts.chips[pair.responder]
    opens_with = world.activities.openings[activity.type].opens_with
    candidates = affordable(
        (d for d in world.library.dialogues if d.opens_with in opens_with),
        opens_with_media=any(kind != "text" for kind in opens_with),
        opener_budget=facts.budget(pair.opener),
        responder_budget=facts.budget(pair.responder),
        max_turns=max_turns(opener.phase, responder.phase),
        recently_used=used,
    )
    return pick(candidates, seed=seed)


def _put_off(
    tx: Transaction, world: World, cycle: Cycle, held: Mapping[str, Activity], without: Mapping[str, str]
) -> None:
    """Defer openings that found nobody to open with (chip id -> reason), or expire them.

    An opening with no time left today becomes ``expired`` (domain.md, "A conversation").
    """
    until = cycle.tick + TRY_AGAIN_AFTER
    _, closes = window_bounds(cycle.day, world.policy)
    if until >= closes:
        activities.finish(
            tx,
            [Ending(held[chip_id].id, ActivityState.EXPIRED, reason) for chip_id, reason in without.items()],
            cycle_id=cycle.id,
            at=cycle.tick,
        )
        return
    put_off = [
        Deferral(chip_id, held[chip_id].type, reason, until, activity_id=held[chip_id].id)
        for chip_id, reason in without.items()
    ]
    activities.defer(tx, put_off, pool=cycle.pool, cycle_id=cycle.id, day=cycle.day, at=cycle.tick)
