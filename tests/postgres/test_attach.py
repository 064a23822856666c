"""Strategy attach: the old table becomes the history partition, and comes back with every row."""

from __future__ import annotations

from datetime import datetime, timedelta

import psycopg
import pytest

from rehearsal import state
from rehearsal.attach import Attach
from rehearsal.catalog import Catalog, Name, Table
from rehearsal.environment import Database
from rehearsal.evidence import Run
from rehearsal.history import Split
from rehearsal.postgres import Connection, scalar
from rehearsal.sqlfiles import SqlFiles
from tests.fix_tables import deploy, make_plan, make_switchover, writing

ISOLATIONS = [psycopg.IsolationLevel.READ_COMMITTED, psycopg.IsolationLevel.REPEATABLE_READ]


@pytest.fixture
def work(database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run) -> Attach:
    """The events table, registered."""
    assert events
    plan = make_plan("attach")
    deploy(conn, sql_files, plan)
    return make_switchover(database, sql_files, plan, run).attach


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
    work: Attach,
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
    assert filenode(conn, work.extra.history) == file
    assert writers.lost(conn, events) == []
    assert {one.name for one in live.indexes} == {one.name for one in before.indexes}
    assert [one.name for one in live.foreign_keys] == [one.name for one in before.foreign_keys]

    around = end_of(conn, events) - timedelta(days=35)
    with writing(database, events, isolation=isolation, first=around) as wide:
        while work.attached(conn).outside_rows(conn) < 50:
            pass
        assert work.roll_back()
        assert not work.roll_back()
        back = catalog.read(events)
        assert work.prepare()
        assert work.switch()

    assert definition(back) == definition(before)
    assert filenode(conn, work.extra.history) == file
    for one in (writers, wide):
        assert min(one.acknowledged.get(action, 0) for action in ("insert", "update", "move", "delete")) > 0
    assert wide.lost(conn, events) == []
    assert {code for one in (writers, wide) for code in one.failed} <= {"40001", "40P01", "23514"}
