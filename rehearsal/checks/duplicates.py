"""Unique indexes that a partitioned table cannot hold: those without the partition key.

The plan decides for each what becomes of it: `add-key` makes it unique together with the key, `per-partition` keeps it
as it is on each leaf alone. Either way, and for the primary key too, a value may now repeat in two partitions and
nothing refuses it, so every comparison looks for values that do: the rollback would fail on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg.rows import class_row

from rehearsal.catalog.tables import Index, Name, Table
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.names import fit
from rehearsal.switchover.target.indexes import plan_indexes
from rehearsal.switchover.target.target import Shape


@dataclass(frozen=True, slots=True)
class Unique:
    """A unique index of the source as what must not repeat; rows where an expression is null count only if they do."""

    name: str
    is_primary: bool
    expressions: list[str]
    predicate: str | None
    nulls_repeat: bool
    has_key: bool


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What the probe of one unique index saw: `sets` values that repeat, in `rows` rows."""

    name: str
    what: str
    sets: int
    rows: int
    examples: tuple[str, ...]

    def text(self) -> str:
        """Return one line for people."""
        if not self.sets:
            return f"no value of {self.what} repeats"
        return f"{self.sets} values of {self.what} repeat, in {self.rows} rows; such as {', '.join(self.examples)}"


def without_key(table: Table, key: str) -> Iterator[Index]:
    """Return the unique indexes that need a decision; the primary key always gets the key added."""
    for index in table.indexes:
        if index.is_unique and not index.is_primary and key not in index.key_columns:
            yield index


def unknown_decisions(table: Table, spec: TableSpec) -> list[str]:
    """Return names that the plan decides for and that need no decision, under this name or a retired one."""
    known = {index.name for index in without_key(table, spec.key)}
    return [name for name in spec.uniques if name not in known and fit(name, "_old") not in known]


def leaf_only(spec: TableSpec) -> frozenset[str]:
    """Return the names of unique indexes that stand on leaves alone, as the live and as the retired table has them."""
    alone = [name for name, decision in spec.uniques.items() if decision == "per-partition"]
    return frozenset([*alone, *(fit(name, "_old") for name in alone)])


def leaf_statements(source: Table, shape: Shape, leaf: Name) -> list[str]:
    """Return what gives a leaf that is made later the unique indexes which no parent hands down to it."""
    plans = plan_indexes(source, shape)
    return [plan.sql(leaf, plan.leaf_name(leaf)) for plan in plans if not plan.on_parent]


def find_duplicates(conn: Connection, files: SqlFiles, source: Table, target: Table, key: str) -> list[Duplicates]:
    """Look on the partitioned table for values that the source's unique indexes, primary key included, refuse.

    One aggregate over each such index's columns, in a statement of its own; takes ACCESS SHARE.
    """
    return [
        _probe(conn, files, unique, target.name)
        for unique in read_uniques(conn, files, source, key)
        if not unique.has_key
    ]


def read_uniques(conn: Connection, files: SqlFiles, table: Table, key: str) -> list[Unique]:
    """Return the unique indexes of a table."""
    with conn.cursor(row_factory=class_row(Unique)) as cursor:
        return cursor.execute(files.query("checks/uniques.sql"), {"oid": table.oid, "key": key}).fetchall()


def _probe(conn: Connection, files: SqlFiles, unique: Unique, table: Name) -> Duplicates:
    what = ", ".join(unique.expressions)
    query = files.query(
        "checks/duplicates.sql.j2",
        table=table,
        expressions=what,
        predicate=unique.predicate,
        not_null=[] if unique.nulls_repeat else unique.expressions,
    )
    row = conn.execute(query).fetchone()
    sets, rows, examples = row or (0, 0, None)
    return Duplicates(unique.name, what, sets, rows, tuple(examples or ()))
