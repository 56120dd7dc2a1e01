"""The trap: a collector that is never switched on again."""

from __future__ import annotations

import gc
import threading
from contextlib import ExitStack

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


def test_steps_at_the_same_time_leave_the_collector_as_it_was_before_the_first_of_them() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    one, another = ExitStack(), ExitStack()
    one.enter_context(collecting_seldom())
    another.enter_context(collecting_seldom())
    one.close()
    assert gc.get_threshold()[0] > before[0], "the other goes on"
    another.close()
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, frozen)


def test_what_somebody_put_out_of_the_collectors_sight_stays_out_of_it() -> None:
    gc.freeze()
    try:
        with collecting_seldom():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_a_collector_that_does_not_look_by_itself_is_not_made_to() -> None:
    before = gc.get_threshold()
    gc.set_threshold(0)
    try:
        with collecting_seldom():
            assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)


def test_steps_that_run_without_it_at_the_same_time_let_it_go_on_when_the_last_of_them_ends() -> None:
    inside, may_end = threading.Event(), threading.Event()

    @collecting_later
    def longer() -> None:
        inside.set()
        assert may_end.wait(30)

    thread = threading.Thread(target=longer)
    thread.start()
    assert inside.wait(30)
    is_on_within()
    assert not gc.isenabled(), "the longer one goes on without it"
    may_end.set()
    thread.join()
    assert gc.isenabled()
