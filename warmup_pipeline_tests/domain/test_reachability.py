"""The proof that a policy's phases can be reached."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from warmup_pipeline.domain.policy import Policy
from warmup_pipeline.domain.reachability import UnreachablePolicy, earliest_days, prove_reachable
from warmup_pipeline.domain.values import PHASE_ORDER, Phase
from warmup_pipeline_tests.domain.presets import PRESETS, preset, raw_preset

DAYS_OF_ENTRY = {
    "setup": 1,
    "primeiros_contatos": 3,
    "expansao": 7,
    "pre_operacao": 14,
    "teste_graduacao": 21,
    "operacao": 28,
}


def changed(changes: dict[str, Any], name: str = "default") -> Policy:
    """Return a preset with numbers changed, each named by its path with dots."""
    raw = raw_preset(name)
    for path, value in changes.items():
        *above, last = path.split(".")
        data = raw
        for key in above:
            data = data[key]
        data[last] = value
    return Policy.model_validate(raw)


def refusal(changes: dict[str, Any], name: str = "default") -> str:
    with pytest.raises(UnreachablePolicy) as caught:
        prove_reachable(changed(changes, name))
    return str(caught.value)


@pytest.mark.parametrize("name", PRESETS)
def test_every_phase_of_a_shipped_policy_is_reachable_on_its_own_day(name):
    assert list(earliest_days(preset(name)).items()) == [
        (Phase.REPOUSO, 0),
        (Phase.SETUP, 1),
        (Phase.PRIMEIROS_CONTATOS, 3),
        (Phase.EXPANSAO, 7),
        (Phase.PRE_OPERACAO, 14),
        (Phase.TESTE_GRADUACAO, 21),
        (Phase.OPERACAO, 28),
    ]


def test_the_old_systems_20_sends_by_day_3_are_refused_with_what_would_work():
    assert refusal({"to_enter.primeiros_contatos.sent": 20}) == (
        "to_enter.primeiros_contatos.sent 20 cannot be met by warming day 3: the phases before it allow "
        "10 at most; set it to 10 or less, or to_enter.primeiros_contatos.warming_day to 5 or more"
    )


@pytest.mark.parametrize(
    ("path", "highest"),
    [
        # Two whole days of setup at 5, then four of primeiros_contatos at 10, then seven at 30 …
        ("to_enter.setup.sent", 0),
        ("to_enter.primeiros_contatos.sent", 10),
        ("to_enter.primeiros_contatos.received", 10),
        ("to_enter.expansao.sent", 50),
        ("to_enter.pre_operacao.sent", 260),
        ("to_enter.teste_graduacao.sent", 610),
        ("to_enter.operacao.sent", 1100),
        ("to_enter.operacao.received", 1100),
        # Each opens one and joins one on each of two days.
        ("to_enter.primeiros_contatos.bidirectional", 4),
        ("to_enter.expansao.bidirectional", 28),
        ("to_enter.setup.bidirectional", 0),
        # 4 + 4·6 + 7·14, and then 5 partners three times a day, four hours apart, on 14 days.
        ("to_enter.operacao.bidirectional", 336),
        # 30 + 1.5 (day 3) + 20 + 15 + 3 (4 conversations) + 4.3 (calm) + 1.5 (setup).
        ("to_enter.primeiros_contatos.trust", 75),
        # 30 + 0.5 (day 1) + 15 + 1.4 (calm): nothing can be sent before setup.
        ("to_enter.setup.trust", 46),
    ],
)
def test_the_highest_number_that_works_passes_and_one_more_is_refused(path, highest):
    prove_reachable(changed({path: highest}))
    text = refusal({path: highest + 1})
    assert text.startswith(f"{path} {highest + 1} cannot be met")
    assert f"set it to {highest} or less" in text
    assert "\n" not in text


def test_without_a_rest_between_openings_and_sends_there_are_more_conversations():
    free = {"pairs.hours_between_openings": 0, "trust_levels.verde.minimum_gap_seconds": 0}
    # 4 + 4·6 + 7·14, and then eight opened and eight joined on each of 14 days.
    prove_reachable(changed({**free, "to_enter.operacao.bidirectional": 350}))
    assert "350 at most" in refusal({**free, "to_enter.operacao.bidirectional": 351})


def test_a_response_rate_before_anything_can_be_sent_is_refused():
    text = refusal({"to_enter.setup.response_rate": 0.1})
    assert text.startswith("to_enter.setup.response_rate 0.1 cannot be met")
    assert "set it to 0" in text


@pytest.mark.parametrize(
    "idle",
    [
        {"phases.expansao.sends_per_hour": 0, "phases.expansao.sends_per_day": 0},
        {"phases.expansao.sends_per_hour": 0},
        {"phases.expansao.activities_min": 0, "phases.expansao.activities_max": 0},
        {"phases.expansao.mix": {"MARCAR_LIDO": 100}},
        {"phases.expansao.mix": {"CONVERSA_PAR": 0, "ENVIAR_MIDIA": 0, "MARCAR_LIDO": 1}},
    ],
)
def test_a_phase_in_which_nothing_is_sent_is_named(idle):
    text = refusal(idle)
    assert text.startswith("to_enter.pre_operacao.sent 100 cannot be met by warming day 14")
    assert "50 at most" in text
    assert "phases.expansao." in text


def test_a_phase_in_which_nothing_is_sent_may_stand_where_nothing_depends_on_it():
    idle = {"phases.teste_graduacao.sends_per_hour": 0, "phases.teste_graduacao.sends_per_day": 0}
    prove_reachable(changed(idle))


def test_a_policy_whose_best_trust_level_may_not_send_is_refused():
    levels = {f"trust_levels.{level}.factor": 0 for level in ("verde", "amarelo", "laranja", "vermelho")}
    assert "trust_levels.verde.factor 0" in refusal(levels)


def test_limits_count_as_the_best_trust_level_scales_them():
    levels = {f"trust_levels.{level}.factor": 0.2 for level in ("verde", "amarelo", "laranja")}
    assert "allow 2 at most" in refusal(levels)


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        # One hour a day at 2 an hour.
        ({"window": {"start_hour": 8, "end_hour": 9, "hour_weights": {8: 1}}}, 4),
        # Three hours a day and an hour between sends.
        (
            {
                "window": {"start_hour": 8, "end_hour": 11, "hour_weights": {8: 1, 9: 1, 10: 1}},
                "trust_levels.verde.minimum_gap_seconds": 3600,
            },
            6,
        ),
    ],
)
def test_a_window_too_short_for_the_days_limit_is_seen(changes, most):
    assert f"allow {most} at most" in refusal(changes)


def test_a_chip_sends_at_most_once_a_cycle():
    hour = {"window": {"start_hour": 8, "end_hour": 9, "hour_weights": {8: 1}}}
    easy = {f"to_enter.{phase}": {"warming_day": day} for phase, day in DAYS_OF_ENTRY.items()}
    # 2 on each of 2 days, 5 on 4, 10 on 7, and then 12 five-minute cycles on 7, although 15 may be sent.
    most = 2 * 2 + 4 * 5 + 7 * 10 + 7 * 12
    text = refusal({**hour, **easy, "to_enter.teste_graduacao.sent": most + 1})
    assert f"allow {most} at most" in text


def test_a_conversation_costs_a_send_of_ones_own():
    single = {"phases.setup.sends_per_hour": 1, "phases.setup.sends_per_day": 1}
    text = refusal({**single, "to_enter.primeiros_contatos": {"warming_day": 3, "bidirectional": 3}})
    assert "to_enter.primeiros_contatos.bidirectional 3" in text
    assert "allow 2 at most" in text


def test_media_counts_for_trust_only_after_a_day_in_a_phase_that_sends_it():
    def entered_on(day: int, trust: int) -> dict[str, Any]:
        return {"to_enter.pre_operacao": {"warming_day": day, "trust": trust}}

    # Day 7 without a day in expansao: 30 + 3.5 + 20 + 15 + 15 + 10 + 6; media would add 10.
    prove_reachable(changed(entered_on(7, 99)))
    assert "highest score possible by then is 99" in refusal(entered_on(7, 100))
    prove_reachable(changed(entered_on(8, 100)))


def test_a_longer_repouso_takes_days_from_setup():
    text = refusal({"repouso_hours": 48})
    assert "to_enter.primeiros_contatos.sent 8" in text
    assert "allow 5 at most" in text
    prove_reachable(
        changed(
            {
                "repouso_hours": 48,
                "to_enter.primeiros_contatos.warming_day": 4,
            }
        )
    )


def test_a_phase_is_never_entered_before_the_one_before_it():
    days = earliest_days(changed({"repouso_hours": 96, "to_enter.primeiros_contatos": {"warming_day": 2}}))
    assert days[Phase.SETUP] == days[Phase.PRIMEIROS_CONTATOS] == 4


REMEDY = re.compile(r"^(?P<field>\S+) \S+ cannot be met .*set it to (?P<value>\S+)")
LATER = re.compile(r" or (?P<field>\S+\.warming_day) to (?P<day>\d+) or more")
DEMANDS = st.dictionaries(
    st.builds(
        "to_enter.{}.{}".format,
        st.sampled_from([str(phase) for phase in PHASE_ORDER[1:]]),
        st.sampled_from(["sent", "received", "bidirectional", "trust"]),
    ),
    st.integers(min_value=0, max_value=100),
    min_size=1,
    max_size=4,
)


@given(demands=DEMANDS, name=st.sampled_from(PRESETS))
def test_following_every_remedy_ends_in_a_policy_that_is_accepted(demands, name):
    wanted = dict(demands)
    for _ in range(len(demands) + 1):
        try:
            prove_reachable(changed(wanted, name))
        except UnreachablePolicy as refused:
            found = REMEDY.match(str(refused))
            assert found is not None
            assert found["field"] in wanted
            assert int(found["value"]) < wanted[found["field"]]
            wanted[found["field"]] = int(found["value"])
        else:
            return
    pytest.fail(f"the remedies do not lead to an acceptable policy: {wanted}")


@given(sent=st.integers(min_value=1, max_value=2000), name=st.sampled_from(PRESETS))
def test_waiting_as_long_as_the_remedy_says_is_enough_and_a_day_less_is_not(sent, name):
    demand = {"to_enter.operacao.sent": sent}
    try:
        prove_reachable(changed(demand, name))
    except UnreachablePolicy as refused:
        found = LATER.search(str(refused))
        assert found is not None
        day = int(found["day"])
        assume(day <= 1000)
        prove_reachable(changed({**demand, found["field"]: day}, name))
        with pytest.raises(UnreachablePolicy):
            prove_reachable(changed({**demand, found["field"]: day - 1}, name))
