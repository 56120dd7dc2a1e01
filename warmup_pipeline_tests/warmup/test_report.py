"""The traps: figures that the log does not bear out, a number too many, a page that needs the network."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.domain.values import PHASE_ORDER, TrustLevel
from warmup_pipeline.store import migrate
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.policies import load_policy
from warmup_pipeline.warmup.timelapse.export import FILES, export
from warmup_pipeline.warmup.timelapse.report.data import (
    ReportData,
    ReportError,
    collect,
    most_in_hour,
    shown_names,
)
from warmup_pipeline.warmup.timelapse.report.files import OutputError, check_file, check_folder, write_file
from warmup_pipeline.warmup.timelapse.report.page import MOST_ROWS, render
from warmup_pipeline.warmup.timelapse.report.tables import TABLES
from warmup_pipeline_tests.support import chip_row, open_lab, rows_of, run_sql
from warmup_pipeline_tests.warmup.lived import REASON, Life, counted, live

POLICY = load_policy("default")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def life(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('report') / 'pool.db'}"
    else:
        server = sa.make_url(request.getfixturevalue("postgres_server"))
        admin = sa.create_engine(server.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(sa.text("CREATE DATABASE report_of_a_pool"))
        admin.dispose()
        url = server.set(database="report_of_a_pool").render_as_string(hide_password=False)
    store = Store(url)
    migrate.upgrade(store)
    with live(store) as lived:
        # Written behind the program's back: an operator's words are redacted when they are written.
        run_sql(store, "UPDATE chips SET status_reason = :why WHERE status = 'paused'", why=REASON)
        yield lived
    store.close()


@pytest.fixture(scope="module")
def data(life: Life) -> ReportData:
    return collect(life.store, POLICY, facts={"seed": "7", "note": "<script>alert(1)</script>"})


@pytest.fixture(scope="module")
def page(data: ReportData) -> str:
    return render(data, POLICY)


# -- the figures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "column", "sql"),
    [
        (
            "chip_days",
            "counted",
            "SELECT count(*) FROM messages WHERE pool = 'default' AND state <> 'failed'",
        ),
        (
            "chip_days",
            "received",
            "SELECT count(*) FROM messages WHERE pool = 'default' AND state NOT IN ('failed', 'unknown')",
        ),
        (
            "chip_days",
            "confirmed",
            "SELECT count(*) FROM messages WHERE pool = 'default' AND confirmed_at IS NOT NULL",
        ),
        ("chip_days", "failed", "SELECT count(*) FROM messages WHERE pool = 'default' AND state = 'failed'"),
        (
            "failures",
            "count",
            "SELECT count(*) FROM messages WHERE pool = 'default' AND state IN ('failed', 'unknown')",
        ),
        (
            "pairs",
            "opened",
            "SELECT count(*) FROM conversations WHERE pool = 'default' AND opened_at IS NOT NULL",
        ),
        (
            "pairs",
            "turns",
            "SELECT sum(turns_accepted) FROM conversations WHERE pool = 'default' AND opened_at IS NOT NULL",
        ),
        (
            "pool_days",
            "opened",
            "SELECT count(*) FROM conversations WHERE pool = 'default' AND opened_at IS NOT NULL",
        ),
        ("pool_days", "sent", "SELECT sum(sent) FROM daily_summary WHERE scope_id = 'default'"),
        (
            "refusals",
            "count",
            (
                "SELECT (SELECT count(*) FROM deferrals WHERE pool = 'default') + "
                "(SELECT count(*) FROM presend_validations WHERE pool = 'default' AND decision = 'block')"
            ),
        ),
        ("activity_ends", "count", "SELECT count(*) FROM activities WHERE pool = 'default'"),
        (
            "conversation_ends",
            "count",
            "SELECT count(*) FROM conversations WHERE pool = 'default' AND opened_at IS NOT NULL",
        ),
    ],
)
def test_every_sum_of_a_report_is_that_of_the_log(
    life: Life, data: ReportData, table: str, column: str, sql: str
) -> None:
    expected = counted(life.store, sql)
    assert expected > 0
    assert int(data[table][column].sum()) == expected


def test_a_report_holds_nothing_of_another_pool(life: Life, data: ReportData) -> None:
    mine = {row["id"] for row in life.rows}
    assert counted(life.store, "SELECT count(*) FROM messages WHERE pool = 'elsewhere'") > 0
    for name, table in data.tables.items():
        for column in table.columns:
            if str(column).endswith("chip_id"):
                assert set(table[column]) <= mine, (name, column)


def test_a_chip_without_sends_still_has_a_row_for_every_day(life: Life, data: ReportData) -> None:
    pending = life.rows[4]["id"]
    days = data["chip_days"]
    assert days[days["chip_id"] == pending]["day"].tolist() == data.days
    assert len(days) == len(life.rows) * len(data.days)


def test_trust_of_a_day_that_is_over_stays_as_it_was_at_its_end(life: Life, data: ReportData) -> None:
    first = data["chip_days"][data["chip_days"]["day"] == data.first].set_index("chip_id")["trust"]
    assert {chip: int(first[chip]) for chip in life.trust_then} == life.trust_then
    now = data["chips"].set_index("chip_id")["trust"]
    assert any(int(now[chip]) != score for chip, score in life.trust_then.items())


def test_a_report_shows_the_braked_the_degraded_and_the_paused(life: Life, data: ReportData) -> None:
    last = data["chip_days"][data["chip_days"]["day"] == data.last].set_index("chip_id")
    restricted, paused = life.rows[1]["id"], life.rows[3]["id"]
    assert last["status"][restricted] == "degraded"
    assert last["braked"][restricted] is True
    assert last["status"][paused] == "paused"
    assert data["signals"]["kind"].tolist() == ["restriction"]
    assert data["transitions"]["to_phase"].tolist() == ["setup"]


def test_a_limit_that_falls_within_a_day_does_not_make_earlier_sends_look_like_too_many(
    life: Life, data: ReportData
) -> None:
    days = data["chip_days"].set_index(["chip_id", "day"])
    chip = (life.rows[1]["id"], data.last)
    (stored,) = rows_of(
        life.store,
        "SELECT day_limit FROM chip_days WHERE chip_id = :chip AND day = :day",
        chip=chip[0],
        day=str(data.last) if life.store.is_sqlite else data.last,
    )
    # It was restricted, and thereby braked, by that day's first send.
    assert days["day_limit"][chip] > stored["day_limit"]
    assert not (days["counted"] > days["day_limit"]).any()


def test_a_send_above_its_limit_cannot_be_overlooked(data: ReportData, page: str) -> None:
    assert "No chip went above a limit" in page
    days = data["chip_days"].copy()
    days.loc[days["counted"].idxmax(), "day_limit"] = int(days["counted"].max()) - 1
    worse = render(replace(data, tables={**data.tables, "chip_days": days}), POLICY)
    assert "ABOVE A LIMIT: 1 chip-day" in worse
    assert '<li class="bad"><b>1</b><span>chip-days above a limit' in worse


def test_chips_with_the_same_end_digits_can_be_told_apart(data: ReportData) -> None:
    names = data["chips"]["chip"].tolist()
    assert {"…0001a", "…0001b"} <= set(names)
    assert len(set(names)) == len(names)


@given(st.lists(st.sampled_from(["0001", "0002"]), max_size=60))
def test_no_two_chips_ever_have_the_same_name(ends: list[str]) -> None:
    names = shown_names([{"chip_id": str(n), "last4": end} for n, end in enumerate(ends)])
    assert len(set(names.values())) == len(ends)


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 300)), max_size=40))
def test_the_most_sends_of_an_hour_are_those_of_validations_own_window(sends: list[tuple[str, int]]) -> None:
    start = datetime(2026, 3, 2, tzinfo=UTC)
    rows = [
        {"chip_id": chip, "day": start.date(), "sent_at": start + timedelta(minutes=minute)}
        for chip, minute in sorted(sends)
    ]
    found = {row["chip_id"]: row["most_in_hour"] for row in most_in_hour(rows)}
    for chip in {chip for chip, _ in sends}:
        mine = [minute for one, minute in sends if one == chip]
        # (t - 60 min, t], as domain.md has it.
        assert found[chip] == max(sum(at - 60 < other <= at for other in mine) for at in mine)


def test_a_report_asks_as_many_queries_of_a_large_pool_as_of_a_small_one(tmp_path: Path) -> None:
    asked = []
    for size in (2, 12):
        store = Store(f"sqlite:///{tmp_path / f'{size}.db'}")
        migrate.upgrade(store)
        with open_lab(store) as lab:
            lab.add([chip_row(number) for number in range(1, size + 1)])
            lab.cycle()
            seen: list[str] = []
            sa.event.listen(
                store.engine, "before_cursor_execute", lambda *args, kept=seen: kept.append(args[2])
            )
            collect(store, POLICY)
        store.close()
        asked.append(len(seen))
    assert asked[0] == asked[1]


def test_a_pool_without_a_cycle_has_nothing_to_report(sqlite_store: Store) -> None:
    with pytest.raises(ReportError, match="no cycle") as refused:
        collect(sqlite_store, POLICY)
    assert len(str(refused.value).splitlines()) == 1


def test_a_report_may_begin_on_a_later_day(life: Life, data: ReportData) -> None:
    late = collect(life.store, POLICY, first=data.last)
    assert late.days == [data.last]
    assert set(late["chip_days"]["day"]) == {data.last}
    assert int(late["chip_days"]["sent"].sum()) < int(data["chip_days"]["sent"].sum())
    with pytest.raises(ReportError):
        collect(life.store, POLICY, first=data.last + timedelta(days=1))


# -- the page --------------------------------------------------------------------------------------

_VOID = {"meta", "link", "br", "img", "input", "hr"}


class _Reader(HTMLParser):
    """Reads a page strictly: every tag is closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(page: str) -> list[tuple[str, dict[str, str | None]]]:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader.tags


