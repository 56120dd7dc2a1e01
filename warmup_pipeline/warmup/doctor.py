"""Looking a live set-up over: what is wrong, and what to do about it.

Holds: :class:`Finding`, and one function per part of a set-up that can be looked at once the program
can be opened at all: the pool, its cycles, each chip's credentials, session, number and webhook. Add
here: another thing that can be wrong. Do not add: the environment, the policy, opening the database
(``cli.doctor`` looks at these), changing anything: a doctor only looks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from warmup_pipeline.domain.phones import same_line
from warmup_pipeline.domain.privacy import mask_phone
from warmup_pipeline.domain.values import (
    LISTENER_ROLE,
    OBSERVED_STATUSES,
    ChipStatus,
    ClockKind,
    ConnectionState,
    FailureClass,
    Provider,
)
from warmup_pipeline.gateways.base import Gateway, GatewayError
from warmup_pipeline.gateways.hub import GatewayHub
from warmup_pipeline.store import chips, cycles, inbox, pools
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.inbox import Source
from warmup_pipeline.warmup.gateway_step import channel_of, run_in_loop, run_together
from warmup_pipeline.warmup.lifecycle import STEPPED_NEVER_LIVE
from warmup_pipeline.warmup.sessions import webhook_path
from warmup_pipeline.warmup.watch import LOOKING_TAKES
from warmup_pipeline.warmup.world import World

WELL: Final = "ok"
WARNS: Final = "warn"
FAILS: Final = "fail"

EXIT_CODES: Final = {WELL: 0, WARNS: 1, FAILS: 2}
"""Exit code of ``warmup doctor`` by its worst finding."""

LATE_AFTER: Final = timedelta(minutes=10)
_GONE: Final = frozenset({ChipStatus.BANNED, ChipStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        part: what it belongs to: ``environment``, ``policy``, ``dialogues``, ``database``, ``history``,
            ``pool``, ``cycles``, ``webhooks``, ``credentials``, ``instance``, ``number``, ``webhook``.
        subject: which one, as it may be shown; empty where there is only one.
        verdict: ``ok``, ``warn`` or ``fail``.
        says: what was found, one line, redacted.
        remedy: what to do, empty where all is well.
    """

    part: str
    subject: str
    verdict: str
    says: str
    remedy: str = ""

    def document(self) -> dict[str, str]:
        """Return it as JSON-ready data."""
        return {
            "part": self.part,
            "subject": self.subject,
            "verdict": self.verdict,
            "says": self.says,
            "remedy": self.remedy,
        }


def worst_of(findings: Sequence[Finding]) -> str:
    """Return the worst verdict of several findings."""
    return max((one.verdict for one in findings), key=list(EXIT_CODES).index, default=WELL)


def look_at_pool(world: World) -> tuple[list[Finding], list[Chip]]:
    """Look at chips and cycles; return what was found, and the chips whose gateways can be asked."""
    with world.store.read() as tx:
        every = [chip for chip in chips.of_pool(tx) if chip.status not in _GONE]
        latest = cycles.latest_of_each_pool(tx)
        held = pools.with_chips(tx)
    clocks = {pool.name: pool.now(world.now()) for pool in held}
    stepped = {pool.name for pool in held if pool.clock is ClockKind.STEPPED}
    taking_part = [chip for chip in every if chip.takes_part]
    findings = []
    if not every:
        return [
            Finding(
                "pool", "", FAILS, "there are no chips", "`warmup import` or `warmup chips add` brings some"
            )
        ], []
    for pool in sorted({chip.pool for chip in every}):
        if pool in stepped and not world.is_simulated:
            remedy = "set WARMUP_DATABASE_URL to a database without the demo"
            findings.append(Finding("pool", pool, FAILS, f"it {STEPPED_NEVER_LIVE}", remedy))
            continue
        mine = [chip for chip in taking_part if chip.pool == pool]
        words = f"{len(mine)} of {sum(chip.pool == pool for chip in every)} chips take part"
        if len(mine) < 2:
            findings.append(
                Finding(
                    "pool",
                    pool,
                    FAILS,
                    f"{words}: nobody can talk to anybody",
                    "start two: `warmup chips start`",
                )
            )
            continue
        findings.append(Finding("pool", pool, WELL, words))
        findings += _pace_findings(world, pool, [chip for chip in every if chip.pool == pool])
        last = latest.get(pool)
        findings.append(_cycle_finding(pool, None if last is None else last.tick, clocks[pool]))
    return findings, every


