"""Importing the old system's tables: chips, schedule and interactions as CSV files, all or nothing.

Holds: :func:`import_pool`, what it reports and how it refuses. Add here: a column of the old system
and what it means to us. Do not add: the reading of CSV (``csvfiles``), SQL (``store.imports``).

Source: domain.md, "Importing the old system's tables". Every bad cell is named with its file, line,
column and reason before anything is written; everything is written in one transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from warmup_pipeline.domain import phones
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.privacy import mask_phone
from warmup_pipeline.domain.values import (
    DEFAULT_POOL,
    DEFAULT_ROLE,
    PARTICIPATING_STATUSES,
    UNAGED_STATUSES,
    ActivityState,
    ChipStatus,
    ConnectionState,
    Phase,
    Provider,
    RowSource,
    TrustLevel,
)
from warmup_pipeline.store import activities, imports, operators, pools
from warmup_pipeline.store import chips as chip_store
from warmup_pipeline.store import derived as derived_store
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.imports import KnownChip
from warmup_pipeline.warmup.csvfiles import Problems, Row, Table, moved, read_table
from warmup_pipeline.warmup.derive import derive_standing
from warmup_pipeline.warmup.lifecycle import INTERVAL, slot_of
from warmup_pipeline.warmup.world import World

IMPORTED: Final = "imported"
"""Reason code of what the old system had already ended, and of a cooldown it had set."""

NOT_IMPLEMENTED: Final = "not_implemented"
DAY_OVER: Final = "day_over"
REPLANNED: Final = "replanned"
NOT_PARTICIPATING: Final = "chip_not_participating"
"""Reason codes of activities that were still planned and are not kept."""

ACTION: Final = "import_pool"
"""How an import stands in ``operator_actions``."""

_STATES: Final[Mapping[str, ActivityState]] = {
    "planejada": ActivityState.PLANNED,
    "executada": ActivityState.EXECUTED,
    "falhou": ActivityState.FAILED,
    "cancelada": ActivityState.CANCELLED,
}
"""The old system's words for states."""

INTERACTION_TYPES: Final = ("msg_enviada", "status_criado")

_CHIP_NEEDS: Final = ("id", "telefone", "status", "fase_warmup")
_SCHEDULE_NEEDS: Final = ("id", "chip_id", "tipo", "scheduled_for", "status")
_INTERACTION_NEEDS: Final = ("id", "chip_id", "tipo", "sucesso", "created_at")

_CHIP_TAKEN: Final = frozenset(
    {
        *_CHIP_NEEDS,
        *("instance_name", "provider", "zapi_instance_id", "evolution_connected", "tipo", "fase_iniciada_em"),
        *("warming_started_at", "msgs_enviadas_total", "msgs_recebidas_total", "msgs_enviadas_hoje"),
        *("msgs_recebidas_hoje", "conversas_bidirecionais", "ultimo_erro_em", "ultimo_erro_codigo"),
        *("ultimo_erro_msg", "cooldown_until", "created_at"),
    }
)
_CHIP_DERIVED: Final = frozenset(
    {
        *("warming_day", "trust_score", "trust_level", "taxa_resposta", "taxa_delivery", "taxa_block"),
        *("grupos_count", "erros_ultimas_24h", "dias_sem_erro"),
    }
)
_SCHEDULE_KNOWN: Final = frozenset({*_SCHEDULE_NEEDS, "prioridade", "executed_at", "resultado", "created_at"})
_INTERACTION_KNOWN: Final = frozenset(
    {*_INTERACTION_NEEDS, "destinatario", "erro_codigo", "erro_mensagem", "metadata"}
)

_ID: Final = 36
_WORD: Final = 32
_NAME: Final = 128
_CODE: Final = 64
_TEXT: Final = 4000
"""Longest texts that are kept, in characters."""


