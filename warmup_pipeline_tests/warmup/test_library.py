"""The operator's own dialogues and media: they replace the shipped ones, and are looked at when they are loaded.

Trap guarded: a text called a picture, and bytes that a gateway takes for audio and of which nothing arrives.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import yaml

from warmup_pipeline.assembly import open_world
from warmup_pipeline.domain.values import ENVIAR_MIDIA, MARCAR_LIDO, MessageKind, Phase, Provider
from warmup_pipeline.settings import Settings
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.library import LibraryError, load_library
from warmup_pipeline.warmup.world import StandardLog
from warmup_pipeline_tests.support import chip_row, due_openings, open_lab, rows_of

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40
OGG = b"OggS" + b"\0" * 40
SHIPPED = load_library()


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "meu_cachorro.png").write_bytes(PNG)
    (folder / "bom_dia.ogg").write_bytes(OGG)
    (folder / "leia-me.txt").write_text("not media")
    return folder


def test_an_operators_folder_replaces_the_shipped_one(media: Path) -> None:
    library = load_library(media=media)
    assert set(library.media) == {"meu_cachorro.png", "bom_dia.ogg"}
    with_media = [d for d in library.dialogues if d.opens_with is not MessageKind.TEXT]
    for dialogue in with_media:
        file = library.media_for(dialogue, seed="s")
        assert file is not None
        assert file.name in library.media
        assert file.kind is dialogue.opens_with


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("fake.png", b"just a text", "fake.png is no image/png file"),
        ("fake.jpg", PNG, "fake.jpg is no image/jpeg file"),
        ("fake.ogg", PNG, "fake.ogg is no audio/ogg file"),
        ("huge.png", PNG + b"\0" * 5_000_000, "5000000 are the most"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(
    media: Path, name: str, data: bytes, says: str
) -> None:
    (media / name).write_bytes(data)
    with pytest.raises(LibraryError, match=says):
        load_library(media=media)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match=r"^no-such-folder: "):
        load_library(media=tmp_path / "no-such-folder")


@pytest.mark.parametrize("kept", ["meu_cachorro.png", "bom_dia.ogg"])
def test_a_kind_that_dialogues_open_with_must_be_there(media: Path, kept: str) -> None:
    for file in media.iterdir():
        if file.name != kept:
            file.unlink()
    with pytest.raises(LibraryError, match="there is no"):
        load_library(media=media)


def test_an_operators_dialogues_replace_the_shipped_ones_through_the_environment(
    tmp_path: Path, media: Path
) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    shipped = Path(__file__).parents[2] / "warmup_pipeline" / "data" / "dialogues" / "casual_pt_br.yaml"
    document = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    for section in ("dialogues", "media"):
        for dialogue in document[section]:
            dialogue["id"] = f"meu-{dialogue['id']}"
            dialogue.pop("media", None)
    (tmp_path / "meus.yaml").write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    environ = {"WARMUP_DIALOGUES": "meus.yaml", "WARMUP_MEDIA": str(media), "DAGSTER_HOME": str(tmp_path)}
    settings = Settings.from_environment(tmp_path, environ)
    with open_world(settings, log=StandardLog()) as world:
        assert all(d.id.startswith("meu-") for d in world.library.dialogues)
        assert set(world.library.media) == {"meu_cachorro.png", "bom_dia.ogg"}
    with (
        pytest.raises(LibraryError, match="nowhere"),
        open_world(replace(settings, dialogues=tmp_path / "nowhere.yaml"), log=StandardLog()),
    ):
        pass


@pytest.mark.parametrize("provider", list(Provider))
def test_media_is_sent_as_media_by_each_gateways_own_rules_and_counted_by_kind(
    sqlite_store: Store, provider: Provider
) -> None:
    with open_lab(sqlite_store) as lab:
        rows = [chip_row(n, ddd=11, phase=Phase.EXPANSAO, days=9, provider=provider) for n in range(1, 9)]
        lab.add(rows)
        lab.cycle()
        ids = [row["id"] for row in rows]
        for _ in range(3):
            due_openings(lab, ids, kind=ENVIAR_MIDIA)
            lab.cycle()
        sent = httpx.get(f"{lab.base_url}/_sim/messages").json()["messages"]
        by_id = {message["trace"]["message_id"]: message for message in sent}
        kept = rows_of(sqlite_store, "SELECT id, kind, media FROM messages WHERE turn = 1")
        assert {row["kind"] for row in kept} == {"picture", "audio"}
        for row in kept:
            message = by_id[row["id"]]
            assert message["kind"] == row["kind"]
            assert message["media_bytes"] == len(SHIPPED.media[row["media"]].data)
        counted = rows_of(
            sqlite_store,
            "SELECT chip_id, media_kinds, (SELECT count(DISTINCT kind) FROM messages"
            " WHERE sender_chip_id = chip_id AND kind <> 'text') AS n FROM chip_metrics",
        )
        assert all(row["media_kinds"] == row["n"] for row in counted)
        assert sum(row["n"] for row in counted) >= 2


def test_nothing_unread_is_its_own_final_state_and_marking_marks_what_arrived(sqlite_store: Store) -> None:
    with open_lab(sqlite_store) as lab:
        rows = [chip_row(n, ddd=11) for n in (1, 2)]
        lab.add(rows)
        lab.cycle()
        ids = [row["id"] for row in rows]
        (nothing,) = due_openings(lab, ids[:1], kind=MARCAR_LIDO)
        lab.cycle()
        (activity,) = rows_of(sqlite_store, "SELECT state, reason FROM activities WHERE id = :i", i=nothing)
        assert activity == {"state": "nothing_to_do", "reason": "nothing_unread"}
        due_openings(lab, ids)
        lab.cycle()
        (message,) = rows_of(sqlite_store, "SELECT * FROM messages")
        # Accepted a moment ago and not seen to arrive: there is nothing to mark yet.
        lab.cycle()
        (message,) = rows_of(sqlite_store, "SELECT * FROM messages WHERE turn = 1")
        assert message["state"] == "delivered"
        (marking,) = due_openings(lab, [message["recipient_chip_id"]], kind=MARCAR_LIDO)
        lab.cycle()
        (activity,) = rows_of(sqlite_store, "SELECT state FROM activities WHERE id = :i", i=marking)
        assert activity["state"] == "executed"
        sent = httpx.get(f"{lab.base_url}/_sim/messages").json()["messages"]
        (truth,) = [one for one in sent if one["message_id"] == message["gateway_message_id"]]
        assert truth["read_at"] is not None


def test_a_marking_that_the_gateway_refused_is_not_executed(sqlite_store: Store) -> None:
    with open_lab(sqlite_store) as lab:
        rows = [chip_row(n, ddd=11) for n in (1, 2)]
        lab.add(rows)
        lab.cycle()
        ids = [row["id"] for row in rows]
        due_openings(lab, ids)
        lab.cycle()
        lab.cycle()
        (message,) = rows_of(sqlite_store, "SELECT * FROM messages WHERE turn = 1")
        refuses = {"match": {"route": "read"}, "kind": "status", "code": 500, "body": "generic"}
        httpx.post(f"{lab.base_url}/_sim/faults", json={"rules": [refuses]}).raise_for_status()
        (marking,) = due_openings(lab, [message["recipient_chip_id"]], kind=MARCAR_LIDO)
        lab.cycle()
        (activity,) = rows_of(
            sqlite_store, "SELECT state, traceback FROM activities WHERE id = :i", i=marking
        )
        assert activity["state"] == "failed"
        assert "GatewayError" in activity["traceback"]
        (message,) = rows_of(sqlite_store, "SELECT marked_read_at FROM messages WHERE turn = 1")
        assert message["marked_read_at"] is None
