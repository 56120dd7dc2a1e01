"""The trap: a comparison that finds every body equal."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from warmup_pipeline_tests.contract import observed
from warmup_pipeline_tests.contract.observed import differences

BODY: Any = {"a": 1, "b": {"c": "x", "d": [{"e": True}]}, "f?": "x", "g": None}


def changed(**values: Any) -> Any:
    body = {"a": 1, "b": {"c": "x", "d": [{"e": True}]}, "g": None}
    return {name: value for name, value in (body | values).items() if value is not ...}


def test_what_is_equal_key_by_key_has_no_difference() -> None:
    for body in (changed(), changed(f="y"), changed(g="anything"), changed(a=2)):
        assert differences(body, BODY) == []
    assert differences(copy.deepcopy(observed.STATUSES), observed.STATUSES) == []


@pytest.mark.parametrize(
    "body",
    [
        changed(a=...),
        changed(a="1"),
        changed(a=True),
        changed(more=1),
        changed(b=[]),
        changed(b={"c": "x"}),
        changed(b={"c": "x", "d": [{"e": 1}]}),
        changed(b={"c": "x", "d": [{"e": True}, {}]}),
        changed(b={"c": "x", "d": []}),
        [],
        None,
    ],
    ids=repr,
)
def test_a_key_that_is_missing_or_more_and_a_value_of_another_type_are_told(body: Any) -> None:
    assert len(differences(body, BODY)) == 1
