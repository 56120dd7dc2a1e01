"""The hub's life, and settings that cannot work.

Trap guarded: a missing or broken credential that shows as a stack of HTTP errors, or shows itself.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from warmup_pipeline.domain.failures import Scope, Stage
from warmup_pipeline.domain.privacy import Redactor
from warmup_pipeline.domain.values import FailureClass, Provider
from warmup_pipeline.gateways.base import Channel, GatewayError, Text
from warmup_pipeline.gateways.credentials import GatewaySettings
from warmup_pipeline.gateways.hub import GatewayHub
from warmup_pipeline_tests.gateways.conftest import (
    CLIENT_TOKEN,
    EVOLUTION_ACCEPTED,
    EVOLUTION_CHIP,
    EVOLUTION_KEY,
    EVOLUTION_OWN_KEY,
    RECIPIENT_PHONE,
    SECRETS,
    TRACE,
    ZAPI_CHIP,
    ZAPI_TOKEN,
    answer,
    hub_for,
    settings_for,
    wired,
)


def refused(credentials: dict[str, Any], chip: Channel) -> GatewayError:
    async def scenario() -> tuple[int, GatewayError]:
        async with wired(answer(200, {}), credentials=credentials) as (wire, hub):
            with pytest.raises(GatewayError) as caught:
                await hub.gateway(chip.provider).send(chip, RECIPIENT_PHONE, Text("Oi"), TRACE)
            return wire.connections, caught.value

    connections, error = asyncio.run(scenario())
    assert connections == 0
    return error


@pytest.mark.parametrize(
    ("credentials", "chip", "variable", "scope"),
    [
        ({"evolution_url": None}, EVOLUTION_CHIP, "EVOLUTION_API_URL", Scope.SERVER),
        ({"evolution_key": None}, EVOLUTION_CHIP, "EVOLUTION_API_KEY", Scope.SERVER),
        ({"evolution_key": ""}, EVOLUTION_CHIP, "EVOLUTION_API_KEY", Scope.SERVER),
        ({"zapi_tokens": {}}, ZAPI_CHIP, "WARMUP_SECRETS_FILE", Scope.INSTANCE),
        ({"zapi_tokens": {ZAPI_CHIP.instance: ""}}, ZAPI_CHIP, "WARMUP_SECRETS_FILE", Scope.INSTANCE),
    ],
)
def test_a_missing_credential_names_what_to_set_and_makes_no_request(
    credentials: dict[str, Any], chip: Channel, variable: str, scope: Scope
) -> None:
    error = refused(credentials, chip)
    assert variable in str(error)
    assert (error.failure, error.evidence.scope) == (FailureClass.GATEWAY, scope)
    assert error.evidence.stage is Stage.ANSWERED
    assert error.evidence.bad_credentials
    assert not error.attempted


def test_a_hub_that_is_not_open_has_no_gateways() -> None:
    async def scenario() -> GatewayHub:
        hub = hub_for("http://127.0.0.1:9")
        with pytest.raises(RuntimeError, match="not open"):
            hub.gateway(Provider.EVOLUTION)
        async with hub:
            assert hub.gateway(Provider.EVOLUTION) is hub.gateway(Provider.EVOLUTION)
        return hub

    hub = asyncio.run(scenario())
    with pytest.raises(RuntimeError, match="not open"):
        hub.gateway(Provider.Z_API)


def test_the_redactor_learns_the_hubs_secrets() -> None:
    redactor = Redactor()
    own = {"evolution_instance_keys": {"x": EVOLUTION_OWN_KEY}}
    GatewayHub(settings_for("http://127.0.0.1:9", **own), redactor, simulated=True)
    for secret in SECRETS:
        assert secret not in redactor.text(f"see {secret}!")


def test_settings_show_no_secret() -> None:
    settings = settings_for("http://127.0.0.1:9", evolution_instance_keys={"x": EVOLUTION_OWN_KEY})
    assert not [secret for secret in SECRETS if secret in repr(settings)]
    assert set(settings.secrets()) == set(SECRETS)


def test_a_secret_that_reads_otherwise_in_an_address_is_hidden_in_both_forms() -> None:
    assert set(GatewaySettings(zapi_tokens={"i": "a/b+c=="}).secrets()) == {"a/b+c==", "a%2Fb%2Bc%3D%3D"}


@pytest.mark.parametrize(
    "address",
    [
        "gateway.example.com",
        "ftp://h",
        "http://",
        "https://user:pass@h",
        "http://h?x=1",
        "http://h#x",
        "http://[::",
    ],
)
@pytest.mark.parametrize(
    ("field", "variable"), [("evolution_url", "EVOLUTION_API_URL"), ("zapi_base_url", "ZAPI_BASE_URL")]
)
def test_an_address_that_cannot_work_is_refused_by_the_variables_name(
    address: str, field: str, variable: str
) -> None:
    with pytest.raises(ValueError, match=variable) as caught:
        GatewaySettings(**{field: address})  # type: ignore[arg-type] # one field of several types
    assert "user:pass" not in str(caught.value)


@pytest.mark.parametrize("flaw", ["\n", " ", "é", "\x00"])
@pytest.mark.parametrize(
    ("credentials", "variable"),
    [
        ({"evolution_key": EVOLUTION_KEY}, "EVOLUTION_API_KEY"),
        ({"zapi_client_token": CLIENT_TOKEN}, "ZAPI_CLIENT_TOKEN"),
        ({"evolution_instance_keys": {"x": EVOLUTION_OWN_KEY}}, "evolution: in WARMUP_SECRETS_FILE"),
        ({"zapi_tokens": {"x": ZAPI_TOKEN}}, "zapi: in WARMUP_SECRETS_FILE"),
    ],
)
def test_a_secret_that_no_header_can_carry_is_refused_and_not_shown(
    credentials: dict[str, Any], variable: str, flaw: str
) -> None:
    # Left to the HTTP library, the refusal would quote the value.
    flawed: dict[str, Any] = {
        name: {key: secret + flaw for key, secret in value.items()}
        if isinstance(value, dict)
        else value + flaw
        for name, value in credentials.items()
    }
    with pytest.raises(ValueError, match=variable) as caught:
        GatewaySettings(**flawed)
    assert not [secret for secret in SECRETS if secret in str(caught.value)]


def test_a_base_address_may_have_a_path_and_a_final_slash() -> None:
    async def scenario() -> str:
        async with wired(answer(201, EVOLUTION_ACCEPTED)) as (wire, _):
            settings = settings_for(wire.url, evolution_url=f"{wire.url}/evo/")
            async with hub_for(wire.url, settings=settings) as hub:
                await hub.gateway(Provider.EVOLUTION).send(EVOLUTION_CHIP, RECIPIENT_PHONE, Text("Oi"), TRACE)
            return wire.seen[0].path

    assert asyncio.run(scenario()) == "/evo/message/sendText/julia-01"


def test_a_server_that_speaks_no_tls_is_unreachable_over_https() -> None:
    async def scenario() -> GatewayError:
        async with wired(answer(201, EVOLUTION_ACCEPTED), reset_on_accept=2) as (wire, _):
            settings = settings_for(wire.url, evolution_url=f"https://127.0.0.1:{wire.port}")
            async with hub_for(wire.url, settings=settings) as hub:
                with pytest.raises(GatewayError) as caught:
                    await hub.gateway(Provider.EVOLUTION).connection_state(EVOLUTION_CHIP)
                return caught.value

    error = asyncio.run(scenario())
    assert (error.failure, error.evidence.stage) == (FailureClass.GATEWAY, Stage.CONNECT)


@pytest.mark.parametrize("name", ["httpx", "aiohttp.client"])
def test_the_http_libraries_log_no_requests(name: str) -> None:
    assert not logging.getLogger(name).isEnabledFor(logging.INFO)


def test_a_server_key_holds_no_secret() -> None:
    async def scenario() -> list[str]:
        async with hub_for("http://127.0.0.1:9") as hub:
            return [hub.gateway(chip.provider).server_of(chip) for chip in (EVOLUTION_CHIP, ZAPI_CHIP)]

    assert asyncio.run(scenario()) == ["evolution:127.0.0.1:9", "z-api:127.0.0.1:9"]