class ImportRefused(ValueError):
    """Nothing was imported.

    Attributes:
        problems: what is wrong, one line each; no full phone number in them.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("nothing was imported: " + "; ".join(self.problems))


@dataclass(frozen=True)
class ImportReport:
    """What an import did (or, on a dry run, would do).

    Attributes:
        pool: the pool imported into.
        at: the moment of the import on the pool's clock.
        day: its local day: what was planned for it is kept.
        dry_run: whether everything was rolled back.
        export_moment: when the files were exported, as far as they tell; ``None`` without any time.
        shifted_s: seconds by which all times were shifted, 0 without ``rebase_to``.
        chips_new: chips inserted.
        chips_unchanged: chips that were there already, with the same phone and instance.
        chips_by_status: new chips by status.
        activities_new: activities inserted.
        activities_unchanged: activities that were there already.
        activities_by_outcome: new activities by what became of them: ``kept``, else their final
            state, with the reason where it was not the old system that ended them.
        stubs_cancelled: of those, the planned ones cancelled because nothing can execute their type.
        interactions_new: interactions inserted.
        interactions_unchanged: interactions that were there already.
        warnings: what an operator should know, one line each.
    """

    pool: str
    at: datetime
    day: date
    dry_run: bool
    export_moment: datetime | None
    shifted_s: float
    chips_new: int
    chips_unchanged: int
    chips_by_status: Mapping[str, int]
    activities_new: int
    activities_unchanged: int
    activities_by_outcome: Mapping[str, int]
    stubs_cancelled: int
    interactions_new: int
    interactions_unchanged: int
    warnings: tuple[str, ...]

    @property
    def changes_anything(self) -> bool:
        """Whether there was anything new in the files."""
        return bool(self.chips_new or self.activities_new or self.interactions_new)

    def document(self) -> dict[str, Any]:
        """Return the report as JSON-ready data; times in ISO 8601."""
        found = asdict(self)
        found["at"] = self.at.isoformat()
        found["day"] = self.day.isoformat()
        found["export_moment"] = None if self.export_moment is None else self.export_moment.isoformat()
        found["warnings"] = list(self.warnings)
        return found


@dataclass(frozen=True, slots=True)
class _Chip:
    row: Row
    id: str
    phone: str
    provider: Provider
    instance: str
    label: str
    role: str
    status: ChipStatus
    phase: Phase
    phase_started_at: datetime | None
    warming_started_at: datetime | None
    cooldown_until: datetime | None
    last_error_at: datetime | None
    last_error_code: str
    last_error_text: str
    created_at: datetime | None
    sent: int
    received: int
    bidirectional: int
    sent_today: int
    received_today: int
    connected: bool | None


@dataclass(frozen=True, slots=True)
class _Activity:
    row: Row
    id: str
    chip_id: str
    type: str
    due_at: datetime
    state: ActivityState
    executed_at: datetime | None
    created_at: datetime | None
    result: str


@dataclass(frozen=True, slots=True)
class _Interaction:
    row: Row
    id: str
    chip_id: str
    type: str
    succeeded: bool
    error_code: str
    error_text: str
    at: datetime


@dataclass
class _Files:
    """What the files hold, typed."""

    chips: list[_Chip] = field(default_factory=list)
    activities: list[_Activity] = field(default_factory=list)
    interactions: list[_Interaction] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    ids_complete: bool = True
    """Every chip id of the chips file could be read, so that one not among them is unknown."""
    ids: set[str] = field(default_factory=set)

    def export_moment(self) -> datetime | None:
        """Return when the files were exported, as far as they tell.

        The newest moment at which the old system did or noted anything (not what it still planned,
        nor how long a chip rests), rounded up to the next five-minute slot.
        """
        times = [
            *(
                t
                for c in self.chips
                for t in (c.created_at, c.phase_started_at, c.warming_started_at, c.last_error_at)
            ),
            *(t for a in self.activities for t in (a.executed_at, a.created_at)),
            *(i.at for i in self.interactions),
        ]
        newest = max((t for t in times if t is not None), default=None)
        if newest is None:
            return None
        return newest if slot_of(newest) == newest else slot_of(newest) + INTERVAL


class _Reader:
    """Reads the three files into typed records, collecting problems."""

    def __init__(self, problems: Problems, known_types: Collection[str]) -> None:
        self._problems = problems
        self._types = sorted(known_types)
        self.files = _Files()

    def read(self, chips: Path, schedule: Path | None, interactions: Path | None) -> None:
        """Read all files."""
        table = read_table(chips, needed=_CHIP_NEEDS, problems=self._problems)
        if table is None:
            self.files.ids_complete = False
        else:
            self._note_unknown(table, _CHIP_TAKEN | _CHIP_DERIVED)
            if table.whole and not table.rows:
                self._problems.file(table.name, "names its columns but has no chip")
            complete = table.whole and bool(table.rows) and all(row.text("id") for row in table.rows)
            self.files.ids_complete = complete
            self.files.ids = {row.text("id") for row in table.rows}
            self.files.chips = [chip for row in table.rows if (chip := self._chip(row)) is not None]
            self._refuse_twins(table)
        if schedule is not None:
            table = read_table(schedule, needed=_SCHEDULE_NEEDS, problems=self._problems)
            if table is not None:
                self._note_unknown(table, _SCHEDULE_KNOWN)
                self.files.activities = [a for row in table.rows if (a := self._activity(row)) is not None]
                self._refuse_same_ids(table)
        if interactions is not None:
            table = read_table(interactions, needed=_INTERACTION_NEEDS, problems=self._problems)
            if table is not None:
                self._note_unknown(table, _INTERACTION_KNOWN)
                self.files.interactions = [
                    i for row in table.rows if (i := self._interaction(row)) is not None
                ]
                self._refuse_same_ids(table)

    def _note_unknown(self, table: Table, known: Collection[str]) -> None:
        ignored = [column for column in table.columns if column not in known]
        if ignored:
            self.files.warnings.append(
                f"{table.name}: not known and not taken over: {', '.join(map(repr, ignored))}"
            )

    def _refuse_same_ids(self, table: Table) -> None:
        first: dict[str, int] = {}
        for row in table.rows:
            key = row.text("id")
            if key and key in first:
                row.problem("id", f"is the same as on line {first[key]}")
            first.setdefault(key, row.line)

    def _refuse_twins(self, table: Table) -> None:
        self._refuse_same_ids(table)
        phone_at: dict[str, int] = {}
        channel_at: dict[tuple[str, str], int] = {}
        for chip in self.files.chips:
            if chip.phone in phone_at:
                chip.row.problem(
                    "telefone", f"{mask_phone(chip.phone)} is the phone of line {phone_at[chip.phone]}, too"
                )
            phone_at.setdefault(chip.phone, chip.row.line)
            channel = (chip.provider, chip.instance)
            if channel in channel_at:
                chip.row.problem(
                    _instance_column(chip.provider),
                    f"{chip.instance!r} is the instance of line {channel_at[channel]}, too",
                )
            channel_at.setdefault(channel, chip.row.line)

    def _chip(self, row: Row) -> _Chip | None:
        before = len(self._problems.lines)
        status = row.word("status", ChipStatus)
        provider = row.word("provider", Provider, Provider.EVOLUTION)
        # A chip that has not begun is at the beginning; any other must say where it is.
        phase = row.word("fase_warmup", Phase, Phase.REPOUSO if status in UNAGED_STATUSES else None)
        phone = row.checked("telefone", phones.normalise)
        chip_id = row.required("id", longest=_ID)
        label = row.text("instance_name", longest=_NAME)
        instance = row.required(_instance_column(provider), longest=_NAME) if provider else None
        counts = {name: row.count(name) for name in _COUNTS}
        chip = {
            "phase_started_at": row.time("fase_iniciada_em"),
            "warming_started_at": row.time("warming_started_at"),
            "cooldown_until": row.time("cooldown_until"),
            "last_error_at": row.time("ultimo_erro_em"),
            "last_error_code": row.text("ultimo_erro_codigo", longest=_CODE),
            "last_error_text": row.text("ultimo_erro_msg")[:_TEXT],
            "created_at": row.time("created_at"),
            "connected": row.yes_no("evolution_connected"),
            "role": row.text("tipo", longest=_WORD).lower() or DEFAULT_ROLE,
        }
        if len(self._problems.lines) > before:
            return None
        if (
            status is None
            or provider is None
            or phase is None
            or phone is None
            or chip_id is None
            or instance is None
        ):
            return None
        return _Chip(
            row=row,
            id=chip_id,
            phone=phone,
            provider=provider,
            instance=instance,
            label=label,
            status=status,
            phase=phase,
            sent=self._total(row, "msgs_enviadas_total", "msgs_enviadas_hoje", counts),
            received=self._total(row, "msgs_recebidas_total", "msgs_recebidas_hoje", counts),
            bidirectional=counts["conversas_bidirecionais"] or 0,
            sent_today=counts["msgs_enviadas_hoje"] or 0,
            received_today=counts["msgs_recebidas_hoje"] or 0,
            **chip,  # type: ignore[arg-type]  # cells by field name; each reader returns its field's type
        )

    def _total(self, row: Row, total: str, today: str, counts: Mapping[str, int | None]) -> int:
        """Return a total that is never less than the day's part of it."""
        whole, part = counts[total], counts[today] or 0
        if whole is not None and whole < part:
            said = f"{today} {part} is more than {total} {whole}"
            self.files.warnings.append(f"{row.file} line {row.line}: {said}; taken as the total, too")
        return max(whole or 0, part)

    def _refuse_unknown_chip(self, row: Row, chip_id: str | None) -> None:
        if chip_id is not None and self.files.ids_complete and chip_id not in self.files.ids:
            row.problem("chip_id", f"{chip_id!r} is no chip of the chips file")

    def _activity(self, row: Row) -> _Activity | None:
        before = len(self._problems.lines)
        activity_id = row.required("id", longest=_ID)
        chip_id = row.required("chip_id", longest=_ID)
        self._refuse_unknown_chip(row, chip_id)
        type_ = row.one_of("tipo", self._types)
        due_at = row.required_time("scheduled_for")
        state = row.one_of("status", tuple(_STATES))
        executed_at, created_at = row.time("executed_at"), row.time("created_at")
        row.json("resultado")
        if len(self._problems.lines) > before:
            return None
        if activity_id is None or chip_id is None or type_ is None or due_at is None or state is None:
            return None
        return _Activity(
            row,
            activity_id,
            chip_id,
            type_,
            due_at,
            _STATES[state],
            executed_at,
            created_at,
            row.text("resultado")[:_TEXT],
        )

    def _interaction(self, row: Row) -> _Interaction | None:
        before = len(self._problems.lines)
        interaction_id = row.required("id", longest=_ID)
        chip_id = row.required("chip_id", longest=_ID)
        self._refuse_unknown_chip(row, chip_id)
        type_ = row.one_of("tipo", INTERACTION_TYPES)
        row.required("sucesso", longest=_WORD)
        succeeded = row.yes_no("sucesso")
        error_code = row.text("erro_codigo", longest=_CODE)
        row.json("metadata")
        at = row.required_time("created_at")
        if len(self._problems.lines) > before:
            return None
        if interaction_id is None or chip_id is None or type_ is None or succeeded is None or at is None:
            return None
        error_text = row.text("erro_mensagem")[:_TEXT]
        return _Interaction(row, interaction_id, chip_id, type_, succeeded, error_code, error_text, at)


