"""The engine is killed at random moments under writers, and a new process goes on each time."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from psycopg import sql

from rehearsal.catalog.tables import Catalog, Name
from rehearsal.checks.inspection import inspect
from rehearsal.environment import Database
from rehearsal.evidence.run import Run
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover import state
from tests.fix_tables import deploy, difference, make_plan, make_switchover, names_of, writing

pytestmark = [pytest.mark.slow, pytest.mark.long]
ROOT = Path(__file__).resolve().parent.parent.parent
KILLS = 6
SECONDS = {"dual-write": 1.2, "swap": 1.8}
UNFINISHED = """
select count(*) from pg_catalog.pg_constraint where not convalidated and contype = 'f'
"""
ON_LEAVES_ALONE = """
select count(*) from pg_catalog.pg_constraint as c join pg_catalog.pg_class as r on r.oid = c.conrelid
where c.contype = 'f' and c.conparentid = 0 and r.relispartition
"""
INVALID = "select count(*) from pg_catalog.pg_index where not indisvalid or not indisready"
SESSIONS = """
select count(*) from pg_catalog.pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and application_name like 'pg-rehearsal %'
      and application_name <> 'pg-rehearsal engine'
"""


def start(database: Database, strategy: str, run: Run, turns: int) -> subprocess.Popen[str]:
    """Start the driver; it is about to begin when this returns."""
    told = {"database": asdict(database), "strategy": strategy, "folder": str(run.folder), "turns": turns}
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.resilience.driver", json.dumps(told)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    line = child.stdout.readline()
    assert line == "ready\n", child.communicate()
    return child


def kill_after(child: subprocess.Popen[str], seconds: float) -> bool:
    """Kill the driver after that time; return whether it was still at work."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        _, errors = child.communicate(timeout=seconds)
        assert child.returncode == 0, errors
        return False
    child.send_signal(signal.SIGKILL)
    child.communicate()
    return child.returncode == -signal.SIGKILL


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.hours)])
@pytest.mark.parametrize("strategy", ["dual-write", "swap"])
def test_a_killed_engine_goes_on_and_loses_nothing(
    database: Database, conn: Connection, sql_files: SqlFiles, events: Name, run: Run, strategy: str, seed: int
) -> None:
    """Six kills a life at random moments, between them a new process; then it finishes and everything is whole."""
    plan, chance = make_plan(strategy), random.Random(f"{strategy} {seed}")
    names, turns = names_of(events), 3 if strategy == "swap" else 0
    deploy(conn, sql_files, plan)
    seen: list[str] = []

    with writing(database, events, writers=2) as writers:
        for _ in range(KILLS):
            killed = kill_after(start(database, strategy, run, turns), chance.uniform(0, SECONDS[strategy]))
            seen.append(f"{state.read_migration(conn, events).state}{'' if killed else ' (at its end)'}")
        last = start(database, strategy, run, turns)
        said, errors = last.communicate(timeout=60)
        assert (last.returncode, said) == (0, "done\n"), (errors, seen)

    assert any("at its end" not in line for line in seen), seen
    assert writers.did_everything, writers.acknowledged
    assert writers.lost(conn, events) == []
    work = make_switchover(database, sql_files, plan, run)
    if work.log_now(conn) is not None:
        work.follow()
    plain, parted = (names.retired, events) if strategy == "swap" else (events, names.target)
    assert difference(conn, plain, parted) == (0, 0), seen
    assert_whole(
        conn,
        sql_files,
        work_states=[(trigger.name, trigger.found, trigger.wanted) for trigger in work.trigger_states(conn)],
    )
    catalog = Catalog(conn, sql_files)
    for finding in inspect(conn, sql_files, plan.tables[0], catalog.read(plain), catalog.read(parted)):
        # Partitions of the present are the lifecycle's: the table under test stands still in a month of its own.
        assert finding.passed or finding.check == "partitions", (finding.check, finding.problems, seen)


def assert_whole(conn: Connection, sql_files: SqlFiles, work_states: list[tuple[str, str | None, str]]) -> None:
    """Nothing is left half done: triggers, foreign keys, indexes, the ledger of chunks, sessions."""
    assert [state_now for state_now in work_states if state_now[1] != state_now[2]] == []
    assert scalar(conn, UNFINISHED) == 0
    assert scalar(conn, ON_LEAVES_ALONE) == 0
    assert scalar(conn, INVALID) == 0
    assert scalar(conn, "select count(*) from rehearsal.chunk where done_at is null") == 0
    assert scalar(conn, sql.SQL("select count(*) from rehearsal.chunk")) > 5
    assert scalar(conn, SESSIONS) == 0
