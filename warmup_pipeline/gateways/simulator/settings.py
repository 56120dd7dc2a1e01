"""What a simulator is started with: its settings and the instances that are declared to it.

Holds: :class:`SimulatorSettings`, :class:`SimulatedInstance`. Add here: a knob that holds for a
simulator's whole life. Do not add: faults, which come and go (``faults``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from warmup_pipeline.domain.values import Provider

SessionState = Literal["open", "close", "connecting"]


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SimulatedInstance(BaseModel):
    """One instance of a gateway, with the number that is paired to it.

    Attributes:
        provider: which gateway it belongs to.
        name: Evolution's instance name, or Z-API's instance id.
        phone: the paired number, digits with country code.
        token: Evolution's instance token, or the token in a Z-API path.
        state: the session's state when it is first declared.
        has_session: it is paired, so it can come back without a QR code. On Evolution ``ownerJid`` is
            known.
        needs_qr: the pairing was lost; only a scan (``POST /_sim/scan``) brings it back.
        zombie: says ``open`` and accepts everything, but nothing it sends leaves and nothing reaches it.
        zombie_until_restart: a restart heals the zombie (what it had accepted stays lost).
        loaded: Evolution: the process holds the instance; ``False`` means it exists in the database only.
        lid: digits of its privacy id. When set, Evolution receivers see its messages under ``<lid>@lid``.
        profile_name: name shown to others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: Provider
    name: str = Field(min_length=1)
    phone: str = Field(pattern=r"^\d{8,15}$")
    token: str = Field(min_length=1, repr=False)
    state: SessionState = "open"
    has_session: bool = True
    needs_qr: bool = False
    zombie: bool = False
    zombie_until_restart: bool = False
    loaded: bool = True
    lid: str = ""
    profile_name: str = ""


@dataclass(frozen=True, slots=True)
class SimulatorSettings:
    """Settings of one simulator.

    Attributes:
        evolution_key: Evolution's global key; empty means that only instance tokens are accepted.
        zapi_client_token: Z-API's account token; empty means that the account did not activate it.
        seed: everything that looks random derives from it.
        latency_ms: simulated latency of every gateway answer.
        clock: the time of a request without ``X-Warmup-At``, and the real time that is recorded.
        reconnect_s: seconds an Evolution session takes from ``connecting`` to ``open``.
        connect_wait_ms: how long ``GET connect`` holds its answer; the real server takes about 2600.
        known_phones: numbers that are on WhatsApp although no instance owns them.
        queue_limit: messages a Z-API queue holds before it refuses more.
        record_events: write the outbox for every instance, not only for those with a webhook.
        zapi_missing_token_status: status without a Client-Token (third-party knowledge).
        zapi_wrong_token_status: status with a wrong Client-Token (third-party knowledge).
        zapi_unknown_instance_status: status for an unknown instance or token (from memory).
        zapi_unknown_route_status: status of an unknown path; reports say 200 and 404.
        zapi_bare_phone_exists: ``phone-exists`` answers an object instead of a one-element array.
    """

    evolution_key: str = field(default="", repr=False)
    zapi_client_token: str = field(default="", repr=False)
    seed: int = 0
    latency_ms: float = 0.0
    clock: Callable[[], datetime] = _utc_now
    reconnect_s: float = 1.0
    connect_wait_ms: float = 0.0
    known_phones: frozenset[str] = frozenset()
    queue_limit: int = 1000
    record_events: bool = False
    zapi_missing_token_status: int = 400
    zapi_wrong_token_status: int = 403
    zapi_unknown_instance_status: int = 404
    zapi_unknown_route_status: int = 404
    zapi_bare_phone_exists: bool = False
