"""Pause and resume by command: a row in the database that running copies honour before each chunk and each index.

Owns `rehearsal.pause`. The row survives restarts: a copy that begins while it is there waits. Locks: none that anybody
waits for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from rehearsal.postgres.connection import Connection

LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Pause:
    """Who paused a plan, since when, and why."""

    plan: str
    since: str
    by: str
    reason: str

    def __str__(self) -> str:
        """Return it as people read it."""
        return f"paused by {self.by} since {self.since}" + (f": {self.reason}" if self.reason else "")


def read_pause(conn: Connection, plan: str) -> Pause | None:
    """Return the pause of a plan, or None if it may go on."""
    row = conn.execute(
        "select plan, to_char(paused_at, 'YYYY-MM-DD HH24:MI:SS TZ'), paused_by, reason from rehearsal.pause "
        "where plan = %s",
        [plan],
    ).fetchone()
    return Pause(*row) if row else None


def set_pause(conn: Connection, plan: str, reason: str = "") -> bool:
    """Pause a plan; return whether it went on before. A second pause leaves the first as it is."""
    text = "insert into rehearsal.pause (plan, reason) values (%s, %s) on conflict do nothing"
    return conn.execute(text, [plan, reason]).rowcount == 1


def end_pause(conn: Connection, plan: str) -> bool:
    """Let a plan go on; return whether it was paused."""
    return conn.execute("delete from rehearsal.pause where plan = %s", [plan]).rowcount == 1


@dataclass(slots=True)
class PauseWatch:
    """Lets nobody through while the plan is paused; `tell` hears once of a pause and once of its end."""

    plan: str
    tell: Callable[[Pause | None], None]
    _told: Pause | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_paused(self) -> bool:
        """Whether somebody who waits was told of a pause."""
        return self._told is not None

    def wait(self, conn: Connection, stop: threading.Event | None = None) -> bool:
        """Return once the plan may go on, or false when `stop` was set before."""
        stop = stop or threading.Event()
        while pause := read_pause(conn, self.plan):
            self._hear(pause)
            if stop.wait(LOOK_EVERY_S):
                return False
        self._hear(None)
        return not stop.is_set()

    def _hear(self, pause: Pause | None) -> None:
        with self._lock:
            if pause != self._told:
                self._told = pause
                self.tell(pause)
