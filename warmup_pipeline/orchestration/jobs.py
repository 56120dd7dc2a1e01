"""The jobs: the cycle, and what an operator may launch.

Holds: ``warmup_cycle`` and the operator jobs. What they do is ``warmup.operating``,
``warmup.importing`` and ``retention``.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import dagster as dg

from warmup_pipeline.domain.values import DEFAULT_POOL
from warmup_pipeline.orchestration.guard import guarded
from warmup_pipeline.orchestration.names import (
    CYCLE_GROUP,
    CYCLE_JOB,
    EXPORT_ASSET,
    MAX_RUNTIME_S,
    MAX_RUNTIME_TAG,
    PURGE_MAX_RUNTIME_S,
    RESOURCE,
)
from warmup_pipeline.orchestration.retention import DEFAULT_KEEP_DAYS, purge_old_runs
from warmup_pipeline.orchestration.text import markdown_table
from warmup_pipeline.warmup import importing, operating
from warmup_pipeline.warmup.world import World

CYCLE_JOB_DEFINITION: Final = dg.define_asset_job(
    CYCLE_JOB,
    # The export of past days is no part of a cycle.
    selection=dg.AssetSelection.groups(CYCLE_GROUP) - dg.AssetSelection.assets(EXPORT_ASSET),
    description=(
        "One warm-up cycle: refresh connections, plan, claim, pair, validate, send, derive, check. "
        "The sensor runs it every five minutes."
    ),
    executor_def=dg.in_process_executor,
    tags={MAX_RUNTIME_TAG: str(MAX_RUNTIME_S)},
)

_AUTHOR: Final = dg.Field(
    str,
    default_value="operator",
    description="Who does this: it stands in operator_actions beside what was done.",
)
_REASON: Final = dg.Field(
    str, default_value="", description="Why, for operator_actions and for whoever looks at the chip later."
)
_CHIPS: Final = dg.Field(
    [str],
    default_value=[],
    description=(
        'The chips, each by its id, instance, label or last four digits: ["8618", "0121"]. All of them, or '
        "none where one cannot."
    ),
)
_EFFECT: Final = "Fill in the Launchpad and launch. The next cycle goes by it; its assets show the effect."


def _refusing(world: World, act: Callable[[], Any]) -> Any:
    """Do something an operator asked for; bad input becomes one clear line and nothing is changed."""
    try:
        return act()
    except importing.ImportRefused as error:
        text = "; ".join(error.problems[:20])
        raise dg.Failure(
            description=world.redactor.text(f"nothing was imported: {text}"), allow_retries=False
        ) from None
    except operating.OperatorError as error:
        raise dg.Failure(description=world.redactor.text(str(error)), allow_retries=False) from None


def _filled_in(op: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a job's Launchpad opens with: every field, with its default."""
    return {"ops": {op: {"config": dict(config)}}}


Change = Callable[..., Sequence[operating.Change]]


def _chips_job(name: str, change: Change, description: str) -> dg.JobDefinition:
    @dg.op(
        name=f"{name}_op",
        description=description,
        required_resource_keys={RESOURCE},
        config_schema={"chips": _CHIPS, "author": _AUTHOR, "reason": _REASON},
        out=dg.Out(dg.Nothing),
    )
    def act(context: dg.OpExecutionContext) -> None:
        config = context.op_config
        with guarded(context.resources.warmup, context.log, []) as world:
            changes = _refusing(
                world,
                lambda: change(world, config["chips"], author=config["author"], reason=config["reason"]),
            )
            for one in changes:
                context.log.info(f"…{one.last4}: {one.before} → {one.after}")
            context.add_output_metadata(
                {
                    "chips": len(changes),
                    "changes": dg.MetadataValue.md(
                        markdown_table(
                            ("chip", "before", "after"),
                            [(f"…{one.last4}", one.before, one.after) for one in changes],
                        )
                    ),
                }
            )

    @dg.job(
        name=name,
        description=f"{description} {_EFFECT}",
        executor_def=dg.in_process_executor,
        config=_filled_in(f"{name}_op", {"chips": [], "reason": "", "author": "operator"}),
    )
    def job() -> None:
        act()

    return job


