"""Counts and digests of both tables in one snapshot, piece by piece, by several sessions.

Owns snapshots and their release. A digest is a sum of 64-bit hashes of whole rows: sums of pieces add up, in any
order, and unlike XOR they do not cancel out in pairs.
"""

from __future__ import annotations

import contextlib
import queue
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from decimal import Decimal

import psycopg
from psycopg import sql

from rehearsal.catalog.tables import Name
from rehearsal.environment import Database
from rehearsal.errors import CannotSee
from rehearsal.postgres.connection import Connection, connect, scalar
from rehearsal.postgres.sqlfiles import SqlFiles
from rehearsal.switchover.parity.pair import Pair

# 16 MiB: short enough that two sessions end together, long enough that asking costs nothing.
PIECE_BLOCKS = 2_048

# `statement_timeout` of a role must not end a comparison half-way, nor the server an idle coordinator.
SETTINGS = """
set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 0;
set local jit = off; set local max_parallel_workers_per_gather = 0
"""


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of blocks of one relation; `leaf` is None for the source."""

    relation: Name
    leaf: int | None
    first_block: int
    end_block: int | None


@dataclass(slots=True)
class Sums:
    """Rows and sum of their hashes, for each leaf (by oid) or bucket."""

    rows: Counter[int] = field(default_factory=Counter[int])
    hashes: Counter[int] = field(default_factory=Counter[int])
    null_keys: int = 0

    def add(self, place: int, rows: int, hashes: Decimal) -> None:
        """Add the sums of a piece."""
        self.rows[place] += rows
        self.hashes[place] += int(hashes)

    def of(self, place: int) -> tuple[int, int]:
        """Return rows and digest of one leaf."""
        return self.rows[place], self.hashes[place]


@contextlib.contextmanager
def open_snapshot(database: Database, *, role: str = "parity") -> Generator[tuple[Connection, str]]:
    """Open a read-only snapshot that other sessions can share; it is released at the end of the block."""
    with connect(database, autocommit=False, role=role) as conn:
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        conn.read_only = True
        conn.execute(SETTINGS)
        try:
            yield conn, scalar(conn, "select pg_catalog.pg_export_snapshot()")
        finally:
            if not conn.closed:
                conn.rollback()


@contextlib.contextmanager
def share_snapshot(database: Database, snapshot: str) -> Generator[Connection]:
    """Open a session that sees what the snapshot sees.

    Raises:
        CannotSee: the snapshot is gone, because its session ended.
    """
    with connect(database, autocommit=False, role="parity worker") as conn:
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        conn.read_only = True
        try:
            conn.execute(sql.SQL("set transaction snapshot {}").format(snapshot))
        except (psycopg.errors.InvalidParameterValue, psycopg.errors.UndefinedObject) as exc:
            message = f"snapshot {snapshot} is gone: the session that held it has ended; compare again"
            raise CannotSee(message) from exc
        conn.execute(SETTINGS)
        try:
            yield conn
        finally:
            if not conn.closed:
                conn.rollback()


def digest_pair(
    conn: Connection, database: Database, files: SqlFiles, pair: Pair, snapshot: str, *, workers: int
) -> tuple[Sums, Sums]:
    """Return the sums of source and target, by leaf, as the snapshot sees them.

    Raises:
        CannotSee: a session was lost on the way; what was not read is never taken for equal.
    """
    pieces: queue.SimpleQueue[Piece] = queue.SimpleQueue()
    planned = plan_pieces(conn, pair)
    for piece in planned:
        pieces.put(piece)
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="parity") as pool:
        running = [pool.submit(_work, database, files, pair, snapshot, pieces) for _ in range(workers)]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
            if any(future.done() and future.exception() for future in running):
                _take_all(pieces)
            results = [future.result() for future in running]
        except BaseException:
            # The pool waits for its threads: without pieces they end now, not when all is read.
            _take_all(pieces)
            raise
    done = sum(count for count, _ in results)
    if done != len(planned):
        message = f"only {done} of {len(planned)} pieces were read; compare again"
        raise CannotSee(message)
    source, target = Sums(), Sums()
    for _, rows in results:
        for piece, found in rows:
            add_rows(pair, source if piece.leaf is None else target, piece.leaf, found)
    return source, target


def digest_here(conn: Connection, files: SqlFiles, pair: Pair) -> tuple[Sums, Sums]:
    """Return the sums of both tables as this one session sees them, each relation in one piece: for a few rows."""
    source, target = Sums(), Sums()
    for name, _, leaf in _relations(pair):
        found = _digest(conn, files, pair, Piece(name, leaf, 0, None))
        add_rows(pair, source if leaf is None else target, leaf, found)
    return source, target


Rows = list[tuple[int | None, int, Decimal]]


def add_rows(pair: Pair, sums: Sums, leaf: int | None, rows: Rows) -> None:
    """Add what one piece answered: a source row counts for the leaf of its key, a target row for the leaf it is in."""
    oids, elsewhere = pair.oids, pair.elsewhere
    for bucket, count, hashes in rows:
        belongs = elsewhere if bucket is None else oids[bucket]
        sums.add(belongs if leaf is None else leaf, count, hashes)
        sums.null_keys += count if bucket is None else 0


def plan_pieces(conn: Connection, pair: Pair) -> list[Piece]:
    """Split both tables into ranges of blocks; the last one of a relation is open, for it may have grown."""
    relations = _relations(pair)
    blocks = _blocks(conn, [oid for _, oid, _ in relations])
    return [piece for name, oid, leaf in relations for piece in _pieces(name, leaf, blocks[oid])]


def _relations(pair: Pair) -> list[tuple[Name, int, int | None]]:
    """Return name and oid of all relations that hold rows, with the leaf that each one is; None for the source's."""
    sources: list[tuple[Name, int, int | None]] = [(pair.source.name, pair.source.oid, None)]
    if pair.source.kind == "p":
        sources = [
            (partition.name, partition.oid, None)
            for partition in pair.source.partitions
            if not partition.detach_pending
        ]
    return [*sources, *((leaf.name, leaf.oid, leaf.oid) for leaf in pair.leaves if leaf.oid)]


