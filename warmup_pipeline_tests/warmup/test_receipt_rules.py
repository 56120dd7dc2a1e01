"""Receipts' rules: one scale whatever their order, a failure that comes late, and who is behind a privacy id.

Guards against: a count that depends on which webhook came first, a late failure that still counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmup_pipeline.domain.values import FailureClass, MessageState
from warmup_pipeline.gateways.base import Listed, Listing
from warmup_pipeline.store import chips, deliveries, migrate, schema
from warmup_pipeline.store.engine import Store, Transaction
from warmup_pipeline.warmup.confirm import Receipt, apply_receipts
from warmup_pipeline.warmup.derive.metrics import compute_metrics
from warmup_pipeline.warmup.resolve import Answers, Question, anonymous_ends, judge
from warmup_pipeline_tests.support import MORNING, Lab, chip_row, due_openings
from warmup_pipeline_tests.warmup.given import chip, found, quiet_lab, the

NOON = MORNING + timedelta(hours=6)
CHIPS = [chip_row(number, ddd=11) for number in (1, 2)]
TOLD = (MessageState.AT_WHATSAPP, MessageState.FAILED, MessageState.DELIVERED, MessageState.READ)


@pytest.fixture
def accepted(clean_store: Store) -> Iterator[tuple[Lab, str]]:
    """One first turn that served two openings was accepted; its id."""
    with quiet_lab(clean_store, CHIPS, at=NOON) as lab:
        yield lab, _accepted_by(lab)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, str]]:
    """The same on SQLite, for tests that put everything back."""
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('receipts') / 'warmup.db'}")
    migrate.upgrade(store)
    with quiet_lab(store, CHIPS, at=NOON) as lab:
        yield lab, _accepted_by(lab)
    store.close()


def _accepted_by(lab: Lab) -> str:
    due_openings(lab, [chip(1), chip(2)])
    lab.cycle()
    (message,) = found(lab, schema.messages)
    assert message["state"] == "accepted"
    return str(message["id"])


def after(
    lab: Lab, message_id: str, calls: list[list[MessageState]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the message and both chips' metrics after receipts came in so many calls; nothing is kept."""
    at = lab.now + timedelta(minutes=5)
    with lab.store.write() as tx:
        tx.lock_pool(lab.pool)
        kept = tx.connection.begin_nested()
        for said in calls:
            apply_receipts(tx, lab.world, [_receipt(message_id, state) for state in said], at=at)
        counts = _counts(tx, lab, message_id, at)
        kept.rollback()
    return counts


def _receipt(message_id: str, state: MessageState) -> Receipt:
    return Receipt(message_id, state, "it failed" if state is MessageState.FAILED else "")


def _counts(
    tx: Transaction, lab: Lab, message_id: str, at: datetime
) -> tuple[dict[str, Any], dict[str, Any]]:
    columns = (schema.messages.c.state, schema.messages.c.confirmed_at)
    query = schema.messages.select().with_only_columns(*columns).where(schema.messages.c.id == message_id)
    message = dict(tx.connection.execute(query).mappings().one())
    metrics = {one: asdict(m) for one, m in compute_metrics(tx, lab.world, lab.pool, at).items()}
    return message, metrics


def ends_as(said: set[MessageState]) -> MessageState:
    """Return the rule, said once more in other words: read, else delivered, else failed, else the rest."""
    for state in (MessageState.READ, MessageState.DELIVERED, MessageState.FAILED, MessageState.AT_WHATSAPP):
        if state in said:
            return state
    return MessageState.ACCEPTED


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_receipts_in_any_order_end_in_the_same_state_and_counts(shared: tuple[Lab, str], count: int) -> None:
    lab, message_id = shared
    for said in itertools.combinations(TOLD, count):
        results = [
            after(lab, message_id, [[state] for state in order]) for order in itertools.permutations(said)
        ]
        assert all(result == results[0] for result in results), said
        assert results[0][0]["state"] == ends_as(set(said))


@settings(max_examples=25)
@given(calls=st.lists(st.lists(st.sampled_from(TOLD), max_size=4), max_size=4))
def test_receipts_that_are_repeated_or_come_together_change_nothing_more(
    shared: tuple[Lab, str], calls: list[list[MessageState]]
) -> None:
    lab, message_id = shared
    said = {state for call in calls for state in call}
    once = after(lab, message_id, [sorted(said)])
    assert after(lab, message_id, calls) == once
    assert after(lab, message_id, calls + calls) == once


def test_a_delivered_message_stays_confirmed_since_its_first_confirmation(accepted: tuple[Lab, str]) -> None:
    lab, message_id = accepted
    first, later = lab.now, lab.now + timedelta(minutes=5)
    for at, state in (
        (first, MessageState.DELIVERED),
        (later, MessageState.FAILED),
        (later, MessageState.AT_WHATSAPP),
        (later, MessageState.DELIVERED),
        (later, MessageState.READ),
    ):
        with lab.store.write() as tx:
            tx.lock_pool(lab.pool)
            apply_receipts(tx, lab.world, [_receipt(message_id, state)], at=at)
    message = the(lab, schema.messages, id=message_id)
    assert (message["state"], message["confirmed_at"]) == ("read", first)
    assert the(lab, schema.conversations)["state"] == "open", "a failure after delivery is noise"


def fail_late(lab: Lab, message_id: str, failure: FailureClass = FailureClass.TRANSIENT) -> None:
    with lab.store.write() as tx:
        tx.lock_pool(lab.pool)
        told = Receipt(message_id, MessageState.FAILED, "shadow ban", failure)
        apply_receipts(tx, lab.world, [told], at=lab.now)