@dg.op(
    description="Switches sending off for everything, a pool or a chip, or on again.",
    required_resource_keys={RESOURCE},
    config_schema={
        "scope": dg.Field(
            dg.Enum("KillScope", [dg.EnumValue(v) for v in operating.SCOPES]),
            default_value="all",
            description="What stops: all (everything), pool (one pool) or chip (one chip).",
        ),
        "target": dg.Field(
            str,
            default_value="",
            description="The pool's name, or the chip by its id, instance, label or last four digits; empty for all.",
        ),
        "lift": dg.Field(
            bool,
            default_value=False,
            description="true switches sending on again: the same scope and target as when it was set.",
        ),
        "expires_at": dg.Field(
            str,
            default_value="",
            description="When it ends by itself, e.g. 2026-02-20T18:00:00-03:00; empty for never.",
        ),
        "reason": dg.Field(
            str, default_value="", description="Why; needed: whoever finds the pool silent reads it."
        ),
        "author": _AUTHOR,
    },
    out=dg.Out(dg.Nothing),
)
def set_kill_switch_op(context: dg.OpExecutionContext) -> None:
    """Set or lift a kill switch."""
    config = context.op_config
    with guarded(context.resources.warmup, context.log, []) as world:
        expires_at = _instant(config["expires_at"])
        switched = _refusing(
            world,
            lambda: operating.set_kill_switch(
                world,
                scope=config["scope"],
                target=config["target"] or None,
                reason=config["reason"],
                author=config["author"],
                expires_at=expires_at,
                lift=config["lift"],
            ),
        )
        context.log.info(
            f"sending is {'off' if switched.on else 'on again'} for {switched.scope} {switched.target}"
        )
        context.add_output_metadata({"on": switched.on, "scope": switched.scope, "target": switched.target})


