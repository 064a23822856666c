"""Strategy attach: the old table becomes the history partition, and comes back with every row."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import psycopg
import pytest
from psycopg import sql

from rehearsal.catalog.tables import Catalog, Name, Table
from rehearsal.checks.untouched import Reader, drop_witnesses, make_witnesses
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError, StepFailed
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, quote_ident
from rehearsal.switchover import snapshot_fence as fence
from rehearsal.switchover import state
from rehearsal.switchover.detail import Split
from rehearsal.switchover.drift import Watch
from rehearsal.switchover.strategies.attach import cutover as attached
from rehearsal.switchover.strategies.attach.layout import HistoryNames
from rehearsal.switchover.strategies.attach.prepare import Preparation
from rehearsal.switchover.table import Switchover
from tests.fix_tables import deploy, make_plan, make_switchover, writing
from tests.waiting import eventually

ISOLATIONS = [psycopg.IsolationLevel.READ_COMMITTED, psycopg.IsolationLevel.REPEATABLE_READ]


@pytest.fixture
def work(database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run) -> Switchover:
    """The events table, registered."""
    plan = make_plan("attach")
    deploy(conn, sql_files, plan)
    return make_switchover(database, sql_files, plan, run)


def end_of(conn: Connection, events: Name) -> datetime:
    """Return the end of history as an instant."""
    return datetime.fromisoformat(Split.of_detail(state.read_migration(conn, events).detail).until)


def filenode(conn: Connection, name: Name) -> int:
    """Return the file of a table: another one means that its rows were copied."""
    return int(scalar(conn, "select pg_relation_filenode(format('%%I.%%I', %s::text, %s::text))", list(name)))


def definition(table: Table) -> tuple[object, ...]:
    """Return what must be the same before and after, there and back."""
    return (
        table.kind,
        table.columns,
        table.indexes,
        table.constraints,
        table.triggers,
        table.owner,
        table.acl,
        table.comment,
        table.options,
    )


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_there_and_back_and_there_again_under_writers(
    database: Database,
    conn: Connection,
    sql_files: SqlFiles,
    events: Name,
    work: Switchover,
    isolation: psycopg.IsolationLevel,
) -> None:
    """No row is copied, and rows on both sides of the end of history are there after each turn."""
    catalog = Catalog(conn, sql_files)
    before, file = catalog.read(events), filenode(conn, events)

    with writing(database, events, isolation=isolation) as writers:
        assert work.prepare()
        assert not work.prepare()
        assert work.switch()
        assert not work.switch()
    live = catalog.read(events)
    assert live.kind == "p"
    assert filenode(conn, HistoryNames(work.names).history) == file
    assert writers.lost(conn, events) == []
    assert {index.name for index in live.indexes} == {index.name for index in before.indexes}
    assert [key.name for key in live.foreign_keys] == [key.name for key in before.foreign_keys]

    around = end_of(conn, events) - timedelta(days=35)
    with writing(database, events, isolation=isolation, first=around) as wide:
        eventually(lambda: Preparation(work).attached(conn).outside_rows(conn) >= 50, 60)
        assert work.roll_back()
        assert not work.roll_back()
        back = catalog.read(events)
        assert work.prepare()
        assert work.switch()

    assert definition(back) == definition(before)
    assert filenode(conn, HistoryNames(work.names).history) == file
    for writer in (writers, wide):
        assert writer.did_everything, writer.acknowledged
    assert wide.lost(conn, events) == []
    assert {code for writer in (writers, wide) for code in writer.failed} <= {"40001", "40P01", "23514"}


def test_rows_outside_history_with_a_key_that_history_has_stand_in_the_way_by_name(
    conn: Connection, events: Name, work: Switchover
) -> None:
    """The old table has room for one of each primary key; the refusal changes nothing and says which."""
    work.prepare()
    work.switch()
    insert = 'insert into public."We""ird Events" (id, "Created At", "unit id", amount) values (%s, %s, 1, 1)'
    conn.execute(insert, [7, end_of(conn, events) + timedelta(days=1)])

    with pytest.raises(PreconditionError, match=r"primary key \(7\)"):
        work.roll_back()

    assert state.read_migration(conn, events).state == state.ATTACHED
    conn.execute('delete from public."We""ird Events" where id = 7 and "Created At" > %s', [end_of(conn, events)])
    assert work.roll_back()
    assert scalar(conn, 'select count(*) from public."We""ird Events" where id = 7') == 1


@pytest.mark.usefixtures("events")
def test_history_keeps_its_primary_key_unique(conn: Connection, work: Switchover) -> None:
    """Within history a doubled primary key is refused as before, by the index that the way back takes."""
    work.prepare()
    work.switch()
    insert = 'insert into public."We""ird Events" (id, "Created At", "unit id", amount) values (7, %s, 1, 1)'

    with pytest.raises(psycopg.errors.UniqueViolation, match="rehearsal_back"):
        conn.execute(insert, ["2026-01-31"])


def test_what_was_made_since_the_cut_over_stands_in_the_way_back(
    conn: Connection, events: Name, work: Switchover
) -> None:
    """A view on the partitioned table would be lost with it; the way back names it and changes nothing."""
    work.prepare()
    work.switch()
    conn.execute('create view public.newest as select max("Created At") as at from public."We""ird Events"')

    with pytest.raises(StepFailed, match="newest"):
        work.roll_back()

    assert state.read_migration(conn, events).state == state.ATTACHED
    conn.execute("drop view public.newest")
    assert work.roll_back()


def test_a_row_beyond_the_end_of_history_undoes_the_preparation(
    conn: Connection, sql_files: SqlFiles, events: Name, work: Switchover, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came between the choice of the end and the check; the next run chooses a later end."""
    before = Catalog(conn, sql_files).read(events)
    late: list[datetime] = []

    def write_late_row(_work: Switchover, step: str) -> None:
        if step == "unique-indexes" and not late:
            late.append(end_of(conn, events) + timedelta(days=3))
            conn.execute('update public."We""ird Events" set "Created At" = %s where id = 7', late)

    monkeypatch.setattr(Switchover, "begin", write_late_row)
    with pytest.raises(StepFailed, match="later end of history"):
        work.prepare()
    assert definition(Catalog(conn, sql_files).read(events)) == definition(before)

    assert work.prepare()
    assert end_of(conn, events) > late[0]
    assert work.switch()


