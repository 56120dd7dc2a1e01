"""The trap: a policy with a typing error loads, and the operator learns of it in three weeks, or in a traceback."""

from __future__ import annotations

import copy
from importlib import resources
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from warmup_pipeline.domain.values import Phase
from warmup_pipeline.warmup.policies import PRESETS, PolicyError, parse_policy

DEFAULT = (resources.files("warmup_pipeline") / "data" / "policies" / "default.yaml").read_text("utf-8")


def with_type(kind: str) -> str:
    raw = yaml.safe_load(DEFAULT)
    raw["phases"]["expansao"]["mix"][kind] = 20
    return yaml.safe_dump(raw)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("CONVERSA_PARR", "is none"),
        ("conversa_par", "is none"),
        ("ENTRAR_GRUPO", "has no executor"),
    ],
)
def test_a_mix_with_a_type_that_nothing_can_do_is_refused_with_the_types_there_are(
    kind: str, said: str
) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policy(with_type(kind), "mine.yaml")
    text = str(refused.value)
    assert f"phases.expansao.mix.{kind}" in text
    assert "(weight 20)" in text
    assert said in text
    assert "CONVERSA_PAR, ENVIAR_MIDIA, MARCAR_LIDO" in text


def test_a_type_that_is_registered_besides_may_be_in_a_mix() -> None:
    known = frozenset({"CONVERSA_PAR", "ENVIAR_MIDIA", "MARCAR_LIDO", "LIGAR"})
    found = parse_policy(with_type("LIGAR"), "mine.yaml", executable=known)
    assert "LIGAR" in found.phases[Phase.EXPANSAO].mix


def _paths(data: Any, *above: Any) -> list[tuple[Any, ...]]:
    if not isinstance(data, dict):
        return []
    return [path for key, value in data.items() for path in ((*above, key), *_paths(value, *above, key))]


@st.composite
def mutated_texts(draw: st.DrawFn) -> str:
    """Draw a policy's text of which some characters, or what some keys hold, are something else."""
    if draw(st.booleans()):
        start = draw(st.integers(0, len(DEFAULT)))
        length = draw(st.integers(0, 40))
        return DEFAULT[:start] + draw(st.text(max_size=20)) + DEFAULT[start + length :]
    raw = copy.deepcopy(yaml.safe_load(DEFAULT))
    for path in draw(st.lists(st.sampled_from(_paths(raw)), min_size=1, max_size=3)):
        at: Any = raw
        for key in path[:-1]:
            at = at.get(key) if isinstance(at, dict) else None
        if isinstance(at, dict):
            anything = st.one_of(
                st.none(), st.integers(), st.floats(), st.text(max_size=8), st.just({}), st.just([1])
            )
            key = draw(st.one_of(st.just(path[-1]), st.text(max_size=8), st.integers(-1, 30)))
            at[key] = draw(anything)
    return yaml.safe_dump(raw)


# Other tests cover the loader: traced, five hundred loads take twice as long.
@pytest.mark.no_cover
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated_texts())
def test_five_hundred_mutated_policies_are_loaded_or_refused_in_one_line(text: str) -> None:
    refused = None
    try:
        parse_policy.__wrapped__(text, "mine.yaml")
    except PolicyError as error:
        refused = str(error)
    assert refused is None or (refused.startswith("policy mine.yaml") and "\n" not in refused)


def test_the_presets_load() -> None:
    for name in PRESETS:
        text = (resources.files("warmup_pipeline") / "data" / "policies" / f"{name}.yaml").read_text("utf-8")
        assert parse_policy(text, name).name == name