_COUNTS: Final = (
    "msgs_enviadas_total",
    "msgs_recebidas_total",
    "msgs_enviadas_hoje",
    "msgs_recebidas_hoje",
    "conversas_bidirecionais",
)


def _instance_column(provider: Provider) -> str:
    return "zapi_instance_id" if provider is Provider.Z_API else "instance_name"


class _DryRun(Exception):
    """Everything was done; nothing is to be kept."""


def _keep_unless(report: ImportReport) -> None:
    """Roll the transaction back that this is called in, if the import is a dry run."""
    if report.dry_run:
        raise _DryRun


def import_pool(
    world: World,
    chips: Path,
    schedule: Path | None = None,
    interactions: Path | None = None,
    *,
    pool: str = DEFAULT_POOL,
    rebase_to: datetime | None = None,
    dry_run: bool = False,
    stepped_from: datetime | None = None,
    author: str = "operator",
) -> ImportReport:
    """Import the old system's tables into a pool; everything or nothing. Twice is the same as once.

    The import's moment is the pool's clock. What is still planned for its local day is kept and is
    that chip's plan for the day; a participating chip with nothing kept is planned by the next cycle.

    Args:
        world: what to work with.
        chips: ``chips.csv``.
        schedule: ``warmup_schedule.csv``, where there is one.
        interactions: ``chip_interactions.csv``, where there is one.
        pool: the pool to import into; made if it is not there.
        rebase_to: shift all times of the files by the same length, such that the moment of the
            export (the newest thing the old system noted, rounded up to five minutes) becomes this.
        dry_run: check and do everything, and keep nothing.
        stepped_from: make the pool's clock a stepped one that stands here (a demo); else the pool's
            clock is left as it is.
        author: who imports, for ``operator_actions``.

    Raises:
        ImportRefused: something is wrong with the files, or does not fit what is there.
    """
    problems = Problems(world.redactor)
    reader = _Reader(problems, world.activities.types())
    reader.read(chips, schedule, interactions)
    if problems:
        raise ImportRefused(problems.lines)
    try:
        with world.store.write() as tx:
            writer = _Writer(tx, world, reader.files, problems, pool=pool, rebase_to=rebase_to)
            report = writer.write(stepped_from=stepped_from, author=author, dry_run=dry_run)
            _keep_unless(report)
    except _DryRun:
        return report
    return report


