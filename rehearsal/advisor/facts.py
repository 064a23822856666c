"""What a live table is like: size, candidates for the partition key, and how fast a sample of it is copied.

Reads catalogs and statistics; the sample goes to a temporary table in a transaction that is rolled back. Takes
ACCESS SHARE only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from rehearsal.catalog.keys import Key, read_key, read_key_range
from rehearsal.catalog.keytypes import TIMES
from rehearsal.catalog.tables import Catalog, Name, Table
from rehearsal.plan.model import TableSpec
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles

SAMPLE_PERCENT = 1.0
# A percent of less is over before a clock can tell; of more, half a minute is enough to know.
MIN_BLOCKS, MAX_BLOCKS = 2_000, 60_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A column that the table could be partitioned by, as statistics and (where it is indexed) its ends show it."""

    key: Key
    not_null: bool
    null_fraction: float | None
    distinct: float | None
    correlation: float | None
    common: tuple[str, ...]
    is_indexed: bool
    in_primary: bool
    oldest: Any
    newest: Any

    @property
    def name(self) -> str:
        """Name of the column."""
        return self.key.name


@dataclass(frozen=True, slots=True)
class Sample:
    """A timed copy of a part of the table, in one session, without indexes."""

    rows: int
    seconds: float
    percent: float

    @property
    def rows_per_second(self) -> float:
        """Pace of one session."""
        return self.rows / max(self.seconds, 1e-6)


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table as the advisor sees it; `free_bytes` is None where the disk cannot be seen from here."""

    table: Table
    rows: int
    bytes: int
    index_bytes: int
    writes: dict[str, int]
    candidates: tuple[Candidate, ...]
    sample: Sample | None
    free_bytes: int | None = None


def read_table_facts(conn: Connection, files: SqlFiles, name: Name, *, free_bytes: int | None = None) -> TableFacts:
    """Look at a live table.

    Raises:
        PreconditionError: there is no such table.
    """
    table = Catalog(conn, files).read(name)
    sizes = _rows(conn, files, "sizes", table)[0]
    columns = _rows(conn, files, "columns", table)
    return TableFacts(
        table,
        sizes["rows"],
        sizes["bytes"],
        sizes["index_bytes"],
        {name: sizes[name] for name in ("inserted", "updated", "deleted")},
        tuple(_candidate(conn, files, table, row) for row in columns if not table.column(row["name"]).generated),
        copy_sample(conn, table, sizes["blocks"]),
        free_bytes,
    )


def _rows(conn: Connection, files: SqlFiles, query: str, table: Table) -> list[dict[str, Any]]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(files.query(f"advisor/{query}.sql"), {"oid": table.oid}).fetchall()


def _candidate(conn: Connection, files: SqlFiles, table: Table, row: dict[str, Any]) -> Candidate:
    spec = TableSpec(name=".".join(table.name), key=row["name"])
    key = read_key(conn, files, table, spec)
    # Only an index makes this cheap; else the ends of the planner's sample must do.
    oldest, newest = row["sample_low"], row["sample_high"]
    if row["is_indexed"]:
        oldest, newest = read_key_range(conn, table.name, key.name, is_time=key.base in TIMES)
    return Candidate(
        key,
        row["not_null"],
        row["null_fraction"],
        row["distinct_values"],
        row["correlation"],
        tuple(row["common"] or ()),
        row["is_indexed"],
        row["name"] in table.primary_key,
        oldest,
        newest,
    )


def copy_sample(conn: Connection, table: Table, blocks: int) -> Sample | None:
    """Copy about a percent of the blocks into a temporary table, and roll back; None where that is not allowed."""
    share = 100 / max(blocks, 1)
    percent = min(100.0, max(SAMPLE_PERCENT, MIN_BLOCKS * share), MAX_BLOCKS * share)
    query = sql.SQL("create temporary table rehearsal_sample as select * from only {} tablesample system ({})")
    try:
        with conn.transaction(force_rollback=True):
            conn.execute("set local statement_timeout = '60s'")
            started = time.monotonic()
            rows = conn.execute(query.format(sql.Identifier(*table.name), sql.Literal(percent))).rowcount
            seconds = time.monotonic() - started
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.QueryCanceled):
        return None
    return Sample(rows, seconds, percent) if rows > 0 else None
