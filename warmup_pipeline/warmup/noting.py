"""What came of a cycle's sends: kept until it is written down, written down now and then, and told.

Holds: :class:`Noting`. Do not add: what an outcome changes (``outcomes``), sending (``send``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from warmup_pipeline.domain.values import FailureClass
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import ROWS_PER_STATEMENT
from warmup_pipeline.store.trouble import StoreError
from warmup_pipeline.warmup.approved import Approved, Tally
from warmup_pipeline.warmup.gateway_step import aside
from warmup_pipeline.warmup.outcomes import Outcome, record_outcomes
from warmup_pipeline.warmup.withdrawing import withdraw
from warmup_pipeline.warmup.world import World

NOTE_EVERY_S: Final = 1.0
"""Seconds within which outcomes are noted."""

NOTE_AT: Final = ROWS_PER_STATEMENT
"""Outcomes that are noted at once."""

DATABASE_MAY_BE_AWAY_S: Final = 15.0
"""Seconds that noting outcomes waits for a database that is away: within the time kept at a cycle's end."""


class Noting:
    """Writes outcomes down, while other calls are out.

    Args:
        world: what the cycle works with.
        cycle: the cycle.
        approved: what its sending step works on.
        tally: is told how sends ended, once that is written down.
        database: held by whoever writes: one thing at a time.
        look: done aside each time before outcomes are noted (whether sending is switched off).
    """

    def __init__(
        self,
        world: World,
        cycle: Cycle,
        approved: Approved,
        tally: Tally,
        database: asyncio.Lock,
        look: Callable[[], None],
    ) -> None:
        self._world = world
        self._cycle = cycle
        self._approved = approved
        self._tally = tally
        self._database = database
        self._look = look
        self._outcomes: list[Outcome] = []
        self._many = asyncio.Event()
        self._stopped = False

    def ended(self, outcome: Outcome) -> None:
        """Keep how a send ended."""
        self._outcomes.append(outcome)
        # What could not be noted is not tried again with every single outcome.
        if len(self._outcomes) % NOTE_AT == 0:
            self._many.set()

    def stop(self) -> None:
        """Let :meth:`now_and_then` end: no call is out any more."""
        self._stopped = True
        self._many.set()

    async def now_and_then(self) -> None:
        """Look and note outcomes every second, or when there are many, until stopped."""
        while not self._stopped:
            with suppress(TimeoutError):
                async with asyncio.timeout(NOTE_EVERY_S):
                    await self._many.wait()
            self._many.clear()
            if not self._stopped:
                await self._note_if_possible()

    async def _note_if_possible(self) -> None:
        try:
            async with self._database:
                await aside(self._world, self._look)
            await self._note()
        except StoreError as error:
            # The outcomes are kept and noted by the next try; the last one is not content with less.
            said = "Outcomes could not be noted yet: " + self._world.redactor.text(str(error))
            self._world.log.warning(said)
        except Exception as error:  # noqa: BLE001 (kept as well; the last try raises what is still wrong)
            self._world.log.failure("Outcomes could not be noted yet", self._world.redactor.traceback(error))

    async def for_good(self) -> None:
        """Note every outcome; a database that is away for a moment is waited for.

        What cannot be noted stays ``sending``: the next cycle asks the gateways about it.

        Raises:
            StoreError: the database did not come back in time.
        """
        loop = asyncio.get_running_loop()
        give_up = loop.time() + DATABASE_MAY_BE_AWAY_S
        while True:
            try:
                await self._note()
            except StoreError:
                if loop.time() >= give_up:
                    raise
                await asyncio.sleep(NOTE_EVERY_S)
            else:
                return

    async def _note(self) -> None:
        """Write down the outcomes there are: how sends ended, then what was not begun, by reason."""
        async with self._database:
            outcomes, self._outcomes = self._outcomes, []
            left: dict[str | None, list[Outcome]] = {}
            for outcome in sorted(outcomes, key=lambda one: one.withdrawn or ""):
                left.setdefault(outcome.withdrawn, []).append(outcome)
            try:
                for reason in tuple(left):
                    said = await aside(self._world, partial(self._write, left[reason], reason))
                    await self._tell(left.pop(reason), said)
            finally:
                # What is not noted yet is so with the next ones.
                self._outcomes[:0] = [outcome for some in left.values() for outcome in some]

    def _write(self, outcomes: Sequence[Outcome], withdrawn: str | None) -> str | None:
        if withdrawn is None:
            record_outcomes(self._world, self._cycle, outcomes, self._approved.standing)
            return None
        approvals = [outcome.approval for outcome in outcomes]
        return withdraw(self._world, self._cycle, self._approved, approvals, withdrawn)

    async def _tell(self, outcomes: Sequence[Outcome], said: str | None) -> None:
        """Count outcomes that are noted, and say what is to be said of them."""
        if said is not None:
            self.say(said)
        for outcome in outcomes:
            if outcome.withdrawn is not None:
                self._tally.withdrawn[outcome.withdrawn] += 1
            elif not self._count(outcome):
                # Saying so may take as long as a write, and many may have failed: the others are listened to.
                await asyncio.sleep(0)

    def _count(self, outcome: Outcome) -> bool:
        """Count how a send ended, and tell the operator where it failed; returns whether it was accepted."""
        last4 = self._approved.standing.chips[outcome.approval.sender_chip_id].last4
        if outcome.accepted is not None:
            self._tally.sent += 1
            return True
        failure = outcome.failure
        if failure is FailureClass.UNKNOWN:
            self._tally.unknown += 1
        else:
            self._tally.failed[failure.value] += 1
        title = f"…{last4}: send failed ({failure.value}): {self._world.redactor.text(str(outcome.problem))}"
        self._tally.notes.append(title.splitlines()[0])
        self._world.log.failure(title, outcome.traceback or "")
        return False

    def say(self, text: str) -> None:
        """Tell the operator what was taken back, first of all."""
        self._world.log.warning(text)
        self._tally.notes.insert(0, text)
