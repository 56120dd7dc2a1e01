"""No secret and no full phone number in anything an error can show, whatever goes wrong.

Trap guarded: Z-API's token stands in the address, so an unguarded HTTP error prints it; a gateway
that quotes our request back puts keys and phones into its own words.
"""

from __future__ import annotations

import asyncio
import logging
import re
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.domain.privacy import Redactor
from warmup_pipeline.domain.values import ConnectionState, Provider
from warmup_pipeline.gateways.base import (
    AudioNote,
    Channel,
    Gateway,
    GatewayError,
    Observation,
    Picture,
    Received,
    Recovery,
    Text,
)
from warmup_pipeline.gateways.credentials import GatewaySettings
from warmup_pipeline.gateways.http import HttpGateway, RedactedCauseError
from warmup_pipeline_tests.gateways.conftest import (
    AT,
    CHIPS,
    EVOLUTION_OWN_KEY,
    PHONES,
    RECIPIENT_PHONE,
    SECRETS,
    TRACE,
    ZAPI_TOKEN,
    Act,
    answer,
    close_after,
    drip,
    echo,
    hang,
    hub_for,
    reset_after,
    truncated,
    wired,
)

Use = Callable[[Gateway, Channel], Awaitable[Any]]

USES: dict[str, Use] = {
    "text": lambda g, chip: g.send(chip, RECIPIENT_PHONE, Text(f"ligue {RECIPIENT_PHONE}"), TRACE),
    "picture": lambda g, chip: g.send(chip, RECIPIENT_PHONE, Picture(b"x", "image/png", "oi"), TRACE),
    "audio": lambda g, chip: g.send(chip, RECIPIENT_PHONE, AudioNote(b"x", "audio/ogg"), TRACE),
    "read": lambda g, chip: g.mark_read(chip, [Received("3A1", RECIPIENT_PHONE)], AT),
    "state": lambda g, chip: g.connection_state(chip),
    "recover": lambda g, chip: g.recover(chip, ConnectionState.CLOSED),
    "messages": lambda g, chip: g.messages_of(chip, AT, AT, sent_only=False),
    "queue": lambda g, chip: g.queue_of(chip),
    "unqueue": lambda g, chip: g.drop_from_queue(chip, "A-ZAAP-ID"),
    "privacy id": lambda g, chip: g.privacy_id(chip, RECIPIENT_PHONE),
    "number": lambda g, chip: g.own_number(chip),
}

QUOTED = (
    f"to {RECIPIENT_PHONE} (+55 (11) 90000-7734, 55 11 90000 7734, {RECIPIENT_PHONE}@s.whatsapp.net, "
    f"{RECIPIENT_PHONE}:3@s.whatsapp.net) with {' and '.join(SECRETS)} at /token/{ZAPI_TOKEN}/send-text"
)

FAULTS: dict[str, Act] = {
    "reset after": reset_after,
    "closed after": close_after,
    "hang": hang,
    "drip": drip(200, {"x": QUOTED}),
    "cut short": truncated(200, {"x": QUOTED}),
    "giant": answer(200, raw=QUOTED.encode() * 20_000),
    "malformed": answer(200, raw=b"{" + QUOTED.encode()),
    "not text": answer(200, raw=b"\xff" + QUOTED.encode()),
    "quoting success": echo(200),
    "redirect": answer(302, {}, headers={"Location": f"/token/{ZAPI_TOKEN}?key={SECRETS[0]}"}),
    **{f"quoting {status}": echo(status) for status in (400, 401, 403, 404, 429, 500, 503)},
    "quoted error": answer(400, {"error": QUOTED, "response": {"message": [[QUOTED]]}}),
    "quoted page": answer(502, raw=f"<html>{QUOTED}</html>".encode()),
    "no recipient": answer(
        400, {"response": {"message": [{"jid": "x", "exists": False, "number": RECIPIENT_PHONE}]}}
    ),
}


def shown(error: BaseException) -> str:
    """Everything of an error that a log, a row or a debugger's first look would show."""
    parts = list(traceback.format_exception(error))
    link: BaseException | None = error
    while link is not None:
        parts += [repr(link), str(link), repr(link.args)]
        if isinstance(link, GatewayError):
            parts += [repr(link.evidence), link.server]
        link = link.__cause__ or link.__context__
    return "\n".join(parts)


def assert_clean(text: str) -> None:
    assert not [secret for secret in SECRETS if secret in text]
    digits = re.sub(r"[ ().+-]", "", text)
    assert not [phone for phone in PHONES if phone in digits]
    # The area code and number without the country's are a full number too.
    assert not [phone for phone in PHONES if phone[2:] in digits]


async def outcomes(use: Use, hub: Any) -> list[Any]:
    results: list[Any] = []
    for chip in CHIPS:
        try:
            results.append(await use(hub.gateway(chip.provider), chip))
        except GatewayError as error:
            results.append(error)
    return results


