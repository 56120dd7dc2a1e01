"""The health checks: what must hold, and how it is judged.

Holds: :data:`CHECKS`, one :class:`CheckSpec` per asset check of the project, and the judges. Each
judges the whole database, of all pools, from the rows themselves. Add here: a judge and its line in
:data:`CHECKS`. Do not add: how Dagster runs it (orchestration.checks), SQL (store.audit).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from warmup_pipeline.domain.health import Severity, Verdict, conversa_par_success
from warmup_pipeline.domain.localtime import in_window, local_day
from warmup_pipeline.domain.phases import warming_day
from warmup_pipeline.domain.presend import ChipStanding, is_connected
from warmup_pipeline.domain.values import (
    CircuitState,
    ConnectionState,
    HealthStatus,
    Phase,
)
from warmup_pipeline.store import audit, chips, connections, cycles, pools, summaries
from warmup_pipeline.store import derived as derived_store
from warmup_pipeline.store.audit import Found
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.connections import Connection
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.pools import Pool
from warmup_pipeline.store.schema import chip_metrics as chip_metrics_table
from warmup_pipeline.warmup.derive import brakes, compute_metrics, reference_of
from warmup_pipeline.warmup.summary import compute_day
from warmup_pipeline.warmup.world import World

DOWN_WARNS_AFTER: Final = timedelta(minutes=10)
NO_CYCLE_FOR: Final = timedelta(minutes=10)
SILENT_FOR: Final = timedelta(minutes=20)
SLOW_CYCLE_S: Final = 240.0
BEHIND_BY_DAYS: Final = 7
"""How many days past a phase's own day a chip may wait before ``phase_progress`` warns."""

_NAMED: Final = 10
"""How many chips a summary names; the metadata counts them all."""


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """One check.

    Attributes:
        asset: the asset it belongs to.
        name: its name: a fact that must hold.
        description: what it means, for an operator.
        judge: judges the whole database.
    """

    asset: str
    name: str
    description: str
    judge: Callable[[World], Verdict]


def note_verdict(world: World, cycle_id: str, verdict: Verdict) -> None:
    """Let a verdict count in the health of the cycle that was judged."""
    if verdict.passed:
        health = HealthStatus.HEALTHY
    elif verdict.severity is Severity.ERROR:
        health = HealthStatus.CRITICAL
    else:
        health = HealthStatus.DEGRADED
    with world.store.write() as tx:
        cycles.worsen_health(tx, cycle_id, health)


@dataclass(frozen=True)
class _Scene:
    """What most judges look at: every pool with its time, chips and connections."""

    pools: list[Pool]
    chips: list[Chip]
    connections: Mapping[str, Connection]
    latest: Mapping[str, Cycle]
    at: Mapping[str, datetime]

    def named(self, chip_ids: Iterable[str]) -> tuple[str, ...]:
        """Return chips as they may be shown, with their pools."""
        by_id = {chip.id: chip for chip in self.chips}
        known = [by_id[i] for i in chip_ids if i in by_id]
        return tuple(
            f"…{chip.last4} ({chip.pool})" for chip in sorted(known, key=lambda c: (c.pool, c.last4))
        )

    @property
    def participants(self) -> list[Chip]:
        """The chips that take part, of all pools."""
        return [chip for chip in self.chips if chip.takes_part]

    def standing(self, chip: Chip) -> ChipStanding:
        """Return the chip as validation sees it."""
        one = self.connections.get(chip.id)
        return ChipStanding(
            chip.id,
            chip.status,
            chip.role,
            one.state if one else ConnectionState.UNKNOWN,
            one.observed_at if one else None,
        )


def _scene(tx: Transaction, world: World) -> _Scene:
    held = pools.with_chips(tx)
    latest = cycles.latest_of_each_pool(tx)
    now = world.now()
    return _Scene(
        pools=held,
        chips=chips.of_pool(tx),
        connections=connections.of_pool(tx),
        latest=latest,
        # What is judged is the state as of the last cycle: whether that is recent enough is for
        # cycle_is_on_time to say.
        at={pool.name: latest[pool.name].tick if pool.name in latest else pool.now(now) for pool in held},
    )


