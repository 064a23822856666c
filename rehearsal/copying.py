"""Copy of existing rows into the twin: ranges of blocks, several sessions, each chunk its own short transaction.

Owns the ledger of chunks. Resumes after `kill -9`: a chunk's row in `rehearsal.chunk` commits with its rows. Blocks
that are added after the ledger was made hold only rows whose keys are in the log.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass

from psycopg import sql

from rehearsal.catalog import Name, Table
from rehearsal.environment import Database
from rehearsal.postgres import Connection, connect, scalar
from rehearsal.sqlfiles import SqlFiles, as_query
from rehearsal.twin import Shape

CLAIM = """
select number, lower_block, upper_block from rehearsal.chunk
where migration = %s and done_at is null
order by number
limit 1
for update {skip}
"""


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What one call copied; a resumed copy counts only its own part."""

    rows: int
    chunks: int
    seconds: float


def plan_chunks(conn: Connection, migration: int, table: Table, chunk_rows: int) -> int:
    """Write the ledger for the blocks that the table has now, in the caller's transaction; return how many chunks."""
    size = sql.SQL("select pg_catalog.pg_relation_size({}::oid) / current_setting('block_size')::bigint")
    blocks = int(scalar(conn, size.format(table.oid)))
    per_block = max(1.0, table.estimated_rows / table.pages) if table.pages else 50.0
    step = max(1, round(chunk_rows / per_block))
    conn.execute(
        "insert into rehearsal.chunk (migration, number, lower_block, upper_block) "
        "select %s, row_number() over (), lower, least(lower + %s, %s) "
        "from generate_series(0, greatest(%s - 1, -1), %s) as lower where %s > 0",
        [migration, step, blocks, blocks, step, blocks],
    )
    return int(scalar(conn, "select count(*) from rehearsal.chunk where migration = %s", [migration]))


def chunk_sql(files: SqlFiles, shape: Shape, source: Name, target: Name, lower: int, upper: int) -> str:
    """Return the statement that copies the blocks [lower, upper)."""
    return files.render(
        "steps/copy_chunk.sql.j2",
        source=source,
        target=target,
        columns=shape.columns,
        lower=f"({lower},0)",
        upper=f"({upper},0)",
    )


@dataclass(frozen=True, slots=True)
class Copier:
    """Copies the chunks of one migration that are not done yet."""

    database: Database
    files: SqlFiles
    shape: Shape
    migration: int
    workers: int
    on_progress: Callable[[int, int, int], None]

    def run(self) -> CopyResult:
        """Copy all chunks that are left, in `workers` sessions; stops all of them when one fails."""
        started = time.monotonic()
        stop = threading.Event()
        with connect(self.database, role="copy ledger") as conn:
            total = scalar(conn, "select count(*) from rehearsal.chunk where migration = %s", [self.migration])
        progress = _Progress(total, *self._done_before(), self.on_progress)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="copy") as pool:
            futures = [pool.submit(self._work, progress, stop) for _ in range(self.workers)]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                stop.set()
            for future in futures:
                future.result()
        return CopyResult(progress.rows, progress.chunks, time.monotonic() - started)

    def _done_before(self) -> tuple[int, int]:
        query = (
            "select count(*), coalesce(sum(rows), 0)::bigint from rehearsal.chunk "
            "where migration = %s and done_at is not null"
        )
        with connect(self.database, role="copy ledger") as conn:
            chunks, rows = conn.execute(query, [self.migration]).fetchone() or (0, 0)
        return chunks, rows

    def _work(self, progress: _Progress, stop: threading.Event) -> None:
        with connect(self.database, role="copy") as conn:
            # A chunk that another session holds is skipped first and waited for at the end: the session of a killed
            # run may still be at it, and either commits it or leaves it to us.
            while not stop.is_set():
                rows = self._chunk(conn, "skip locked")
                if rows is None and not self._left(conn):
                    return
                rows = self._chunk(conn, "") if rows is None else rows
                if rows is not None:
                    progress.add(rows)

    def _left(self, conn: Connection) -> int:
        query = "select count(*) from rehearsal.chunk where migration = %s and done_at is null"
        return int(scalar(conn, query, [self.migration]))

    def _chunk(self, conn: Connection, skip: str) -> int | None:
        started = time.monotonic()
        with conn.transaction():
            row = conn.execute(as_query(CLAIM.format(skip=skip)), [self.migration]).fetchone()
            if row is None:
                return None
            number, lower, upper = row
            names = self.shape.names
            text = chunk_sql(self.files, self.shape, names.source, names.target, lower, upper)
            rows = conn.execute(as_query(text)).rowcount
            conn.execute(
                "update rehearsal.chunk set done_at = now(), rows = %s, duration_ms = %s where "
                "migration = %s and number = %s",
                [rows, (time.monotonic() - started) * 1e3, self.migration, number],
            )
        return rows


class _Progress:
    """Counts what the workers did, and tells."""

    def __init__(self, total: int, chunks: int, rows: int, tell: Callable[[int, int, int], None]) -> None:
        self.total, self.chunks_before, self.rows_before, self.tell = total, chunks, rows, tell
        self.rows = self.chunks = 0
        self._lock = threading.Lock()

    def add(self, rows: int) -> None:
        with self._lock:
            self.rows += rows
            self.chunks += 1
            self.tell(self.chunks_before + self.chunks, self.total, self.rows_before + self.rows)
