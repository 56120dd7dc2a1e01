"""What came of a cycle's sends: kept until it is written down, written down now and then, and told.

Holds: :class:`Noting`, :class:`Unnoted`. Do not add: what an outcome changes (``outcomes``), sending (``send``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from warmup_pipeline.domain.values import FailureClass
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import ROWS_PER_STATEMENT, TakenByAnother
from warmup_pipeline.store.trouble import StoreError
from warmup_pipeline.warmup.approved import Approved, Tally, say_safely
from warmup_pipeline.warmup.gateway_step import aside
from warmup_pipeline.warmup.lifecycle import CycleRefused
from warmup_pipeline.warmup.outcomes import Outcome, record_outcomes
from warmup_pipeline.warmup.withdrawing import withdraw
from warmup_pipeline.warmup.world import World

NOTE_EVERY_S: Final = 1.0
"""Seconds within which outcomes are noted."""

NOTE_AT: Final = ROWS_PER_STATEMENT
"""Outcomes that are noted at once."""

DATABASE_MAY_BE_AWAY_S: Final = 15.0
"""Seconds that noting outcomes waits for a database that is away: within the time kept at a cycle's end."""


_OF_ALL: Final = (StoreError, CycleRefused, TakenByAnother)
"""What keeps every outcome from being noted, not one: the database is in trouble, or the pool another's."""


class Unnoted(ExceptionGroup[Exception]):
    """What kept single outcomes from being noted, each for a reason of its own."""


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
        self._unnoted: list[Outcome] = []
        self._problems: list[Exception] = []
        self._said: set[str] = set()
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
                await self.if_possible()

    async def if_possible(self) -> None:
        """Look and note outcomes; what cannot be noted now is kept, and said."""
        try:
            async with self._database:
                await aside(self._world, self._look)
            await self._note()
        except _OF_ALL as error:
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
            CycleRefused, TakenByAnother: the pool is another cycle's by now.
            Unnoted: some could not be noted for a reason of their own; all others were.
        """
        loop = asyncio.get_running_loop()
        give_up = loop.time() + DATABASE_MAY_BE_AWAY_S
        while True:
            # What kept single outcomes from being noted may be over by now.
            self._outcomes[:0], self._unnoted = self._unnoted, []
            self._problems.clear()
            try:
                await self._note()
            except StoreError:
                if loop.time() >= give_up:
                    raise
                await asyncio.sleep(NOTE_EVERY_S)
            else:
                break
        if self._problems:
            raise Unnoted(f"{len(self._problems)} outcomes of sends could not be noted", self._problems)

    async def _note(self) -> None:
        """Write down the outcomes there are: how sends ended, then what was not begun, by reason.

        One that cannot be written down for a reason of its own keeps no other from it.

        Raises:
            StoreError, CycleRefused, TakenByAnother: nothing can be noted now, or any more; it is kept.
        """
        async with self._database:
            outcomes, self._outcomes = self._outcomes, []
            by_reason: dict[str | None, list[Outcome]] = {}
            for outcome in sorted(outcomes, key=lambda one: one.withdrawn or ""):
                by_reason.setdefault(outcome.withdrawn, []).append(outcome)
            left = deque(by_reason.values())
            try:
                while left:
                    some = left[0]
                    try:
                        said = await aside(self._world, partial(self._write, some, some[0].withdrawn))
                    except _OF_ALL:
                        raise
                    except Exception as error:  # noqa: BLE001 (raised at the end, when the others are noted)
                        left.popleft()
                        if len(some) == 1:
                            self._keep(some[0], error)
                        else:
                            half = len(some) // 2
                            left.extendleft((some[half:], some[:half]))
                    else:
                        await self._tell(left.popleft(), said)
            finally:
                # What is not noted yet is so with the next ones.
                self._outcomes[:0] = [outcome for some in left for outcome in some]

    def _keep(self, outcome: Outcome, error: Exception) -> None:
        """Keep an outcome that cannot be noted until the end, and say why once."""
        self._unnoted.append(outcome)
        self._problems.append(error)
        if outcome.approval.id in self._said:
            return
        self._said.add(outcome.approval.id)
        last4 = self._approved.standing.chips[outcome.approval.sender_chip_id].last4
        title = f"…{last4}: what came of a send could not be noted yet"
        say_safely(
            self._tally, partial(self._world.log.failure, title, self._world.redactor.traceback(error))
        )

    def _write(self, outcomes: Sequence[Outcome], withdrawn: str | None) -> str | None:
        if withdrawn is None:
            record_outcomes(self._world, self._cycle, outcomes, self._approved.standing)
            return None
        approvals = [outcome.approval for outcome in outcomes]
        return withdraw(self._world, self._cycle, self._approved, approvals, withdrawn)

    async def _tell(self, outcomes: Sequence[Outcome], said: str | None) -> None:
        """Count outcomes that are noted, and say what is to be said of them."""
        for outcome in outcomes:
            self._count(outcome)
        if said is not None:
            say_safely(self._tally, partial(self.say, said))
        for outcome in outcomes:
            if outcome.problem is not None:
                say_safely(self._tally, partial(self._say_failure, outcome))
                # Saying so may take as long as a write, and many may have failed: the others are listened to.
                await asyncio.sleep(0)

    def _count(self, outcome: Outcome) -> None:
        if outcome.withdrawn is not None:
            self._tally.withdrawn[outcome.withdrawn] += 1
        elif outcome.accepted is not None:
            self._tally.sent += 1
        elif outcome.failure is FailureClass.UNKNOWN:
            self._tally.unknown += 1
        else:
            self._tally.failed[outcome.failure.value] += 1

    def _say_failure(self, outcome: Outcome) -> None:
        """Tell the operator where and how a send failed."""
        last4 = self._approved.standing.chips[outcome.approval.sender_chip_id].last4
        problem = self._world.redactor.text(str(outcome.problem))
        title = f"…{last4}: send failed ({outcome.failure.value}): {problem}"
        self._tally.notes.append(title.splitlines()[0])
        self._world.log.failure(title, outcome.traceback or "")

    def say(self, text: str) -> None:
        """Tell the operator what was taken back, first of all."""
        self._world.log.warning(text)
        self._tally.notes.insert(0, text)