def test_an_undone_preparation_leaves_nothing(
    conn: Connection, sql_files: SqlFiles, events: Name, work: Switchover
) -> None:
    """Before the cut-over the way back takes everything off the table again."""
    before = Catalog(conn, sql_files).read(events)
    work.prepare()
    with pytest.raises(psycopg.errors.CheckViolation, match="rehearsal"):
        conn.execute('update public."We""ird Events" set "Created At" = %s where id = 7', [end_of(conn, events)])

    assert work.roll_back()
    assert not work.roll_back()

    assert definition(Catalog(conn, sql_files).read(events)) == definition(before)
    assert Catalog(conn, sql_files).find(work.names.target) is None
    assert work.prepare()


@pytest.mark.usefixtures("events")
def test_an_invalid_index_that_a_kill_left_is_built_anew(conn: Connection, work: Switchover) -> None:
    """CREATE INDEX CONCURRENTLY leaves an invalid index behind; the next run does not take it for its own."""
    work.prepare()
    conn.execute("update pg_index set indisvalid = false where indexrelid = %s::regclass", [_quoted(work)])
    conn.execute("delete from rehearsal.step where name = 'unique-indexes'")
    conn.execute("update rehearsal.migration set state = 'prepared'")

    assert work.prepare()

    assert scalar(conn, "select indisvalid from pg_index where indexrelid = %s::regclass", [_quoted(work)])
    assert work.switch()


def _quoted(work: Switchover) -> str:
    return quote_ident((work.names.source[0], HistoryNames(work.names).key_index))


def test_a_key_that_may_be_null_may_be_so_again_after_the_way_back(
    conn: Connection, sql_files: SqlFiles, events: Name, work: Switchover
) -> None:
    """A partition key is not null; the validated check spares the scan for it."""
    conn.execute('alter table public."We""ird Events" alter "Created At" drop not null')
    before = Catalog(conn, sql_files).read(events)

    work.prepare()
    work.switch()
    assert Catalog(conn, sql_files).read(HistoryNames(work.names).history).column("Created At").not_null
    work.roll_back()

    assert definition(Catalog(conn, sql_files).read(events)) == definition(before)


def test_a_primary_key_that_holds_the_partition_key_stays(
    conn: Connection, sql_files: SqlFiles, events: Name, work: Switchover
) -> None:
    """Then there is nothing to build, and nothing to swap."""
    conn.execute(
        'alter table public."We""ird Events" drop constraint "We""ird Events_pkey", '
        'add constraint "its own" primary key ("Created At", id)'
    )
    before = Catalog(conn, sql_files).read(events)

    work.prepare()
    assert len(Catalog(conn, sql_files).read(events).indexes) == len(before.indexes)
    work.switch()
    assert {index.name for index in Catalog(conn, sql_files).read(events).indexes} == {
        index.name for index in before.indexes
    }
    work.roll_back()

    assert definition(Catalog(conn, sql_files).read(events)) == definition(before)


