"""The policy model and the shipped presets."""

from __future__ import annotations

import copy
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from warmup_pipeline.domain.metrics import MessageCounts, OpeningBalance, chip_metrics
from warmup_pipeline.domain.phases import PhaseFacts, eligibility
from warmup_pipeline.domain.planning import plan_day
from warmup_pipeline.domain.policy import HARD_CAPS, Policy
from warmup_pipeline.domain.reachability import prove_reachable
from warmup_pipeline.domain.values import PHASE_ORDER, Phase, TrustLevel
from warmup_pipeline_tests.domain.presets import CONSERVATIVE, DEFAULT, PRESETS, raw_preset

# domain.md's tables, written out by hand.
LIMITS = {
    "repouso": (0, 0),
    "setup": (2, 5),
    "primeiros_contatos": (5, 10),
    "expansao": (10, 30),
    "pre_operacao": (15, 50),
    "teste_graduacao": (20, 70),
    "operacao": (30, 100),
}
PLANNING = {
    # least, most, minimum gap, mix CONVERSA_PAR / MARCAR_LIDO / ENVIAR_MIDIA, mean turns
    "setup": (2, 5, 60, (100, 0, 0), 3),
    "primeiros_contatos": (5, 10, 45, (60, 40, 0), 3),
    "expansao": (10, 20, 30, (50, 25, 25), 4),
    "pre_operacao": (15, 30, 20, (50, 20, 30), 4),
    "teste_graduacao": (20, 40, 15, (50, 20, 30), 4),
    "operacao": (5, 10, 60, (60, 40, 0), 4),
}
TO_ENTER = {
    # warming day, sent, received, response, trust, bidirectional
    "setup": (0, 0, 0, None, None, 0),
    "primeiros_contatos": (3, 8, 4, 0.30, 50, 3),
    "expansao": (7, 20, 10, 0.40, 55, 12),
    "pre_operacao": (14, 100, 40, 0.35, 60, 18),
    "teste_graduacao": (21, 150, 50, 0.30, 70, 23),
    "operacao": (28, 200, 60, 0.25, 75, 28),
}
TRUST = {
    "verde": (80, 1.0, 45),
    "amarelo": (60, 0.8, 60),
    "laranja": (40, 0.5, 90),
    "vermelho": (20, 0.2, 120),
    "critico": (0, 0.0, 120),
}
HOURS = (0.5, 0.8, 1.0, 1.2, 0.7, 0.6, 1.0, 1.2, 1.0, 0.8, 0.6, 0.4)


def limits_of(policy: Policy) -> dict[str, tuple[int, int]]:
    return {str(phase): (plan.sends_per_hour, plan.sends_per_day) for phase, plan in policy.phases.items()}


def criteria_of(policy: Policy) -> dict[str, tuple[Any, ...]]:
    return {
        str(phase): (c.warming_day, c.sent, c.received, c.response_rate, c.trust, c.bidirectional)
        for phase, c in policy.to_enter.items()
    }


def test_the_default_preset_has_the_phase_limits_of_the_page_and_they_are_the_caps():
    assert limits_of(DEFAULT) == LIMITS
    assert {str(phase): caps for phase, caps in HARD_CAPS.items()} == LIMITS


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_plans_as_the_page_says(name):
    policy = Policy.model_validate(raw_preset(name))
    kinds = ("CONVERSA_PAR", "MARCAR_LIDO", "ENVIAR_MIDIA")
    planned = {
        str(phase): (
            plan.activities_min,
            plan.activities_max,
            plan.minimum_gap_minutes,
            tuple(plan.mix.get(kind, 0) for kind in kinds),
            plan.mean_dialogue_turns,
        )
        for phase, plan in policy.phases.items()
        if phase is not Phase.REPOUSO
    }
    assert planned == PLANNING
    assert policy.phases[Phase.REPOUSO].activities_max == 0


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_the_pages_trust_levels_hours_and_pair_rules(name):
    policy = Policy.model_validate(raw_preset(name))
    bands = policy.trust_levels
    assert {
        str(level): (band.at_least, band.factor, band.minimum_gap_seconds)
        for level, band in bands.items()
        if level is not TrustLevel.CRITICO
    } == {level: numbers for level, numbers in TRUST.items() if level != "critico"}
    assert (bands[TrustLevel.CRITICO].at_least, bands[TrustLevel.CRITICO].factor) == (0, 0)
    window = policy.window
    assert (window.start_hour, window.end_hour, window.opens) == (8, 20, time(8))
    assert tuple(window.hour_weights[hour] for hour in range(8, 20)) == HOURS
    pairs = policy.pairs
    assert (pairs.max_partners_per_day, pairs.hours_between_openings) == (5, 4)
    assert (pairs.unanswered_turns, pairs.unanswered_rest_hours) == (3, 24)
    brake = policy.brake
    assert (brake.factor, brake.days, brake.restriction_rest_hours) == (0.75, 3, 24)
    assert (policy.max_errors_24h, policy.repouso_hours, policy.late_after_minutes) == (5, 24, 60)
    assert policy.timezone == "America/Sao_Paulo"
    assert policy.pace.timeout_seconds == 10


