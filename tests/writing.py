"""What works on the database beside a test: jobs in threads for the length of a block, and writers with a ledger.

Two programs beside this are processes of their own, and say why: `tests/kills/writers.py`, `tests/bench/writers.py`.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import psycopg
from psycopg import sql

from rehearsal.catalog.tables import Name
from rehearsal.environment import Database
from rehearsal.postgres.connection import Connection, connect

# A job ends when the event is set, or before.
Job = Callable[[threading.Event], object]
KINDS = ("insert", "update", "move", "delete")
# More inserts than deletes, so that there is always something to change.
ACTIONS = ("insert", "insert", "update", "update", "move", "delete")


@contextmanager
def at_work(*jobs: Job) -> Iterator[Sequence[Future[object]]]:
    """Keep jobs at work for the block, a thread each; what one of them raised is raised after it."""
    stop = threading.Event()
    with ThreadPoolExecutor(len(jobs)) as pool:
        working = [pool.submit(job, stop) for job in jobs]
        try:
            yield working
        finally:
            stop.set()
    for future in working:
        future.result()


class Pen(Protocol):
    """How one session writes a table: one statement a write, one row a statement."""

    def actions(self) -> Sequence[str]:
        """Return what may come next, if there are rows of its own."""
        ...

    def write(self, conn: Connection, action: str, row: int, note: str) -> int:
        """Write, and return the row that was written; an insert makes a row of its own."""
        ...


@dataclass
class Writers:
    """Sessions that insert, update, delete and move rows; `rows` has the note that the server confirmed last.

    Each session has rows of its own, so that the last acknowledged note of each row is known.
    """

    database: Database
    pen: Callable[[int], Pen]
    isolation: psycopg.IsolationLevel = psycopg.IsolationLevel.READ_COMMITTED
    row: str = "id"
    acknowledged: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    rows: dict[int, str | None] = field(default_factory=dict)
    _began: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def work(self, seed: int, stop: threading.Event) -> None:
        """Write until told to stop."""
        chance, mine, pen = random.Random(seed), list[int](), self.pen(seed)
        with connect(self.database, autocommit=False, role="writer") as conn:
            conn.isolation_level = self.isolation
            while not stop.is_set():
                action = chance.choice(pen.actions()) if mine else "insert"
                note, row = f"w{seed}-{chance.random()}", chance.choice(mine) if mine else 0
                try:
                    written = pen.write(conn, action, row, note)
                    conn.commit()
                except psycopg.Error as exc:
                    conn.rollback()
                    self._count(self.failed, exc.sqlstate or "lost")
                    continue
                self._acknowledge(action, written, note, mine)

    def _acknowledge(self, action: str, row: int, note: str, mine: list[int]) -> None:
        self._count(self.acknowledged, action)
        with self._lock:
            self.rows[row] = None if action == "delete" else note
        if action == "insert":
            mine.append(row)
        elif action == "delete":
            mine.remove(row)
        self._began.set()

    def _count(self, counts: dict[str, int], what: str) -> None:
        with self._lock:
            counts[what] = counts.get(what, 0) + 1

    def until_at_work(self) -> None:
        """Wait for the first acknowledged write: what is short may be over before a writer has a connection."""
        assert self._began.wait(30), self.failed

    @property
    def did_everything(self) -> bool:
        """Whether each kind of write was acknowledged."""
        return set(self.acknowledged) == set(KINDS)

    def lost(self, conn: Connection, table: Name) -> list[int]:
        """Return rows that are not as they were last acknowledged; call it when the writers have stopped."""
        query = sql.SQL("select {row}, note from {table} where {row} = any(%s)")
        names = {"row": sql.Identifier(self.row), "table": sql.Identifier(*table)}
        have: dict[int, str | None] = dict(conn.execute(query.format(**names), [list(self.rows)]).fetchall())
        return [row for row, note in self.rows.items() if have.get(row) != note]

    def jobs(self, sessions: int) -> Sequence[Job]:
        """Return the sessions as jobs."""
        return [partial(self.work, seed) for seed in range(sessions)]
