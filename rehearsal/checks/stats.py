"""Exact figures of a table, before and after: rows, sizes, range of keys, distinct values.

Counts exactly; the planner's estimates have no place in evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.rows import dict_row

from rehearsal.catalog.tables import Name, Table
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles


@dataclass(frozen=True, slots=True)
class TableStats:
    """What one table held at one moment; `distinct` counts the values of each asked column."""

    table: Name
    key: str
    rows: int
    bytes: int
    index_bytes: int
    oldest: str | None
    newest: str | None
    null_keys: int
    distinct: dict[str, int]


def read_stats(conn: Connection, files: SqlFiles, table: Table, key: str, distinct: Sequence[str] = ()) -> TableStats:
    """Count a table exactly, in one statement, so that all figures are of one moment.

    Raises:
        PreconditionError: the table has no such column; names those that there are.
    """
    for name in (key, *distinct):
        table.column(name)
    query = files.query("checks/stats.sql.j2", table=table.name, oid=table.oid, key=key, distinct=list(distinct))
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(query).fetchall()[0]
    counts = row.pop("distinct_counts")
    return TableStats(table.name, key, distinct=dict(zip(distinct, counts, strict=True)), **row)
