"""Failure classes, retries, cooldowns."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.domain.failures import (
    SENDER_ERRORS,
    Evidence,
    Scope,
    Stage,
    classify,
    cooldown,
    may_retry,
)
from warmup_pipeline.domain.values import FailureClass


def answer(status: int, text: str = "", **more) -> Evidence:
    return Evidence(Stage.ANSWERED, status=status, text=text, **more)


EVIDENCE = st.builds(
    Evidence,
    stage=st.sampled_from(Stage),
    status=st.one_of(st.none(), st.integers(min_value=100, max_value=599)),
    text=st.one_of(st.text(max_size=20), st.sampled_from(["banned", "rate-overlimit", "spam"])),
    recipient_missing=st.booleans(),
    disconnected=st.booleans(),
    bad_credentials=st.booleans(),
    scope=st.sampled_from(Scope),
    retry_after=st.one_of(st.none(), st.floats(min_value=0, max_value=100_000)),
)


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (Evidence(Stage.AFTER_WRITE), FailureClass.UNKNOWN),
        (Evidence(Stage.CONNECT), FailureClass.GATEWAY),
        (Evidence(Stage.BEFORE_WRITE), FailureClass.TRANSIENT),
        (answer(400, recipient_missing=True), FailureClass.RECIPIENT),
        (answer(500, "Connection Closed", disconnected=True), FailureClass.DISCONNECTED),
        (answer(200, "Connection Closed", disconnected=True), FailureClass.DISCONNECTED),
        (answer(429), FailureClass.RATE_LIMITED),
        (answer(500, "rate-overlimit"), FailureClass.RATE_LIMITED),
        (answer(401), FailureClass.GATEWAY),
        (answer(403, "client-token is not configured", bad_credentials=True), FailureClass.GATEWAY),
        (answer(403, "account restricted"), FailureClass.RESTRICTION),
        (answer(500, "Shadow ban suspected"), FailureClass.RESTRICTION),
        (answer(400, "number is BANNED"), FailureClass.RESTRICTION),
        (answer(500), FailureClass.TRANSIENT),
        (answer(503), FailureClass.TRANSIENT),
        (answer(400), FailureClass.PERMANENT),
        (answer(403), FailureClass.PERMANENT),
        (answer(404), FailureClass.PERMANENT),
    ],
)
def test_each_failure_has_its_class(evidence, expected):
    assert classify(evidence) is expected


def test_the_first_rule_that_matches_decides():
    everything: dict[str, Any] = {
        "status": 429,
        "text": "rate-overlimit, banned",
        "recipient_missing": True,
        "disconnected": True,
        "bad_credentials": True,
    }
    order = []
    for name, without in (
        ("recipient_missing", False),
        ("disconnected", False),
        ("status", 500),
        ("text", "banned"),
        ("bad_credentials", False),
        ("text", ""),
    ):
        order.append(classify(Evidence(Stage.ANSWERED, **everything)))
        everything[name] = without
    order.append(classify(Evidence(Stage.ANSWERED, **everything)))
    assert order == [
        FailureClass.RECIPIENT,
        FailureClass.DISCONNECTED,
        FailureClass.RATE_LIMITED,
        FailureClass.RATE_LIMITED,
        FailureClass.GATEWAY,
        FailureClass.RESTRICTION,
        FailureClass.TRANSIENT,
    ]


@pytest.mark.parametrize("word", ["unblockedness", "spammer9x", "rejectionist", "banneret"])
def test_a_restrictions_words_count_as_words_only(word):
    assert classify(answer(500, word)) is FailureClass.TRANSIENT


@given(EVIDENCE)
def test_what_the_gateway_may_have_acted_on_is_unknown_and_never_sent_again(evidence):
    unknown = evidence.stage is Stage.AFTER_WRITE
    assert (classify(evidence) is FailureClass.UNKNOWN) == unknown
    if unknown:
        assert not may_retry(evidence)


@given(EVIDENCE)
def test_a_retry_is_allowed_only_where_the_gateway_certainly_did_not_act(evidence):
    refused = evidence.stage is Stage.ANSWERED and evidence.status in (429, 503)
    assert may_retry(evidence) == (evidence.stage in (Stage.CONNECT, Stage.BEFORE_WRITE) or refused)


@pytest.mark.parametrize(
    ("evidence", "minutes"),
    [
        (answer(429), 5),
        (answer(429, retry_after=60.0), 5),
        (answer(429, retry_after=900.0), 15),
        (answer(400), 15),
        (answer(403), 60),
        (answer(503), 5),
        (answer(500), 0),
        (answer(404), 0),
        (answer(500, "restricted"), 30),
        (answer(400, "spam"), 30),
        (answer(403, "account restricted"), 60),
        (answer(400, recipient_missing=True), 0),
        (answer(400, disconnected=True), 0),
        (answer(503, disconnected=True), 0),
        (answer(401), 0),
        (answer(403, bad_credentials=True), 0),
        (Evidence(Stage.AFTER_WRITE), 0),
        (Evidence(Stage.CONNECT), 0),
    ],
)
def test_the_sender_rests_as_long_as_the_failure_asks_for(evidence, minutes):
    assert cooldown(classify(evidence), evidence) == timedelta(minutes=minutes)


@given(EVIDENCE)
def test_only_a_failure_of_the_senders_own_channel_makes_it_rest(evidence):
    failure = classify(evidence)
    rest = cooldown(failure, evidence)
    assert rest >= timedelta(0)
    if failure not in SENDER_ERRORS or failure is FailureClass.DISCONNECTED:
        assert rest == timedelta(0)


def test_a_bug_of_ours_makes_no_chip_rest():
    assert cooldown(FailureClass.BUG, answer(403)) == timedelta(0)


def test_the_recipient_the_gateway_and_the_unknown_are_no_error_of_the_sender():
    assert set(FailureClass) - SENDER_ERRORS == {
        FailureClass.UNKNOWN,
        FailureClass.RECIPIENT,
        FailureClass.GATEWAY,
        FailureClass.BUG,
    }


@pytest.mark.parametrize(
    "code",
    ["account_banned", "NUMBER_RESTRICTED", "ACCOUNT_BLOCKED", "accountRestricted", "spam2", "shadow_ban"],
)
def test_a_restriction_is_known_by_its_code_as_well(code):
    assert classify(Evidence(stage=Stage.ANSWERED, status=403, text=code)) is FailureClass.RESTRICTION
