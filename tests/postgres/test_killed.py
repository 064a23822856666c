"""`kill -9` at statement after statement of a switchover under writers; each next run goes on, and nothing is lost."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from rehearsal import state
from rehearsal.catalog import Name
from rehearsal.environment import Database
from rehearsal.evidence import Run
from rehearsal.postgres import Connection
from rehearsal.sqlfiles import SqlFiles
from tests.fix_postgres import ROOT
from tests.fix_tables import deploy, difference, make_plan, make_switchover, names_of, writing

pytestmark = pytest.mark.slow


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
    assert min(writers.acknowledged.get(one, 0) for one in ("insert", "update", "move", "delete")) > 0
    assert writers.lost(conn, events) == []
    wanted = state.MIRRORED if strategy == "dual-write" else state.SWAPPED
    assert state.read_migration(conn, events).state == wanted
    work = make_switchover(database, sql_files, plan, run)
    assert [one for one in work.trigger_states(conn) if one.found != one.wanted] == []
    assert not work.switch()
    work.follow()
    other = names.target if strategy == "dual-write" else names.retired
    assert difference(conn, events, other) == (0, 0)
