"""The trap: a collector that is never switched on again."""

from __future__ import annotations

import gc

import pytest

from warmup_pipeline.warmup.collecting import collecting_later, collecting_seldom


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


def _within(*, fails: bool) -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with collecting_seldom():
        assert gc.isenabled()
        assert gc.get_threshold()[0] > before[0]
        assert gc.get_freeze_count() > frozen
        if fails:
            raise LookupError


def test_after_many_cycles_the_collector_looks_as_often_as_before_and_at_everything() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    _within(fails=False)
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, frozen)
    with pytest.raises(LookupError):
        _within(fails=True)
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, frozen)
