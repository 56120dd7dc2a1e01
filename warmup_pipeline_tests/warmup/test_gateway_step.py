"""Many at a time: whatever becomes of one item, every other is worked on, and each answer stands in its place."""

from __future__ import annotations

import asyncio

import pytest

from warmup_pipeline.warmup.gateway_step import AT_ONCE, run_together, undisturbed


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
