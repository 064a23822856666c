"""What a whole migration costs against the raw floor and against the playbook's loop, in one run.

    python -m tests.bench.migration [ROWS] [ROUNDS]

Final state of every way: monthly partitions, primary key, three more indexes, two foreign keys, analyzed. The floor is
one session: `INSERT … SELECT`, then indexes, then foreign keys, then ANALYZE. Ours works with capture on, drains,
swaps and verifies. Ways take turns, so that a noisy machine hits all of them.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from fleet.cluster import Cluster
from rehearsal import state
from rehearsal.catalog import Catalog
from rehearsal.environment import Database
from rehearsal.evidence import Run
from rehearsal.indexes import foreign_key_sql, index_statements
from rehearsal.names import Names
from rehearsal.parity import compare
from rehearsal.plan import Plan
from rehearsal.postgres import Connection, connect
from rehearsal.sqlfiles import SqlFiles, as_query
from rehearsal.switchover import Switchover
from rehearsal.twin import Shape, render_changes

ROOT = Path(__file__).resolve().parents[2]
TABLE = ("public", "readings")
BATCH = 10_000
SCHEMA = """
create table public.units (id int primary key);
create table public.devices (id int primary key);
insert into public.units select n from generate_series(1, 50) as n;
insert into public.devices select n from generate_series(1, 50) as n;
create table public.readings (
    id bigserial primary key, unit_id int not null, device_id int not null, temperature numeric(5, 2), battery int,
    recorded_at timestamptz not null, source text
);
insert into public.readings (unit_id, device_id, temperature, battery, recorded_at, source)
select 1 + n %% 50, 1 + n * 7 %% 50, (n %% 4000) / 100.0, n %% 100,
       '2025-01-01'::timestamptz + random() * interval '365 days', 'synthetic'
from generate_series(1, {rows}) as n;
create index readings_unit_time on public.readings (unit_id, recorded_at);
create index readings_device on public.readings (device_id);
create index readings_recorded on public.readings (recorded_at);
alter table public.readings add foreign key (unit_id) references public.units (id);
alter table public.readings add foreign key (device_id) references public.devices (id);
vacuum (analyze) public.readings;
"""


def make_plan() -> Plan:
    """Return the plan of the table, two workers."""
    table = {"name": ".".join(TABLE), "key": "recorded_at"}
    return Plan.model_validate({"name": "bench", "strategy": "swap", "tables": [table], "copy": {"workers": 2}})


class Bench:
    """One database with the source table and, for each measurement, a fresh clone of it."""

    def __init__(self, rows: int) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="pgr-bench-"))
        self.base.chmod(0o711)
        self.cluster = Cluster(self.base)
        self.cluster.start(
            settings={"shared_buffers": "'2GB'", "max_wal_size": "'16GB'", "checkpoint_timeout": "'30min'"}
        )
        self.server = Database(
            "127.0.0.1", self.cluster.facts()["port"], "postgres", "postgres", self.cluster.password()
        )
        self.files = SqlFiles(ROOT / "sql")
        self.plan = make_plan()
        with connect(self.server) as conn:
            conn.execute("create database origin")
        with connect(self._database("origin")) as conn:
            conn.execute(self.files.query("registry.sql"))
            for statement in SCHEMA.replace("%%", "%").format(rows=rows).split(";\n"):
                if statement.strip():
                    conn.execute(as_query(statement))
            for change in render_changes(conn, self.files, self.plan, datetime(2025, 12, 15, tzinfo=UTC)):
                conn.execute(as_query(change.body))

    def _database(self, name: str) -> Database:
        return Database(self.server.host, self.server.port, name, self.server.user, self.server.password)

    def measure(self, way: Callable[[Bench, Database], None]) -> float:
        """Return the seconds that a way takes on a fresh clone."""
        with connect(self.server) as conn:
            conn.execute("drop database if exists clone with (force)")
            conn.execute("create database clone template origin")
            conn.execute("checkpoint")
        started = time.monotonic()
        way(self, self._database("clone"))
        return time.monotonic() - started

    def close(self) -> None:
        """Remove everything."""
        self.cluster.destroy()
        shutil.rmtree(self.base, ignore_errors=True)


def bare_twin(conn: Connection, bench: Bench) -> tuple[list[str], list[str]]:
    """Take triggers and primary key off the twin; return the statements of its indexes and of its foreign keys."""
    catalog = Catalog(conn, bench.files)
    source, target = catalog.read(TABLE), catalog.read(Names(TABLE).target)
    conn.execute("alter table public.readings disable trigger user")
    for index in target.indexes:
        conn.execute(as_query(f"alter table public.readings_partitioned drop constraint {index.constraint_name}"))
    target = catalog.read(Names(TABLE).target)
    indexes = [parent for _, parent in index_statements(source, target, Shape.of(source, "recorded_at"))]
    return indexes, foreign_key_sql(source, target)[2]


def floor(bench: Bench, database: Database) -> None:
    """One session: rows, then indexes, then foreign keys, then ANALYZE."""
    with connect(database) as conn:
        indexes, keys = bare_twin(conn, bench)
        conn.execute("insert into public.readings_partitioned select * from public.readings")
        for statement in [*indexes, *keys, "analyze public.readings_partitioned"]:
            conn.execute(as_query(statement))


def loop(bench: Bench, database: Database) -> None:
    """The playbook's way: everything created first, then batches of 10,000 by id."""
    with connect(database) as conn:
        indexes, keys = bare_twin(conn, bench)
        for statement in [*indexes, *keys]:
            conn.execute(as_query(statement))
        last = 0
        while True:
            row = conn.execute(
                "with batch as (select * from public.readings where id > %s order by id limit %s), "
                "done as (insert into public.readings_partitioned select * from batch) select max(id) from batch",
                [last, BATCH],
            ).fetchone()
            if row is None or row[0] is None:
                break
            last = row[0]
        conn.execute("analyze public.readings_partitioned")


