"""The import: what is taken over, what becomes of what was planned, and every way it refuses.

Guards against: a file half imported, a bad row without its place, a chip counted twice, history that
counts as sends, a full phone number in a message.
"""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from warmup_pipeline.domain.values import ActivityState, ChipStatus
from warmup_pipeline.store import activities, chips, connections, derived, messages, migrate, pools
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.importing import ImportRefused, ImportReport, import_pool
from warmup_pipeline_tests.warmup.offline import AUDIT, AUDITED_AT, contents, offline_world, rows

CHIPS, SCHEDULE, INTERACTIONS = (
    AUDIT / name for name in ("chips.csv", "warmup_schedule.csv", "chip_interactions.csv")
)
ZAPI, RESTRICTED, FIRST, LISTENER = "8618", "6402", "0121", "6081"


def import_audit(store: Store, **more: Any) -> ImportReport:
    return import_pool(offline_world(store), CHIPS, SCHEDULE, INTERACTIONS, stepped_from=AUDITED_AT, **more)


def write_csv(path: Path, table: list[dict[str, str]]) -> Path:
    columns = list(dict.fromkeys(column for row in table for column in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(table)
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def a_chip(number: int = 1, **more: str) -> dict[str, str]:
    return {
        "id": f"chip-{number}",
        "telefone": f"551190000{number:04d}",
        "instance_name": f"inst-{number}",
        "status": "warming",
        "fase_warmup": "setup",
    } | more


def an_activity(number: int = 1, **more: str) -> dict[str, str]:
    return {
        "id": f"act-{number}",
        "chip_id": "chip-1",
        "tipo": "CONVERSA_PAR",
        "scheduled_for": "2026-02-20T10:00:00-03:00",
        "status": "planejada",
    } | more


def an_interaction(number: int = 1, **more: str) -> dict[str, str]:
    return {
        "id": f"int-{number}",
        "chip_id": "chip-1",
        "tipo": "msg_enviada",
        "sucesso": "false",
        "created_at": "2026-02-19T10:00:00-03:00",
    } | more


def import_rows(
    store: Store,
    folder: Path,
    chip_rows: list[dict[str, str]],
    activity_rows: list[dict[str, str]] | None = None,
    interaction_rows: list[dict[str, str]] | None = None,
    **more: Any,
) -> ImportReport:
    return import_pool(
        offline_world(store),
        write_csv(folder / "chips.csv", chip_rows),
        None if activity_rows is None else write_csv(folder / "schedule.csv", activity_rows),
        None if interaction_rows is None else write_csv(folder / "interactions.csv", interaction_rows),
        **more,
    )


def outcomes(store: Store) -> dict[str, tuple[str, str | None]]:
    return {row[0]: (row[1], row[2]) for row in rows(store, "SELECT id, state, reason FROM activities")}


# --- the audited pool


def test_the_audit_is_taken_over_whole(store: Store) -> None:
    report = import_audit(store)
    assert report.chips_by_status == {"active": 2, "degraded": 1, "provisioned": 2, "warming": 5}
    assert (report.chips_new, report.activities_new, report.interactions_new) == (10, 69, 47)
    assert report.day == date(2026, 2, 20)
    assert report.warnings == ()
    with store.read() as tx:
        by_end = {chip.last4: chip for chip in chips.of_pool(tx, "default")}
        balances = chips.balances(tx, "default")
    zapi = by_end[ZAPI]
    assert (zapi.instance, zapi.label) == ("3C06E7A9B5D1F06", "julia-06")
    assert zapi.last_error_text == "Event loop is closed"
    assert balances[zapi.id].sent == 412
    assert balances[zapi.id].received == 268
    assert balances[zapi.id].bidirectional == 61
    assert by_end[RESTRICTED].status is ChipStatus.DEGRADED
    assert "account restricted" in (by_end[RESTRICTED].status_reason or "")
    assert by_end[RESTRICTED].cooldown_until == datetime(2026, 2, 20, 13, 0, tzinfo=UTC)
    assert not by_end[LISTENER].takes_part


def test_warming_days_are_derived_from_the_age_reference_and_not_imported(store: Store) -> None:
    import_audit(store)
    with store.read() as tx:
        ends = {chip.id: chip.last4 for chip in chips.of_pool(tx)}
        days = {ends[chip_id]: day for chip_id, day in derived.warming_days(tx).items() if day is not None}
    assert days == {"0121": 9, "7734": 8, "0945": 7, "7216": 6, "8850": 5, ZAPI: 94, RESTRICTED: 21}


def test_planned_stubs_are_cancelled_as_not_implemented(store: Store) -> None:
    assert import_audit(store).stubs_cancelled == 3
    stubs = rows(store, "SELECT type, state FROM activities WHERE reason = 'not_implemented' ORDER BY type")
    assert [tuple(row) for row in stubs] == [
        ("ATUALIZAR_PERFIL", "cancelled"),
        ("ENTRAR_GRUPO", "cancelled"),
        ("MENSAGEM_GRUPO", "cancelled"),
    ]


def test_what_is_planned_for_the_day_becomes_each_chips_plan(store: Store) -> None:
    import_audit(store)
    with store.read() as tx:
        plans = activities.plans_of(tx, "default", date(2026, 2, 20))
        ends = {chip.id: chip for chip in chips.of_pool(tx)}
    assert sorted(ends[chip_id].last4 for chip_id in plans) == ["0121", "0945", "7216", "7734", ZAPI, "8850"]
    assert all(plan.revision == 0 and plan.phase is ends[chip_id].phase for chip_id, plan in plans.items())
    planned = {
        row[0]: row[1]
        for row in rows(store, "SELECT chip_id, planned FROM day_plans WHERE source = 'import'")
    }
    kept = rows(store, "SELECT chip_id, count(*) FROM activities WHERE state = 'planned' GROUP BY chip_id")
    assert planned == {row[0]: row[1] for row in kept}
    assert sum(planned.values()) == 21


def test_history_counts_as_no_send_and_no_error(store: Store) -> None:
    import_audit(store)
    assert rows(store, "SELECT count(*) FROM messages")[0][0] == 0
    with store.read() as tx:
        day = date(2026, 2, 20)
        used = messages.use_of_limits(tx, "default", at=AUDITED_AT, day=day)
        assert used == {}
        found = derived.metrics(tx, "default")
    assert all(metrics.errors_24h == 0 and metrics.attempted == 0 for metrics in found.values())
    history = rows(
        store,
        "SELECT count(*) FROM activities"
        " WHERE type = 'CONVERSA_PAR' AND state = 'failed' AND source = 'import'",
    )
    assert history[0][0] == 17


def test_an_imported_connection_is_not_believed_until_a_gateway_confirms_it(store: Store) -> None:
    import_audit(store)
    with store.read() as tx:
        ends = {chip.id: chip.last4 for chip in chips.of_pool(tx)}
        seen = {ends[chip_id]: row for chip_id, row in connections.of_pool(tx).items()}
    assert seen[ZAPI].state == "closed"
    assert seen[FIRST].state == "open"
    assert all(row.observed_at is None for row in seen.values())
    assert seen[LISTENER].state == "open"


def test_importing_twice_changes_nothing(store: Store) -> None:
    import_audit(store)
    before = contents(store)
    again = import_pool(offline_world(store), CHIPS, SCHEDULE, INTERACTIONS)
    assert contents(store) == before
    assert not again.changes_anything
    assert (again.chips_unchanged, again.activities_unchanged, again.interactions_unchanged) == (10, 69, 47)


def test_a_dry_run_reports_the_same_and_keeps_nothing(store: Store) -> None:
    before = contents(store)
    rehearsed = import_audit(store, dry_run=True)
    assert contents(store) == before
    real = import_audit(store).document()
    assert rehearsed.document() | {"dry_run": False} == real


def test_an_import_is_kept_among_the_operator_actions(store: Store) -> None:
    import_audit(store, author="ana")
    actions = rows(store, "SELECT author, action, target FROM operator_actions")
    assert [tuple(row) for row in actions] == [("ana", "import_pool", "default")]


def test_full_numbers_stand_in_the_chips_table_only(sqlite_store: Store) -> None:
    import_audit(sqlite_store)
    everything = contents(sqlite_store)
    numbers = [row["telefone"] for row in read_csv(CHIPS)]
    for name, stored in everything.items():
        if name != "chips":
            assert not [number for number in numbers if any(number in row for row in stored)], name


# --- what becomes of what was planned


@pytest.mark.parametrize(
    ("activity", "chip", "becomes"),
    [
        ({}, {}, ("planned", None)),
        ({"tipo": "MENSAGEM_GRUPO"}, {}, ("cancelled", "not_implemented")),
        ({"scheduled_for": "2026-02-19T10:00:00-03:00"}, {}, ("expired", "day_over")),
        ({"scheduled_for": "2026-02-21T00:30:00-03:00"}, {}, ("cancelled", "replanned")),
        # 23:30 in São Paulo is the next day in UTC: days are local.
        ({"scheduled_for": "2026-02-21T02:30:00+00:00"}, {}, ("planned", None)),
        ({}, {"status": "paused"}, ("cancelled", "chip_not_participating")),
        ({}, {"tipo": "Listener", "status": "active"}, ("cancelled", "chip_not_participating")),
        ({"status": "executada"}, {}, ("executed", "imported")),
        ({"status": "falhou"}, {}, ("failed", "imported")),
        ({"status": "cancelada"}, {}, ("cancelled", "imported")),
        ({"tipo": "ENTRAR_GRUPO", "status": "falhou"}, {}, ("failed", "imported")),
    ],
)
def test_each_activity_becomes_what_the_rules_say(
    sqlite_store: Store,
    tmp_path: Path,
    activity: dict[str, Any],
    chip: dict[str, Any],
    becomes: tuple[str, str | None],
) -> None:
    import_rows(sqlite_store, tmp_path, [a_chip(**chip)], [an_activity(**activity)])
    assert outcomes(sqlite_store) == {"act-1": becomes}


def test_a_chip_with_nothing_kept_is_left_for_the_planner(sqlite_store: Store, tmp_path: Path) -> None:
    import_rows(sqlite_store, tmp_path, [a_chip()], [an_activity(tipo="ENTRAR_GRUPO")])
    assert rows(sqlite_store, "SELECT * FROM day_plans") == []


def test_a_later_schedule_does_not_add_to_a_day_that_is_planned(sqlite_store: Store, tmp_path: Path) -> None:
    import_rows(sqlite_store, tmp_path, [a_chip()], [an_activity(1)])
    import_rows(sqlite_store, tmp_path, [a_chip()], [an_activity(1), an_activity(2)])
    assert outcomes(sqlite_store) == {"act-1": ("planned", None), "act-2": ("cancelled", "replanned")}


def test_what_the_old_system_sent_today_counts_against_the_days_limit(
    sqlite_store: Store, tmp_path: Path
) -> None:
    report = import_rows(sqlite_store, tmp_path, [a_chip(msgs_enviadas_hoje="4", msgs_enviadas_total="1")])
    with sqlite_store.read() as tx:
        balance = chips.balances(tx, "default")["chip-1"]
    assert (balance.sent, balance.sent_on_day, balance.day) == (4, 4, date(2026, 2, 20))
    assert "msgs_enviadas_hoje 4 is more than msgs_enviadas_total 1" in report.warnings[0]


def test_optional_columns_may_be_missing_and_cells_empty(sqlite_store: Store, tmp_path: Path) -> None:
    import_rows(sqlite_store, tmp_path, [a_chip(provider="", cooldown_until="", created_at="")])
    with sqlite_store.read() as tx:
        chip = chips.of_pool(tx)[0]
    assert (chip.provider, chip.role, chip.created_at) == ("evolution", "julia", AUDITED_AT)


def test_a_byte_order_mark_and_blank_lines_are_fine(sqlite_store: Store, tmp_path: Path) -> None:
    text = CHIPS.read_text(encoding="utf-8").replace("\n", "\r\n\r\n")
    file = tmp_path / "chips.csv"
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert import_pool(offline_world(sqlite_store), file).chips_new == 10


def test_secrets_and_numbers_in_error_texts_are_taken_out(sqlite_store: Store, tmp_path: Path) -> None:
    text = "POST /instances/X/token/a-secret-token/send-text to 5511987654321 failed"
    import_rows(
        sqlite_store, tmp_path, [a_chip(ultimo_erro_msg=text)], None, [an_interaction(erro_mensagem=text)]
    )
    stored = rows(
        sqlite_store, "SELECT last_error_text FROM chips UNION SELECT error_text FROM imported_interactions"
    )
    assert all("a-secret-token" not in row[0] and "5511987654321" not in row[0] for row in stored)
    assert all("…4321" in row[0] for row in stored)


# --- times


def test_rebasing_moves_everything_so_that_the_exports_moment_is_the_one_asked_for(
    sqlite_store: Store,
) -> None:
    to = datetime.fromisoformat("2026-03-10T08:00:00-03:00")
    world = offline_world(sqlite_store, at=to)
    report = import_pool(world, CHIPS, SCHEDULE, INTERACTIONS, rebase_to=to)
    assert report.export_moment == AUDITED_AT
    assert timedelta(seconds=report.shifted_s) == timedelta(days=18)
    assert report.activities_by_outcome["kept"] == 21
    assert report.warnings == ()
    with sqlite_store.read() as tx:
        ends = {chip.id: chip for chip in chips.of_pool(tx)}
        days = {ends[i].last4: day for i, day in derived.warming_days(tx).items()}
    first = next(chip for chip in ends.values() if chip.last4 == FIRST)
    assert first.warming_started_at == datetime.fromisoformat("2026-03-01T05:00:00-03:00")
    assert days[FIRST] == 9


def test_files_that_know_the_future_are_imported_with_a_warning(sqlite_store: Store) -> None:
    world = offline_world(sqlite_store, at=AUDITED_AT - timedelta(days=30))
    report = import_pool(world, CHIPS, SCHEDULE, INTERACTIONS)
    assert report.activities_by_outcome["cancelled: replanned"] == 21
    assert "--rebase-to" in report.warnings[0]


def test_a_pool_on_the_system_clock_takes_its_day_from_real_time(sqlite_store: Store) -> None:
    report = import_pool(offline_world(sqlite_store, at=AUDITED_AT + timedelta(days=3)), CHIPS, SCHEDULE)
    assert report.activities_by_outcome["expired: day_over"] == 21
    with sqlite_store.read() as tx:
        assert pools.get(tx, "default").next_tick is None


# --- refusals: each names its place, and nothing is written


BAD_CHIPS: list[tuple[dict[str, str], str]] = [
    (
        {"status": "connected"},
        "chips.csv line 2, column status: 'connected' is not one of provisioned, pending",
    ),
    ({"fase_warmup": "warm"}, "line 2, column fase_warmup: 'warm' is not one of repouso, setup"),
    ({"fase_warmup": ""}, "line 2, column fase_warmup: '' is not one of repouso"),
    ({"provider": "twilio"}, "line 2, column provider: 'twilio' is not one of evolution, z-api"),
    ({"telefone": "12345"}, "line 2, column telefone: a phone is 55"),
    ({"telefone": "+14155552671"}, "line 2, column telefone: only numbers of Brazil"),
    ({"id": "5511955554444"}, "line 2, column id: is a phone number"),
    ({"telefone": "5500900000001"}, "line 2, column telefone: area code 00 is not in use"),
    ({"telefone": ""}, "line 2, column telefone: is empty, but is needed"),
    ({"id": ""}, "line 2, column id: is empty, but is needed"),
    ({"id": "x" * 37}, "line 2, column id: has 37 characters; at most 36"),
    ({"instance_name": ""}, "line 2, column instance_name: is empty, but is needed"),
    ({"provider": "z-api"}, "line 2, column zapi_instance_id: is empty, but is needed"),
    (
        {"warming_started_at": "2026-02-11T05:00:00"},
        "column warming_started_at: '2026-02-11T05:00:00' has no time zone",
    ),
    ({"warming_started_at": "11/02/2026"}, "column warming_started_at: '11/02/2026' is no timestamp"),
    (
        {"created_at": "0001-01-01T00:00:00+00:00"},
        "column created_at: '0001-01-01T00:00:00+00:00' is not a time",
    ),
    ({"msgs_enviadas_total": "-1"}, "column msgs_enviadas_total: '-1' is not a whole number"),
    ({"msgs_enviadas_total": "1.5"}, "column msgs_enviadas_total: '1.5' is not a whole number"),
    ({"msgs_recebidas_hoje": "9" * 30}, "column msgs_recebidas_hoje:"),
    ({"evolution_connected": "maybe"}, "column evolution_connected: 'maybe' is not true or false"),
]


@pytest.mark.parametrize(("bad", "said"), BAD_CHIPS)
def test_a_bad_cell_of_a_chip_is_named_and_nothing_is_written(
    sqlite_store: Store, tmp_path: Path, bad: dict[str, Any], said: str
) -> None:
    before = contents(sqlite_store)
    with pytest.raises(ImportRefused) as refused:
        import_rows(sqlite_store, tmp_path, [a_chip(**bad), a_chip(2)], [an_activity(chip_id="chip-2")])
    assert len(refused.value.problems) == 1
    assert said in refused.value.problems[0]
    assert contents(sqlite_store) == before


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"tipo": "DANCAR"}, "schedule.csv line 2, column tipo: 'DANCAR' is not one of ATUALIZAR_PERFIL"),
        (
            {"status": "talvez"},
            "line 2, column status: 'talvez' is not one of planejada, executada, falhou, cancelada",
        ),
        ({"chip_id": "nobody"}, "line 2, column chip_id: 'nobody' is no chip of the chips file"),
        ({"chip_id": ""}, "line 2, column chip_id: is empty"),
        ({"id": ""}, "line 2, column id: is empty"),
        ({"scheduled_for": ""}, "line 2, column scheduled_for: is empty"),
        (
            {"scheduled_for": "2026-02-20T10:00:00"},
            "column scheduled_for: '2026-02-20T10:00:00' has no time zone",
        ),
        ({"executed_at": "soon"}, "column executed_at: 'soon' is no timestamp"),
        ({"resultado": '{"success": fal'}, "column resultado: is no valid JSON"),
        ({"resultado": "[1]"}, "column resultado: is no JSON object"),
    ],
)
def test_a_bad_cell_of_the_schedule_is_named_and_nothing_is_written(
    sqlite_store: Store, tmp_path: Path, bad: dict[str, Any], said: str
) -> None:
    before = contents(sqlite_store)
    with pytest.raises(ImportRefused) as refused:
        import_rows(sqlite_store, tmp_path, [a_chip()], [an_activity(**bad), an_activity(2)])
    assert len(refused.value.problems) == 1
    assert said in refused.value.problems[0]
    assert contents(sqlite_store) == before


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (
            {"tipo": "msg_recebida"},
            "interactions.csv line 2, column tipo: 'msg_recebida' is not one of msg_enviada",
        ),
        ({"sucesso": ""}, "line 2, column sucesso: is empty"),
        ({"sucesso": "sim"}, "line 2, column sucesso: 'sim' is not true or false"),
        ({"created_at": ""}, "line 2, column created_at: is empty"),
        ({"chip_id": "nobody"}, "line 2, column chip_id: 'nobody' is no chip of the chips file"),
        ({"metadata": "{"}, "column metadata: is no valid JSON"),
    ],
)
def test_a_bad_cell_of_the_interactions_is_named_and_nothing_is_written(
    sqlite_store: Store, tmp_path: Path, bad: dict[str, Any], said: str
) -> None:
    before = contents(sqlite_store)
    with pytest.raises(ImportRefused) as refused:
        import_rows(sqlite_store, tmp_path, [a_chip()], None, [an_interaction(**bad), an_interaction(2)])
    assert len(refused.value.problems) == 1
    assert said in refused.value.problems[0]
    assert contents(sqlite_store) == before


