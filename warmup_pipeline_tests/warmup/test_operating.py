"""What operators do: each action whole or not at all, on the pool's clock, and remembered.

Guards against: a pause that costs a chip what it has earned, a way round the 24 hours of a degraded
chip, a name that means another chip, an action nobody can account for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from warmup_pipeline.domain.circuit import Circuit
from warmup_pipeline.domain.values import ChipStatus, CircuitState, Phase, Provider
from warmup_pipeline.store import activities, chips, operators, pools, schema
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup import operating
from warmup_pipeline.warmup.doctor import FAILS, look_at_pool
from warmup_pipeline.warmup.lifecycle import CycleRefused, begin_cycle
from warmup_pipeline.warmup.operating import OperatorError, add_chip
from warmup_pipeline.warmup.world import World
from warmup_pipeline_tests.support import chip_row, open_lab, rows_of
from warmup_pipeline_tests.warmup.offline import AUDITED_AT, contents, offline_world, rows


def put(store: Store, *found: dict[str, Any], pool: str = "default") -> World:
    """Store chips in a pool whose clock stands at the audit's moment, a month before real time."""
    world = offline_world(store, at=AUDITED_AT + timedelta(days=30))
    with store.write() as tx:
        activities.know_types(tx, world.activities.types())
        pools.step_from(tx, pool, AUDITED_AT, at=world.now())
        # Bulk inserts take rows of the same columns.
        for row in found:
            chips.insert(tx, [row], [])
    return world


def chip_of(store: Store, row: dict[str, Any]) -> Chip:
    with store.read() as tx:
        return next(chip for chip in chips.of_pool(tx) if chip.id == row["id"])


def new_chip(number: int, status: ChipStatus, **more: Any) -> dict[str, Any]:
    return chip_row(number, status=status, phase=Phase.REPOUSO, **more) | {
        "phase_started_at": None,
        "warming_started_at": None,
    }


@pytest.mark.parametrize("status", [ChipStatus.PROVISIONED, ChipStatus.PENDING])
def test_a_new_chip_starts_in_repouso_at_the_pools_time(store: Store, status: ChipStatus) -> None:
    row = new_chip(1, status)
    world = put(store, row)
    changes = operating.start_chips(world, [row["id"]], author="ana", reason="bought in May")
    chip = chip_of(store, row)
    assert [(change.before, change.after) for change in changes] == [(status, "warming")]
    assert (chip.status, chip.phase) == (ChipStatus.WARMING, Phase.REPOUSO)
    assert chip.warming_started_at == chip.phase_started_at == chip.status_since == AUDITED_AT
    assert rows(store, "SELECT warming_day FROM warming_day")[0][0] == 0


def test_a_chip_that_warmed_up_before_goes_on_from_where_it_stands(sqlite_store: Store) -> None:
    row = chip_row(1, status=ChipStatus.PENDING, phase=Phase.EXPANSAO)
    operating.start_chips(put(sqlite_store, row), [row["id"]], author="ana")
    chip = chip_of(sqlite_store, row)
    assert (chip.phase, chip.warming_started_at) == (Phase.EXPANSAO, row["warming_started_at"])


def test_starting_a_ready_chip_makes_it_active(sqlite_store: Store) -> None:
    row = chip_row(1, status=ChipStatus.READY, phase=Phase.OPERACAO)
    operating.start_chips(put(sqlite_store, row), [row["id"]], author="ana")
    assert chip_of(sqlite_store, row).status is ChipStatus.ACTIVE


@pytest.mark.parametrize("status", sorted(operating.PAUSABLE))
def test_a_paused_chip_gets_its_status_back_and_keeps_what_it_earned(
    store: Store, status: ChipStatus
) -> None:
    row = chip_row(1, status=status, phase=Phase.EXPANSAO)
    world = put(store, row)
    operating.pause_chips(world, [row["id"]], author="ana", reason="holiday of 5511987654321")
    paused = chip_of(store, row)
    assert paused.status is ChipStatus.PAUSED
    assert paused.status_reason == f"paused by ana (was {status}): holiday of …4321"
    operating.resume_chips(world, [row["id"]], author="ana")
    resumed = chip_of(store, row)
    assert resumed.status is status
    assert resumed.warming_started_at == row["warming_started_at"]
    assert resumed.phase_started_at == row["phase_started_at"]
    assert resumed.phase is Phase.EXPANSAO


