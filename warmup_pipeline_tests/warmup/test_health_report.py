"""The health document: joined from check results, and never better than what is known.

Guards against: health that freezes green when nothing is evaluated any more.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from warmup_pipeline.domain.health import Severity
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup import demo, lifecycle, operating
from warmup_pipeline.warmup.checks import CHECKS
from warmup_pipeline.warmup.health_report import EXIT_CODES, CheckResult, health_report
from warmup_pipeline_tests.support import rows_of
from warmup_pipeline_tests.warmup.demo_lab import open_demo, run


def all_pass(at: datetime) -> list[CheckResult]:
    return [
        CheckResult(
            spec.asset, spec.name, passed=True, severity=Severity.ERROR, description="fine", evaluated_at=at
        )
        for spec in CHECKS
    ]


def test_every_check_passing_is_healthy(store: Store) -> None:
    with open_demo(store) as lab:
        run(lab, 12)
        document = health_report(lab.world, all_pass(lab.now))
    assert document["status"] == "healthy"
    assert document["reasons"] == []
    assert document["mode"] == "simulated"
    assert [check["check"] for check in document["checks"]] == [spec.name for spec in CHECKS]
    assert document["pool"]["total"] == 10
    assert document["pool"]["participating"] == document["pool"]["connected"] == 6
    assert document["pool"]["by_status"] == {"active": 2, "degraded": 1, "provisioned": 2, "warming": 5}
    assert datetime.fromisoformat(document["last_cycle"]["tick"]) == demo.STARTS_AT + timedelta(minutes=55)
    talk = document["activities_today"]["CONVERSA_PAR"]
    assert talk["planned"] == 16
    assert talk["executed"] > 0
    assert talk["success_rate"] > 0.9


@pytest.mark.parametrize(
    ("severity", "status", "code"), [(Severity.WARN, "degraded", 1), (Severity.ERROR, "critical", 2)]
)
def test_a_check_that_does_not_pass_weighs_by_its_severity(
    sqlite_store: Store, severity: Severity, status: str, code: int
) -> None:
    with open_demo(sqlite_store) as lab:
        results = all_pass(lab.now)
        results[3] = replace(results[3], passed=False, severity=severity, description="3 of 5")
        document = health_report(lab.world, results)
    assert document["status"] == status
    assert EXIT_CODES[status] == code
    assert document["reasons"] == [f"{results[3].check}: 3 of 5"]


@pytest.mark.parametrize(("age", "status"), [(10, "healthy"), (11, "critical")])
def test_a_verdict_older_than_ten_minutes_is_no_verdict(sqlite_store: Store, age: int, status: str) -> None:
    with open_demo(sqlite_store) as lab:
        document = health_report(lab.world, all_pass(lab.now - timedelta(minutes=age)))
    assert document["status"] == status


def test_sending_that_is_switched_off_is_said_with_who_did_it_and_why_until_it_is_lifted_or_over(
    store: Store,
) -> None:
    with open_demo(store) as lab:
        chip_id = str(rows_of(store, "SELECT id FROM chips WHERE last4 = '0121'")[0]["id"])
        operating.set_kill_switch(
            lab.world, scope="pool", target="default", author="ana", reason="a complaint"
        )
        operating.set_kill_switch(
            lab.world, scope="chip", target=chip_id, author="rui", reason="its phone is lost"
        )
        said = health_report(lab.world, all_pass(lab.now))["switched_off"]
        assert [(one["scope"], one["target"], one["author"], one["reason"]) for one in said] == [
            ("pool", "default", "ana", "a complaint"),
            ("chip", "…0121", "rui", "its phone is lost"),
        ]
        operating.set_kill_switch(
            lab.world, scope="pool", target="default", author="ana", reason="it is well again", lift=True
        )
        assert len(health_report(lab.world, all_pass(lab.now))["switched_off"]) == 1
        over = lab.now + timedelta(minutes=30)
        operating.set_kill_switch(
            lab.world, scope="all", target="", author="ana", reason="for a while", expires_at=over
        )
        assert [one["scope"] for one in health_report(lab.world, all_pass(lab.now))["switched_off"]] == [
            "all",
            "chip",
        ]
        run(lab, 7)
        # The demo's pool has a clock of its own: by that it is over.
        assert len(health_report(lab.world, all_pass(lab.now))["switched_off"]) == 1


def test_a_check_that_was_never_evaluated_is_critical(sqlite_store: Store) -> None:
    with open_demo(sqlite_store) as lab:
        nothing = health_report(lab.world, [])
        one_missing = health_report(lab.world, all_pass(lab.now)[1:])
    assert nothing["status"] == one_missing["status"] == "critical"
    assert one_missing["reasons"] == [f"{CHECKS[0].name} has never been evaluated"]
    assert one_missing["checks"][0]["passed"] is False
    assert nothing["last_cycle"] is None


def test_a_failed_last_cycle_is_critical_whatever_the_checks_said(sqlite_store: Store) -> None:
    with open_demo(sqlite_store) as lab:
        run(lab, 1)
        lifecycle.fail_cycle(lab.world, lab.begin())
        document = health_report(lab.world, all_pass(lab.now))
    assert document["status"] == "critical"
    assert document["reasons"] == ["the last cycle of pool 'default' failed"]