AUDIT_TEXT = CHIPS.read_text(encoding="utf-8")
BAD_FILES: list[tuple[str, bytes, str]] = [
    ("empty", b"", "chips.csv: is empty"),
    ("blank", b"\n  \n\n", "chips.csv: is empty"),
    ("only columns", AUDIT_TEXT.splitlines()[0].encode(), "chips.csv: names its columns but has no chip"),
    ("cut off in a row", AUDIT_TEXT.encode()[:1500], "the file seems cut off here"),
    ("an open quote", AUDIT_TEXT.encode() + b'x,"5511', "a quote is not closed, or the file is cut off"),
    ("UTF-16", AUDIT_TEXT.encode("utf-16"), "chips.csv: is UTF-16, not UTF-8"),
    (
        "Latin-1",
        AUDIT_TEXT.replace("julia-03", "júlia-03").encode("latin-1"),
        "line 4: is not UTF-8 (byte 0xfa)",
    ),
    ("binary", AUDIT_TEXT.encode() + b"\x00", "line 12: holds a NUL character"),
    ("semicolons", AUDIT_TEXT.replace(",", ";").encode(), "line 1: is separated by semicolons"),
    ("tabs", AUDIT_TEXT.replace(",", "\t").encode(), "line 1: is separated by tabs"),
    ("no status", AUDIT_TEXT.replace(",status,", ",estado,").encode(), "line 1: lacks the column status"),
    (
        "a column twice",
        AUDIT_TEXT.replace(",trust_level,", ",status,").encode(),
        "names the column 'status' twice",
    ),
    (
        "a cell too many",
        AUDIT_TEXT.replace("julia-02,", "julia-02,x,").encode(),
        "line 3: has 31 columns where",
    ),
]


