"""Whether sessions use a table that is about to go: watched for a while, since statistics say nothing of who it was.

Owns what is looked at: locks of open transactions, the text of statements, how often pg_stat_statements counted them,
and scans that no mirror explains. Reads only. What a replica reads is not seen, nor a name that a function makes up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from psycopg.rows import class_row

from rehearsal.catalog.statements import Called, read_called
from rehearsal.catalog.tables import Name, dotted
from rehearsal.catalog.words import mentions_table
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident

LOOK_EVERY_S = 0.1
# A table of so few pages may be read whole by a mirror that looks for one row.
SMALL_PAGES = 64
SHOWN, SHOWN_TEXT = 5, 120
# Sessions of ours have read it a moment ago, and report that as they end.
OURS = """
select count(*) from pg_catalog.pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and starts_with(application_name, 'pg-rehearsal parity')
"""
FLUSH = "select pg_catalog.pg_stat_force_next_flush()"
LastLook = Callable[[Connection, Name], None]
SEES = "select pg_catalog.pg_has_role('pg_read_all_stats', 'usage')"
DISABLED = """
select count(*) from pg_catalog.pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and state = 'disabled'
"""
OWN = "select oid::bigint from pg_catalog.pg_roles where rolname = current_user"


@dataclass(frozen=True, slots=True)
class Counters:
    """What the server has counted of a table that is watched, and of writes to the one that stays.

    `referred`: foreign keys look up rows of it; `viewed`: what reads it by a view or a parsed body goes along.
    """

    seq_scans: int
    other_scans: int
    pages: int
    since: str | None
    referred: bool
    viewed: bool
    written: int


@dataclass(frozen=True, slots=True)
class Watched:
    """A table that is about to go, and the one that stays."""

    going: Name
    staying: Name


@dataclass(frozen=True, slots=True)
class Lookout:
    """What was known of tables as a watch of them began."""

    files: SqlFiles
    tables: Sequence[Watched]
    began: object
    counted: Sequence[Counters]
    called: Sequence[Called | None]

    @classmethod
    def begin(cls, conn: Connection, files: SqlFiles, tables: Sequence[Watched], seconds: float) -> Lookout:
        """Begin to watch, all tables at once.

        Raises:
            PreconditionError: what others run is hidden, so that a watch would see nobody. Nothing was changed.
        """
        _require_sight(conn)
        _let_ours_report(conn, seconds)
        began = scalar(conn, "select pg_catalog.clock_timestamp()")
        counted = [_count(conn, files, table) for table in tables]
        return cls(files, tables, began, counted, [read_called(conn, table.going[1]) for table in tables])

    @property
    def is_exact(self) -> bool:
        """Whether every statement of a client is counted, not only those of the moments of a look."""
        return None not in self.called

    def watch(self, conn: Connection, seconds: float) -> list[str]:
        """Watch for so long; return what was seen, a sentence each.

        Raises:
            PreconditionError: somebody uses a table; names the session, the statement or what was counted.
        """
        deadline = time.monotonic() + seconds
        while True:
            for table in self.tables:
                _refuse_users(conn, self.files, table, self.began)
            if time.monotonic() >= deadline:
                break
            time.sleep(LOOK_EVERY_S)
        _require_sight(conn)
        for table, called in zip(self.tables, self.called, strict=True):
            _refuse_called(conn, self.files, table, called)
        pairs = zip(self.tables, self.counted, strict=True)
        return [_judged(conn, self.files, table, then, seconds) + self._limits() for table, then in pairs]

    def last(self, held: Connection, going: Name) -> None:
        """Look once more, under the lock in which the table is about to be dropped: nobody can come any more.

        Raises:
            PreconditionError: somebody came since the watch began.
        """
        held.execute("select pg_catalog.pg_stat_clear_snapshot()")
        for table, called in zip(self.tables, self.called, strict=True):
            if table.going == going:
                _refuse_users(held, self.files, table, self.began)
                _refuse_called(held, self.files, table, called)

    def _limits(self) -> str:
        return "" if self.is_exact else "; without pg_stat_statements only the statements of moments were seen"


def _require_sight(conn: Connection) -> None:
    if not scalar(conn, SEES):
        user = scalar(conn, "select current_user::text")
        message = (
            f"{user} does not see what other sessions run, so nobody would be seen to use the source: "
            f"grant pg_monitor to {quote_ident((user,))}, then run again. Nothing was dropped"
        )
        raise PreconditionError(message)
    if disabled := scalar(conn, DISABLED):
        message = (
            f"{disabled} sessions do not say what they run (track_activities is off): switch it on, or end them, then "
            "run again. Nothing was dropped"
        )
        raise PreconditionError(message)


def _refuse_called(conn: Connection, files: SqlFiles, table: Watched, before: Called | None) -> None:
    now = read_called(conn, table.going[1])
    if before is None:
        return
    if now is None or now.since != before.since or _went_down(before, now):
        _refuse_reset("pg_stat_statements")
    own, ours = scalar(conn, OWN), files.headers()
    called = [
        f"{calls - before.calls.get(key, (0, ''))[0]} times: {' '.join(text.split())[:SHOWN_TEXT]}"
        for key, (calls, text) in now.calls.items()
        if calls > before.calls.get(key, (0, ""))[0]
        and _names(table, text)
        # So are texts of files, and the lock under which this looks.
        and text.lstrip().partition("\n")[0].strip() not in ours
        and not (key[0] == own and text.startswith("lock table "))
    ]
    if called:
        _refuse(table, [f"statements of clients name it, {said}" for said in called])


def _went_down(before: Called, now: Called) -> bool:
    """Return whether a count went down, or is gone though nothing was forgotten."""
    forgot = now.forgotten != before.forgotten
    return any(
        now.calls[key][0] < calls if key in now.calls else not forgot for key, (calls, _) in before.calls.items()
    )


def _refuse_reset(what: str) -> NoReturn:
    message = f"{what} was reset meanwhile, so what was counted says nothing: run again. Nothing was dropped"
    raise PreconditionError(message)


def _names(table: Watched, text: str) -> bool:
    return mentions_table(text, *table.going, besides=table.staying[1])


def _let_ours_report(conn: Connection, seconds: float) -> None:
    """Wait for what we have read ourselves to be counted, so that it is not taken for somebody else's."""
    if conn.info.server_version >= 150000:
        conn.execute(FLUSH)
    deadline = time.monotonic() + seconds
    while scalar(conn, OURS) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)


