"""The time-lapse: production's cycle on a virtual clock, against the simulator in this process."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from statistics import mean, median
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline.domain import phones
from warmup_pipeline.domain.forecast import CLOSE_DAYS, NOT_TAKING_PART, days_off
from warmup_pipeline.domain.values import Provider
from warmup_pipeline.gateways.simulator import (
    FaultRule,
    SimulatedInstance,
    SimulatorCore,
    SimulatorSettings,
)
from warmup_pipeline.gateways.simulator.wire import Request
from warmup_pipeline.store import counts, types
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.policies import load_policy
from warmup_pipeline.warmup.timelapse import (
    FaultProfile,
    ProfileError,
    SimulationResult,
    SimulationSettings,
    load_profile,
    open_timelapse,
    shipped_profiles,
    simulate,
)
from warmup_pipeline.warmup.timelapse.clock import VirtualClock
from warmup_pipeline.warmup.timelapse.pool import fresh_pool
from warmup_pipeline.warmup.timelapse.profiles import Episode, schedule
from warmup_pipeline.warmup.timelapse.transport import SimulatorTransport, answer_of
from warmup_pipeline_tests.support import rows_of

# Thousands of cycles of what other tests cover: traced, they take twice as long.
pytestmark = pytest.mark.no_cover

AUDIT = Path(__file__).parents[2] / "warmup_pipeline" / "data" / "audit"
ZONE = ZoneInfo("America/Sao_Paulo")
BEGINS = datetime(2026, 2, 20, 11, 0, tzinfo=UTC)
POLICY = load_policy("default")

STORM = FaultProfile.model_validate(
    {
        "name": "storm",
        "description": "everything at once, within a day",
        "episodes": [
            {
                "rules": [
                    {"match": {"route": "any-send"}, "kind": "status", "code": 500, "probability": 0.1},
                    {"match": {"route": "any-send"}, "kind": "hang", "seconds": 30, "probability": 0.05},
                    {"match": {"route": "any-send"}, "kind": "lost", "probability": 0.05},
                ]
            },
            {"at": "10:02", "hours": 2, "chip": 1, "down": True},
            {"at": "14:01", "hours": 0.7, "unreachable": ["evolution"]},
            {"at": "15:00", "hours": 3, "chip": 2, "zombie": True},
            {
                "at": "09:00",
                "hours": 6,
                "chip": 0,
                "rules": [
                    {
                        "match": {"route": "any-send"},
                        "kind": "status",
                        "code": 403,
                        "body": "restriction",
                        "times": 1,
                    }
                ],
            },
        ],
    }
)


def asked(**more: Any) -> SimulationSettings:
    """Return settings of a simulation without faults, changed as told."""
    usual: dict[str, Any] = {"policy": POLICY, "days": 1, "faults": load_profile("none")}
    return SimulationSettings(**(usual | more))


def run(
    settings: SimulationSettings, look: Callable[[Store], Any] = lambda _: None, *, store: Store | None = None
) -> tuple[SimulationResult, Any]:
    with simulate(settings, store=store) as (used, result):
        return result, look(used)


# --- the clock and the sockets


def test_waiting_takes_virtual_time_and_no_real_time() -> None:
    clock = VirtualClock(BEGINS)
    began = time.monotonic()

    async def wait() -> str:
        try:
            async with asyncio.timeout(7200):
                await asyncio.sleep(100_000)
        except TimeoutError:
            return "too late"
        return "woke up"

    with asyncio.Runner(loop_factory=clock.event_loop) as runner:
        assert runner.run(wait()) == "too late"
    assert clock.now() == BEGINS + timedelta(hours=2)
    assert time.monotonic() - began < 3600


def test_the_clock_never_goes_back() -> None:
    clock = VirtualClock(BEGINS)
    clock.move_to(BEGINS + timedelta(minutes=5))
    clock.move_to(BEGINS)
    clock.pass_by(-3)
    assert clock.now() == BEGINS + timedelta(minutes=5)


def asked_of(
    core: SimulatorCore, clock: VirtualClock, *, unreachable: set[str] | None = None
) -> httpx.Response:
    transport = SimulatorTransport(core, unreachable or set())

    async def ask() -> httpx.Response:
        request = httpx.Request(
            "GET", "http://evolution.simulated/instance/connectionState/one?x=1", headers={"apikey": "K"}
        )
        response = await transport.handle_async_request(request)
        await response.aread()
        return response

    with asyncio.Runner(loop_factory=clock.event_loop) as runner:
        return runner.run(ask())


@pytest.mark.parametrize(
    ("fault", "raised", "seconds"),
    [
        ({"kind": "latency", "ms": 1500}, None, 1.5),
        ({"kind": "reset_before"}, httpx.ReadError, 0),
        ({"kind": "reset_after"}, httpx.ReadError, 0),
        ({"kind": "truncated", "bytes": 5}, httpx.RemoteProtocolError, 0),
        ({"kind": "slow_drip", "bytes_per_second": 10}, None, 5),
    ],
)
def test_what_misbehaves_on_the_wire_does_so_without_one(
    fault: dict[str, Any], raised: type[Exception] | None, seconds: float
) -> None:
    clock = VirtualClock(BEGINS)
    one = SimulatedInstance(provider=Provider.EVOLUTION, name="one", phone="5511900000001", token="T")
    with SimulatorCore(SimulatorSettings(evolution_key="K", clock=clock.now), instances=[one]) as core:
        core.faults.add([FaultRule.model_validate(fault)])
        if raised is None:
            response = asked_of(core, clock)
            assert response.json()["instance"]["state"] == "open"
        else:
            with pytest.raises(raised):
                asked_of(core, clock)
        assert (clock.now() - BEGINS).total_seconds() >= seconds


def test_an_unreachable_gateway_refuses_and_is_never_asked() -> None:
    clock = VirtualClock(BEGINS)
    one = SimulatedInstance(provider=Provider.EVOLUTION, name="one", phone="5511900000001", token="T")
    with SimulatorCore(SimulatorSettings(evolution_key="K", clock=clock.now), instances=[one]) as core:
        core.faults.add([FaultRule(kind="status", code=500)])
        with pytest.raises(httpx.ConnectError):
            asked_of(core, clock, unreachable={"evolution.simulated"})
        (rule,) = answer_of(core, "/_sim/faults")["rules"]
        assert rule["hits"] == 0


def test_a_control_route_that_is_refused_is_said_so() -> None:
    with SimulatorCore() as core, pytest.raises(RuntimeError, match="refused /_sim/nothing"):
        answer_of(core, "/_sim/nothing")
    assert Request("GET", "/").body == b""


# --- fault profiles and pools, as data


def test_the_promised_profiles_ship() -> None:
    assert set(shipped_profiles()) >= {"none", "flaky", "outage", "restriction", "zombie", "churn"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("description: x\nepisodes: [{day: -1}]", "episodes.0.day"),
        ("description: x\nepisodes: [{rules: [{kind: nonsense}]}]", "episodes.0.rules.0.kind"),
        ("[1]", "must be a mapping"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_profile_that_cannot_be_used_is_refused_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ProfileError, match=said) as refused:
        load_profile(str(path))
    assert "\n" not in str(refused.value)


def test_an_unknown_profile_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(ProfileError, match="flaky"):
        load_profile("no-such-profile")


def test_an_episode_comes_again_and_strikes_the_next_chip_each_time() -> None:
    found = schedule(
        FaultProfile.model_validate(
            {
                "name": "x",
                "description": "x",
                "episodes": [
                    {
                        "day": 1,
                        "at": "09:30",
                        "hours": 2,
                        "every_days": 2,
                        "chip": 0,
                        "next_chip": True,
                        "down": True,
                    }
                ],
            }
        ),
        begins_at=BEGINS,
        ends_at=BEGINS + timedelta(days=6),
        zone=ZONE,
    )
    assert [(s.begins_at.astimezone(ZONE).strftime("%d %H:%M"), s.chip) for s in found] == [
        ("21 09:30", 0),
        ("23 09:30", 1),
        ("25 09:30", 2),
    ]
    assert all(s.ends_at == s.begins_at + timedelta(hours=2) for s in found)


@given(st.integers(1, 60), st.integers())
def test_a_fresh_pool_is_made_of_usable_chips_and_only_its_seed(count: int, seed: int) -> None:
    chips = fresh_pool(count, seed=seed, begins_at=BEGINS)
    assert chips == fresh_pool(count, seed=seed, begins_at=BEGINS)
    assert len({chip.row["phone"] for chip in chips}) == len({chip.row["last4"] for chip in chips}) == count
    assert all(phones.normalise(chip.row["phone"]) == chip.row["phone"] for chip in chips)
    assert chips[0].starts_at == BEGINS
    assert all(BEGINS <= chip.starts_at <= BEGINS + timedelta(hours=48) for chip in chips)
    on_zapi = [chip.row["provider"] for chip in chips].count(Provider.Z_API)
    assert on_zapi == count // 4
    assert chips[0].row["provider"] is Provider.EVOLUTION


# --- whole simulations


def test_no_shortcut_changes_a_message_under_faults(sqlite_store: Store) -> None:
    """Neither ticks stepped over, nor what is remembered of a scratch database or was made ready for it."""
    settings = asked(pool_dir=AUDIT, faults=STORM)
    every = SimulationSettings(
        **{n: getattr(settings, n) for n in settings.__dataclass_fields__} | {"step_over": False}
    )

    def look(store: Store) -> Any:
        kept = [
            rows_of(store, f"SELECT * FROM {table} WHERE day = '2026-02-20' ORDER BY {order}")
            for table, order in (
                ("daily_summary", "scope, scope_id"),
                ("chip_days", "chip_id"),
                ("phase_forecast", "chip_id"),
            )
        ]
        (struck,) = rows_of(
            store,
            "SELECT (SELECT count(*) FROM messages WHERE state = 'unknown'"
            "  OR failure_text LIKE 'its outcome was unknown%' OR failure_text LIKE 'asked again%') AS unknown,"
            " (SELECT count(*) FROM messages WHERE state = 'failed') AS failed,"
            " (SELECT count(*) FROM chip_connections WHERE recovered_at IS NOT NULL) AS recovered",
        )
        return kept, struck

    leapt, (leapt_days, _) = run(settings, look)
    stepped, (stepped_days, seen) = run(every, look, store=sqlite_store)
    assert leapt_days == stepped_days
    assert all(leapt_days)
    assert leapt.digest == stepped.digest
    assert leapt.cycles_stepped_over > 0
    assert stepped.cycles_stepped_over == 0
    assert leapt.cycles_run + leapt.cycles_stepped_over == stepped.cycles_run == 288
    # The storm struck: otherwise this would show little.
    assert all(seen.values()), seen
    assert leapt.figures.broken_rules == 0


def digest_elsewhere(**settings: Any) -> str:
    """Simulate in a process of its own, whose hashes fall otherwise; returns the digest."""
    text = (
        "import sys, json\n"
        "from warmup_pipeline_tests.warmup.test_timelapse import asked, run\n"
        "print(run(asked(**json.loads(sys.argv[1])))[0].digest)"
    )
    done = subprocess.run(
        [sys.executable, "-c", text, json.dumps(settings)],
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_fresh_pool_wakes_up_the_same_in_every_process_and_differently_with_another_seed() -> None:
    first, _ = run(asked(chips=4, days=3))
    other, _ = run(asked(chips=4, days=3, seed=1))
    assert digest_elsewhere(chips=4, days=3) == first.digest
    assert first.digest != other.digest
    assert first.figures.messages > 0
    assert [change.phase_to for change in first.transitions][:4] == ["setup"] * 4


@cache
def month() -> tuple[SimulationResult, dict[str, Any]]:
    """Five new chips without faults until the last has had its warming day 28: what several tests look at."""

    def look(store: Store) -> dict[str, Any]:
        return {
            "forecasts": rows_of(store, "SELECT * FROM phase_forecast ORDER BY day, chip_id"),
            "entered": rows_of(store, "SELECT chip_id, to_phase, day FROM phase_transitions"),
        }

    return run(asked(chips=5, days=31), look)


def test_new_chips_are_in_operacao_on_warming_day_28() -> None:
    result, _ = month()
    ready = {c.chip: c.warming_day for c in result.transitions if c.phase_to == "operacao"}
    assert list(ready.values()) == [28] * 5
    assert result.figures.broken_rules == 0
    assert result.phases_at_end == {"operacao": 5}


def test_on_every_day_of_a_month_the_day_befores_forecasts_were_off_by_two_days_at_most_on_the_median() -> (
    None
):
    _, seen = month()
    entered = {(row["chip_id"], row["to_phase"]): row["day"] for row in seen["entered"]}
    by_day: dict[str, dict[str, Any]] = {}
    for row in seen["forecasts"]:
        by_day.setdefault(row["day"], {})[row["chip_id"]] = row
    compared = 0
    for day, today in by_day.items():
        before = by_day.get((date.fromisoformat(day) - timedelta(days=1)).isoformat(), {})
        off = []
        for chip_id, row in before.items():
            arrived = entered.get((chip_id, row["next_phase"]))
            if row["limited_by"] == NOT_TAKING_PART or (chip_id not in today and arrived is None):
                continue
            known = arrived if arrived is not None and arrived <= day else today[chip_id]["earliest_date"]
            days = (one and date.fromisoformat(one) for one in (row["earliest_date"], known))
            off.append(days_off(*days))
        if off:
            compared += len(off)
            assert median(off) <= CLOSE_DAYS, (day, off, before, today)
    assert compared > 100


def test_the_audited_pool_wakes_up_as_the_issue_demands() -> None:
    def look(store: Store) -> Any:
        return rows_of(
            store,
            "SELECT c.last4, c.phase, count(*) AS received FROM messages m JOIN chips c"
            " ON c.id = m.recipient_chip_id GROUP BY c.last4, c.phase",
        )

    result, received = run(asked(pool_dir=AUDIT, days=3), look)
    changed = {change.chip: change.day for change in reversed(result.transitions)}
    assert min(changed.values()) <= 3
    assert {"0121", "7734", "0945", "7216", "8850"} <= set(changed)
    for day, (succeeded, failed) in result.success_by_day.items():
        assert succeeded / (succeeded + failed) > 0.9, day
    assert result.figures.broken_rules == 0
    assert result.figures.messages == sum(sum(counts) for counts in result.success_by_day.values())
    by_phase: dict[str, list[int]] = {}
    for row in received:
        by_phase.setdefault(row["phase"], []).append(row["received"])
    for received_by_each in by_phase.values():
        assert max(received_by_each) <= 2 * mean(received_by_each)


def test_under_flaky_gateways_chips_leave_setup_later_and_no_limit_breaks() -> None:
    left: dict[str, int] = {}
    for faults in ("none", "flaky"):
        result, _ = run(asked(chips=4, days=7, faults=load_profile(faults)))
        entered = [c.warming_day for c in result.transitions if c.phase_to == "primeiros_contatos"]
        assert len(entered) == 4
        left[faults] = sum(day or 0 for day in entered)
        assert result.figures.broken_rules == 0
    assert left["flaky"] > left["none"]


def test_a_pool_begins_at_the_moment_of_its_export_or_is_moved_to_the_one_asked() -> None:
    with open_timelapse(asked(pool_dir=AUDIT)) as timelapse:
        assert timelapse.now == BEGINS
    later = BEGINS + timedelta(days=30, minutes=2)
    with open_timelapse(asked(pool_dir=AUDIT, begins_at=later)) as timelapse:
        assert timelapse.now == BEGINS + timedelta(days=30)
        (oldest,) = rows_of(timelapse.world.store, "SELECT min(warming_started_at) AS at FROM chips")
        assert oldest["at"].startswith("2025-12-18")


def test_what_is_kept_in_memory_of_a_day_goes_with_it() -> None:
    with open_timelapse(asked(pool_dir=AUDIT, days=2)) as timelapse:
        kept = []
        for day in (1, 2):
            # 23:55 here; the first tick of the next day comes after it.
            timelapse.run_until(datetime(2026, 2, 20 + day, 2, 55, tzinfo=UTC))
            before = types._instant_of.cache_info().currsize
            timelapse.step()
            kept.append((before, types._instant_of.cache_info().currsize))
    assert all(after < before / 4 for before, after in kept), kept


def test_a_restricted_chip_is_degraded_braked_and_comes_back_only_after_a_day_without_an_error() -> None:
    restricted = FaultProfile.model_validate(
        {
            "name": "restricted",
            "description": "x",
            "episodes": [
                {
                    "day": 1,
                    "at": "08:00",
                    "hours": 6,
                    "chip": 0,
                    "rules": [
                        {
                            "match": {"route": "any-send"},
                            "kind": "status",
                            "code": 403,
                            "body": "restriction",
                            "times": 1,
                        }
                    ],
                }
            ],
        }
    )
    with open_timelapse(asked(pool_dir=AUDIT, faults=restricted, days=3)) as timelapse:
        store = timelapse.world.store

        def chip() -> dict[str, Any]:
            return rows_of(store, "SELECT * FROM chips WHERE label = 'julia-01'")[0]

        timelapse.run_until(BEGINS + timedelta(hours=30))
        assert chip()["status"] == "degraded"
        (failed,) = rows_of(
            store, "SELECT sent_at FROM messages WHERE state = 'failed' AND failure_class = 'restriction'"
        )
        restricted_at = datetime.fromisoformat(failed["sent_at"]).replace(tzinfo=UTC)
        timelapse.run_until(restricted_at + timedelta(hours=24))
        assert chip()["status"] == "degraded"
        timelapse.run_until(restricted_at + timedelta(hours=24, minutes=10))
        after = chip()
        assert after["status"] == "warming"
        assert after["phase"] == "primeiros_contatos"
        meanwhile = rows_of(
            store,
            "SELECT count(*) AS n FROM messages WHERE sender_chip_id = :chip AND sent_at > :at"
            " AND sent_at < :until",
            chip=after["id"],
            at=failed["sent_at"],
            until=after["status_since"],
        )
        assert meanwhile[0]["n"] == 0
        (day,) = rows_of(
            store,
            "SELECT braked FROM chip_days WHERE chip_id = :chip ORDER BY day DESC LIMIT 1",
            chip=after["id"],
        )
        assert day["braked"]


def what_is_remembered(store: Store) -> Any:
    """Return the sums of the log as the last cycles had them: sums of days long over come from memory."""
    with store.read() as tx:
        (newest,) = rows_of(store, "SELECT max(computed_at) AS at FROM chip_metrics")
        at = datetime.fromisoformat(newest["at"]).replace(tzinfo=UTC)
        return counts.counts(tx, "default", at=at, day=at.astimezone(ZONE).date())


def what_is_asked(store: Store) -> Any:
    """Return the same of the database alone, in one sum."""
    forgetful = Store(store.url.render_as_string(hide_password=False))
    try:
        return what_is_remembered(forgetful)
    finally:
        forgetful.close()


def test_a_zombie_never_passes_setup_while_the_others_do() -> None:
    def look(store: Store) -> dict[str, str]:
        assert what_is_remembered(store) == what_is_asked(store)
        return {row["label"]: row["phase"] for row in rows_of(store, "SELECT * FROM chips")}

    one = FaultProfile(name="one", description="one dead session", episodes=(Episode(chip=0, zombie=True),))
    result, chips = run(asked(chips=4, days=6, faults=one), look)
    assert chips["chip-01"] == "setup"
    assert "primeiros_contatos" in chips.values()
    assert result.figures.broken_rules == 0


def test_a_whole_pool_of_zombies_never_passes_setup_and_is_critical_from_the_first_day_of_sends() -> None:
    def look(store: Store) -> tuple[set[str], str, dict[str, str]]:
        phases = {row["phase"] for row in rows_of(store, "SELECT phase FROM chips")}
        (first,) = rows_of(store, "SELECT min(sent_day) AS day FROM messages")
        judged = rows_of(store, "SELECT day, health FROM cycles WHERE health IS NOT NULL ORDER BY tick")
        return phases, first["day"], {row["day"]: row["health"] for row in judged}

    result, (phases, first_day, health) = run(asked(chips=4, days=6, faults=load_profile("zombie")), look)
    assert phases == {"setup"}
    assert result.figures.messages > 0
    assert {health[day] for day in health if day >= first_day} == {"critical"}
    assert result.figures.broken_rules == 0
