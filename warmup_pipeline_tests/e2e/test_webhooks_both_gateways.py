"""Twenty chips on both gateways, webhooks on, and the calls late, doubled, out of order or never made.

Trap guarded: a message that ends in another state than the gateway's own log says.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from warmup_pipeline.domain.values import MARCAR_LIDO, Phase, Provider
from warmup_pipeline.gateways.base import Channel
from warmup_pipeline.gateways.hub import GatewayHub
from warmup_pipeline.gateways.simulator import Request
from warmup_pipeline.gateways.simulator.delivery import PostCall, PostFaults, Postman
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.operating import set_kill_switch
from warmup_pipeline_tests.serve.ear import SECRET, Ear, listening
from warmup_pipeline_tests.support import Lab, chip_row, due_openings, open_lab, rows_of

SCALE = ("accepted", "at_whatsapp", "delivered", "read")
FAULTS = PostFaults(lose=0.05, double=0.1, late_ms=420_000, seed=7)
TOLD_BY = {
    "messages.update": {"SERVER_ACK": "at_whatsapp", "DELIVERY_ACK": "delivered", "READ": "read"},
    "MessageStatusCallback": {"SENT": "at_whatsapp", "RECEIVED": "delivered", "READ": "read"},
}


@dataclass
class Town:
    lab: Lab
    ear: Ear
    postman: Postman
    rows: list[dict[str, Any]]

    def cycle(self) -> None:
        """Run a cycle; then time passes, and calls whose time has come are made."""
        self.lab.cycle()
        self.pass_time()

    def pass_time(self) -> None:
        headers = {"x-warmup-at": self.lab.now.isoformat()}
        self.lab.core.handle(Request("GET", "/_sim/health", headers=headers))
        self.postman.run(self.lab.now)

    def truth(self) -> dict[str, dict[str, Any]]:
        found = httpx.get(f"{self.lab.base_url}/_sim/messages").json()
        assert found["total"] == len(found["messages"])
        return {row["trace"]["message_id"]: row for row in found["messages"]}


def set_webhooks(lab: Lab, rows: list[dict[str, Any]], ear: Ear) -> list[str | None]:
    """Point every instance at the ear, through the clients; return what is still wrong with each."""

    async def main() -> list[str | None]:
        problems = []
        async with GatewayHub(lab.world.gateways, lab.world.redactor, simulated=True, at=lab.now) as hub:
            for row in rows:
                channel = Channel(row["id"], row["provider"], row["instance"], row["phone"])
                gateway = hub.gateway(row["provider"])
                url = f"{ear.url}/webhooks/{row['provider'].value}/{row['instance']}"
                await gateway.set_webhook(channel, url, SECRET)
                problems.append(await gateway.webhook_problem(channel, url, SECRET))
        return problems

    return asyncio.run(main())


@contextmanager
def town(store: Store, folder: Path, providers: list[Provider], faults: PostFaults) -> Iterator[Town]:
    with open_lab(store) as lab:
        rows = [
            chip_row(number, phase=Phase.EXPANSAO, days=9, provider=provider, ddd=11)
            for number, provider in enumerate(providers, start=1)
        ]
        lab.add(rows)
        with listening(lab.world, folder) as ear, httpx.Client(timeout=30) as http:

            def post(call: PostCall) -> int:
                return http.post(call.url, headers=call.headers, content=call.body).status_code

            assert set(set_webhooks(lab, rows, ear)) == {None}
            yield Town(lab, ear, Postman(lab.core, post, faults), rows)


def best_told(message: dict[str, Any], row: dict[str, Any], lost: set[tuple[str, str, str]]) -> str:
    """Return the state that somebody told us of, or would have: what polling sees is always told."""
    told = ["accepted"]
    evolution = Provider.EVOLUTION.value
    reached = SCALE.index(message["state"])
    for state in SCALE[1 : reached + 1]:
        event = "messages.update" if message["provider"] == evolution else "MessageStatusCallback"
        words = {said: word for word, said in TOLD_BY[event].items()}
        by_sender = (message["message_id"], event, words[state]) not in lost
        polled = state != "read" and evolution in (message["provider"], message["recipient_provider"])
        by_receiver = state == "delivered" and (message["message_id"], "ReceivedCallback", "") not in lost
        by_delivery = state == "at_whatsapp" and (message["message_id"], "DeliveryCallback", "") not in lost
        if by_sender or polled or by_delivery or (by_receiver and message["recipient_provider"] != evolution):
            told.append(state)
    return max(told, key=SCALE.index)


def test_every_message_ends_in_its_true_state_within_three_cycles(store: Store, tmp_path: Path) -> None:
    providers = [Provider.EVOLUTION, Provider.Z_API] * 10
    with town(store, tmp_path, providers, FAULTS) as place:
        ids = [row["id"] for row in place.rows]
        for _ in range(3):
            due_openings(place.lab, ids)
            for _ in range(4):
                place.cycle()
            due_openings(place.lab, ids, kind=MARCAR_LIDO)
            place.cycle()
        sent = place.truth()
        assert len(sent) >= 60
        # Nothing is sent any more; what was sent has three cycles to be told of.
        set_kill_switch(place.lab.world, scope="all", target=None, reason="enough", author="a test")
        for _ in range(3):
            place.cycle()
        truth = place.truth()
        assert truth.keys() == sent.keys()
        kept = {row["id"]: row for row in rows_of(store, "SELECT * FROM messages")}
        assert kept.keys() == truth.keys()
        lost = set()
        for event in place.postman.lost:
            body = event["body"]
            for message_id in [
                body.get("data", {}).get("keyId"),
                body.get("messageId"),
                *body.get("ids", []),
            ]:
                word = body.get("data", {}).get("status") or body.get("status") or ""
                lost.add((message_id, event["event"], "" if event["event"] == "ReceivedCallback" else word))
        untold = [i for i, message in truth.items() if best_told(message, kept[i], lost) != message["state"]]
        # Only where every call that tells of a step was lost can it stay unknown; that is rare.
        assert len(untold) <= len(truth) // 10
        assert {i: kept[i]["state"] for i in truth} == {
            i: best_told(message, kept[i], lost) for i, message in truth.items()
        }
        states = Counter(message["state"] for message in truth.values())
        assert states["read"] > 10
        assert states["delivered"] + states["read"] == len(truth)
        # The faults did happen, and nothing was refused.
        assert place.postman.lost
        assert place.postman.counts["doubled"] > 10
        assert set(place.postman.counts) <= {"200", "events", "doubled"}
        assert place.lab.log.failures == []
        confirmed = [row for row in kept.values() if row["confirmed_at"] is not None]
        assert len(confirmed) >= len(truth) - len(untold)


def test_z_api_confirms_from_the_first_receipt_on_and_not_before(store: Store, tmp_path: Path) -> None:
    with town(store, tmp_path, [Provider.Z_API] * 4, PostFaults()) as place:
        ids = [row["id"] for row in place.rows]
        place.cycle()
        due_openings(place.lab, ids)
        place.cycle()
        for first in rows_of(store, "SELECT confirmable, state FROM messages"):
            assert (bool(first["confirmable"]), first["state"]) == (False, "accepted")
        for _ in range(6):
            due_openings(place.lab, ids)
            place.cycle()
        later = rows_of(store, "SELECT * FROM messages ORDER BY sent_at")
        assert len(later) >= 2
        assert later[0]["state"] == "delivered"
        with_receipts = {
            row["chip_id"]
            for row in rows_of(store, "SELECT * FROM webhook_sources WHERE receipts_since IS NOT NULL")
        }
        assert later[0]["sender_chip_id"] in with_receipts
        again = [row for row in later[1:] if row["sender_chip_id"] == later[0]["sender_chip_id"]]
        assert again
        assert all(bool(row["confirmable"]) for row in again)


def test_a_message_that_fails_late_takes_back_what_it_counted_for(store: Store, tmp_path: Path) -> None:
    with town(store, tmp_path, [Provider.Z_API] * 2, PostFaults()) as place:
        lab, ids = place.lab, [row["id"] for row in place.rows]
        place.cycle()
        due_openings(lab, ids)
        lab.cycle()
        (message,) = rows_of(store, "SELECT * FROM messages")
        (counted,) = rows_of(
            store, "SELECT * FROM chip_metrics WHERE chip_id = :chip", chip=message["sender_chip_id"]
        )
        assert counted["sent_total"] == 1
        # As the contract's failure example: messageId is the queue's id, so only zaapId tells.
        body = {
            "phone": "5544999999999",
            "messageId": message["gateway_queue_id"],
            "instanceId": next(r["instance"] for r in place.rows if r["id"] == message["sender_chip_id"]),
            "zaapId": message["gateway_queue_id"],
            "momment": 1777494009341,
            "type": "DeliveryCallback",
            "error": "The message was not sent due to a likely shadow ban",
            "errorCode": "SHADOW_BAN",
        }
        assert place.ear.post(Provider.Z_API, body["instanceId"], body).status_code == 200
        lab.cycle()
        (message,) = rows_of(store, "SELECT * FROM messages")
        assert (message["state"], message["failure_class"]) == ("failed", "restriction")
        assert "shadow ban" in message["failure_text"]
        (counted,) = rows_of(
            store, "SELECT * FROM chip_metrics WHERE chip_id = :chip", chip=message["sender_chip_id"]
        )
        assert counted["sent_total"] == 0
        (chip,) = rows_of(store, "SELECT * FROM chips WHERE id = :chip", chip=message["sender_chip_id"])
        assert chip["cooldown_reason"] == "restriction"
        (conversation,) = rows_of(store, "SELECT * FROM conversations")
        assert (conversation["turns_accepted"], conversation["reason"]) == (0, "turn_failed")


@pytest.mark.parametrize("sender", [Provider.EVOLUTION, Provider.Z_API])
def test_a_zombie_is_found_and_recovered_within_twenty_minutes(
    sqlite_store: Store, tmp_path: Path, sender: Provider
) -> None:
    """A session that says open while nothing is delivered; the others' webhooks show that ours are heard."""
    with town(
        sqlite_store, tmp_path, [sender, Provider.Z_API, Provider.Z_API, Provider.EVOLUTION], PostFaults()
    ) as place:
        lab, ids = place.lab, [row["id"] for row in place.rows]
        for _ in range(2):
            due_openings(lab, ids)
            for _ in range(3):
                place.cycle()
        zombie = place.rows[0]
        lab.core.state.begin()
        instance = lab.core.state.instance(sender.value, zombie["instance"])
        assert instance is not None
        instance.zombie = instance.zombie_until_restart = 1
        lab.core.state.save_instance(instance)
        lab.core.state.commit()
        died = lab.now
        recovered = None
        while recovered is None and lab.now < died + timedelta(hours=6):
            due_openings(lab, ids)
            place.cycle()
            found = rows_of(
                sqlite_store,
                "SELECT at FROM connection_history WHERE chip_id = :chip AND source = 'recovery'",
                chip=zombie["id"],
            )
            recovered = found[0]["at"] if found else None
        assert recovered is not None
        swallowed = rows_of(
            sqlite_store,
            "SELECT sent_at FROM messages WHERE sender_chip_id = :chip AND sent_at >= :died ORDER BY sent_at",
            chip=zombie["id"],
            died=died.strftime("%Y-%m-%d %H:%M:%S.%f"),
        )
        second = swallowed[1]["sent_at"]
        minutes = rows_of(
            sqlite_store, "SELECT (julianday(:b) - julianday(:a)) * 1440 AS m", a=second, b=recovered
        )[0]["m"]
        # The second unconfirmed send, ten minutes, and the next cycle.
        assert minutes <= 20
        for _ in range(4):
            due_openings(lab, ids)
            place.cycle()
        (row,) = rows_of(
            sqlite_store, "SELECT * FROM chip_connections WHERE chip_id = :chip", chip=zombie["id"]
        )
        assert row["state"] == "open"
        lab.core.state.begin()
        assert lab.core.state.instance(sender.value, zombie["instance"]).zombie == 0  # type: ignore[union-attr]
        lab.core.state.commit()
