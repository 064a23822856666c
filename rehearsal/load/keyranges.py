"""Which keys the load may write: of which type, from where to where.

Owns what the load can make of each kind of partition key, and what it cannot. Reads only.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from psycopg import errors, sql

from rehearsal.catalog.keys import Key, read_key, read_key_range, spell_values
from rehearsal.catalog.keytypes import find_type
from rehearsal.catalog.tables import Catalog, Table, split_name
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError
from rehearsal.load.config import KeyRange
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.sqlfiles import SqlFiles

SQL_FOLDER = Path(__file__).resolve().parents[2] / "sql"


def read_key_ranges(database: Database, plan: Plan, files: SqlFiles | None = None) -> dict[str, KeyRange]:
    """Read where the keys of each planned table may lie: between the least one that is there and the present.

    Raises:
        PreconditionError: a table or its key is not there, or the load can make no new keys for it.
    """
    with connect(database, role="load keys") as conn:
        conn.execute("set statement_timeout = '5s'")
        return {spec.name: _key_range(conn, files or SqlFiles(SQL_FOLDER), spec) for spec in plan.tables}


def _key_range(conn: Connection, files: SqlFiles, spec: TableSpec) -> KeyRange:
    table = Catalog(conn, files).find(split_name(spec.name))
    if table is None or all(column.name != spec.key for column in table.columns):
        message = f"table {spec.name} with column {spec.key} is not there; the load needs it before it starts"
        raise PreconditionError(message)
    key = read_key(conn, files, table, spec)
    if key.tells_time:
        if find_type(key.base, spec.epoch) is None:
            message = f"the load cannot make keys of type {key.type} ({spec.name}.{spec.key}) that tell the time"
            raise PreconditionError(message)
        least = _least(conn, table, key)
        return KeyRange(base=key.base, epoch=spec.epoch, lower=least or _this_month())
    if table.primary_key == (spec.key,):
        kind = find_type(key.base)
        if kind and kind.makes_fresh:
            return KeyRange(how="fresh", base=key.base)
        message = (
            f"the load cannot make new keys for {spec.name}: {spec.key} is the whole primary key; give it an insert "
            "through the application that draws the key itself, or rehearse without load on this table"
        )
        raise PreconditionError(message)
    return _others(conn, table, key)


def _others(conn: Connection, table: Table, key: Key) -> KeyRange:
    """Return keys that have a place: the numbers that are there, the values of a list, a sample of what is hashed."""
    if key.spec.method == "range":
        least, newest = read_key_range(conn, table.name, key.name, is_time=False)
        return KeyRange(how="number", base=key.base, numbers=(least or 0, newest or 0))
    if key.spec.method == "list":
        choices = [value for group in spell_values(conn, key).values() for value in group]
        return KeyRange(how="choice", base=key.base, choices=tuple(choices))
    query = sql.SQL("select distinct k::text from (select {} as k from {} limit 10000) as q order by 1 limit 200")
    found = conn.execute(query.format(sql.Identifier(key.name), sql.Identifier(*table.name))).fetchall()
    if not found:
        message = f"{key.spec.name} is empty, so there is no {key.name} that the load could write under; fill it first"
        raise PreconditionError(message)
    return KeyRange(how="choice", base=key.base, choices=tuple(row[0] for row in found))


def _least(conn: Connection, table: Table, key: Key) -> datetime | None:
    try:
        least, _ = read_key_range(conn, table.name, key.name, is_time=key.is_time)
    except errors.QueryCanceled:
        return None  # a big table without an index on its key: the load then keeps to this month
    return None if least is None else key.clock.instant(least)


def _this_month() -> datetime:
    return datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
