"""The bench's own server: one database with the source table, a fresh clone of it for each measurement, and clocks."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from psycopg import sql

from fleet.cluster import Cluster
from rehearsal.environment import Database
from rehearsal.evidence.run import Run
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover.changes import render_changes
from rehearsal.switchover.table import Switchover

ROOT = Path(__file__).resolve().parents[2]
TABLE = ("public", "readings")
NOW = datetime(2025, 12, 15, tzinfo=UTC)
SETTINGS = {
    "shared_buffers": "'4GB'",
    "max_wal_size": "'16GB'",
    # As on a server in operation, WAL files are used again; while one is made, all commits wait for its zeros.
    "min_wal_size": "'4GB'",
    "checkpoint_timeout": "'30min'",
    "synchronous_commit": "on",
}
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
select 1 + n % 50, 1 + n * 7 % 50, (n % 4000) / 100.0, n % 100,
       '2025-01-01'::timestamptz + random() * interval '365 days', 'synthetic'
from generate_series(1, {rows}) as n;
create index readings_unit_time on public.readings (unit_id, recorded_at);
create index readings_device on public.readings (device_id);
create index readings_recorded on public.readings (recorded_at);
alter table public.readings add foreign key (unit_id) references public.units (id);
alter table public.readings add foreign key (device_id) references public.devices (id);
vacuum (freeze, analyze) public.readings;
"""


def make_plan(strategy: str = "swap", pace: str = "gentle") -> Plan:
    """Return the plan of the table, two workers."""
    table = {"name": ".".join(TABLE), "key": "recorded_at"}
    return Plan.model_validate(
        {"name": "bench", "strategy": strategy, "tables": [table], "copy": {"workers": 2}, "pace": {"mode": pace}}
    )


@dataclass(frozen=True, slots=True)
class Cost:
    """What something took: seconds on the clock, and of the server's cores, all its processes together."""

    seconds: float
    cpu: float


class World:
    """The server, and how to get at clones of its database `origin`."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.base = Path(tempfile.mkdtemp(prefix="pgr-bench-"))
        self.base.chmod(0o711)
        self.cluster = Cluster(self.base)
        self.files = SqlFiles(ROOT / "sql")
        self.cluster.start(settings=SETTINGS)
        facts = self.cluster.facts()
        self.server = Database("127.0.0.1", facts["port"], "postgres", "postgres", self.cluster.password())
        with connect(self.server) as conn:
            conn.execute("create database origin")
        with connect(self.database("origin")) as conn:
            conn.execute(self.files.query("registry.sql"))
            for statement in SCHEMA.format(rows=rows).split(";\n"):
                if statement.strip():
                    conn.execute(as_query(statement))

    def close(self) -> None:
        """Remove everything."""
        self.cluster.destroy()
        shutil.rmtree(self.base, ignore_errors=True)

    def database(self, name: str) -> Database:
        """Return one of the server's databases."""
        return Database(self.server.host, self.server.port, name, self.server.user, self.server.password)

    def clone(self) -> Database:
        """Return a fresh clone of the origin; the one before is gone."""
        with connect(self.server) as conn:
            conn.execute("drop database if exists clone with (force)")
            conn.execute("create database clone template origin")
            conn.execute("checkpoint")
        return self.database("clone")

    def deploy(self, database: Database, plan: Plan) -> None:
        """Make twin and triggers, as `db.migrate` does."""
        with connect(database) as conn:
            for change in render_changes(conn, self.files, plan, NOW):
                conn.execute(as_query(change.body))

    def switchover(self, database: Database, plan: Plan) -> Switchover:
        """Return the switchover of the table."""
        run = Run.create(self.base / "runs", "bench", f"{time.monotonic_ns()}")
        return Switchover(database, self.files, plan, plan.tables[0], run)

    def measure(self, work: Callable[[], object]) -> Cost:
        """Return what a piece of work costs."""
        cpu, started = self.cpu_seconds(), time.monotonic()
        work()
        return Cost(time.monotonic() - started, self.cpu_seconds() - cpu)

    def cpu_seconds(self) -> float:
        """Return the time on cores of all processes that the server has and had."""
        postmaster = int((self.cluster.data / "postmaster.pid").read_text().split()[0])
        ticks = 0
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and (stat := _stat(folder)):
                if int(folder.name) == postmaster:
                    ticks += sum(stat[11:15])
                elif stat[1] == postmaster:
                    ticks += sum(stat[11:13])
        return ticks / 100

    def has_extension(self, name: str) -> bool:
        """Return whether the server could make an extension."""
        with connect(self.server) as conn:
            query = "select exists (select from pg_catalog.pg_available_extensions where name = %s)"
            return bool(scalar(conn, query, [name]))


def _stat(folder: Path) -> list[int] | None:
    """Return the fields of /proc/PID/stat after the state, or None for a process that has just ended."""
    try:
        text = (folder / "stat").read_text()
    except OSError:
        return None
    return [0, *(int(word) for word in text.rpartition(")")[2].split()[1:])]


def backend_seconds(pid: int) -> float:
    """Return the time that one backend has spent on a core, to the nanosecond where the system counts them."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def execute_all(conn: Connection, statements: list[str]) -> None:
    """Run statements of ours, each in its own transaction."""
    for statement in statements:
        conn.execute(as_query(statement))


def count(conn: Connection, table: tuple[str, str]) -> int:
    """Return the rows of a table."""
    return int(scalar(conn, sql.SQL("select count(*) from {}").format(sql.Identifier(*table))))