def test_resuming_gives_back_the_status_of_the_last_pause(sqlite_store: Store) -> None:
    row = chip_row(1, status=ChipStatus.READY, phase=Phase.OPERACAO)
    world = put(sqlite_store, row)
    for _ in range(2):
        operating.pause_chips(world, [row["id"]], author="ana")
        operating.resume_chips(world, [row["id"]], author="ana")
        assert chip_of(sqlite_store, row).status is ChipStatus.READY
        operating.start_chips(world, [row["id"]], author="ana")
        operating.pause_chips(world, [row["id"]], author="ana")
        operating.resume_chips(world, [row["id"]], author="ana")
        assert chip_of(sqlite_store, row).status is ChipStatus.ACTIVE
        with sqlite_store.write() as tx:
            chips.change(tx, [{"id": row["id"], "status": ChipStatus.READY}])


@pytest.mark.parametrize(("phase", "status"), [(Phase.SETUP, "warming"), (Phase.OPERACAO, "ready")])
def test_a_chip_that_came_paused_resumes_by_its_phase(sqlite_store: Store, phase: Phase, status: str) -> None:
    row = chip_row(1, status=ChipStatus.PAUSED, phase=phase)
    operating.resume_chips(put(sqlite_store, row), [row["id"]], author="ana")
    assert chip_of(sqlite_store, row).status == status


Action = Callable[..., Any]


@pytest.mark.parametrize(
    ("action", "status", "said"),
    [
        (
            operating.start_chips,
            ChipStatus.WARMING,
            "is warming; only provisioned, pending or ready chips start",
        ),
        (operating.start_chips, ChipStatus.PAUSED, "is paused; .*; resume it"),
        (operating.start_chips, ChipStatus.BANNED, "is banned; only"),
        (
            operating.pause_chips,
            ChipStatus.PROVISIONED,
            "is provisioned; only warming, ready, active or degraded",
        ),
        (operating.pause_chips, ChipStatus.PAUSED, "is paused; only"),
        (operating.resume_chips, ChipStatus.WARMING, "is warming; only paused chips are resumed"),
        (operating.resume_chips, ChipStatus.BANNED, "is banned; only paused"),
    ],
)
def test_an_action_on_several_chips_is_done_to_all_or_none(
    store: Store, action: Action, status: ChipStatus, said: str
) -> None:
    fits = {
        operating.start_chips: ChipStatus.PROVISIONED,
        operating.pause_chips: ChipStatus.WARMING,
        operating.resume_chips: ChipStatus.PAUSED,
    }[action]
    good, bad = chip_row(1, status=fits), chip_row(2, status=status)
    world = put(store, good, bad)
    before = contents(store)
    with pytest.raises(OperatorError, match=said) as refused:
        action(world, [good["id"], bad["id"]], author="ana")
    assert "\n" not in str(refused.value)
    assert bad["phone"] not in str(refused.value)
    assert contents(store) == before


def test_a_listener_is_never_started(sqlite_store: Store) -> None:
    row = new_chip(1, ChipStatus.PROVISIONED, role="listener")
    with pytest.raises(OperatorError, match="is a listener"):
        operating.start_chips(put(sqlite_store, row), [row["id"]], author="ana")


@pytest.mark.parametrize("name", ["id", "instance", "label", "last4", "…"])
def test_a_chip_is_found_by_what_people_call_it(sqlite_store: Store, name: str) -> None:
    row = chip_row(7)
    world = put(sqlite_store, row, chip_row(8))
    called = f"…{row['last4']}" if name == "…" else row[name]
    changes = operating.pause_chips(world, [called, row["id"]], author="ana")
    assert [change.chip_id for change in changes] == [row["id"]]


def test_a_name_that_means_two_chips_is_refused_with_both(sqlite_store: Store) -> None:
    twins = [chip_row(1, label="twin"), chip_row(2, label="twin")]
    world = put(sqlite_store, *twins)
    with pytest.raises(OperatorError, match="'twin' means 2 chips") as refused:
        operating.pause_chips(world, ["twin"], author="ana")
    assert all(row["id"] in str(refused.value) and row["phone"] not in str(refused.value) for row in twins)