def assert_all_clean(results: list[Any]) -> int:
    errors = [result for result in results if isinstance(result, GatewayError)]
    for error in errors:
        assert "\n" not in str(error)
        assert_clean(shown(error))
    for result in results:
        if isinstance(result, (Observation, Recovery)):
            assert_clean(repr(result))
    return len(errors)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_no_error_shows_a_secret_or_a_phone(fault: Act, use: Use, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def scenario() -> list[Any]:
        async with AsyncExitStack() as stack:
            wire, hub = await stack.enter_async_context(
                wired(
                    fault,
                    deadline=0.15 if fault in (FAULTS["hang"], FAULTS["drip"]) else 5.0,
                    simulated=True,
                    credentials={"evolution_instance_keys": {"another": EVOLUTION_OWN_KEY}},
                )
            )
            results = await outcomes(use, hub)
            assert wire.seen
            return results

    results = asyncio.run(scenario())
    failed = assert_all_clean(results)
    if not any(isinstance(result, (Observation, Recovery)) for result in results):
        # Z-API has nothing to ask for deliveries, and takes any 2xx as "marked".
        assert failed >= 1
    assert_clean(caplog.text)


NOTHING_TO_ASK = {"messages": 1, "queue": 1, "unqueue": 1, "privacy id": 1}
"""Uses for which one of the two gateways has no route, and so no error."""


@pytest.mark.parametrize("name", USES)
def test_an_unreachable_server_shows_no_secret_and_no_phone(name: str, refused_port: int) -> None:
    async def scenario() -> list[Any]:
        async with hub_for(f"http://127.0.0.1:{refused_port}") as hub:
            return await outcomes(USES[name], hub)

    assert assert_all_clean(asyncio.run(scenario())) == 2 - NOTHING_TO_ASK.get(name, 0)


class _Telling(httpx.AsyncBaseTransport):
    """Fails as a careless library does: with the whole request in the exception's text and its cause's."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        words = f"{request.url} {request.headers.raw!r} {request.content!r}"
        raise httpx.ReadError(words) from OSError(words)


@pytest.mark.parametrize("name", USES)
def test_an_exception_that_tells_the_request_is_replaced_by_one_that_does_not(name: str) -> None:
    async def scenario() -> list[Any]:
        async with hub_for("http://127.0.0.1:9", transport_factory=_Telling) as hub:
            return await outcomes(USES[name], hub)

    results = asyncio.run(scenario())
    assert assert_all_clean(results) == 2 - NOTHING_TO_ASK.get(name, 0)
    for error in (result for result in results if isinstance(result, GatewayError)):
        assert isinstance(error.__cause__, RedactedCauseError)
        assert "ReadError" in str(error.__cause__)
        assert "OSError" in str(error.__cause__)
        # The frames stay: where it happened is what a traceback is for.
        assert "handle_async_request" in "".join(traceback.format_exception(error))


def test_a_clean_exception_is_kept_as_the_cause() -> None:
    async def scenario() -> list[Any]:
        async with wired(reset_after) as (_, hub):
            return await outcomes(USES["text"], hub)

    for error in asyncio.run(scenario()):
        assert isinstance(error.__cause__, (httpx.ReadError, httpx.RemoteProtocolError))
        assert "Traceback" in shown(error)


def chunks(secret: str) -> Iterator[str]:
    for start in range(len(secret) - 7):
        yield secret[start : start + 8]


@given(before=st.integers(3_900, 4_000), after=st.integers(0, 400), secret=st.sampled_from(SECRETS))
def test_no_part_of_a_secret_is_left_where_long_words_are_cut(before: int, after: int, secret: str) -> None:
    gateway = HttpGateway(None, GatewaySettings(), Redactor(SECRETS), simulated=False)
    # A long token shrinks to three stars, which moves what follows it, and the cut, into the part shown.
    words = f"/token/{'a' * before} {secret}{'y' * after}"
    line = gateway._clean(words)
    assert not [part for part in chunks(secret) if part in line]
    assert len(line) <= 300


@given(st.text(max_size=200))
def test_words_of_a_gateway_are_one_printable_line(words: str) -> None:
    line = HttpGateway(None, GatewaySettings(), Redactor(), simulated=False)._clean(words)
    assert line.isprintable()
    assert line == line.strip()


def test_a_gateway_cannot_write_lines_or_colours_into_a_log() -> None:
    async def scenario() -> str:
        async with wired(answer(400, {"response": {"message": "a\r\nERROR forged\x1b[31m\u2028x"}})) as (
            _,
            hub,
        ):
            with pytest.raises(GatewayError) as caught:
                await USES["text"](hub.gateway(Provider.EVOLUTION), CHIPS[0])
            return str(caught.value)

    assert "a ERROR forged [31m x" in asyncio.run(scenario())
