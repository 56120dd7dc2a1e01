"""The traps: an exception group whose members Dagster drops, a cause that is lost, a token in a traceback."""

from collections.abc import Callable

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from warmup_pipeline.assembly import open_world
from warmup_pipeline.orchestration.guard import guarded
from warmup_pipeline.orchestration.names import RESOURCE
from warmup_pipeline.orchestration.resources import WarmupAccess, warmup_resource
from warmup_pipeline.settings import Settings, SettingsError
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.trouble import StoreError
from warmup_pipeline.warmup.lifecycle import CycleRefused, begin_cycle
from warmup_pipeline.warmup.world import StandardLog, World
from warmup_pipeline_tests.orchestration.conftest import Project


def run_step(
    project: Project, step: Callable[[World], None], *, settings: Callable[[], Settings] | None = None
) -> str:
    """Run one guarded step in Dagster and return everything that is stored of it."""

    @dg.op(required_resource_keys={RESOURCE})
    def guarded_step(context: dg.OpExecutionContext) -> None:
        with guarded(context.resources.warmup, context.log, []) as world:
            step(world)

    @dg.job(
        resource_defs={
            RESOURCE: warmup_resource(lambda: WarmupAccess(settings or (lambda: project.settings)))
        }
    )
    def one_step() -> None:
        guarded_step()

    result = one_step.execute_in_process(instance=project.instance, raise_on_error=False)
    assert not result.success
    return "\n".join(project.log(result.run_id))


def a_token(project: Project) -> str:
    with open_world(project.settings, log=StandardLog()) as world:
        return next(iter(world.gateways.zapi_tokens.values()))


def chain(depth: int) -> None:
    """Raise an exception with ``depth`` causes behind it."""
    if depth == 0:
        raise KeyError("cause number 0")
    try:
        chain(depth - 1)
    except Exception as error:
        raise RuntimeError(f"cause number {depth}") from error


def test_a_whole_cause_chain_is_stored_however_long(project: Project) -> None:
    def step(_: World) -> None:
        chain(9)

    told = run_step(project, step)
    assert all(f"cause number {n}" in told for n in range(10))
    assert "in chain" in told, "frames, not only messages"


def test_every_member_of_an_exception_group_is_stored_with_its_own_traceback(project: Project) -> None:
    def first() -> None:
        raise ValueError("the first bug")

    def second() -> None:
        raise LookupError("the second bug")

    def step(_: World) -> None:
        members = []
        for bug in (first, second):
            try:
                bug()
            except Exception as error:  # noqa: BLE001 (a group is made of them)
                members.append(error)
        raise ExceptionGroup("two bugs", members)

    told = run_step(project, step)
    assert "two bugs" in told
    for words in ("ValueError: the first bug", "in first", "LookupError: the second bug", "in second"):
        assert words in told


def test_of_a_group_too_large_to_note_the_number_left_out_is_said(project: Project) -> None:
    def step(_: World) -> None:
        raise ExceptionGroup("many", [ValueError(f"bug {n}") for n in range(14)])

    assert "and 4 more" in run_step(project, step)


def test_what_had_to_be_redacted_is_stored_whole_but_for_the_secret_and_the_number(project: Project) -> None:
    token = a_token(project)

    def inner() -> None:
        raise ConnectionError(
            f"POST https://api.z-api.io/instances/X/token/{token}/send-text to 5511900000121"
        )

    def step(_: World) -> None:
        try:
            inner()
        except ConnectionError as error:
            raise RuntimeError(f"could not reach {token}") from error

    told = run_step(project, step)
    assert token not in told
    assert "5511900000121" not in told
    for words in ("ConnectionError: POST", "in inner", "RuntimeError: could not reach ***", "direct cause"):
        assert words in told


def test_a_refused_cycle_is_one_line_without_a_traceback_of_ours(project: Project) -> None:
    def step(_: World) -> None:
        raise CycleRefused("start it for the partition 2026-02-20")

    told = run_step(project, step)
    assert "start it for the partition 2026-02-20" in told
    assert "CycleRefused" not in told


@pytest.mark.parametrize(
    "wrong",
    [
        SettingsError("EVOLUTION_API_KEY is not set"),
        ValueError("policy mine.yaml: window.start_hour: must be below end_hour"),
    ],
)
def test_an_environment_that_cannot_be_used_fails_the_step_in_one_line(
    project: Project, wrong: ValueError
) -> None:
    def refuse() -> Settings:
        raise wrong

    told = run_step(project, lambda _: None, settings=refuse)
    assert str(wrong) in told


def test_a_failed_step_marks_its_cycle_as_failed_and_frees_the_pool(project: Project) -> None:
    def break_derivation(world: World) -> World:
        with world.store.write() as tx:
            tx.connection.exec_driver_sql("DROP TABLE trust_scores")
        return world

    ran = project.cycle(break_derivation)
    assert not ran.succeeded
    assert "no such table: trust_scores" in "\n".join(project.log(ran.run_id))
    assert [row["state"] for row in project.rows("SELECT state FROM cycles")] == ["failed"]


def test_a_step_that_is_terminated_frees_the_pool_at_once(project: Project) -> None:
    @dg.op(required_resource_keys={RESOURCE})
    def terminated(context: dg.OpExecutionContext) -> None:
        cycle: list[Cycle] = []
        with guarded(context.resources.warmup, context.log, cycle) as world:
            cycle.append(begin_cycle(world, "default", root_run_id=context.run_id)[0])
            # What Dagster raises, wherever the step is, when a run is terminated in the UI.
            raise DagsterExecutionInterruptedError

    @dg.job(resource_defs={RESOURCE: warmup_resource(lambda: WarmupAccess(lambda: project.settings))})
    def one_step() -> None:
        terminated()

    result = one_step.execute_in_process(instance=project.instance, raise_on_error=False)
    assert not result.success
    assert [row["state"] for row in project.rows("SELECT state FROM cycles")] == ["failed"]


def test_what_was_being_dealt_with_when_a_step_was_terminated_shows_no_secret(project: Project) -> None:
    token = a_token(project)

    def ask() -> None:
        raise ConnectionError(f"POST https://api.z-api.io/instances/X/token/{token}/send-text")

    def step(_: World) -> None:
        try:
            ask()
        except ConnectionError:
            # The signal comes whenever it comes.
            raise DagsterExecutionInterruptedError  # noqa: B904

    told = run_step(project, step)
    assert "DagsterExecutionInterruptedError" in told
    assert token not in told
    assert "What else went on as the run was ended" in told
    assert "in ask" in told, "its frames, and its words without the token"
    assert "ConnectionError: POST" in told


def test_a_run_that_is_terminated_in_peace_tells_of_nothing_else(project: Project) -> None:
    def step(_: World) -> None:
        raise DagsterExecutionInterruptedError

    assert "What else went on" not in run_step(project, step)


def test_a_database_in_trouble_is_one_line_that_says_what_to_do_and_its_traceback_is_in_the_log(
    project: Project,
) -> None:
    def step(_: World) -> None:
        trouble = StoreError("the database cannot be used; its disk is full: free some space")
        raise trouble from OSError("no space left on device")

    told = run_step(project, step)
    assert "The database failed in the middle of a step" in told
    assert "no space left on device" in told
    assert "StepFailed" not in told