@pytest.mark.parametrize(
    ("names", "said"), [([], "name at least one chip"), (["nobody"], "there is no chip 'nobody'")]
)
def test_a_name_that_means_nobody_is_refused(sqlite_store: Store, names: list[str], said: str) -> None:
    with pytest.raises(OperatorError, match=said):
        operating.pause_chips(put(sqlite_store, chip_row(1)), names, author="ana")


def test_every_action_is_remembered_with_who_when_and_why(store: Store) -> None:
    row = chip_row(1)
    world = put(store, row)
    operating.pause_chips(world, [row["id"]], author=" ana ", reason="token a-secret-token leaked")
    with store.read() as tx:
        action = tx.connection.execute(schema.operator_actions.select()).mappings().one()
    assert (action["at"], action["recorded_at"]) == (AUDITED_AT, world.now())
    assert (action["author"], action["action"], action["target"]) == ("ana", "pause_chips", row["id"])
    assert action["reason"] == "token *** leaked"
    assert action["details"] == {"chip": f"…{row['last4']}", "from": "warming", "to": "paused"}


@pytest.mark.parametrize("author", ["", "  ", "x" * 81])
def test_nobody_acts_without_a_name(sqlite_store: Store, author: str) -> None:
    row = chip_row(1)
    with pytest.raises(OperatorError, match="author must be 1 to 80 characters"):
        operating.pause_chips(put(sqlite_store, row), [row["id"]], author=author)


# --- adding


def test_a_chip_is_added_as_provisioned_with_its_trust_and_no_warming_day(store: Store) -> None:
    world = put(store)
    change = operating.add_chip(
        world,
        phone="+55 (11) 90000-4242",
        instance="3C06",
        provider="z-api",
        label="new",
        pool="second",
        author="ana",
    )
    with store.read() as tx:
        chip = chips.find(tx, "4242")[0]
        assert pools.get(tx, "second").next_tick is None
    assert (chip.id, chip.phone, chip.provider) == (change.chip_id, "5511900004242", Provider.Z_API)
    assert (chip.status, chip.phase, chip.created_at) == (ChipStatus.PROVISIONED, Phase.REPOUSO, world.now())
    assert rows(store, "SELECT warming_day FROM warming_day")[0][0] is None
    assert rows(store, "SELECT count(*) FROM trust_scores")[0][0] == 1
    assert "5511900004242" not in repr(contents(store)["operator_actions"])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"phone": "1234"}, "the phone cannot be used"),
        ({"phone": "TAKEN"}, "…0001 is the phone of chip"),
        ({"instance": "default-1"}, "'default-1' is the instance of chip"),
        ({"instance": " "}, "instance must be 1 to 128 characters"),
        ({"provider": "twilio"}, "provider 'twilio' is not one of evolution, z-api"),
        ({"pool": ""}, "pool must be 1 to 64 characters"),
        ({"label": "x" * 129}, "label must be at most 128"),
    ],
)
def test_a_chip_that_cannot_be_is_not_added(sqlite_store: Store, more: dict[str, str], said: str) -> None:
    there = chip_row(1)
    world = put(sqlite_store, there)
    before = contents(sqlite_store)
    asked = {"phone": "5511900009999", "instance": "fresh"} | more
    if asked["phone"] == "TAKEN":
        asked["phone"] = there["phone"]
    with pytest.raises(OperatorError, match=said) as refused:
        operating.add_chip(world, **asked, author="ana")
    assert there["phone"] not in str(refused.value)
    assert contents(sqlite_store) == before


# --- breakers and kill switches


def test_resetting_a_breaker_closes_it_and_leaves_the_brake(store: Store) -> None:
    row = chip_row(1)
    world = put(store, row)
    with store.write() as tx:
        chips.set_breakers(tx, {row["id"]: Circuit(CircuitState.OPEN, 3, AUDITED_AT)})
        chips.add_brake_signals(tx, [(row["id"], "circuit_opened", AUDITED_AT)])
    changes = operating.reset_circuit(world, [row["id"]], author="ana")
    assert [(change.before, change.after) for change in changes] == [("open", "closed")]
    with store.read() as tx:
        assert chips.breakers(tx, "default")[row["id"]].state is CircuitState.CLOSED
        assert row["id"] in chips.last_brake_signals(tx, "default", since=AUDITED_AT)
    assert operating.reset_circuit(world, [row["id"]], author="ana")[0].before == "closed"


