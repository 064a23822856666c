"""Where the statements of the application can be looked at: the view of pg_stat_statements, if it can be asked."""

from __future__ import annotations

from psycopg import sql

from rehearsal.postgres import Connection

# By the view of settings: where the role may not see this one, that is no row, and not an error.
EXTENSION = r"""
select n.nspname
from pg_catalog.pg_extension as e
join pg_catalog.pg_namespace as n on n.oid = e.extnamespace
where e.extname = 'pg_stat_statements'
      and exists (select from pg_catalog.pg_settings as s
                  where s.name = 'shared_preload_libraries' and s.setting ~ '\mpg_stat_statements\M')
"""


def statements_view(conn: Connection, name: str = "pg_stat_statements") -> sql.Identifier | None:
    """Return the view, or another one of the extension.

    None where the extension is not made in the database, or its library is not loaded: asking would end with 55000.
    """
    row = conn.execute(EXTENSION).fetchone()
    return sql.Identifier(str(row[0]), name) if row else None
