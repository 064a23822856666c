"""Where the statements of the application can be looked at: the view of pg_stat_statements, if it can be asked."""

from __future__ import annotations

from psycopg import errors, sql

from rehearsal.postgres.connection import Connection

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
