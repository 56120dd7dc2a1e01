"""State that outlives processes, and a server that starts, shares, and stops cleanly.

Trap guarded: a message accepted by a process that dies before anybody could ask it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from warmup_pipeline.gateways.simulator import (
    SimulatorCore,
    SimulatorServer,
    SimulatorSettings,
    run_in_thread,
)
from warmup_pipeline.gateways.simulator.state import IN_MEMORY, SPILLED, State

from .conftest import ANA, BIA, CLIENT_TOKEN, GLOBAL_KEY, INSTANCES, Clock, Start, redeclared

CHILD = """
import sys
from warmup_pipeline.domain.values import Provider
from warmup_pipeline.gateways.simulator import *
core = SimulatorCore(SimulatorSettings(evolution_key=sys.argv[2]), sys.argv[1], [
    SimulatedInstance(provider=Provider.EVOLUTION, name="ana", phone=sys.argv[3], token="ana-token"),
    SimulatedInstance(provider=Provider.EVOLUTION, name="bia", phone=sys.argv[4], token="bia-token"),
])
running = run_in_thread(core)
sys.stdout.write(running.base_url + chr(10))
sys.stdout.flush()
sys.stdin.read()
"""


def test_the_state_survives_a_restart_on_the_same_file(start: Start, tmp_path: Path) -> None:
    path, clock = tmp_path / "simulator" / "state.db", Clock()
    first = start(path, clock=clock)
    wa_id = first.text("ana", BIA).json()["key"]["id"]
    first.evolution("DELETE", "/instance/logout/dra")
    first.faults({"kind": "status", "code": 503, "match": {"instance": "bia"}})
    first.running.stop()
    first.running.core.close()
    clock.forward(15)
    second = start(path, clock=clock)
    assert [row["message_id"] for row in second.messages()] == [wa_id]
    assert second.messages()[0]["state"] == "delivered"
    assert second.state("dra") == "close"
    assert second.text("bia", ANA).status_code == 503
    assert second.text("ana", BIA).json()["key"]["id"] != wa_id


@pytest.mark.parametrize("path", [IN_MEMORY, SPILLED, "state.db"])
def test_what_a_broken_off_request_wrote_is_undone_and_what_was_committed_is_not(
    tmp_path: Path, path: str
) -> None:
    state = State(tmp_path / path if path == "state.db" else path)
    state.begin()
    assert state.increase("kept") == 1
    state.commit()
    state.begin()
    state.increase("kept")
    state.increase("undone")
    state.rollback()
    state.begin()
    assert (state.counter("kept"), state.counter("undone")) == (1, 0)
    state.commit()
    state.close()


def test_logical_time_survives_a_restart(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    first = start(path)
    headers = {"apikey": GLOBAL_KEY, "X-Warmup-At": "2026-02-19T12:00:00Z"}
    first.http.post("/message/sendText/ana", json={"number": BIA, "text": "oi"}, headers=headers)
    first.running.stop()
    second = start(path)
    assert second.messages()[0]["state"] == "accepted"


def test_two_servers_over_one_file_agree(start: Start, tmp_path: Path) -> None:
    path, clock = tmp_path / "state.db", Clock()
    one, two = start(path, clock=clock), start(path, clock=clock)
    ids = [sim.text("ana", BIA).json()["key"]["id"] for sim in (one, two, one, two)]
    assert len(set(ids)) == 4
    assert one.messages() == two.messages()
    one.faults({"kind": "status", "code": 503, "match": {"route": "state"}})
    assert two.evolution("GET", "/instance/connectionState/ana").status_code == 503
    two.http.post("/_sim/reset")
    assert one.evolution("GET", "/instance/connectionState/ana").status_code == 200
    two.faults({"kind": "status", "code": 500, "match": {"route": "state"}})
    assert one.evolution("GET", "/instance/connectionState/ana").status_code == 500


def test_two_servers_over_one_file_under_load_lose_and_double_nothing(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    sims = [start(path), start(path)]

    def send(n: int) -> str:
        answer = sims[n % 2].text("ana" if n % 3 else "bia", BIA if n % 3 else ANA, str(n))
        return str(answer.json()["key"]["id"])

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(send, range(200)))
    rows = sims[0].messages()
    assert len(set(ids)) == 200
    assert sorted(row["message_id"] for row in rows) == sorted(ids)
    assert sorted(int(row["text"]) for row in rows) == list(range(200))


def test_a_killed_process_loses_nothing_that_it_accepted(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), GLOBAL_KEY, ANA, BIA],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdin is not None
    try:
        base = child.stdout.readline().strip()
        with httpx.Client(base_url=base, headers={"apikey": GLOBAL_KEY}) as http:
            accepted = [
                http.post("/message/sendText/ana", json={"number": BIA, "text": str(n)}).json()["key"]["id"]
                for n in range(20)
            ]
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdin.close()
        child.stdout.close()
    survivor = start(path)
    assert [row["message_id"] for row in survivor.messages()] == accepted


def test_a_message_reset_after_acceptance_is_on_disk(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    first = start(path)
    first.faults({"kind": "reset_after"})
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        first.text("ana", BIA)
    assert len(start(path).messages()) == 1


def test_a_server_starts_and_stops_within_a_loop_and_frees_its_port() -> None:
    async def scenario() -> int:
        core = SimulatorCore(SimulatorSettings(evolution_key=GLOBAL_KEY), instances=INSTANCES)
        async with SimulatorServer(core) as server, httpx.AsyncClient(base_url=server.base_url) as client:
            answer = await client.get("/instance/connectionState/ana", headers={"apikey": GLOBAL_KEY})
            assert answer.status_code == 200
            port = server.port
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        await server.stop()
        core.close()
        return port

    assert asyncio.run(scenario()) > 0


def test_a_taken_port_is_an_error_at_once() -> None:
    with SimulatorCore() as core, run_in_thread(core) as running, pytest.raises(OSError, match="in use"):
        run_in_thread(core, port=running.port)


def test_a_stopped_simulator_can_be_served_again_on_its_port() -> None:
    with SimulatorCore() as core:
        first = run_in_thread(core)
        port = first.port
        first.stop()
        first.stop()
        with run_in_thread(core, port=port) as second:
            assert httpx.get(second.base_url + "/_sim/health").status_code == 200


def test_stopping_does_not_wait_for_hanging_answers(start: Start) -> None:
    sim = start()
    sim.faults({"kind": "hang", "seconds": 3600})
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(sim.text, "ana", BIA)
        hits = 0
        while hits == 0:
            hits = sim.http.get("/_sim/faults").json()["rules"][0]["hits"]
        sim.running.stop()
        with pytest.raises(httpx.TransportError):
            waiting.result()


def test_a_body_larger_than_the_real_server_takes_is_413(start: Start) -> None:
    sim = start()
    with socket.create_connection(("127.0.0.1", sim.running.port)) as raw:
        raw.sendall(
            b"POST /message/sendMedia/ana HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 142606337\r\n\r\n{"
        )
        answer = raw.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"request entity too large" in answer


def test_a_chunked_body_is_read_whole(start: Start) -> None:
    sim = start()
    pieces = iter([b'{"number":"', BIA.encode(), b'","text":"oi"}'])
    answer = sim.http.post(
        "/message/sendText/ana",
        content=pieces,
        headers={"apikey": "ana-token", "Content-Type": "application/json"},
    )
    assert answer.status_code == 201


def test_slow_answers_hold_up_nobody_else(start: Start) -> None:
    sim = start()
    sim.faults({"kind": "hang", "seconds": 3600, "match": {"instance": "ana"}})

    def wait_for_hits() -> None:
        while sim.http.get("/_sim/faults").json()["rules"][0]["hits"] < 50:
            pass

    async def ask() -> list[int]:
        async with httpx.AsyncClient(base_url=sim.running.base_url, headers={"apikey": GLOBAL_KEY}) as client:
            url = "/instance/connectionState/"
            hanging = [asyncio.create_task(client.get(url + "ana", timeout=None)) for _ in range(50)]
            await asyncio.to_thread(wait_for_hits)
            quick = [(await client.get(url + "bia")).status_code for _ in range(5)]
            assert not any(task.done() for task in hanging)
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)
        return quick

    assert asyncio.run(ask()) == [200] * 5


def test_nothing_secret_is_printed_or_logged(
    start: Start, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    sim = start()
    sim.text("ana", BIA)
    sim.text("CAU", BIA)
    sim.zapi("GET", "status")
    for kind in ("reset_after", "truncated", "malformed_json"):
        sim.faults({"kind": kind})
        for sender in ("ana", "CAU"):
            try:
                sim.text(sender, BIA)
            except httpx.TransportError:
                continue
    sim.running.stop()
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore"))]
    printed = capfd.readouterr()
    shown = "\n".join([*ours, printed.out, printed.err])
    for secret in (GLOBAL_KEY, CLIENT_TOKEN, "ana-token", "cau-token", ANA, BIA):
        assert secret not in shown


def test_declarations_and_settings_do_not_show_their_secrets() -> None:
    settings = SimulatorSettings(evolution_key=GLOBAL_KEY, zapi_client_token=CLIENT_TOKEN)
    shown = repr(settings) + repr(redeclared("ana"))
    for secret in (GLOBAL_KEY, CLIENT_TOKEN, "ana-token"):
        assert secret not in shown
