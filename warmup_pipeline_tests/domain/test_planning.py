"""The day's plan."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.domain.limits import effective_limits
from warmup_pipeline.domain.localtime import window_bounds
from warmup_pipeline.domain.planning import OPENINGS, DayPlan, most_openings, plan_day
from warmup_pipeline.domain.policy import Policy
from warmup_pipeline.domain.values import KNOWN_ACTIVITY_TYPES, Phase, TrustLevel
from warmup_pipeline_tests.domain.presets import CONSERVATIVE, DEFAULT, raw_preset

DAY = date(2026, 2, 20)
EXECUTABLE = frozenset({"CONVERSA_PAR", "ENVIAR_MIDIA", "MARCAR_LIDO"})
COUNTS = {
    Phase.REPOUSO: (0, 0),
    Phase.SETUP: (2, 5),
    Phase.PRIMEIROS_CONTATOS: (5, 10),
    Phase.EXPANSAO: (10, 20),
    Phase.PRE_OPERACAO: (15, 30),
    Phase.TESTE_GRADUACAO: (20, 40),
    Phase.OPERACAO: (5, 10),
}
GAPS = {
    Phase.SETUP: 60,
    Phase.PRIMEIROS_CONTATOS: 45,
    Phase.EXPANSAO: 30,
    Phase.PRE_OPERACAO: 20,
    Phase.TESTE_GRADUACAO: 15,
    Phase.OPERACAO: 60,
}
MARKING = tuple(phase for phase in GAPS if phase is not Phase.SETUP)


def plan(chip_id: str = "chip-1", **changed) -> DayPlan:
    arguments = {
        "day": DAY,
        "phase": Phase.EXPANSAO,
        "trust_level": TrustLevel.VERDE,
        "policy": DEFAULT,
        "executable": EXECUTABLE,
        "others_in_pool": 10,
        **changed,
    }
    return plan_day(chip_id=chip_id, **arguments)


def opened(found: DayPlan) -> int:
    return sum(item.type in OPENINGS for item in found.items)


PLANS = {
    "chip_id": st.text(max_size=8),
    "day": st.dates(min_value=date(2015, 1, 1), max_value=date(2035, 1, 1)),
    "phase": st.sampled_from(Phase),
    "trust_level": st.sampled_from(TrustLevel),
    "policy": st.sampled_from([DEFAULT, CONSERVATIVE]),
    "executable": st.frozensets(st.sampled_from(KNOWN_ACTIVITY_TYPES)),
    "others_in_pool": st.integers(min_value=0, max_value=50),
    "braked": st.booleans(),
    "revision": st.integers(min_value=0, max_value=3),
}


@given(**PLANS)
def test_a_plan_keeps_to_the_window_the_gap_the_count_and_whole_minutes(**chip):
    found = plan(**chip)
    dues = [item.due_at for item in found.items]
    opens, closes = window_bounds(chip["day"], chip["policy"])
    assert all(opens <= due < closes for due in dues)
    assert all(due.second == due.microsecond == 0 and due.tzinfo is UTC for due in dues)
    gap = timedelta(minutes=GAPS.get(chip["phase"], 0))
    assert all(later - earlier >= gap for earlier, later in pairwise(dues))
    assert len(dues) <= COUNTS[chip["phase"]][1]
    assert (found.chip_id, found.day, found.phase) == (chip["chip_id"], chip["day"], chip["phase"])


@given(**PLANS)
def test_only_types_with_an_executor_and_a_weight_are_planned(**chip):
    mix = chip["policy"].phases[chip["phase"]].mix
    for item in plan(**chip).items:
        assert item.type in chip["executable"]
        assert mix[item.type] > 0


@given(**PLANS)
def test_no_more_openings_are_planned_than_limit_and_partners_afford(**chip):
    policy, phase = chip["policy"], chip["phase"]
    limit = effective_limits(policy, phase, chip["trust_level"], braked=chip["braked"]).day
    turns = 3 if phase in (Phase.SETUP, Phase.PRIMEIROS_CONTATOS) else 4
    affordable = max(1, limit // turns) if limit else 0
    partners = min(5, chip["others_in_pool"])
    assert opened(plan(**chip)) <= min(affordable, (3 * partners + 1) // 2)


@given(**PLANS)
def test_planning_twice_gives_the_same_plan(**chip):
    assert plan(**chip) == plan(**chip)


@given(**PLANS, minutes=st.integers(min_value=-120, max_value=1500))
def test_a_chip_that_joins_late_gets_what_is_left_of_the_same_plan(minutes, **chip):
    joined = window_bounds(chip["day"], chip["policy"])[0] + timedelta(minutes=minutes)
    whole = plan(**chip)
    assert plan(**chip, not_before=joined).items == tuple(i for i in whole.items if i.due_at >= joined)


def test_what_is_due_at_the_very_minute_of_joining_is_kept():
    whole = plan().items
    assert plan(not_before=whole[3].due_at).items == whole[3:]


def test_joining_at_an_instant_without_a_zone_is_refused():
    naive = datetime(2026, 2, 20, 12)  # noqa: DTZ001 - the very thing that is refused
    with pytest.raises(ValueError, match="time zone"):
        plan(not_before=naive)


@pytest.mark.parametrize("phase", MARKING)
def test_the_count_is_drawn_from_the_whole_range_of_the_phase(phase):
    counts = {len(plan(f"chip-{n}", phase=phase).items) for n in range(600)}
    least, most = COUNTS[phase]
    assert counts == set(range(least, most + 1))


def test_setup_has_conversations_only_and_no_more_than_it_can_afford():
    for n in range(50):
        assert [item.type for item in plan(f"chip-{n}", phase=Phase.SETUP).items] == ["CONVERSA_PAR"]


@pytest.mark.parametrize(
    ("level", "counts"),
    [
        (TrustLevel.AMARELO, range(8, 17)),
        (TrustLevel.LARANJA, range(5, 11)),
        (TrustLevel.VERMELHO, range(2, 5)),
        (TrustLevel.CRITICO, range(1)),
    ],
)
def test_the_count_is_scaled_by_trust(level, counts):
    found = {len(plan(f"chip-{n}", trust_level=level).items) for n in range(400)}
    assert found == set(counts)


def test_the_brake_lowers_what_may_be_opened():
    free = max(opened(plan(f"chip-{n}")) for n in range(100))
    braked = max(opened(plan(f"chip-{n}", braked=True)) for n in range(100))
    assert (free, braked) == (7, 5)


@pytest.mark.parametrize(
    ("others", "most"), [(0, 0), (1, 2), (2, 3), (3, 5), (4, 6), (5, 8), (6, 8), (500, 8)]
)
def test_openings_are_at_most_three_halves_of_the_partners_one_can_have(others, most):
    assert most_openings(DEFAULT.phases[Phase.OPERACAO], 100, others, 5) == most


@pytest.mark.parametrize(("limit", "most"), [(0, 0), (1, 1), (3, 1), (4, 1), (8, 2), (30, 7), (31, 7)])
def test_openings_are_at_most_what_the_day_limit_affords_at_the_mean_length(limit, most):
    assert most_openings(DEFAULT.phases[Phase.EXPANSAO], limit, 50, 5) == most


def test_a_chip_alone_opens_nothing_and_may_still_mark():
    found = plan(others_in_pool=0)
    assert opened(found) == 0
    assert {item.type for item in found.items} == {"MARCAR_LIDO"}


def test_a_chip_alone_whose_phase_only_converses_plans_nothing():
    assert plan(phase=Phase.SETUP, others_in_pool=0).items == ()


def test_without_executors_nothing_is_planned():
    assert plan(executable=frozenset()).items == ()
    stubs = frozenset({"ENTRAR_GRUPO", "MENSAGEM_GRUPO", "ATUALIZAR_PERFIL"})
    assert plan(executable=stubs).items == ()


def test_a_new_type_with_an_executor_and_a_weight_is_planned():
    raw = raw_preset("default")
    raw["phases"]["expansao"]["mix"] = {"REAGIR": 50, "CONVERSA_PAR": 50}
    policy = Policy.model_validate(raw)
    types = {item.type for item in plan(policy=policy, executable=EXECUTABLE | {"REAGIR"}).items}
    assert types == {"REAGIR", "CONVERSA_PAR"}
    assert "REAGIR" not in {item.type for item in plan(policy=policy).items}


def test_where_openings_are_free_the_mix_is_that_of_the_policy():
    raw = raw_preset("default")
    raw["phases"]["expansao"]["mean_dialogue_turns"] = 2
    raw["phases"]["expansao"]["activities_max"] = 10
    policy = Policy.model_validate(raw)
    kinds = Counter(item.type for n in range(400) for item in plan(f"chip-{n}", policy=policy).items)
    share = {kind: times / kinds.total() for kind, times in kinds.items()}
    assert share == {
        "CONVERSA_PAR": pytest.approx(0.5, abs=0.03),
        "MARCAR_LIDO": pytest.approx(0.25, abs=0.03),
        "ENVIAR_MIDIA": pytest.approx(0.25, abs=0.03),
    }


def test_a_plan_differs_by_chip_day_phase_trust_policy_and_revision():
    plans = [
        plan(),
        plan("chip-2"),
        plan(day=DAY + timedelta(days=1)),
        plan(phase=Phase.PRE_OPERACAO),
        plan(trust_level=TrustLevel.AMARELO),
        plan(policy=CONSERVATIVE),
        plan(revision=1),
    ]
    minutes = {tuple((item.due_at.hour, item.due_at.minute) for item in p.items) for p in plans}
    assert len(minutes) == len(plans)


def test_a_plan_is_the_same_in_another_process_with_another_hash_seed():
    code = (
        "from warmup_pipeline_tests.domain.test_planning import plan;"
        "print(*[(i.type, i.due_at.isoformat()) for i in plan().items])"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert seen == {" ".join(str((i.type, i.due_at.isoformat())) for i in plan().items)}


def test_the_order_of_a_policys_mix_does_not_change_the_plan():
    raw = raw_preset("default")
    phase = raw["phases"]["expansao"]
    phase["mix"] = dict(reversed(phase["mix"].items()))
    shuffled = Policy.model_validate(raw)
    assert list(shuffled.phases[Phase.EXPANSAO].mix) != list(DEFAULT.phases[Phase.EXPANSAO].mix)
    assert plan(policy=shuffled) == plan()


def test_busy_hours_get_more_than_quiet_ones():
    hours = Counter(
        item.due_at.astimezone(DEFAULT.zone).hour
        for n in range(2000)
        for item in plan(f"chip-{n}", phase=Phase.OPERACAO, trust_level=TrustLevel.LARANJA).items
    )
    assert set(hours) == set(range(8, 20))
    weights = DEFAULT.window.hour_weights
    for hour, times in hours.items():
        share = weights[hour] / sum(weights.values())
        assert times / hours.total() == pytest.approx(share, abs=0.02)


def test_openings_and_markings_are_mixed_over_the_day():
    first = Counter(plan(f"chip-{n}").items[0].type for n in range(200))
    assert set(first) == EXECUTABLE


def test_an_hour_without_weight_gets_nothing_however_full_the_day():
    raw = raw_preset("default")
    raw["window"]["hour_weights"] |= {12: 0, 13: 0}
    policy = Policy.model_validate(raw)
    hours = Counter(
        item.due_at.astimezone(policy.zone).hour
        for n in range(100)
        for item in plan(f"chip-{n}", phase=Phase.TESTE_GRADUACAO, policy=policy).items
    )
    assert hours[12] == hours[13] == 0
    assert hours[11] > 0
    assert hours[14] > 0


def test_due_times_are_spread_over_the_minutes_of_the_hour():
    minutes = Counter(item.due_at.minute for n in range(1000) for item in plan(f"chip-{n}").items)
    assert set(minutes) == set(range(60))
    assert max(minutes.values()) < 2 * min(minutes.values())


@pytest.mark.parametrize("phase", MARKING)
def test_even_a_full_day_is_no_comb_of_equal_gaps(phase):
    fullest = max((plan(f"chip-{n}", phase=phase) for n in range(200)), key=lambda p: len(p.items))
    gaps = {later.due_at - earlier.due_at for earlier, later in pairwise(fullest.items)}
    assert len(gaps) > 3


def test_what_does_not_fit_into_the_window_is_not_planned_and_openings_go_first():
    raw = raw_preset("default")
    raw["window"] = {"start_hour": 9, "end_hour": 12, "hour_weights": {9: 1, 10: 1, 11: 1}}
    policy = Policy.model_validate(raw)
    for n in range(50):
        # Three hours hold six activities 30 minutes apart; ten or more were drawn.
        found = plan(f"chip-{n}", policy=policy, others_in_pool=2)
        assert len(found.items) == 6
        assert opened(found) == 3


def test_a_day_of_a_clock_change_inside_the_window_keeps_to_local_hours():
    raw = raw_preset("default")
    raw["timezone"] = "Europe/Lisbon"
    raw["window"] = {"start_hour": 0, "end_hour": 4, "hour_weights": {0: 0, 1: 1, 2: 0, 3: 1}}
    policy = Policy.model_validate(raw)
    # On 29 March 2026 Lisbon has no hour from 1 to 2; on 25 October it comes twice.
    for day, expected in ((date(2026, 3, 29), {3}), (date(2026, 10, 25), {1, 3})):
        hours = {
            item.due_at.astimezone(policy.zone).hour
            for n in range(50)
            for item in plan(f"chip-{n}", day=day, policy=policy).items
        }
        assert hours == expected
