"""The simulator's memory: SQLite tables of instances, messages, faults and events.

Holds: the schema, the row types :class:`Instance` and :class:`Message`, and every SQL statement of
the simulator. Add here: a question about stored rows. Do not add: what rows mean or when they
change (``network``), HTTP.

This is the state of the simulated world, not the pool's store. Times are integers: milliseconds
since the Unix epoch, UTC. Every request is one transaction that is committed before its answer
leaves, so a killed process loses nothing that it accepted, and processes that share a file agree.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeVar, cast

Found = TypeVar("Found")

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS instances (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    provider TEXT NOT NULL, name TEXT NOT NULL, phone TEXT NOT NULL, account TEXT NOT NULL,
    token TEXT NOT NULL, uuid TEXT NOT NULL, lid TEXT NOT NULL, profile_name TEXT NOT NULL,
    state TEXT NOT NULL, db_state TEXT NOT NULL, owner_known INTEGER NOT NULL,
    client_started INTEGER NOT NULL, has_session INTEGER NOT NULL, needs_qr INTEGER NOT NULL,
    zombie INTEGER NOT NULL, zombie_until_restart INTEGER NOT NULL, loaded INTEGER NOT NULL,
    opens_at INTEGER, qr_since INTEGER, queue_free_at INTEGER NOT NULL, sent INTEGER NOT NULL,
    disconnected_at INTEGER, disconnection_code INTEGER, disconnection_object TEXT,
    number TEXT, integration TEXT NOT NULL, settings TEXT NOT NULL, webhook TEXT NOT NULL,
    declared TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
    deleted INTEGER NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS instance_by_name ON instances (provider, name) WHERE deleted = 0;
CREATE INDEX IF NOT EXISTS instance_by_account ON instances (account);
CREATE INDEX IF NOT EXISTS instance_by_token ON instances (token);
CREATE INDEX IF NOT EXISTS instance_opening ON instances (opens_at) WHERE opens_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    instance_id INTEGER NOT NULL, kind TEXT NOT NULL, wa_id TEXT NOT NULL, queue_id TEXT,
    sender_phone TEXT NOT NULL, recipient_phone TEXT NOT NULL, remote_jid TEXT NOT NULL,
    recipient_id INTEGER, body TEXT NOT NULL, media_mime TEXT, media_bytes INTEGER, extra TEXT,
    trace TEXT, logical INTEGER NOT NULL, at INTEGER NOT NULL, received_at INTEGER NOT NULL,
    rank INTEGER NOT NULL, queued INTEGER NOT NULL, lost INTEGER NOT NULL,
    next_at INTEGER, deliver_at INTEGER, server_ack_at INTEGER, delivered_at INTEGER,
    read_at INTEGER, failed_at INTEGER, failure TEXT
);
CREATE INDEX IF NOT EXISTS message_by_wa_id ON messages (wa_id);
CREATE INDEX IF NOT EXISTS message_of_sender ON messages (instance_id, at);
CREATE INDEX IF NOT EXISTS message_of_recipient ON messages (recipient_id, at);
CREATE INDEX IF NOT EXISTS message_due ON messages (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS message_queued ON messages (instance_id) WHERE queued = 1;
CREATE TABLE IF NOT EXISTS numbers_seen (account TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS known_phones (account TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS faults (id INTEGER PRIMARY KEY AUTOINCREMENT, rule TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS fault_counts (
    fault_id INTEGER NOT NULL, instance TEXT NOT NULL, matched INTEGER NOT NULL, hits INTEGER NOT NULL,
    PRIMARY KEY (fault_id, instance)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, instance_id INTEGER NOT NULL, event TEXT NOT NULL,
    message_id INTEGER, at INTEGER NOT NULL, detail TEXT
);
"""


@dataclass(slots=True)
class Instance:
    """A row of ``instances``, in the order of its columns.

    ``state`` is what the gateway's process believes, ``db_state`` what its database says (Evolution).
    ``declared`` is the JSON it was declared with, to which a reset returns.
    """

    id: int
    provider: str
    name: str
    phone: str
    account: str
    token: str
    uuid: str
    lid: str
    profile_name: str
    state: str
    db_state: str
    owner_known: int
    client_started: int
    has_session: int
    needs_qr: int
    zombie: int
    zombie_until_restart: int
    loaded: int
    opens_at: int | None
    qr_since: int | None
    queue_free_at: int
    sent: int
    disconnected_at: int | None
    disconnection_code: int | None
    disconnection_object: str | None
    number: str | None
    integration: str
    settings: str
    webhook: str
    declared: str
    created_at: int
    updated_at: int
    deleted: int


