"""A transaction whose snapshot is older than a swap must not write through it in silence."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from psycopg import IsolationLevel, errors

from rehearsal.catalog.tables import Name
from rehearsal.environment import Database
from rehearsal.errors import LockNotAcquired
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover import state
from rehearsal.switchover.detail import Split
from rehearsal.switchover.snapshot_fence import SnapshotFence
from rehearsal.switchover.table import Switchover
from tests.fix_tables import Prepared, deploy, difference, make_plan, names_of
from tests.waiting import eventually

TABLE = 'public."We""ird Events"'
PATIENT = {"timeout_ms": 20_000, "max_timeout_ms": 20_000, "hold_ms": 60_000}
ADD = f"""insert into {TABLE} ("Created At", "unit id", amount) values ('2026-02-01', 1, 5) returning id"""
WRITES = {
    "update": f"update {TABLE} set note = 'raced' where id = %s",
    "delete": f"delete from {TABLE} where id = %s",
    "insert": f"""insert into {TABLE} ("Created At", "unit id", amount, note) values ('2026-02-02', 1, %s, 'raced')""",
}
COPY = f"""copy {TABLE} ("Created At", "unit id", amount) from program 'echo 2026-02-02,1,5' with (format csv) -- %s"""
WAITS = "select pg_catalog.cardinality(pg_catalog.pg_blocking_pids(%s)) > 0"
ENGINE_WAITS = """
select exists (select from pg_catalog.pg_stat_activity where datname = current_database()
               and application_name = 'pg-rehearsal engine' and pg_catalog.cardinality(pg_blocking_pids(pid)) > 0)
"""
FENCES = "select count(*) from pg_catalog.pg_trigger where tgname like 'rehearsal_snapshot_guard_%'"


# An exchange writes the new state last; the gate is a lock that this takes.
GATE = """
create or replace function public.gate() returns trigger language plpgsql as
'begin perform pg_catalog.pg_advisory_xact_lock(4711); return new; end';
create or replace trigger gate before update on rehearsal.migration
    for each row when (old.state is distinct from new.state) execute function public.gate();
