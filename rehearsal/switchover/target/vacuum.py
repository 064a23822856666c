"""Vacuum and statistics of a target that was just filled: leaves in parallel, the parent by itself.

Autovacuum never analyzes a parent; without a visibility map there are no index-only scans, and unfrozen rows would be
written once more by the vacuum that comes years later. Locks: SHARE UPDATE EXCLUSIVE on leaves, which blocks nobody.
"""

from __future__ import annotations

from psycopg import sql

from rehearsal.catalog.tables import Name, Table
from rehearsal.environment import Database
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.parallel import run_in_sessions
from rehearsal.postgres.turns import Turns

HAS_ONLY = 180_000


def vacuum_sql(leaf: Name) -> sql.Composed:
    """Return the statement that vacuums and analyzes a leaf."""
    return sql.SQL("vacuum (freeze, analyze) {}").format(sql.Identifier(*leaf))


def refresh_statistics(database: Database, conn: Connection, target: Table, workers: int, turns: Turns) -> int:
    """Vacuum and analyze the leaves, then analyze the parent; return how many leaves there are.

    A second run does it again; nothing else changes.
    """
    statements = [vacuum_sql(leaf.name) for leaf in target.partitions]
    run_in_sessions(database, "statistics", statements, workers, turns)
    analyze_parent(database, conn, target)
    return len(target.partitions)


def analyze_parent(database: Database, conn: Connection, target: Table) -> None:
    """Analyze a partitioned table without its leaves.

    Before version 18 ANALYZE goes through the leaves as well, one after the other. A leaf that somebody else maintains
    just now is skipped if asked so, though its rows are still sampled for the parent: a second session is that
    somebody, for as long as the sampling takes.
    """
    parent = sql.Identifier(*target.name)
    if conn.info.server_version >= HAS_ONLY:
        conn.execute(sql.SQL("analyze only {}").format(parent))
        return
    with connect(database, role="statistics") as keeper, keeper.transaction():
        leaves = sql.SQL(", ").join(sql.Identifier(*leaf.name) for leaf in target.partitions)
        if target.partitions:
            keeper.execute(sql.SQL("lock table {} in share update exclusive mode").format(leaves))
        conn.execute(sql.SQL("analyze (skip_locked) {}").format(parent))
