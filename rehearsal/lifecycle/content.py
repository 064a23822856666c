"""What a leaf holds: its columns, count and digest of its rows, and the way of its rows out of a table and into one.

Owns what of a table an archive carries. A digest is that of parity, and means the same in another database.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from psycopg import sql

from rehearsal.catalog.tables import Catalog, Name
from rehearsal.lifecycle.manifest import ArchivedColumn
from rehearsal.lifecycle.parquet import DATED, ParquetColumn, form_of, write_parquet
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.parity.pair import Encoded, read_encodings


@dataclass(frozen=True, slots=True)
class LeafContent:
    """Count and digest of a table's rows, and its columns with the form that each has in a file."""

    rows: int
    digest: str
    columns: tuple[ArchivedColumn, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns, in order."""
        return tuple(column.name for column in self.columns)


def read_content(conn: Connection, files: SqlFiles, name: Name, order: Sequence[str] | None = None) -> LeafContent:
    """Read all rows of a table; `order` says in which order columns enter the digest (that of the table).

    Locks: ACCESS SHARE. Reads each row once.

    Raises:
        PreconditionError: there is no such table, or it has no column of a name in `order`.
    """
    table = Catalog(conn, files).read(name)
    known = {column.name: column for column in read_encodings(conn, files, table, portable=True)}
    columns = [table.column(wanted) for wanted in (order or list(known))]
    encoded = [known[column.name] for column in columns]
    dated = [column for column in encoded if column.base in DATED]
    query = files.query("lifecycle/digest.sql.j2", table=name, columns=encoded, dated=dated)
    ((rows, digest, *fit),) = conn.execute(query).fetchall()
    fits = {column.name: fitting for column, fitting in zip(dated, fit, strict=True)}
    return LeafContent(
        rows,
        digest,
        tuple(
            ArchivedColumn(column.name, column.type, column.collation, bool(column.generated), _form(entry, fits))
            for column, entry in zip(columns, encoded, strict=True)
        ),
    )


def _form(column: Encoded, fits: dict[str, bool]) -> str:
    return form_of(column.base, fits=fits.get(column.name, True))


def copy_out(conn: Connection, name: Name, columns: Sequence[ArchivedColumn], target: BinaryIO) -> int:
    """Write all rows of a table as Parquet, in memory of one block; return how many. Locks: ACCESS SHARE.

    Raises:
        StepFailed: a row has no form in Parquet: a text that is no UTF-8, in a database without encoding.
        OSError: the disk is full, or the file cannot be written.
    """
    listed = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    query = sql.SQL("copy (select {} from only {}) to stdout (format csv)").format(listed, sql.Identifier(*name))
    forms = [ParquetColumn(column.name, column.form) for column in columns]
    with conn.cursor() as cursor, cursor.copy(query) as rows:
        return write_parquet(target, forms, iter(rows))


def copy_in(conn: Connection, name: Name, columns: Sequence[str], blocks: Iterable[memoryview]) -> None:
    """Write rows, as `read_parquet` yields them, into a table, in memory of one block."""
    listed = sql.SQL(", ").join(map(sql.Identifier, columns))
    query = sql.SQL("copy {} ({}) from stdin (format csv)").format(sql.Identifier(*name), listed)
    with conn.cursor() as cursor, cursor.copy(query) as rows:
        for block in blocks:
            rows.write(block)
