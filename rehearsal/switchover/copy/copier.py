"""Copy of existing rows into the target: ranges of blocks, several sessions, each chunk its own short transaction.

Owns the ledger of chunks. Resumes after `kill -9`: a chunk's row in `rehearsal.chunk` commits with its rows. Chunks
are planned as large as they may be; one that turns out too large (by bytes, by time, by a timeout) is split: its first
part is copied and its rest goes back into the ledger, in the same transaction. Blocks that are added after the ledger
was made hold only rows whose keys are in the log.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from psycopg import errors, sql

from rehearsal.catalog.tables import Name, Table, dotted
from rehearsal.environment import Database
from rehearsal.errors import StepFailed
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.postgres.turns import FREE, Turns
from rehearsal.switchover.copy.chunks import BLOCK, ChunkSize, Limits
from rehearsal.switchover.target.target import Shape

CLAIM = """
select number, lower_block, upper_block, set_config('statement_timeout', %s, true) from rehearsal.chunk
where migration = %s and done_at is null
order by number
limit 1
for update {skip}
"""
# Each chunk's part of the ledger in one statement: short chunks are many.
LEDGER = """
with rest as (
    insert into rehearsal.chunk (migration, number, lower_block, upper_block)
    select %(migration)s, %(cut)s, %(cut)s, %(end)s where %(cut)s < %(end)s
)
update rehearsal.chunk
set upper_block = %(cut)s, done_at = now(), rows = %(rows)s, duration_ms = %(ms)s, bytes = %(bytes)s
where migration = %(migration)s and number = %(number)s
"""
SIZES = """
select pg_catalog.pg_relation_size(c.oid) / current_setting('block_size')::bigint,
       pg_catalog.pg_table_size(c.oid),
       coalesce(pg_catalog.pg_relation_size(nullif(c.reltoastrelid, 0)), 0)
from pg_catalog.pg_class as c where c.oid = {}::oid
"""
WIDE = """
select array_agg(attname::text order by attnum) from pg_catalog.pg_attribute
where attrelid = %s::regclass and attnum > 0 and not attisdropped and attlen = -1 and attstorage <> 'p'
      and attname = any(%s)
"""
DONE = """
select coalesce(sum(upper_block - lower_block) filter (where done_at is not null), 0)::bigint,
       coalesce(sum(upper_block - lower_block), 0)::bigint, coalesce(sum(rows), 0)::bigint,
       coalesce(max(upper_block - lower_block) filter (where done_at is null), 1)::bigint
from rehearsal.chunk where migration = %s
"""
# A smaller chunk may pass where these stopped a larger one; what a person cancelled is tried again as well.
RETRIED = (errors.QueryCanceled, errors.DeadlockDetected, errors.LockNotAvailable, errors.OutOfMemory)
# Below this share of TOAST in the table its rows are measured by their blocks alone.
TOAST_SHARE = 0.1
RECORD_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What one call copied; a resumed copy counts only its own part."""

    rows: int
    chunks: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """How far a copy is, of all its runs together."""

    rows: int
    blocks: int
    total_blocks: int
    is_due: bool = False
    """Whether this one should be recorded: one in a while, whatever the size of the chunks, and the last."""

    @property
    def total_rows(self) -> int:
        """Rows there will be, as far as the blocks that were copied tell."""
        return round(self.rows * self.total_blocks / self.blocks) if self.blocks else self.rows


def plan_chunks(conn: Connection, migration: int, table: Table, limits: Limits) -> int:
    """Write the ledger for the blocks that the table has now, in the caller's transaction; return how many chunks."""
    blocks, bytes_, _ = conn.execute(sql.SQL(SIZES).format(table.oid)).fetchone() or (0, 0, 0)
    rows = table.estimated_rows * blocks / table.pages if table.pages else 0
    step = limits.most_blocks(rows, blocks, bytes_)
    conn.execute(
        "insert into rehearsal.chunk (migration, number, lower_block, upper_block) "
        "select %s, lower, lower, least(lower + %s, %s) "
        "from generate_series(0::bigint, greatest(%s - 1, -1), %s) as lower where %s > 0",
        [migration, step, blocks, blocks, step, blocks],
    )
    return int(scalar(conn, "select count(*) from rehearsal.chunk where migration = %s", [migration]))


def chunk_sql(files: SqlFiles, shape: Shape, source: Name, target: Name, lower: int, upper: int) -> str:
    """Return the statement that copies the blocks [lower, upper)."""
    return files.render(
        "switchover/copy/copy_chunk.sql.j2",
        source=source,
        target=target,
        columns=shape.columns,
        lower=f"({lower},0)",
        upper=f"({upper},0)",
    )


