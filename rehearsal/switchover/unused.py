"""Whether sessions use a table that is about to go: watched for a while, since statistics say nothing of who it was.

Owns what is looked at: locks of open transactions, the text of statements, and scans that no mirror explains. Reads
only. What a replica reads is not seen, nor what a session runs that hides its statements; those are counted.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.rows import class_row

from rehearsal.catalog.tables import Name, dotted
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident

LOOK_EVERY_S = 0.1
# A table of so few pages may be read whole by a mirror that looks for one row.
SMALL_PAGES = 64
SHOWN = 5
# Sessions of ours have read it a moment ago, and report that as they end.
OURS = """
select count(*) from pg_catalog.pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and starts_with(application_name, 'pg-rehearsal parity')
"""
HIDDEN = """
select count(*) from pg_catalog.pg_stat_activity
where datname = current_database() and backend_type = 'client backend' and query = '<insufficient privilege>'
"""
FLUSH = "select pg_catalog.pg_stat_force_next_flush()"
VERBS = r"\y(from|join|into|update|table|only|using|copy|references)\s+(only\s+)?"


def named_in(table: Name) -> str:
    """Return a regular expression of PostgreSQL for text that names a table where statements name one.

    >>> '("t"|t)' in named_in(("public", "t"))
    True
    """
    schema, name = (_escaped(part) for part in table)
    return rf'{VERBS}("?{schema}"?\s*[.]\s*)?("{name}"|{name})(?![[:alnum:]_$"])'


def _escaped(name: str) -> str:
    return re.sub(r"(\W)", r"\\\1", name.replace('"', '""'))


@dataclass(frozen=True, slots=True)
class Counters:
    """What the server has counted of a table that is watched, and of writes to the one that stays.

    `referred`: foreign keys look up rows of it; `viewed`: what reads it by a view or a parsed body goes along.
    """

    seq_scans: int
    other_scans: int
    pages: int
    referred: bool
    viewed: bool
    written: int


@dataclass(frozen=True, slots=True)
class Watched:
    """A table that is about to go, and the one that stays."""

    going: Name
    staying: Name


def watch_unused(conn: Connection, files: SqlFiles, tables: Sequence[Watched], seconds: float) -> list[str]:
    """Watch tables for so long, all of them at once; return what was seen, a sentence each.

    Raises:
        PreconditionError: somebody uses one; names the session, or what was counted. Nothing was changed.
    """
    _let_ours_report(conn, seconds)
    began = scalar(conn, "select pg_catalog.clock_timestamp()")
    before = [_count(conn, files, table) for table in tables]
    deadline = time.monotonic() + seconds
    while True:
        for table in tables:
            _refuse_users(conn, files, table, began)
        if time.monotonic() >= deadline:
            break
        time.sleep(LOOK_EVERY_S)
    return [_judged(conn, files, table, then, seconds) for table, then in zip(tables, before, strict=True)]


def _let_ours_report(conn: Connection, seconds: float) -> None:
    """Wait for what we have read ourselves to be counted, so that it is not taken for somebody else's."""
    if conn.info.server_version >= 150000:
        conn.execute(FLUSH)
    deadline = time.monotonic() + seconds
    while scalar(conn, OURS) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)


def _refuse_users(conn: Connection, files: SqlFiles, table: Watched, began: object) -> None:
    values = {"going": quote_ident(table.going), "named": named_in(table.going), "began": began}
    rows = conn.execute(files.query("switchover/unused_sessions.sql"), values).fetchall()
    if rows:
        told = "; ".join(row[0] for row in rows[:SHOWN])
        message = (
            f"{dotted(table.going)} is used still: {told}. Let it use {dotted(table.staying)}, or end it, then run "
            "again. Nothing was dropped"
        )
        raise PreconditionError(message)


def _count(conn: Connection, files: SqlFiles, table: Watched) -> Counters:
    values = {"going": quote_ident(table.going), "staying": quote_ident(table.staying)}
    with conn.cursor(row_factory=class_row(Counters)) as cursor:
        row = cursor.execute(files.query("switchover/unused_counters.sql"), values).fetchone()
    return row or Counters(0, 0, 0, referred=False, viewed=False, written=0)


def _judged(conn: Connection, files: SqlFiles, table: Watched, before: Counters, seconds: float) -> str:
    now = _count(conn, files, table)
    whole, others, writes = (
        now.seq_scans - before.seq_scans, now.other_scans - before.other_scans, now.written - before.written
    )  # fmt: skip
    # Mirrors look for single rows by the primary key, and so do keys that refer to the table.
    quiet = writes == 0 and not now.referred
    read = (whole > 0 and (quiet or now.pages > SMALL_PAGES)) or (others > 0 and quiet)
    if read and not now.viewed:
        message = (
            f"{dotted(table.going)} was read in the last {seconds:g} s ({whole} whole scans, {others} by an index) and "
            f"{dotted(table.staying)} written {writes} times, so it was not the mirrors: find who it is "
            "(pg_stat_statements, the log), then run again. Nothing was dropped"
        )
        raise PreconditionError(message)
    hidden = scalar(conn, HIDDEN)
    unseen = f"; what {hidden} sessions run is hidden from this role, which lacks pg_read_all_stats" if hidden else ""
    return (
        f"{dotted(table.going)} was watched for {seconds:g} s: no session held it open to read and no statement named "
        f"it; {whole} whole scans, {others} by an index beside {writes} writes through "
        f"{dotted(table.staying)}{unseen}"
    )
