"""Putting an import's records into the database, within one transaction.

Holds: what becomes of each record (:class:`Writer`), and the reason codes of what is not kept. Do
not add: the reading of files (``reading``), SQL (``store.imports``).

Source: domain.md, "Importing the old system's tables".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from warmup_pipeline.domain import phones
from warmup_pipeline.domain.localtime import local_day
from warmup_pipeline.domain.privacy import mask_phone
from warmup_pipeline.domain.values import (
    PARTICIPATING_STATUSES,
    UNAGED_STATUSES,
    ActivityState,
    ConnectionState,
    RowSource,
    TrustLevel,
)
from warmup_pipeline.store import activities, imports, operators, pools
from warmup_pipeline.store import chips as chip_store
from warmup_pipeline.store import derived as derived_store
from warmup_pipeline.store.chips import Chip
from warmup_pipeline.store.engine import Transaction
from warmup_pipeline.store.imports import KnownChip
from warmup_pipeline.warmup.csvfiles import Problems, moved
from warmup_pipeline.warmup.derive.standing import derive_standing
from warmup_pipeline.warmup.importing.records import (
    ActivityRecord,
    ChipRecord,
    Files,
    InteractionRecord,
    instance_column,
)
from warmup_pipeline.warmup.importing.report import ImportRefused, ImportReport
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


class Writer:
    """Puts typed records into the database, within one transaction."""

    def __init__(
        self,
        tx: Transaction,
        world: World,
        files: Files,
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
        """Write everything that is new, and return what that was; nothing is committed here.

        Raises:
            ImportRefused: the files contradict what is there already.
        """
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

    def _new_chips(self, known: Sequence[KnownChip]) -> list[ChipRecord]:
        """Return the chips that are not there yet; what contradicts what is there becomes a problem."""
        by_id = {chip.id: chip for chip in known}
        by_line = {phones.line_of(chip.phone): chip for chip in known}
        by_channel = {(chip.provider, chip.instance): chip for chip in known}
        new: list[ChipRecord] = []
        for chip in self._files.chips:
            there = by_id.get(chip.id)
            if there is not None:
                self._refuse_contradiction(chip, there)
                continue
            new.append(chip)
            line = phones.line_of(chip.phone)
            if line in by_line:
                other = by_line[line]
                chip.row.problem(
                    "telefone",
                    f"{mask_phone(chip.phone)} is the phone of chip {other.id} of pool {other.pool!r}",
                )
            elif (chip.provider, chip.instance) in by_channel:
                other = by_channel[chip.provider, chip.instance]
                chip.row.problem(
                    instance_column(chip.provider),
                    f"{chip.instance!r} is the instance of chip {other.id} of pool {other.pool!r}",
                )
        return new

    def _refuse_contradiction(self, chip: ChipRecord, there: KnownChip) -> None:
        if there.pool != self._pool:
            chip.row.problem("id", f"is in pool {there.pool!r} already; import it there")
        elif there.phone != chip.phone:
            chip.row.problem(
                "telefone",
                f"is {mask_phone(chip.phone)}, but the chip is here with {mask_phone(there.phone)} already",
            )
        elif (there.provider, there.instance) != (chip.provider, chip.instance):
            chip.row.problem(
                instance_column(chip.provider),
                f"is {chip.instance!r} at {chip.provider}, but the chip is here already as "
                f"{there.instance!r} at {there.provider}",
            )

    def _refuse_moved(
        self, found: Sequence[ActivityRecord] | Sequence[InteractionRecord], known: Mapping[str, str]
    ) -> None:
        for item in found:
            if known.get(item.id, item.chip_id) != item.chip_id:
                item.row.problem("id", f"is here already, for chip {known[item.id]}")

    def _chip_row(self, chip: ChipRecord) -> dict[str, Any]:
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

    def _balance_row(self, chip: ChipRecord) -> dict[str, Any]:
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

    def _connection_row(self, chip: ChipRecord) -> dict[str, Any]:
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

    def _activity_rows(self, found: Sequence[ActivityRecord]) -> list[dict[str, Any]]:
        planned_already = imports.chips_planned_for(self._tx, self._pool, self._day)
        return [self._activity_row(a, self._chips[a.chip_id], planned_already) for a in found]

    def _activity_row(
        self, activity: ActivityRecord, chip: Chip, planned_already: Collection[str]
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
        self, activity: ActivityRecord, chip: Chip, day: date, planned_already: Collection[str]
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

    def _interaction_row(self, interaction: InteractionRecord) -> dict[str, Any]:
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
        self,
        chips: Sequence[ChipRecord],
        found: Sequence[ActivityRecord],
        interactions: Sequence[InteractionRecord],
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
