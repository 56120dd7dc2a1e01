"""The clients against the same target: what a warm-up asks, asked as the program asks it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from warmup_pipeline.domain.privacy import Redactor
from warmup_pipeline.domain.values import ConnectionState, MessageState
from warmup_pipeline.gateways.base import Gateway
from warmup_pipeline.gateways.hub import GatewayHub
from warmup_pipeline_tests.contract.conftest import Target

SECRET = "a-secret-for-webhooks"


@pytest.fixture(params=["evolution", "zapi"])
def target(request: pytest.FixtureRequest) -> Target:
    found: Target = request.getfixturevalue(request.param)
    return found


def use(target: Target, work: Callable[[Gateway], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with GatewayHub(target.settings, Redactor(), simulated=target.simulator is not None) as hub:
            return await work(hub.gateway(target.provider))

    return asyncio.run(main())


def test_an_open_session_is_open_and_its_number_its_own(target: Target) -> None:
    target.needs("open", "own_phone")
    channel = target.channel(target.open)
    assert use(target, lambda g: g.connection_state(channel)).state is ConnectionState.OPEN
    assert use(target, lambda g: g.own_number(channel))[-8:] == target.own_phone[-8:]
    assert use(target, lambda g: g.pairing(channel)).connected


def test_a_lost_session_gives_a_qr_code_and_a_pairing_code(target: Target) -> None:
    target.needs("closed", "own_phone")
    channel = target.channel(target.closed)
    shown = use(target, lambda g: g.pairing(channel))
    assert (shown.picture or b"").startswith(b"\x89PNG")
    assert shown.lasts.total_seconds() in {20, 45}
    assert use(target, lambda g: g.pairing(channel, by_code=True)).code


def test_restoring_a_lost_session_does_not_make_it_open(target: Target) -> None:
    target.needs("closed")
    channel = target.channel(target.closed)
    use(target, lambda g: g.restore(channel))
    assert use(target, lambda g: g.connection_state(channel)).state is not ConnectionState.OPEN


def test_numbers_are_looked_up(target: Target) -> None:
    target.needs("open", "to")
    channel = target.channel(target.open)
    found = use(target, lambda g: g.on_whatsapp(channel, [target.to, "5511900000000", target.to]))
    assert found == {target.to: True, "5511900000000": False}


def test_an_unknown_message_has_no_status(target: Target) -> None:
    target.needs("open")
    channel = target.channel(target.open)
    assert use(target, lambda g: g.status_of(channel, "3EB0NOSUCHMESSAGE00000")) is None
    assert MessageState.ACCEPTED


def test_webhooks_are_set_and_found_as_they_were_set(target: Target) -> None:
    target.needs("open", "webhook")
    channel = target.channel(target.open)
    path = target.webhook.partition("//")[2].partition("/")[2]

    async def all_of_it(gateway: Gateway) -> list[str | None]:
        await gateway.set_webhook(channel, target.webhook, SECRET)
        return [
            await gateway.webhook_problem(channel, path, SECRET),
            await gateway.webhook_problem(channel, path, "another secret"),
            await gateway.webhook_problem(channel, "/webhooks/elsewhere", SECRET),
        ]

    right, other_secret, elsewhere = use(target, all_of_it)
    assert right is None
    assert "WARMUP_WEBHOOK_SECRET" in (other_secret or "")
    assert "another address" in (elsewhere or "")
    assert SECRET not in f"{other_secret}{elsewhere}"
