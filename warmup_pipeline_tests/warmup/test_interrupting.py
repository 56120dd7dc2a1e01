"""The traps: a signal that a callback swallows, one that tears the work apart, one that is forgotten afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from warmup_pipeline.warmup.interrupting import run_until_ended


class Interruption(BaseException):
    """As Dagster raises one where a run is terminated."""


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal whose handler raises, wherever the main thread is."""
    found: signal.Signals = request.param
    before = signal.getsignal(found)

    def handler(_: int, frame: FrameType | None) -> None:
        raise Interruption

    signal.signal(found, handler)
    yield found
    assert signal.getsignal(found) is handler, "it stands where it stood"
    signal.signal(found, before)


def test_the_work_ends_as_it_must_before_the_signal_is_told(number: signal.Signals) -> None:
    said: list[str] = []

    async def work() -> None:
        # In a callback, where an exception would end nothing.
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), number)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            said.append("ended")

    with pytest.raises(Interruption):
        run_until_ended(work())
    assert said == ["ended"]


def test_work_that_has_ended_by_then_does_not_let_the_signal_be_forgotten(number: signal.Signals) -> None:
    async def work() -> None:
        os.kill(os.getpid(), number)

    with pytest.raises(Interruption):
        run_until_ended(work())


def test_a_second_signal_does_not_wait(number: signal.Signals) -> None:
    async def work() -> None:
        os.kill(os.getpid(), number)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            # The second one finds it waiting for something that never comes.
            asyncio.get_running_loop().call_soon(os.kill, os.getpid(), number)
            await asyncio.Event().wait()

    with pytest.raises(Interruption):
        run_until_ended(work())


def test_a_third_signal_is_told_where_it_comes(number: signal.Signals) -> None:
    said: list[str] = []

    async def work() -> None:
        for _ in range(2):
            os.kill(os.getpid(), number)
        try:
            os.kill(os.getpid(), number)
        except Interruption:
            said.append("here")
            raise

    with pytest.raises(Interruption):
        run_until_ended(work())
    assert said == ["here"]


def test_without_a_signal_the_work_tells_what_it_found_or_failed_with() -> None:
    async def finds() -> int:
        return 3

    async def fails() -> None:
        raise ValueError("of its own")

    assert run_until_ended(finds()) == 3
    with pytest.raises(ValueError, match="of its own"):
        run_until_ended(fails())


def test_in_another_thread_than_the_main_one_signals_are_left_alone(number: signal.Signals) -> None:
    found: list[object] = []

    async def work() -> None:
        found.append(signal.getsignal(number))

    before = signal.getsignal(number)
    thread = threading.Thread(target=run_until_ended, args=(work(),))
    thread.start()
    thread.join()
    assert found == [before]


@pytest.mark.parametrize("where", ["a callback", "another task"])
def test_a_third_signal_is_told_though_nobody_hears_what_its_handler_raises(
    number: signal.Signals, where: str
) -> None:
    def three() -> None:
        for _ in range(3):
            os.kill(os.getpid(), number)

    async def another() -> None:
        three()

    async def work() -> None:
        if where == "a callback":
            asyncio.get_running_loop().call_soon(three)
        else:
            kept.append(asyncio.create_task(another()))
        await asyncio.Event().wait()

    kept: list[asyncio.Task[None]] = []
    with pytest.raises(Interruption):
        run_until_ended(work())
    for task in kept:
        assert isinstance(task.exception(), Interruption)


def test_a_signal_while_handlers_are_put_back_leaves_none_of_ours(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, before = signal.signal, {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    is_over: list[bool] = []

    def put_back(one: int, handler: Any) -> Any:
        found = real(one, handler)
        if is_over and one == signal.SIGINT:
            is_over.clear()
            os.kill(os.getpid(), number)
        return found

    async def work() -> None:
        is_over.append(True)

    monkeypatch.setattr(signal, "signal", put_back)
    with pytest.raises(Interruption):
        run_until_ended(work())
    monkeypatch.undo()
    assert {one: signal.getsignal(one) for one in before} == before
