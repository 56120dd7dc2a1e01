"""The traps: a new type that plans itself, one that reacts twice to a message, or to nothing."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from warmup_pipeline.domain.policy import Policy
from warmup_pipeline.domain.values import Phase
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.activities.reagir import EMOJIS, REAGIR, emoji_for
from warmup_pipeline.warmup.policies import load_policy
from warmup_pipeline_tests.support import Lab, chip_row, due_openings, open_lab, rows_of


@pytest.fixture
def lab(store: Store) -> Iterator[Lab]:
    with open_lab(store) as found:
        found.add([chip_row(n, phase=Phase.EXPANSAO, days=9) for n in (1, 2, 3)])
        found.cycle()
        yield found


def weighing(policy: Policy, weight: int) -> Policy:
    """Return a policy that gives REAGIR a weight in every phase that plans anything."""
    phases = {
        phase: rules.model_copy(update={"mix": {**rules.mix, REAGIR: weight}}) if rules.mix else rules
        for phase, rules in policy.phases.items()
    }
    return policy.model_copy(update={"phases": phases})


def planned(store: Store) -> int:
    (row,) = rows_of(store, f"SELECT count(*) AS n FROM activities WHERE type = '{REAGIR}'")
    return int(row["n"])


def reactions(lab: Lab) -> list[tuple[str, str]]:
    """Return what the simulator took as reactions: who reacted, and with what."""
    answer = httpx.get(f"{lab.base_url}/_sim/messages", trust_env=False).json()
    return [(m["sender"], m["text"]) for m in answer["messages"] if m["kind"] == "reaction"]


def states(store: Store) -> list[str]:
    rows = rows_of(store, f"SELECT state FROM activities WHERE type = '{REAGIR}' ORDER BY due_at")
    return [row["state"] for row in rows]


def test_it_can_be_executed_but_the_shipped_policies_never_plan_it(store: Store) -> None:
    for name in ("default", "conservative"):
        assert all(REAGIR not in rules.mix for rules in load_policy(name).phases.values())
    with open_lab(store) as lab:
        assert REAGIR in lab.world.activities.executable
        lab.add([chip_row(n, phase=Phase.EXPANSAO, days=9) for n in (1, 2, 3)])
        lab.cycle()
        assert planned(store) == 0


def test_a_policy_that_gives_it_weight_plans_it(sqlite_store: Store) -> None:
    with open_lab(sqlite_store) as lab:
        lab.with_policy(weighing(lab.world.policy, 100))
        lab.add([chip_row(n, phase=Phase.EXPANSAO, days=9) for n in (1, 2, 3)])
        lab.cycle()
    assert planned(sqlite_store) > 0


def test_a_chip_reacts_once_to_the_newest_message_it_received(lab: Lab) -> None:
    opener, responder = chip_row(1)["id"], chip_row(2)["id"]
    due_openings(lab, [opener, responder])
    lab.cycle()
    (message,) = rows_of(lab.store, "SELECT id, recipient_chip_id FROM messages")
    receiver = message["recipient_chip_id"]
    phone = next(chip_row(n)["phone"] for n in (1, 2) if chip_row(n)["id"] == receiver)
    due_openings(lab, [receiver], kind=REAGIR)
    lab.cycle()
    assert reactions(lab) == [(phone, emoji_for(message["id"]))]
    assert emoji_for(message["id"]) in EMOJIS
    assert rows_of(lab.store, "SELECT count(*) AS n FROM messages") == [{"n": 1}], "it is no turn"
    due_openings(lab, [receiver], kind=REAGIR)
    lab.cycle()
    assert len(reactions(lab)) == 1
    assert states(lab.store) == ["executed", "nothing_to_do"]


def test_with_nothing_received_there_is_nothing_to_do(lab: Lab) -> None:
    due_openings(lab, [chip_row(3)["id"]], kind=REAGIR)
    lab.cycle()
    assert reactions(lab) == []
    assert states(lab.store) == ["nothing_to_do"]
