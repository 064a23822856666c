"""How long the locks of attach are held, there and back, by rows of history and by rows written outside of it.

    python -m tests.bench.attach [ROWS] [OUTSIDE ...]

Prints a line a lock. Nothing is asserted: what counts is how the hold grows, or does not.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from fleet.cluster import Cluster
from rehearsal.environment import Database
from rehearsal.evidence.events import LockTaken
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover import state
from rehearsal.switchover.changes import render_changes
from rehearsal.switchover.strategies.attach.prepare import Preparation
from rehearsal.switchover.table import Switchover
from tests.bench.world import ROOT, SCHEMA
from tests.fix_tables import NOW

TABLE = "public.readings"


def make_plan() -> Plan:
    """Return the plan; a lock may be held as long as it takes, since that is what is measured."""
    table = {"name": TABLE, "key": "recorded_at"}
    locks = {"hold_ms": 600_000}
    return Plan.model_validate({"name": "bench", "strategy": "attach", "tables": [table], "locks": locks})


def show_locks(run: Run, what: str) -> None:
    """Print the locks of the last turn."""
    for event in run.events()[-12:]:
        if isinstance(event.what, LockTaken) and what in event.what.what:
            print(f"{event.what.what:<40} held {event.what.held_ms:>8.1f} ms", flush=True)


def measure(database: Database, files: SqlFiles, outside: int, folder: Path) -> None:
    """Go there, write rows outside history, and go back."""
    plan, run = make_plan(), Run.create(folder, "local", f"bench{outside}")
    work = Switchover(database, files, plan, plan.tables[0], run)
    started = time.monotonic()
    work.prepare()
    prepared = time.monotonic() - started
    work.switch()
    print(f"prepared in {prepared:.2f} s")
    show_locks(run, "cutover")
    with connect(database) as conn:
        until = Preparation(work).statements(conn).split.until
        conn.execute(
            "insert into public.readings (unit_id, device_id, temperature, battery, recorded_at, source) "
            "select 1 + n %% 50, 1 + n %% 50, 1, 1, %s::timestamptz + n * interval '1 second', 'late' "
            "from generate_series(1, %s) as n",
            [until, outside],
        )
    work.roll_back()
    print(f"{outside:,} rows outside history:")
    show_locks(run, "rollback")


def fill(conn: Connection, files: SqlFiles, rows: int) -> None:
    """Make the table and register it."""
    conn.execute(files.query("registry.sql"))
    for statement in SCHEMA.replace("%%", "%").format(rows=rows).split(";\n"):
        if statement.strip():
            conn.execute(as_query(statement))
    for change in render_changes(conn, files, make_plan(), NOW):
        conn.execute(as_query(change.body))
    assert state.find_migration(conn, ("public", "readings"))


def main(words: list[str]) -> None:
    """Measure with no row outside history, and with as many as asked for."""
    rows, outside = int(words[0]) if words else 1_000_000, [int(word) for word in words[1:]] or [0, 10_000, 100_000]
    base = Path(tempfile.mkdtemp(prefix="pgr-attach-"))
    base.chmod(0o711)
    cluster = Cluster(base / "cluster")
    try:
        cluster.start(settings={"shared_buffers": "'1GB'", "max_wal_size": "'8GB'"})
        database = Database("127.0.0.1", cluster.facts()["port"], "postgres", "postgres", cluster.password())
        files = SqlFiles(ROOT / "sql")
        with connect(database) as conn:
            fill(conn, files, rows)
        print(f"{rows:,} rows of history")
        for count in outside:
            measure(database, files, count, base / "runs")
    finally:
        cluster.destroy()
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