@dataclass(slots=True)
class Message:
    """A row of ``messages``, in the order of its columns: one accepted message, seen from both ends.

    ``rank``: 0 accepted, 1 at WhatsApp, 2 delivered, 3 read, -1 failed, -2 removed from the queue.
    ``next_at``: when it moves on; ``None`` while it waits for a connection, or for ever.
    """

    id: int
    instance_id: int
    kind: str
    wa_id: str
    queue_id: str | None
    sender_phone: str
    recipient_phone: str
    remote_jid: str
    recipient_id: int | None
    body: str
    media_mime: str | None
    media_bytes: int | None
    extra: str | None
    trace: str | None
    logical: int
    at: int
    received_at: int
    rank: int
    queued: int
    lost: int
    next_at: int | None
    deliver_at: int | None
    server_ack_at: int | None
    delivered_at: int | None
    read_at: int | None
    failed_at: int | None
    failure: str | None


ACCEPTED, AT_WHATSAPP, DELIVERED, READ, FAILED, REMOVED = 0, 1, 2, 3, -1, -2

_INSTANCE_COLUMNS: Final = [f.name for f in fields(Instance)]
_MESSAGE_COLUMNS: Final = [f.name for f in fields(Message)]
_INSERT_INSTANCE: Final = "INSERT INTO instances ({}) VALUES ({})".format(  # noqa: S608 (our own column names)
    ", ".join(_INSTANCE_COLUMNS[1:]), ", ".join("?" * (len(_INSTANCE_COLUMNS) - 1))
)
_SAVE_INSTANCE: Final = "UPDATE instances SET {} WHERE id = ?1".format(  # noqa: S608 (our own column names)
    ", ".join(f"{name} = ?{n}" for n, name in enumerate(_INSTANCE_COLUMNS[1:], start=2))
)
_INSERT_MESSAGE: Final = "INSERT INTO messages ({}) VALUES ({})".format(  # noqa: S608 (our own column names)
    ", ".join(_MESSAGE_COLUMNS[1:]), ", ".join("?" * (len(_MESSAGE_COLUMNS) - 1))
)
_BUSY_TIMEOUT_S: Final = 30.0

IN_MEMORY: Final = ":memory:"
"""A state that is gone with its process, all of it in memory."""
SPILLED: Final = ""
"""A state that is gone with its process: SQLite keeps it in a file that nobody else can open, a little in memory."""


