"""The trap: a rate that holds back everybody where one instance has to wait.

What is allowed is counted through real sockets, at a rate of one request in a thousand seconds: whatever
came too soon would be seen. How it is spread over time is seen in virtual time.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.gateways.base import Accepted, Channel, GatewayError, Text
from warmup_pipeline.gateways.link import Call, Link, LinkLimits
from warmup_pipeline.warmup.policies import PolicyError, load_policy
from warmup_pipeline.warmup.timelapse.clock import VirtualClock
from warmup_pipeline_tests.gateways.conftest import EVOLUTION_ACCEPTED, RECIPIENT_PHONE, TRACE, answer, wired
from warmup_pipeline_tests.support import MORNING

TAKEN = answer(201, EVOLUTION_ACCEPTED)
ALMOST_NEVER = 0.001


def chip(number: int) -> Channel:
    return Channel(f"chip-{number}", Provider.EVOLUTION, f"i-{number}", "5511900000121")


async def send(hub: Any, sender: Channel) -> Accepted:
    accepted: Accepted = await hub.gateway(sender.provider).send(sender, RECIPIENT_PHONE, Text("Oi"), TRACE)
    return accepted


def tried(**rates: Any) -> tuple[Counter[str], list[int]]:
    """Return which instances' requests came, of three of each of three, and the others' attempts."""

    async def scenario() -> tuple[Counter[str], list[int]]:
        end = asyncio.get_running_loop().time() + 100
        async with wired(TAKEN, not_after=end, **rates) as (wire, hub):
            replies = await asyncio.gather(
                *(send(hub, chip(n)) for n in (0, 1, 2) * 3), return_exceptions=True
            )
        came = Counter(seen.path.rsplit("/", 1)[1] for seen in wire.seen)
        return came, [reply.attempts for reply in replies if isinstance(reply, GatewayError)]

    return asyncio.run(scenario())


def test_each_instance_begins_as_many_requests_as_its_rate_allows_and_the_rest_is_not_attempted() -> None:
    assert tried(per_second_per_instance=ALMOST_NEVER) == ({"i-0": 1, "i-1": 1, "i-2": 1}, [0] * 6)


def test_a_server_is_begun_with_as_often_as_its_rate_allows() -> None:
    came, not_attempted = tried(per_second_per_server=ALMOST_NEVER)
    assert (came.total(), not_attempted) == (1, [0] * 8)


def test_without_a_rate_everything_goes() -> None:
    assert tried() == ({"i-0": 3, "i-1": 3, "i-2": 3}, [])


def test_an_instance_that_waits_for_its_turn_never_delays_the_others() -> None:
    async def scenario() -> tuple[bool, Counter[str]]:
        # Two at a time: what waits for its own turn must hold neither place.
        rates: dict[str, Any] = {"per_second_per_instance": ALMOST_NEVER, "max_connections_per_server": 2}
        async with wired(TAKEN, **rates) as (wire, hub):
            waiting = [asyncio.create_task(send(hub, chip(0))) for _ in range(5)]
            await asyncio.gather(*(send(hub, chip(n)) for n in range(1, 20)))
            still = sum(not task.done() for task in waiting) == 4
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        return still, Counter(seen.path.rsplit("/", 1)[1] for seen in wire.seen)

    still_waiting, came = asyncio.run(scenario())
    assert still_waiting
    assert came == {f"i-{n}": 1 for n in range(20)}


class _Noting(httpx.AsyncBaseTransport):
    """Answers at once and notes when it was asked."""

    def __init__(self) -> None:
        self.at: list[tuple[str, float]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.at.append((request.url.path, asyncio.get_running_loop().time()))
        return httpx.Response(200, content=b"{}")


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({"per_second": 4.0}, [("/a", 0), ("/b", 0.25), ("/a", 0.5), ("/b", 0.75)]),
        ({"per_second_each": 2.0}, [("/a", 0), ("/b", 0), ("/a", 0.5), ("/b", 0.5)]),
        ({"per_second": 8.0, "per_second_each": 1.0}, [("/a", 0), ("/b", 0.125), ("/a", 1), ("/b", 1.125)]),
    ],
)
def test_requests_begin_evenly(rates: dict[str, float], expected: list[tuple[str, float]]) -> None:
    async def scenario() -> list[tuple[str, float]]:
        noting = _Noting()
        link = Link("http://gateway.test", LinkLimits(**rates), lambda: noting)  # type: ignore[arg-type]
        await asyncio.gather(
            *(link.ask(Call("GET", link.url(f"/{i}"), {}), instance=i) for i in ("a", "b", "a", "b"))
        )
        await link.aclose()
        return noting.at

    loop = VirtualClock(MORNING).event_loop()
    try:
        assert loop.run_until_complete(scenario()) == expected
    finally:
        loop.close()


def test_an_instance_that_was_held_up_at_its_server_keeps_its_distance_then() -> None:
    class Slow(_Noting):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            answer = await super().handle_async_request(request)
            await asyncio.sleep(0.6 if request.url.path == "/slow" else 0)
            return answer

    async def scenario() -> list[tuple[str, float]]:
        noting = Slow()
        limits = LinkLimits(connections=1, per_second_each=2.0)
        link = Link("http://gateway.test", limits, lambda: noting)
        await asyncio.gather(
            *(link.ask(Call("GET", link.url(f"/{i}"), {}), instance=i) for i in ("slow", "b", "b"))
        )
        await link.aclose()
        return noting.at

    loop = VirtualClock(MORNING).event_loop()
    try:
        assert loop.run_until_complete(scenario()) == [("/slow", 0), ("/b", 0.6), ("/b", 1.1)]
    finally:
        loop.close()


def test_a_policy_says_the_rates_and_one_that_nobody_could_keep_is_refused(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "warmup_pipeline" / "data" / "policies" / "default.yaml"
    assert load_policy("default").pace.requests_per_second_per_server is None
    # Plans are drawn from the policy's fingerprint: the one it had before there were rates.
    assert load_policy("default").fingerprint == "75f4f0c3eba1"
    own = tmp_path / "own.yaml"
    pace = "pace: {requests_per_second_per_server: 40, requests_per_second_per_instance: 0.5, "
    own.write_text(shipped.read_text().replace("pace: {", pace))
    found = load_policy(str(own)).pace
    assert (found.requests_per_second_per_server, found.requests_per_second_per_instance) == (40, 0.5)
    own.write_text(shipped.read_text().replace("pace: {", "pace: {requests_per_second_per_server: 0, "))
    with pytest.raises(PolicyError, match="requests_per_second_per_server"):
        load_policy(str(own))
