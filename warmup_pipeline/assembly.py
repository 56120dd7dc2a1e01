"""Putting a world together from the settings: database, policy, library, gateways.

Holds: :func:`open_world`, which every way into the program uses (Dagster's steps, commands),
:func:`open_reading_world` for those that ask no gateway, and, in simulated mode, the simulator that
runs beside a world. Do not add: reading of variables (``settings``), rules, Dagster.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx

from warmup_pipeline.domain.privacy import Redactor
from warmup_pipeline.domain.values import ConnectionState, Provider
from warmup_pipeline.gateways.credentials import GatewaySettings
from warmup_pipeline.settings import Settings, SettingsError, is_loopback
from warmup_pipeline.store import chips, connections, migrate
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.engine import Store
from warmup_pipeline.store.trouble import told
from warmup_pipeline.warmup.activities.registry import default_registry
from warmup_pipeline.warmup.library import Library, load_library
from warmup_pipeline.warmup.policies import load_policy
from warmup_pipeline.warmup.world import StepLog, World

if TYPE_CHECKING:
    from warmup_pipeline.gateways.simulator import RunningSimulator, SimulatorCore

_EXTERNAL_TIMEOUT_S: Final = 10.0


def utc_now() -> datetime:
    """Return the real time, UTC."""
    return datetime.now(UTC)


@contextmanager
def open_store(settings: Settings) -> Iterator[Store]:
    """Open the pool's database, creating or upgrading its schema; close it at the end.

    Raises:
        warmup_pipeline.store.trouble.StoreError: the database cannot be used, or its schema is newer than
            this program knows.
    """
    store = Store(settings.database_url)
    try:
        migrate.upgrade(store)
        yield store
    finally:
        store.close()


@contextmanager
def open_world(settings: Settings, *, log: StepLog, now: Callable[[], datetime] = utc_now) -> Iterator[World]:
    """Open everything that a step or a command works with; close it at the end.

    In simulated mode the simulator runs in a thread of this process for as long as a world is open,
    unless ``EVOLUTION_API_URL`` or ``ZAPI_BASE_URL`` names one on loopback; every chip of the database is
    declared to it.

    Args:
        settings: what the environment says.
        log: where steps tell what they do.
        now: the real time, UTC.

    Raises:
        SettingsError: an external simulator cannot be reached.
        warmup_pipeline.store.trouble.StoreError: the database cannot be used.
        ValueError: the policy or the library cannot be used; one line.
    """
    policy = load_policy(settings.policy)
    redactor = Redactor(settings.secrets())
    with ExitStack() as stack:
        store = stack.enter_context(open_store(settings))
        if settings.is_simulated:
            gateways = stack.enter_context(_simulated(settings, store))
        else:
            gateways = settings.live_gateways()
        redactor.learn(gateways.secrets())
        yield World(
            store=store,
            policy=policy,
            library=_library(settings.dialogues, settings.media),
            activities=default_registry(),
            gateways=gateways,
            mode=settings.mode,
            redactor=redactor,
            log=log,
            now=now,
        )


@contextmanager
def open_reading_world(
    settings: Settings, *, log: StepLog, now: Callable[[], datetime] = utc_now
) -> Iterator[World]:
    """Open a world that asks no gateway and starts no simulator: for what reads and writes the database alone.

    Args:
        settings: what the environment says.
        log: where is told what happens.
        now: the real time, UTC.

    Raises:
        warmup_pipeline.store.trouble.StoreError: the database cannot be used.
        ValueError: the policy or the library cannot be used; one line.
    """
    policy = load_policy(settings.policy)
    with open_store(settings) as store:
        yield World(
            store=store,
            policy=policy,
            library=_library(settings.dialogues, settings.media),
            activities=default_registry(),
            gateways=GatewaySettings(),
            mode=settings.mode,
            redactor=Redactor(settings.secrets()),
            log=log,
            now=now,
        )


def require_credentials(world: World) -> None:
    """Refuse to go on where a chip that takes part has a gateway without credentials.

    For commands that a person waits for. A cycle does not ask: one chip's missing token must not stop
    the others, and the check ``gateway_credentials_valid`` names it.

    Raises:
        SettingsError: names the variable, and the instance where it is about one.
    """
    gateways = world.gateways
    with world.store.read() as tx:
        taking_part = [chip for chip in chips.of_pool(tx) if chip.takes_part]
    for chip in taking_part:
        if chip.provider is Provider.Z_API:
            if not gateways.zapi_tokens.get(chip.instance):
                raise SettingsError(
                    f"WARMUP_SECRETS_FILE has no token for the Z-API instance of chip …{chip.last4}: "
                    "add it under zapi:"
                )
        elif not gateways.evolution_url:
            raise SettingsError(
                f"EVOLUTION_API_URL is not set, but chip …{chip.last4} is an Evolution instance"
            )
        elif not (gateways.evolution_key or gateways.evolution_instance_keys.get(chip.instance)):
            raise SettingsError(
                f"EVOLUTION_API_KEY is not set, and WARMUP_SECRETS_FILE has no key for chip …{chip.last4}"
            )


def _library(dialogues: Path | None, media: Path | None) -> Library:
    # The operator's own may change while a process lives; what ships does not.
    return _shipped_library() if dialogues is media is None else load_library(dialogues, media)


@lru_cache(maxsize=1)
def _shipped_library() -> Library:
    return load_library()


# --- the simulator beside a simulated world


def simulated_secret(name: str) -> str:
    """Return the key that a simulated gateway has where the operator gave none.

    The same for the same name in every process, so that a simulator started by hand and a cycle agree.

    Args:
        name: ``evolution``, ``z-api``, or ``<provider>/<instance>``.
    """
    return "SIM" + hashlib.sha256(f"simulated|{name}".encode()).hexdigest()[:29].upper()


def _simulated_token(chip: Chip) -> str:
    return simulated_secret(f"{chip.provider}/{chip.instance}")


def simulated_gateways(settings: Settings, base_url: str, of_chips: list[Chip]) -> GatewaySettings:
    """Return the settings of both gateways at a simulator: the operator's keys, or simulated ones."""
    tokens = {c.instance: _simulated_token(c) for c in of_chips if c.provider is Provider.Z_API}
    return GatewaySettings(
        evolution_url=base_url,
        evolution_key=settings.evolution_key or simulated_secret("evolution"),
        evolution_instance_keys=settings.evolution_instance_keys,
        zapi_base_url=base_url,
        zapi_client_token=settings.zapi_client_token or simulated_secret("z-api"),
        zapi_tokens={**tokens, **settings.zapi_tokens},
    )


