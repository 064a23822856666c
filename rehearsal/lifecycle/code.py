"""The lifecycle functions in the database: installed at adoption, and compared with the files before they are asked.

Owns which texts belong to them. What is to be made or dropped is decided by these functions alone, so that a clock
without Python, a person with psql and this program all do the same.
"""

from __future__ import annotations

from psycopg import errors

from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles, checksum

TEXTS = (
    "tables.sql", "places.sql", "leaves.sql", "archive.sql", "retain.sql", "troubles.sql", "premake.sql", "figures.sql",
    "clock.sql", "cron.sql",
)  # fmt: skip
KEEP = """
insert into rehearsal.lifecycle_code (checksum) values (%s)
on conflict (only_one) do update set checksum = excluded.checksum, installed_at = now(), installed_by = session_user
"""


def code_text(files: SqlFiles) -> str:
    """Return all statements that make tables and functions."""
    return "\n".join(files.text(f"lifecycle/{name}") for name in TEXTS)


def install_code(conn: Connection, files: SqlFiles) -> bool:
    """Make tables and functions in schema `rehearsal`, in the caller's transaction; return whether anything changed.

    Locks: none on tables of the application. A second run changes nothing.
    """
    if is_current(conn, files):
        return False
    for name in TEXTS:
        conn.execute(files.query(f"lifecycle/{name}"))
    conn.execute(KEEP, [checksum(code_text(files))])
    return True


def installed_checksum(conn: Connection) -> str | None:
    """Return which version is installed; None if none is."""
    if conn.execute("select pg_catalog.to_regclass('rehearsal.lifecycle_code')").fetchone() == (None,):
        return None
    row = conn.execute("select checksum from rehearsal.lifecycle_code").fetchone()
    return str(row[0]) if row else None


def is_installed(conn: Connection) -> bool:
    """Return whether any version is installed: whether anything may be adopted in this database."""
    return installed_checksum(conn) is not None


def is_current(conn: Connection, files: SqlFiles) -> bool:
    """Return whether the version that is installed is this one."""
    return installed_checksum(conn) == checksum(code_text(files))


def require_code(conn: Connection, files: SqlFiles) -> None:
    """Refuse a database where the functions are not those of this version.

    Raises:
        PreconditionError: nothing is adopted there, or another version was at work.
    """
    try:
        found = installed_checksum(conn)
    except errors.InsufficientPrivilege as exc:
        message = f"the state of lifecycle cannot be read: {exc.diag.message_primary}; ask as the migrating role"
        raise PreconditionError(message) from exc
    if found is None:
        message = "no table of this database is adopted: run `./inv lifecycle.adopt` first"
        raise PreconditionError(message)
    if found != checksum(code_text(files)):
        message = "the lifecycle functions there are those of another version: run `./inv lifecycle.adopt` again"
        raise PreconditionError(message)
