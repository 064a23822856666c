"""The scratch database of a restore drill: made beside the database, marked as ours, and dropped.

Owns its name, and what a server must give so that it can be had: the right to make databases, a line of pg_hba.conf.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import replace

import psycopg
from psycopg import sql

from rehearsal.environment import Database
from rehearsal.errors import CannotSee, PreconditionError
from rehearsal.postgres.connection import Connection, connect

SCRATCH_MARK = "scratch database of pg-rehearsal; dropped after each restore drill"
ADDRESS = "select host(inet_client_addr()) || case family(inet_client_addr()) when 4 then '/32' else '/128' end"


def scratch_name(plan: str) -> str:
    """Return the name of the scratch database of a plan."""
    return f"rehearsal_restore_{plan}"


def require_entry(conn: Connection, scratch: Database) -> None:
    """Refuse a server that does not let the role into the scratch database, whether it is there yet or not.

    Raises:
        CannotSee: it does not; has the line that pg_hba.conf lacks.
    """
    try:
        connect(scratch, role="restore drill").close()
    except PreconditionError as exc:
        # The name of the file is the same in every language of the server; a database that is not there is let into.
        if "pg_hba.conf" not in str(exc):
            return
        message = (
            f"{scratch.user} is not let into {scratch.name}, which the restore drill makes and drops; put this line "
            f"into the server's pg_hba.conf, above any that says otherwise, and reload: {_line(conn, scratch)}"
        )
        raise CannotSee(message) from exc


def _line(conn: Connection, scratch: Database) -> str:
    ((address,),) = conn.execute(ADDRESS).fetchall()
    place = f"host {scratch.name} {scratch.user} {address}" if address else f"local {scratch.name} {scratch.user}"
    return f"{place} scram-sha-256"


@contextlib.contextmanager
def scratch_database(database: Database, name: str) -> Generator[Database]:
    """Make an empty database beside `database` and drop it at the end; one that a killed drill left is replaced.

    Raises:
        CannotSee: the role may not make databases, or the server does not let it into one of that name.
        PreconditionError: the name is taken by a database that is not ours.
    """
    ident = sql.Identifier(name)
    with connect(database, role="restore drill") as conn:
        _drop_left_over(conn, name)
        try:
            conn.execute(_create_database(conn, ident))
        except psycopg.errors.InsufficientPrivilege as exc:
            message = f"{database.user} lacks the privilege to create the scratch database {name}; grant it CREATEDB"
            raise CannotSee(message) from exc
        try:
            # It is for this role alone: rows of the application are restored there, and an exporter that looks at every
            # database would stay connected, so that it could not be dropped.
            conn.execute(sql.SQL("revoke connect on database {} from public").format(ident))
            conn.execute(sql.SQL("comment on database {} is {}").format(ident, sql.Literal(SCRATCH_MARK)))
            require_entry(conn, replace(database, name=name))
            yield replace(database, name=name)
        finally:
            _drop(conn, name)


COMMENT = """
select pg_catalog.shobj_description(oid, 'pg_database') from pg_catalog.pg_database where datname = %s
"""
OTHERS = "select pid, usename from pg_catalog.pg_stat_activity where datname = %s and usename is not null order by 1"
END_OURS = """
select pg_catalog.pg_terminate_backend(pid) from pg_catalog.pg_stat_activity
where datname = %s and usename = current_user and pid <> pg_catalog.pg_backend_pid()
"""
LOCALE = """
select pg_catalog.pg_encoding_to_char(encoding), datcollate, datctype
from pg_catalog.pg_database where datname = current_database()
"""


def _drop_left_over(conn: Connection, name: str) -> None:
    row = conn.execute(COMMENT, [name]).fetchone()
    if row is None:
        return
    if row[0] != SCRATCH_MARK:
        message = f"database {name} already exists and was not made by a drill; choose another name or drop it"
        raise PreconditionError(message)
    _drop(conn, name)


def _drop(conn: Connection, name: str) -> None:
    """Drop the database with whoever is connected to it.

    WITH (FORCE) demands rights over an autovacuum worker that is at work there, which no role but a superuser has
    (42501). Without it, the server ends autovacuum by itself; sessions of this role are ended first.

    Raises:
        PreconditionError: sessions of others are connected to it.
    """
    drop = sql.SQL("drop database {}").format(sql.Identifier(name))
    try:
        conn.execute(drop + sql.SQL(" with (force)"))
    except psycopg.errors.InsufficientPrivilege:
        conn.execute(END_OURS, [name])
        try:
            conn.execute(drop)
        except psycopg.errors.ObjectInUse as exc:
            who = ", ".join(f"pid {pid} of {user}" for pid, user in conn.execute(OTHERS, [name]))
            message = (
                f"the scratch database {name} cannot be dropped: it is in use by {who or 'sessions that ended by now'}"
                f"; {conn.info.user} lacks the privilege to end them. End them (pg_terminate_backend), then run again"
            )
            raise PreconditionError(message) from exc


def _create_database(conn: Connection, ident: sql.Identifier) -> sql.Composed:
    encoding, collate, ctype = conn.execute(LOCALE).fetchall()[0]
    text = "create database {} template template0 encoding {} lc_collate {} lc_ctype {}"
    return sql.SQL(text).format(ident, sql.Literal(encoding), sql.Literal(collate), sql.Literal(ctype))