def _instant(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise dg.Failure(
            description=f"{text!r} is no time; write it like 2026-02-20T18:00:00-03:00", allow_retries=False
        ) from None


@dg.job(
    executor_def=dg.in_process_executor,
    description=(
        "Switch sending off for everything, a pool or a chip; with `lift: true` on again. It takes effect within "
        "the running cycle: nothing that has not begun is sent. The cycles go on observing and judging."
    ),
    config=_filled_in(
        "set_kill_switch_op",
        {"scope": "all", "target": "", "reason": "", "expires_at": "", "lift": False, "author": "operator"},
    ),
)
def set_kill_switch() -> None:
    """Switch sending off or on."""
    set_kill_switch_op()


@dg.op(
    description="Imports the old system's tables from CSV files: everything or nothing.",
    required_resource_keys={RESOURCE},
    config_schema={
        "chips": dg.Field(
            str, default_value="", description="Path of chips.csv on the machine that runs this; needed."
        ),
        "schedule": dg.Field(
            str, default_value="", description="Path of warmup_schedule.csv, if there is one."
        ),
        "interactions": dg.Field(
            str, default_value="", description="Path of chip_interactions.csv, if there is one."
        ),
        "pool": dg.Field(str, default_value=DEFAULT_POOL, description="The pool to import into."),
        "rebase_to": dg.Field(
            str,
            default_value="",
            description="Shift all times so that the export's moment becomes this one, e.g. "
            "2026-02-20T08:00:00-03:00; empty to keep them.",
        ),
        "dry_run": dg.Field(bool, default_value=False, description="Check everything and keep nothing."),
        "author": _AUTHOR,
    },
    out=dg.Out(dg.Nothing),
)
def import_pool_op(context: dg.OpExecutionContext) -> None:
    """Import a pool."""
    config = context.op_config
    if not config["chips"]:
        raise dg.Failure(description="chips: name the path of chips.csv", allow_retries=False)
    with guarded(context.resources.warmup, context.log, []) as world:
        rebase_to = _instant(config["rebase_to"])
        report = _refusing(
            world,
            lambda: importing.import_pool(
                world,
                Path(config["chips"]),
                Path(config["schedule"]) if config["schedule"] else None,
                Path(config["interactions"]) if config["interactions"] else None,
                pool=config["pool"],
                rebase_to=rebase_to,
                dry_run=config["dry_run"],
                author=config["author"],
            ),
        )
        document = report.document()
        context.log.info(f"imported: {document}")
        context.add_output_metadata({"report": dg.MetadataValue.json(document)})


@dg.job(
    executor_def=dg.in_process_executor,
    description=(
        "Import the old system's tables from CSV files: everything or nothing, twice is the same as once. With "
        "`dry_run: true` everything is checked and nothing kept. Same as `warmup import`."
    ),
    config=_filled_in(
        "import_pool_op",
        {
            "chips": "",
            "schedule": "",
            "interactions": "",
            "pool": DEFAULT_POOL,
            "rebase_to": "",
            "dry_run": False,
            "author": "operator",
        },
    ),
)
def import_pool() -> None:
    """Import a pool from CSV files."""
    import_pool_op()


@dg.op(
    description="Removes Dagster runs and their files older than some days. The pool's own data stays.",
    config_schema={
        "keep_days": dg.Field(
            int,
            default_value=DEFAULT_KEEP_DAYS,
            description="Runs younger than so many days stay; at least 1.",
        ),
        "author": _AUTHOR,
    },
    required_resource_keys={RESOURCE},
    out=dg.Out(dg.Nothing),
)
def purge_old_runs_op(context: dg.OpExecutionContext) -> None:
    """Purge old runs."""
    keep_days = context.op_config["keep_days"]
    if keep_days < 1:
        raise dg.Failure(description=f"keep_days is {keep_days}; it is at least 1", allow_retries=False)
    removed = purge_old_runs(context.instance, keep_days=keep_days, but_not=context.run_id)
    with guarded(context.resources.warmup, context.log, []) as world:
        _refusing(
            world,
            lambda: operating.note_purge(
                world, keep_days=keep_days, removed=removed.runs, author=context.op_config["author"]
            ),
        )
    context.log.info(
        f"Older than {keep_days} days and removed: {removed.runs} runs, {removed.ticks} ticks, what "
        f"{removed.left_behind} runs no longer listed had left; {removed.freed / 1e6:.0f} MB given back"
    )
    context.add_output_metadata(removed.numbers())


@dg.job(
    name="purge_old_runs",
    executor_def=dg.in_process_executor,
    description=(
        "Remove Dagster runs, their files and ticks older than some days; of each day the newest success and of each "
        "check the last result stay, and so does all of the pool's data. Runs every night by itself."
    ),
    config=_filled_in("purge_old_runs_op", {"keep_days": DEFAULT_KEEP_DAYS, "author": "operator"}),
    # The first purge of a history that has grown for months takes its time; a run of the cycle never does.
    tags={MAX_RUNTIME_TAG: str(PURGE_MAX_RUNTIME_S)},
)
def purge_old_runs_job() -> None:
    """Remove old runs."""
    purge_old_runs_op()


PURGE_SCHEDULE: Final = dg.ScheduleDefinition(
    name="purge_old_runs_schedule",
    job=purge_old_runs_job,
    cron_schedule="30 3 * * *",
    execution_timezone="America/Sao_Paulo",
    run_config=_filled_in("purge_old_runs_op", {"keep_days": DEFAULT_KEEP_DAYS, "author": "schedule"}),
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every night at 03:30.",
)

OPERATOR_JOBS: Final = [
    _chips_job(
        "start_chips",
        operating.start_chips,
        "Start chips: provisioned and pending ones begin to warm up (24 hours of repouso first), ready ones become "
        "active.",
    ),
    _chips_job(
        "pause_chips",
        operating.pause_chips,
        "Pause chips: they neither send nor are written to, and keep everything they have earned.",
    ),
    _chips_job(
        "resume_chips",
        operating.resume_chips,
        "Let paused chips go on where they were, with the status they had.",
    ),
    _chips_job(
        "reset_circuit",
        operating.reset_circuit,
        "Close the breaker of chips by hand. The brake that its opening brought stays on for its three days.",
    ),
    set_kill_switch,
    import_pool,
    purge_old_runs_job,
]
