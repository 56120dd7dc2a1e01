"""What an operator does to chips: start, pause, resume, add, reset a breaker, switch sending off.

Holds: one function per action. Each is all or nothing, happens at the pool clock's time, and leaves
a row per chip in ``operator_actions``. Add here: another action of operators. Do not add: imports
(``importing``), what the cycle does by itself (degrading, returning).

Source: domain.md, "Words and values", "Brake and hold" (pausing never resets what a chip has earned)
and "Kill switch".
"""

from __future__ import annotations

import unicodedata
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from warmup_pipeline.domain import phones
from warmup_pipeline.domain.circuit import CLOSED
from warmup_pipeline.domain.degrade import returns_to
from warmup_pipeline.domain.privacy import Redactor, mask_phone
from warmup_pipeline.domain.values import (
    DEFAULT_POOL,
    DEFAULT_ROLE,
    LISTENER_ROLE,
    ChipStatus,
    ClockKind,
    Phase,
    Provider,
)
from warmup_pipeline.store import chips, imports, operators, pools, standing
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.engine import PoolNotFound, Transaction
from warmup_pipeline.warmup.derive.standing import derive_standing
from warmup_pipeline.warmup.lifecycle import STEPPED_NEVER_LIVE
from warmup_pipeline.warmup.world import World

START: Final = "start_chips"
PAUSE: Final = "pause_chips"
RESUME: Final = "resume_chips"
ADD: Final = "add_chip"
RESET_CIRCUIT: Final = "reset_circuit"
SET_KILL_SWITCH: Final = "set_kill_switch"
LIFT_KILL_SWITCH: Final = "lift_kill_switch"
PURGE: Final = "purge_old_runs"
"""How each action stands in ``operator_actions``."""

EVERYTHING: Final = "*"
"""Target of a kill switch for everything."""

SCOPES: Final = ("all", "pool", "chip")

PAUSABLE: Final = frozenset({ChipStatus.WARMING, ChipStatus.READY, ChipStatus.ACTIVE, ChipStatus.DEGRADED})

_NAME: Final = 128
_WORD: Final = 32
_AUTHOR: Final = 80
_SHOWN_CHIPS: Final = 10


class OperatorError(ValueError):
    """An action cannot be done, and nothing was; the text is one line that says why."""


@dataclass(frozen=True, slots=True)
class Change:
    """What an action did to one chip.

    Attributes:
        chip_id: the chip's id.
        last4: the end of its phone, as it is shown.
        before: its status, or its breaker's state, before; ``None`` for a new chip.
        after: the same afterwards.
    """

    chip_id: str
    last4: str
    before: str | None
    after: str

    def document(self) -> dict[str, str | None]:
        """Return it as JSON-ready data."""
        return {"id": self.chip_id, "last4": self.last4, "before": self.before, "after": self.after}


def described(chip: Chip) -> str:
    """Return a chip as it is named in a message: its end digits and its label or instance."""
    return f"…{chip.last4} ({chip.label or chip.instance})"


def resolve(tx: Transaction, names: Sequence[str]) -> list[Chip]:
    """Return the chips that names mean, each once, in the order named.

    A name is an id, an instance, a label, or the last four digits of the phone.

    Raises:
        OperatorError: none is named, or a name means no chip or several.
    """
    if not names:
        raise OperatorError(
            "name at least one chip: its id, instance, label, or the last four digits of its phone"
        )
    found: dict[str, Chip] = {}
    for name in names:
        meant = chips.find(tx, name.strip().removeprefix("…"))
        if not meant:
            raise OperatorError(f"there is no chip {name!r}; `warmup chips list` shows what chips are called")
        if len(meant) > 1:
            shown = ", ".join(f"{chip.id} {described(chip)}" for chip in meant[:_SHOWN_CHIPS])
            raise OperatorError(f"{name!r} means {len(meant)} chips, say which by its id: {shown}")
        found[meant[0].id] = meant[0]
    return list(found.values())


def checked_words(author: str, reason: str) -> tuple[str, str]:
    """Return who acts and why, as they are kept.

    Raises:
        OperatorError: nobody is named, or in too many words.
    """
    # A number has no place beside what was done, whoever writes it there.
    author, reason = (
        Redactor().text("".join(" " if _would_break(c) else c for c in words).strip())
        for words in (author, reason)
    )
    if not author or len(author) > _AUTHOR:
        raise OperatorError(f"author must be 1 to {_AUTHOR} characters: it stands beside what was done")
    return author, reason


def _times(tx: Transaction, world: World, of_chips: Sequence[Chip]) -> Mapping[str, datetime]:
    """Lock the chips' pools, in order, and return each pool's time."""
    names = sorted({chip.pool for chip in of_chips})
    for name in names:
        tx.lock_pool(name)
    return {name: pools.get(tx, name).now(world.now()) for name in names}