def _pace_findings(world: World, pool: str, mine: Sequence[Chip]) -> list[Finding]:
    """Say where the policy's pace lets a cycle ask not all of a pool's chips at a server."""
    per_second = world.policy.pace.requests_per_second_per_server
    if per_second is None:
        return []
    asked = [chip for chip in mine if chip.status in OBSERVED_STATUSES and chip.role != LISTENER_ROLE]
    seconds = LOOKING_TAKES.total_seconds() - world.policy.pace.timeout_seconds
    most = int(per_second * seconds)
    return [
        Finding(
            "pool",
            pool,
            WARNS,
            f"{count} chips at {provider.value}, of which the policy's pace lets a cycle look at {most}: "
            "the others wait for their turn, and send nothing meanwhile",
            f"raise pace.requests_per_second_per_server to {math.ceil(10 * count / seconds) / 10:g} or more, "
            "or divide the pool",
        )
        for provider, count in sorted(Counter(chip.provider for chip in asked).items())
        if count > most
    ]


def _cycle_finding(pool: str, last: datetime | None, now: datetime) -> Finding:
    remedy = "run `dagster dev`, or the daemon, and see that `warmup_cycle_sensor` is on"
    if last is None:
        return Finding("cycles", pool, WARNS, "no cycle has run yet", remedy)
    if now - last > LATE_AFTER:
        minutes = round((now - last).total_seconds() / 60)
        return Finding("cycles", pool, WARNS, f"the last cycle was {minutes} minutes ago", remedy)
    return Finding("cycles", pool, WELL, "the last cycle was less than ten minutes ago")


def look_at_gateways(
    world: World,
    every_chip: Sequence[Chip],
    *,
    webhook_secret: str | None,
    progress: Callable[[], None] = lambda: None,
) -> list[Finding]:
    """Ask each chip's gateway: does it let us in, is the session open, whose is it, whom does it tell?

    Args:
        world: the world; its gateways are asked, and nothing is changed there.
        every_chip: the chips.
        webhook_secret: what webhooks must bring, ``None`` where it is not set.
        progress: told each time a chip's gateway was asked.
    """
    findings = []
    if webhook_secret is None:
        findings.append(
            Finding(
                "webhooks",
                "",
                WARNS,
                "WARMUP_WEBHOOK_SECRET is not set: every webhook is refused, and no Z-API delivery can be confirmed",
                "set it to a long random text, for this and for `warmup serve`; then `warmup chips webhooks`",
            )
        )
    with world.store.read() as tx:
        heard = inbox.sources(tx)

    names = _Names(every_chip)

    async def look_at(hub: GatewayHub, chip: Chip) -> list[Finding]:
        try:
            return await _look_at(hub.gateway(chip.provider), chip, names, webhook_secret, heard.get(chip.id))
        finally:
            progress()

    async def main() -> list[list[Finding] | Exception]:
        async with GatewayHub(
            world.gateways,
            world.redactor,
            simulated=world.is_simulated,
            deadline=world.policy.pace.timeout_seconds,
            max_connections_per_server=world.policy.pace.connections_per_server,
            per_second_per_server=world.policy.pace.requests_per_second_per_server,
            per_second_per_instance=world.policy.pace.requests_per_second_per_instance,
            transport_factory=world.transport_factory,
        ) as hub:
            return await run_together(
                every_chip,
                lambda chip: look_at(hub, chip),
                lane=lambda chip: chip.provider,
            )

    for answer in run_in_loop(world, main()):
        if isinstance(answer, Exception):
            raise answer
        findings += answer
    return findings


class _Names:
    """What chips are called: where there are several pools with them; and by an id where four digits mean two."""

    def __init__(self, every_chip: Sequence[Chip]) -> None:
        self._several_pools = len({chip.pool for chip in every_chip}) > 1
        self._with_digits = Counter(chip.last4 for chip in every_chip)
        self._alike = Counter((chip.last4, chip.pool, chip.provider) for chip in every_chip)

    def shown(self, chip: Chip) -> str:
        """Return a chip as a finding names it."""
        pool = f", {chip.pool}" if self._several_pools else ""
        alike = self._alike[chip.last4, chip.pool, chip.provider] > 1
        return f"…{chip.last4} ({chip.provider.value}{pool}{f', {chip.id}' if alike else ''})"

    def said(self, chip: Chip) -> str:
        """Return what to say to a command that is about this chip alone."""
        return chip.last4 if self._with_digits[chip.last4] == 1 else chip.id


