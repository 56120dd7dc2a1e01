"""Reading policies: a preset by name, or an operator's YAML file.

Holds: :func:`load_policy`. Every way it can go wrong is a :class:`PolicyError` of one line that
says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from warmup_pipeline.domain.policy import Policy
from warmup_pipeline.domain.reachability import UnreachablePolicy, prove_reachable
from warmup_pipeline.domain.values import LEGACY_ACTIVITY_TYPES
from warmup_pipeline.warmup.activities.registry import default_registry

PRESETS: Final = ("default", "conservative")


class PolicyError(ValueError):
    """A policy cannot be used; the text is one line, whatever is quoted in it."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split()))


class _EachKeyOnce(yaml.SafeLoader):
    """Refuses a key that is said twice: the second value would silently win."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Return a mapping as it is written; one that is merged into it may say a key as well."""
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.composer.ComposerError(
                        None, None, f"{key.value!r} is said twice", key.start_mark
                    )
                seen.add((key.tag, key.value))
        return node


def _text_of(source: str) -> tuple[str, str]:
    if source in PRESETS:
        preset = resources.files("warmup_pipeline") / "data" / "policies" / f"{source}.yaml"
        return source, preset.read_text(encoding="utf-8")
    path = Path(source)
    try:
        return path.name, path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PolicyError(
            f"policy {source!r} is neither a preset ({', '.join(PRESETS)}) nor a file that exists"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"policy file {path.name} cannot be read: {error}") from None


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    # The model names a mapping's key twice, as the key and as "[key]" where the key itself is wrong.
    where = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    said = problem["msg"].removeprefix("Value error, ")
    shown: Any = problem.get("input")
    value = f" (it is {shown!r})" if isinstance(shown, str | int | float | bool) else ""
    return f"{where}: {said}{value}" if where else said


def _unknown_type(raw: Mapping[str, Any], executable: frozenset[str]) -> str | None:
    """Return what is wrong with the first activity type of a mix that nothing here can do, if there is one.

    Such a type is never planned: its share of the day would silently go to the others.
    """
    phases = raw.get("phases")
    for phase, plan in phases.items() if isinstance(phases, dict) else ():
        mix = plan.get("mix") if isinstance(plan, dict) else None
        for kind, weight in mix.items() if isinstance(mix, dict) else ():
            if kind not in executable:
                why = "is of old data and has no executor" if kind in LEGACY_ACTIVITY_TYPES else "is none"
                return (
                    f"phases.{phase}.mix.{kind}: activity type {kind!r} (weight {weight!r}) {why}; "
                    f"give one of {', '.join(sorted(executable))}"
                )
    return None


@lru_cache(maxsize=32)
def parse_policy(text: str, name: str, *, executable: frozenset[str] | None = None) -> Policy:
    """Return the policy that a YAML text holds, proved reachable; once per process for the same text.

    Args:
        text: the YAML.
        name: what to call it.
        executable: the activity types there are; by default those that ship.

    Raises:
        PolicyError: it is no YAML, has a wrong or missing number or an activity type that nothing here can
            do, or a phase cannot be reached.
    """
    try:
        raw = yaml.load(text, Loader=_EachKeyOnce)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PolicyError(f"policy {name} is no valid YAML: {error}") from None
    if not isinstance(raw, dict):
        raise PolicyError(f"policy {name} must be a mapping; copy data/policies/default.yaml and change it")
    unknown = _unknown_type(raw, executable or default_registry().executable)
    if unknown is not None:
        raise PolicyError(f"policy {name}: {unknown}")
    try:
        policy = Policy.model_validate(raw)
        prove_reachable(policy)
    except ValidationError as error:
        raise PolicyError(f"policy {name}: {_first_problem(error)}") from None
    except UnreachablePolicy as error:
        raise PolicyError(f"policy {name}: {error}") from None
    return policy


def load_policy(source: str) -> Policy:
    """Return a preset by its name, or the policy of a YAML file by its path.

    Raises:
        PolicyError: see :func:`parse_policy`; also when there is no such preset or file.
    """
    name, text = _text_of(source)
    return parse_policy(text, name)