@dataclass(frozen=True, slots=True)
class _Move:
    """What becomes of one chip: the columns to set, ``status`` among them."""

    chip: Chip
    columns: Mapping[str, Any]

    @property
    def change(self) -> Change:
        return Change(self.chip.id, self.chip.last4, self.chip.status.value, str(self.columns["status"]))


def _move_chips(
    world: World,
    names: Sequence[str],
    *,
    action: str,
    author: str,
    reason: str,
    move: Callable[[Transaction, Sequence[Chip], Mapping[str, datetime]], Sequence[_Move]],
) -> list[Change]:
    author, reason = checked_words(author, world.redactor.text(reason))
    with world.store.write() as tx:
        _times(tx, world, resolve(tx, names))
        # Read again: on PostgreSQL the chips may have moved between being found and being locked.
        found = resolve(tx, names)
        times = _times(tx, world, found)
        moves = move(tx, found, times)
        for one in moves:
            chips.change(tx, [{"id": one.chip.id, **one.columns}])
            operators.record_action(
                tx,
                at=times[one.chip.pool],
                recorded_at=world.now(),
                author=author,
                action=action,
                target=one.chip.id,
                reason=reason,
                details={"chip": f"…{one.chip.last4}", "from": one.chip.status, "to": one.columns["status"]},
            )
        for pool, at in times.items():
            derive_standing(tx, world, pool, at)
    return [one.change for one in moves]


def start_chips(world: World, names: Sequence[str], *, author: str, reason: str = "") -> list[Change]:
    """Start chips: ``provisioned`` or ``pending`` begin to warm up; ``ready`` ones become ``active``.

    A chip that never warmed up begins in ``repouso``; one that did goes on from where it stands, and
    its ``warming_started_at`` stays.

    Raises:
        OperatorError: a name means no chip or several, or a chip cannot be started.
    """

    def move(_: Transaction, found: Sequence[Chip], times: Mapping[str, datetime]) -> list[_Move]:
        moves = []
        for chip in found:
            at = times[chip.pool]
            if chip.role == LISTENER_ROLE:
                raise OperatorError(f"{described(chip)} is a listener, which never takes part in warm-up")
            if chip.status is ChipStatus.READY:
                columns: dict[str, Any] = {"status": ChipStatus.ACTIVE}
            elif chip.status in (ChipStatus.PROVISIONED, ChipStatus.PENDING):
                columns = {"status": ChipStatus.WARMING}
                if chip.warming_started_at is None:
                    columns |= {"phase": Phase.REPOUSO, "phase_started_at": at, "warming_started_at": at}
            else:
                remedy = "; resume it" if chip.status is ChipStatus.PAUSED else ""
                startable = "only provisioned, pending or ready chips start"
                raise OperatorError(f"{described(chip)} is {chip.status}; {startable}{remedy}")
            moves.append(_Move(chip, columns | {"status_since": at, "status_reason": None}))
        return moves

    return _move_chips(world, names, action=START, author=author, reason=reason, move=move)


def pause_chips(world: World, names: Sequence[str], *, author: str, reason: str = "") -> list[Change]:
    """Pause chips that take part or are degraded: they send nothing until they are resumed.

    Nothing a chip has earned changes, ``warming_started_at`` least of all. The status it had is kept
    with the action, and resuming gives it back.

    Raises:
        OperatorError: a name means no chip or several, or a chip cannot be paused.
    """
    said = world.redactor.text(reason.strip())

    def move(_: Transaction, found: Sequence[Chip], times: Mapping[str, datetime]) -> list[_Move]:
        for chip in found:
            if chip.status not in PAUSABLE:
                pausable = "only warming, ready, active or degraded chips are paused"
                raise OperatorError(f"{described(chip)} is {chip.status}; {pausable}")
        return [
            _Move(
                chip,
                {
                    "status": ChipStatus.PAUSED,
                    "status_since": times[chip.pool],
                    "status_reason": f"paused by {author.strip()} (was {chip.status})"
                    + (f": {said}" if said else ""),
                },
            )
            for chip in found
        ]

    return _move_chips(world, names, action=PAUSE, author=author, reason=reason, move=move)


