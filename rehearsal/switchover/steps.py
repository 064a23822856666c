"""Running of steps: one that is done is not done again; how long it took is told and kept."""

from __future__ import annotations

import time
from collections.abc import Callable

from rehearsal.evidence import Run
from rehearsal.postgres.connection import Connection
from rehearsal.switchover import state


def run_step(conn: Connection, run: Run, table: str, migration: int, name: str, work: Callable[[], object]) -> None:
    """Run a step that is not done; marks it afterwards, so a step must bear being repeated."""
    if state.is_done(conn, migration, name):
        return
    started = time.monotonic()
    result = work()
    ms = (time.monotonic() - started) * 1e3
    with conn.transaction():
        state.mark_done(conn, migration, name, ms)
    run.event("step", table=table, name=name, ms=round(ms, 1), result=result)
