"""Many at a time: whatever becomes of one item, every other is worked on, and each answer stands in its place."""

from __future__ import annotations

import asyncio

import pytest

from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.gateway_step import AT_ONCE, run_in_loop, run_together, undisturbed
from warmup_pipeline_tests.support import open_lab


def test_what_goes_wrong_with_one_item_stands_in_its_place_and_stops_no_other() -> None:
    async def work(number: int) -> int:
        if number == 1:
            raise ValueError("one")
        if number == 2:
            # Not who waits is cancelled, but something that was waited for.
            raise asyncio.CancelledError
        return number

    found = asyncio.run(run_together(range(5), work, lane=lambda number: number % 2))
    assert [type(one) for one in found] == [int, ValueError, RuntimeError, int, int]
    assert (found[0], found[3], found[4]) == (0, 3, 4)


class Interruption(BaseException):
    """As Dagster raises one where a run is terminated, or Ctrl-C is pressed."""


def test_an_interruption_ends_everything_as_what_it_is() -> None:
    async def work(number: int) -> None:
        if number == 3:
            raise Interruption
        await asyncio.sleep(3600)

    with pytest.raises(Interruption):
        asyncio.run(run_together(range(5), work, lane=lambda number: number))


def test_a_lane_in_which_everything_hangs_holds_up_no_other() -> None:
    async def scenario() -> int:
        others = asyncio.Event()
        done = 0

        async def work(item: tuple[str, int]) -> None:
            nonlocal done
            lane, _ = item
            if lane == "hangs":
                await others.wait()
                return
            done += 1
            if done == 10:
                others.set()

        items = [("hangs", n) for n in range(AT_ONCE + 10)] + [("answers", n) for n in range(10)]
        await asyncio.wait_for(run_together(items, work, lane=lambda item: item[0]), 30)
        return done

    assert asyncio.run(scenario()) == 10


@pytest.mark.parametrize("trouble", [None, ValueError("of its own")])
def test_what_must_not_be_left_half_done_is_done_before_who_waited_for_it_is_cut_off(
    trouble: Exception | None,
) -> None:
    async def scenario() -> tuple[list[str], asyncio.CancelledError]:
        said, go_on = [], asyncio.Event()

        async def work() -> None:
            said.append("begun")
            await go_on.wait()
            said.append("ended")
            if trouble is not None:
                raise trouble

        waiting = asyncio.create_task(undisturbed(work()))
        for _ in range(2):
            await asyncio.sleep(0)
            waiting.cancel()
        asyncio.get_running_loop().call_soon(go_on.set)
        with pytest.raises(asyncio.CancelledError) as caught:
            await waiting
        return said, caught.value

    said, cut_off = asyncio.run(scenario())
    assert said == ["begun", "ended"]
    assert cut_off.__cause__ is trouble


def test_what_is_not_cut_off_tells_what_it_found_or_failed_with() -> None:
    async def finds() -> int:
        return 3

    async def fails() -> None:
        raise ValueError("of its own")

    assert asyncio.run(undisturbed(finds())) == 3
    with pytest.raises(ValueError, match="of its own"):
        asyncio.run(undisturbed(fails()))


def test_an_interruption_that_is_raised_in_a_callback_ends_the_step_all_the_same(sqlite_store: Store) -> None:
    async def work() -> None:
        def interrupted() -> None:
            raise Interruption

        asyncio.get_running_loop().call_soon(interrupted)
        await asyncio.sleep(3600)

    with open_lab(sqlite_store) as lab, pytest.raises(Interruption):
        run_in_loop(lab.world, work())


def test_other_trouble_of_a_callback_is_logged_as_ever_and_ends_nothing(
    sqlite_store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> str:
        def fails() -> None:
            raise ValueError("of a callback")

        asyncio.get_running_loop().call_soon(fails)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return "done"

    with open_lab(sqlite_store) as lab:
        assert run_in_loop(lab.world, work()) == "done"
    assert "of a callback" in caplog.text
