"""Archive one leaf of many rows, prove it, drop it, restore and attach it: seconds, size, resident memory.

    python -m tests.bench.archive [ROWS]

Rows are those of sensors: two numbers, a moment, a float, a numeric and a short text. The work is done by a process of
its own, on a cluster of this machine that keeps its promises (fsync on).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from fleet.cluster import Cluster
from rehearsal.environment import Database
from rehearsal.postgres.connection import connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from tests.bench.world import ROOT
from tests.postgres.lifecycle.archived import Shelf
from tests.postgres.lifecycle.kept import JANUARY, Kept

TABLE = """
create table public.t (
    id bigint not null, at timestamptz not null, sensor int, value double precision, price numeric(12, 4), note text,
    primary key (id, at)
) partition by range (at);
create table public.t_first partition of public.t for values from ('2026-01-01+00') to ('2026-02-01+00');
create table public.t_m6 partition of public.t for values from ('2026-06-01+00') to ('2026-07-01+00');
"""
ROWS = """
insert into public.t select n, '2026-01-01+00'::timestamptz + n * interval '100 milliseconds', n % 5000, random() * 100,
    (random() * 1000)::numeric(12, 4), case n % 3 when 0 then null else md5((n % 100000)::text) end
from generate_series(1, {}) as n
"""


def run(database: Database, *words: str) -> tuple[float, float]:
    """Let a process of its own work; return seconds and MiB of resident memory."""
    began = time.monotonic()
    command = [sys.executable, "-m", "tests.postgres.lifecycle.dying", *words, "0"]
    done = subprocess.run(
        command, input=json.dumps(asdict(database)), capture_output=True, text=True, check=True, cwd=ROOT
    )
    return time.monotonic() - began, int(done.stdout) / 1024


def main(rows: int) -> None:
    """Measure once, and print."""
    with tempfile.TemporaryDirectory() as base:
        Path(base).chmod(0o711)
        cluster = Cluster(Path(base) / "cluster")
        cluster.start(settings={"max_wal_size": "8GB", "shared_buffers": "512MB"})
        try:
            measure(
                Database("127.0.0.1", cluster.facts()["port"], "postgres", "postgres", cluster.password()), rows, base
            )
        finally:
            cluster.destroy()


def measure(database: Database, rows: int, base: str) -> None:
    """Make the leaf, and measure each of archive and restore."""
    with connect(database) as conn:
        conn.execute(SqlFiles(ROOT / "sql").query("registry.sql"))
        shelf = Shelf(Kept(conn, SqlFiles(ROOT / "sql")), Path(base))
        kept = shelf.kept
        kept.setup(TABLE, now=JANUARY)
        kept.run_sql(ROWS.format(rows))
        kept.run_sql("insert into public.t (id, at) values (0, '2026-06-10+00')")
        kept.run_sql("vacuum analyze public.t_first")
        size = scalar(conn, "select pg_catalog.pg_table_size('public.t_first')") / 2**20
        kept.pass_to(JANUARY.replace(month=6))
        kept.adopt(retention="3 months", hold="0 days", archive=True)
        kept.retain()
        seconds, memory = run(database, "archive", "public.t_first", base)
        manifest = shelf.read()
        print(f"{manifest.rows:,} rows, {size:,.0f} MiB as a table, {manifest.bytes / 2**20:,.0f} MiB as Parquet")
        print(f"archive: {rate(manifest.rows, seconds)}, {size / seconds:.1f} MiB/s, {memory:.0f} MiB resident")
        assert len(kept.retain()) == 1
        seconds, memory = run(database, "restore", str(shelf.manifest()), base)
        print(f"restore and attach: {rate(manifest.rows, seconds)}, {memory:.0f} MiB resident")


def rate(rows: int, seconds: float) -> str:
    """Return seconds and rows a second as people read them."""
    return f"{seconds:.1f} s, {rows / seconds:,.0f} rows/s"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
