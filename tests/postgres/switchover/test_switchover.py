"""The switchover of one table under live writers: forward, back, forward again."""

from __future__ import annotations

import pytest

from rehearsal.catalog.tables import Catalog, Name
from rehearsal.environment import Database
from rehearsal.errors import LockNotAcquired
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover import state
from tests.fix_tables import Prepared, deploy, difference, make_plan, make_switchover, names_of, writing


def test_dual_write_loses_nothing_under_writers(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run
) -> None:
    """After the cutover both tables are equal, whichever of the two is written."""
    plan, names = make_plan("dual-write"), names_of(events)
    deploy(conn, sql_files, plan)
    work = make_switchover(database, sql_files, plan, run)

    with writing(database, events) as writers:
        assert work.prepare()
        assert not work.prepare()
        assert work.switch()
        assert not work.switch()

    assert writers.did_everything, writers.acknowledged
    assert difference(conn, events, names.target) == (0, 0)
    assert writers.lost(conn, events) == []
    assert state.read_migration(conn, events).state == state.MIRRORED

    with writing(database, names.target) as on_target, writing(database, events) as on_source:
        on_target.until_at_work()
        on_source.until_at_work()
        work.follow()
    assert on_target.acknowledged
    assert on_source.acknowledged
    assert difference(conn, events, names.target) == (0, 0)
    assert on_target.lost(conn, events) == [] == on_source.lost(conn, names.target)


def test_swap_back_and_forth_loses_nothing_under_writers(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run
) -> None:
    """Writers keep the table's name in mind and nothing else; every acknowledged write is there after each turn."""
    plan, names = make_plan("swap"), names_of(events)
    deploy(conn, sql_files, plan)
    before = Catalog(conn, sql_files).read(events)
    work = make_switchover(database, sql_files, plan, run)

    with writing(database, events) as writers:
        assert work.prepare()
        assert work.switch()
        assert Catalog(conn, sql_files).read(events).kind == "p"
        assert work.roll_back()
        assert not work.roll_back()
        back = Catalog(conn, sql_files).read(events)
        assert work.switch()

    assert writers.did_everything, writers.acknowledged
    assert writers.lost(conn, events) == []
    work.follow()
    assert difference(conn, events, names.retired) == (0, 0)
    assert (back.kind, back.indexes, back.foreign_keys) == (before.kind, before.indexes, before.foreign_keys)
    live = Catalog(conn, sql_files).read(events)
    assert [key.name for key in live.foreign_keys] == [key.name for key in before.foreign_keys]
    assert {index.name for index in live.indexes} == {index.name for index in before.indexes}
    assert live.comment == before.comment


@pytest.mark.parametrize("strategy", ["dual-write", "swap"])
def test_late_writer_that_sleeps_in_a_transaction_is_waited_for(
    database: Database, conn: Connection, events: Name, strategy: str, prepared: Prepared
) -> None:
    """An open transaction in the way costs tries, and the switch gives up by name; then it succeeds."""
    work = prepared(make_plan(strategy, locks={"timeout_ms": 20, "max_timeout_ms": 40, "attempts": 3}))
    with connect(database, autocommit=False, role="sleeper") as sleeper:
        sleeper.execute('update public."We""ird Events" set note = %s where id = 7', ["late"])
        with pytest.raises(LockNotAcquired, match="sleeper"):
            work.switch()
        assert state.read_migration(conn, events).state == state.FOLLOWING
        sleeper.commit()

    assert work.switch()
    names = names_of(events)
    left, right = (events, names.target) if strategy == "dual-write" else (names.retired, events)
    work.follow()
    assert difference(conn, left, right) == (0, 0)