@pytest.mark.parametrize(("data", "said"), [bad[1:] for bad in BAD_FILES], ids=[bad[0] for bad in BAD_FILES])
def test_a_file_that_is_no_such_table_is_refused_in_one_line(
    store: Store, tmp_path: Path, data: bytes, said: str
) -> None:
    before = contents(store)
    file = tmp_path / "chips.csv"
    file.write_bytes(data)
    with pytest.raises(ImportRefused) as refused:
        import_pool(offline_world(store), file, SCHEDULE, INTERACTIONS)
    assert len(refused.value.problems) == 1, refused.value.problems
    assert said in refused.value.problems[0]
    assert contents(store) == before


def test_a_file_that_is_not_there_or_is_a_folder_is_refused(sqlite_store: Store, tmp_path: Path) -> None:
    for path in (tmp_path / "absent.csv", tmp_path):
        with pytest.raises(ImportRefused, match="cannot be read"):
            import_pool(offline_world(sqlite_store), path)


def test_every_bad_row_is_named_at_once(sqlite_store: Store, tmp_path: Path) -> None:
    with pytest.raises(ImportRefused) as refused:
        import_rows(
            sqlite_store,
            tmp_path,
            [a_chip(1, status="x"), a_chip(2, telefone="1"), a_chip(3)],
            [an_activity(1, tipo="x"), an_activity(2, chip_id="chip-9")],
            [an_interaction(1, sucesso="x")],
        )
    places = [problem.split(":")[0] for problem in refused.value.problems]
    assert places == [
        "chips.csv line 2, column status",
        "chips.csv line 3, column telefone",
        "schedule.csv line 2, column tipo",
        "schedule.csv line 3, column chip_id",
        "interactions.csv line 2, column sucesso",
    ]


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"id": "chip-1"}, "line 3, column id: is the same as on line 2"),
        ({"telefone": "+55 (11) 90000-0001"}, "line 3, column telefone: …0001 is the phone of line 2, too"),
        ({"telefone": "551100000001"}, "line 3, column telefone: …0001 is the phone of line 2, too"),
        (
            {"instance_name": "inst-1"},
            "line 3, column instance_name: 'inst-1' is the instance of line 2, too",
        ),
    ],
)
def test_a_twin_inside_the_file_is_refused(
    sqlite_store: Store, tmp_path: Path, second: dict[str, str], said: str
) -> None:
    with pytest.raises(ImportRefused) as refused:
        import_rows(sqlite_store, tmp_path, [a_chip(1), a_chip(2, **second)])
    assert len(refused.value.problems) == 1
    assert said in refused.value.problems[0]
    assert "5511900000001" not in str(refused.value)


