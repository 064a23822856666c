"""Exact figures of a table, before and after: rows, sizes, range of keys, distinct values.

Owns `row_counts.log`. Counts exactly; the planner's estimates have no place in evidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg.rows import dict_row

from rehearsal.catalog.tables import Name, Table, dotted
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

    @property
    def content(self) -> dict[str, object]:
        """The figures that must survive a migration; sizes may change."""
        counts = {f"distinct {name}": count for name, count in self.distinct.items()}
        return {
            "rows": self.rows,
            "oldest": self.oldest,
            "newest": self.newest,
            "null keys": self.null_keys,
            **counts,
        }


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


def changed_stats(before: TableStats, after: TableStats) -> dict[str, tuple[object, object]]:
    """Return the figures that differ, sizes left out."""
    old, new = before.content, after.content
    return {name: (old.get(name), new.get(name)) for name in {**old, **new} if old.get(name) != new.get(name)}


def row_counts_text(stats: Iterable[TableStats]) -> str:
    """Return the figures of several tables, one block each."""
    return "".join(_block(figures) for figures in stats)


def _block(figures: TableStats) -> str:
    lines = [f"  {name}: {value}" for name, value in figures.content.items()]
    sizes = f"  bytes: {figures.bytes}, of indexes: {figures.index_bytes}"
    return "\n".join([f"table {dotted(figures.table)}, key {figures.key}", *lines, sizes]) + "\n"
