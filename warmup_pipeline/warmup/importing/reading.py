"""Reading the old system's files into records: which columns there are, and what each cell may say.

Holds: the columns and words of the old system, and :class:`Reader`. Add here: a column of the old
system. Do not add: the reading of CSV (``csvfiles``), what becomes of a record (``writing``).

Source: domain.md, "Importing the old system's tables". Every bad cell is named with its file, line,
column and reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from warmup_pipeline.domain import phones
from warmup_pipeline.domain.privacy import Redactor, mask_phone
from warmup_pipeline.domain.values import (
    DEFAULT_ROLE,
    UNAGED_STATUSES,
    ActivityState,
    ChipStatus,
    Phase,
    Provider,
)
from warmup_pipeline.warmup.csvfiles import Problems, Row, Table, read_table
from warmup_pipeline.warmup.importing.records import (
    ActivityRecord,
    ChipRecord,
    Files,
    InteractionRecord,
    instance_column,
)

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

_COUNTS: Final = (
    "msgs_enviadas_total",
    "msgs_recebidas_total",
    "msgs_enviadas_hoje",
    "msgs_recebidas_hoje",
    "conversas_bidirecionais",
)


class Reader:
    """Reads the three files into typed records, collecting problems."""

    def __init__(self, problems: Problems, known_types: Collection[str]) -> None:
        self._problems = problems
        self._types = sorted(known_types)
        self.files = Files()

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
            line = phones.line_of(chip.phone)
            if line in phone_at:
                chip.row.problem(
                    "telefone", f"{mask_phone(chip.phone)} is the phone of line {phone_at[line]}, too"
                )
            phone_at.setdefault(line, chip.row.line)
            channel = (chip.provider, chip.instance)
            if channel in channel_at:
                chip.row.problem(
                    instance_column(chip.provider),
                    f"{chip.instance!r} is the instance of line {channel_at[channel]}, too",
                )
            channel_at.setdefault(channel, chip.row.line)

    def _chip(self, row: Row) -> ChipRecord | None:
        before = len(self._problems.lines)
        status = row.word("status", ChipStatus)
        provider = row.word("provider", Provider, Provider.EVOLUTION)
        # A chip that has not begun is at the beginning; any other must say where it is.
        phase = row.word("fase_warmup", Phase, Phase.REPOUSO if status in UNAGED_STATUSES else None)
        phone = row.checked("telefone", phones.normalise)
        chip_id = row.required("id", longest=_ID)
        if chip_id and Redactor().text(chip_id) != chip_id:
            row.problem(
                "id", "is a phone number: it would stand in every table and log; give the chip another id"
            )
        label = row.text("instance_name", longest=_NAME)
        instance = row.required(instance_column(provider), longest=_NAME) if provider else None
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
        return ChipRecord(
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

    def _activity(self, row: Row) -> ActivityRecord | None:
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
        return ActivityRecord(
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

    def _interaction(self, row: Row) -> InteractionRecord | None:
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
        return InteractionRecord(row, interaction_id, chip_id, type_, succeeded, error_code, error_text, at)
