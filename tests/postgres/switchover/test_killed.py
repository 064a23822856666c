"""`kill -9` at statement after statement of a switchover under writers; each next run goes on, and nothing is lost."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from rehearsal.catalog.tables import Catalog, Name
from rehearsal.environment import Database
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover import state
from rehearsal.switchover.strategies.attach.prepare import Preparation
from tests.fix_postgres import ROOT
from tests.fix_tables import Prepared, deploy, difference, make_plan, make_switchover, names_of, writing
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.long]


@pytest.mark.parametrize("strategy", ["dual-write", "swap"])
def test_killed_at_statement_after_statement_it_still_ends_exact(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run, tmp_path: Path, strategy: str
) -> None:
    """At least ten lives, the last one reaches the end; all acknowledged writes are in both tables."""
    plan, names = make_plan(strategy), names_of(events)
    deploy(conn, sql_files, plan)
    command = [sys.executable, "-m", "tests.killed", str(tmp_path / "runs"), strategy, "7"]

    with writing(database, events, writers=2) as writers:
        facts = json.dumps(dataclasses.asdict(database))
        done = subprocess.run(command, cwd=ROOT, input=facts, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 10
    assert writers.did_everything, writers.acknowledged
    assert writers.lost(conn, events) == []
    wanted = state.MIRRORED if strategy == "dual-write" else state.SWAPPED
    assert state.read_migration(conn, events).state == wanted
    work = make_switchover(database, sql_files, plan, run)
    assert [trigger for trigger in work.trigger_states(conn) if trigger.found != trigger.wanted] == []
    assert not work.switch()
    work.follow()
    other = names.target if strategy == "dual-write" else names.retired
    assert difference(conn, events, other) == (0, 0)


def test_attach_killed_at_statement_after_statement_there_and_back(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run, tmp_path: Path
) -> None:
    """Each next life goes on; in the end the table is what it was, with every acknowledged write, and nothing more."""
    plan = make_plan("attach")
    deploy(conn, sql_files, plan)
    before = Catalog(conn, sql_files).read(events)
    attach = Preparation(make_switchover(database, sql_files, plan, run))

    with writing(database, events, writers=2) as writers:
        assert live(database, tmp_path, "5") >= 10
    assert state.read_migration(conn, events).state == state.ATTACHED
    assert not make_switchover(database, sql_files, plan, run).switch()
    until = datetime.fromisoformat(attach.statements(conn).split.until)
    with writing(database, events, writers=2, first=until - timedelta(days=30)) as wide:
        eventually(lambda: attach.attached(conn).outside_rows(conn) >= 50, 60)
        assert live(database, tmp_path, "5", "back") >= 4

    after = Catalog(conn, sql_files).read(events)
    assert (after.columns, after.indexes, after.constraints) == (before.columns, before.indexes, before.constraints)
    assert after.triggers == ()
    assert Catalog(conn, sql_files).find(names_of(events).target) is None
    for writer in (writers, wide):
        assert writer.did_everything, writer.acknowledged
    assert writers.lost(conn, events) == []
    assert wide.lost(conn, events) == []


@pytest.mark.parametrize("stride", [19, pytest.param(7, marks=pytest.mark.hours)])
def test_split_killed_at_statement_after_statement_ends_exact(
    database: Database,
    conn: Connection,
    sql_files: SqlFiles,
    events: Name,
    tmp_path: Path,
    prepared: Prepared,
    stride: int,
) -> None:
    """Writers go on all the time; every row is in its month, and after the way back nothing of the split is left."""
    work = prepared(make_plan("attach"))
    work.switch()

    with writing(database, events, writers=2) as writers:
        assert live(database, tmp_path, "23", "split") >= 6

    assert writers.did_everything, writers.acknowledged
    assert writers.lost(conn, events) == []
    assert state.read_migration(conn, events).state == state.SPLIT
    with writing(database, events, writers=2) as back:
        assert live(database, tmp_path, str(stride), "back") >= 6
    assert back.lost(conn, events) == []
    assert Catalog(conn, sql_files).read(events).kind == "r"
    assert_nothing_of_a_split_is_left(conn)


def test_a_split_that_was_killed_does_not_stand_in_the_way_back(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run, tmp_path: Path
) -> None:
    """Half of the rows are copied when somebody decides to go back."""
    plan = make_plan("attach")
    deploy(conn, sql_files, plan)
    before = Catalog(conn, sql_files).read(events)
    work = make_switchover(database, sql_files, plan, run)
    work.prepare()
    work.switch()

    with writing(database, events, writers=2) as writers:
        live(database, tmp_path, "40", "split", "2")
        assert scalar(conn, "select count(*) from rehearsal.migration") == 2
        assert work.roll_back()

    after = Catalog(conn, sql_files).read(events)
    assert (after.columns, after.indexes, after.triggers) == (before.columns, before.indexes, before.triggers)
    assert writers.lost(conn, events) == []
    assert_nothing_of_a_split_is_left(conn)
    assert work.prepare()
    assert work.switch()


def assert_nothing_of_a_split_is_left(conn: Connection) -> None:
    """No log, no function, no trigger, no half-made partition, no state but the table's own."""
    assert scalar(conn, "select count(*) from rehearsal.migration") == 1
    assert scalar(conn, "select count(*) from pg_tables where schemaname = 'rehearsal' and tablename ~ '^log_'") == 0
    assert scalar(conn, "select count(*) from pg_trigger where tgname ~ 'rehearsal'") == 0
    assert scalar(conn, "select count(*) from pg_proc where proname ~ '^(capture|refuse_truncate)'") == 0
    assert scalar(conn, "select count(*) from pg_class where relname ~ '_history_partitioned'") == 0
    assert scalar(conn, "select count(*) from pg_constraint where conname ~ 'rehearsal'") == 0
    assert scalar(conn, "select count(*) from pg_index where not indisvalid") == 0


def live(database: Database, folder: Path, *more: str) -> int:
    """Let the switchover live and die; return how many lives it took."""
    command = [sys.executable, "-m", "tests.killed", str(folder / "runs"), "attach", *more]
    facts = json.dumps(dataclasses.asdict(database))
    done = subprocess.run(command, cwd=ROOT, input=facts, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])
