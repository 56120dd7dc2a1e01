"""From many webhooks at once to few transactions: group commit.

Holds: :class:`Intake`. A webhook is answered when its rows are committed. What comes in within a few
milliseconds, or while a transaction is being committed, goes into one: as many webhooks as there are
share its cost, and none waits for more than two. Do not add: what a webhook says (``warmup.hearing``), HTTP.

What a crash can lose: nothing that was answered with 200, as far as the database keeps its word. On
SQLite (WAL, synchronous NORMAL) a loss of power may take the last moments with it, a killed process
may not; PostgreSQL keeps both. A webhook that was not answered is sent again by Evolution.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from warmup_pipeline.store import inbox
from warmup_pipeline.store.engine import Store
from warmup_pipeline.store.inbox import InboxRow, Source

MOST_WAITING: Final = 10_000
"""Webhooks that may wait for the database at once; further ones are refused as long as that lasts."""

GATHER_FOR_S: Final = 0.01
"""How long the first of a batch waits for others: a fifth of the 50 ms in which a webhook is answered."""

SOURCES_EVERY: Final = timedelta(seconds=30)
"""How often it is noted that a chip's gateway was heard."""

_BATCH: Final = 1_000


class IntakeFull(Exception):
    """The database has been too slow for too long: nothing more is taken for now."""


class Intake:
    """Writes rows down in batches. Lives in one event loop, between :meth:`start` and :meth:`stop`.

    Args:
        store: where to.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[tuple[Sequence[InboxRow], Source, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._ended = False
        self._noted: dict[str, Source] = {}
        self._writer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._writer = asyncio.create_task(self._write())

    async def stop(self) -> None:
        """Write down what waits, and end."""
        self._ended = True
        self._wake.set()
        if self._writer is not None:
            await self._writer

    async def put(self, rows: Sequence[InboxRow], source: Source) -> None:
        """Return when everything is committed.

        Raises:
            IntakeFull: too much waits already; nothing was taken.
            warmup_pipeline.store.trouble.StoreError: the database is in trouble; nothing was kept.
        """
        if len(self._waiting) >= MOST_WAITING or self._ended:
            raise IntakeFull
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((rows, source, done))
        self._wake.set()
        await done

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await asyncio.sleep(0 if self._ended else GATHER_FOR_S)
                batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                # In a thread: the loop goes on taking webhooks while the database works.
                try:
                    await asyncio.to_thread(self._commit, [(rows, source) for rows, source, _ in batch])
                except Exception as error:  # noqa: BLE001 - told to every webhook of the batch, which raises it
                    for _, _, done in batch:
                        if not done.done():
                            done.set_exception(error)
                else:
                    for _, _, done in batch:
                        if not done.done():
                            done.set_result(None)
            if self._ended:
                return

    def _commit(self, batch: Sequence[tuple[Sequence[InboxRow], Source]]) -> None:
        heard: dict[str, Source] = {}
        for _, source in batch:
            known = heard.get(source.chip_id)
            since = source.receipts_since if known is None else known.receipts_since or source.receipts_since
            first = source.first_heard_at if known is None else known.first_heard_at
            heard[source.chip_id] = Source(source.chip_id, first, source.last_heard_at, since)
        news = [source for source in heard.values() if self._is_news(source)]
        rows = [row for rows, _ in batch for row in rows]
        if not rows and not news:
            return
        with self._store.write() as tx:
            inbox.put(tx, rows, news)
        self._noted |= {source.chip_id: source for source in news}

    def _is_news(self, source: Source) -> bool:
        noted = self._noted.get(source.chip_id)
        return (
            noted is None
            or source.last_heard_at - noted.last_heard_at >= SOURCES_EVERY
            or (noted.receipts_since is None and source.receipts_since is not None)
        )