def test_the_default_preset_has_the_pages_criteria():
    assert criteria_of(DEFAULT) == TO_ENTER


def test_the_conservative_preset_sends_less_and_needs_5_sent_to_leave_setup():
    limits = limits_of(CONSERVATIVE)
    assert [day for _, day in limits.values()] == [0, 3, 8, 18, 35, 55, 55]
    assert [hour for hour, _ in limits.values()] == [hour // 2 for hour, _ in LIMITS.values()]
    expected = TO_ENTER | {"primeiros_contatos": (3, 5, 4, 0.30, 50, 3)}
    assert criteria_of(CONSERVATIVE) == expected


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_reachable_and_bears_its_own_name(name):
    policy = Policy.model_validate(raw_preset(name))
    prove_reachable(policy)
    assert policy.name == name


def test_the_same_numbers_have_the_same_fingerprint_in_any_order_and_others_another():
    raw = raw_preset("default")
    again = Policy.model_validate({key: raw[key] for key in reversed(raw)})
    mixed = copy.deepcopy(raw)
    mixed["phases"] = {
        phase: {**numbers, **({"mix": dict(reversed(numbers["mix"].items()))} if "mix" in numbers else {})}
        for phase, numbers in reversed(raw["phases"].items())
    }
    assert again.fingerprint == Policy.model_validate(mixed).fingerprint == DEFAULT.fingerprint
    mixed["late_after_minutes"] = 61
    assert Policy.model_validate(mixed).fingerprint != DEFAULT.fingerprint
    assert CONSERVATIVE.fingerprint != DEFAULT.fingerprint


def test_a_policy_cannot_be_changed_once_it_is_loaded():
    with pytest.raises(ValueError, match="frozen"):
        DEFAULT.max_errors_24h = 99  # type: ignore[misc]  # the very thing that is refused


REMOVED = object()


def mutated(raw: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Return the raw policy with what ``path`` names replaced, or taken out."""
    changed = copy.deepcopy(raw)
    *above, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    data: Any = changed
    for key in above:
        data = data[key]
    if value is REMOVED:
        del data[last]
    else:
        data[last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            "phases.setup.sends_per_day",
            6,
            ["phases.setup.sends_per_day 6", "cap of 5", "set it to 5 or less"],
        ),
        ("phases.operacao.sends_per_hour", 31, ["phases.operacao.sends_per_hour 31", "set it to 30 or less"]),
        ("phases.repouso.sends_per_day", 1, ["phases.repouso.sends_per_day 1", "set it to 0 or less"]),
        ("phases.setup.sends_per_hour", 50, ["phases.setup", "sends_per_hour 50", "set it to 5 or less"]),
        ("phases.setup.sends_per_day", -1, ["phases.setup.sends_per_day", "greater than or equal to 0"]),
        ("phases.setup.sends_per_day", 2.5, ["phases.setup.sends_per_day", "valid integer"]),
        ("phases.setup.sends_per_day", "many", ["phases.setup.sends_per_day", "valid integer"]),
        ("phases.setup.activities_min", 9, ["phases.setup", "activities_min 9", "set it to 5 or less"]),
        ("phases.setup.mix", {}, ["phases.setup", "mix", "give one a weight"]),
        ("phases.setup.mix", {"conversa": 1}, ["phases.setup.mix.conversa", "match pattern"]),
        ("phases.setup.minimum_gap_minutes", 0, ["phases.setup.minimum_gap_minutes", "equal to 1"]),
        ("phases.setup.mean_dialogue_turns", 7, ["phases.setup.mean_dialogue_turns", "equal to 6"]),
        ("phases.setup.sends_a_day", 5, ["phases.setup.sends_a_day", "not permitted"]),
        ("phases.expansao", REMOVED, ["phases lacks expansao"]),
        ("phases.aquecimento", {"sends_per_hour": 0, "sends_per_day": 0}, ["phases.aquecimento", "'setup'"]),
        ("to_enter.operacao", REMOVED, ["to_enter lacks operacao"]),
        ("to_enter.repouso", {}, ["to_enter has repouso", "remove it"]),
        ("to_enter.expansao.warming_day", 2, ["to_enter.expansao.warming_day 2", "set it to 3 or more"]),
        ("to_enter.expansao.response_rate", 1.5, ["to_enter.expansao.response_rate", "equal to 1"]),
        ("to_enter.expansao.trust", 101, ["to_enter.expansao.trust", "equal to 100"]),
        ("trust_levels.verde", REMOVED, ["trust_levels lacks verde"]),
        ("trust_levels.amarelo.at_least", 80, ["trust_levels.amarelo.at_least 80", "below verde's 80"]),
        ("trust_levels.laranja.factor", 0.9, ["trust_levels.laranja.factor 0.9", "amarelo's 0.8"]),
        ("trust_levels.critico.at_least", 5, ["trust_levels.critico.at_least must be 0"]),
        ("trust_levels.critico.factor", 0.1, ["trust_levels.critico.factor must be 0"]),
        ("trust_levels.verde.factor", 1.1, ["trust_levels.verde.factor", "equal to 1"]),
        ("trust_levels.verde.factor", float("nan"), ["trust_levels.verde.factor", "finite number"]),
        ("window.start_hour", 20, ["window", "start_hour 20", "before end_hour 20"]),
        ("window.hour_weights.12", REMOVED, ["window", "hour_weights lacks hour 12", "give every hour"]),
        ("window.hour_weights.21", 1.0, ["window", "hour 21", "remove it"]),
        ("window.hour_weights", dict.fromkeys(range(8, 20), 0), ["window", "hour_weights", "give one hour"]),
        ("timezone", "Sao Paulo", ["timezone", "America/Sao_Paulo"]),
        ("timezone", "America", ["timezone", "America/Sao_Paulo"]),
        ("timezone", "a" * 5000, ["timezone", "America/Sao_Paulo"]),
        ("brake.factor", 0, ["brake.factor", "greater than 0"]),
        ("pace.timeout_seconds", 30, ["pace.timeout_seconds", "equal to 10"]),
        ("pace.timeout_seconds", 0.001, ["pace.timeout_seconds", "equal to 1"]),
        ("pace.connections_per_server", True, ["pace", "connections_per_server must be a number"]),
        ("repouso_hours", 0, ["repouso_hours", "equal to 1"]),
        ("name", "My Policy!", ["name", "match pattern"]),
        ("phases", REMOVED, ["phases", "required"]),
        ("phases", None, ["phases", "valid"]),
    ],
)
def test_a_bad_number_is_refused_by_its_name_and_with_what_would_work(path, value, words):
    raw = mutated(raw_preset("default"), path, value)
    with pytest.raises(ValueError) as caught:
        Policy.model_validate(raw)
    text = str(caught.value)
    assert [word for word in words if word not in text] == []


def leaves(data: object, path: str = "") -> list[str]:
    """Return the paths of everything in the raw policy, branches and leaves."""
    if not isinstance(data, dict):
        return []
    found = []
    for key, value in data.items():
        here = f"{path}.{key}" if path else str(key)
        found += [here, *leaves(value, here)]
    return found


ANYTHING = st.one_of(
    st.just(REMOVED),
    st.none(),
    st.booleans(),
    st.integers(min_value=-5, max_value=1500),
    st.integers(),
    st.floats(),
    st.floats(min_value=0, max_value=1),
    st.text(max_size=12),
    st.sampled_from(["America", "America/Lima", "UTC", "..", "/etc/passwd", "1e3", "05", "\0"]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(
        st.one_of(st.integers(min_value=-2, max_value=26), st.text(max_size=4), st.sampled_from(Phase)),
        st.integers(min_value=-1, max_value=101),
        max_size=3,
    ),
)
MUTATIONS = st.lists(
    st.tuples(st.sampled_from(leaves(raw_preset("default"))), ANYTHING), min_size=1, max_size=4
)


def load(raw: object) -> Policy | None:
    """Load a policy as its reader does; ``None`` where it is refused."""
    try:
        policy = Policy.model_validate(raw)
        prove_reachable(policy)
    except ValueError:
        return None
    return policy


AT = datetime(2026, 2, 20, 15, tzinfo=UTC)
METRICS = chip_metrics(
    MessageCounts(sent_total=3),
    OpeningBalance(),
    at=AT,
    today=date(2026, 2, 20),
    age_reference=AT - timedelta(days=2),
)


# Other tests cover the loader: traced, five hundred loads take twice as long.
@pytest.mark.no_cover
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.sampled_from(PRESETS), mutations=MUTATIONS)
def test_no_mutated_policy_crashes_the_loader_and_what_is_accepted_can_be_used(name, mutations):
    raw: Any = raw_preset(name)
    for path, value in mutations:
        try:
            raw = mutated(raw, path, value)
        except (KeyError, TypeError, IndexError):
            continue  # an earlier mutation took away what this one names
    policy = load(raw)
    if policy is None:
        return
    for phase in PHASE_ORDER:
        plan = policy.phases[phase]
        assert (plan.sends_per_hour, plan.sends_per_day) <= HARD_CAPS[phase]
        items = plan_day(
            chip_id="chip-1",
            day=date(2026, 2, 20),
            phase=phase,
            trust_level=TrustLevel.VERDE,
            policy=policy,
            executable=frozenset({"CONVERSA_PAR", "ENVIAR_MIDIA", "MARCAR_LIDO"}),
            others_in_pool=5,
        ).items
        assert len(items) <= plan.activities_max
        facts = PhaseFacts(phase, None, 2, timedelta(days=2), METRICS, 50)
        found = eligibility(facts, policy, at=AT, zone=policy.zone)
        assert found.next is phase.next


@settings(max_examples=100, deadline=None)
@given(ANYTHING)
def test_what_is_no_policy_at_all_is_refused(raw):
    assert load(raw) is None