async def _look_at(
    gateway: Gateway, chip: Chip, names: _Names, webhook_secret: str | None, heard: Source | None
) -> list[Finding]:
    channel, name, said = channel_of(chip), names.shown(chip), names.said(chip)
    try:
        seen = await gateway.connection_state(channel)
    except GatewayError as error:
        if error.failure is FailureClass.GATEWAY:
            # Its text says which variable to set, or that the server cannot be reached.
            return [Finding("credentials", name, FAILS, str(error), _let_in(chip, error))]
        return [
            Finding(
                "instance",
                name,
                FAILS,
                str(error),
                "look at the gateway's own log; then `warmup doctor` again",
            )
        ]
    findings = [Finding("credentials", name, WELL, "the gateway lets us in")]
    if seen.state is not ConnectionState.OPEN:
        remedy = seen.needs_person or f"`warmup chips reconnect {said}`, then `warmup chips qr {said}`"
        findings.append(
            Finding(
                "instance", name, FAILS, f"the session is {seen.state}: {seen.detail}".rstrip(": "), remedy
            )
        )
        # Whose session it is, and whom it tells, is asked again once it is there.
        return findings
    findings.append(Finding("instance", name, WELL, "the session is open"))
    try:
        findings.append(_number(chip, name, await gateway.own_number(channel)))
        if webhook_secret is not None:
            problem = await gateway.webhook_problem(channel, webhook_path(chip), webhook_secret)
            findings.append(_webhook(chip, name, said, problem, heard))
    except GatewayError as error:
        findings.append(Finding("instance", name, WARNS, str(error), "`warmup doctor` again"))
    return findings


def _let_in(chip: Chip, error: GatewayError) -> str:
    evolution = chip.provider is Provider.EVOLUTION
    if not error.evidence.bad_credentials:
        address = "EVOLUTION_API_URL" if evolution else "ZAPI_BASE_URL"
        return f"see that the server runs and that {address} is its address"
    if error.attempts == 0:
        if evolution:
            return "set EVOLUTION_API_URL and EVOLUTION_API_KEY, or the key under evolution: in WARMUP_SECRETS_FILE"
        return "add the instance's token under zapi: in WARMUP_SECRETS_FILE"
    if evolution:
        return "correct EVOLUTION_API_KEY, or the instance's key under evolution: in WARMUP_SECRETS_FILE"
    return "correct ZAPI_CLIENT_TOKEN, or the instance's token under zapi: in WARMUP_SECRETS_FILE"


def _number(chip: Chip, name: str, number: str | None) -> Finding:
    if number is None:
        return Finding(
            "number", name, WARNS, "the gateway does not say which number is logged in", "look there"
        )
    if not same_line(number, chip.phone):
        return Finding(
            "number",
            name,
            FAILS,
            f"{mask_phone(number)} is logged in instead of …{chip.last4}",
            f"log {chip.instance} out and pair it with …{chip.last4}, or correct the chip's instance",
        )
    return Finding("number", name, WELL, f"…{chip.last4} is logged in")


def _webhook(chip: Chip, name: str, said: str, problem: str | None, heard: Source | None) -> Finding:
    if problem is not None:
        # Evolution's deliveries are confirmed by polling as well: there it is no more than late.
        verdict = FAILS if chip.provider is Provider.Z_API else WARNS
        remedy = f"`warmup chips webhooks {said} --url https://…` (where the gateway reaches `warmup serve`)"
        return Finding("webhook", name, verdict, problem, remedy)
    if heard is None:
        return Finding(
            "webhook",
            name,
            WARNS,
            "it is set, and nothing was ever heard from it",
            "see that `warmup serve` runs and that its address is reached from the gateway; a first message, or "
            f"`warmup chips reconnect {said}`, brings a call",
        )
    return Finding("webhook", name, WELL, f"last heard {heard.last_heard_at:%Y-%m-%d %H:%M} UTC")
