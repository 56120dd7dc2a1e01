"""The shipped policies, for the tests of rules. Add here: nothing but reading them."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml

from warmup_pipeline.domain.policy import Policy

PRESETS = ("default", "conservative")


def raw_preset(name: str) -> dict[str, Any]:
    """Return a preset as plain data, anew each time, so that a test may change it."""
    text = files("warmup_pipeline").joinpath(f"data/policies/{name}.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    assert isinstance(data, dict)
    return data


def preset(name: str) -> Policy:
    """Return a preset as a validated policy."""
    return Policy.model_validate(raw_preset(name))


DEFAULT = preset("default")
CONSERVATIVE = preset("conservative")