def _pieces(relation: Name, leaf: int | None, blocks: int) -> Iterator[Piece]:
    starts = range(0, max(blocks, 1), PIECE_BLOCKS)
    for start in starts:
        yield Piece(relation, leaf, start, None if start == starts[-1] else start + PIECE_BLOCKS)


BLOCKS = """
select o, coalesce(pg_catalog.pg_relation_size(o::oid), 0) / current_setting('block_size')::bigint
from unnest(%s::bigint[]) as o
"""


def _blocks(conn: Connection, oids: Sequence[int]) -> Mapping[int, int]:
    return dict(conn.execute(BLOCKS, [list(oids)]).fetchall())


def _take_all(pieces: queue.SimpleQueue[Piece]) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            pieces.get_nowait()


def _work(
    database: Database, files: SqlFiles, pair: Pair, snapshot: str, pieces: queue.SimpleQueue[Piece]
) -> tuple[int, list[tuple[Piece, Rows]]]:
    found: list[tuple[Piece, Rows]] = []
    with share_snapshot(database, snapshot) as conn:
        while True:
            try:
                piece = pieces.get_nowait()
            except queue.Empty:
                return len(found), found
            found.append((piece, _digest(conn, files, pair, piece)))


def _digest(conn: Connection, files: SqlFiles, pair: Pair, piece: Piece) -> Rows:
    query = files.query(
        "switchover/parity/digest.sql.j2",
        pair=pair,
        relation=piece.relation,
        first_block=piece.first_block,
        end_block=piece.end_block,
    )
    return conn.execute(query).fetchall()
