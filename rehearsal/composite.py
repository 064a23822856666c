"""Composite foreign keys: the referencing table carries the partition key, so that a real foreign key can stay.

Prepared online, while the twin is made: a column, a trigger that fills it for every write of the application (which
need not know of it), a trigger that follows changes of the key, a fill in short transactions. At the swap the foreign
key is exchanged for one over both columns; validated afterwards. Column and filling trigger stay for good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from rehearsal.catalog import Catalog, Name
from rehearsal.names import STATE_SCHEMA, fit
from rehearsal.postgres import Connection, LockPolicy, LockReport, scalar, with_lock
from rehearsal.references import Reference, composite_column, values_of
from rehearsal.sqlfiles import SqlFiles, as_query, quote_ident

BLOCKS = 200


@dataclass(frozen=True, slots=True)
class Composite:
    """One referencing table on its way to a composite foreign key."""

    files: SqlFiles
    one: Reference
    parent: Name
    key: str

    def prepare_sql(self, type_sql: str) -> str:
        """Return the statements that add column, functions and triggers."""
        return self.files.render("steps/composite.sql.j2", **self._values(), type=type_sql)

    def fill_sql(self, first: int, last: int) -> str:
        """Return the statement that fills one range of blocks."""
        blocks = {"first": f"({first},0)", "last": f"({last},0)"}
        return self.files.render("steps/composite_fill.sql.j2", **self._values(), **blocks)

    def _values(self) -> dict[str, Any]:
        one = self.one
        base = f"{one.table}_{one.name}"
        return values_of(one, self.parent) | {
            "key": self.key,
            "column": composite_column(one, self.key),
            "fill": (STATE_SCHEMA, fit(f"{one.schema}_{base}", prefix="reference_fill_")),
            "follow": (STATE_SCHEMA, fit(f"{one.schema}_{base}", prefix="reference_follow_")),
            "fill_trigger": fit(base, prefix="reference_fill_"),
            "follow_trigger": fit(base, prefix="reference_follow_"),
            "comment": f"Partition key of the row that {one.label} refers to; filled by a trigger",
        }

    def fill(self, conn: Connection) -> int:
        """Give every row its key, in one short transaction a range of blocks; return how many rows were changed.

        A second run finds nothing; rows that are written meanwhile are filled by the trigger. User triggers of the
        referencing table do not fire where the role may keep them from it.

        Locks: ROW EXCLUSIVE on the referencing table; its changed rows until each range is done.
        """
        size = "select pg_catalog.pg_relation_size(%s::regclass) / current_setting('block_size')::int + 1"
        blocks, changed = int(scalar(conn, size, [quote_ident(self.one.child)])), 0
        for first in range(0, blocks, BLOCKS):
            with conn.transaction():
                _quiet(conn)
                changed += conn.execute(as_query(self.fill_sql(first, first + BLOCKS))).rowcount
        return changed


def _quiet(conn: Connection) -> None:
    """Keep triggers such as an updated_at from firing for our own fill; captures of ours are ENABLE ALWAYS."""
    if scalar(conn, "select rolsuper from pg_catalog.pg_roles where rolname = current_user"):
        conn.execute("set local session_replication_role = replica")


def prepare_composites(
    conn: Connection,
    files: SqlFiles,
    found: Sequence[Reference],
    parent: Name,
    key: str,
    policy: LockPolicy,
    on_lock: Callable[[LockReport], None],
) -> int:
    """Prepare every composite foreign key of a table; return how many rows were filled. A second run fills none.

    Locks: ACCESS EXCLUSIVE on each referencing table, SHARE ROW EXCLUSIVE on the referenced one, for milliseconds.

    Raises:
        LockNotAcquired: the budget is spent; those before are prepared.
    """
    type_sql, filled = Catalog(conn, files).read(parent).column(key).type, 0
    for one in found:
        work = Composite(files, one, parent, key)
        text = work.prepare_sql(type_sql)

        def prepare(held: Connection, text: str = text) -> None:
            held.execute(as_query(text))

        lock = sql.SQL("lock table {} in access exclusive mode").format(sql.Identifier(*one.child))
        _, report = with_lock(conn, f"partition key for {one.label}", prepare, lock=lock, policy=policy)
        on_lock(report)
        filled += work.fill(conn)
    return filled
