"""Writers out of the ordinary: two-phase, replica role, triggers, savepoints, COPY, deferred constraints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from psycopg import errors

from rehearsal.catalog.tables import Name
from rehearsal.environment import Database
from rehearsal.errors import LockNotAcquired, PreconditionError
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover import state
from rehearsal.switchover.drift import Watch
from rehearsal.switchover.strategies.swap.exchange import Exchange
from rehearsal.switchover.table import Switchover
from tests.fix_tables import deploy, difference, make_plan, make_switchover, names_of

TABLE = 'public."We""ird Events"'
SHORT = {"timeout_ms": 20, "max_timeout_ms": 40, "attempts": 3}
NEW = f"""insert into {TABLE} ("Created At", "unit id", amount, note) values ('2026-02-01', 1, 5, %s) returning id"""


def following(
    database: Database, conn: Connection, files: SqlFiles, run: Run, strategy: str, **values: object
) -> Switchover:
    """Return the switchover of a table that follows."""
    plan = make_plan(strategy, **values)
    deploy(conn, files, plan)
    work = make_switchover(database, files, plan, run)
    work.prepare()
    return work


def other(work: Switchover, conn: Connection, events: Name) -> Name:
    """Return the table that does not have the name just now."""
    swapped = state.read_migration(conn, events).state == state.SWAPPED
    return names_of(events).retired if swapped else names_of(events).target


@contextmanager
def prepared(conn: Connection, name: str, text: str) -> Iterator[None]:
    """Leave a statement in a prepared transaction; what is left of it in the end is rolled back."""
    conn.execute("begin")
    conn.execute(as_query(text))
    conn.execute(as_query(f"prepare transaction '{name}'"))
    try:
        yield
    finally:
        if conn.execute("select true from pg_prepared_xacts where gid = %s", [name]).fetchone():
            conn.execute(as_query(f"rollback prepared '{name}'"))


@pytest.mark.parametrize("strategy", ["dual-write", "swap"])
def test_a_prepared_transaction_on_the_table_is_waited_for_by_name(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run, strategy: str
) -> None:
    """It holds its locks without a session; once it is committed, its write is in both tables."""
    work = following(database, conn, sql_files, run, strategy, locks=SHORT)

    with prepared(conn, "in the way", f"update {TABLE} set note = 'two-phase' where id = 7"):
        with pytest.raises(LockNotAcquired, match="prepared transaction"):
            work.switch()
        conn.execute("commit prepared 'in the way'")

    assert work.switch()
    work.follow()
    assert scalar(conn, f"select note from {TABLE} where id = 7") == "two-phase"
    assert difference(conn, events, other(work, conn, events)) == (0, 0)


@pytest.mark.parametrize("strategy", ["dual-write", "swap"])
def test_a_prepared_transaction_elsewhere_is_not_waited_for(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run, strategy: str
) -> None:
    """It has no snapshot any more and has not touched the table: it may stay for days."""
    work = following(database, conn, sql_files, run, strategy, locks={**SHORT, "budget_s": 5})
    conn.execute("create table public.elsewhere (id int)")

    with prepared(conn, "elsewhere", "insert into public.elsewhere values (1)"):
        assert work.switch()
        assert not work.switch()

    work.follow()
    assert difference(conn, events, other(work, conn, events)) == (0, 0)


@pytest.mark.parametrize("turn", ["before", "after"])
@pytest.mark.parametrize("strategy", ["dual-write", "swap"])
def test_the_replica_role_is_followed_and_its_truncate_refused(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run, strategy: str, turn: str
) -> None:
    """As a logical replication worker writes: ordinary triggers are off, ours are not."""
    work = following(database, conn, sql_files, run, strategy)
    if turn == "after":
        work.switch()

    with connect(database, role="app") as app:
        app.execute("set session_replication_role = replica")
        row = scalar(app, as_query(NEW), ["replicated"])
        assert app.execute(f"delete from {TABLE} where id = 9").rowcount == 1
        for table in (TABLE, 'public."We""ird Events_partitioned"') if turn == "after" else (TABLE,):
            if strategy == "swap" and table != TABLE:
                continue
            with pytest.raises(errors.ObjectInUse, match="TRUNCATE"):
                app.execute(as_query(f"truncate {table}"))

    work.follow()
    assert scalar(conn, f"select note from {TABLE} where id = %s", [row]) == "replicated"
    assert difference(conn, events, other(work, conn, events)) == (0, 0)


TRIGGERS = f"""
create function public.stamp() returns trigger language plpgsql as $$
begin
    new.note := coalesce(new.note, '') || ' stamped';
    return new;