def ours(bench: Bench, database: Database) -> None:
    """Capture, copy, indexes, drain, statistics, swap, foreign keys."""
    run = Run.create(bench.base / "runs", "bench", f"{time.monotonic_ns()}")
    work = Switchover(database, bench.files, bench.plan, bench.plan.tables[0], run)
    work.prepare()
    work.switch()
    with connect(database) as conn:
        found = state.read_migration(conn, TABLE)
        steps = conn.execute("select name, duration_ms from rehearsal.step where migration = %s", [found.id]).fetchall()
    print("   steps, ms:", ", ".join(f"{name} {ms:.0f}" for name, ms in steps))


def parity(bench: Bench, database: Database) -> float:
    """Return the seconds of an exact comparison of the last clone."""
    with connect(database) as conn:
        catalog, names = Catalog(conn, bench.files), Names(TABLE)
        source, target = catalog.read(names.retired), catalog.read(names.source)
    started = time.monotonic()
    report = compare(database, bench.files, source, target, "recorded_at", self_test=False)
    seconds = time.monotonic() - started
    print(f"   parity of both sides {seconds:.2f} s, {report.unexplained} rows differ")
    return seconds


def main(words: list[str]) -> None:
    """Print a table of medians and ratios to the floor."""
    rows = int(words[0]) if words else 1_000_000
    rounds = int(words[1]) if len(words) > 1 else 3
    bench = Bench(rows)
    ways: dict[str, Callable[[Bench, Database], None]] = {"floor": floor, "ours": ours, "loop of 10,000": loop}
    seconds: dict[str, list[float]] = {name: [] for name in [*ways, "parity"]}
    try:
        for number in range(rounds):
            for name, way in ways.items():
                seconds[name].append(bench.measure(way))
                print(f"round {number + 1} {name}: {seconds[name][-1]:.2f} s", flush=True)
                if name == "ours":
                    seconds["parity"].append(parity(bench, bench._database("clone")))
    finally:
        bench.close()
    base = statistics.median(seconds["floor"])
    print(f"\n| way, {rows:,} rows | median s | ratio to the floor |\n| --- | --- | --- |")
    for name, values in seconds.items():
        print(f"| {name} | {statistics.median(values):.2f} | {statistics.median(values) / base:.2f} |")


if __name__ == "__main__":
    main(sys.argv[1:])