"""


@contextmanager
def late(database: Database, conn: Connection, work: Switchover, turn: str) -> Iterator[None]:
    """Hold an exchange at its last statement, all locks taken, until the block ends; then let it commit."""
    with ThreadPoolExecutor(1) as pool, connect(database, autocommit=False) as holder:
        conn.execute(as_query(GATE))
        holder.execute("select pg_catalog.pg_advisory_xact_lock(4711)")
        done = pool.submit(getattr(work, turn))
        eventually(lambda: scalar(conn, ENGINE_WAITS), 60, unless=lambda: done.done() and done.result())
        yield
        holder.commit()
        assert done.result(timeout=60)


def waiting(conn: Connection, pool: ThreadPoolExecutor, app: Connection, write: str, row: int) -> Future[int]:
    """Start a write that is committed at once; return when it waits for the exchange."""

    def act() -> int:
        with app.transaction():
            return app.execute(as_query(write), [row]).rowcount

    done = pool.submit(act)
    eventually(lambda: scalar(conn, WAITS, [app.info.backend_pid]), 60, unless=done.done)
    return done


def race(
    database: Database,
    conn: Connection,
    work: Switchover,
    turn: str,
    level: IsolationLevel,
    write: str,
    row: int,
    *,
    refused: bool,
) -> None:
    """Let a write wait for an exchange: it is done after it, or refused and done when it is tried again."""
    with connect(database, role="app") as app, ThreadPoolExecutor(1) as pool:
        app.isolation_level = level
        with late(database, conn, work, turn):
            done = waiting(conn, pool, app, write, row)
        if refused:
            with pytest.raises(errors.SerializationFailure, match="was exchanged"):
                done.result()
            assert app.execute(as_query(write), [row]).rowcount == 1
        else:
            assert done.result() == 1


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("turn", ["switch", "roll_back"])
@pytest.mark.parametrize("level", [IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ])
def test_a_write_that_waits_for_an_exchange_is_done_or_refused(
    database: Database, conn: Connection, events: Name, turn: str, write: str, level: IsolationLevel, prepared: Prepared
) -> None:
    """The row came in just before: READ COMMITTED sees it, REPEATABLE READ cannot and is told to try again."""
    work = prepared(make_plan("swap", locks=PATIENT))
    if turn == "roll_back":
        work.switch()
    row = scalar(conn, as_query(ADD))

    race(database, conn, work, turn, level, WRITES[write], row, refused=level is not IsolationLevel.READ_COMMITTED)

    work.follow()
    names = names_of(events)
    assert difference(conn, events, names.retired if turn == "switch" else names.target) == (0, 0)
    assert not work.switch() if turn == "switch" else not work.roll_back()
    assert scalar(conn, FENCES) == 0


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("turn", ["switch", "roll_back"])
@pytest.mark.parametrize("level", [IsolationLevel.READ_COMMITTED, IsolationLevel.REPEATABLE_READ])
def test_a_write_that_waits_for_attach_is_done_or_refused(
    database: Database, conn: Connection, events: Name, turn: str, write: str, level: IsolationLevel, prepared: Prepared
) -> None:
    """The cut-over moves no row, so every writer goes on; the way back moves those of the later partitions."""
    work = prepared(make_plan("attach", locks=PATIENT))
    until = Split.of_detail(state.read_migration(conn, events).detail).until
    if turn == "roll_back":
        work.switch()
    row = scalar(conn, as_query(ADD if turn == "switch" else ADD.replace("2026-02-01", until)))
    before = scalar(conn, as_query(f"select count(*) from {TABLE}"))

    refused = level is not IsolationLevel.READ_COMMITTED and turn == "roll_back"
    race(database, conn, work, turn, level, WRITES[write], row, refused=refused)

    assert not work.switch() if turn == "switch" else not work.roll_back()
    after = {"update": 0, "delete": -1, "insert": 1}[write]
    assert scalar(conn, as_query(f"select count(*) from {TABLE}")) == before + after
    assert scalar(conn, FENCES) == 0


def test_read_committed_is_let_in_though_its_snapshot_may_be_older(
    database: Database, conn: Connection, events: Name, prepared: Prepared
) -> None:
    """COPY takes its snapshot before it waits, and needs to see nothing; EXECUTE looks again after the wait."""
    work = prepared(make_plan("swap", locks=PATIENT))
    row = scalar(conn, as_query(ADD))

    with connect(database, role="app") as app, connect(database, role="app") as bulk, ThreadPoolExecutor(2) as pool:
        app.execute(as_query(f"prepare raced (bigint) as update {TABLE} set note = 'raced' where id = $1"))
        with late(database, conn, work, "switch"):
            updated = waiting(conn, pool, app, f"execute raced ({row}) -- %s", row)
            copied = waiting(conn, pool, bulk, COPY, row)
        assert updated.result() == 1
        assert copied.result() == 1
        assert app.execute(as_query(f"execute raced ({row})")).rowcount == 1

    work.follow()
    assert difference(conn, events, names_of(events).retired) == (0, 0)


@pytest.mark.usefixtures("events")
def test_the_fence_stays_as_long_as_it_is_needed(database: Database, conn: Connection, prepared: Prepared) -> None:
    """A snapshot that is busy elsewhere during the swap: refused when it comes; the next run ends the fence."""
    work = prepared(make_plan("swap", locks={"budget_s": 2.0}))
    row = scalar(conn, as_query(ADD))

    with connect(database, autocommit=False, role="app") as app, ThreadPoolExecutor(1) as pool:
        app.isolation_level = IsolationLevel.REPEATABLE_READ
        conn.execute("select pg_advisory_lock(7)")
        busy = pool.submit(app.execute, "select pg_advisory_xact_lock(7)")
        eventually(lambda: scalar(conn, WAITS, [app.info.backend_pid]), 60, unless=busy.done)
        assert work.switch()
        assert scalar(conn, FENCES) == 1
        conn.execute("select pg_advisory_unlock(7)")
        busy.result()
        with pytest.raises(errors.SerializationFailure, match="was exchanged"):
            app.execute(as_query(WRITES["delete"]), [row])

    assert work.switch()
    assert not work.switch()
    assert scalar(conn, FENCES) == 0


def test_a_fence_that_was_restored_from_a_backup_lets_everybody_in(
    conn: Connection, sql_files: SqlFiles, events: Name
) -> None:
    """Its number is of another cluster: no snapshot here has seen it, and none needs to."""
    deploy(conn, sql_files, make_plan("swap"))
    fence = SnapshotFence(sql_files, names_of(events), 1)
    conn.execute(as_query(fence.on_sql(str(2**40))))

    conn.execute("begin isolation level repeatable read")
    assert conn.execute(as_query(WRITES["update"]), [7]).rowcount == 1
    conn.execute("commit")


@pytest.mark.parametrize("waits", [True, False])
def test_the_cutover_keeps_the_change_log_for_snapshots_from_before(
    database: Database, conn: Connection, events: Name, monkeypatch: pytest.MonkeyPatch, waits: bool, prepared: Prepared
) -> None:
    """Its delete does not see the twin's row, which came later; the key log brings it. The mutant differs."""
    if not waits:
        monkeypatch.setattr("rehearsal.switchover.strategies.dual_write.cutover.older_snapshots", lambda *_: ())
    work = prepared(make_plan("dual-write", locks={"budget_s": 1.0}))
    row = scalar(conn, as_query(ADD))

    with connect(database, autocommit=False, role="app") as old:
        old.isolation_level = IsolationLevel.REPEATABLE_READ
        old.execute("select 1")
        if waits:
            with pytest.raises(LockNotAcquired, match=f"pid {old.info.backend_pid} "):
                work.switch()
        else:
            work.switch()
        assert old.execute(as_query(WRITES["delete"]), [row]).rowcount == 1
        old.commit()

    assert work.switch() is waits
    assert (difference(conn, events, names_of(events).target) == (0, 0)) is waits