class State:
    """The tables, behind questions in the simulator's words. Not thread-safe: the core holds a lock.

    Args:
        path: the database file (its folder is created), :data:`IN_MEMORY` or :data:`SPILLED`.
    """

    def __init__(self, path: str | Path = IN_MEMORY) -> None:
        self.path = str(path)
        self._alone = self.path in (IN_MEMORY, SPILLED)
        """Nobody else writes: what was read holds until this process writes."""
        self._known: dict[Any, Any] = {}
        self._known_at = -1
        self._settled: tuple[int, int] | None = None
        self._instances: dict[tuple[str, str] | int, Instance] = {}
        if not self._alone:
            Path(self.path).parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(
            self.path,
            timeout=_BUSY_TIMEOUT_S,
            # Where nobody else is, a transaction begins with the first write: most requests have none.
            isolation_level="IMMEDIATE" if self._alone else None,
            check_same_thread=False,
            cached_statements=256,
        )
        # Losing power may lose the simulated world; a killed process may not, and does not.
        self._db.execute(f"PRAGMA journal_mode={'MEMORY' if self._alone else 'WAL'}")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("PRAGMA temp_store=MEMORY")
        self.begin()
        for statement in _SCHEMA.split(";"):
            if statement.strip():
                self._db.execute(statement)
        self.commit()

    def begin(self) -> None:
        """Begin a transaction that no other process shares; where there is no other, the first write begins it."""
        if not self._alone:
            self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make the transaction durable against the death of this process."""
        if self._db.in_transaction:
            self._db.execute("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction, if one is open."""
        self._known.clear()
        self._instances.clear()
        self._settled = None
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def _unchanged(self, question: Any, ask: Callable[[], Found]) -> Found:
        """Return what every request asks anew, read once as long as nothing at all is written."""
        if not self._alone:
            return ask()
        if self._known_at != self._db.total_changes:
            self._known.clear()
            self._known_at = self._db.total_changes
        if question not in self._known:
            self._known[question] = ask()
        return cast("Found", self._known[question])

    def is_settled(self, now: int) -> bool:
        """Whether nothing was written since everything due up to ``now`` was done."""
        return self._settled == (now, self._db.total_changes)

    def settle(self, now: int) -> None:
        """Note that everything due up to ``now`` is done."""
        if self._alone:
            self._settled = (now, self._db.total_changes)

    # --- instances

    def instance(self, provider: str, name: str) -> Instance | None:
        """Return an instance by its name, ``None`` if there is none.

        Whoever changes it saves it.
        """
        known = self._instances.get((provider, name))
        if known is not None:
            return known
        row = self._db.execute(
            "SELECT * FROM instances WHERE provider = ? AND name = ? AND deleted = 0", (provider, name)
        ).fetchone()
        return self._keep((provider, name), Instance(*row)) if row else None

    def instance_by_id(self, instance_id: int) -> Instance:
        """Return an instance that is known to exist (deleted ones included); whoever changes it saves it."""
        known = self._instances.get(instance_id)
        if known is not None:
            return known
        row = self._db.execute("SELECT * FROM instances WHERE id = ?", (instance_id,)).fetchone()
        return self._keep(instance_id, Instance(*row))

    def _keep(self, key: tuple[str, str] | int, instance: Instance) -> Instance:
        if self._alone:
            self._instances[key] = instance
        return instance

    def _has_changed(self, instance: Instance) -> None:
        self._instances.pop((instance.provider, instance.name), None)
        self._instances.pop(instance.id, None)

    def instances(self, provider: str | None = None) -> list[Instance]:
        """Return all instances, or one gateway's, in the order of their creation."""
        rows = self._db.execute(
            "SELECT * FROM instances WHERE deleted = 0 AND (?1 IS NULL OR provider = ?1) ORDER BY id",
            (provider,),
        )
        return [Instance(*row) for row in rows]

    def declarations(self) -> list[str]:
        """Return the declarations (JSON) of all declared instances, deleted ones included."""
        rows = self._db.execute("SELECT declared FROM instances WHERE declared != '' ORDER BY id")
        return [str(row[0]) for row in rows]

    def owner_of(self, account: str) -> Instance | None:
        """Return the instance that holds a number; a connected one if several claim it."""
        row = self._db.execute(
            "SELECT * FROM instances WHERE account = ? AND deleted = 0 AND owner_known = 1"
            " ORDER BY state = 'open' DESC, id LIMIT 1",
            (account,),
        ).fetchone()
        return Instance(*row) if row else None

    def owner_of_lid(self, lid: str) -> Instance | None:
        """Return the instance with a privacy id."""
        row = self._db.execute(
            "SELECT * FROM instances WHERE lid = ? AND deleted = 0 ORDER BY id LIMIT 1", (lid,)
        ).fetchone()
        return Instance(*row) if row else None

    def token_exists(self, provider: str, token: str) -> bool:
        """Whether any instance of a gateway has this token."""
        row = self._db.execute(
            "SELECT 1 FROM instances WHERE token = ? AND provider = ? AND deleted = 0", (token, provider)
        ).fetchone()
        return row is not None

    def add_instance(self, instance: Instance) -> int:
        """Insert an instance (its ``id`` is ignored) and return its id."""
        self._instances.clear()
        return int(self._db.execute(_INSERT_INSTANCE, astuple(instance)[1:]).lastrowid or 0)

    def save_instance(self, instance: Instance) -> None:
        """Write all columns of an instance."""
        self._has_changed(instance)
        self._db.execute(_SAVE_INSTANCE, astuple(instance))

    def count_send(self, instance: Instance) -> None:
        """Write what a send changes of an instance."""
        self._has_changed(instance)
        self._db.execute(
            "UPDATE instances SET sent = ?, queue_free_at = ? WHERE id = ?",
            (instance.sent, instance.queue_free_at, instance.id),
        )

    def opening(self, now: int) -> list[Instance]:
        """Return the instances whose connection is due to open."""
        query = "SELECT * FROM instances WHERE opens_at <= ? ORDER BY opens_at, id"
        rows = self._unchanged(("opening", now), lambda: self._db.execute(query, (now,)).fetchall())
        return [Instance(*row) for row in rows]

    # --- messages

    def add_message(self, values: tuple[Any, ...]) -> int:
        """Insert a message (all columns of :class:`Message` after ``id``) and return its id."""
        return int(self._db.execute(_INSERT_MESSAGE, values).lastrowid or 0)

    def due(self, now: int, limit: int) -> list[Message]:
        """Return messages that are due to move on, oldest first."""
        query = "SELECT * FROM messages WHERE next_at <= ? ORDER BY next_at, id LIMIT ?"
        rows = self._unchanged(("due", now), lambda: self._db.execute(query, (now, limit)).fetchall())
        return [Message(*row) for row in rows]

    def move(self, message: Message) -> None:
        """Write what moving on changes of a message."""
        self._db.execute(
            "UPDATE messages SET rank = ?, queued = ?, next_at = ?, deliver_at = ?, server_ack_at = ?,"
            " delivered_at = ?, read_at = ?, failed_at = ?, failure = ?, lost = ? WHERE id = ?",
            (
                message.rank,
                message.queued,
                message.next_at,
                message.deliver_at,
                message.server_ack_at,
                message.delivered_at,
                message.read_at,
                message.failed_at,
                message.failure,
                message.lost,
                message.id,
            ),
        )

    def message_by_id(self, message_id: int) -> Message:
        """Return a message that is known to exist."""
        row = self._db.execute("SELECT * FROM messages WHERE id = ?", (message_id,)).fetchone()
        return Message(*row)

    def messages_since(self, since: int, limit: int) -> list[Message]:
        """Return messages with an id above ``since``, in the order of their acceptance."""
        rows = self._db.execute("SELECT * FROM messages WHERE id > ? ORDER BY id LIMIT ?", (since, limit))
        return [Message(*row) for row in rows.fetchall()]

    def count_messages(self) -> int:
        """Return the number of accepted messages."""
        return int(self._db.execute("SELECT count(*) FROM messages").fetchone()[0])

    def received(self, instance_id: int, wa_id: str) -> Message | None:
        """Return a message that an instance has received, by WhatsApp id."""
        row = self._db.execute(
            "SELECT * FROM messages WHERE wa_id = ? AND recipient_id = ? AND delivered_at IS NOT NULL",
            (wa_id, instance_id),
        ).fetchone()
        return Message(*row) if row else None

    def waiting_for(self, recipient_id: int) -> list[Message]:
        """Return messages at WhatsApp that wait for their recipient's session."""
        rows = self._db.execute(
            "SELECT * FROM messages WHERE recipient_id = ? AND rank = 1 AND next_at IS NULL AND lost = 0"
            " ORDER BY id",
            (recipient_id,),
        )
        return [Message(*row) for row in rows.fetchall()]

    def held_by(self, instance_id: int) -> list[Message]:
        """Return an instance's queued messages, oldest first."""
        rows = self._db.execute(
            "SELECT * FROM messages WHERE instance_id = ? AND queued = 1 ORDER BY id", (instance_id,)
        )
        return [Message(*row) for row in rows.fetchall()]

    def count_queued(self, instance_id: int) -> int:
        """Return how many messages an instance's queue holds."""
        row = self._db.execute(
            "SELECT count(*) FROM messages WHERE instance_id = ? AND queued = 1", (instance_id,)
        ).fetchone()
        return int(row[0])

    def conversation_view(self, instance_id: int, where: str, arguments: list[Any]) -> list[Message]:
        """Return what an instance's own message list holds, newest first.

        Args:
            instance_id: whose list; sent messages, and received ones once they are delivered.
            where: a further condition in SQL, built from constants by ``evolution_chat``.
            arguments: its parameters.
        """
        rows = self._db.execute(
            "SELECT * FROM ("  # noqa: S608 (``where`` is made of constants; values are bound)
            " SELECT * FROM messages WHERE instance_id = ?"
            " UNION ALL SELECT * FROM messages WHERE recipient_id = ? AND delivered_at IS NOT NULL)"
            f" WHERE {where} ORDER BY at DESC, id DESC",
            [instance_id, instance_id, *arguments],
        )
        return [Message(*row) for row in rows.fetchall()]

    def count_list(self, instance_id: int) -> int:
        """Return the number of messages in an instance's own list."""
        row = self._db.execute(
            "SELECT (SELECT count(*) FROM messages WHERE instance_id = ?1)"
            " + (SELECT count(*) FROM messages WHERE recipient_id = ?1 AND delivered_at IS NOT NULL)",
            (instance_id,),
        ).fetchone()
        return int(row[0])

    def sent_by(self, instance_id: int, wa_id: str | None) -> list[Message]:
        """Return an instance's own messages, or the one with a WhatsApp id."""
        if wa_id is None:
            rows = self._db.execute(
                "SELECT * FROM messages WHERE instance_id = ? ORDER BY id", (instance_id,)
            )
        else:
            rows = self._db.execute(
                "SELECT * FROM messages WHERE wa_id = ? AND instance_id = ? ORDER BY id", (wa_id, instance_id)
            )
        return [Message(*row) for row in rows.fetchall()]

    def last_logical(self) -> int | None:
        """Return the logical time of the newest message, ``None`` if it had none."""
        row = self._db.execute("SELECT at, logical FROM messages ORDER BY id DESC LIMIT 1").fetchone()
        return int(row[0]) if row and row[1] else None

    # --- numbers

    def remember_number(self, account: str, at: int) -> None:
        """Put a number into the gateways' shared cache of numbers seen on WhatsApp."""
        self._db.execute("INSERT OR REPLACE INTO numbers_seen VALUES (?, ?)", (account, at))

    def number_seen_at(self, account: str) -> int | None:
        """Return when a number entered that cache."""
        row = self._db.execute("SELECT at FROM numbers_seen WHERE account = ?", (account,)).fetchone()
        return int(row[0]) if row else None

    def add_known_phone(self, account: str) -> None:
        """Say that a number is on WhatsApp although no instance holds it."""
        self._db.execute("INSERT OR IGNORE INTO known_phones VALUES (?)", (account,))

    def is_known_phone(self, account: str) -> bool:
        """Whether a number was said to be on WhatsApp."""
        row = self._db.execute("SELECT 1 FROM known_phones WHERE account = ?", (account,)).fetchone()
        return row is not None

    # --- faults

    def faults(self) -> list[tuple[int, str]]:
        """Return the fault rules as (id, JSON), oldest first."""
        return [
            (int(row[0]), str(row[1])) for row in self._db.execute("SELECT id, rule FROM faults ORDER BY id")
        ]

    def add_fault(self, rule: str) -> int:
        """Store a fault rule (JSON) and return its id."""
        return int(self._db.execute("INSERT INTO faults (rule) VALUES (?)", (rule,)).lastrowid or 0)

    def clear_faults(self) -> None:
        """Remove every fault rule and its counts."""
        self._db.execute("DELETE FROM faults")
        self._db.execute("DELETE FROM fault_counts")

    def count_match(self, fault_id: int, instance: str) -> int:
        """Count a request of an instance that matched a rule; return how many did before."""
        row = self._db.execute(
            "INSERT INTO fault_counts VALUES (?, ?, 1, 0)"
            " ON CONFLICT DO UPDATE SET matched = matched + 1 RETURNING matched",
            (fault_id, instance),
        ).fetchone()
        return int(row[0]) - 1

    def count_hit(self, fault_id: int, instance: str) -> None:
        """Count a request that a rule struck."""
        self._db.execute(
            "INSERT INTO fault_counts VALUES (?, ?, 0, 1) ON CONFLICT DO UPDATE SET hits = hits + 1",
            (fault_id, instance),
        )

    def fault_totals(self, fault_id: int) -> tuple[int, int]:
        """Return how many requests a rule matched (where that is counted) and struck."""
        row = self._db.execute(
            "SELECT coalesce(sum(matched), 0), coalesce(sum(hits), 0) FROM fault_counts WHERE fault_id = ?",
            (fault_id,),
        ).fetchone()
        return int(row[0]), int(row[1])

    # --- counters and events

    def counter(self, name: str) -> int:
        """Return a named number, 0 if it was never set."""
        query = "SELECT value FROM counters WHERE name = ?"
        row = self._unchanged(("counter", name), lambda: self._db.execute(query, (name,)).fetchone())
        return int(row[0]) if row else 0

    def increase(self, name: str) -> int:
        """Add one to a named number and return it."""
        row = self._db.execute(
            "INSERT INTO counters VALUES (?, 1) ON CONFLICT DO UPDATE SET value = value + 1 RETURNING value",
            (name,),
        ).fetchone()
        return int(row[0])

    def add_event(
        self, instance_id: int, event: str, message_id: int | None, at: int, detail: str | None
    ) -> None:
        """Append to the outbox of webhook events."""
        self._db.execute(
            "INSERT INTO events (instance_id, event, message_id, at, detail) VALUES (?, ?, ?, ?, ?)",
            (instance_id, event, message_id, at, detail),
        )

    def events_since(self, since: int, limit: int) -> list[tuple[int, int, str, int | None, int, str | None]]:
        """Return outbox rows with an id above ``since``: id, instance, event, message, time, detail."""
        return self._db.execute(
            "SELECT id, instance_id, event, message_id, at, detail FROM events WHERE id > ?"
            " ORDER BY id LIMIT ?",
            (since, limit),
        ).fetchall()

    def wipe(self, *, instances: bool) -> None:
        """Forget messages, events, faults and counts, and the instances too if asked."""
        self._instances.clear()
        for table in ("messages", "events", "faults", "fault_counts", "numbers_seen"):
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608 (constants)
            self._db.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        if instances:
            self._db.execute("DELETE FROM instances")
            self._db.execute("DELETE FROM known_phones")
            self._db.execute("DELETE FROM sqlite_sequence WHERE name = 'instances'")
