"""The traps: an alert told twice, one lost while the receiver was down, a storm of messages."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.domain.alerts import (
    FAILURES_KEPT,
    MERGE_FOR,
    WELL,
    AlertState,
    Condition,
    Failure,
    from_document,
    is_due,
    notice,
    posted,
    to_document,
)

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def look(state: AlertState, *levels: tuple[str, str], failures: tuple[Failure, ...] = ()) -> AlertState:
    return notice(state, [Condition(key, level, f"{key} {level}") for key, level in levels], failures)


def told(state: AlertState) -> list[tuple[str, str, str]]:
    return [(change.now.key, change.before, change.now.level) for change in state.waiting]


def test_what_is_well_from_the_start_is_not_told() -> None:
    state = look(AlertState(), ("a", WELL))
    assert state.is_quiet
    assert not is_due(state, NOW)


def test_turning_bad_is_told_at_once_and_only_once_and_so_is_being_well_again() -> None:
    state = look(AlertState(), ("a", "error"))
    assert told(state) == [("a", WELL, "error")]
    assert is_due(state, NOW)
    state = posted(state, NOW)
    assert look(state, ("a", "error")).is_quiet
    state = look(state, ("a", WELL))
    assert told(state) == [("a", "error", WELL)]
    state = posted(state, NOW + MERGE_FOR)
    assert look(state, ("a", WELL)).is_quiet


def test_what_happens_within_five_minutes_of_a_message_goes_into_the_next_one() -> None:
    state = posted(look(AlertState(), ("a", "warn")), NOW)
    state = look(state, ("a", "warn"), ("b", "error"))
    assert not is_due(state, NOW + MERGE_FOR - timedelta(seconds=1))
    state = look(state, ("a", WELL), ("b", "error"))
    assert is_due(state, NOW + MERGE_FOR)
    assert told(state) == [("b", WELL, "error"), ("a", "warn", WELL)]


def test_while_the_receiver_is_down_nothing_is_lost_and_each_look_tries_again() -> None:
    state = look(AlertState(), ("a", "error"), failures=(Failure("r1", "warmup_cycle"),))
    for minutes in range(60):
        assert is_due(state, NOW + timedelta(minutes=minutes))
        state = look(state, ("a", "error"))
    assert told(state) == [("a", WELL, "error")]
    assert [one.run_id for one in state.failures] == ["r1"]


def test_bad_and_well_again_between_two_messages_is_told_both_ways() -> None:
    state = posted(look(AlertState(), ("b", "warn")), NOW)
    state = look(state, ("b", "warn"), ("a", "error"))
    state = look(state, ("b", "warn"), ("a", WELL))
    assert told(state) == [("a", WELL, "error"), ("a", "error", WELL)]


def test_getting_worse_is_told() -> None:
    state = posted(look(AlertState(), ("a", "warn")), NOW)
    assert told(look(state, ("a", "error"))) == [("a", "warn", "error")]


def test_a_thing_that_is_not_looked_at_keeps_what_was_told_of_it() -> None:
    state = posted(look(AlertState(), ("a", "error")), NOW)
    state = look(state)
    assert state.is_quiet
    assert look(state, ("a", "error")).is_quiet


def test_of_too_many_failed_runs_the_number_is_kept() -> None:
    many = tuple(Failure(f"r{n}", "job") for n in range(FAILURES_KEPT + 7))
    state = look(AlertState(), failures=many)
    assert len(state.failures) == FAILURES_KEPT
    assert state.left_out == 7
    assert state.failures[-1].run_id == many[-1].run_id


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([WELL, "warn", "error"]), st.booleans()),
        max_size=60,
    )
)
def test_whatever_happens_a_reader_of_all_messages_knows_how_things_stand(
    steps: list[tuple[str, str, bool]],
) -> None:
    state = AlertState()
    known: dict[str, str] = {}
    real: dict[str, str] = {}
    now = NOW
    for key, level, taken in steps:
        now += timedelta(minutes=2)
        real[key] = level
        state = look(state, (key, level))
        state = from_document(json.loads(json.dumps(to_document(state))))
        assert len(state.waiting) <= 6, "it stays small"
        if is_due(state, now) and taken:
            for change in state.waiting:
                assert known.get(change.now.key, WELL) == change.before, "no message contradicts another"
                assert change.before != change.now.level, "nothing is told twice"
                known[change.now.key] = change.now.level
            state = posted(state, now)
    if not state.is_quiet:
        for change in state.waiting:
            known[change.now.key] = change.now.level
    assert known == {key: level for key, level in real.items() if level != WELL or key in known}
