"""Guards the rules of a conversation: length, cost, choice, delay (domain.md, "A conversation")."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.domain import conversation as rules
from warmup_pipeline.domain.conversation import Dialogue
from warmup_pipeline.domain.values import EARLY_PHASES, MEDIA_KINDS, MessageKind, Phase

SAO_PAULO = ZoneInfo("America/Sao_Paulo")


def dialogue(dialogue_id: str, turns: int, opens_with: MessageKind = MessageKind.TEXT) -> Dialogue:
    return Dialogue(
        dialogue_id, tuple(f"turno {number} de {dialogue_id}" for number in range(turns)), opens_with
    )


dialogue_lists = st.lists(
    st.builds(
        dialogue,
        st.text(alphabet="abcdefgh", min_size=1, max_size=6),
        st.integers(2, 6),
        st.sampled_from(MessageKind),
    ),
    max_size=20,
    unique_by=lambda one: one.id,
)


def affordable_ids(dialogues: list[Dialogue], **changes: object) -> list[str]:
    arguments: dict[str, object] = {
        "opens_with_media": False,
        "opener_budget": 10,
        "responder_budget": 10,
        "max_turns": 6,
        "recently_used": frozenset(),
    }
    return [one.id for one in rules.affordable(dialogues, **(arguments | changes))]  # type: ignore[arg-type] # mixed kinds


def test_the_numbers_of_a_conversation_are_those_of_the_domain_page():
    assert timedelta(hours=24) == rules.CONVERSATION_LIFETIME
    assert timedelta(days=14) == rules.REPEAT_AFTER
    assert rules.UNANSWERED_CAP == 3
    assert timedelta(hours=24) == rules.UNANSWERED_REST


# --- length and cost ---


@pytest.mark.parametrize("early", sorted(EARLY_PHASES))
@pytest.mark.parametrize("other", list(Phase))
def test_a_conversation_has_at_most_four_turns_while_either_chip_is_in_an_early_phase(
    early: Phase, other: Phase
):
    assert rules.max_turns(early, other) == 4
    assert rules.max_turns(other, early) == 4


@pytest.mark.parametrize("phase", [Phase.EXPANSAO, Phase.PRE_OPERACAO, Phase.TESTE_GRADUACAO, Phase.OPERACAO])
def test_a_conversation_of_two_later_chips_has_at_most_six_turns(phase: Phase):
    assert rules.max_turns(phase, Phase.EXPANSAO) == 6
    assert rules.max_turns(Phase.OPERACAO, phase) == 6


@pytest.mark.parametrize(
    ("turns", "sides"),
    [(0, (0, 0)), (1, (1, 0)), (2, (1, 1)), (3, (2, 1)), (4, (2, 2)), (5, (3, 2)), (6, (3, 3))],
)
def test_the_opener_takes_the_odd_turn(turns: int, sides: tuple[int, int]):
    assert rules.turns_by_side(turns) == sides


@given(st.integers(0, 1000))
def test_both_sides_together_take_every_turn_and_differ_by_at_most_one(turns: int):
    opener, responder = rules.turns_by_side(turns)
    assert opener + responder == turns
    assert opener - responder in (0, 1)


def test_a_negative_number_of_turns_is_refused():
    with pytest.raises(ValueError, match="-1 turns"):
        rules.turns_by_side(-1)


# --- which dialogues two chips can afford ---


def test_a_dialogue_must_fit_the_openers_budget():
    three, five = dialogue("tres", 3), dialogue("cinco", 5)
    assert affordable_ids([three, five], opener_budget=2) == ["tres"]
    assert affordable_ids([three, five], opener_budget=1) == []


def test_a_dialogue_must_fit_the_responders_budget():
    three, four = dialogue("tres", 3), dialogue("quatro", 4)
    assert affordable_ids([three, four], responder_budget=1) == ["tres"]
    assert affordable_ids([three, four], responder_budget=0) == []


def test_a_dialogue_longer_than_the_phases_allow_is_left_out():
    assert affordable_ids([dialogue("curta", 4), dialogue("longa", 5)], max_turns=4) == ["curta"]


def test_a_text_opening_and_a_media_opening_never_share_a_dialogue():
    text = dialogue("texto", 2)
    picture, audio = dialogue("foto", 2, MessageKind.PICTURE), dialogue("audio", 2, MessageKind.AUDIO)
    assert affordable_ids([text, picture, audio], opens_with_media=False) == ["texto"]
    assert affordable_ids([text, picture, audio], opens_with_media=True) == ["foto", "audio"]


def test_a_dialogue_is_never_repeated_even_if_nothing_else_is_left():
    used, fresh = dialogue("usado", 2), dialogue("novo", 2)
    assert affordable_ids([used, fresh], recently_used={"usado"}) == ["novo"]
    assert affordable_ids([used], recently_used={"usado"}) == []


@given(
    dialogues=dialogue_lists,
    with_media=st.booleans(),
    opener=st.integers(0, 4),
    responder=st.integers(0, 4),
    longest=st.integers(2, 6),
    data=st.data(),
)
def test_exactly_the_dialogues_that_break_no_rule_are_affordable(
    dialogues: list[Dialogue],
    with_media: bool,
    opener: int,
    responder: int,
    longest: int,
    data: st.DataObject,
):
    used = data.draw(st.sets(st.sampled_from([one.id for one in dialogues]))) if dialogues else set()
    fitting = rules.affordable(
        dialogues,
        opens_with_media=with_media,
        opener_budget=opener,
        responder_budget=responder,
        max_turns=longest,
        recently_used=used,
    )
    for one in dialogues:
        by_opener = len(one.turns[0::2])
        by_responder = len(one.turns[1::2])
        holds = (
            (one.opens_with in MEDIA_KINDS) is with_media
            and by_opener <= opener
            and by_responder <= responder
            and by_opener + by_responder <= longest
            and one.id not in used
        )
        assert (one in fitting) is holds
    assert list(fitting) == [one for one in dialogues if one in fitting], "the file's order is kept"


# --- choosing one ---


def test_nothing_is_picked_from_nothing():
    assert rules.pick((), seed="atividade") is None


@given(dialogues=dialogue_lists.filter(bool), seed=st.text(max_size=20), data=st.data())
def test_a_pick_depends_on_the_seed_and_not_on_the_order_of_candidates(
    dialogues: list[Dialogue], seed: str, data: st.DataObject
):
    picked = rules.pick(dialogues, seed=seed)
    assert picked in dialogues
    assert rules.pick(data.draw(st.permutations(dialogues)), seed=seed) == picked


@given(dialogues=dialogue_lists.filter(lambda some: len(some) > 1), seed=st.text(max_size=20), data=st.data())
def test_taking_another_candidate_away_does_not_change_the_pick(
    dialogues: list[Dialogue], seed: str, data: st.DataObject
):
    picked = rules.pick(dialogues, seed=seed)
    other = data.draw(st.sampled_from([one for one in dialogues if one != picked]))
    assert rules.pick([one for one in dialogues if one != other], seed=seed) == picked


def test_many_seeds_pick_every_dialogue_about_equally_often():
    dialogues = [dialogue(name, 2) for name in "abcdefghij"]
    picks = [rules.pick(dialogues, seed=f"atividade-{number}") for number in range(2000)]
    counts = [picks.count(one) for one in dialogues]
    assert sum(counts) == 2000
    assert min(counts) > 140, counts
    assert max(counts) < 260, counts


def test_another_process_picks_and_delays_alike():
    """Python's own hash differs between processes: a resumed cycle would send another dialogue."""
    program = (
        "from warmup_pipeline.domain.conversation import Dialogue, pick, reply_delay\n"
        "ds = [Dialogue(i, ('a', 'b')) for i in 'abcdefghij']\n"
        "print([pick(ds, seed=str(n)).id for n in range(20)],"
        " [reply_delay('c', n).total_seconds() for n in range(20)])"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(answers) == 1
    assert answers.pop().strip()


# --- when a reply is due ---


@given(conversation=st.text(max_size=40), turn=st.integers(1, 6))
def test_a_reply_comes_two_to_twenty_whole_minutes_and_seconds_later(conversation: str, turn: int):
    delay = rules.reply_delay(conversation, turn)
    assert timedelta(minutes=2) <= delay <= timedelta(minutes=20)
    assert delay.microseconds == 0
    assert rules.reply_delay(conversation, turn) == delay


@given(shortest=st.integers(0, 60), more=st.integers(0, 60), turn=st.integers(1, 6))
def test_a_reply_delay_stays_within_the_bounds_it_is_given(shortest: int, more: int, turn: int):
    delay = rules.reply_delay("conversa", turn, shortest_minutes=shortest, longest_minutes=shortest + more)
    assert timedelta(minutes=shortest) <= delay <= timedelta(minutes=shortest + more)


def test_reply_delays_spread_over_the_whole_range():
    minutes = [rules.reply_delay(f"conversa-{number}", 2).total_seconds() / 60 for number in range(500)]
    assert min(minutes) < 3
    assert max(minutes) > 19
    assert 10 < sum(minutes) / len(minutes) < 12


def test_each_turn_of_a_conversation_has_its_own_delay():
    assert len({rules.reply_delay("conversa", turn) for turn in range(2, 7)}) > 1


@pytest.mark.parametrize(("shortest", "longest"), [(5, 4), (-1, 3)])
def test_reply_bounds_out_of_order_are_refused(shortest: int, longest: int):
    with pytest.raises(ValueError, match=f"{shortest} to {longest} minutes"):
        rules.reply_delay("conversa", 2, shortest_minutes=shortest, longest_minutes=longest)


def test_a_reply_that_cannot_go_today_goes_after_eight_the_next_morning():
    opens = datetime(2026, 2, 21, 8, 0, tzinfo=SAO_PAULO)
    due = rules.next_day_reply_at(opens, "conversa", 3)
    assert opens + timedelta(minutes=2) <= due <= opens + timedelta(minutes=20)
    assert due == opens + rules.reply_delay("conversa", 3)
    assert due.tzinfo is SAO_PAULO


def test_a_reply_of_the_next_day_keeps_the_bounds_it_is_given():
    opens = datetime(2026, 2, 21, 11, 0, tzinfo=UTC)
    due = rules.next_day_reply_at(opens, "conversa", 3, shortest_minutes=7, longest_minutes=7)
    assert due == opens + timedelta(minutes=7)


def test_a_window_start_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        rules.next_day_reply_at(datetime(2026, 2, 21, 8, 0), "conversa", 3)  # noqa: DTZ001 - the case


# --- two-way ---


@pytest.mark.parametrize(
    ("sides", "two_way"),
    [((0, 0), False), ((1, 0), False), ((0, 1), False), ((3, 0), False), ((1, 1), True), ((2, 3), True)],
)
def test_a_conversation_is_bidirectional_once_each_side_had_a_turn_accepted(
    sides: tuple[int, int], two_way: bool
):
    assert rules.is_bidirectional(sides) is two_way
