"""The trap: a rule that is not asked, or asked in the wrong order."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.domain.circuit import CLOSED, Circuit
from warmup_pipeline.domain.limits import Limits
from warmup_pipeline.domain.presend import RULES, ChipStanding, SenderFacts, SendFacts, validate
from warmup_pipeline.domain.values import (
    ChipStatus,
    CircuitState,
    ConnectionState,
    Decision,
    Phase,
    Provider,
    TrustLevel,
)
from warmup_pipeline_tests.domain.presets import DEFAULT
from warmup_pipeline_tests.support import MORNING

NOON = MORNING + timedelta(hours=4)
GOOD_CHIP = ChipStanding("a", ChipStatus.WARMING, "julia", ConnectionState.OPEN, NOON)
GOOD = SenderFacts(
    provider=Provider.Z_API,
    phase=Phase.EXPANSAO,
    trust_level=TrustLevel.VERDE,
    killed=False,
    connection_error_at=None,
    circuit=CLOSED,
    cooldown_until=None,
    gateway_failed=False,
    limits=Limits(10, 30),
    sent_in_hour=0,
    oldest_in_hour=None,
    sent_in_day=0,
    last_sent_at=None,
    minimum_gap=timedelta(seconds=45),
)
SEND = SendFacts(NOON, GOOD_CHIP, GOOD, replace(GOOD_CHIP, chip_id="b"), DEFAULT)

# What makes each rule hold, in domain.md's order: code, decision, the change, applies to actions too.
CASES: list[tuple[str, Decision, dict[str, Any], bool]] = [
    ("kill_switch", Decision.BLOCK, {"facts": {"killed": True}}, True),
    ("chip_not_participating", Decision.BLOCK, {"sender": {"status": ChipStatus.PAUSED}}, True),
    ("outside_window", Decision.DEFER, {"at": MORNING + timedelta(hours=12)}, True),
    ("sender_disconnected", Decision.DEFER, {"sender": {"connection": ConnectionState.CLOSED}}, True),
    (
        "recipient_disconnected",
        Decision.DEFER,
        {"recipient": {"connection": ConnectionState.CONNECTING}},
        False,
    ),
    (
        "recent_gateway_error",
        Decision.DEFER,
        {"facts": {"connection_error_at": NOON - timedelta(minutes=14)}},
        False,
    ),
    (
        "circuit_open",
        Decision.DEFER,
        {"facts": {"circuit": Circuit(CircuitState.OPEN, 3, NOON - timedelta(seconds=299))}},
        False,
    ),
    ("cooldown", Decision.DEFER, {"facts": {"cooldown_until": NOON + timedelta(seconds=1)}}, False),
    ("gateway_down", Decision.DEFER, {"facts": {"gateway_failed": True}}, False),
    ("trust_critical", Decision.BLOCK, {"facts": {"trust_level": TrustLevel.CRITICO}}, False),
    ("hour_limit", Decision.DEFER, {"facts": {"sent_in_hour": 10, "oldest_in_hour": NOON}}, False),
    ("day_limit", Decision.DEFER, {"facts": {"sent_in_day": 30}}, False),
    ("min_gap", Decision.DEFER, {"facts": {"last_sent_at": NOON - timedelta(seconds=44)}}, False),
]


def changed(send: SendFacts, change: dict[str, Any]) -> SendFacts:
    for name, value in change.items():
        now = getattr(send, name)
        # A later "at" moves the clock only: the connections were seen at that time too.
        if name == "at":
            seen = {"observed_at": value}
            send = replace(send, at=value, sender=replace(send.sender, **seen))
            if send.recipient is not None:
                send = replace(send, recipient=replace(send.recipient, **seen))
        else:
            send = replace(send, **{name: replace(now, **value)})
    return send


def test_the_rules_stand_in_the_order_of_the_table() -> None:
    assert [rule.code for rule in RULES] == [code for code, *_ in CASES]
    assert [rule.decision for rule in RULES] == [decision for _, decision, *_ in CASES]


def test_a_send_that_no_rule_refuses_is_approved() -> None:
    judgement = validate(SEND)
    assert (judgement.decision, judgement.reason, judgement.is_probe) == (Decision.APPROVE, None, False)


@pytest.mark.parametrize(("code", "decision", "change", "actions_too"), CASES, ids=[c[0] for c in CASES])
def test_each_rule_refuses_with_its_code_and_lets_actions_be_where_it_is_about_sends(
    code: str, decision: Decision, change: dict[str, Any], actions_too: bool
) -> None:
    send = changed(SEND, change)
    judgement = validate(send)
    assert (judgement.decision, judgement.reason) == (decision, code)
    as_action = validate(replace(send, recipient=None, is_send=False))
    assert as_action.reason == (code if actions_too else None)


@given(st.sets(st.integers(0, len(CASES) - 1)))
def test_the_first_rule_that_holds_decides(holding: set[int]) -> None:
    send = SEND
    for number in sorted(holding):
        send = changed(send, {k: v for k, v in CASES[number][2].items() if k != "at"})
    at = next((CASES[n][2]["at"] for n in holding if "at" in CASES[n][2]), None)
    if at is not None:
        # Outside the window everything that is a matter of minutes has ended; what lasts still holds.
        send = changed(send, {"at": at})
        lasting = {"kill_switch", "chip_not_participating", "outside_window"}
        expected = next((CASES[n][0] for n in sorted(holding) if CASES[n][0] in lasting), None)
    else:
        expected = CASES[min(holding)][0] if holding else None
    assert validate(send).reason == expected


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"at": MORNING}, None),
        ({"at": MORNING - timedelta(seconds=1)}, "outside_window"),
        ({"sender": {"observed_at": NOON - timedelta(minutes=15)}}, None),
        ({"sender": {"observed_at": NOON - timedelta(minutes=15, seconds=1)}}, "sender_disconnected"),
        ({"sender": {"observed_at": None}}, "sender_disconnected"),
        ({"sender": {"role": "listener"}}, "chip_not_participating"),
        ({"recipient": {"status": ChipStatus.BANNED}}, "chip_not_participating"),
        ({"facts": {"connection_error_at": NOON - timedelta(minutes=15)}}, None),
        (
            {"facts": {"provider": Provider.EVOLUTION, "connection_error_at": NOON - timedelta(minutes=1)}},
            None,
        ),
        ({"facts": {"cooldown_until": NOON}}, None),
        ({"facts": {"sent_in_hour": 9, "sent_in_day": 29}}, None),
        ({"facts": {"last_sent_at": NOON - timedelta(seconds=45)}}, None),
    ],
)
def test_the_edges_are_where_the_table_says(change: dict[str, Any], reason: str | None) -> None:
    assert validate(changed(SEND, change)).reason == reason


def test_a_breaker_open_for_five_minutes_lets_exactly_a_probe_through() -> None:
    send = changed(SEND, {"facts": {"circuit": Circuit(CircuitState.OPEN, 3, NOON - timedelta(seconds=300))}})
    judgement = validate(send)
    assert judgement.decision is Decision.APPROVE
    assert judgement.is_probe


@pytest.mark.parametrize(
    ("code", "until"),
    [
        ("recent_gateway_error", NOON + timedelta(minutes=1)),
        ("circuit_open", NOON + timedelta(seconds=1)),
        ("cooldown", NOON + timedelta(seconds=1)),
        ("hour_limit", NOON + timedelta(hours=1)),
        ("day_limit", MORNING + timedelta(days=1)),
        ("outside_window", MORNING + timedelta(days=1)),
        ("min_gap", NOON + timedelta(seconds=1)),
        ("gateway_down", None),
    ],
)
def test_a_deferral_says_until_when_where_it_ends_by_itself(code: str, until: Any) -> None:
    change = next(change for name, _, change, _ in CASES if name == code)
    assert validate(changed(SEND, change)).until == until
