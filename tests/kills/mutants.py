"""Defects of an engine that is exact in peace and not safe to kill; the driver must find each."""

from __future__ import annotations

from collections.abc import Callable

from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import as_query
from rehearsal.switchover.copy.copier import CLAIM, Worker, chunk_sql


def ledger_first() -> None:
    """A chunk is written off in one transaction, and its rows come in the next."""

    def chunk(self: Worker, conn: Connection, skip: str) -> bool:
        migration = self.copier.migration
        with conn.transaction():
            row = conn.execute(as_query(CLAIM.format(skip=skip)), ["0", migration]).fetchone()
            if row is None:
                return False
            number, lower, upper, _ = row
            done = "update rehearsal.chunk set done_at = now() where migration = %s and number = %s"
            conn.execute(done, [migration, number])
        names = self.copier.shape.names
        text = chunk_sql(self.copier.files, self.copier.shape, names.source, names.target, lower, upper)
        conn.execute(as_query(text))
        return True

    Worker._chunk = chunk  # type: ignore[method-assign]


MUTANTS: dict[str, Callable[[], None]] = {"ledger-first": ledger_first}
