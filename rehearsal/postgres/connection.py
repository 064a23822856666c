"""Sessions: the only door to a database.

Owns session settings, what an error of the driver means, and the advisory lock of a run. Must not know plans or tables.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from typing import Any

import psycopg
from psycopg import errors
from psycopg.rows import TupleRow

from rehearsal.environment import Database
from rehearsal.errors import ConnectionLost, PreconditionError, RehearsalError, StepFailed
from rehearsal.postgres.pinned import pinned_options, pinned_settings

Connection = psycopg.Connection[TupleRow]
# SQLSTATEs of a session that is over; None is the driver's own, when nobody answers any more.
ENDED = (None, "57P01", "57P02", "57P03", "57P05", "25P03", "08000", "08003", "08006")


def connect(database: Database, *, autocommit: bool = True, role: str = "engine") -> Connection:
    """Open a session with pinned settings; `role` names it in pg_stat_activity.

    No setting of the role, the database or the caller's shell decides what our statements mean. Server-side prepared
    statements are off: the statements of a migration change the tables under them.

    Raises:
        PreconditionError: the server does not answer or refuses the session, or the role has a setting that it may not
            take back; says where and why.
    """
    conn = _open(database, application_name=f"pg-rehearsal {role}", options=pinned_options())
    try:
        _pin(conn, database)
        conn.autocommit = autocommit
    except BaseException:
        conn.close()
        raise
    return conn


def connect_as_application(database: Database, *, role: str = "application") -> Connection:
    """Open a session as the application has it: with the defaults of its role and its database, nothing pinned.

    What a rehearsal would otherwise never meet (another isolation level, a short timeout) is met through this door.

    Raises:
        PreconditionError: the server does not answer or refuses the session; says where and why.
    """
    return _open(database, **as_application(role))


def as_application(role: str) -> dict[str, Any]:
    """Return what a session that plays the application gives to the driver: a name, and no setting at all.

    Empty options are not the same as none: then PGOPTIONS of the caller's shell would count.
    """
    return {"application_name": f"pg-rehearsal {role}", "options": ""}


PIN = """
select pg_catalog.current_setting('session_replication_role'),
       (select count(pg_catalog.set_config(name, value, false)) from unnest(%s::text[], %s::text[]) as p (name, value))
"""
REPLICA = (
    "role {user} has session_replication_role = {role} in database {database} and lacks privilege to set it: "
    "its writes would fire no trigger. Run `alter role … reset session_replication_role` (or `alter database …`) as "
    "superuser, then run again"
)


def _open(database: Database, **more: Any) -> Connection:
    try:
        return psycopg.connect(
            **database.conninfo(), **more, autocommit=True, prepare_threshold=None, connect_timeout=10
        )
    except psycopg.OperationalError as exc:
        reason = " ".join(str(exc).split())
        message = (
            f"cannot connect to database {database.name} at {database.host}:{database.port} as {database.user}: "
            f"{reason}; is the server up, and is the password of the inventory right?"
        )
        raise PreconditionError(message) from exc


def _pin(conn: Connection, database: Database) -> None:
    """Set once more what the caller's variables beat, and what only this server's version has.

    Raises:
        PreconditionError: the session is one of replication, whose writes fire no ordinary trigger.
    """
    settings = pinned_settings(conn.info.server_version)
    # A killed client must not leave a long statement running on the server (PostgreSQL 14, runtime-config-connection).
    settings["client_connection_check_interval"] = "500ms"
    ((role, _),) = conn.execute(PIN, [list(settings), list(settings.values())]).fetchall()
    if role == "origin":
        return
    try:
        conn.execute("set session_replication_role = origin")
    except errors.InsufficientPrivilege as exc:
        raise PreconditionError(REPLICA.format(role=role, user=database.user, database=database.name)) from exc


# By code and by the server's function that raised it: what is said differs with lc_messages.
REMEDIES: Mapping[tuple[str | None, str | None], str] = {
    ("23514", "ExecFindPartition"): (
        ". A row has a key for which the target has no partition. `./inv db.rollback` removes the target; give the "
        "plan's table a larger premake, or default_partition = true, then run `./inv db.migrate` and "
        "`./inv db.switchover` again. Or correct the row, and run the same command again"
    )
}


@contextlib.contextmanager
def told_clearly(what: str) -> Generator[None]:
    """Turn what the driver says within the block into an error of ours that names the work and what to do next.

    Raises:
        ConnectionLost: the server ended the session or went away.
        StepFailed: any other error of the server.
    """
    try:
        yield
    except psycopg.Error as exc:
        raise clear_error(exc, what) from exc


def clear_error(exc: psycopg.Error, what: str) -> RehearsalError:
    """Return the error of ours for one of the driver."""
    reason = " ".join(str(exc).split())
    if isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError)) and exc.sqlstate in ENDED:
        message = (
            f"{what}: the server ended the session or went away ({reason}). What was under way is undone, what was "
            "done stays: when the server answers, run the same command again"
        )
        return ConnectionLost(message)
    remedy = REMEDIES.get((exc.sqlstate, exc.diag.source_function), "")
    return StepFailed(f"{what}: {exc.sqlstate or type(exc).__name__}: {reason}{remedy}")


@contextlib.contextmanager
def advisory_lock(conn: Connection, key: str) -> Generator[None]:
    """Hold the session advisory lock of `key` for the block; frees itself when the process dies.

    Raises:
        PreconditionError: another session holds it; says which.
    """
    row = conn.execute("select pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended(%s, 0))", [key]).fetchone()
    if not row or not row[0]:
        raise PreconditionError(_holder_message(conn, key))
    try:
        yield
    finally:
        if not conn.closed:
            conn.execute("select pg_catalog.pg_advisory_unlock(pg_catalog.hashtextextended(%s, 0))", [key])


HOLDER = """
select a.pid, a.application_name, a.client_addr::text, a.backend_start::text
from pg_catalog.pg_locks as l
join pg_catalog.pg_stat_activity as a using (pid)
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
      and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
      and (l.classid::bigint << 32) | l.objid::bigint = pg_catalog.hashtextextended(%s, 0)
"""


def lock_holder(conn: Connection, key: str) -> str | None:
    """Return who holds the advisory lock of `key`; None if nobody does."""
    row = conn.execute(HOLDER, [key]).fetchone()
    return f"pid {row[0]} ({row[1]}, from {row[2] or 'a socket'}, since {row[3]})" if row else None


def _holder_message(conn: Connection, key: str) -> str:
    who = lock_holder(conn, key) or "a session that just ended"
    return f"another run holds {key}: {who}; wait for it or end it, then run again"


def scalar(conn: Connection, query: Any, params: Any = None) -> Any:
    """Return the first column of the only row."""
    row = conn.execute(query, params).fetchone()
    if row is None:
        message = "the query returned no row"
        raise PreconditionError(message)
    return row[0]
