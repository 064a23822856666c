"""A lock behind a real autovacuum: it yields, whether or not the role may lower `deadlock_timeout`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg import sql

from rehearsal.checks.preflight import run_preflight
from rehearsal.environment import Database
from rehearsal.errors import LockNotAcquired
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.locks import LockPolicy, with_lock
from rehearsal.postgres.sqlfiles import SqlFiles
from tests.fix_tables import make_plan
from tests.waiting import eventually

LOCK = sql.SQL("lock table public.posts in access exclusive mode")
# A page costs at least one, so each one is followed by a nap: this vacuum lasts as long as any test.
SETUP = """
create role plain_owner login password 'plain' in role pg_monitor;
create table public.posts (id int, filler text) with (
    autovacuum_vacuum_threshold = 1, autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1
);
alter table public.posts owner to plain_owner;
insert into public.posts select n, repeat('x', 1000) from generate_series(1, 20000) as n;
delete from public.posts where id % 2 = 0;
"""
AT_WORK = """
select count(*) from pg_catalog.pg_locks as l join pg_catalog.pg_stat_activity as a using (pid)
where a.backend_type = 'autovacuum worker' and l.relation = 'public.posts'::regclass and l.granted
      and l.mode = 'ShareUpdateExclusiveLock'
"""


@pytest.fixture
def vacuumed(conn: Connection) -> Iterator[None]:
    """A table that autovacuum is at, slowly."""
    conn.execute("alter system set autovacuum_naptime = '1s'")
    conn.execute("select pg_catalog.pg_reload_conf()")
    try:
        conn.execute(sql.SQL(SETUP))
        eventually(lambda: scalar(conn, AT_WORK), 60, pause=0.1)
        yield
    finally:
        conn.execute("alter system reset autovacuum_naptime")
        conn.execute("select pg_catalog.pg_reload_conf()")
        conn.execute("drop owned by plain_owner; drop role plain_owner")


@pytest.mark.slow
@pytest.mark.parametrize("may_lower", [True, False])
@pytest.mark.usefixtures("vacuumed")
def test_autovacuum_yields_to_a_lock(database: Database, *, may_lower: bool) -> None:
    """Timeouts stay below the server's deadlock_timeout, so that nobody waits long; three tries are enough."""
    plain = Database(database.host, database.port, database.name, "plain_owner", "plain")
    policy = LockPolicy(timeout_ms=150, max_timeout_ms=300, attempts=3)
    with connect(database if may_lower else plain) as owner:
        _, report = with_lock(owner, "posts", lambda held: held.execute("select 1"), lock=LOCK, policy=policy)

    assert report.attempts == 1 if may_lower else report.attempts > 1
    assert any("autovacuum" in blocker for blocker in report.blockers), report.blockers


@pytest.mark.slow
def test_vacuum_by_hand_is_named_and_not_cancelled(database: Database, conn: Connection) -> None:
    """Somebody's own maintenance goes on; the lock gives up within its budget and names it."""
    conn.execute("create table public.posts (id int)")
    with connect(database, autocommit=False, role="maintenance") as other:
        other.execute("lock table public.posts in share update exclusive mode")
        with pytest.raises(LockNotAcquired, match="maintenance"):
            with_lock(conn, "posts", str, lock=LOCK, policy=LockPolicy(timeout_ms=100, max_timeout_ms=100, attempts=2))
        other.execute("select 1")


# A subtransaction that writes takes a transaction number of its own.
AGE = """
create temp table aged (id int);
do $$ begin for n in 1 .. 95000 loop begin insert into aged values (n); exception when others then raise; end;
end loop; end $$
"""


@pytest.mark.slow
@pytest.mark.usefixtures("events")
def test_near_wraparound_is_refused_before_the_vacuum_is_there(conn: Connection, sql_files: SqlFiles) -> None:
    """The table's own autovacuum_freeze_max_age counts; before it ages, nothing is found."""
    conn.execute('alter table public."We""ird Events" set (autovacuum_freeze_max_age = 100000)')
    plan = make_plan("swap")
    assert "wraparound" not in {finding.id for finding in run_preflight(conn, sql_files, plan)}

    conn.execute(sql.SQL(AGE))

    found = [finding for finding in run_preflight(conn, sql_files, plan) if finding.id == "wraparound"]
    assert [finding.severity for finding in found] == ["blocker"]
    assert "%" in found[0].condition