def test_activities_and_interactions_with_the_same_id_are_refused(
    sqlite_store: Store, tmp_path: Path
) -> None:
    with pytest.raises(ImportRefused) as refused:
        import_rows(
            sqlite_store,
            tmp_path,
            [a_chip()],
            [an_activity(), an_activity()],
            [an_interaction(), an_interaction()],
        )
    assert refused.value.problems == (
        "schedule.csv line 3, column id: is the same as on line 2",
        "interactions.csv line 3, column id: is the same as on line 2",
    )


@pytest.mark.parametrize(
    ("row", "pool", "said"),
    [
        (
            a_chip(2, telefone="5511900000001"),
            "default",
            "…0001 is the phone of chip chip-1 of pool 'default'",
        ),
        (
            a_chip(2, instance_name="inst-1"),
            "other",
            "'inst-1' is the instance of chip chip-1 of pool 'default'",
        ),
        (a_chip(1, telefone="5511900000002"), "default", "is …0002, but the chip is here with …0001 already"),
        (
            a_chip(1, instance_name="moved"),
            "default",
            "is 'moved' at evolution, but the chip is here already as",
        ),
        (a_chip(1), "other", "column id: is in pool 'default' already"),
    ],
)
def test_what_contradicts_the_database_is_refused_and_nothing_is_written(
    store: Store, tmp_path: Path, row: dict[str, str], pool: str, said: str
) -> None:
    import_rows(store, tmp_path, [a_chip(1)])
    before = contents(store)
    with pytest.raises(ImportRefused) as refused:
        import_rows(store, tmp_path, [a_chip(7), row], pool=pool)
    assert len(refused.value.problems) == 1
    assert said in refused.value.problems[0]
    assert contents(store) == before


