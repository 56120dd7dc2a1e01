"""Webhooks over a real socket: who may call, what is refused, what is written, and what never is.

Traps guarded: a refusal that Evolution would repeat ten times; a webhook that writes although it was
refused; a stranger's words, a number or a secret in the database.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from warmup_pipeline.domain.values import Provider
from warmup_pipeline.serve.app import LARGEST_BODY, MODULES
from warmup_pipeline.store import migrate
from warmup_pipeline.store.engine import Store
from warmup_pipeline_tests.serve import bodies
from warmup_pipeline_tests.serve.ear import SECRET, Ear, listening
from warmup_pipeline_tests.support import Lab, chip_row, open_lab, rows_of

EVOLUTION, Z_API = Provider.EVOLUTION, Provider.Z_API
GIVEN_UP_AT_ONCE = {400, 401, 403, 404, 422}
ONE, TWO, THREE = (
    chip_row(1),
    chip_row(2, provider=Z_API),
    chip_row(3, ddd=85),
)


@dataclass
class Listening:
    lab: Lab
    ear: Ear

    def inbox(self) -> list[dict[str, Any]]:
        return rows_of(self.lab.store, "SELECT * FROM webhook_inbox ORDER BY key")

    def written(self) -> int:
        return len(self.inbox()) + len(rows_of(self.lab.store, "SELECT * FROM webhook_sources"))


@pytest.fixture
def there(store: Store, tmp_path: Path) -> Iterator[Listening]:
    with open_lab(store) as lab:
        lab.add([ONE, TWO, THREE])
        with listening(lab.world, tmp_path) as ear:
            yield Listening(lab, ear)


@pytest.fixture
def here(sqlite_store: Store, tmp_path: Path) -> Iterator[Listening]:
    """As ``there``, on SQLite alone."""
    with open_lab(sqlite_store) as lab:
        lab.add([ONE, TWO, THREE])
        with listening(lab.world, tmp_path) as ear:
            yield Listening(lab, ear)


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    """One for all tests in which nothing may be written."""
    folder = tmp_path_factory.mktemp("refusing")
    store = Store(f"sqlite:///{folder / 'warmup.db'}")
    migrate.upgrade(store)
    with open_lab(store) as lab:
        lab.add([ONE, TWO, THREE])
        with listening(lab.world, folder) as ear:
            yield Listening(lab, ear)
    store.close()


def instance(row: dict[str, Any]) -> str:
    return str(row["instance"])


SAID = {
    "evolution update": (ONE, bodies.update(instance(ONE), "3EB0D56198378BD13C866A", "DELIVERY_ACK")),
    "evolution error": (ONE, bodies.update(instance(ONE), "3EB0D56198378BD13C866A", "ERROR")),
    "evolution arrival": (ONE, bodies.upsert(instance(ONE), "3A1B2C3D4E5F60718293", THREE["phone"])),
    "evolution connection": (ONE, bodies.connection(instance(ONE), "close", 401)),
    "z-api delivery": (TWO, bodies.delivery(instance(TWO), "A800", "A20D")),
    "z-api failure": (TWO, bodies.delivery(instance(TWO), "A20D", "A20D", "Phone number does not exist")),
    "z-api status": (TWO, bodies.status(instance(TWO), "999999999999999999999")),
    "z-api arrival": (TWO, bodies.received(instance(TWO), "A20E", THREE["phone"])),
    "z-api disconnected": (TWO, bodies.disconnected(instance(TWO))),
    "z-api connected": (TWO, bodies.connected(instance(TWO), TWO["phone"])),
}


@pytest.mark.parametrize("said", SAID)
def test_what_the_contract_shows_is_taken_once_however_often_it_comes(there: Listening, said: str) -> None:
    chip, body = SAID[said]
    for _ in range(3):
        answer = there.ear.post(chip["provider"], instance(chip), body)
        assert (answer.status_code, answer.json()["taken"]) == (200, 1)
    (row,) = there.inbox()
    assert row["chip_id"] == chip["id"]
    (source,) = rows_of(there.lab.store, "SELECT * FROM webhook_sources")
    assert source["chip_id"] == chip["id"]
    assert (source["receipts_since"] is not None) == (row["kind"] == "receipt")


@pytest.mark.parametrize("where", ["header", "parameter"])
@pytest.mark.parametrize("given_secret", ["", "wrong", SECRET + "x", SECRET[:-1], "ção", None])
def test_without_the_right_secret_nothing_is_written_and_nothing_is_tried_again(
    refusing: Listening, given_secret: str | None, where: str
) -> None:
    how: dict[str, Any] = {}
    if given_secret is not None:
        how = (
            {"headers": {"X-Warmup-Secret": given_secret.encode()}}
            if where == "header"
            else {"params": {"key": given_secret}}
        )
    chip, body = SAID["z-api delivery"]
    answer = refusing.ear.client.post(f"/webhooks/z-api/{instance(chip)}", json=body, **how)
    assert answer.status_code == 401
    assert refusing.written() == 0


@pytest.mark.parametrize("where", ["header", "parameter"])
def test_the_secret_comes_in_a_header_or_in_the_address_for_a_gateway_that_sends_no_headers(
    here: Listening, where: str
) -> None:
    how: dict[str, Any] = (
        {"headers": {"x-warmup-secret": SECRET}} if where == "header" else {"params": {"key": SECRET}}
    )
    chip, body = SAID["z-api delivery"]
    assert here.ear.client.post(f"/webhooks/z-api/{instance(chip)}", json=body, **how).status_code == 200
    assert len(here.inbox()) == 1


def test_where_no_secret_is_set_every_webhook_is_refused(sqlite_store: Store, tmp_path: Path) -> None:
    with open_lab(sqlite_store) as lab:
        lab.add([ONE])
        with listening(lab.world, tmp_path, secret=None) as ear:
            for secret in ("", "None", SECRET):
                answer = ear.client.post(
                    f"/webhooks/evolution/{instance(ONE)}",
                    json=SAID["evolution update"][1],
                    headers={"X-Warmup-Secret": secret},
                )
                assert answer.status_code == 401
            assert rows_of(lab.store, "SELECT * FROM webhook_inbox") == []


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"", {}),
        (b"{", {}),
        (b"\xff\xfe{}", {}),
        (b"[" * 100_000, {}),
        (b'{"event":"' + b"x" * LARGEST_BODY + b'"}', {}),
        (
            gzip.compress(json.dumps(bodies.connected(instance(ONE), "1")).encode()),
            {"Content-Encoding": "gzip"},
        ),
        (b"no gzip at all", {"Content-Encoding": "gzip"}),
    ],
    ids=["empty", "cut off", "no text", "too deep", "too large", "packed", "badly packed"],
)
def test_what_is_no_json_or_too_large_is_400_which_evolution_does_not_repeat(
    refusing: Listening, content: bytes, headers: dict[str, str]
) -> None:
    answer = refusing.ear.client.post(
        f"/webhooks/evolution/{instance(ONE)}",
        content=content,
        headers={"X-Warmup-Secret": SECRET, "Content-Type": "application/json", **headers},
    )
    assert answer.status_code == 400
    assert refusing.written() == 0


def changed(body: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(body))
    *way, last = path.split(".")
    at = copy
    for name in way:
        at = at[name]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return copy


@pytest.mark.parametrize("value", [..., None, 7, [], {}, "", "x" * 129, "\x00", "\ud800"], ids=repr)
@pytest.mark.parametrize(
    ("said", "path"),
    [
        ("evolution update", "event"),
        ("evolution update", "instance"),
        ("evolution update", "data.keyId"),
        ("evolution update", "data.status"),
        ("evolution arrival", "data.key.id"),
        ("evolution arrival", "data.key.remoteJid"),
        ("evolution connection", "data.state"),
        ("z-api delivery", "type"),
        ("z-api delivery", "instanceId"),
        ("z-api status", "status"),
        ("z-api arrival", "messageId"),
        ("z-api arrival", "phone"),
    ],
)
def test_a_body_that_is_no_webhook_of_the_gateway_is_422_and_writes_nothing(
    refusing: Listening, said: str, path: str, value: Any
) -> None:
    chip, body = SAID[said]
    answer = refusing.ear.client.post(
        f"/webhooks/{chip['provider'].value}/{instance(chip)}",
        content=json.dumps(changed(body, path, value)),
        headers={"X-Warmup-Secret": SECRET},
    )
    assert answer.status_code == 422
    assert refusing.written() == 0


@pytest.mark.parametrize("body", [None, 1, "x", [], {}, [{"event": "messages.update"}]], ids=repr)
@pytest.mark.parametrize("chip", [ONE, TWO], ids=["evolution", "z-api"])
def test_json_that_is_no_event_is_422(refusing: Listening, chip: dict[str, Any], body: Any) -> None:
    answer = refusing.ear.client.post(
        f"/webhooks/{chip['provider'].value}/{instance(chip)}",
        content=json.dumps(body),
        headers={"X-Warmup-Secret": SECRET},
    )
    assert answer.status_code == 422
    assert refusing.written() == 0


def test_one_instance_cannot_speak_for_another(refusing: Listening) -> None:
    answer = refusing.ear.post(
        EVOLUTION, instance(ONE), SAID["evolution update"][1] | {"instance": instance(THREE)}
    )
    assert answer.status_code == 422
    answer = refusing.ear.post(EVOLUTION, instance(TWO), bodies.update(instance(TWO), "3EB0", "READ"))
    assert answer.status_code == 404, "a Z-API instance is none of Evolution's"
    assert refusing.written() == 0


def test_an_instance_that_is_no_chip_is_404_until_it_becomes_one(here: Listening) -> None:
    new = chip_row(9)
    body = bodies.update(instance(new), "3EB0", "READ")
    assert here.ear.post(EVOLUTION, instance(new), body).status_code == 404
    here.lab.add([new])
    statuses = {here.ear.post(EVOLUTION, instance(new), body).status_code for _ in range(200)}
    # Looked for again once a second at most: some of many tries come late enough.
    while 200 not in statuses:
        statuses.add(here.ear.post(EVOLUTION, instance(new), body).status_code)
    assert statuses <= {200, 404}


@pytest.mark.parametrize(
    ("chip", "body"),
    [
        (ONE, bodies.evolution(instance(ONE), "presence.update", {"id": "x"})),
        (ONE, bodies.evolution(instance(ONE), "some.future.event", None)),
        (ONE, bodies.update(instance(ONE), "3EB0", "PENDING")),
        (ONE, bodies.update(instance(ONE), "3EB0", "DELETED")),
        (ONE, bodies.update(instance(ONE), "3EB0", "READ", fromMe=False)),
        (ONE, bodies.upsert(instance(ONE), "3EB0", THREE["phone"], fromMe=True)),
        (TWO, {"type": "PresenceChatCallback", "instanceId": instance(TWO), "status": "COMPOSING"}),
        (TWO, bodies.status(instance(TWO), "A1", said="READ_BY_ME")),
        (TWO, bodies.received(instance(TWO), "A1", "120363019502650977-group", isGroup=True)),
    ],
)
def test_what_says_nothing_about_our_sends_is_taken_and_forgotten(
    here: Listening, chip: dict[str, Any], body: dict[str, Any]
) -> None:
    answer = here.ear.post(chip["provider"], instance(chip), body)
    assert (answer.status_code, answer.json()["taken"]) == (200, 0)
    assert here.inbox() == []


def test_an_event_may_be_named_in_evolutions_address_as_well(here: Listening) -> None:
    answer = here.ear.post(EVOLUTION, f"{instance(ONE)}/messages-update", SAID["evolution update"][1])
    assert (answer.status_code, len(here.inbox())) == (200, 1)


def test_a_stranger_leaves_no_trace_and_nobody_leaves_a_number_or_a_secret(there: Listening) -> None:
    words = "Quero marcar uma consulta"
    there.lab.world.redactor.learn([SECRET])
    stranger = "5511955554444"
    ear = there.ear
    for body in (
        bodies.upsert(instance(ONE), "3A01", stranger, words),
        bodies.upsert(instance(ONE), "3A02", stranger, words, lid="98765432109876@lid"),
        bodies.upsert(instance(ONE), "3A03", "", words, lid="98765432109876@lid"),
        bodies.upsert(instance(ONE), "3A04", THREE["phone"], "Bom dia"),
    ):
        assert ear.post(EVOLUTION, instance(ONE), body).status_code == 200
    failed = bodies.delivery(instance(TWO), "A1", "A1", f"no such number {stranger}, key={SECRET}")
    assert ear.post(Z_API, instance(TWO), failed).status_code == 200
    kept = {row["gateway_message_id"]: row for row in there.inbox()}
    # Who is behind a privacy id may turn out later: the id alone is kept, without a word.
    assert sorted(kept) == ["3A03", "3A04", "A1"]
    assert (kept["3A03"]["text"], kept["3A03"]["content"]) == (None, None)
    assert (kept["3A04"]["text"], kept["3A04"]["peer_chip_id"]) == ("Bom dia", THREE["id"])
    everything = json.dumps(list(kept.values()), default=str)
    for secret in (stranger, ONE["phone"], THREE["phone"], SECRET, words, "an-instance-token"):
        assert secret not in everything


def test_a_sender_is_known_by_its_number_in_whichever_form_and_by_its_privacy_id(there: Listening) -> None:
    without_the_nine = THREE["phone"][:4] + THREE["phone"][5:]
    ear = there.ear
    ear.post(EVOLUTION, instance(ONE), bodies.upsert(instance(ONE), "3A01", THREE["phone"]))
    ear.post(EVOLUTION, instance(ONE), bodies.upsert(instance(ONE), "3A02", without_the_nine))
    lid = "98765432109876@lid"
    ear.post(EVOLUTION, instance(ONE), bodies.upsert(instance(ONE), "3A03", without_the_nine, lid=lid))
    senders = {row["gateway_message_id"]: row["peer_chip_id"] for row in there.inbox()}
    nine_matters = THREE["phone"][4] == "9"
    assert nine_matters
    assert senders == dict.fromkeys(("3A01", "3A02", "3A03"), THREE["id"])


def test_while_the_database_is_gone_webhooks_are_refused_so_that_they_come_again(
    postgres_url: str, postgres_server: str, tmp_path: Path
) -> None:
    url = sa.make_url(postgres_url)
    name = f"{url.database}_gone"
    admin = sa.create_engine(
        sa.make_url(postgres_server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(sa.text(f'CREATE DATABASE "{name}"'))
    store = Store(url.set(database=name).render_as_string(hide_password=False))
    migrate.upgrade(store)
    with open_lab(store) as lab:
        lab.add([ONE])
        with listening(lab.world, tmp_path) as ear:
            assert ear.post(EVOLUTION, instance(ONE), SAID["evolution update"][1]).status_code == 200
            with admin.connect() as connection:
                connection.execute(sa.text(f'DROP DATABASE "{name}" WITH (FORCE)'))
            answer = ear.post(EVOLUTION, instance(ONE), SAID["evolution update"][1])
            assert answer.status_code == 503
            assert answer.status_code not in GIVEN_UP_AT_ONCE
    store.close()
    admin.dispose()


def test_nothing_that_was_answered_with_200_is_lost_when_very_many_come_at_once_and_serve_ends(
    store: Store, tmp_path: Path
) -> None:
    rows = [chip_row(number) for number in range(1, 21)]
    answered: list[str] = []

    async def burst(url: str) -> None:
        async with aiohttp.ClientSession(url) as client:

            async def one(number: int) -> None:
                row, message_id = rows[number % 20], f"3EB0{number:018X}"
                async with client.post(
                    f"/webhooks/evolution/{row['instance']}",
                    json=bodies.update(row["instance"], message_id, "DELIVERY_ACK"),
                    headers={"X-Warmup-Secret": SECRET},
                ) as answer:
                    if answer.status == 200:
                        answered.append(message_id)

            await asyncio.gather(*(one(number) for number in range(1_000)))

    with open_lab(store) as lab:
        lab.add(rows)
        with listening(lab.world, tmp_path) as ear:
            asyncio.run(burst(ear.url))
        kept = [row["gateway_message_id"] for row in rows_of(store, "SELECT * FROM webhook_inbox")]
    assert len(answered) == 1_000
    assert sorted(kept) == sorted(answered)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=40)
    | st.sampled_from(
        ["messages.update", "DELIVERY_ACK", "READ", "ReceivedCallback", "a@lid", "5511@s.whatsapp.net"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=6),
    max_leaves=20,
)
WAYS = [(said, way) for said, (_, body) in SAID.items() for way in ("", *body)] + [
    (said, f"{outer}.{inner}")
    for said, (_, body) in SAID.items()
    for outer in ("data", "text")
    if isinstance(body.get(outer), dict)
    for inner in body[outer]
]


@given(way=st.sampled_from(WAYS), value=JSON, more=st.dictionaries(st.text(max_size=8), JSON, max_size=3))
@settings(max_examples=400)
def test_no_body_however_strange_makes_an_error_of_ours(
    ear_for_anything: Ear, way: tuple[str, str], value: Any, more: dict[str, Any]
) -> None:
    said, path = way
    chip, body = SAID[said]
    sent = value if not path else changed(body, path, value) | more
    answer = ear_for_anything.client.post(
        f"/webhooks/{chip['provider'].value}/{instance(chip)}",
        content=json.dumps(sent).encode("utf-8", "surrogatepass"),
        headers={"X-Warmup-Secret": SECRET},
    )
    assert answer.status_code in {200, 400, 422}


@given(
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]),
    path=st.lists(
        st.sampled_from(
            ["webhooks", "evolution", "z-api", "warmer", "health", "%00", "..", "", "%ff", instance(ONE)]
        )
        | st.text(max_size=12).map(lambda text: httpx.QueryParams({"x": text}).__str__()[2:]),
        max_size=5,
    ),
    body=st.binary(max_size=64),
    secret=st.sampled_from([SECRET, "", "x"]),
)
@settings(max_examples=200)
def test_no_address_method_or_body_makes_an_error_of_ours(
    ear_for_anything: Ear, method: str, path: list[str], body: bytes, secret: str
) -> None:
    answer = ear_for_anything.client.request(
        method, f"{ear_for_anything.url}/{'/'.join(path)}", content=body, headers={"X-Warmup-Secret": secret}
    )
    # Health says 503 where it is critical, which a pool without cycles is.
    assert answer.status_code < 500 or path[:2] == ["warmer", "health"]
    assert answer.status_code != 500


@pytest.fixture(scope="module")
def ear_for_anything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ear]:
    folder = tmp_path_factory.mktemp("anything")
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    store = Store(f"sqlite:///{folder / 'warmup.db'}")
    migrate.upgrade(store)
    with open_lab(store) as lab:
        lab.add([ONE, TWO, THREE])
        with pytest.MonkeyPatch.context() as patch:
            # Health and status read Dagster's history.
            patch.setenv("DAGSTER_HOME", str(folder))
            with listening(lab.world, folder, modules=MODULES) as ear:
                yield ear
        assert lab.log.failures == []
    store.close()
