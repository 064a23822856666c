"""Production-like rows, declared in the plan and made on the server.

Each value is a pure function of (seed, table, column, row number), so two runs of one seed make the same rows. Owns
the filling of empty tables on throwaway environments and the check of their monthly distribution. Must not know how
the tables were made.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from psycopg import sql

from rehearsal.errors import PlanError, PreconditionError
from rehearsal.plan.model import DataTable, Plan
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import as_query
from rehearsal.synthetic.insert_sql import Declaration, render_insert

Progress = Callable[[str, int, int], None]
BLOCK_ROWS = 100_000


def _silent(table: str, done: int, rows: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, slots=True)
class TableData:
    """What was made in one table; `made` is 0 when its rows were there already."""

    table: str
    rows: int
    made: int
    seconds: float

    @property
    def rows_per_second(self) -> float:
        """Pace of the rows made in this run."""
        return self.made / self.seconds if self.made and self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class MonthCount:
    """Rows of one full month, and the least and most that the plan allows at this scale."""

    table: str
    month: date
    rows: int
    least: int
    most: int

    @property
    def passed(self) -> bool:
        """Whether the month is within the plan's limits."""
        return self.least <= self.rows <= self.most

    def __str__(self) -> str:
        """Return the month as a sentence."""
        return f"{self.month:%Y-%m} with {self.rows:,} rows, wanted {self.least:,} to {self.most:,}"


def make_data(
    conn: Connection, plan: Plan, *, scale: float = 1.0, anchor: date, on_progress: Progress = _silent
) -> list[TableData]:
    """Fill the plan's tables with generated rows that end at `anchor` (exclusive, midnight UTC), and analyse them.

    One transaction a table, so that a killed run leaves a table as it was; a table that has its rows is left alone.
    Indexes without a constraint are dropped in it and built again after the rows, which takes an ACCESS EXCLUSIVE lock:
    throwaway environments only. Foreign keys are not checked row by row where the role may say so, since references are
    drawn from rows that exist. The session must be in autocommit mode.

    Raises:
        PlanError: a column cannot be made as declared.
        PreconditionError: a table is missing, or has rows that this did not make.
    """
    made: list[TableData] = []
    for table in plan.data.tables:
        source = _read_source(conn, plan, table, anchor)
        made.append(_make_table(source, conn, _planned_rows(table, scale), on_progress))
    return made


def check_distribution(conn: Connection, plan: Plan, *, scale: float = 1.0) -> list[MonthCount]:
    """Count the rows of each full month of the tables whose plan gives limits, which shrink with `scale`."""
    keys = {table.name: table.key for table in plan.tables}
    limited = [table for table in plan.data.tables if table.month_min is not None or table.month_max is not None]
    return [
        count for table in limited for count in _months(conn, table, keys[table.name], scale if table.scaled else 1.0)
    ]


def _planned_rows(table: DataTable, scale: float) -> int:
    return round(table.rows * scale) if table.scaled else table.rows


def _make_table(source: Declaration, conn: Connection, rows: int, on_progress: Progress) -> TableData:
    started = time.monotonic()
    name = source.table.name
    if _has_its_rows(conn, source.table, rows):
        on_progress(name, rows, rows)
        return TableData(name, rows, 0, time.monotonic() - started)
    with conn.transaction():
        _skip_foreign_keys(conn)
        indexes = _drop_indexes(conn, name)
        for lower in range(0, rows, BLOCK_ROWS):
            on_progress(name, lower, rows)
            conn.execute(render_insert(source, lower + 1, min(rows, lower + BLOCK_ROWS)))
        for definition in indexes:
            conn.execute(as_query(definition))
        _set_sequence(conn, source.table)
    # Index-only scans need the visibility map, as they have it in production.
    conn.execute(sql.SQL("vacuum (analyze) {}").format(_table(name)))
    on_progress(name, rows, rows)
    return TableData(name, rows, rows, time.monotonic() - started)


def _has_its_rows(conn: Connection, table: DataTable, rows: int) -> bool:
    there = int(scalar(conn, sql.SQL("select count(*) from {}").format(_table(table.name))))
    if 0 < there < rows:
        message = (
            f"table {table.name} has {there} rows, neither none nor the {rows} of the plan; use a fresh database, "
            "or truncate the table, or ask for as many rows as last time"
        )
        raise PreconditionError(message)
    return there >= rows


INDEXES = """
select pg_catalog.pg_get_indexdef(i.indexrelid), n.nspname, c.relname
from pg_catalog.pg_index as i
join pg_catalog.pg_class as c on c.oid = i.indexrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where i.indrelid = pg_catalog.to_regclass(%s) and not i.indisreplident and not i.indisclustered
      and pg_catalog.obj_description(i.indexrelid, 'pg_class') is null
      and not exists (select from pg_catalog.pg_constraint as k where k.conindid = i.indexrelid)
order by i.indexrelid
"""