def test_an_activity_that_has_changed_its_chip_is_refused(sqlite_store: Store, tmp_path: Path) -> None:
    import_rows(sqlite_store, tmp_path, [a_chip(1), a_chip(2)], [an_activity()], [an_interaction()])
    with pytest.raises(ImportRefused) as refused:
        import_rows(
            sqlite_store,
            tmp_path,
            [a_chip(1), a_chip(2)],
            [an_activity(chip_id="chip-2")],
            [an_interaction(chip_id="chip-2")],
        )
    assert refused.value.problems == (
        "schedule.csv line 2, column id: is here already, for chip chip-1",
        "interactions.csv line 2, column id: is here already, for chip chip-1",
    )


def test_a_column_that_nobody_knows_is_said_to_be_left_out(sqlite_store: Store, tmp_path: Path) -> None:
    report = import_rows(sqlite_store, tmp_path, [a_chip(cooldwn_until="2026-02-21T08:00:00-03:00")])
    assert report.warnings == ("chips.csv: not known and not taken over: 'cooldwn_until'",)


# --- for any rows

_cell = st.one_of(
    st.sampled_from(
        ["", "x", "warming", "banned", "setup", "operacao", "z-api", "true", "0", "7", "-1", '"', "é", ";"]
    ),
    st.sampled_from(
        ["2026-02-20T10:00:00-03:00", "2026-02-20T10:00:00", "5511900000002", "chip-1", "{}", "{"]
    ),
    st.text(max_size=12),
)
_COLUMNS = (
    *("id", "telefone", "status", "fase_warmup", "provider", "tipo", "chip_id", "scheduled_for"),
    *("created_at", "sucesso", "cooldown_until", "msgs_enviadas_hoje", "resultado", "instance_name"),
)
_FILES = ("chips.csv", "schedule.csv", "interactions.csv")
_TYPED = ("kept", "cancelled", "expired", "executed", "failed")


