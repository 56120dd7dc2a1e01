"""The boundary of every step: what is logged, what is raised, and what never leaves.

Holds: :class:`RunLog` and :func:`guarded`. Dagster stores a raised exception with its traceback,
but loses the members of an exception group, and of a logged one it keeps the message only. So
tracebacks are put into texts here, and everything that leaves a step is redacted.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import dagster as dg

from warmup_pipeline.domain.privacy import Redactor
from warmup_pipeline.orchestration.resources import WarmupAccess
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import TakenByAnother
from warmup_pipeline.store.migrate import StoreError
from warmup_pipeline.warmup.gateway_step import is_interruption
from warmup_pipeline.warmup.lifecycle import CycleRefused, fail_cycle
from warmup_pipeline.warmup.world import World

MEMBERS_NOTED: Final = 10
NOTE_CHARACTERS: Final = 4096


class StepFailed(Exception):
    """A step failed; the text is the whole traceback, with secrets and phone numbers taken out."""


class _Log(Protocol):
    def info(self, msg: object) -> None: ...

    def warning(self, msg: object) -> None: ...

    def error(self, msg: object) -> None: ...


class RunLog:
    """A step's log on the run's own event log: tracebacks are part of the stored text."""

    def __init__(self, log: _Log) -> None:
        self._log = log

    def info(self, text: str) -> None:
        """Say something ordinary."""
        self._log.info(text)

    def warning(self, text: str) -> None:
        """Say something an operator may want to look at."""
        self._log.warning(text)

    def failure(self, title: str, traceback: str) -> None:
        """Say that something failed, as one red entry with its whole traceback."""
        self._log.error(f"{title}\n\n{traceback}")


def _note_members(error: BaseExceptionGroup[BaseException], world: World) -> None:
    for member in error.exceptions[:MEMBERS_NOTED]:
        error.add_note(world.redactor.traceback(member)[-NOTE_CHARACTERS:])
    left = len(error.exceptions) - MEMBERS_NOTED
    if left > 0:
        error.add_note(f"... and {left} more, each in the run's log")


@contextmanager
def guarded(access: WarmupAccess, log: _Log, cycle: list[Cycle]) -> Iterator[World]:
    """Open the world for a step, and see to it that whatever fails is told whole and clean.

    Args:
        access: the resource.
        log: the step's log manager.
        cycle: the step puts its cycle in here as soon as it knows it, so that a failure is noted there.

    Raises:
        dagster.Failure: the step may not run; one line that says what to do.
        StepFailed: our own code or a tool failed with a text that had to be redacted.
        Exception: what failed, as it was, where nothing had to be redacted.
        BaseException: an interruption, as itself.
    """
    try:
        world = access.world(RunLog(log))
    except (StoreError, ValueError) as error:
        # No world yet, so no redactor that knows the secrets: these errors never hold one, and a number goes.
        raise dg.Failure(description=Redactor().text(str(error)), allow_retries=False) from None
    try:
        yield world
    except dg.Failure:
        raise
    except (CycleRefused, TakenByAnother) as error:
        # The cycle's row is left alone: it belongs to the process that acts.
        raise dg.Failure(description=world.redactor.text(str(error)), allow_retries=False) from None
    except StoreError as error:
        # The database is in trouble, not our code: one line that says what to do, the traceback in the log.
        _note_failure(world, cycle)
        world.log.failure("The database failed in the middle of a step", world.redactor.traceback(error))
        raise dg.Failure(description=world.redactor.text(str(error)), allow_retries=False) from None
    except Exception as error:
        if isinstance(error, BaseExceptionGroup):
            _note_members(error, world)
        whole = "".join(traceback.format_exception(error))
        clean = world.redactor.text(whole)
        _note_failure(world, cycle)
        if clean != whole:
            raise StepFailed(f"the step failed; its whole traceback, redacted:\n{clean}") from None
        raise
    except BaseException as error:
        if is_interruption(error):
            # Somebody ended the run (Terminate, Ctrl-C): nothing goes on in it, and the pool need not wait.
            _note_failure(world, cycle)
            if _beside(error):
                world.log.failure("What else went on as the run was ended", world.redactor.traceback(error))
            whole = "".join(traceback.format_exception(error))
            if world.redactor.text(whole) != whole:
                # What was being dealt with in that moment, an address with its token, say, stands above, redacted.
                error.__cause__ = error.__context__ = None
        raise


def _beside(interruption: BaseException) -> bool:
    """Whether something went wrong, or was being dealt with, when somebody ended the run."""
    link: BaseException | None = interruption
    while link is not None:
        if isinstance(link, Exception):
            return True
        link = link.__cause__ or link.__context__
    return False


def _note_failure(world: World, cycle: list[Cycle]) -> None:
    for one in cycle:
        try:
            fail_cycle(world, one)
        except Exception as error:  # noqa: BLE001 (the first failure is the one to raise; this one is logged)
            world.log.failure(
                "The cycle's row could not be marked as failed", world.redactor.traceback(error)
            )