class _Writer:
    """Puts typed records into the database, within one transaction."""

    def __init__(
        self,
        tx: Transaction,
        world: World,
        files: _Files,
        problems: Problems,
        *,
        pool: str,
        rebase_to: datetime | None,
    ) -> None:
        self._tx = tx
        self._world = world
        self._files = files
        self._problems = problems
        self._pool = pool
        self._export_moment = files.export_moment()
        self._shift = timedelta(0)
        if rebase_to is not None and self._export_moment is not None:
            self._shift = rebase_to.astimezone(UTC) - self._export_moment
        self._outcomes: Counter[str] = Counter()
        self._stubs = 0

    def write(self, *, stepped_from: datetime | None, author: str, dry_run: bool) -> ImportReport:
        tx, world = self._tx, self._world
        real = world.now()
        pools.ensure(tx, self._pool, at=real)
        if stepped_from is not None:
            pools.step_from(tx, self._pool, stepped_from, at=real)
        tx.lock_pool(self._pool)
        activities.know_types(tx, world.activities.types())
        self._at = pools.get(tx, self._pool).now(real)
        self._day = local_day(self._at, world.policy.zone)

        new_chips = self._new_chips(imports.known_chips(tx))
        old_activities = imports.known_activities(tx, [a.id for a in self._files.activities])
        old_interactions = imports.known_interactions(tx, [i.id for i in self._files.interactions])
        self._refuse_moved(self._files.activities, old_activities)
        self._refuse_moved(self._files.interactions, old_interactions)
        if self._problems:
            raise ImportRefused(self._problems.lines)

        new_activities = [a for a in self._files.activities if a.id not in old_activities]
        new_interactions = [i for i in self._files.interactions if i.id not in old_interactions]
        imports.insert_chips(
            tx,
            [self._chip_row(chip) for chip in new_chips],
            [self._balance_row(chip) for chip in new_chips],
            [self._connection_row(chip) for chip in new_chips],
        )
        if new_chips:
            derive_standing(tx, world, self._pool, self._at)
        # From here on the chips are what the database says: one that was there may have moved on.
        self._chips = {chip.id: chip for chip in chip_store.of_pool(tx, self._pool)}
        activity_rows = self._activity_rows(new_activities)
        imports.insert_history(
            tx,
            self._plan_rows(activity_rows),
            activity_rows,
            [self._interaction_row(i) for i in new_interactions],
        )
        report = ImportReport(
            pool=self._pool,
            at=self._at,
            day=self._day,
            dry_run=dry_run,
            export_moment=self._export_moment,
            shifted_s=self._shift.total_seconds(),
            chips_new=len(new_chips),
            chips_unchanged=len(self._files.chips) - len(new_chips),
            chips_by_status=dict(sorted(Counter(str(chip.status) for chip in new_chips).items())),
            activities_new=len(new_activities),
            activities_unchanged=len(self._files.activities) - len(new_activities),
            activities_by_outcome=dict(sorted(self._outcomes.items())),
            stubs_cancelled=self._stubs,
            interactions_new=len(new_interactions),
            interactions_unchanged=len(self._files.interactions) - len(new_interactions),
            warnings=(
                *self._files.warnings,
                *self._future_warning(new_chips, new_activities, new_interactions),
            ),
        )
        if report.changes_anything:
            operators.record_action(
                tx,
                at=self._at,
                recorded_at=real,
                author=author,
                action=ACTION,
                target=self._pool,
                reason="import of the old system's tables",
                details={
                    "chips": report.chips_new,
                    "activities": report.activities_new,
                    "interactions": report.interactions_new,
                    "shifted_s": report.shifted_s,
                },
            )
        return report

    def _new_chips(self, known: Sequence[KnownChip]) -> list[_Chip]:
        """Return the chips that are not there yet; what contradicts what is there becomes a problem."""
        by_id = {chip.id: chip for chip in known}
        by_phone = {chip.phone: chip for chip in known}
        by_channel = {(chip.provider, chip.instance): chip for chip in known}
        new: list[_Chip] = []
        for chip in self._files.chips:
            there = by_id.get(chip.id)
            if there is not None:
                self._refuse_contradiction(chip, there)
                continue
            new.append(chip)
            if chip.phone in by_phone:
                other = by_phone[chip.phone]
                chip.row.problem(
                    "telefone",
                    f"{mask_phone(chip.phone)} is the phone of chip {other.id} of pool {other.pool!r}",
                )
            elif (chip.provider, chip.instance) in by_channel:
                other = by_channel[chip.provider, chip.instance]
                chip.row.problem(
                    _instance_column(chip.provider),
                    f"{chip.instance!r} is the instance of chip {other.id} of pool {other.pool!r}",
                )
        return new

    def _refuse_contradiction(self, chip: _Chip, there: KnownChip) -> None:
        if there.pool != self._pool:
            chip.row.problem("id", f"is in pool {there.pool!r} already; import it there")
        elif there.phone != chip.phone:
            chip.row.problem(
                "telefone",
                f"is {mask_phone(chip.phone)}, but the chip is here with {mask_phone(there.phone)} already",
            )
        elif (there.provider, there.instance) != (chip.provider, chip.instance):
            chip.row.problem(
                _instance_column(chip.provider),
                f"is {chip.instance!r} at {chip.provider}, but the chip is here already as "
                f"{there.instance!r} at {there.provider}",
            )

    def _refuse_moved(
        self, found: Sequence[_Activity] | Sequence[_Interaction], known: Mapping[str, str]
    ) -> None:
        for item in found:
            if known.get(item.id, item.chip_id) != item.chip_id:
                item.row.problem("id", f"is here already, for chip {known[item.id]}")

    def _chip_row(self, chip: _Chip) -> dict[str, Any]:
        text = self._world.redactor.text(chip.last_error_text) or None
        ordinary = chip.status in PARTICIPATING_STATUSES | UNAGED_STATUSES
        cooldown_until = moved(chip.cooldown_until, self._shift)
        return {
            "id": chip.id,
            "pool": self._pool,
            "phone": chip.phone,
            "last4": chip.phone[-4:],
            "provider": chip.provider,
            "instance": chip.instance,
            "label": chip.label,
            "role": chip.role,
            "status": chip.status,
            "status_reason": None
            if ordinary
            else f"imported as {chip.status}" + (f": {text}" if text else ""),
            "status_since": self._at,
            "phase": chip.phase,
            "phase_started_at": moved(chip.phase_started_at, self._shift),
            "warming_started_at": moved(chip.warming_started_at, self._shift),
            "cooldown_until": cooldown_until,
            "cooldown_reason": None if cooldown_until is None else IMPORTED,
            "last_error_at": moved(chip.last_error_at, self._shift),
            "last_error_code": chip.last_error_code or None,
            "last_error_text": text,
            "created_at": moved(chip.created_at, self._shift) or self._at,
        }

    def _balance_row(self, chip: _Chip) -> dict[str, Any]:
        return {
            "chip_id": chip.id,
            "sent": chip.sent,
            "received": chip.received,
            "bidirectional": chip.bidirectional,
            "day": self._day,
            "sent_on_day": chip.sent_today,
            "received_on_day": chip.received_today,
            "last_error_at": moved(chip.last_error_at, self._shift),
        }

    def _connection_row(self, chip: _Chip) -> dict[str, Any]:
        """Return what the old system said. Never observed by us, so no send relies on it."""
        if chip.connected is None:
            state = ConnectionState.UNKNOWN
        else:
            state = ConnectionState.OPEN if chip.connected else ConnectionState.CLOSED
        return {
            "chip_id": chip.id,
            "pool": self._pool,
            "state": state,
            "since": self._at,
            "observed_at": None,
            "asked_at": self._at,
            "detail": "as imported; not yet asked",
        }

    def _activity_rows(self, found: Sequence[_Activity]) -> list[dict[str, Any]]:
        planned_already = imports.chips_planned_for(self._tx, self._pool, self._day)
        return [self._activity_row(a, self._chips[a.chip_id], planned_already) for a in found]

    def _activity_row(
        self, activity: _Activity, chip: Chip, planned_already: Collection[str]
    ) -> dict[str, Any]:
        due_at = activity.due_at + self._shift
        day = local_day(due_at, self._world.policy.zone)
        state, reason = activity.state, IMPORTED
        if state is ActivityState.PLANNED:
            state, kept_because = self._what_becomes(activity, chip, day, planned_already)
            self._outcomes["kept" if kept_because is None else f"{state}: {kept_because}"] += 1
            final_at: datetime | None = None if kept_because is None else self._at
        else:
            kept_because = reason
            final_at = moved(activity.executed_at, self._shift) or due_at
            self._outcomes[str(state)] += 1
        return {
            "id": activity.id,
            "pool": self._pool,
            "chip_id": activity.chip_id,
            "type": activity.type,
            "day": day,
            "planned_at": due_at,
            "due_at": due_at,
            "state": state,
            "reason": kept_because,
            "detail": self._world.redactor.text(activity.result) or None,
            "source": RowSource.IMPORT,
            "final_at": final_at,
        }

    def _what_becomes(
        self, activity: _Activity, chip: Chip, day: date, planned_already: Collection[str]
    ) -> tuple[ActivityState, str | None]:
        """Return the state of an activity that was still planned, and why it is not kept."""
        if activity.type not in self._world.activities.executable:
            self._stubs += 1
            return ActivityState.CANCELLED, NOT_IMPLEMENTED
        if day < self._day:
            return ActivityState.EXPIRED, DAY_OVER
        if day > self._day or chip.id in planned_already:
            return ActivityState.CANCELLED, REPLANNED
        if not chip.takes_part:
            return ActivityState.CANCELLED, NOT_PARTICIPATING
        return ActivityState.PLANNED, None

    def _plan_rows(self, activity_rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        kept = Counter(row["chip_id"] for row in activity_rows if row["state"] is ActivityState.PLANNED)
        if not kept:
            return []
        levels = derived_store.trust_levels(self._tx, self._pool)
        return [
            {
                "chip_id": chip.id,
                "day": self._day,
                "revision": 0,
                "phase": chip.phase,
                "trust_level": levels.get(chip.id, TrustLevel.CRITICO),
                "policy": self._world.policy_name,
                "source": RowSource.IMPORT,
                "planned": kept[chip.id],
                "planned_at": self._at,
            }
            for chip in self._chips.values()
            if chip.id in kept
        ]

    def _interaction_row(self, interaction: _Interaction) -> dict[str, Any]:
        at = interaction.at + self._shift
        return {
            "id": interaction.id,
            "chip_id": interaction.chip_id,
            "type": interaction.type,
            "succeeded": interaction.succeeded,
            "error_code": interaction.error_code or None,
            "error_text": self._world.redactor.text(interaction.error_text) or None,
            "at": at,
            "day": local_day(at, self._world.policy.zone),
        }

    def _future_warning(
        self, chips: Sequence[_Chip], found: Sequence[_Activity], interactions: Sequence[_Interaction]
    ) -> list[str]:
        """Say so where the files know of things that have not happened yet on the pool's clock."""
        times = [
            *(t for c in chips for t in (c.phase_started_at, c.warming_started_at, c.last_error_at)),
            *(a.executed_at for a in found),
            *(i.at for i in interactions),
        ]
        later = sum(t is not None and t + self._shift > self._at for t in times)
        if not later:
            return []
        shown = self._at.astimezone(self._world.policy.zone)
        where = f"{shown:%Y-%m-%d %H:%M}, which is now for pool {self._pool!r}"
        return [f"{later} events of the files lie after {where}; --rebase-to shifts them"]
