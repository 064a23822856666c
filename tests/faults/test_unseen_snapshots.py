"""A snapshot fence stays where the role cannot see who needs it: as an owner often does, it lacks pg_read_all_stats."""

from __future__ import annotations

import pytest
from psycopg import IsolationLevel, errors, sql

from rehearsal.environment import Database
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.sqlfiles import as_query
from rehearsal.switchover import snapshot_fence as fence
from tests.fix_verbs import Managed


def a_snapshot_that_is_not_seen_is_waited_for(managed: Managed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise AssertionError unless the write through a snapshot from before the swap is refused."""
    monkeypatch.setattr(fence, "MAX_WAIT_S", 0.5)
    managed.setup(rows=200)
    with connect(managed.superuser) as conn:
        for right in ("pg_monitor", "pg_read_all_stats"):
            conn.execute(sql.SQL("revoke {} from {}").format(sql.Identifier(right), sql.Identifier(managed.mig.user)))
    managed.done("migrate")
    with old_snapshot(managed.app) as app:
        said = managed.verb("switchover").text
        try:
            touched = app.execute("update public.t set v = 1 where id = 1").rowcount
        except errors.SerializationFailure:
            touched = None
        assert touched is None, f"a write through an old snapshot touched {touched} rows of the new table; {said}"


def old_snapshot(database: Database) -> Connection:
    """Return a session of the application with a snapshot that has not touched the table."""
    conn = connect(database, autocommit=False, role="app")
    conn.isolation_level = IsolationLevel.REPEATABLE_READ
    conn.execute(as_query("select count(*) from pg_catalog.pg_class"))
    return conn


@pytest.mark.fault("f02")
def test_a_snapshot_that_is_not_seen_is_waited_for(managed: Managed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The role sees that somebody is in a transaction, and no more: until it has ended the fence stays."""
    a_snapshot_that_is_not_seen_is_waited_for(managed, monkeypatch)


@pytest.mark.fault("f02", mutant=True)
def test_a_fence_that_looks_only_at_what_it_sees_is_caught(managed: Managed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: nothing is seen, so nobody is waited for."""
    monkeypatch.setattr(fence, "UNSEEN_TRANSACTIONS", "select ''::text, ''::text where false")
    with pytest.raises(AssertionError, match="touched 0 rows of the new table"):
        a_snapshot_that_is_not_seen_is_waited_for(managed, monkeypatch)
