"""Both clients against the simulator over real sockets; the simulator's own log is the truth.

Trap guarded: a client and its hand-written answers that agree with each other and with nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from warmup_pipeline.domain.failures import Stage
from warmup_pipeline.domain.values import ConnectionState, FailureClass, MessageState, Provider
from warmup_pipeline.gateways.base import (
    AudioNote,
    Channel,
    Content,
    Gateway,
    GatewayError,
    Picture,
    Received,
    Text,
    Trace,
)
from warmup_pipeline.gateways.hub import GatewayHub
from warmup_pipeline.gateways.simulator import (
    FaultMatch,
    FaultRule,
    RunningSimulator,
    SimulatedInstance,
    SimulatorCore,
    SimulatorSettings,
    run_in_thread,
)
from warmup_pipeline_tests.gateways.conftest import (
    AT,
    CLIENT_TOKEN,
    EVOLUTION_CHIP,
    EVOLUTION_KEY,
    RECIPIENT_PHONE,
    SENDER_PHONE,
    TRACE,
    ZAPI_CHIP,
    ZAPI_TOKEN,
    hub_for,
    settings_for,
    states_of,
)

# A number whose ninth digit WhatsApp does not know: it is one address in the request, another at arrival.
FORTALEZA_PHONE = "5585987654321"
PICTURE = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
    b"\x00\x00\x00\nIDATx\x9cc\x00\x01\x00\x00\x05\x00\x01\r\n-\xb4\x00\x00\x00\x00IEND\xaeB`\x82"
)
AUDIO = b"OggS" + bytes(60)
CONTENTS: dict[str, Content] = {
    "text": Text("Oi, tudo bem?"),
    "picture": Picture(PICTURE, "image/png", "bom dia"),
    "audio": AudioNote(AUDIO, "audio/ogg"),
}
OTHER = Channel("chip-o", Provider.EVOLUTION, "julia-02", RECIPIENT_PHONE)
NORTH = Channel("chip-n", Provider.EVOLUTION, "julia-03", FORTALEZA_PHONE)


def instance(chip: Channel, token: str, **options: Any) -> SimulatedInstance:
    return SimulatedInstance(
        provider=chip.provider, name=chip.instance, phone=chip.phone, token=token, **options
    )


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    settings = SimulatorSettings(evolution_key=EVOLUTION_KEY, zapi_client_token=CLIENT_TOKEN)
    with SimulatorCore(settings) as core, run_in_thread(core) as running:
        yield running


@pytest.fixture
def core(simulator: RunningSimulator) -> SimulatorCore:
    """The simulator with all chips connected, nothing sent and no faults."""
    core = simulator.core
    declare(core)
    core.faults.replace([])
    return core


def declare(core: SimulatorCore, **options: Any) -> None:
    core.state.begin()
    core.state.wipe(instances=True)
    core.state.commit()
    core.declare(
        [
            instance(EVOLUTION_CHIP, "evo-1", **options),
            # The same phone cannot be two chips: the Z-API one has another.
            SimulatedInstance(
                provider=Provider.Z_API,
                name=ZAPI_CHIP.instance,
                phone="5511900008618",
                token=ZAPI_TOKEN,
                **options,
            ),
            instance(OTHER, "evo-2"),
            instance(NORTH, "evo-3"),
        ],
        overwrite=True,
    )


def run(simulator: RunningSimulator, scenario: Callable[[GatewayHub], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        async with hub_for(simulator.base_url, **{"simulated": True, "at": AT, **options}) as hub:
            return await scenario(hub)

    return asyncio.run(main())


def messages(core: SimulatorCore) -> list[Any]:
    core.state.begin()
    found = list(core.state.messages_since(0, 1000))
    core.state.commit()
    return found


async def send(
    hub: GatewayHub, chip: Channel, content: Content = CONTENTS["text"], to_phone: str = RECIPIENT_PHONE
) -> Any:
    return await hub.gateway(chip.provider).send(chip, to_phone, content, TRACE)


async def caught(call: Awaitable[Any]) -> GatewayError | None:
    try:
        await call
    except GatewayError as error:
        return error
    return None


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("chip", [EVOLUTION_CHIP, ZAPI_CHIP], ids=["evolution", "z-api"])
def test_every_kind_of_turn_is_accepted_once_as_what_it_is(
    simulator: RunningSimulator, core: SimulatorCore, chip: Channel, content: Content
) -> None:
    accepted = run(simulator, lambda hub: send(hub, chip, content))
    (message,) = messages(core)
    assert (message.wa_id, message.queue_id) == (accepted.message_id, accepted.queue_id)
    assert message.kind == {Text: "text", Picture: "picture", AudioNote: "audio"}[type(content)]
    assert message.trace == "m-1;conversation=c-1;turn=1"
    if isinstance(content, (Picture, AudioNote)):
        assert message.media_bytes == len(content.data)


@pytest.mark.parametrize("chip", [EVOLUTION_CHIP, ZAPI_CHIP], ids=["evolution", "z-api"])
@pytest.mark.parametrize(
    ("declared", "expected"),
    [("open", ConnectionState.OPEN), ("close", ConnectionState.CLOSED)],
)
def test_the_state_is_what_the_simulator_says(
    simulator: RunningSimulator, core: SimulatorCore, chip: Channel, declared: Any, expected: ConnectionState
) -> None:
    declare(core, state=declared)
    observed = run(simulator, lambda hub: hub.gateway(chip.provider).connection_state(chip))
    assert observed.state is expected
    assert observed.needs_person is None


@pytest.mark.parametrize("chip", [EVOLUTION_CHIP, ZAPI_CHIP], ids=["evolution", "z-api"])
def test_a_closed_session_comes_back_by_one_recovery(
    simulator: RunningSimulator, core: SimulatorCore, chip: Channel
) -> None:
    declare(core, state="close")

    def at(minutes: int) -> dict[str, Any]:
        return {"at": AT + timedelta(minutes=minutes)}

    recovery = run(
        simulator, lambda hub: hub.gateway(chip.provider).recover(chip, ConnectionState.CLOSED), **at(0)
    )
    assert (recovery.taken, recovery.needs_person) == (True, None)
    later = run(simulator, lambda hub: hub.gateway(chip.provider).connection_state(chip), **at(5))
    assert later.state is ConnectionState.OPEN


def test_an_evolution_session_that_is_closed_is_not_revived_by_restart(
    simulator: RunningSimulator, core: SimulatorCore
) -> None:
    declare(core, state="close")
    recovery = run(
        simulator,
        lambda hub: hub.gateway(Provider.EVOLUTION).recover(EVOLUTION_CHIP, ConnectionState.CONNECTING),
    )
    assert (recovery.action, recovery.taken) == ("restart", False)


def test_a_logged_out_session_needs_a_person_at_both_gateways(
    simulator: RunningSimulator, core: SimulatorCore
) -> None:
    declare(core, state="close", has_session=False, needs_qr=True)
    evolution = run(
        simulator,
        lambda hub: hub.gateway(Provider.EVOLUTION).recover(EVOLUTION_CHIP, ConnectionState.CLOSED),
    )
    zapi = run(simulator, lambda hub: hub.gateway(Provider.Z_API).connection_state(ZAPI_CHIP))
    assert "QR code" in evolution.needs_person
    assert "QR code" in zapi.needs_person


def test_an_instance_not_loaded_is_not_connected_and_cannot_be_recovered(
    simulator: RunningSimulator, core: SimulatorCore
) -> None:
    declare(core, loaded=False)
    gateway: Callable[[GatewayHub], Gateway] = lambda hub: hub.gateway(Provider.EVOLUTION)  # noqa: E731
    observed = run(simulator, lambda hub: gateway(hub).connection_state(EVOLUTION_CHIP))
    recovery = run(simulator, lambda hub: gateway(hub).recover(EVOLUTION_CHIP, ConnectionState.CLOSED))
    assert observed.state is ConnectionState.CLOSED
    assert not recovery.taken


def test_receipts_are_polled_up_to_read_also_for_a_number_that_loses_its_ninth_digit(
    simulator: RunningSimulator, core: SimulatorCore
) -> None:
    async def states(hub: GatewayHub) -> dict[str, MessageState]:
        gateway = hub.gateway(Provider.EVOLUTION)
        return await states_of(gateway, NORTH, AT - timedelta(minutes=1), AT + timedelta(minutes=1))

    async def mark(hub: GatewayHub) -> None:
        await hub.gateway(Provider.EVOLUTION).mark_read(
            OTHER, [Received(message_id, FORTALEZA_PHONE)], AT + timedelta(minutes=10)
        )

    message_id = run(simulator, lambda hub: send(hub, NORTH)).message_id
    assert run(simulator, states) == {message_id: MessageState.ACCEPTED}
    assert run(simulator, states, at=AT + timedelta(minutes=5)) == {message_id: MessageState.DELIVERED}
    run(simulator, mark)
    assert run(simulator, states, at=AT + timedelta(minutes=15)) == {message_id: MessageState.READ}


def test_more_messages_than_a_page_holds_are_all_polled(
    simulator: RunningSimulator, core: SimulatorCore
) -> None:
    async def many(hub: GatewayHub) -> set[str]:
        gateway = hub.gateway(Provider.EVOLUTION)
        sent = {
            (
                await gateway.send(EVOLUTION_CHIP, RECIPIENT_PHONE, Text("oi"), Trace(f"m{n}", "c", n, AT))
            ).message_id
            for n in range(45)
        }
        found = await states_of(gateway, EVOLUTION_CHIP, AT, AT)
        assert set(found) == sent
        return sent

    assert len(run(simulator, many)) == 45


def test_a_zapi_message_is_marked_read(simulator: RunningSimulator, core: SimulatorCore) -> None:
    sent = run(simulator, lambda hub: send(hub, OTHER, to_phone="5511900008618"))
    received = [Received(sent.message_id, RECIPIENT_PHONE)]
    later = AT + timedelta(minutes=5)
    run(simulator, lambda hub: hub.gateway(Provider.Z_API).mark_read(ZAPI_CHIP, received, later))
    (message,) = messages(core)
    assert message.read_at is not None


@pytest.mark.parametrize("chip", [EVOLUTION_CHIP, ZAPI_CHIP], ids=["evolution", "z-api"])
def test_a_reaction_reaches_the_message_it_is_for(
    simulator: RunningSimulator, core: SimulatorCore, chip: Channel
) -> None:
    to = Received("3EB0REACTEDTO", RECIPIENT_PHONE)
    run(simulator, lambda hub: hub.gateway(chip.provider).react(chip, to, "👍", AT))
    (message,) = messages(core)
    assert (message.kind, message.body) == ("reaction", "👍")
    assert "3EB0REACTEDTO" in message.extra


@pytest.mark.parametrize("chip", [EVOLUTION_CHIP, ZAPI_CHIP], ids=["evolution", "z-api"])
def test_wrong_credentials_stop_the_gateway(
    simulator: RunningSimulator, core: SimulatorCore, chip: Channel
) -> None:
    wrong = settings_for(simulator.base_url, evolution_key="not-the-key", zapi_client_token="not-the-token")

    async def scenario() -> GatewayError | None:
        async with hub_for(simulator.base_url, settings=wrong) as hub:
            return await caught(hub.gateway(chip.provider).connection_state(chip))

    error = asyncio.run(scenario())
    assert error is not None
    assert (error.failure, error.evidence.bad_credentials) == (FailureClass.GATEWAY, True)


def test_a_number_without_whatsapp_is_the_recipients_matter(
    simulator: RunningSimulator, core: SimulatorCore
) -> None:
    error = run(simulator, lambda hub: caught(send(hub, EVOLUTION_CHIP, to_phone="5511955550000")))
    assert error.failure is FailureClass.RECIPIENT
    assert messages(core) == []


def test_sending_while_disconnected_is_a_disconnection_whatever_its_form(
    simulator: RunningSimulator, core: SimulatorCore
) -> None:
    # The first time the number is unknown to the gateway's cache (500), after a success it is known (400).
    run(simulator, lambda hub: send(hub, OTHER, to_phone=FORTALEZA_PHONE))
    core.faults.replace([FaultRule(kind="disconnected", match=FaultMatch(instance=frozenset({"julia-01"})))])

    async def all_kinds(hub: GatewayHub) -> list[GatewayError | None]:
        return [
            await caught(send(hub, EVOLUTION_CHIP, content, to_phone))
            for to_phone in (RECIPIENT_PHONE, FORTALEZA_PHONE)
            for content in CONTENTS.values()
        ]

    errors = run(simulator, all_kinds)
    assert [error.failure for error in errors] == [FailureClass.DISCONNECTED] * 6
    assert {error.evidence.status for error in errors} == {400, 500}
    assert len(messages(core)) == 1


FAULTS: dict[str, dict[str, Any]] = {
    "hang": {"kind": "hang", "seconds": 5},
    "hang, accepted": {"kind": "hang", "seconds": 5, "accepted": True},
    "reset before": {"kind": "reset_before"},
    "reset after": {"kind": "reset_after"},
    "malformed": {"kind": "malformed_json"},
    "content type": {"kind": "wrong_content_type"},
    "huge": {"kind": "huge_body"},
    "drip": {"kind": "slow_drip", "bytes_per_second": 20},
    "truncated": {"kind": "truncated", "bytes": 10},
    "ok with error": {"kind": "ok_with_error"},
    "disconnected": {"kind": "disconnected"},
    "429": {"kind": "status", "code": 429},
    "429, long wait": {"kind": "status", "code": 429, "retry_after": 600},
    "503": {"kind": "status", "code": 503},
    "500": {"kind": "status", "code": 500},
    "restriction": {"kind": "status", "body": "restriction"},
    "closed 500 string": {"kind": "status", "body": "connection_closed_500_string"},
    "closed 400 array": {"kind": "status", "body": "connection_closed_400_array"},
    "closed 500 array": {"kind": "status", "body": "connection_closed_500_array"},
    "rate": {"kind": "status", "body": "rate_overlimit"},
    "validation": {"kind": "status", "body": "validation"},
    "no whatsapp": {"kind": "status", "body": "not_on_whatsapp"},
    "unauthorized": {"kind": "status", "body": "unauthorized"},
    "no instance": {"kind": "status", "body": "instance_not_found"},
}
EVOLUTION_CLASS = {
    **dict.fromkeys(
        [
            "hang",
            "hang, accepted",
            "reset before",
            "reset after",
            "malformed",
            "content type",
            "huge",
            "drip",
        ],
        FailureClass.UNKNOWN,
    ),
    "truncated": FailureClass.UNKNOWN,
    "ok with error": FailureClass.PERMANENT,
    "disconnected": FailureClass.DISCONNECTED,
    "429": FailureClass.RATE_LIMITED,
    "429, long wait": FailureClass.RATE_LIMITED,
    "503": FailureClass.TRANSIENT,
    "500": FailureClass.TRANSIENT,
    "restriction": FailureClass.RESTRICTION,
    "closed 500 string": FailureClass.DISCONNECTED,
    "closed 400 array": FailureClass.DISCONNECTED,
    "closed 500 array": FailureClass.DISCONNECTED,
    "rate": FailureClass.RATE_LIMITED,
    "validation": FailureClass.PERMANENT,
    "no whatsapp": FailureClass.RECIPIENT,
    "unauthorized": FailureClass.GATEWAY,
    "no instance": FailureClass.PERMANENT,
}
SLOW = {"hang", "hang, accepted", "drip"}
RETRIED = {"429", "503"}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("chip", [EVOLUTION_CHIP, ZAPI_CHIP], ids=["evolution", "z-api"])
@pytest.mark.parametrize("content", [CONTENTS["text"], CONTENTS["picture"]], ids=["text", "picture"])
def test_what_the_client_says_of_a_send_is_never_more_than_what_the_gateway_did(
    simulator: RunningSimulator, core: SimulatorCore, content: Content, chip: Channel, name: str
) -> None:
    core.faults.replace([FaultRule.model_validate({**FAULTS[name], "match": {"route": "any-send"}})])
    options = {"deadline": 0.25} if name in SLOW else {}
    error = run(simulator, lambda hub: caught(send(hub, chip, content)), **options)
    held = len(messages(core))
    assert held <= 1
    if error is None:
        # Z-API takes messages for a phone that is offline: "disconnected" is an acceptance there.
        assert (chip, name, held) == (ZAPI_CHIP, "disconnected", 1)
        return
    if chip is EVOLUTION_CHIP:
        assert error.failure is EVOLUTION_CLASS[name]
    if error.failure is not FailureClass.UNKNOWN:
        assert held == 0
        assert error.evidence.stage is Stage.ANSWERED
    hits = core.faults.rules()
    core.state.begin()
    _, struck = core.state.fault_totals(hits[0][0])
    core.state.commit()
    assert (struck, error.attempts) == ((2, 2) if name in RETRIED else (1, 1))


@pytest.mark.parametrize("name", sorted(RETRIED))
@pytest.mark.parametrize("chip", [EVOLUTION_CHIP, ZAPI_CHIP], ids=["evolution", "z-api"])
def test_a_retry_that_succeeds_leaves_exactly_one_message(
    simulator: RunningSimulator, core: SimulatorCore, chip: Channel, name: str
) -> None:
    core.faults.replace([FaultRule.model_validate({**FAULTS[name], "times": 1})])
    assert run(simulator, lambda hub: caught(send(hub, chip))) is None
    assert len(messages(core)) == 1


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("chip", [EVOLUTION_CHIP, ZAPI_CHIP], ids=["evolution", "z-api"])
def test_no_spoiled_answer_makes_a_chip_look_connected(
    simulator: RunningSimulator, core: SimulatorCore, chip: Channel, name: str
) -> None:
    core.faults.replace([FaultRule.model_validate(FAULTS[name])])
    options = {"deadline": 0.25} if name in SLOW else {}

    async def state(hub: GatewayHub) -> ConnectionState:
        try:
            return (await hub.gateway(chip.provider).connection_state(chip)).state
        except GatewayError:
            return ConnectionState.UNKNOWN

    assert run(simulator, state, **options) is not ConnectionState.OPEN


def test_the_senders_and_recipients_phones_stand_in_the_simulator_only_where_they_belong(
    simulator: RunningSimulator, core: SimulatorCore
) -> None:
    run(simulator, lambda hub: send(hub, EVOLUTION_CHIP))
    (message,) = messages(core)
    assert (message.sender_phone, message.recipient_phone) == (SENDER_PHONE, RECIPIENT_PHONE)