@contextmanager
def _simulated(settings: Settings, store: Store) -> Iterator[GatewaySettings]:
    with store.read() as tx:
        every_chip = chips.of_pool(tx)
        states = {chip_id: row.state for chip_id, row in connections.of_pool(tx).items()}
    external = _external_simulators(settings)
    if external:
        gateways = simulated_gateways(settings, external[0], every_chip)
        gateways = replace(gateways, zapi_base_url=external[-1])
        declared = _instances(every_chip, states, gateways)
        for base_url in dict.fromkeys(external):
            _declare_at(base_url, declared)
        yield gateways
        return
    with ExitStack() as stack:
        try:
            lodging = stack.enter_context(_lodge(settings))
            gateways = simulated_gateways(settings, lodging.server.base_url, every_chip)
            lodging.declare(_instances(every_chip, states, gateways))
        except sqlite3.Error as error:
            trouble = told(error, f"of the simulator in {settings.simulator_state}")
            if trouble is None:
                raise
            raise trouble from None
        yield gateways


def _instances(
    every_chip: list[Chip], states: Mapping[str, ConnectionState], gateways: GatewaySettings
) -> list[dict[str, Any]]:
    tokens = {Provider.EVOLUTION: gateways.evolution_instance_keys, Provider.Z_API: gateways.zapi_tokens}
    return [
        {
            "provider": chip.provider.value,
            "name": chip.instance,
            "phone": chip.phone,
            "token": tokens[chip.provider].get(chip.instance) or _simulated_token(chip),
            "state": "open" if states.get(chip.id) is ConnectionState.OPEN else "close",
        }
        for chip in every_chip
    ]


def _external_simulators(settings: Settings) -> list[str]:
    """Return the addresses on loopback that the environment names: Evolution's first, Z-API's last."""
    named = (settings.evolution_url, settings.zapi_base_url)
    return [url.rstrip("/") for url in named if url and is_loopback(url)]


def _declare_at(base_url: str, instances: list[dict[str, Any]]) -> None:
    try:
        answer = httpx.post(
            f"{base_url}/_sim/instances", json={"instances": instances}, timeout=_EXTERNAL_TIMEOUT_S
        )
    except httpx.HTTPError as error:
        raise SettingsError(
            f"no simulator answers at {base_url} ({type(error).__name__}): start one with `warmup gateway-sim`, "
            "or unset EVOLUTION_API_URL and ZAPI_BASE_URL to have one started"
        ) from None
    if answer.status_code != httpx.codes.OK:
        raise SettingsError(
            f"what answers at {base_url} is not this project's simulator (HTTP {answer.status_code}): "
            "simulated mode never writes to a real gateway"
        )


@dataclass(slots=True)
class _Lodging:
    """A simulator that serves in this process while somebody needs it."""

    core: SimulatorCore
    server: RunningSimulator
    guests: int = 0
    known: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)

    def declare(self, instances: list[dict[str, Any]]) -> None:
        """Declare what this process has not declared yet, or what changed since."""
        from warmup_pipeline.gateways.simulator import SimulatedInstance

        new = [
            instance
            for instance in instances
            if self.known.get((instance["provider"], instance["name"]))
            != (instance["phone"], instance["token"])
        ]
        if new:
            self.core.declare(SimulatedInstance(**instance) for instance in new)
        for instance in new:
            self.known[instance["provider"], instance["name"]] = (instance["phone"], instance["token"])


_lodgings: dict[Path, _Lodging] = {}
_lodgings_lock = threading.Lock()


@contextmanager
def _lodge(settings: Settings) -> Iterator[_Lodging]:
    path = settings.simulator_state
    with _lodgings_lock:
        lodging = _lodgings.get(path)
        if lodging is None:
            lodging = _lodgings[path] = _started(settings)
        lodging.guests += 1
    try:
        yield lodging
    finally:
        with _lodgings_lock:
            lodging.guests -= 1
            if not lodging.guests:
                del _lodgings[path]
                lodging.server.stop()
                lodging.core.close()


def _started(settings: Settings) -> _Lodging:
    # Imported where it is needed: live mode and the sensor do not pay for a web server.
    from warmup_pipeline.gateways.simulator import SimulatorCore, SimulatorSettings, run_in_thread

    settings.simulator_state.parent.mkdir(parents=True, exist_ok=True)
    core = SimulatorCore(
        SimulatorSettings(
            evolution_key=settings.evolution_key or simulated_secret("evolution"),
            zapi_client_token=settings.zapi_client_token or simulated_secret("z-api"),
        ),
        settings.simulator_state,
    )
    return _Lodging(core, run_in_thread(core))
