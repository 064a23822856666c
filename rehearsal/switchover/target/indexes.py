"""Indexes and foreign keys of the target, built late: leaf by leaf in several sessions, then adopted by the parent.

Building indexes and checking foreign keys row by row during the copy is most of what a plain loop costs
(docs/benchmarks.md). Every function may be repeated: what is there already is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from rehearsal.catalog.ddl import add_column
from rehearsal.catalog.tables import Catalog, Index, Name, Table
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.parallel import run_in_sessions
from rehearsal.postgres.sqlfiles import SqlFiles, as_query, quote_ident, quote_idents, quote_options
from rehearsal.postgres.turns import FREE, Turns
from rehearsal.switchover.names import fit
from rehearsal.switchover.target.carry import late_values
from rehearsal.switchover.target.target import Shape


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """One index of the source as the target shall have it."""

    source_name: str
    is_primary: bool
    is_unique: bool
    is_constraint: bool
    rest: str
    columns: tuple[str, ...]
    constraint_sql: str | None = None
    on_parent: bool = True

    def parent_name(self, target: Name) -> str:
        """Name of the index on the parent, before any switchover."""
        return fit(target[1], "_pkey") if self.is_primary else fit(self.source_name, "_partitioned")

    def leaf_name(self, leaf: Name) -> str:
        """Name of the index on a leaf."""
        return fit(leaf[1], "_pkey") if self.is_primary else fit(leaf[1] + "_" + self.source_name)

    def sql(self, table: Name, name: str) -> str:
        """Return the statement that makes this index on the parent or on a leaf."""
        where = quote_ident(table)
        if self.is_constraint:
            return f"alter table {where} add constraint {quote_ident(name)} {self.constraint_sql}"
        unique = "unique " if self.is_unique else ""
        return f"create {unique}index {quote_ident(name)} on {where} {self.rest}"


def plan_indexes(source: Table, shape: Shape) -> tuple[IndexPlan, ...]:
    """Return the indexes that the target needs: those of the source, the partition key added where it must be.

    Raises:
        PreconditionError: an index cannot be carried as it is.
    """
    return tuple(decided(_plan_index(index, shape), shape) for index in source.indexes)


def decided(plan: IndexPlan, shape: Shape) -> IndexPlan:
    """Return the plan of an index as the migration's plan decided it: with the key added, or on the leaves only."""
    decision = shape.uniques.get(plan.source_name)
    if decision is None or not plan.is_unique or plan.is_primary or shape.key in plan.columns:
        return plan
    if decision == "per-partition":
        return replace(plan, on_parent=False)
    key = quote_ident(shape.key)
    constraint = plan.constraint_sql and add_column(plan.constraint_sql, key)
    return replace(plan, rest=add_column(plan.rest, key), columns=(*plan.columns, shape.key), constraint_sql=constraint)


def _plan_index(index: Index, shape: Shape) -> IndexPlan:
    columns = shape.identity if index.is_primary else index.key_columns
    if index.is_unique and not index.is_primary and shape.key not in columns and index.name not in shape.uniques:
        message = (
            f"unique index {index.name} does not hold the key {shape.key}; a partitioned table cannot keep it. "
            "Drop it, add the key to it, or decide for it in the plan (uniques)"
        )
        raise PreconditionError(message)
    is_constraint = index.constraint_name is not None
    space = f" tablespace {quote_ident(index.tablespace)}" if index.tablespace else ""
    rest = index.tail + space + (f" where {index.predicate}" if index.predicate else "")
    definition = _constraint_sql(index, columns) if is_constraint else None
    return IndexPlan(index.name, index.is_primary, index.is_unique, is_constraint, rest, columns, definition)


def _constraint_sql(index: Index, columns: tuple[str, ...]) -> str:
    """Return the definition of a constraint in full: PostgreSQL's own leaves options and tablespace out."""
    told = index.constraint_sql or ""
    if told.startswith("EXCLUDE"):
        return told
    nulls = " nulls not distinct" if told.startswith("UNIQUE NULLS NOT DISTINCT") else ""
    parts = [
        f"primary key ({quote_idents(columns)})" if index.is_primary else f"unique{nulls} ({quote_idents(columns)})",
        f"include ({quote_idents(index.included)})" if index.included else "",
        f"with ({quote_options(index.options)})" if index.options else "",
        f"using index tablespace {quote_ident(index.tablespace)}" if index.tablespace else "",
        index.deferrable,
    ]
    return " ".join(filter(None, parts))


def index_rest(index: Index, columns: tuple[str, ...]) -> str:
    """Return the definition of a unique index like another one over other columns, from USING on."""
    parts = [
        f"using btree ({quote_idents(columns)})",
        f"include ({quote_idents(index.included)})" if index.included else "",
        f"with ({quote_options(index.options)})" if index.options else "",
        f"tablespace {quote_ident(index.tablespace)}" if index.tablespace else "",
    ]
    return " ".join(filter(None, parts))


def index_statements(source: Table, target: Table, shape: Shape) -> list[tuple[list[str], str]]:
    """Return what is missing: for each index the statements of the leaves, then that of the parent, if it gets one."""
    work: list[tuple[list[str], str]] = []
    catalog_names = {index.name for index in target.indexes}
    for plan in plan_indexes(source, shape):
        parent = plan.parent_name(target.name)
        if parent in catalog_names:
            continue
        leaves = [plan.sql(leaf.name, plan.leaf_name(leaf.name)) for leaf in target.partitions]
        work.append((leaves, plan.sql(target.name, parent) if plan.on_parent else ""))
    return work


@dataclass(frozen=True, slots=True)
class IndexBuilder:
    """Builds the planned indexes on every leaf, then on the parent, which adopts those of the leaves."""

    database: Database
    files: SqlFiles
    shape: Shape
    workers: int
    on_progress: Callable[[int, int], None]
    turns: Turns = FREE

    def run(self) -> int:
        """Build what is missing; return how many indexes of leaves were built."""
        with connect(self.database, role="indexes") as conn:
            catalog = Catalog(conn, self.files)
            source, target = catalog.read(self.shape.names.source), catalog.read(self.shape.names.target)
            there = _leaf_indexes(conn, target)
            work = index_statements(source, target, self.shape)
            missing = [statement for leaves, _ in work for statement in leaves if _index_name(statement) not in there]
            statements = [as_query(statement) for statement in missing]
            run_in_sessions(self.database, "index", statements, self.workers, self.turns, self.on_progress)
            for _, parent in work:
                if parent:
                    conn.execute(as_query(parent))
        return len(missing)


def _index_name(statement: str) -> str:
    """Return the name of the index or constraint that a statement of ours makes, unquoted."""
    match = re.search(r'(?:add constraint|index) "((?:[^"]|"")*)"', statement)
    return match[1].replace('""', '"') if match else ""


def _leaf_indexes(conn: Connection, target: Table) -> set[str]:
    rows = conn.execute(
        "select i.relname from pg_catalog.pg_index as x join pg_catalog.pg_class as i on i.oid = x.indexrelid "
        "where x.indrelid = any(%s::oid[]) and x.indisvalid",
        [[leaf.oid for leaf in target.partitions]],
    )
    return {row[0] for row in rows}


def carry_sql(conn: Connection, files: SqlFiles, shape: Shape, source: Table, target: Table) -> str:
    """Return the statements that carry what hangs on the indexes and late constraints of the source."""
    names = {plan.source_name: plan.parent_name(target.name) for plan in plan_indexes(source, shape)}
    return files.render("switchover/target/carry.sql.j2", **late_values(conn, files, source, target, names))
