"""What each fault of a gateway comes to: a table, computed by running every case through sockets.

``python -m warmup_pipeline_tests.soak faults [--deadline SECONDS]``

A case is a fault, a gateway and a call. Each has a pool of two chips of its own, and runs whole cycle
steps against the simulator, with the fault struck on its one chip and route; what the table shows is
what the database then holds and what the chip's transport counted. Expectations are not here: the
test beside the suite holds the table against domain.md.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import aiohttp
import click
import httpx

from warmup_pipeline.domain.values import (
    CONVERSA_PAR,
    ENVIAR_MIDIA,
    MARCAR_LIDO,
    MessageKind,
    Phase,
    Provider,
)
from warmup_pipeline.gateways.sockets import SocketTransport
from warmup_pipeline.store import migrate
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup import claim, connections, lifecycle, pair, send, validate
from warmup_pipeline.warmup.library import Library
from warmup_pipeline.warmup.world import World
from warmup_pipeline_tests.broken import handing_out_reset
from warmup_pipeline_tests.support import Lab, RecordingLog, chip_row, due_openings, open_lab, rows_of

REFUSED: Final = "connection refused"
RESET_UNWRITTEN: Final = "reset before it is written"

FAULTS: Final[Mapping[str, dict[str, Any] | None]] = {
    REFUSED: None,
    RESET_UNWRITTEN: None,
    "reset before it acts": {"kind": "reset_before"},
    "reset after it acted": {"kind": "reset_after"},
    "hang": {"kind": "hang"},
    "429": {"kind": "status", "code": 429},
    "429, Retry-After 1 s": {"kind": "status", "code": 429, "retry_after": 1},
    "429, Retry-After 600 s": {"kind": "status", "code": 429, "retry_after": 600},
    "500": {"kind": "status", "code": 500},
    "503": {"kind": "status", "code": 503},
    "401": {"kind": "status", "body": "unauthorized"},
    "404 instance": {"kind": "status", "body": "instance_not_found"},
    "400 validation": {"kind": "status", "body": "validation"},
    "number without WhatsApp": {"kind": "status", "body": "not_on_whatsapp"},
    "restriction": {"kind": "status", "body": "restriction"},
    "Connection Closed, 500 text": {"kind": "status", "body": "connection_closed_500_string"},
    "Connection Closed, 400 list": {"kind": "status", "body": "connection_closed_400_array"},
    "Connection Closed, 500 list": {"kind": "status", "body": "connection_closed_500_array"},
    "200 with an error": {"kind": "ok_with_error"},
    "malformed JSON": {"kind": "malformed_json"},
    "wrong content type": {"kind": "wrong_content_type"},
    "5 MB body": {"kind": "huge_body", "bytes": 5_000_000},
    "slow drip": {"kind": "slow_drip", "bytes_per_second": 2},
}
"""By name; those of ``None`` are no answers at all, and are brought about by where the call goes."""

SLOW: Final = frozenset({"hang", "slow drip"})
"""What ends only by the deadline."""

CALLS: Final = ("text", "media", "audio", "read", "state")

_ROUTE: Final = re.compile(
    r"/(?:(?P<text>sendText|send-text)|(?P<media>sendMedia|send-image)|(?P<audio>sendWhatsAppAudio|send-audio)|"
    r"(?P<read>markMessageAsRead|read-message)|(?P<state>connectionState|status)|(?P<recover>restart|connect))(?:/|$)"
)
_CLASS: Final = re.compile(r"\[(\w+): ")


@dataclass(frozen=True, slots=True)
class Case:
    """A fault, a gateway, a call."""

    fault: str
    provider: Provider
    call: str


@dataclass(frozen=True, slots=True)
class Found:
    """What a case came to.

    Attributes:
        failure: the class, as stored, or (state) as logged; empty where nothing failed.
        requests: how many requests were made: 2 after a retry.
        cooldown: minutes the chip rests.
        breaker: failures the chip's breaker counted.
        row: the state of the message, activity (read) or connection (state).
        traceback: a whole traceback stands where the operator looks.
        took: seconds of the step.
        words: everything that the row and the log say, tracebacks included.
    """

    failure: str
    requests: int
    cooldown: int
    breaker: int
    row: str
    traceback: bool
    took: float
    words: str


class _Counting(SocketTransport):
    """Real sockets; notes the routes of one instance's requests."""

    def __init__(self, instance: str, counted: list[str], resetter: _Resetter | None) -> None:
        super().__init__(secure=False)
        self._instance = instance
        self._counted = counted
        self._resetter = resetter

    def connector(self) -> aiohttp.BaseConnector:
        """Return a pool that hands out a connection only once its reset has arrived, where there is a resetter."""
        resetter = self._resetter
        return (
            super().connector()
            if resetter is None
            else handing_out_reset(super().connector(), resetter.connected)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        route = _ROUTE.search(request.url.path)
        if self._instance in request.url.path.split("/"):
            self._counted.append((route.lastgroup if route is not None else None) or "other")
        return await super().handle_async_request(request)


@contextmanager
def _refusing_port() -> Iterator[int]:
    """A port of this process's own on which nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


class _Resetter:
    """A server that resets each connection once its client says that it is connected, and reads nothing."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._connected: set[int] = set()
        self._said = threading.Condition()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def connected(self, port: int) -> bool:
        """Say that the connection from this port is made; it is going to be reset."""
        with self._said:
            self._connected.add(port)
            self._said.notify_all()
        return True

    def _serve(self) -> None:
        while True:
            try:
                connection, (_, port) = self._server.accept()
            except OSError:
                return
            with self._said:
                self._said.wait_for(partial(self._connected.__contains__, port), timeout=30)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

    def __enter__(self) -> _Resetter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(30)


class _Bench:
    """Runs cases on one lab, each in its own pool."""

    def __init__(self, lab: Lab, refusing: int, resetter: _Resetter, deadline: float) -> None:
        self._lab = lab
        policy = lab.world.policy
        pace = policy.pace.model_copy(update={"timeout_seconds": deadline})
        self._impatient = policy.model_copy(update={"pace": pace})
        self._ports = {REFUSED: refusing, RESET_UNWRITTEN: resetter.port}
        self._resetter = resetter
        library = lab.world.library
        self._libraries = {
            "media": _opening_with(library, MessageKind.PICTURE),
            "audio": _opening_with(library, MessageKind.AUDIO),
        }

    def prepare(self, case: Case, number: int) -> list[dict[str, Any]]:
        """Return the two chips of a case."""
        return [
            chip_row(n, pool=f"case-{number}", ddd=11, provider=case.provider, phase=Phase.EXPANSAO)
            for n in (2 * number + 1, 2 * number + 2)
        ]

    def rules(self, case: Case, rows: list[dict[str, Any]], deadline: float) -> list[dict[str, Any]]:
        """Return the simulator's rule for a case."""
        fault = FAULTS[case.fault]
        if fault is None:
            return []
        longer = {"seconds": 2 * deadline} if fault["kind"] == "hang" else {}
        return [{"match": {"instance": rows[0]["instance"], "route": case.call}, **fault, **longer}]

    def run(self, case: Case, rows: list[dict[str, Any]]) -> Found:
        """Run one case's cycle."""
        pool, chip = rows[0]["pool"], rows[0]
        log = RecordingLog([])
        counted: list[str] = []
        world = replace(
            self._lab.world, log=log, library=self._libraries.get(case.call, self._lab.world.library)
        )
        tick = self._lab.now
        if case.call == "read":
            # The chip receives a message first, in a cycle of its own.
            before = replace(world, now=lambda: tick - timedelta(minutes=5))
            self._due(pool, rows[1]["id"], CONVERSA_PAR, tick - timedelta(minutes=5))
            _, _ = self._cycle(before, before, pool, tick - timedelta(minutes=5), ends_with="read")
            self._due(pool, chip["id"], MARCAR_LIDO, tick)
        elif case.call != "state":
            self._due(pool, chip["id"], CONVERSA_PAR if case.call == "text" else ENVIAR_MIDIA, tick)
        failing = replace(
            world,
            transport_factory=lambda: _Counting(
                chip["instance"],
                counted,
                self._resetter if case.fault == RESET_UNWRITTEN else None,
            ),
        )
        if case.fault in SLOW:
            failing = replace(failing, policy=self._impatient)
        if case.fault in self._ports:
            url = f"http://127.0.0.1:{self._ports[case.fault]}"
            gateways = replace(world.gateways, evolution_url=url, zapi_base_url=url)
            failing = replace(failing, gateways=gateways)
        cycle, took = self._cycle(world, failing, pool, tick, ends_with=case.call)
        return self._found(case, chip["id"], cycle, tick, _first_asked(case.call, counted), took, log)

    def _due(self, pool: str, chip_id: str, kind: str, at: datetime) -> None:
        due_openings(replace(self._lab, pool=pool), [chip_id], kind=kind, at=at)

    @staticmethod
    def _cycle(
        world: World, failing: World, pool: str, tick: datetime, *, ends_with: str
    ) -> tuple[str, float]:
        """Run a cycle whose one step meets the fault; returns its id and that step's seconds."""
        cycle, _ = lifecycle.begin_cycle(world, pool, root_run_id=None, asked_tick=tick)
        began = time.monotonic()
        connections.refresh_connections(failing if ends_with == "state" else world, cycle)
        if ends_with != "state":
            # Nothing is planned: the one activity that is due is the case's own.
            for step in (claim.claim_due, pair.pair_chips, validate.validate_sends):
                step(world, cycle)
            began = time.monotonic()
            send.send_messages(failing, cycle)
        took = time.monotonic() - began
        lifecycle.end_cycle(world, cycle)
        return cycle.id, took

    def _found(
        self,
        case: Case,
        chip_id: str,
        cycle: str,
        tick: datetime,
        requests: int,
        took: float,
        log: RecordingLog,
    ) -> Found:
        store = self._lab.store
        (chip,) = rows_of(store, "SELECT * FROM chips WHERE id = :id", id=chip_id)
        circuit = rows_of(store, "SELECT * FROM circuits WHERE chip_id = :id", id=chip_id)
        until = chip["cooldown_until"]
        if isinstance(until, str):
            until = datetime.fromisoformat(until).replace(tzinfo=tick.tzinfo)
        rest = 0 if until is None else round((until - tick).total_seconds() / 60)
        if case.call == "state":
            (row,) = rows_of(store, "SELECT * FROM chip_connections WHERE chip_id = :id", id=chip_id)
            told = [_CLASS.search(failure) for failure in log.failures]
            failure = next((match[1] for match in told if match), "")
            state = row["state"] + (", needs a person" if row["needs_person"] else "")
            traceback = any("Traceback" in failure for failure in log.failures) or not log.failures
        elif case.call == "read":
            (row,) = rows_of(
                store,
                "SELECT * FROM activities WHERE chip_id = :id AND cycle_id = :cycle AND type = :type",
                id=chip_id,
                cycle=cycle,
                type=MARCAR_LIDO,
            )
            failure, state = (row["reason"] if row["state"] != "executed" else ""), row["state"]
            traceback = state == "executed" or "Traceback" in (row["traceback"] or "")
        else:
            sent = rows_of(store, "SELECT * FROM messages WHERE sender_chip_id = :id", id=chip_id)
            if len(sent) != 1:
                decided = rows_of(
                    store, "SELECT decision, reason FROM presend_validations WHERE cycle_id = :c", c=cycle
                )
                raise AssertionError(f"{case}: {len(sent)} messages, {decided}, {log.entries}")
            (row,) = sent
            failure, state = row["failure_class"] or "", row["state"]
            traceback = state == "accepted" or "Traceback" in (row["traceback"] or "")
        counted = circuit[0]["consecutive_failures"] if circuit else 0
        words = "\n".join([str(row), *(text for _, text in log.entries), str(chip["last_error_text"])])
        return Found(failure, requests, rest, counted, state, traceback, took, words)


def _first_asked(call: str, routes: list[str]) -> int:
    """How many requests one call made: what came after another one (a recovery) was no retry."""
    return list(takewhile(lambda route: route != "recover", routes)).count(call)


def _opening_with(library: Library, kind: MessageKind) -> Library:
    return Library(tuple(d for d in library.dialogues if d.opens_with is kind), library.media)


def measure(store: Store, *, deadline: float, at_once: int = 8) -> dict[Case, Found]:
    """Run every case; returns what each came to.

    Args:
        store: an empty, migrated database.
        deadline: seconds a call may take that ends only by it (:data:`SLOW`); others have the policy's 10.
        at_once: cases run at the same time, each in a thread, as cycles of different pools may.
    """
    cases = [Case(fault, provider, call) for fault in FAULTS for provider in Provider for call in CALLS]
    with _refusing_port() as refusing, _Resetter() as resetter, open_lab(store) as lab:
        lab.move_to(lab.now + timedelta(hours=1))
        bench = _Bench(lab, refusing, resetter, deadline)
        pools = [bench.prepare(case, number) for number, case in enumerate(cases)]
        lab.add([row for rows in pools for row in rows])
        rules = [
            rule
            for case, rows in zip(cases, pools, strict=True)
            for rule in bench.rules(case, rows, deadline)
        ]
        httpx.post(f"{lab.base_url}/_sim/faults", json=rules, trust_env=False).raise_for_status()
        with ThreadPoolExecutor(at_once) as threads:
            found = list(threads.map(bench.run, cases, pools))
    return dict(zip(cases, found, strict=True))


def table(found: Mapping[Case, Found]) -> str:
    """Return the cases as a table, calls of the same outcome in one line."""
    lines: list[tuple[str, ...]] = [
        ("fault", "gateway", "call", "class", "retry", "cooldown", "breaker", "row")
    ]
    merged: dict[tuple[str, ...], list[str]] = {}
    for case, one in found.items():
        key = (
            case.fault,
            case.provider.value,
            one.failure or "-",
            "once" if one.requests > 1 else "no",
            f"{one.cooldown} min" if one.cooldown else "-",
            f"+{one.breaker}" if one.breaker else "-",
            one.row,
        )
        merged.setdefault(key, []).append(case.call)
    for (fault, gateway, *rest), calls in merged.items():
        lines.append((fault, gateway, " ".join(calls), *rest))
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


@click.command()
@click.option("--deadline", type=click.FloatRange(0.1, 10), default=10.0, show_default=True)
def faults(deadline: float) -> None:
    """Run every fault of both gateways through every call, and print what each comes to."""
    with TemporaryDirectory(prefix="warmup-soak-") as folder:
        store = Store(f"sqlite:///{Path(folder) / 'warmup.db'}")
        migrate.upgrade(store)
        found = measure(store, deadline=deadline)
        store.close()
    print(table(found))
    longest = max(found.values(), key=lambda one: one.took)
    print(f"{len(found)} cases; the longest step took {longest.took:.1f} s")
    silent = [case for case, one in found.items() if not one.traceback]
    if silent:
        raise click.ClickException(f"failures without a traceback: {silent}")
