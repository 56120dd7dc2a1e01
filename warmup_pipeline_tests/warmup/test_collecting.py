"""The trap: a collector that is never switched on again."""

from __future__ import annotations

import gc

import pytest

from warmup_pipeline.warmup.collecting import collecting_later


@collecting_later
def is_on_within(*, fails: bool = False) -> bool:
    if fails:
        raise LookupError
    return gc.isenabled()


def test_a_step_runs_without_the_collector_which_goes_on_whatever_became_of_it() -> None:
    assert gc.isenabled()
    assert not is_on_within()
    assert gc.isenabled()
    with pytest.raises(LookupError):
        is_on_within(fails=True)
    assert gc.isenabled()


def test_where_somebody_has_switched_it_off_it_stays_off() -> None:
    gc.disable()
    try:
        is_on_within()
        assert not gc.isenabled()
    finally:
        gc.enable()