def resume_chips(world: World, names: Sequence[str], *, author: str, reason: str = "") -> list[Change]:
    """Give paused chips the status back that they had.

    A chip that was paused before this system knew it becomes ``ready`` in ``operacao``, else
    ``warming``. A degraded one is degraded again: a pause is no way round its 24 hours.

    Raises:
        OperatorError: a name means no chip or several, or a chip is not paused.
    """

    def move(tx: Transaction, found: Sequence[Chip], times: Mapping[str, datetime]) -> list[_Move]:
        for chip in found:
            if chip.status is not ChipStatus.PAUSED:
                raise OperatorError(f"{described(chip)} is {chip.status}; only paused chips are resumed")
        before = standing.statuses_before(tx, PAUSE, [chip.id for chip in found])
        moves = []
        for chip in found:
            status = before.get(chip.id, returns_to(chip.phase))
            why = "degraded before it was paused" if status is ChipStatus.DEGRADED else None
            moves.append(
                _Move(chip, {"status": status, "status_since": times[chip.pool], "status_reason": why})
            )
        return moves

    return _move_chips(world, names, action=RESUME, author=author, reason=reason, move=move)


def _is_one_line(text: str) -> bool:
    """Whether text can be shown in a table as it is."""
    return not any(_would_break(character) for character in text)


