"""Split: history is split into the plan's partitions while writers are at work."""

from __future__ import annotations

from datetime import datetime, timedelta

import psycopg
import pytest

from rehearsal.catalog.tables import Catalog, Name
from rehearsal.checks.inspection import inspect
from rehearsal.commands.cleanup import clean_up
from rehearsal.environment import Database, Environment
from rehearsal.errors import PreconditionError
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.rehearse.context import Context
from rehearsal.switchover import state
from rehearsal.switchover.detail import Split
from rehearsal.switchover.strategies.attach.split import HistorySplit
from rehearsal.switchover.table import Switchover
from tests.fix_postgres import ROOT
from tests.fix_tables import Prepared, deploy, difference, make_plan, make_switchover, writing

ISOLATIONS = [psycopg.IsolationLevel.READ_COMMITTED, psycopg.IsolationLevel.REPEATABLE_READ]
ON_LEAVES_ALONE = """
select count(*) from pg_catalog.pg_constraint as c join pg_catalog.pg_class as r on r.oid = c.conrelid
where c.contype = 'f' and (c.conparentid = 0 or not c.convalidated) and r.relispartition
"""


@pytest.fixture
def attached(database: Database, sql_files: SqlFiles, events: Name, run: Run, prepared: Prepared) -> HistorySplit:
    """The events table, attached."""
    plan = make_plan("attach")
    work = prepared(plan)
    work.switch()
    return HistorySplit(work)


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_history_is_split_under_writers(
    database: Database,
    conn: Connection,
    sql_files: SqlFiles,
    events: Name,
    attached: HistorySplit,
    isolation: psycopg.IsolationLevel,
) -> None:
    """Every acknowledged write is there, in the partition of its month; history is detached and kept."""
    found = state.read_migration(conn, events)
    until = datetime.fromisoformat(Split.of_detail(found.detail).until)
    before = Catalog(conn, sql_files).read(events)

    with (
        writing(database, events, writers=1, isolation=isolation) as old,
        writing(database, events, writers=1, isolation=isolation, first=until - timedelta(days=35)) as wide,
    ):
        assert attached.split()
        assert not attached.split()

    for writer in (old, wide):
        assert writer.did_everything, writer.acknowledged
        assert writer.lost(conn, events) == []
        assert set(writer.failed) <= {"40001", "40P01"}
    after = Catalog(conn, sql_files).read(events)
    names = {leaf.name[1] for leaf in after.partitions}
    assert {'We"ird Events_y2026m01', 'We"ird Events_y2026m02', 'We"ird Events_older'} <= names
    assert attached.history.source[1] not in names
    assert (after.columns, after.indexes, after.foreign_keys) == (before.columns, before.indexes, before.foreign_keys)
    assert scalar(conn, ON_LEAVES_ALONE) == 0
    assert after.triggers == ()
    history = Catalog(conn, sql_files).read(attached.history.source)
    findings = inspect(conn, sql_files, attached.work.spec, history, after)
    assert [problem for finding in findings for problem in finding.problems] == []
    conn.execute(
        'insert into public."We""ird Events" ("Created At", "unit id", amount) values (%s, 1, 1)', ["1999-01-01"]
    )


def test_without_writers_history_and_its_partitions_are_the_same(
    conn: Connection, events: Name, attached: HistorySplit
) -> None:
    """The retired history table has what the partitions have, row by row."""
    attached.split()

    assert difference(conn, events, attached.history.source) == (0, 0)
    assert scalar(conn, 'select count(*) from public."We""ird Events"') == 4000


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_the_way_back_of_a_split_loses_nothing(
    database: Database,
    conn: Connection,
    sql_files: SqlFiles,
    events: Name,
    attached: HistorySplit,
    isolation: psycopg.IsolationLevel,
) -> None:
    """Written since the split, in fine partitions and later ones: everything is in the old table."""
    until = datetime.fromisoformat(Split.of_detail(state.read_migration(conn, events).detail).until)
    work = make_switchover(database, sql_files, attached.work.plan, attached.work.run)

    with (
        writing(database, events, writers=1, isolation=isolation) as old,
        writing(database, events, writers=1, isolation=isolation, first=until - timedelta(days=35)) as wide,
    ):
        attached.split()
        assert work.roll_back()
        assert not work.roll_back()
        plain = Catalog(conn, sql_files).read(events)
        assert work.prepare()
        assert work.switch()
        assert attached.split()

    assert plain.kind == "r"
    assert plain.primary_key == ("id",)
    for writer in (old, wide):
        assert writer.did_everything, writer.acknowledged
        assert writer.lost(conn, events) == []
        assert set(writer.failed) <= {"40001", "40P01", "23514"}
    assert scalar(conn, ON_LEAVES_ALONE) == 0


def test_history_that_was_split_follows_its_partitions(conn: Connection, events: Name, attached: HistorySplit) -> None:
    """A row that moves out of history's range leaves it; TRUNCATE of a partition is refused."""
    attached.split()
    until = Split.of_detail(state.read_migration(conn, events).detail).until
    conn.execute('update public."We""ird Events" set "Created At" = %s where id = 7', [until])
    conn.execute("""update public."We""ird Events" set "Created At" = '2026-01-20' where id = 4000""")
    conn.execute('delete from public."We""ird Events" where id = 9')
    with pytest.raises(psycopg.errors.ObjectInUse, match="TRUNCATE"):
        conn.execute('truncate public."We""ird Events"')

    assert isinstance(attached.work, Switchover)
    work = attached.work
    assert work.follow() > 0

    assert difference(conn, events, attached.history.source) == (1, 0)
    assert work.roll_back()
    assert scalar(conn, 'select count(*) from public."We""ird Events"') == 3999


@pytest.mark.usefixtures("events")
def test_a_table_that_is_not_attached_is_refused(
    database: Database, conn: Connection, sql_files: SqlFiles, run: Run
) -> None:
    """There is no history to split yet."""
    plan = make_plan("attach")
    deploy(conn, sql_files, plan)

    with pytest.raises(PreconditionError, match="once it is attached"):
        HistorySplit(make_switchover(database, sql_files, plan, run)).split()


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.usefixtures("events")
def test_clean_up_ends_the_way_back_and_keeps_the_table(
    database: Database, conn: Connection, sql_files: SqlFiles, attached: HistorySplit, *, split: bool
) -> None:
    """After the stable days nothing of ours is left but the partitions; before them it is refused."""
    plan = attached.work.plan
    env = Environment("local", "local", ROOT, database, database, "@process/db", (), ROOT, "root@localhost", None)
    context = Context(ROOT, plan, env, attached.work.run, sql_files, "")
    if split:
        attached.split()
    with pytest.raises(PreconditionError, match="may be dropped from"):
        clean_up(context, conn)
    conn.execute("update rehearsal.migration set changed_at = now() - interval '30 days'")

    clean_up(context, conn)

    assert (Catalog(conn, sql_files).find(attached.history.source) is None) is split
    assert scalar(conn, "select count(*) from rehearsal.migration") == 0
    assert scalar(conn, "select count(*) from pg_class where relname ~ '_rehearsal_|^log_'") == 0
    assert scalar(conn, "select count(*) from pg_trigger where tgname ~ 'rehearsal'") == 0
    assert scalar(conn, 'select count(*) from public."We""ird Events"') == 4000
    conn.execute('update public."We""ird Events" set note = %s where id = 7', ["after"])
