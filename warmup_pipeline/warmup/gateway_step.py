"""How a step talks to the gateways: one event loop, one hub, for the step's length.

Holds: :func:`run_in_loop`, :func:`open_hub`, :func:`channel_of`, :func:`run_together`, :func:`aside`,
:func:`to_its_end`, :func:`undisturbed`. HTTP clients live inside one event loop and are closed with it (root cause 5
was a client that outlived its loop).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Iterable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from warmup_pipeline.gateways.base import Channel
from warmup_pipeline.gateways.http import MayBegin
from warmup_pipeline.gateways.hub import GatewayHub
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.warmup.collecting import collecting_seldom
from warmup_pipeline.warmup.interrupting import run_until_ended
from warmup_pipeline.warmup.world import World

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

LONGEST: Final = timedelta(seconds=290)
"""How long a cycle may take at most: its lease (domain.md, "The cycle")."""

AT_ONCE: Final = 1200
"""Items of a lane that are worked on at a time: more than a policy lets one server be asked about at once, so
that an instance which hangs holds up no other by it."""

WINDING_UP: Final = timedelta(seconds=20)
"""Time kept at a cycle's end for recording outcomes: no call begins that could outlast it."""


def channel_of(chip: Chip) -> Channel:
    """Return a chip as its gateway knows it."""
    return Channel(chip_id=chip.id, provider=chip.provider, instance=chip.instance, phone=chip.phone)


def seconds_left(world: World, cycle: Cycle) -> float:
    """Return how long calls may still begin in this cycle, in seconds (below zero when it is over).

    Never more than a whole cycle's time: a clock that was set back meanwhile gives no more.
    """
    left = cycle.lease_until - WINDING_UP - world.now()
    return min(left, LONGEST - WINDING_UP).total_seconds()


@asynccontextmanager
async def open_hub(
    world: World, cycle: Cycle, *, at_most: timedelta | None = None, may_begin: MayBegin | None = None
) -> AsyncIterator[GatewayHub]:
    """Open the gateways for one step of a cycle.

    Args:
        world: what the cycle works with.
        cycle: the cycle; every call ends before its own end.
        at_most: every call ends within this time from now, so that later steps have theirs.
        may_begin: whether a call is wanted still when its turn has come (:class:`GatewayHub`).
    """
    left = max(0.0, seconds_left(world, cycle))
    if at_most is not None:
        left = min(left, at_most.total_seconds())
    not_after = asyncio.get_running_loop().time() + left
    async with GatewayHub(
        world.gateways,
        world.redactor,
        simulated=world.is_simulated,
        at=cycle.tick,
        not_after=not_after,
        deadline=world.policy.pace.timeout_seconds,
        max_connections_per_server=world.policy.pace.connections_per_server,
        per_second_per_server=world.policy.pace.requests_per_second_per_server,
        per_second_per_instance=world.policy.pace.requests_per_second_per_instance,
        may_begin=may_begin,
        transport_factory=world.transport_factory,
    ) as hub:
        yield hub


def run_in_loop(world: World, work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Do a step's asynchronous part in an event loop of its own, which is closed with it.

    In virtual time in the world's: what is opened in it is closed within the step all the same.
    """
    if world.loop is not None:
        return world.loop.run_until_complete(work)
    # The collector would walk all that the process holds again and again while thousands of calls are out.
    with collecting_seldom():
        return run_until_ended(work)


async def run_together(
    items: Iterable[ItemT],
    work: Callable[[ItemT], Awaitable[ResultT]],
    *,
    lane: Callable[[ItemT], Hashable],
) -> list[ResultT | Exception]:
    """Do ``work`` on every item, many of them concurrently; an exception is returned in its place, in order.

    Ten thousand coroutines at once are a burden and nothing is gained: a server is asked about a hundred
    things at a time.

    Args:
        items: what is worked on.
        work: asks a gateway about one.
        lane: whom it asks: one that is slow holds up nobody who asks another.

    Raises:
        BaseException: an interruption (:func:`is_interruption`), as it came; every other item is given up.
    """
    all_items = list(items)
    found: dict[int, ResultT | Exception] = {}
    lanes: dict[Hashable, deque[int]] = {}
    for place, item in enumerate(all_items):
        lanes.setdefault(lane(item), deque()).append(place)

    async def go_on(waiting: deque[int]) -> None:
        while waiting:
            place = waiting.popleft()
            try:
                found[place] = await work(all_items[place])
            except Exception as error:  # noqa: BLE001 (told to the caller, in its place)
                found[place] = error
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                # Not we are cancelled, but something in it was: that is this item's trouble alone.
                found[place] = RuntimeError(f"cut off: {error}".rstrip(": "))
            # Where nothing had to be waited for, the calls that are out get their turn all the same.
            await asyncio.sleep(0)

    try:
        async with asyncio.TaskGroup() as tasks:
            for waiting in lanes.values():
                for _ in range(min(AT_ONCE, len(waiting))):
                    tasks.create_task(go_on(waiting))
    except BaseExceptionGroup as several:
        # An interruption by Dagster is put into a group: as one of many nobody would know it for what it is.
        raise several.exceptions[0] from None
    return [found[place] for place in range(len(all_items))]


async def aside(world: World, work: Callable[[], ResultT]) -> ResultT:
    """Do what waits for the database in a thread of its own, while the gateways are listened to.

    In virtual time it is done at once: no time passes in it.

    Raises:
        asyncio.CancelledError: whoever waited is cut off; told when the work has ended, for no thread can be.
    """
    if world.loop is not None:
        return work()
    return await undisturbed(asyncio.to_thread(work))


async def to_its_end(
    world: World, work: Coroutine[Any, Any, ResultT], *, cut_off: Callable[[], None]
) -> ResultT:
    """Do a step's work to its end, though its run is ended meanwhile; see :func:`undisturbed`.

    In virtual time it is only done: a simulation is broken off where it is.
    """
    if world.loop is not None:
        return await work
    return await undisturbed(work, cut_off=cut_off)


async def undisturbed(
    work: Coroutine[Any, Any, ResultT], *, cut_off: Callable[[], None] | None = None
) -> ResultT:
    """Do what must not be left half done to its end, though whoever waits for it is cut off meanwhile.

    Args:
        work: what is done.
        cut_off: told at once when that happens, so that the work may be shorter.

    Raises:
        asyncio.CancelledError: it happened; told at the end. What the work may have failed with is the cause.
    """
    doing = asyncio.create_task(work)
    was_cut_off: asyncio.CancelledError | None = None
    while not doing.done():
        try:
            await asyncio.wait([doing])
        except asyncio.CancelledError as error:
            was_cut_off = error
            if cut_off is not None:
                cut_off()
    if was_cut_off is not None:
        raise was_cut_off from (None if doing.cancelled() else doing.exception())
    return doing.result()


def is_interruption(error: BaseException) -> bool:
    """Whether somebody ends the whole run (Ctrl-C, Dagster's termination), and it is no trouble of one call."""
    return not isinstance(error, Exception | asyncio.CancelledError)


def moment(at: datetime, world: World) -> str:
    """Return an instant as operators read it: local, to the minute."""
    return f"{at.astimezone(world.policy.zone):%Y-%m-%d %H:%M}"
