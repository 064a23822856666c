"""Writers that outlive a server, with a ledger of what was acknowledged; a process of its own.

    python -m tests.kills.writers < database.json     (ends with the end of its input, and prints the ledger)

Unlike those of `tests/writing.py` they live on when the driver's process forks and is killed, come back when the server
does, and know what became of a commit whose answer they did not get; those end with the block or with the first error.

A commit whose answer never came is decided by reading: a row has one writer, and each write leaves a note of its own.
pg_xact_status is asked as well, and cannot be trusted after a crash: a transaction of which nothing reached the disk
leaves its number to another, and the server answers for that one. How often that was seen is counted.
"""

from __future__ import annotations

import json
import random
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import IsolationLevel, errors

from rehearsal.environment import Database
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.sqlfiles import as_query
from tests.waiting import eventually
from tests.writing import ACTIONS, at_work

TABLE = 'public."We""ird Events"'
RETURNING = "returning id, pg_catalog.pg_current_xact_id()::text"
WRITES = {
    "insert": f"""insert into {TABLE} ("Created At", "unit id", amount, note)
        values (%(key)s, 1, 5, %(note)s) {RETURNING}""",
    "update": f"update {TABLE} set note = %(note)s where id = %(row)s {RETURNING}",
    "move": f"""update {TABLE} set note = %(note)s, "Created At" = %(key)s where id = %(row)s {RETURNING}""",
    "delete": f"delete from {TABLE} where id = %(row)s {RETURNING}",
}
LEVELS = (IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ)
PAUSE_S = 0.01
# A server that was killed is up again by then.
PATIENCE_S = 90.0


@dataclass
class Writer:
    """One session after the other, each row written by one writer only; `rows` is what must be there in the end."""

    database: Database
    seed: int
    rows: dict[int, str | None] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    _xid: str | None = None

    def run(self, stop: threading.Event) -> None:
        """Write until told to stop."""
        chance = random.Random(self.seed)
        while not stop.is_set():
            try:
                with connect(self.database, autocommit=False, role="writer") as conn:
                    conn.isolation_level = LEVELS[self.seed % len(LEVELS)]
                    while not stop.wait(PAUSE_S):
                        self._one(conn, chance)
            except (PreconditionError, psycopg.OperationalError, psycopg.InterfaceError):
                self.counts["connections lost"] += 1
                stop.wait(PAUSE_S)

    def _one(self, conn: Connection, chance: random.Random) -> None:
        mine = [row for row, note in self.rows.items() if note is not None]
        action = chance.choice(ACTIONS) if mine else "insert"
        note, row = f"w{self.seed}-{chance.random()}", chance.choice(mine) if mine else 0
        key = datetime(2026, 1, 2, tzinfo=UTC) + timedelta(minutes=chance.randrange(0, 80_000))
        try:
            found = conn.execute(as_query(WRITES[action]), {"key": key, "note": note, "row": row}).fetchone()
        except psycopg.Error as exc:
            if isinstance(exc, psycopg.OperationalError) and exc.sqlstate in (None, "57P01", "57P02", "57P03"):
                raise
            conn.rollback()
            self.counts[f"refused {exc.sqlstate}"] += 1
            return
        if found is None:
            conn.rollback()
            self.missed.append(f"{action} of row {row} found nothing")
            return
        try:
            conn.commit()
        except (errors.SerializationFailure, errors.DeadlockDetected) as exc:
            conn.rollback()
            self.counts[f"refused {exc.sqlstate}"] += 1
            return
        except psycopg.Error:
            self._purge(action, int(found[0]), note, found[1])
            raise
        self._acknowledge(action, int(found[0]), note)

    def _acknowledge(self, action: str, row: int, note: str) -> None:
        self.counts[action] += 1
        self.rows[row] = None if action == "delete" else note

    def _purge(self, action: str, row: int, note: str, xid: str) -> None:
        """Look, once the server is up again and nothing of the old session is left."""
        status, have = eventually(lambda: self._look(row, xid), PATIENCE_S, pause=PAUSE_S)
        is_done = have is None if action == "delete" else have == note
        self.counts[f"in doubt, {'done' if is_done else 'not done'}"] += 1
        if (status == "committed") != is_done:
            self.counts["in doubt, and its number was another's"] += 1
        if is_done:
            self._acknowledge(action, row, note)

    def _look(self, row: int, xid: str) -> tuple[str | None, str | None] | None:
        """Return what pg_xact_status says and the note that the row has; None while the server is down."""
        query = f"select (select note from {TABLE} where id = %s), pg_catalog.pg_xact_status(%s::xid8)"
        try:
            with connect(self.database, role="writer") as conn:
                note, status = conn.execute(as_query(query), [row, xid]).fetchone() or (None, None)
        except errors.InvalidParameterValue:
            # The number lies in the server's future: it has not been given to anybody yet.
            status, note = None, self._note_of(row)
        except (PreconditionError, psycopg.Error):
            return None
        return status, note

    def _note_of(self, row: int) -> str | None:
        with connect(self.database, role="writer") as conn:
            found = conn.execute(as_query(f"select note from {TABLE} where id = %s"), [row]).fetchone()
        return found[0] if found else None


def main() -> None:
    """Run two writers until the input ends."""
    told: dict[str, Any] = json.loads(sys.stdin.readline())
    writers = [Writer(Database(**told), seed) for seed in range(2)]
    with at_work(*(writer.run for writer in writers)):
        sys.stdin.read()
    rows = {str(row): note for writer in writers for row, note in writer.rows.items()}
    counts = sum((writer.counts for writer in writers), Counter())
    missed = [text for writer in writers for text in writer.missed]
    print(json.dumps({"rows": rows, "counts": counts, "missed": missed}))  # noqa: T201


if __name__ == "__main__":
    main()