@pytest.mark.parametrize(
    ("scope", "target", "others_too"),
    [("all", None, True), ("pool", "default", True), ("chip", "chip 1", False)],
)
def test_a_kill_switch_covers_its_scope_until_it_is_lifted(
    store: Store, scope: str, target: str | None, others_too: bool
) -> None:
    row, other = chip_row(1), chip_row(2)
    world = put(store, row, other)

    def covered() -> tuple[bool, bool]:
        with store.read() as tx:
            found = operators.kill_switches_at(tx, AUDITED_AT)
        return found.covers("default", row["id"]), found.covers("default", other["id"])

    operating.set_kill_switch(world, scope=scope, target=target, reason="drill", author="ana")
    assert covered() == (True, others_too)
    lifted = operating.set_kill_switch(
        world, scope=scope, target=target, reason="over", author="ana", lift=True
    )
    assert (lifted.on, lifted.lifted) == (False, 1)
    assert covered() == (False, False)
    with pytest.raises(OperatorError, match="no kill switch is on"):
        operating.set_kill_switch(world, scope=scope, target=target, reason="again", author="ana", lift=True)


def test_a_kill_switch_with_an_expiry_ends_by_itself_on_the_pools_clock(sqlite_store: Store) -> None:
    row = chip_row(1)
    world = put(sqlite_store, row)
    ends = AUDITED_AT + timedelta(hours=2)
    operating.set_kill_switch(
        world, scope="pool", target="default", reason="drill", author="ana", expires_at=ends
    )
    with sqlite_store.read() as tx:
        assert operators.kill_switches_at(tx, ends - timedelta(seconds=1)).covers("default", row["id"])
        assert not operators.kill_switches_at(tx, ends).covers("default", row["id"])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"scope": "world"}, "scope 'world' is not one of all, pool, chip"),
        ({"scope": "pool", "target": "nowhere"}, "there is no pool 'nowhere'"),
        ({"scope": "pool", "target": None}, "name the pool"),
        ({"scope": "chip", "target": "nobody"}, "there is no chip 'nobody'"),
        ({"reason": " "}, "say a reason"),
        ({"expires_at": AUDITED_AT}, "is not after now"),
        ({"expires_at": AUDITED_AT.replace(tzinfo=None)}, "has no time zone"),
    ],
)
def test_a_kill_switch_that_cannot_be_is_not_set(
    sqlite_store: Store, more: dict[str, Any], said: str
) -> None:
    world = put(sqlite_store, chip_row(1))
    before = contents(sqlite_store)
    asked: dict[str, Any] = {"scope": "all", "reason": "drill", "author": "ana"} | more
    with pytest.raises(OperatorError, match=said):
        operating.set_kill_switch(world, **asked)
    assert contents(sqlite_store) == before


def test_a_pool_on_the_demos_clock_never_runs_live_and_takes_no_real_chip(store: Store) -> None:
    with open_lab(store) as lab:
        lab.add([chip_row(n, ddd=11) for n in (1, 2)])
        with store.write() as tx:
            pools.step_from(tx, "default", lab.now, at=lab.now)
        live = replace(lab.world, mode="live")
        with pytest.raises(CycleRefused, match="never runs live"):
            begin_cycle(live, "default", root_run_id=None)
        with pytest.raises(OperatorError, match="never runs live"):
            add_chip(live, phone="5511987650001", instance="real-a", author="test")
        findings, _ = look_at_pool(live)
        assert [one for one in findings if one.verdict == FAILS and "never runs live" in one.says]
    assert rows_of(store, "SELECT * FROM cycles") == []


@pytest.mark.parametrize(("count", "warned"), [(11, False), (12, True)])
def test_the_doctor_warns_where_the_pace_lets_not_every_chip_be_looked_at_in_a_cycle(
    sqlite_store: Store, count: int, warned: bool
) -> None:
    # A request in ten seconds, over the 110 seconds in which looking may begin.
    world = put(sqlite_store, *(chip_row(number, at=AUDITED_AT) for number in range(1, count + 1)))
    pace = world.policy.pace.model_copy(update={"requests_per_second_per_server": 0.1})
    paced = replace(world, policy=world.policy.model_copy(update={"pace": pace}))
    slow = [one for one in look_at_pool(paced)[0] if "pace" in one.says]
    assert [(one.verdict, "0.2 or more" in one.remedy) for one in slow] == [("warn", True)] * warned
    assert not [one for one in look_at_pool(world)[0] if "pace" in one.says]