def _few(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _verdict(
    name: str,
    *,
    passed: bool,
    summary: str,
    numbers: Mapping[str, Any],
    concerned: tuple[str, ...] = (),
    severity: Severity = Severity.ERROR,
) -> Verdict:
    return Verdict(name, passed, severity, summary, numbers, concerned)


def _none_wrong(name: str, scene: _Scene, found: Found, *, good: str, bad: str) -> Verdict:
    """Return the verdict of a question that must find nothing wrong."""
    named = scene.named(found.chip_ids)
    summary = (
        good.format(n=found.looked_at) if not found.wrong else f"{bad.format(n=found.wrong)}: {_few(named)}"
    )
    return _verdict(
        name,
        passed=not found.wrong,
        summary=summary,
        numbers={"looked_at": found.looked_at, "wrong": found.wrong},
        concerned=named,
    )


# -- chip_connections ------------------------------------------------------------------------------


def providers_connected(world: World) -> Verdict:
    """Judge whether every participating chip is reachable."""
    with world.store.read() as tx:
        scene = _scene(tx, world)
    down, person = [], []
    up = 0
    for chip in scene.participants:
        at = scene.at[chip.pool]
        one = scene.connections.get(chip.id)
        if is_connected(scene.standing(chip), at):
            up += 1
            continue
        since = (
            one.since if one and one.state is not ConnectionState.OPEN else (one.observed_at if one else None)
        )
        if one is not None and one.needs_person:
            person.append(f"…{chip.last4}: {one.needs_person}")
        if since is None or at - since >= DOWN_WARNS_AFTER or (one is not None and one.needs_person):
            down.append(chip.id)
    total = len(scene.participants)
    named = scene.named(down)
    if not down:
        summary = f"{up} of {total} participating chips are connected"
    else:
        summary = f"{len(down)} of {total} participating chips are down: {_few(named)}"
    if person:
        summary += f". A person is needed: {'; '.join(person[:_NAMED])}"
    return _verdict(
        "providers_connected",
        passed=not down,
        summary=summary,
        numbers={"participating": total, "connected": up, "down": len(down), "needs_person": len(person)},
        concerned=named,
        severity=Severity.ERROR if total and not up else Severity.WARN,
    )


def gateway_credentials_valid(world: World) -> Verdict:
    """Judge whether the gateways themselves answered and took our credentials in the last cycle."""
    with world.store.read() as tx:
        scene = _scene(tx, world)
    refused = {
        chip.id: one.gateway_error
        for chip in scene.chips
        if (one := scene.connections.get(chip.id)) is not None
        and one.gateway_error is not None
        and chip.pool in scene.latest
        and one.gateway_error_cycle_id == scene.latest[chip.pool].id
    }
    named = scene.named(refused)
    reasons = sorted({reason for reason in refused.values() if reason})
    asked = len(scene.connections)
    return _verdict(
        "gateway_credentials_valid",
        passed=not refused,
        summary=(
            f"the gateways of {asked} chips answered and took our credentials"
            if not refused
            else f"a gateway refused us or could not be reached for {_few(named)}: {'; '.join(reasons[:3])}"
        ),
        numbers={"asked": asked, "refused": len(refused)},
        concerned=named,
    )


# -- pairings --------------------------------------------------------------------------------------


def pool_is_pairable(world: World) -> Verdict:
    """Judge whether chips take part and at least two of each pool could talk now (root cause 1)."""
    with world.store.read() as tx:
        scene = _scene(tx, world)
        breakers = {name: chips.breakers(tx, name) for name in scene.at}
    pairable: dict[str, int] = {}
    taking_part: dict[str, int] = {}
    for chip in scene.participants:
        at = scene.at[chip.pool]
        taking_part[chip.pool] = taking_part.get(chip.pool, 0) + 1
        breaker = breakers[chip.pool].get(chip.id)
        able = (
            is_connected(scene.standing(chip), at)
            and (breaker is None or breaker.state is not CircuitState.OPEN)
            and (chip.cooldown_until is None or chip.cooldown_until <= at)
        )
        pairable[chip.pool] = pairable.get(chip.pool, 0) + able
    stuck = tuple(sorted(pool for pool in taking_part if pairable.get(pool, 0) < 2))
    total, able_total = sum(taking_part.values()), sum(pairable.values())
    if not total:
        summary = "no chip takes part in warm-up; start some with `warmup chips start`"
    elif stuck:
        summary = f"nobody can be paired in {', '.join(stuck)}: {able_total} of {total} participating chips can talk"
    else:
        summary = f"{able_total} of {total} participating chips can be paired"
    return _verdict(
        "pool_is_pairable",
        passed=bool(total) and not stuck,
        summary=summary,
        numbers={"participating": total, "pairable": able_total, "pools_stuck": len(stuck)},
        concerned=stuck,
    )


def only_executable_activities_planned(world: World) -> Verdict:
    """Judge whether everything that may still be executed has an executor (root cause 3)."""
    with world.store.read() as tx:
        open_types = audit.open_activities_by_type(tx)
    stubs = [(pool, kind, n) for pool, kind, n in open_types if kind not in world.activities.executable]
    planned = sum(n for _, _, n in open_types)
    listed = ", ".join(f"{n} {kind} ({pool})" for pool, kind, n in stubs)
    return _verdict(
        "only_executable_activities_planned",
        passed=not stubs,
        summary=(
            f"all {planned} activities still to come have an executor"
            if not stubs
            else f"activities without an executor are planned: {listed}; cancel them"
        ),
        numbers={"planned": planned, "without_executor": sum(n for _, _, n in stubs)},
        concerned=tuple(sorted({pool for pool, _, _ in stubs})),
    )


# -- presend_validations ---------------------------------------------------------------------------


def every_send_was_approved(world: World) -> Verdict:
    """Judge whether every message has the approval that allowed exactly it (root cause 7)."""
    with world.store.read() as tx:
        scene, found = _scene(tx, world), audit.unapproved_messages(tx)
    return _none_wrong(
        "every_send_was_approved",
        scene,
        found,
        good="all {n} messages were approved before they were sent",
        bad="{n} messages have no approval of their own",
    )


# -- messages --------------------------------------------------------------------------------------


def conversa_par_success_rate(world: World) -> Verdict:
    """Judge how many conversation turns were accepted."""
    with world.store.read() as tx:
        scene = _scene(tx, world)
        days = {name: local_day(at, world.policy.zone) for name, at in scene.at.items()}
        since = {name: at - timedelta(hours=24) for name, at in scene.at.items()}
        today, lately = audit.attempts(tx, day=days, since=since)
        types = sorted(world.activities.openings)
        due = sum(audit.openings_due(tx, name, days[name], at, types) for name, at in scene.at.items())
    return conversa_par_success(today, lately, sends_due_today=due > 0)


def phase_limits_respected(world: World) -> Verdict:
    """Judge whether any chip ever sent more than its phase allows in an hour or a day."""
    per_day = {phase: plan.sends_per_day for phase, plan in world.policy.phases.items()}
    per_hour = {phase: plan.sends_per_hour for phase, plan in world.policy.phases.items()}
    with world.store.read() as tx:
        scene = _scene(tx, world)
        day, hour = audit.over_day_limit(tx, per_day), audit.over_hour_limit(tx, per_hour)
    found = Found(day.looked_at, day.wrong + hour.wrong, tuple(sorted({*day.chip_ids, *hour.chip_ids})))
    verdict = _none_wrong(
        "phase_limits_respected",
        scene,
        found,
        good="all {n} sends were within the limits of their phase",
        bad="{n} times a phase limit was exceeded",
    )
    numbers = {**verdict.numbers, "days_over": day.wrong, "hours_over": hour.wrong}
    return _verdict(
        verdict.check,
        passed=verdict.passed,
        summary=verdict.summary,
        numbers=numbers,
        concerned=verdict.concerned,
    )


def no_duplicate_sends(world: World) -> Verdict:
    """Judge whether any turn was sent twice."""
    with world.store.read() as tx:
        scene, found = _scene(tx, world), audit.duplicate_messages(tx)
    return _none_wrong(
        "no_duplicate_sends",
        scene,
        found,
        good="none of {n} messages was sent twice",
        bad="{n} messages are doubles",
    )


def failures_carry_traceback(world: World) -> Verdict:
    """Judge whether every failure kept its traceback (root cause 8)."""
    with world.store.read() as tx:
        scene, found = _scene(tx, world), audit.failures_without_traceback(tx)
    return _none_wrong(
        "failures_carry_traceback",
        scene,
        found,
        good="all {n} failures kept their traceback",
        bad="{n} failures have no traceback",
    )


def recipients_in_pool(world: World) -> Verdict:
    """Judge whether every message stayed among the operator's own chips of one pool."""
    with world.store.read() as tx:
        scene, found = _scene(tx, world), audit.recipients_outside_pool(tx)
    return _none_wrong(
        "recipients_in_pool",
        scene,
        found,
        good="all {n} messages went from a chip to another chip of its pool",
        bad="{n} messages left their pool",
    )


# -- chip_metrics ----------------------------------------------------------------------------------


def metrics_match_log(world: World) -> Verdict:
    """Judge whether the stored metrics are what the log says (root cause 6)."""
    wrong: list[str] = []
    compared = 0
    with world.store.read() as tx:
        scene = _scene(tx, world)
        for pool in scene.pools:
            at, _ = audit.computed_at(tx, chip_metrics_table, pool.name)
            if at is None:
                continue
            stored = derived_store.metrics(tx, pool.name)
            for chip_id, fresh in compute_metrics(tx, world, pool.name, at).items():
                compared += 1
                kept = stored.get(chip_id)
                if kept is None or any(
                    getattr(kept, name) != getattr(fresh, name) for name in derived_store.metric_columns
                ):
                    wrong.append(chip_id)
    return _none_wrong(
        "metrics_match_log",
        scene,
        Found(compared, len(wrong), tuple(wrong)),
        good="the metrics of all {n} chips are what the message log says",
        bad="the metrics of {n} chips are not what the message log says",
    )


def metrics_are_moving(world: World) -> Verdict:
    """Judge whether metrics follow the log: computed by the last cycle, and not zero where chips sent."""
    stale: list[str] = []
    still: list[str] = []
    counted = 0
    with world.store.read() as tx:
        scene = _scene(tx, world)
        for pool in scene.pools:
            at, _ = audit.computed_at(tx, chip_metrics_table, pool.name)
            last = scene.latest.get(pool.name)
            if last is not None and (at is None or at < last.tick):
                stale.append(pool.name)
            stored = derived_store.metrics(tx, pool.name)
            accepted = audit.accepted_by_chip(tx, pool.name)
            counted += sum(accepted.values())
            still += [
                chip_id
                for chip_id, n in accepted.items()
                if n and (chip_id not in stored or stored[chip_id].attempted == 0)
            ]
    named = (*(f"pool {name}" for name in stale), *scene.named(still))
    return _verdict(
        "metrics_are_moving",
        passed=not named,
        summary=(
            f"metrics follow the log: {counted} accepted messages are in them"
            if not named
            else f"metrics do not follow the log for {_few(named)}"
        ),
        numbers={"accepted_messages": counted, "pools_stale": len(stale), "chips_still": len(still)},
        concerned=named,
    )


# -- warming_day -----------------------------------------------------------------------------------


def warming_day_is_current(world: World) -> Verdict:
    """Judge whether every chip's warming day is what its age reference says today (root causes 2, 4)."""
    wrong: list[str] = []
    with world.store.read() as tx:
        scene = _scene(tx, world)
        stored = derived_store.warming_days(tx)
    for chip in scene.chips:
        right = warming_day(
            status=chip.status,
            role=chip.role,
            reference=reference_of(chip),
            at=scene.at[chip.pool],
            zone=world.policy.zone,
        )
        if chip.id not in stored or stored[chip.id] != right:
            wrong.append(chip.id)
    return _none_wrong(
        "warming_day_is_current",
        scene,
        Found(len(scene.chips), len(wrong), tuple(wrong)),
        good="the warming day of all {n} chips is right",
        bad="the warming day of {n} chips is not what it should be",
    )


# -- phases ----------------------------------------------------------------------------------------


def phase_progress(world: World) -> Verdict:
    """Judge whether chips move on: nobody stands ready and still, or waits a week past a phase's day."""
    behind: list[str] = []
    waiting = 0
    with world.store.read() as tx:
        scene = _scene(tx, world)
        days = derived_store.warming_days(tx)
        held = {c for pool in scene.pools for c in brakes(tx, world, pool.name, scene.at[pool.name])}
    for chip in scene.participants:
        following = chip.phase.next
        day = days.get(chip.id)
        if following is None or day is None or chip.id in held:
            continue
        waiting += 1
        if day - world.policy.to_enter[following].warming_day > BEHIND_BY_DAYS:
            behind.append(chip.id)
    phases = {phase.value: sum(c.phase is phase for c in scene.participants) for phase in Phase}
    named = scene.named(behind)
    return _verdict(
        "phase_progress",
        passed=not behind,
        summary=(
            f"{waiting} chips are on their way, {len(held)} held, none more than {BEHIND_BY_DAYS} days behind"
            if not behind
            else f"{len(behind)} chips are more than {BEHIND_BY_DAYS} days behind their next phase: {_few(named)}; "
            "`warmup chips show` says what each lacks"
        ),
        numbers={"on_their_way": waiting, "behind": len(behind), "held": len(held), **phases},
        concerned=named,
        severity=Severity.WARN,
    )


def transitions_were_earned(world: World) -> Verdict:
    """Judge whether every phase change went one step, met its criteria, and is where the chip stands."""
    with world.store.read() as tx:
        scene = _scene(tx, world)
        moves = audit.all_transitions(tx)
    now_in = {chip.id: chip.phase for chip in scene.chips}
    last: dict[str, str] = {}
    wrong: set[str] = set()
    for move in moves:
        chip_id = move["chip_id"]
        one_step = Phase(move["from_phase"]).next == move["to_phase"]
        joined = last.get(chip_id, move["from_phase"]) == move["from_phase"]
        if not (one_step and joined and _criteria_hold(move["criteria"])):
            wrong.add(chip_id)
        last[chip_id] = move["to_phase"]
    wrong |= {chip_id for chip_id, phase in last.items() if now_in.get(chip_id) != phase}
    return _none_wrong(
        "transitions_were_earned",
        scene,
        Found(len(moves), len(wrong), tuple(sorted(wrong))),
        good="all {n} phase changes were earned",
        bad="{n} chips are in a phase they did not earn",
    )


def _criteria_hold(criteria: Mapping[str, Mapping[str, Any]]) -> bool:
    def holds(one: Mapping[str, Any]) -> bool:
        value, needed = one.get("value"), one.get("needed")
        if value is None or needed is None:
            return False
        return bool(value <= needed if one.get("comparison") == "<=" else value >= needed)

    return bool(criteria) and all(holds(one) for one in criteria.values())


# -- daily_summary ---------------------------------------------------------------------------------


def summary_matches_log(world: World) -> Verdict:
    """Judge whether the stored summaries of today and yesterday are what the log says."""
    wrong: list[str] = []
    compared = 0
    with world.store.read() as tx:
        scene = _scene(tx, world)
        today = {local_day(at, world.policy.zone) for at in scene.at.values()}
        for day in sorted({d - timedelta(days=n) for d in today for n in (0, 1)}):
            stored = summaries.of_day(tx, day)
            if not stored:
                continue
            everything = stored.get(("all", "*"))
            as_of = None if everything is None or everything["final"] else everything["as_of"]
            fresh = {(r["scope"], r["scope_id"]): r for r in compute_day(tx, world, day, as_of=as_of)}
            compared += len(fresh)
            wrong += [
                f"{day} {scope} {scope_id[:8]}"
                for scope, scope_id in sorted({*fresh, *stored})
                if stored.get((scope, scope_id)) != fresh.get((scope, scope_id))
            ]
    return _verdict(
        "summary_matches_log",
        passed=not wrong,
        summary=(
            f"all {compared} rows of the last two days' summary are what the log says"
            if not wrong
            else f"{len(wrong)} rows are not what the log says: {_few(tuple(wrong))}; "
            "materialize daily_summary for that day"
        ),
        numbers={"rows": compared, "wrong": len(wrong)},
        concerned=tuple(wrong[:_NAMED]),
    )


def cycle_is_on_time(world: World) -> Verdict:
    """Judge whether cycles run every five minutes, end well, and send what they may."""
    now = world.now()
    late, failed, slow, silent = [], [], [], []
    with world.store.read() as tx:
        scene = _scene(tx, world)
        for pool in scene.pools:
            last = scene.latest.get(pool.name)
            if last is None or now - last.began_at > NO_CYCLE_FOR:
                late.append(pool.name)
                continue
            if last.state == "failed":
                failed.append(pool.name)
            if last.duration_s is not None and last.duration_s > SLOW_CYCLE_S:
                slow.append(pool.name)
            # A window's first minutes have nothing to look back on.
            if in_window(last.tick, world.policy) and in_window(last.tick - SILENT_FOR, world.policy):
                approved, sent = audit.sends_since(tx, pool.name, last.tick - SILENT_FOR)
                if approved and not sent:
                    silent.append(pool.name)
    words = [
        (late, "no cycle for 10 minutes (is the sensor on and the daemon running?)"),
        (failed, "the last cycle failed"),
        (slow, f"the last cycle took more than {SLOW_CYCLE_S:.0f} s"),
        (silent, "sends were approved but nothing was sent for 20 minutes"),
    ]
    problems = [f"{text}: {', '.join(names)}" for names, text in words if names]
    duration = max((c.duration_s for c in scene.latest.values() if c.duration_s is not None), default=None)
    return _verdict(
        "cycle_is_on_time",
        passed=not problems,
        summary="; ".join(problems) if problems else f"the cycles of {len(scene.pools)} pools are on time",
        numbers={
            "pools": len(scene.pools),
            "late": len(late),
            "failed": len(failed),
            "slow": len(slow),
            "silent": len(silent),
            "longest_s": duration,
        },
        concerned=tuple(sorted({*late, *failed, *slow, *silent})),
        severity=Severity.ERROR if late or failed else Severity.WARN,
    )


CHECKS: Final[tuple[CheckSpec, ...]] = (
    CheckSpec(
        "chip_connections",
        "providers_connected",
        "Every participating chip's session is open. Warns when one is down for 10 minutes or needs a person "
        "(named, with what to do); fails when none is connected.",
        providers_connected,
    ),
    CheckSpec(
        "chip_connections",
        "gateway_credentials_valid",
        "The gateways answered in the last cycle and took our keys and tokens. A gateway that refused or could "
        "not be reached stops its chips, through no fault of theirs.",
        gateway_credentials_valid,
    ),
    CheckSpec(
        "pairings",
        "pool_is_pairable",
        "Chips take part, and in every pool at least two could talk now: connected, breaker closed, not resting.",
        pool_is_pairable,
    ),
    CheckSpec(
        "pairings",
        "only_executable_activities_planned",
        "Everything still planned is of a type that this installation can execute.",
        only_executable_activities_planned,
    ),
    CheckSpec(
        "presend_validations",
        "every_send_was_approved",
        "Every message has an approval of pre-send validation that allowed exactly it.",
        every_send_was_approved,
    ),
    CheckSpec(
        "messages",
        "conversa_par_success_rate",
        "How many conversation turns the gateways accepted: today from five attempts on, else in the last 24 "
        "hours. 80 % passes, 50 % warns, below fails; the target is above 90 %.",
        conversa_par_success_rate,
    ),
    CheckSpec(
        "messages",
        "phase_limits_respected",
        "No chip sent more than its phase allows within any 60 minutes or any local day.",
        phase_limits_respected,
    ),
    CheckSpec(
        "messages",
        "no_duplicate_sends",
        "No turn of a conversation was sent twice.",
        no_duplicate_sends,
    ),
    CheckSpec(
        "messages",
        "failures_carry_traceback",
        "Every failed or unknown send, and every failed action, kept its whole traceback.",
        failures_carry_traceback,
    ),
    CheckSpec(
        "messages",
        "recipients_in_pool",
        "Every message went from one of your chips to another one of the same pool.",
        recipients_in_pool,
    ),
    CheckSpec(
        "chip_metrics",
        "metrics_match_log",
        "The metrics of every chip equal a recomputation from the message log.",
        metrics_match_log,
    ),
    CheckSpec(
        "chip_metrics",
        "metrics_are_moving",
        "Metrics were computed by the last cycle, and no chip that sent has none.",
        metrics_are_moving,
    ),
    CheckSpec(
        "warming_day",
        "warming_day_is_current",
        "Every chip's warming day is the number of local days since its age reference.",
        warming_day_is_current,
    ),
    CheckSpec(
        "phase_eligibility",
        "phase_progress",
        "Chips advance: nobody waits more than a week past the day its next phase asks for.",
        phase_progress,
    ),
    CheckSpec(
        "phase_transitions",
        "transitions_were_earned",
        "Every phase change went one step, met its criteria, and is where the chip stands now.",
        transitions_were_earned,
    ),
    CheckSpec(
        "daily_summary",
        "summary_matches_log",
        "The summary of today and yesterday equals a recomputation from the log.",
        summary_matches_log,
    ),
    CheckSpec(
        "daily_summary",
        "cycle_is_on_time",
        "Cycles run every five minutes, the last one did not fail, and what was approved is sent. Fails after 10 "
        "minutes without a cycle.",
        cycle_is_on_time,
    ),
)
"""Every asset check of the project, in the order of the assets."""
