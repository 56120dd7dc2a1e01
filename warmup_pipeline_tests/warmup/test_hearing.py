"""From the inbox to the messages: whom a webhook means, in whatever order and however often it comes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import httpx
import pytest

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.store.engine import Store
from warmup_pipeline_tests.serve import bodies
from warmup_pipeline_tests.serve.ear import Ear, listening
from warmup_pipeline_tests.support import Lab, chip_row, due_openings, open_lab, rows_of

LID = "98765432109876@lid"


@dataclass
class Said:
    """A pool on Z-API that has sent one message, and nobody has told anything of it yet."""

    lab: Lab
    ear: Ear
    rows: dict[str, dict[str, Any]]

    @property
    def message(self) -> dict[str, Any]:
        return rows_of(self.lab.store, "SELECT * FROM messages ORDER BY sent_at, id LIMIT 1")[0]

    def instance(self, chip_id: str) -> str:
        return str(self.rows[chip_id]["instance"])

    def by_sender(self, body: dict[str, Any]) -> None:
        instance = self.instance(self.message["sender_chip_id"])
        assert self.ear.post(Provider.Z_API, instance, body | {"instanceId": instance}).status_code == 200

    def by_receiver(self, body: dict[str, Any]) -> None:
        instance = self.instance(self.message["recipient_chip_id"])
        assert self.ear.post(Provider.Z_API, instance, body | {"instanceId": instance}).status_code == 200


@pytest.fixture
def said(store: Store, tmp_path: Path) -> Iterator[Said]:
    with open_lab(store) as lab:
        rows = [chip_row(n, ddd=11, provider=Provider.Z_API) for n in (1, 2, 3)]
        lab.add(rows)
        lab.cycle()
        due_openings(lab, [rows[0]["id"]])
        lab.cycle()
        with listening(lab.world, tmp_path) as ear:
            yield Said(lab, ear, {row["id"]: row for row in rows})


def test_a_privacy_id_is_learned_from_the_message_it_brings_and_means_its_chip_from_then_on(
    said: Said,
) -> None:
    message = said.message
    said.by_receiver(bodies.received("", message["gateway_message_id"], LID, senderLid=LID, chatLid=LID))
    said.lab.cycle()
    assert said.message["state"] == "delivered"
    assert said.message["confirmed_at"] is not None
    (learned,) = rows_of(said.lab.store, "SELECT privacy_id, chip_id FROM privacy_ids")
    assert learned == {"privacy_id": LID, "chip_id": message["sender_chip_id"]}


def test_a_message_under_the_privacy_id_of_another_chip_is_not_ours_whatever_its_id(said: Said) -> None:
    message = said.message
    third = next(c for c in said.rows if c not in (message["sender_chip_id"], message["recipient_chip_id"]))
    body = bodies.received("", "SOMETHING-ELSE", said.rows[third]["phone"], senderLid=LID)
    said.by_receiver(body)
    with said.lab.store.write() as tx:
        from warmup_pipeline.store import inbox

        inbox.learn_privacy_ids(tx, {LID: third}, at=said.lab.now)
    said.by_receiver(bodies.received("", message["gateway_message_id"], LID, senderLid=LID, chatLid=LID))
    said.lab.cycle()
    assert said.message["state"] == "accepted"


def test_a_message_from_another_number_is_not_ours_whatever_its_id(said: Said) -> None:
    message = said.message
    third = next(c for c in said.rows if c not in (message["sender_chip_id"], message["recipient_chip_id"]))
    said.by_receiver(bodies.received("", message["gateway_message_id"], said.rows[third]["phone"]))
    said.lab.cycle()
    assert said.message["state"] == "accepted"


RECEIPTS = ("SENT", "RECEIVED", "READ", "failed")
EXPECTED = {
    frozenset({"SENT"}): "at_whatsapp",
    frozenset({"SENT", "failed"}): "failed",
    frozenset({"failed"}): "failed",
}


@pytest.mark.parametrize(
    "order", [p for n in (1, 2, 3) for p in permutations(RECEIPTS, n)][::3], ids="-".join
)
def test_the_end_is_the_same_in_whatever_order_receipts_come_and_between_whichever_cycles(
    sqlite_store: Store, tmp_path: Path, order: tuple[str, ...]
) -> None:
    with open_lab(sqlite_store) as lab:
        rows = [chip_row(n, ddd=11, provider=Provider.Z_API) for n in (1, 2)]
        lab.add(rows)
        lab.cycle()
        due_openings(lab, [rows[0]["id"]])
        lab.cycle()
        with listening(lab.world, tmp_path) as ear:
            told = Said(lab, ear, {row["id"]: row for row in rows})
            message = told.message
            for number, word in enumerate((*order, *order)):
                if word == "failed":
                    queue_id = message["gateway_queue_id"]
                    told.by_sender(
                        bodies.delivery("", queue_id, queue_id, "Whatsapp rejected sending this message")
                    )
                else:
                    told.by_sender(bodies.status("", message["gateway_message_id"], said=word))
                if number % 2:
                    lab.cycle()
            lab.cycle()
            best = "read" if "READ" in order else "delivered"
            assert told.message["state"] == EXPECTED.get(frozenset(order), best)
            assert rows_of(sqlite_store, "SELECT * FROM webhook_inbox") == []


def test_what_comes_before_its_message_is_known_waits_and_what_is_never_ours_is_forgotten(said: Said) -> None:
    message = said.message
    said.by_sender(bodies.status("", "NOT-OURS"))
    with said.lab.store.write() as tx:
        tx.connection.exec_driver_sql("UPDATE messages SET gateway_message_id = 'LATER'")
    said.by_sender(bodies.status("", message["gateway_message_id"]))
    said.lab.cycle()
    assert len(rows_of(said.lab.store, "SELECT * FROM webhook_inbox")) == 2
    with said.lab.store.write() as tx:
        tx.connection.exec_driver_sql(
            f"UPDATE messages SET gateway_message_id = '{message['gateway_message_id']}'"
        )
    said.lab.cycle()
    assert said.message["state"] == "delivered"
    said.lab.move_to(said.lab.now + timedelta(hours=25))
    said.lab.cycle()
    assert rows_of(said.lab.store, "SELECT * FROM webhook_inbox") == []


def test_a_send_of_unknown_outcome_is_found_where_it_arrived(store: Store, tmp_path: Path) -> None:
    """Z-API lists no messages: without the receiver's webhook nobody could say what became of it."""
    with open_lab(store) as lab:
        rows = [chip_row(n, ddd=11, provider=Provider.Z_API) for n in (1, 2)]
        lab.add(rows)
        lab.cycle()
        breaks = {"match": {"route": "any-send"}, "kind": "reset_after", "times": 1}
        httpx.post(f"{lab.base_url}/_sim/faults", json={"rules": [breaks]}).raise_for_status()
        due_openings(lab, [rows[0]["id"]])
        lab.cycle()
        with listening(lab.world, tmp_path) as ear:
            told = Said(lab, ear, {row["id"]: row for row in rows})
            assert told.message["state"] == "unknown"
            lab.move_to(lab.now + timedelta(minutes=10))
            sent = httpx.get(f"{lab.base_url}/_sim/messages").json()["messages"]
            (one,) = sent
            sender = told.rows[told.message["sender_chip_id"]]
            lab.cycle()
            assert told.message["state"] == "unknown", "it has left the queue, and nobody told of it"
            body = bodies.received("", one["message_id"], sender["phone"], text={"message": one["text"]})
            told.by_receiver(body | {"momment": round(lab.now.timestamp() * 1000)})
            lab.cycle()
            assert told.message["state"] == "delivered"
            assert told.message["gateway_message_id"] == one["message_id"]
        assert len(httpx.get(f"{lab.base_url}/_sim/messages").json()["messages"]) <= 2
