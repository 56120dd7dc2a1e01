"""The trap: forecasts that are made anew until they are right, or compared with nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from warmup_pipeline.domain.values import ChipStatus, Phase
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.checks.forecasts import forecasts_were_close
from warmup_pipeline.warmup.operating import pause_chips, start_chips
from warmup_pipeline_tests.support import MORNING, Lab, chip_row, open_lab, rows_of, run_sql

DAY = timedelta(days=1)


def made(store: Store, day: str) -> dict[str, Any]:
    return {
        row["chip_id"]: row
        for row in rows_of(store, "SELECT * FROM phase_forecast WHERE day = :day", day=day)
    }


def two_days(lab: Lab) -> list[str]:
    """Run the first cycle of two days for three chips that wait for their warming day alone."""
    rows = [chip_row(n, phase=Phase.REPOUSO, days=0.1 * n, ddd=11) for n in (1, 2, 3)]
    lab.add(rows)
    lab.cycle()
    lab.move_to(MORNING + DAY)
    lab.cycle()
    return [row["id"] for row in rows]


def test_each_chip_is_forecast_once_a_day_by_its_eligibility(store: Store) -> None:
    with open_lab(store) as lab:
        rows = [
            chip_row(1, phase=Phase.SETUP, days=2),
            chip_row(2, phase=Phase.OPERACAO, days=40, status=ChipStatus.READY),
            chip_row(3, status=ChipStatus.PAUSED),
            chip_row(4, role="listener"),
            chip_row(5, status=ChipStatus.BANNED),
        ]
        lab.add(rows)
        first = lab.cycle()["phase_forecast"].numbers
        found = made(store, "2026-03-02")
        assert set(found) == {rows[0]["id"], rows[2]["id"]}
        assert found[rows[2]["id"]]["limited_by"] == "not_taking_part"
        mine = found[rows[0]["id"]]
        (latest,) = rows_of(
            store,
            "SELECT max(earliest_day) AS day FROM phase_eligibility WHERE chip_id = :chip",
            chip=rows[0]["id"],
        )
        assert (mine["next_phase"], str(mine["earliest_date"])) == ("primeiros_contatos", str(latest["day"]))
        assert (first["forecast_now"], first["forecast_today"]) == (2, 2)
        assert lab.cycle()["phase_forecast"].numbers["forecast_now"] == 0
        lab.add([chip_row(6, phase=Phase.SETUP, days=1)])
        assert lab.cycle()["phase_forecast"].numbers["forecast_now"] == 1
        assert made(store, "2026-03-02")[rows[0]["id"]] == mine


def test_forecasts_that_came_true_or_are_still_the_same_pass(store: Store) -> None:
    with open_lab(store) as lab:
        first, *_ = two_days(lab)
        entered = rows_of(store, "SELECT chip_id FROM phase_transitions WHERE day = '2026-03-03'")
        assert first in {row["chip_id"] for row in entered}
        verdict = forecasts_were_close(lab.world)
        assert verdict.passed
        assert (verdict.numbers["compared"], verdict.numbers["median_days_off"]) == (3, 0)


@pytest.mark.parametrize(
    ("how_many", "passes"), [(1, True), (2, False)], ids=["one of three is far off", "two of three are"]
)
def test_the_median_decides_whether_forecasts_were_close(store: Store, how_many: int, passes: bool) -> None:
    with open_lab(store) as lab:
        chips = two_days(lab)
        for chip_id in chips[:how_many]:
            run_sql(
                store,
                "UPDATE phase_forecast SET earliest_date = '2026-03-20' WHERE chip_id = :chip AND day = '2026-03-02'",
                chip=chip_id,
            )
        verdict = forecasts_were_close(lab.world)
        assert verdict.passed is passes
        assert len(verdict.concerned) == (0 if passes else how_many)


def test_a_chip_that_an_operator_took_out_or_put_in_is_not_compared(store: Store) -> None:
    with open_lab(store) as lab:
        rows = [chip_row(n, phase=Phase.SETUP, days=1, ddd=11) for n in (1, 2, 3)]
        rows.append(chip_row(4, phase=Phase.REPOUSO, status=ChipStatus.PENDING))
        lab.add(rows)
        lab.cycle()
        pause_chips(lab.world, [rows[0]["id"]], author="somebody", reason="a holiday")
        start_chips(lab.world, [rows[3]["id"]], author="somebody")
        lab.move_to(MORNING + DAY)
        lab.cycle()
        assert forecasts_were_close(lab.world).numbers["compared"] == 2


def test_there_is_nothing_to_compare_on_the_first_day(store: Store) -> None:
    with open_lab(store) as lab:
        lab.add([chip_row(1), chip_row(2)])
        lab.cycle()
        verdict = forecasts_were_close(lab.world)
        assert verdict.passed
        assert verdict.numbers["compared"] == 0
