"""Repairs and switches in the states that a killed run leaves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import sql

from rehearsal.catalog.tables import Catalog, Name
from rehearsal.environment import AppServer, Database
from rehearsal.errors import LockNotAcquired
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query, quote_ident
from rehearsal.switchover import state
from rehearsal.switchover.repair import enable_triggers, resync, target_leads
from rehearsal.switchover.strategies.dual_write.cutover import Cutover
from rehearsal.switchover.table import Switchover
from tests.fix_app import StartApp
from tests.fix_tables import Prepared, deploy, difference, make_plan, make_switchover, names_of
from tests.waiting import eventually

SOURCE = 'public."We""ird Events"'
TWIN = 'public."We""ird Events_partitioned"'


@pytest.fixture
def mirrored(conn: Connection, events: Name, prepared: Prepared) -> Switchover:
    """A table that is mirrored both ways."""
    work = prepared(make_plan("dual-write"))
    work.switch()
    assert state.read_migration(conn, events).state == state.MIRRORED
    return work


def test_triggers_are_left_as_they_are_between_the_two_locks_of_the_cutover(
    conn: Connection, sql_files: SqlFiles, events: Name, prepared: Prepared
) -> None:
    """A switch killed there has both mirrors and the key log on; to take the mirrors off would lose writes later."""
    plan, names = make_plan("dual-write"), names_of(events)
    work = prepared(plan)
    migration = state.read_migration(conn, events).id
    cutover = Cutover(sql_files, work.shape(conn), migration)
    cutover.raise_sync(conn, work.policy, lambda: None)

    assert enable_triggers(conn, work) == []
    assert work.switch()

    conn.execute(f"update {SOURCE} set note = 'after the switch' where id = 5")
    conn.execute(f"update {TWIN} set note = 'on the twin' where id = 6")
    assert difference(conn, events, names.target) == (0, 0)
    assert enable_triggers(conn, work) == []


@pytest.mark.parametrize("leads", ["source", "twin"])
def test_resync_goes_from_the_table_that_the_application_writes(
    conn: Connection, events: Name, mirrored: Switchover, leads: str
) -> None:
    """With the mirror off for a while, the written table has the acknowledged rows, and the other one takes them."""
    names = names_of(events)
    written, trigger = (SOURCE, names.sync_trigger) if leads == "source" else (TWIN, names.reverse_sync_trigger)
    conn.execute(sql.SQL(f"alter table {written} disable trigger {{}}").format(sql.Identifier(trigger)))
    conn.execute(f"update {written} set note = 'acknowledged' where id = 5")
    conn.execute(f"delete from {written} where id = 6")
    conn.execute(f"""update {written} set "Created At" = "Created At" + interval '1 month' where id = 7""")
    conn.execute(f"""insert into {written} ("Created At", "unit id", amount) values ('2026-01-20', 1, 4)""")
    before = scalar(conn, f"select array_agg(t::text order by id) from {written} as t")

    assert enable_triggers(conn, mirrored) == [trigger]
    assert resync(conn, mirrored, target_leads=leads == "twin") == 5

    assert difference(conn, events, names.target) == (0, 0)
    assert scalar(conn, f"select array_agg(t::text order by id) from {written} as t") == before
    assert resync(conn, mirrored, target_leads=leads == "twin") == 0


def test_a_log_left_behind_is_not_replayed_while_mirrors_are_on(
    conn: Connection, events: Name, mirrored: Switchover
) -> None:
    """A replay without a lock beside the mirrors could bring back a row that is being deleted."""
    log = quote_ident(names_of(events).forward_log)
    conn.execute(as_query(f'insert into {log} (k1, k2) select id, "Created At" from {SOURCE} where id = 5'))

    assert mirrored.follow() == 0

    assert scalar(conn, as_query(f"select count(*) from {log}")) == 1
    assert resync(conn, mirrored) == 0
    assert scalar(conn, as_query(f"select count(*) from {log}")) == 0


@pytest.mark.usefixtures("mirrored")
def test_an_id_that_exists_is_refused_on_the_twin_as_on_the_source(conn: Connection, events: Name) -> None:
    """The partitioned key is (id, key): only the mirror knows that the id alone is unique in the legacy table."""
    insert = """insert into {} (id, "Created At", "unit id", amount) values (5, '2026-02-20', 1, 4)"""
    with pytest.raises(psycopg.errors.UniqueViolation, match="Events_pkey"):
        conn.execute(insert.format(SOURCE))
    with pytest.raises(psycopg.errors.UniqueViolation, match="primary key"):
        conn.execute(insert.format(TWIN))

    conn.execute(f"""update {TWIN} set "Created At" = "Created At" + interval '1 hour' where id = 5""")
    conn.execute(f"""update {TWIN} set "Created At" = "Created At" + interval '2 months' where id = 6""")
    conn.execute(f"update {TWIN} set id = 90001 where id = 7")
    assert difference(conn, events, names_of(events).target) == (0, 0)


@pytest.mark.usefixtures("events")
def test_a_swap_waits_for_readers_of_the_twin_before_it_locks_the_source(
    database: Database, conn: Connection, prepared: Prepared
) -> None:
    """The application has no part in the twin, so it must not wait while the swap does."""
    work = prepared(make_plan("swap", locks={"timeout_ms": 300, "attempts": 3}))
    held: list[str] = []
    waits = "select pid from pg_catalog.pg_locks where not granted and relation = %s::regclass::oid"
    has = "select mode from pg_catalog.pg_locks where granted and pid = %s and relation = %s::regclass"
    seen: set[int] = set()

    def watched() -> bool:
        for (pid,) in conn.execute(waits, [TWIN]).fetchall():
            seen.add(pid)
            held.extend(row[0] for row in conn.execute(has, [pid, SOURCE]))
        return switching.done()

    with ThreadPoolExecutor(1) as pool, connect(database, autocommit=False, role="reader") as reader:
        reader.execute(f"select from {TWIN}")
        switching = pool.submit(work.switch)
        eventually(watched, 60, pause=0.001)
        with pytest.raises(LockNotAcquired, match="reader"):
            switching.result()

    assert seen
    assert set(held) <= {"AccessShareLock"}


def test_a_unique_constraint_keeps_what_it_says(
    conn: Connection, sql_files: SqlFiles, events: Name, prepared: Prepared
) -> None:
    """DEFERRABLE, INCLUDE and the order of columns belong to it."""
    conn.execute(
        f'alter table {SOURCE} add constraint "once a time" unique ("Created At", id) include (note) '
        "deferrable initially deferred"
    )
    work = prepared(make_plan("swap"))
    catalog = Catalog(conn, sql_files)
    before = [index.constraint_sql for index in catalog.read(events).indexes if index.name == "once a time"]

    work.switch()

    after = [index.constraint_sql for index in catalog.read(events).indexes if index.name == "once a time"]
    assert after == before != []


def test_clearing_the_twin_is_bounded_and_names_who_reads_it(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run
) -> None:
    """A forgotten reader of the twin is named instead of waited for without end; the next run goes on."""
    plan = make_plan("swap", locks={"timeout_ms": 20, "max_timeout_ms": 40, "attempts": 3})
    deploy(conn, sql_files, plan)
    work = make_switchover(database, sql_files, plan, run)
    with connect(database, autocommit=False, role="reader") as reader:
        reader.execute(f"select from {TWIN}")
        with pytest.raises(LockNotAcquired, match="reader"):
            work.prepare()

    assert work.prepare()
    work.follow()
    assert difference(conn, events, names_of(events).target) == (0, 0)


@pytest.mark.parametrize("turn", ["swap", "swap back"])
@pytest.mark.usefixtures("events")
def test_a_swap_waits_for_snapshots_from_before(
    database: Database, conn: Connection, turn: str, prepared: Prepared
) -> None:
    """A transaction with such a snapshot would not see what is replayed into the other table, and lose its update."""
    work = prepared(make_plan("swap", locks={"timeout_ms": 50, "attempts": 3}))
    if turn == "swap back":
        work.switch()
    go = work.switch if turn == "swap" else work.roll_back
    conn.execute(f"update {SOURCE} set note = 'replayed late' where id = 5")
    with connect(database, autocommit=False, role="app") as old:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("select 1")

        with pytest.raises(LockNotAcquired, match=f"pid {old.info.backend_pid} "):
            go()
        assert old.execute(f"update {SOURCE} set note = 'mine' where id = 5").rowcount == 1
        old.commit()

    assert go()
    assert scalar(conn, f"select note from {SOURCE} where id = 5") == "mine"


def test_doctor_asks_the_servers_which_side_leads(conn: Connection, mirrored: Switchover, start_app: StartApp) -> None:
    """All on one side: that side. Servers that differ or do not answer: nobody knows."""
    on = start_app("on", USE_PARTITIONED_TABLES="true", ENABLE_PARTITION_ROUTING="true")
    off = start_app("off", USE_PARTITIONED_TABLES="false", ENABLE_PARTITION_ROUTING="false")

    def leads(*urls: str) -> bool | None:
        return target_leads(conn, mirrored, [AppServer(f"app{number}", url) for number, url in enumerate(urls)])

    assert (leads(on.url), leads(off.url)) == (True, False)
    assert leads(on.url, off.url) is None
    assert leads(on.url, "http://127.0.0.1:1") is None
    assert leads() is None
