"""A dry run prints every statement and changes nothing."""

from __future__ import annotations

import psycopg
import pytest

from rehearsal.postgres.connection import Connection
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.dryrun import catalog_digest, dry_run_text, plan_acts
from tests.fix_tables import NOW, deploy, make_plan


@pytest.mark.parametrize("strategy", ["dual-write", "swap"])
@pytest.mark.parametrize("deployed", [False, True])
@pytest.mark.usefixtures("events")
def test_dry_run_changes_nothing_and_prints_all(
    conn: Connection, sql_files: SqlFiles, strategy: str, deployed: bool
) -> None:
    """The session is read only; the digest before equals the digest after, and sees a change."""
    plan = make_plan(strategy)
    if deployed:
        deploy(conn, sql_files, plan)
    if conn.info.server_version >= 150000:
        # What this session wrote itself is told when it likes; it must not be told in between.
        conn.execute("select pg_catalog.pg_stat_force_next_flush()")
    before = catalog_digest(conn, sql_files)
    conn.read_only = True

    acts = plan_acts(conn, sql_files, plan, NOW)

    text = dry_run_text(plan, acts, {"events": 4000})
    assert catalog_digest(conn, sql_files) == before
    assert ("create table" in text) == (not deployed)
    for part in ("trigger", "truncate", "insert into", "create index", "vacuum", "validate constraint"):
        assert part in text, part
    assert 'rename to "We""ird Events_old"' in text or strategy == "dual-write"
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction, match="CREATE TABLE"), conn.transaction():
        conn.execute("create table public.witness ()")
    conn.read_only = False
    conn.execute("create table public.witness ()")
    assert catalog_digest(conn, sql_files) != before


@pytest.mark.usefixtures("events")
def test_digest_sees_a_disabled_trigger(conn: Connection, sql_files: SqlFiles) -> None:
    """The witness of the digest: one flag of one trigger is enough."""
    deploy(conn, sql_files, make_plan("swap"))
    before = catalog_digest(conn, sql_files)

    conn.execute('alter table public."We""ird Events" disable trigger user')

    assert catalog_digest(conn, sql_files) != before