def test_the_page_is_whole_and_needs_nothing_from_anywhere(page: str) -> None:
    tags = read(page)
    assert not {"script", "link", "img", "iframe", "object", "embed", "form"} & {tag for tag, _ in tags}
    for _, attributes in tags:
        assert not {"src", "srcset", "data", "action", "xlink:href"} & set(attributes)
        assert (attributes.get("href") or "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    for call in ("url(", "@import", "http://", "https://"):
        assert call not in page


def test_the_page_can_be_found_around_in_and_be_listened_to(page: str) -> None:
    tags = read(page)
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = {str(a["href"])[1:] for tag, a in tags if tag == "a"}
    assert links <= set(ids)
    sections = [a for tag, a in tags if tag == "section"]
    assert len(sections) == 10
    assert all(a["aria-labelledby"] in ids and a["id"] in links for a in sections)
    pictures = [a for tag, a in tags if tag == "svg"]
    assert pictures
    assert all(a.get("role") == "img" and a.get("aria-label") for a in pictures)
    assert all(a.get("scope") in ("col", "row") for tag, a in tags if tag == "th")
    assert "prefers-color-scheme:dark" in page
    assert 'name="viewport"' in page


def test_no_full_number_stands_on_the_page_or_in_the_export(
    life: Life, data: ReportData, page: str, tmp_path: Path
) -> None:
    export(data, tmp_path / "csv")
    texts = [page, *(file.read_text() for file in (tmp_path / "csv").iterdir())]
    for text in texts:
        assert "98765-4321" not in text
        for row in life.rows:
            assert row["phone"] not in text
            assert row["phone"][4:] not in text
    assert "…4321" in page


def test_what_people_wrote_stays_text(page: str) -> None:
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "&lt;b&gt;ask" in page


def test_the_page_promises_nothing(page: str) -> None:
    assert "Nobody has shown that warm-up prevents restrictions" in page
    assert "predict nothing about WhatsApp" in page


def test_a_chip_that_is_not_ready_is_told_what_it_lacks(page: str) -> None:
    assert "is degraded (it was restricted)" in page
    assert "two-way conversations" in page


def big(chips: int, days: int) -> ReportData:
    """Return a report in which every chip does as much as it can every day."""
    first = date(2026, 2, 20)
    every_day = [first + timedelta(days=n) for n in range(days)]
    names = [(f"{n:036d}", f"…{n:04d}") for n in range(chips)]

    def table(name: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
        return pd.DataFrame(rows).reindex(columns=list(TABLES[name].columns))

    chip_days = [
        {
            "day": day,
            "day_number": n,
            "chip_id": chip_id,
            "chip": chip,
            "status": "warming",
            "phase": PHASE_ORDER[min(6, n // 5)].value,
            "warming_day": n,
            "trust": 50 + (n * 7 + int(chip_id)) % 50,
            "trust_level": list(TrustLevel)[int(chip_id) % 3].value,
            "braked": n % 9 == 0,
            "counted": (n * 5 + int(chip_id)) % 100,
            "day_limit": 100,
            "most_in_hour": (n + int(chip_id)) % 30,
            "hour_limit": 30,
            "sent": 90,
            "received": 90,
            "confirmed": 90,
            "failed": 1,
            "unknown": 1,
            "deferrals": 20,
            "blocks": 0,
        }
        for n, day in enumerate(every_day)
        for chip_id, chip in names
    ]
    chip_rows = [
        {"chip_id": i, "chip": name, "provider": "evolution", "role": "chip", "status": "warming"}
        | {"phase": "pre_operacao", "warming_day": days, "trust": 70, "sent": 1000, "received": 990}
        for i, name in names
    ]
    pairs = [
        {"opener_chip_id": a, "opener": one, "responder_chip_id": b, "responder": two}
        | {"opened": 1 + int(a) % 7, "answered": 1, "turns": 4}
        for a, one in names
        for b, two in names
        if a != b
    ]
    reasons = ("no_partner", "hour_limit", "day_limit", "min_gap", "outside_window", "cooldown")
    refusals = [
        {"day": day, "chip_id": i, "chip": name, "decision": "defer", "reason": reason, "meaning": reason}
        | {"count": 3}
        for day in every_day
        for i, name in names
        for reason in reasons
    ]
    transitions = [
        {"day": every_day[min(days - 1, 5 * rank)], "chip_id": i, "chip": name}
        | {"from_phase": PHASE_ORDER[rank - 1].value, "to_phase": PHASE_ORDER[rank].value}
        for rank in range(1, 5)
        for i, name in names
    ]
    criteria = [
        {"chip_id": i, "chip": name, "next_phase": "teste_graduacao", "criterion": criterion}
        | {"value": 10, "needed": 20, "comparison": ">=", "holds": False, "earliest_day": every_day[-1]}
        for i, name in names
        for criterion in ("warming_day", "sent", "received", "trust", "bidirectional", "errors_24h")
    ]
    pool_days = [
        {"day": day, "health": "healthy", "conversa_par_success_rate": 0.95, "sent": 4500, "day_limit": 5000}
        | {"conversa_par_succeeded": 95, "conversa_par_failed": 5, "failed": 5}
        | {"opened": 900, "answered": 800, "whole": 700, "turns": 3000}
        for day in every_day
    ]
    full: dict[str, list[dict[str, Any]]] = {
        "chips": chip_rows,
        "chip_days": chip_days,
        "pairs": pairs,
        "refusals": refusals,
        "transitions": transitions,
        "criteria": criteria,
        "pool_days": pool_days,
    }
    tables = {name: table(name, full.get(name, [])) for name in TABLES}
    at = datetime(2026, 2, 20, 11, tzinfo=UTC)
    return ReportData(
        pool="default",
        policy="default",
        fingerprint="0" * 12,
        zone="America/Sao_Paulo",
        first=first,
        last=every_day[-1],
        begins_at=at,
        ends_at=at + timedelta(days=days),
        simulated=True,
        facts={},
        tables=tables,
    )


@pytest.fixture(scope="module")
def fifty() -> str:
    """The page of fifty chips for thirty days."""
    return render(big(50, 30), POLICY)


def test_fifty_chips_for_thirty_days_stay_a_page_of_under_two_megabytes(fifty: str) -> None:
    read(fifty)
    assert len(fifty.encode()) < 2_000_000
    assert all(f"…{n:04d}" in fifty for n in range(50))


def test_a_pool_too_small_for_its_criteria_is_told_so() -> None:
    said = "with 1 other chip to talk with, at most 2 openings a day are planned, not 8"
    assert render(big(2, 10), POLICY).count(said) == 2
    assert "to talk with, at most" not in render(big(6, 10), POLICY)


def test_a_pool_too_large_to_be_drawn_says_what_is_left_out() -> None:
    page = render(big(105, 8), POLICY)
    read(page)
    assert "5 more are in the tables" in page
    assert f"the first {MOST_ROWS:,} of" in page
    assert len(page.encode()) < 5_000_000


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to lay the page out")
def test_the_page_fits_a_phone_and_a_desk_without_scrolling_sideways(tmp_path: Path, fifty: str) -> None:
    framed = fifty.replace("&", "&amp;").replace('"', "&quot;")
    outer = tmp_path / "outer.html"
    frames = "".join(
        f'<iframe srcdoc="{framed}" style="width:{width}px;height:900px;border:0"></iframe>'
        for width in (360, 1200)
    )
    outer.write_text(
        f"<body>{frames}<script>"
        "onload = () => { const roots = [...document.querySelectorAll('iframe')]"
        ".map(frame => frame.contentDocument.documentElement);"
        "const widths = roots.map(root => `${root.scrollWidth} of ${root.clientWidth}`).join(', ');"
        "document.body.innerHTML = `<p id=measured>${widths}</p>` }</script>"
    )
    ran = subprocess.run(
        [
            str(CHROMIUM),
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            # As on a phone, where they lie over the page and take no width from it.
            "--hide-scrollbars",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--dump-dom",
            outer.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert '<p id="measured">360 of 360, 1200 of 1200</p>' in ran.stdout


# -- the files -------------------------------------------------------------------------------------


def test_an_export_holds_every_table_with_every_column_and_the_same_sums(
    data: ReportData, tmp_path: Path
) -> None:
    export(data, tmp_path / "csv")
    written = {file.name for file in (tmp_path / "csv").iterdir()}
    assert written == {f"{name}.csv" for name in TABLES} | {"columns.csv", "about.csv"}
    meanings = pd.read_csv(tmp_path / "csv" / "columns.csv")
    for name, shape in TABLES.items():
        read_back = pd.read_csv(tmp_path / "csv" / f"{name}.csv")
        assert read_back.columns.tolist() == list(shape.columns)
        assert meanings[meanings["table"] == name]["column"].tolist() == list(shape.columns)
        assert len(read_back) == len(data[name])
    days = pd.read_csv(tmp_path / "csv" / "chip_days.csv")
    assert days["counted"].sum() == data["chip_days"]["counted"].sum()


def test_a_text_that_a_spreadsheet_would_run_is_exported_as_text(data: ReportData, tmp_path: Path) -> None:
    export(data, tmp_path / "csv")
    reasons = pd.read_csv(tmp_path / "csv" / "chips.csv")["status_reason"].dropna().tolist()
    assert any(reason.startswith("'=SUM(A1)") for reason in reasons)


def test_an_export_replaces_an_earlier_one_whole(data: ReportData, tmp_path: Path) -> None:
    folder = tmp_path / "csv"
    export(data, folder, other=data)
    assert (folder / "other_policy_chips.csv").exists()
    export(data, folder)
    assert not (folder / "other_policy_chips.csv").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["csv"]


def test_an_export_never_touches_a_folder_with_other_files(data: ReportData, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_text("not ours")
    with pytest.raises(OutputError, match=r"holiday\.jpg"):
        export(data, tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_path_that_cannot_be_written_is_refused_in_one_line_before_anything_is(tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("here")
    refusals: tuple[Callable[[], None], ...] = (
        lambda: check_file(tmp_path),
        lambda: check_file(tmp_path / "nowhere" / "report.html"),
        lambda: check_file(tmp_path / "a-file" / "report.html"),
        lambda: check_folder(tmp_path / "a-file", FILES),
        lambda: check_folder(tmp_path / "nowhere" / "csv", FILES),
    )
    for refused in refusals:
        with pytest.raises(OutputError) as error:
            refused()
        assert len(str(error.value).splitlines()) == 1
        assert str(tmp_path) in str(error.value)


def test_a_report_that_cannot_be_written_to_its_end_leaves_the_old_one_as_it_was(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    write_file(report, "old")
    with pytest.raises(UnicodeEncodeError):
        write_file(report, "new, but \ud800")
    assert report.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    write_file(report, "new")
    assert report.read_text() == "new"


def test_the_words_of_every_phase_and_level_have_a_colour(page: str) -> None:
    for rank in range(len(PHASE_ORDER)):
        assert f".p{rank}{{--c:" in page
    for n in range(len(TrustLevel)):
        assert f".t{n}{{--c:" in page