def test_a_late_failure_takes_back_what_the_message_had_counted_for(accepted: tuple[Lab, str]) -> None:
    lab, message_id = accepted
    message = the(lab, schema.messages, id=message_id)
    sender, recipient = message["sender_chip_id"], message["recipient_chip_id"]

    def counted() -> list[int]:
        with lab.store.read() as tx:
            metrics = compute_metrics(tx, lab.world, lab.pool, lab.now)
        own, other = metrics[sender], metrics[recipient]
        return [
            own.sent_total,
            other.received_total,
            own.partners_today,
            other.partners_today,
            own.errors_24h,
        ]

    assert counted() == [1, 1, 1, 1, 0]
    fail_late(lab, message_id)
    assert counted() == [0, 0, 0, 0, 1]
    failed = the(lab, schema.messages, id=message_id)
    assert (failed["state"], failed["failure_class"]) == ("failed", "transient")
    assert "told its failure" in failed["traceback"]
    conversation = the(lab, schema.conversations)
    assert (conversation["state"], conversation["reason"]) == ("closed", "turn_failed")
    opening = [conversation[name] for name in ("turns_accepted", "opened_at", "opened_day")]
    assert opening == [0, None, None]
    (own,) = found(lab, schema.activities, chip_id=sender, conversation_id=conversation["id"])
    assert (own["state"], own["reason"]) == ("failed", "transient")
    (others,) = found(lab, schema.activities, chip_id=recipient, state="planned")
    assert others["conversation_id"] is None, "it was not attempted: it is due again"
    # Nothing was opened, so the pair need not wait four hours.
    lab.cycle()
    assert the(lab, schema.activities, id=others["id"])["state"] == "executed"


def test_a_late_restriction_brakes_the_chip_and_rests_it_24_hours(accepted: tuple[Lab, str]) -> None:
    lab, message_id = accepted
    at = lab.now
    fail_late(lab, message_id, FailureClass.RESTRICTION)
    sender = the(lab, schema.messages, id=message_id)["sender_chip_id"]
    row = the(lab, schema.chips, id=sender)
    assert (row["cooldown_until"], row["cooldown_reason"]) == (at + timedelta(hours=24), "restriction")
    signal = the(lab, schema.brake_signals)
    assert (signal["chip_id"], signal["kind"], signal["at"]) == (sender, "restriction", at)


SENDERS_ID, STRANGERS_ID = "81896604192873@lid", "11223344556677@lid"


@pytest.fixture
def unknown(shared: tuple[Lab, str]) -> Question:
    """The same turn, had nobody noted its outcome, an hour later."""
    lab, message_id = shared
    with lab.store.read() as tx:
        everyone = {one.id: one for one in chips.of_pool(tx, lab.pool)}
        message = deliveries.among(tx, [message_id], [MessageState.ACCEPTED])[message_id]
    message = replace(message, state=MessageState.UNKNOWN, gateway_message_id=None)
    sender, recipient = everyone[message.sender_chip_id], everyone[message.recipient_chip_id]
    return Question(message, sender, recipient, "oi, tudo bem?", message.sent_at, timedelta(hours=1))


def listed(question: Question, *addresses: str, text: str = "oi, tudo bem?") -> Answers:
    """Return what gateways list when the receiving chip shows one message from these addresses.

    The sender's own list is complete, has another message of ours, and lacks this one.
    """
    kind, others = question.message.kind, frozenset({"5511900000009@s.whatsapp.net"})
    theirs = Listed(
        "3EB0THEIRS", sent=False, addresses=frozenset(addresses), kind=kind, text=text, at=question.around
    )
    ours = Listed("3EB0OURS", sent=True, addresses=others, kind=kind, text="")
    sender, recipient = question.sender.id, question.recipient.id
    return Answers(
        sent={sender: Listing((ours,))},
        received={recipient: Listing((theirs,) if addresses else ())},
        server=dict.fromkeys((sender, recipient), "one"),
    )


OURS = {"3EB0OURS"}


def test_a_turn_listed_under_a_privacy_id_is_found_once_it_is_known_to_be_the_senders(
    unknown: Question,
) -> None:
    answers = listed(unknown, SENDERS_ID)
    assert judge([unknown], answers, OURS) == [], "whose it is was not asked yet"
    assert anonymous_ends(unknown, answers, OURS) == [(unknown.recipient.id, unknown.sender)]
    answers.privacy_ids[unknown.sender.id] = SENDERS_ID
    assert anonymous_ends(unknown, answers, OURS) == []
    (finding,) = judge([unknown], answers, OURS)
    assert finding.listed is not None
    assert finding.listed.message_id == "3EB0THEIRS"


def test_the_same_words_from_another_privacy_id_are_not_the_senders(unknown: Question) -> None:
    answers = listed(unknown, STRANGERS_ID)
    answers.privacy_ids[unknown.sender.id] = SENDERS_ID
    assert [one for one in judge([unknown], answers, OURS) if one.listed is not None] == []


def test_a_number_beside_a_privacy_id_tells_without_a_look_up(unknown: Question) -> None:
    answers = listed(unknown, SENDERS_ID, f"{unknown.sender.phone}@s.whatsapp.net")
    assert anonymous_ends(unknown, answers, OURS) == []
    (finding,) = judge([unknown], answers, OURS)
    assert finding.listed is not None


def test_a_turn_that_neither_end_lists_was_never_accepted_unless_somebody_unnamed_may_be_the_sender(
    unknown: Question,
) -> None:
    (finding,) = judge([unknown], listed(unknown), OURS)
    assert finding.listed is None
    assert judge([unknown], listed(unknown, STRANGERS_ID, text="other words"), OURS) == []


def test_nobody_is_looked_up_for_other_words(unknown: Question) -> None:
    assert anonymous_ends(unknown, listed(unknown, SENDERS_ID, text="other words"), OURS) == []
