"""Defects of an engine that is exact in peace and not safe to kill; the driver must find each."""

from __future__ import annotations

from collections.abc import Callable

from rehearsal.copying import CLAIM, Copier, chunk_sql
from rehearsal.postgres import Connection
from rehearsal.sqlfiles import as_query


def ledger_first() -> None:
    """A chunk is written off in one transaction, and its rows come in the next."""

    def chunk(self: Copier, conn: Connection, skip: str) -> int | None:
        with conn.transaction():
            row = conn.execute(as_query(CLAIM.format(skip=skip)), [self.migration]).fetchone()
            if row is None:
                return None
            number, lower, upper = row
            done = "update rehearsal.chunk set done_at = now() where migration = %s and number = %s"
            conn.execute(done, [self.migration, number])
        names = self.shape.names
        text = chunk_sql(self.files, self.shape, names.source, names.target, lower, upper)
        return conn.execute(as_query(text)).rowcount

    Copier._chunk = chunk  # type: ignore[method-assign]


MUTANTS: dict[str, Callable[[], None]] = {"ledger-first": ledger_first}
