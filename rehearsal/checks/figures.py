"""Figures of the rows that were there at the baseline: rows, key range, distinct values, before and after.

Owns what "the same figures again after" means while writers are at work: rows that came later (by primary key) and
rows that carry the load's mark are left out, so what is left must not change at all.
"""

from __future__ import annotations

from psycopg import sql

from rehearsal.catalog.tables import Table
from rehearsal.load.ledger import MARKER_PREFIX
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection

INTEGERS = frozenset({"int2", "int4", "int8"})
# Not min and max, which uuid and others do not have. Ordered by the table's column: a bare name would be the text's.
ENDS = (
    "(select k.{key}::text from {table} as k where k.{key} is not null and {where} order by k.{key} limit 1)",
    "(select k.{key}::text from {table} as k where k.{key} is not null and {where} order by k.{key} desc limit 1)",
)


def newest_id(conn: Connection, table: Table) -> int | None:
    """Return the greatest value of a single-column integer primary key; None for any other key."""
    if len(table.primary_key) != 1 or table.column(table.primary_key[0]).type_name not in INTEGERS:
        return None
    query = sql.SQL("select max({}) from {}").format(sql.Identifier(table.primary_key[0]), sql.Identifier(*table.name))
    row = conn.execute(query).fetchone()
    return row[0] if row else None


def row_column(table: Table, key: str) -> str:
    """Return the column that tells rows apart: of the primary key, and the partition key only where it is all of it."""
    return next((column for column in table.primary_key if column != key), key)


def read_figures(
    conn: Connection, table: Table, spec: TableSpec, distinct: list[str], upto: int | None, primary: str
) -> dict[str, int | str | None]:
    """Return rows, oldest, newest and distinct values of the rows up to `upto` that the load did not touch."""
    conditions: list[sql.Composable] = [sql.SQL("true")]
    if upto is not None:
        conditions.append(sql.SQL("{} <= {}").format(sql.Identifier(primary), sql.Literal(upto)))
    if spec.marker:
        marker = sql.Identifier(spec.marker)
        pattern = sql.Literal(MARKER_PREFIX + "%")
        conditions.append(sql.SQL("({0} is null or {0} not like {1})").format(marker, pattern))
    wanted: list[sql.Composable] = [sql.SQL("count(*)")]
    table_name, where = sql.Identifier(*table.name), sql.SQL(" and ").join(conditions)
    wanted += [sql.SQL(end).format(key=sql.Identifier(spec.key), table=table_name, where=where) for end in ENDS]
    wanted += [sql.SQL("count(distinct {})").format(sql.Identifier(column)) for column in distinct]
    query = sql.SQL("select {} from {} where {}").format(sql.SQL(", ").join(wanted), table_name, where)
    row = conn.execute(query).fetchone() or ()
    return dict(zip(["rows", "oldest", "newest", *(f"distinct {column}" for column in distinct)], row, strict=True))
