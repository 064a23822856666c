"""The restore drill's database goes, though autovacuum is at work in it and the role is no superuser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from rehearsal.checks import scratch
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import Connection, connect, scalar
from tests.waiting import eventually

NAME = "drill_in_use"
# Vacuumed for a minute: a pause after each page.
SLOW = """
create table public.much (a int, b text) with (autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1);
insert into public.much select n, repeat('x', 500) from generate_series(1, 20000) as n;
delete from public.much where a % 2 = 0;
"""
AT_WORK = "select count(*) from pg_stat_activity where datname = %s and backend_type = 'autovacuum worker'"
SETTINGS = {"autovacuum": "on", "autovacuum_naptime": "'1s'"}


@pytest.fixture
def lowly(conn: Connection, database: Database) -> Iterator[Database]:
    """A role that may make databases, on a server whose autovacuum looks every second."""
    conn.execute("create role lowly login createdb password 'lowly'; create role other login password 'other'")
    for name, value in SETTINGS.items():
        conn.execute(f"alter system set {name} = {value}".encode())
    conn.execute("select pg_catalog.pg_reload_conf()")
    try:
        yield replace(database, user="lowly", password="lowly")
    finally:
        for name in SETTINGS:
            conn.execute(f"alter system reset {name}".encode())
        conn.execute("select pg_catalog.pg_reload_conf()")
        conn.execute(f"drop database if exists {NAME} with (force)")
        conn.execute("drop role lowly; drop role other")


def drilled(conn: Connection, lowly: Database) -> None:
    """Make the database, wait for autovacuum to be at work there, and leave it."""
    with scratch.scratch_database(lowly, NAME) as made:
        with connect(made) as inside:
            inside.execute(SLOW.encode())
        eventually(lambda: scalar(conn, AT_WORK, [NAME]), 60)
    assert scalar(conn, "select count(*) from pg_database where datname = %s", [NAME]) == 0


def test_autovacuum_at_work_does_not_keep_it(conn: Connection, lowly: Database) -> None:
    """The drill ended with 42501, on a host whose autovacuum came by: NO-GO for nothing."""
    drilled(conn, lowly)


def other_session(lowly: Database) -> psycopg.Connection:
    """Return a session of another role, as of an exporter that looks at every database."""
    return psycopg.connect(
        host=lowly.host, port=lowly.port, dbname=NAME, user="other", password="other", sslmode=lowly.sslmode
    )


@pytest.mark.usefixtures("conn")
def test_nobody_else_is_let_in(lowly: Database) -> None:
    """Rows of the application are restored there."""
    with (
        scratch.scratch_database(lowly, NAME),
        pytest.raises(psycopg.OperationalError, match="permission denied for database"),
    ):
        other_session(lowly)


def test_a_session_of_another_role_is_said(conn: Connection, lowly: Database) -> None:
    """One that came in before; it is not ended, the role has no right to. The next drill replaces what is left."""
    drill = scratch.scratch_database(lowly, NAME)
    drill.__enter__()
    conn.execute(f"grant connect on database {NAME} to public".encode())
    session = other_session(lowly)
    with pytest.raises(PreconditionError, match=r"drill_in_use .*in use by pid \d+ of other; lowly .*run again"):
        drill.__exit__(None, None, None)
    session.close()
    eventually(lambda: not scalar(conn, "select count(*) from pg_stat_activity where datname = %s", [NAME]), 30)
    with scratch.scratch_database(lowly, NAME):
        pass


def test_mutant_force_alone(conn: Connection, lowly: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old way."""

    def drop(at: Connection, name: str) -> None:
        at.execute(f"drop database {name} with (force)".encode())

    monkeypatch.setattr(scratch, "_drop", drop)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="terminated"):
        drilled(conn, lowly)
