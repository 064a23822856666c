"""Vacuum and statistics of the twin: every leaf once, and the parent, which nothing else analyzes."""

from __future__ import annotations

from psycopg import sql

from rehearsal.catalog.tables import Catalog, Name
from rehearsal.environment import Database
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.parallel import run_in_sessions
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from tests.fix_tables import deploy, make_plan, make_switchover, names_of
from tests.waiting import eventually

LEAVES = """
select c.relname, c.reltuples, pg_catalog.pg_stat_get_vacuum_count(c.oid) = 1,
       pg_catalog.pg_stat_get_analyze_count(c.oid) as analyzed,
       (select count(*) from pg_catalog.pg_statistic as s where s.starelid = c.oid)
from pg_catalog.pg_inherits as i join pg_catalog.pg_class as c on c.oid = i.inhrelid
where i.inhparent = %s::oid
"""


def test_each_leaf_is_analyzed_once_and_the_parent_as_well(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run
) -> None:
    """The parent's own pass leaves the leaves alone and samples their rows all the same."""
    plan = make_plan("swap")
    deploy(conn, sql_files, plan)

    make_switchover(database, sql_files, plan, run).prepare()

    target = Catalog(conn, sql_files).read(names_of(events).target)
    # Sessions hand their counters in when they end, soon but not at once.
    eventually(lambda: all(leaf[2] and leaf[3] for leaf in conn.execute(as_query(LEAVES), [target.oid])))
    leaves = conn.execute(as_query(LEAVES), [target.oid]).fetchall()
    assert [leaf[0] for leaf in leaves if leaf[3] != 1] == []
    assert [leaf[0] for leaf in leaves if not leaf[2]] == []
    assert sum(leaf[1] for leaf in leaves) == 4000
    assert all(leaf[4] > 0 for leaf in leaves if leaf[1])
    inherited = "select count(*) from pg_catalog.pg_statistic where starelid = %s::oid and stainherit"
    assert scalar(conn, inherited, [target.oid]) == len(target.columns)


def test_a_turn_is_one_process(database: Database, conn: Connection) -> None:
    """Index builds and vacuums get no parallel workers: a permit of the throttle counts as one core."""
    conn.execute("create table public.seen (workers text)")
    look = sql.SQL("insert into public.seen select current_setting('max_parallel_maintenance_workers')")

    assert run_in_sessions(database, "index", [look, look, look], 2) == 3

    assert conn.execute("select workers from public.seen").fetchall() == [("0",)] * 3
