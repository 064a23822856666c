"""Digest of the rows that no writer of a rehearsal touches: the same before and after, or something changed them.

With strategy attach no row is copied, so there are no two tables to compare; what can be compared is the table with
itself, before and after. Rows of the load (by its marks) and rows that came later (by primary key) are left out, as in
`figures`; rows of the rehearsal's own that stand outside history are counted in.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from rehearsal.catalog.tables import Catalog, Name, Table
from rehearsal.errors import CannotSee
from rehearsal.load.ledger import MARKER_PREFIX
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query, quote_ident
from rehearsal.switchover.parity.pair import read_encodings
from rehearsal.switchover.parity.values import FRESH

WITNESS = "rehearsal witness"


@dataclass(frozen=True, slots=True)
class Untouched:
    """Count and digest of a table's untouched rows."""

    rows: int
    digest: int

    def __str__(self) -> str:
        """Return it for people."""
        return f"{self.rows:,} rows, digest {self.digest % 2**32:08x}"


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the untouched rows of one planned table, whatever shape it has just now."""

    files: SqlFiles
    spec: TableSpec
    primary: str
    upto: int | None

    def read(self, conn: Connection, table: Name) -> Untouched:
        """Count and digest as the session sees the table."""
        found = Catalog(conn, self.files).read(table)
        query = self.files.query(
            "checks/untouched.sql.j2",
            table=table,
            columns=read_encodings(conn, self.files, found, portable=True),
            marker=self.spec.marker,
            prefix=f"{MARKER_PREFIX}%",
            primary=self.primary,
            upto=self.upto,
            witness=f"{WITNESS}%" if self.spec.marker else None,
        )
        ((rows, digest),) = conn.execute(query).fetchall()
        return Untouched(rows, int(digest))


def make_witnesses(conn: Connection, files: SqlFiles, table: Table, spec: TableSpec, until: str, count: int) -> int:
    """Write rows outside history: copies of old rows with new keys; then change, delete and move some of them.

    Returns how many rows are outside history in the end.

    Raises:
        CannotSee: rows cannot be made; says why, as `unmakeable` does.
    """
    if why := unmakeable(table, spec):
        message = f"rows outside the history of {spec.name} cannot be made: {why}"
        raise CannotSee(message)
    kind = table.column(spec.key).type_name
    values = {"table": table.name, "key": spec.key, "key_type": kind, "marker": spec.marker, "until": until}
    own = {**values, "columns": _copied(table, spec), "row_key": _row_key(table, spec), "fresh": _fresh(table, spec)}
    text = files.render("checks/witnesses.sql.j2", **own, witness=WITNESS, count=count)
    with conn.transaction():
        conn.execute(as_query(text))
    outside = sql.SQL("select count(*) from {} where {} >= {}").format(
        sql.Identifier(*table.name), sql.Identifier(spec.key), sql.Literal(until)
    )
    return int(scalar(conn, outside))


def unmakeable(table: Table, spec: TableSpec) -> str | None:
    """Return why rows of the rehearsal's own cannot be written into a table, or None."""
    if spec.marker is None:
        return "the plan names no marker column"
    if _defaults(table, spec) or _row_key(table, spec):
        return None
    own = [name for name in table.primary_key if name != spec.key]
    if not own:
        return f"its primary key is {spec.key} alone"
    return f"column {own[0]} has no default, and its type {table.column(own[0]).type_name} is none that can be made up"


def _defaults(table: Table, spec: TableSpec) -> list[str]:
    """Return the columns of the primary key that the server fills."""
    own = [table.column(name) for name in table.primary_key if name != spec.key]
    return [column.name for column in own if column.default_sql or column.identity]


def _row_key(table: Table, spec: TableSpec) -> str | None:
    """Return the column of the primary key to make up, where the server fills none."""
    if _defaults(table, spec):
        return None
    # The last one: what stands before it is rather a tenant or a device, of which there is a row elsewhere.
    own = [name for name in reversed(table.primary_key) if name != spec.key]
    return next((name for name in own if table.column(name).type_name in FRESH), None)


def _fresh(table: Table, spec: TableSpec) -> str | None:
    """Return the expression for a new row's key, far beyond those that the application draws meanwhile."""
    if (name := _row_key(table, spec)) is None:
        return None
    place, column = quote_ident(table.name), quote_ident(name)
    top = f"(select max({column}) from {place}) + 1000000"  # noqa: S608 -- quoted
    return FRESH[table.column(name).type_name].format(own=f"(taken.row).{column}", top=top, n="taken.n")


def _copied(table: Table, spec: TableSpec) -> list[str]:
    """Return the columns that a copy of a row takes over: not the key, the marker, nor what is new in each row."""
    found = _row_key(table, spec)
    new = {spec.key, spec.marker, *_defaults(table, spec), *([found] if found else [])}
    return [name for name in table.stored_columns if name not in new]


def change_witnesses(conn: Connection, table: Name, spec: TableSpec) -> int:
    """Change the marks of the rehearsal's own rows, and nothing else, in the caller's transaction.

    Returns how many are another one now: a trigger of the application may have put the old mark back.

    Raises:
        CannotSee: the plan names no marker column.
    """
    if spec.marker is None:
        message = f"table {spec.name} has no marker column in the plan, so rows of the rehearsal cannot be told apart"
        raise CannotSee(message)
    statement = sql.SQL(
        "update {t} as x set {m} = translate(was.mark, '0123456789', '1234567890') "
        "from (select tableoid, ctid, {m}::text as mark from {t} where {m} like {w}) as was "
        "where x.tableoid = was.tableoid and x.ctid = was.ctid returning x.{m}::text <> was.mark"
    )
    names = {"t": sql.Identifier(*table), "m": sql.Identifier(spec.marker), "w": sql.Literal(f"{WITNESS}%")}
    return sum(bool(row[0]) for row in conn.execute(statement.format(**names)).fetchall())


def drop_witnesses(conn: Connection, table: Name, spec: TableSpec) -> int:
    """Delete the rehearsal's own rows; return how many there were."""
    statement = sql.SQL("delete from {} where {} like {}").format(
        sql.Identifier(*table), sql.Identifier(spec.marker or ""), sql.Literal(f"{WITNESS}%")
    )
    return conn.execute(statement).rowcount