def _drop_indexes(conn: Connection, name: str) -> list[str]:
    """Drop the indexes that their definition alone makes again; returns the definitions."""
    rows = conn.execute(INDEXES, [_table(name).as_string(conn)]).fetchall()
    for row in rows:
        conn.execute(sql.SQL("drop index {}").format(sql.Identifier(row[1], row[2])))
    return [str(row[0]) for row in rows]


def _skip_foreign_keys(conn: Connection) -> None:
    """Spare two index probes a row, which are half of the cost; needs superuser or GRANT SET ON PARAMETER."""
    allowed = scalar(
        conn,
        "select pg_catalog.has_parameter_privilege('session_replication_role', 'SET')"
        if conn.info.server_version >= 150000
        else "select rolsuper from pg_catalog.pg_roles where rolname = current_user",
    )
    if allowed:
        conn.execute("set local session_replication_role = replica")


def _set_sequence(conn: Connection, table: DataTable) -> None:
    """Let the next row of the application get an id past the rows made."""
    column = _sequence_column(table)
    if column is None:
        return
    query = sql.SQL(
        "select pg_catalog.setval(s.name, greatest((select max({}) from {}), 1)) "
        "from (select pg_catalog.pg_get_serial_sequence({}, {})) as s (name) where s.name is not null"
    )
    relation = _table(table.name)
    conn.execute(
        query.format(sql.Identifier(column), relation, sql.Literal(relation.as_string(conn)), sql.Literal(column))
    )


def _sequence_column(table: DataTable) -> str | None:
    return next((name for name, column in table.columns.items() if column.kind == "sequence"), None)


def _table(name: str) -> sql.Identifier:
    return sql.Identifier(*name.split(".", 1))


TYPES = """
select a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod)
from pg_catalog.pg_attribute as a
where a.attrelid = pg_catalog.to_regclass(%s) and a.attnum > 0 and not a.attisdropped
"""
IDS = """
select pg_catalog.count(*), coalesce(pg_catalog.min({id}), 0), coalesce(pg_catalog.max({id}), 0) from {table}
"""


def _read_source(conn: Connection, plan: Plan, table: DataTable, anchor: date) -> Declaration:
    """Read what the declaration leaves to the catalog: types of columns, and ids that references are drawn from."""
    rows = conn.execute(TYPES, [_table(table.name).as_string(conn)]).fetchall()
    types: dict[str, str] = {str(row[0]): str(row[1]) for row in rows}
    if not types:
        raise PreconditionError(f"table {table.name} does not exist; apply the plan's migrations first")
    if unknown := sorted(set(table.columns) - set(types)):
        raise PlanError(f"data of {table.name}: no column {unknown[0]}; the columns are: {', '.join(types)}")
    parents = {column.table for column in table.columns.values() if column.kind == "reference" and column.table}
    return Declaration(
        plan.data.seed, table, types, {parent: _read_ids(conn, plan, parent) for parent in parents}, anchor
    )


def _read_ids(conn: Connection, plan: Plan, parent: str) -> tuple[int, int]:
    """Return the first id of a table and how many there are; they must have no gaps."""
    declared = next((table for table in plan.data.tables if table.name == parent), None)
    if declared is None:
        raise PlanError(f"data of {parent}: it is referred to, and [data] makes no rows of it; add it to data.tables")
    column = _sequence_column(declared)
    if column is None:
        raise PlanError(f"data of {parent}: it is referred to, so one column must be of kind sequence")
    query = sql.SQL(IDS).format(id=sql.Identifier(column), table=_table(parent))
    count, lowest, highest = conn.execute(query).fetchall()[0]
    # Rows that the application added later are no part of the data, and must not change what is made.
    wanted = declared.rows
    if count < wanted or lowest != 1 or highest < wanted:
        raise PreconditionError(f"table {parent} has {count} rows, ids {lowest} to {highest}; 1 to {wanted} are needed")
    return 1, wanted


MONTHS = """
with edges as (select min({key})::timestamp as oldest, max({key})::timestamp as newest from {table})
select date_trunc('month', {key}::timestamp)::date as month, count(*)
from {table}, edges
where {key}::timestamp >= date_trunc('month', oldest - interval '1 day') + interval '1 month'
      and {key}::timestamp < date_trunc('month', newest + interval '1 day')
group by 1
order by 1
"""


def _months(conn: Connection, table: DataTable, key: str, scale: float) -> list[MonthCount]:
    query = sql.SQL(MONTHS).format(key=sql.Identifier(key), table=_table(table.name))
    least = _shrunk(table.month_min or 0, scale, -1)
    most = _shrunk(table.month_max, scale, 1) + 1 if table.month_max is not None else 2**63
    return [MonthCount(table.name, row[0], row[1], least, most) for row in conn.execute(query).fetchall()]


def _shrunk(limit: int, scale: float, direction: int) -> int:
    """Return a month's limit at a smaller scale, where chance weighs more: four standard deviations are let pass."""
    chance = 4 * math.sqrt(limit * scale) if scale < 1 else 0.0
    return max(0, int(limit * scale + direction * chance))