# Other tests cover the import: traced, a hundred and twenty take twice as long.
@pytest.mark.no_cover
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    spoiled=st.lists(
        st.tuples(
            st.sampled_from(["chips", "schedule", "interactions"]),
            st.sampled_from(_COLUMNS),
            _cell,
        ),
        max_size=3,
    )
)
def test_any_rows_are_imported_whole_or_refused_with_nothing_written(
    tmp_path: Path, spoiled: list[tuple[str, str, str]]
) -> None:
    tables = {
        "chips": [a_chip(1), a_chip(2)],
        "schedule": [an_activity()],
        "interactions": [an_interaction()],
    }
    for file, column, cell in spoiled:
        tables[file][0][column] = cell
    store = Store("sqlite://")
    migrate.upgrade(store)
    before = contents(store)
    report: ImportReport | None = None
    problems: tuple[str, ...] = ()
    try:
        report = import_rows(store, tmp_path, tables["chips"], tables["schedule"], tables["interactions"])
    except ImportRefused as refused:
        problems = refused.problems
    after = contents(store)
    store.close()
    if report is None:
        assert problems
        assert all(line.startswith(_FILES) and "\n" not in line for line in problems)
        assert after == before
    else:
        assert (report.chips_new, report.activities_new, report.interactions_new) == (2, 1, 1)
        assert [len(after[name]) for name in ("chips", "activities", "imported_interactions")] == [2, 1, 1]
        assert all(outcome.split(":")[0] in _TYPED for outcome in report.activities_by_outcome)


def test_only_activities_of_the_day_and_of_chips_that_take_part_stay_planned(store: Store) -> None:
    import_audit(store)
    with store.read() as tx:
        of_pool = {chip.id: chip for chip in chips.of_pool(tx)}
        due = activities.due(tx, "default", tick=AUDITED_AT + timedelta(days=1), day=date(2026, 2, 20))
    assert len(due) == 21
    assert all(of_pool[activity.chip_id].takes_part for activity in due)
    assert {activity.state for activity in due} == {ActivityState.PLANNED}