def test_a_bound_that_the_server_has_to_check_is_refused(conn: Connection, events: Name, work: Switchover) -> None:
    """Without its proof the cut-over would read every row under the lock: it is taken back instead."""
    work.prepare()
    bound = sql.Identifier(HistoryNames(work.names).bound)
    conn.execute(
        sql.SQL("alter table {} drop constraint {}, add constraint {} check (true)").format(
            sql.Identifier(*events), bound, bound
        )
    )

    with pytest.raises(StepFailed, match="the rows were read"):
        work.switch()

    assert state.read_migration(conn, events).state == state.READY
    assert Catalog(conn, work.files).read(events).kind == "r"


def test_a_missing_index_is_never_built_under_the_lock(
    conn: Connection, events: Name, work: Switchover, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index was changed after the parent was made: refused by name; unseen, it would be built and taken back."""
    work.prepare()
    conn.execute('drop index public."events by unit"')
    conn.execute('create index "events by unit" on public."We""ird Events" ("unit id", "Created At")')

    with pytest.raises(PreconditionError, match="changed since its target was made: index"):
        work.switch()
    monkeypatch.setattr(Watch, "find", lambda *_: [])
    with pytest.raises(StepFailed, match="built anew"):
        work.switch()

    assert Catalog(conn, work.files).read(events).kind == "r"


def test_the_fence_stays_for_an_old_snapshot_and_goes_with_it(
    database: Database, conn: Connection, events: Name, work: Switchover, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot from before that has not touched the table fails at its first write, and only it does."""
    monkeypatch.setattr(fence, "MAX_WAIT_S", 0.1)
    work.prepare()
    work.switch()
    update = 'update public."We""ird Events" set note = %s where id = 7'
    insert = 'insert into public."We""ird Events" ("Created At", "unit id", amount) values (%s, 1, 1)'
    conn.execute(insert, [end_of(conn, events)])
    with connect(database, autocommit=False, role="sleeper") as sleeper, connect(database) as other:
        sleeper.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        monkeypatch.setattr(attached, "refuse_old_snapshots", lambda _: sleeper.execute("select 1"))
        assert work.roll_back()
        other.execute(update, ["new"])
        with pytest.raises(psycopg.errors.SerializationFailure, match="exchanged"):
            sleeper.execute(update, ["old"])
        sleeper.rollback()
        sleeper.execute(update, ["again"])
        sleeper.commit()

    assert work.roll_back()
    assert Catalog(conn, work.files).read(events).triggers == ()


def test_the_way_back_brings_every_row_that_was_written_outside_history(
    conn: Connection, sql_files: SqlFiles, events: Name, work: Switchover
) -> None:
    """Count and digest of the old table are those of all partitions together, moved rows included."""
    reader = Reader(sql_files, work.spec, "id", 4000)
    first = reader.read(conn, events)
    work.prepare()
    work.switch()
    parent = Catalog(conn, sql_files).read(events)
    until = Split.of_detail(state.read_migration(conn, events).detail).until

    outside = make_witnesses(conn, sql_files, parent, work.spec, until, 100)
    before = reader.read(conn, events)
    assert outside == Preparation(work).attached(conn).outside_rows(conn) == 80
    assert work.roll_back()

    assert reader.read(conn, events) == before != first
    assert drop_witnesses(conn, events, work.spec) == 90
    assert reader.read(conn, events) == first


def test_the_digest_of_untouched_rows_sees_one_value(
    conn: Connection, sql_files: SqlFiles, events: Name, work: Switchover
) -> None:
    """Rows of the load do not count, any other does."""
    reader = Reader(sql_files, work.spec, "id", 4000)
    before = reader.read(conn, events)
    conn.execute('update public."We""ird Events" set note = %s where id = 7', ["lg:1:1:1"])
    conn.execute('insert into public."We""ird Events" ("Created At", "unit id", amount) values (now(), 1, 1)')

    assert reader.read(conn, events).rows == before.rows - 1
    conn.execute('update public."We""ird Events" set note = %s where id = 7', ["note 7"])
    assert reader.read(conn, events) == before
    conn.execute('update public."We""ird Events" set amount = amount + 1 where id = 8')
    assert reader.read(conn, events).rows == before.rows
    assert reader.read(conn, events) != before


def test_more_rows_outside_history_than_the_lock_allows_are_refused_with_their_price(
    conn: Connection, events: Name, work: Switchover
) -> None:
    """The application would wait for longer than the plan allows, so nobody waits at all."""
    work.prepare()
    work.switch()
    conn.execute(
        'insert into public."We""ird Events" ("Created At", "unit id", amount) '
        "select %s::timestamptz + n * interval '1 second', 1, 1 from generate_series(1, 600) as n",
        [end_of(conn, events)],
    )
    small = replace(work, plan=make_plan("attach", locks={"hold_ms": 10}))

    with pytest.raises(PreconditionError, match=r"600 rows .* 12 ms at least"):
        small.roll_back()

    assert state.read_migration(conn, events).state == state.ATTACHED
    assert work.roll_back()
