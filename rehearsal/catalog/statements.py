"""Where the statements of the application can be looked at: the view of pg_stat_statements, if it can be asked."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import errors, sql

from rehearsal.postgres.connection import Connection, scalar

EXTENSION = """
select n.nspname
from pg_catalog.pg_extension as e
join pg_catalog.pg_namespace as n on n.oid = e.extnamespace
where e.extname = 'pg_stat_statements'
"""


def statements_view(conn: Connection, name: str = "pg_stat_statements") -> sql.Identifier | None:
    """Return the view, or another one of the extension.

    None where the extension is not made in the database, or its library is not loaded. The latter is tried: the setting
    that names libraries is hidden from most roles.
    """
    row = conn.execute(EXTENSION).fetchone()
    view = sql.Identifier(str(row[0]), name) if row else None
    if view is None:
        return None
    try:
        with conn.transaction():
            conn.execute(sql.SQL("select from {} limit 1").format(view))
    except (errors.ObjectNotInPrerequisiteState, errors.UndefinedTable):
        return None
    return view


CALLS = """
select s.userid::bigint, s.queryid, sum(s.calls)::bigint, min(s.query)
from {view} as s
where s.toplevel and pg_catalog.strpos(pg_catalog.lower(s.query), pg_catalog.lower(%s)) > 0
      and s.dbid = (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())
group by s.userid, s.queryid
"""
ROUND = "select stats_reset::text, dealloc from {view}"


@dataclass(frozen=True, slots=True)
class Called:
    """How often each statement of clients was run whose text has a name in it, by user and number of the statement.

    `since`: when they were last reset; `forgotten`: how often the rarest of them were.
    """

    calls: dict[tuple[int, int], tuple[int, str]]
    since: str
    forgotten: int


def read_called(conn: Connection, name: str) -> Called | None:
    """Return what pg_stat_statements knows of statements that have this name in them; None where it cannot be asked."""
    view, about = statements_view(conn), statements_view(conn, "pg_stat_statements_info")
    if view is None or about is None or scalar(conn, "show pg_stat_statements.track") == "none":
        return None
    with conn.transaction():
        rows = conn.execute(sql.SQL(CALLS).format(view=view), [name.replace('"', '""')]).fetchall()
        row = conn.execute(sql.SQL(ROUND).format(view=about)).fetchone()
    since, forgotten = row or ("", 0)
    return Called({(user, number): (calls, text) for user, number, calls, text in rows}, str(since), int(forgotten))