@dataclass(frozen=True, slots=True)
class Copier:
    """Copies the chunks of one migration that are not done yet; `turns` decides when a worker may go on."""

    database: Database
    files: SqlFiles
    shape: Shape
    migration: int
    workers: int
    on_progress: Callable[[CopyProgress], None]
    limits: Limits = field(default_factory=Limits)
    turns: Turns = FREE

    def run(self) -> CopyResult:
        """Copy all chunks that are left, in `workers` sessions; stops all of them when one fails.

        Raises:
            StepFailed: a chunk failed again and again although it was made smaller, or a limit of the pace stopped it.
        """
        started = time.monotonic()
        stop = threading.Event()
        with connect(self.database, role="copy ledger") as conn:
            blocks, total, rows, most = conn.execute(DONE, [self.migration]).fetchone() or (0, 0, 0, 1)
            wide = self._wide_columns(conn)
        told = _Told(CopyProgress(rows, blocks, total), self.on_progress)
        size = ChunkSize(most, self.limits.seconds)
        with ThreadPoolExecutor(self.workers, thread_name_prefix="copy") as pool:
            futures = [
                pool.submit(Worker(self, size, wide, told, stop).run)
                for _ in range(self.workers if blocks < total else 0)
            ]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                stop.set()
            for future in futures:
                future.result()
        return CopyResult(told.rows, told.chunks, time.monotonic() - started)

    def _wide_columns(self, conn: Connection) -> list[str]:
        """Return the columns whose values may be out of line, if the table has much of that."""
        source = sql.Identifier(*self.shape.names.source).as_string(None)
        row = conn.execute(sql.SQL(SIZES.replace("{}::oid", "{}::regclass")).format(source)).fetchone()
        blocks, _, toast = row or (0, 0, 0)
        if toast <= max(self.limits.bytes, TOAST_SHARE * blocks * BLOCK):
            return []
        return list(scalar(conn, WIDE, [source, list(self.shape.columns)]) or [])


@dataclass(frozen=True, slots=True)
class Worker:
    """One session that copies chunk after chunk."""

    copier: Copier
    size: ChunkSize
    wide: list[str]
    told: _Told
    stop: threading.Event

    def run(self) -> None:
        """Copy until nothing is left, somebody says stop, or a chunk has failed too often."""
        failures = 0
        with connect(self.copier.database, role="copy") as conn:
            while not self.stop.is_set():
                try:
                    with self.copier.turns.turn(conn, self.stop) as granted:
                        if not granted or not self._next(conn):
                            return
                    failures = 0
                except RETRIED as exc:
                    failures += 1
                    self.size.failed()
                    if failures >= self.copier.limits.attempts:
                        raise StepFailed(self._gave_up(exc, failures)) from exc

    def _next(self, conn: Connection) -> bool:
        """Copy a chunk; return whether there was one.

        A chunk that another session holds is skipped first and waited for at the end: the session of a killed run may
        still be at it, and either commits it or leaves it to us.
        """
        if not self._chunk(conn, "skip locked"):
            query = "select count(*) from rehearsal.chunk where migration = %s and done_at is null"
            if not scalar(conn, query, [self.copier.migration]):
                return False
            self._chunk(conn, "")
        return True

    def _chunk(self, conn: Connection, skip: str) -> bool:
        began = time.monotonic()
        with conn.transaction():
            timeout = str(round(self.copier.limits.timeout_s * 1e3))
            row = conn.execute(as_query(CLAIM.format(skip=skip)), [timeout, self.copier.migration]).fetchone()
            if row is None:
                return False
            started = time.monotonic()
            number, lower, planned, _ = row
            upper, bytes_ = self._cut(
                conn, lower, min(planned, lower + self.size.blocks(short=self.copier.turns.shared))
            )
            rows = self._copy(conn, lower, upper)
            seconds = time.monotonic() - started
            done = {"number": number, "cut": upper, "end": planned, "rows": rows, "ms": seconds * 1e3, "bytes": bytes_}
            conn.execute(LEDGER, {"migration": self.copier.migration} | done)
        self.size.took(upper - lower, seconds, time.monotonic() - began - seconds)
        self.told.add(rows, upper - lower)
        return True

    def _cut(self, conn: Connection, lower: int, upper: int) -> tuple[int, int]:
        """Return where the chunk ends, and its bytes: wide rows are measured before they are read."""
        if not self.wide:
            return upper, (upper - lower) * BLOCK
        text = self.copier.files.render(
            "switchover/copy/chunk_cut.sql.j2",
            source=self.copier.shape.names.source,
            columns=self.wide,
            most=self.copier.limits.bytes,
            upper=upper,
            first=f"({lower},0)",
            end=f"({upper},0)",
        )
        cut, toast = conn.execute(as_query(text)).fetchone() or (upper, 0)
        return cut, toast + (cut - lower) * BLOCK

    def _copy(self, conn: Connection, lower: int, upper: int) -> int:
        shape = self.copier.shape
        text = chunk_sql(self.copier.files, shape, shape.names.source, shape.names.target, lower, upper)
        return conn.execute(as_query(text)).rowcount

    def _gave_up(self, exc: BaseException, failures: int) -> str:
        return (
            f"copy of {dotted(self.copier.shape.names.source)}: a chunk of {self.size.last} blocks failed "
            f"{failures} times in a row: {' '.join(str(exc).split())}. What was copied is kept: raise "
            "copy.chunk_timeout_s or end the sessions that block it, then run again"
        )


class _Told:
    """Counts what the workers did, and tells."""

    def __init__(self, before: CopyProgress, tell: Callable[[CopyProgress], None]) -> None:
        self._before, self._tell = before, tell
        self._recorded = -math.inf
        self.rows = self.chunks = self._blocks = 0
        self._lock = threading.Lock()

    def add(self, rows: int, blocks: int) -> None:
        with self._lock:
            self.rows += rows
            self.chunks += 1
            self._blocks += blocks
            total = self._before.total_blocks
            done, now = self._before.blocks + self._blocks, time.monotonic()
            is_due = done == total or now - self._recorded >= RECORD_EVERY_S
            self._recorded = now if is_due else self._recorded
            self._tell(CopyProgress(self._before.rows + self.rows, done, total, is_due))
