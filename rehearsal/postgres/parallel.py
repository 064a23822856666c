"""Statements that run in several sessions at once: indexes, vacuums, validations; each one in a turn of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from psycopg import sql

from rehearsal.environment import Database
from rehearsal.postgres.connection import Connection, connect
from rehearsal.postgres.turns import FREE, Turns


def run_in_sessions(
    database: Database,
    role: str,
    statements: Sequence[sql.SQL | sql.Composed],
    workers: int,
    turns: Turns = FREE,
    on_done: Callable[[int, int], Any] = lambda _done, _total: None,
) -> int:
    """Run every statement in one of `workers` sessions, each in its own transaction; return how many there were.

    The first error ends the work: what has begun is waited for, nothing more begins.
    """
    idle = [_session(database, role) for _ in range(min(workers, len(statements)))]
    connections = list(idle)
    stop = threading.Event()

    def run(statement: sql.SQL | sql.Composed) -> None:
        conn = idle.pop()
        try:
            with turns.turn(conn, stop) as granted:
                if granted:
                    conn.execute(statement)
        except BaseException:
            stop.set()
            raise
        finally:
            idle.append(conn)

    try:
        with ThreadPoolExecutor(max(1, len(connections)), thread_name_prefix=role) as pool:
            for done, _ in enumerate(pool.map(run, statements), 1):
                on_done(done, len(statements))
    finally:
        for conn in connections:
            conn.close()
    return len(statements)


def _session(database: Database, role: str) -> Connection:
    """Open a session that works with one process: a turn is a core, not the three that an index build would take."""
    conn = connect(database, role=role)
    conn.execute("set max_parallel_maintenance_workers = 0")
    return conn