def _refuse_users(conn: Connection, files: SqlFiles, table: Watched, began: object) -> None:
    name = table.going[1].replace('"', '""')
    values = {"going": quote_ident(table.going), "name": name, "began": began}
    rows = conn.execute(files.query("switchover/unused_sessions.sql"), values).fetchall()
    if told := [f"{who}{text[:SHOWN_TEXT]}" for who, text, holds in rows if holds or _names(table, text)]:
        _refuse(table, told)


def _refuse(table: Watched, told: Sequence[str]) -> NoReturn:
    message = (
        f"{dotted(table.going)} is used still: {'; '.join(told[:SHOWN])}. Let it use {dotted(table.staying)}, or end "
        "it, then run again. Nothing was dropped"
    )
    raise PreconditionError(message)


def _count(conn: Connection, files: SqlFiles, table: Watched) -> Counters:
    values = {"going": quote_ident(table.going), "staying": quote_ident(table.staying)}
    with conn.cursor(row_factory=class_row(Counters)) as cursor:
        row = cursor.execute(files.query("switchover/unused_counters.sql"), values).fetchone()
    return row or Counters(0, 0, 0, None, referred=False, viewed=False, written=0)


def _judged(conn: Connection, files: SqlFiles, table: Watched, before: Counters, seconds: float) -> str:
    now = _count(conn, files, table)
    whole, others, writes = (
        now.seq_scans - before.seq_scans, now.other_scans - before.other_scans, now.written - before.written
    )  # fmt: skip
    if min(whole, others, writes) < 0 or now.since != before.since:
        _refuse_reset("what the server counts of tables")
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
    return (
        f"{dotted(table.going)} was watched for {seconds:g} s: no session held it open to read and no statement named "
        f"it; {whole} whole scans, {others} by an index beside {writes} writes through "
        f"{dotted(table.staying)}"
    )
