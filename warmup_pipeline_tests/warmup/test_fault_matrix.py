"""The trap: a fault that is taken for something it is not, and so repeated, punished or forgotten wrongly.

What each fault must come to, by domain.md, "Failures": its class (first match decides), whether it is
tried once more (only where the gateway certainly did not act), the sender's rest, whether its breaker
counts it, and the state of the row. ``python -m warmup_pipeline_tests.soak faults`` prints the table.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.store import migrate
from warmup_pipeline.store.engine import Store
from warmup_pipeline_tests.soak.faults import FAULTS, Case, Found, measure, table
from warmup_pipeline_tests.support import EVOLUTION_KEY, ZAPI_CLIENT_TOKEN, chip_row


class Expected(NamedTuple):
    failure: str
    requests: int
    cooldown: int
    breaker: int
    row: str


UNKNOWN = Expected("unknown", 1, 0, 0, "unknown")
DISCONNECTED = Expected("disconnected", 1, 0, 1, "failed")

SENDS = {
    "connection refused": Expected("gateway", 2, 0, 0, "failed"),
    "reset before it is written": Expected("transient", 2, 0, 1, "failed"),
    # The request was written: nobody here can know that it was not acted on.
    "reset before it acts": UNKNOWN,
    "reset after it acted": UNKNOWN,
    "hang": UNKNOWN,
    "429": Expected("rate_limited", 2, 5, 1, "failed"),
    "429, Retry-After 1 s": Expected("rate_limited", 2, 5, 1, "failed"),
    "429, Retry-After 600 s": Expected("rate_limited", 1, 10, 1, "failed"),
    "500": Expected("transient", 1, 0, 1, "failed"),
    "503": Expected("transient", 2, 5, 1, "failed"),
    "401": Expected("gateway", 1, 0, 0, "failed"),
    "404 instance": Expected("permanent", 1, 0, 1, "failed"),
    "400 validation": Expected("permanent", 1, 15, 1, "failed"),
    "number without WhatsApp": Expected("recipient", 1, 0, 0, "failed"),
    # At least 30 minutes, and a chip with a restriction rests 24 hours.
    "restriction": Expected("restriction", 1, 24 * 60, 1, "failed"),
    "Connection Closed, 500 text": DISCONNECTED,
    "Connection Closed, 400 list": DISCONNECTED,
    "Connection Closed, 500 list": DISCONNECTED,
    "200 with an error": Expected("permanent", 1, 0, 1, "failed"),
    "malformed JSON": UNKNOWN,
    "wrong content type": UNKNOWN,
    "5 MB body": UNKNOWN,
    "slow drip": UNKNOWN,
}

NEEDS_A_PERSON = "closed, needs a person"
STATES = {
    # What the answer says of the session: a definite state is no failure of the question.
    ("404 instance", Provider.EVOLUTION): Expected("", 1, 0, 0, NEEDS_A_PERSON),
    ("404 instance", Provider.Z_API): Expected("", 1, 0, 0, NEEDS_A_PERSON),
    ("Connection Closed, 500 list", Provider.Z_API): Expected("", 1, 0, 0, NEEDS_A_PERSON),
    ("200 with an error", Provider.EVOLUTION): Expected("", 1, 0, 0, "closed"),
}

ANSWERS_SPOILED = ("malformed JSON", "wrong content type", "5 MB body", "slow drip")


def expected(case: Case) -> Expected:
    send = SENDS[case.fault]
    if case.call == "read":
        if case.provider is Provider.Z_API and case.fault in ANSWERS_SPOILED:
            # Z-API answers a marking with 204, which has no body to spoil.
            return Expected("", 1, 0, 0, "executed")
        # No send: it counts in no limit and no breaker, and nobody rests for it.
        return send._replace(cooldown=0, breaker=0)
    if case.call == "state":
        known = "closed" if send.failure == "disconnected" else "unknown"
        return STATES.get((case.fault, case.provider), Expected(send.failure, send.requests, 0, 0, known))
    return send


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[Case, Found]:
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('faults') / 'warmup.db'}")
    migrate.upgrade(store)
    try:
        return measure(store, deadline=0.5)
    finally:
        store.close()


@pytest.mark.parametrize("fault", FAULTS)
def test_every_call_of_both_gateways_takes_a_fault_for_what_it_is(
    found: dict[Case, Found], fault: str
) -> None:
    cases = {case: one for case, one in found.items() if case.fault == fault}
    assert len(cases) == 10
    seen = {
        case: Expected(one.failure, one.requests, one.cooldown, one.breaker, one.row)
        for case, one in cases.items()
    }
    assert seen == {case: expected(case) for case in cases}


def test_every_failure_keeps_its_traceback(found: dict[Case, Found]) -> None:
    assert [case for case, one in found.items() if not one.traceback] == []


def test_no_failure_shows_a_secret_or_a_phone_in_its_row_or_in_the_log(found: dict[Case, Found]) -> None:
    rows = [chip_row(n, ddd=11) for n in range(1, 2 * len(found) + 1)]
    hidden = [row["phone"] for row in rows] + [EVOLUTION_KEY, ZAPI_CLIENT_TOKEN, "token-of-"]
    shown = {case: [one for one in hidden if one in found[case].words] for case in found}
    assert {case: words for case, words in shown.items() if words} == {}


def test_the_table_shows_every_case_once(found: dict[Case, Found]) -> None:
    lines = table(found).splitlines()[1:]
    calls = ("text", "media", "audio", "read", "state")
    assert sum(line.split().count(call) for line in lines for call in calls) >= len(found)
    for fault in FAULTS:
        assert any(line.startswith(fault) for line in lines)