def _would_break(character: str) -> bool:
    """Whether a character ends a line, controls a terminal, turns a text's direction, or is half of one."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(
        character
    ) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


def add_chip(
    world: World,
    *,
    phone: str,
    instance: str,
    provider: str = Provider.EVOLUTION,
    label: str = "",
    role: str = DEFAULT_ROLE,
    pool: str = DEFAULT_POOL,
    author: str,
    reason: str = "",
) -> Change:
    """Add a chip as ``provisioned``; it takes part once it is started. The pool is made if need be.

    Args:
        world: what to work with.
        phone: its number, in any usual way of writing it.
        instance: Evolution's instance name, or Z-API's instance id.
        provider: ``evolution`` or ``z-api``.
        label: what people call it.
        role: ``listener`` for a chip that never takes part.
        pool: the pool it belongs to.
        author: who adds it.
        reason: why.

    Raises:
        OperatorError: a value cannot be used, or phone or instance are another chip's.
    """
    author, reason = checked_words(author, world.redactor.text(reason))
    try:
        number = phones.normalise(phone)
    except ValueError as error:
        raise OperatorError(f"the phone cannot be used: {error}") from None
    if provider not in tuple(Provider):
        raise OperatorError(f"provider {provider!r} is not one of {', '.join(Provider)}")
    instance, label, role, pool = instance.strip(), label.strip(), role.strip().lower(), pool.strip()
    for name, value, longest in (("instance", instance, _NAME), ("role", role, _WORD), ("pool", pool, 64)):
        if not value or len(value) > longest:
            raise OperatorError(f"{name} must be 1 to {longest} characters")
        if not _is_one_line(value):
            raise OperatorError(f"{name} must be one line, without control characters")
    if len(label) > _NAME:
        raise OperatorError(f"label must be at most {_NAME} characters")
    if not _is_one_line(label):
        raise OperatorError("label must be one line, without control characters")
    chip_id = str(uuid.uuid4())
    with world.store.write() as tx:
        pools.ensure(tx, pool, at=world.now())
        tx.lock_pool(pool)
        clock = pools.get(tx, pool)
        if clock.clock is ClockKind.STEPPED and not world.is_simulated:
            raise OperatorError(f"pool {pool!r} {STEPPED_NEVER_LIVE}")
        at = clock.now(world.now())
        for there in imports.known_chips(tx):
            if phones.same_line(there.phone, number):
                raise OperatorError(
                    f"{mask_phone(number)} is the phone of chip {there.id} of pool {there.pool!r}"
                )
            if (there.provider, there.instance) == (provider, instance):
                raise OperatorError(f"{instance!r} is the instance of chip {there.id} of pool {there.pool!r}")
        chips.insert(
            tx,
            [
                {
                    "id": chip_id,
                    "pool": pool,
                    "phone": number,
                    "last4": number[-4:],
                    "provider": provider,
                    "instance": instance,
                    "label": label,
                    "role": role,
                    "status": ChipStatus.PROVISIONED,
                    "status_since": at,
                    "phase": Phase.REPOUSO,
                    "created_at": at,
                }
            ],
            [],
        )
        derive_standing(tx, world, pool, at)
        operators.record_action(
            tx,
            at=at,
            recorded_at=world.now(),
            author=author,
            action=ADD,
            target=chip_id,
            reason=reason,
            details={
                "chip": mask_phone(number),
                "pool": pool,
                "provider": provider,
                "to": ChipStatus.PROVISIONED,
            },
        )
    return Change(chip_id, number[-4:], None, ChipStatus.PROVISIONED.value)


def reset_circuit(world: World, names: Sequence[str], *, author: str, reason: str = "") -> list[Change]:
    """Close the breakers of chips. The brake that an opening breaker brought stays on.

    Raises:
        OperatorError: a name means no chip or several.
    """
    author, reason = checked_words(author, world.redactor.text(reason))
    with world.store.write() as tx:
        found = resolve(tx, names)
        times = _times(tx, world, found)
        states = {
            chip_id: circuit
            for pool in sorted(times)
            for chip_id, circuit in chips.breakers(tx, pool).items()
        }
        changes = [
            Change(chip.id, chip.last4, states.get(chip.id, CLOSED).state.value, CLOSED.state.value)
            for chip in found
        ]
        chips.set_breakers(tx, {chip.id: CLOSED for chip in found})
        for chip, change in zip(found, changes, strict=True):
            operators.record_action(
                tx,
                at=times[chip.pool],
                recorded_at=world.now(),
                author=author,
                action=RESET_CIRCUIT,
                target=chip.id,
                reason=reason,
                details={"chip": f"…{chip.last4}", "from": change.before, "to": change.after},
            )
    return changes


@dataclass(frozen=True, slots=True)
class SwitchChange:
    """What became of a kill switch.

    Attributes:
        scope: ``all``, ``pool`` or ``chip``.
        target: ``*``, the pool's name, or the chip's id.
        on: whether sending is switched off by it now.
        lifted: how many switches were lifted.
    """

    scope: str
    target: str
    on: bool
    lifted: int = 0


def set_kill_switch(
    world: World,
    *,
    scope: str,
    target: str | None = None,
    reason: str,
    author: str,
    expires_at: datetime | None = None,
    lift: bool = False,
) -> SwitchChange:
    """Switch sending off for everything, a pool or a chip, or (``lift``) on again.

    Args:
        world: what to work with.
        scope: ``all``, ``pool`` or ``chip``.
        target: the pool's name, or the chip (as :func:`resolve` takes it); not needed for ``all``.
        reason: why; needed, whoever finds the pool silent reads it.
        author: who.
        expires_at: when it ends by itself; ``None`` for never.
        lift: lift every switch that is on for exactly this scope and target.

    Raises:
        OperatorError: a value cannot be used, or there is nothing to lift.
    """
    author, reason = checked_words(author, world.redactor.text(reason))
    if scope not in SCOPES:
        raise OperatorError(f"scope {scope!r} is not one of {', '.join(SCOPES)}")
    if not reason:
        raise OperatorError("say a reason: whoever finds the pool silent will look for it")
    if expires_at is not None and expires_at.tzinfo is None:
        raise OperatorError("the expiry has no time zone; add its offset, as in 2026-02-20T18:00:00-03:00")
    with world.store.write() as tx:
        key, at = _switch_target(tx, world, scope, target)
        if lift:
            lifted = operators.lift_kill_switch(tx, scope, key, at=at, author=author)
            if not lifted:
                raise OperatorError(
                    f"no kill switch is on for {'everything' if scope == 'all' else f'{scope} {target}'}"
                )
        else:
            if expires_at is not None and expires_at <= at:
                raise OperatorError(f"the expiry {expires_at.isoformat()} is not after now, {at.isoformat()}")
            lifted = 0
            operators.set_kill_switch(
                tx,
                {
                    "id": str(uuid.uuid4()),
                    "scope": scope,
                    "target": key,
                    "reason": reason,
                    "author": author,
                    "set_at": at,
                    "expires_at": expires_at,
                },
            )
        operators.record_action(
            tx,
            at=at,
            recorded_at=world.now(),
            author=author,
            action=LIFT_KILL_SWITCH if lift else SET_KILL_SWITCH,
            target=key,
            reason=reason,
            details={"scope": scope, "expires_at": None if expires_at is None else expires_at.isoformat()},
        )
    return SwitchChange(scope, key, on=not lift, lifted=lifted)


def note_purge(world: World, *, keep_days: int, removed: int, author: str) -> None:
    """Keep that old runs were removed: nothing of the pools is concerned.

    Raises:
        OperatorError: the author cannot be used.
    """
    author, _ = checked_words(author, "")
    now = world.now()
    with world.store.write() as tx:
        operators.record_action(
            tx,
            at=now,
            recorded_at=now,
            author=author,
            action=PURGE,
            target=EVERYTHING,
            reason="",
            details={"keep_days": keep_days, "removed": removed},
        )


def _switch_target(tx: Transaction, world: World, scope: str, target: str | None) -> tuple[str, datetime]:
    """Return a switch's target as it is stored, and the time of the clock concerned."""
    real = world.now()
    if scope == "all":
        # Pools may live in different times; where they do, everything is switched off at the real one.
        clocks = Counter(pool.now(real) for pool in pools.every(tx))
        return EVERYTHING, next(iter(clocks)) if len(clocks) == 1 else real
    if not target:
        raise OperatorError(f"name the {scope} that is to be switched")
    if scope == "pool":
        try:
            return target, pools.get(tx, target).now(real)
        except PoolNotFound as error:
            raise OperatorError(str(error)) from None
    chip = resolve(tx, [target])[0]
    return chip.id, pools.get(tx, chip.pool).now(real)
