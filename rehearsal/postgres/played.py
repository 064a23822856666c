"""The application's defaults within a transaction of ours: what its role and its database have set.

Owns how trigger tests, whose scratch pair nobody else may see, play the application all the same.
"""

from __future__ import annotations

import contextlib

from psycopg import errors

from rehearsal.postgres.connection import Connection

# The weakest first, as the server takes them: the database's, the role's, the role's in this database. Left out is what
# a transaction that is under way cannot play: its own isolation, limits of time, who it is and how it is encoded.
DEFAULTS = """
select split_part(c.pair, '=', 1), substr(c.pair, strpos(c.pair, '=') + 1)
from pg_catalog.pg_db_role_setting as s
cross join lateral unnest(s.setconfig) as c (pair)
left join pg_catalog.pg_roles as r on r.oid = s.setrole
left join pg_catalog.pg_database as d on d.oid = s.setdatabase
where (s.setrole = 0 or r.rolname = %s) and (s.setdatabase = 0 or d.datname = current_database())
      and c.pair !~ '^(default_transaction_\\w+|\\w+_timeout|role|session_authorization|client_encoding)='
order by s.setrole <> 0, s.setdatabase <> 0
"""


def read_defaults(conn: Connection, role: str) -> list[tuple[str, str]]:
    """Return the settings that a session of this role begins with in this database, the weakest first."""
    return [(name, value) for name, value in conn.execute(DEFAULTS, [role])]


def play(conn: Connection, defaults: list[tuple[str, str]]) -> None:
    """Give the caller's transaction these settings; one that our role may not set, or that is gone, stays as it is."""
    for name, value in defaults:
        with contextlib.suppress(errors.InsufficientPrivilege, errors.UndefinedObject), conn.transaction():
            conn.execute("select pg_catalog.set_config(%s, %s, true)", [name, value])