end $$;
create function public.follow_up() returns trigger language plpgsql as $$
begin
    update {TABLE} set amount = amount + 1 where id = 1;
    return null;
end $$;
create trigger a_stamp before insert or update of note on {TABLE} for each row execute function public.stamp();
create trigger z_follow_up after insert on {TABLE} for each row execute function public.follow_up();
"""


@pytest.mark.parametrize("strategy", ["dual-write", "swap"])
def test_triggers_of_the_application_that_write_the_table_are_followed(
    database: Database,
    conn: Connection,
    sql_files: SqlFiles,
    events: Name,
    run: Run,
    strategy: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A BEFORE trigger changes the row, an AFTER trigger another one: both changes arrive."""
    work = following(database, conn, sql_files, run, strategy)
    conn.execute(as_query(TRIGGERS))

    def write() -> None:
        before = scalar(conn, f"select amount from {TABLE} where id = 1")
        row = scalar(conn, as_query(NEW), ["mine"])
        assert scalar(conn, f"select note from {TABLE} where id = %s", [row]) == "mine stamped"
        assert scalar(conn, f"select amount from {TABLE} where id = 1") == before + 1

    write()
    work.follow()
    assert difference(conn, events, names_of(events).target) == (0, 0)
    if strategy == "dual-write":
        with pytest.raises(PreconditionError, match="changed since its target was made: trigger"):
            work.switch()
        # As where somebody accepts them by name: preflight and comparison refuse triggers that came with dual-write.
        monkeypatch.setattr(Watch, "find", lambda *_: [])
        work.switch()
        write()
        assert difference(conn, events, names_of(events).target) == (0, 0)


def test_savepoints_copy_and_deferred_constraints_arrive_as_they_were_committed(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run
) -> None:
    """What is rolled back to a savepoint is not; a foreign key that holds only at the commit is no obstacle."""
    conn.execute(
        as_query(f'alter table {TABLE} alter constraint "We""ird Events_unit id_fkey" deferrable initially deferred')
    )
    work = following(database, conn, sql_files, run, "dual-write")
    for turn in ("following", "mirrored"):
        unit = 100 if turn == "following" else 101
        with conn.transaction():
            kept = scalar(conn, as_query(NEW), [f"kept {turn}"])
            conn.execute("savepoint here")
            conn.execute(f"update {TABLE} set note = 'undone' where id = %s", [kept])
            conn.execute(f"delete from {TABLE} where id = 20")
            conn.execute("rollback to savepoint here")
            conn.execute(f'update {TABLE} set "unit id" = {unit} where id = %s', [kept])
            with (
                conn.cursor() as cursor,
                cursor.copy(f'copy {TABLE} ("Created At", "unit id", amount) from stdin') as copy,
            ):
                copy.write_row(("2026-02-03", unit, 3))
            conn.execute('insert into public."Unit" values (%s, %s)', [unit, turn])
        work.follow()
        assert scalar(conn, f"select note from {TABLE} where id = %s", [kept]) == f"kept {turn}"
        assert difference(conn, events, names_of(events).target) == (0, 0)
        work.switch()


def test_keys_that_are_left_for_the_lock_may_meet_a_deferred_constraint(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run
) -> None:
    """PostgreSQL alters no table with a check pending; keys go out before rows come in, so that there is none."""
    conn.execute(
        as_query(f'alter table {TABLE} add constraint late unique ("Created At", id) deferrable initially deferred')
    )
    work = following(database, conn, sql_files, run, "swap")
    found = state.read_migration(conn, events)
    exchange = Exchange(sql_files, work.plan, work.shape(conn), found.id)
    for go in (exchange.swap, exchange.roll_back):
        made = scalar(conn, as_query(NEW), ["left for the lock"])
        go(conn, work.policy, lambda: None, work.examine(conn))
        assert scalar(conn, f"select note from {TABLE} where id = %s", [made]) == "left for the lock"
    work.follow()
    assert difference(conn, events, names_of(events).target) == (0, 0)
