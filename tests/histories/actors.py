"""Actors that do one statement when they are told to: the engine, held before each statement, and sessions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psycopg

from rehearsal.errors import LockNotAcquired
from rehearsal.postgres.connection import Connection

# Not the engine's work: the actors, and the sessions that look for blockers and for what the application feels, which
# only read, in threads of their own.
ASIDE = ("pg-rehearsal app", "pg-rehearsal judge", "pg-rehearsal blockers", "pg-rehearsal throttle")
STEP_S = 0.01
PATIENCE_S = 20.0


class Stuck(AssertionError):
    """Nobody can go on, or an actor does not come back."""


@dataclass
class Gate:
    """Holds the engine before each of its statements until it is let through."""

    is_open: bool = False
    _turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _arrived: threading.Event = field(default_factory=threading.Event)

    def hold(self) -> None:
        """Called in the engine's threads."""
        if self.is_open:
            return
        self._arrived.set()
        self._turn.acquire()

    def let_through(self) -> None:
        """Let the engine send one statement."""
        self._arrived.clear()
        self._turn.release()

    def has_arrived(self, seconds: float) -> bool:
        """Wait that long for the engine to come to its next statement; return whether it did."""
        return self._arrived.wait(seconds)

    def open(self) -> None:
        """Let the engine run to its end."""
        self.is_open = True
        self._turn.release()


_gate: Gate | None = None
_plain = psycopg.Cursor.execute


def _execute(self: Any, *args: Any, **more: Any) -> Any:
    name = self.connection.info.parameter_status("application_name") or ""
    if _gate and name.startswith("pg-rehearsal") and name not in ASIDE:
        _gate.hold()
    return _plain(self, *args, **more)


def install(gate: Gate | None) -> None:
    """Put a gate before the engine's statements in this process; None takes it away."""
    global _gate  # noqa: PLW0603 -- there is one engine in a process
    _gate = gate
    psycopg.Cursor.execute = _execute if gate else _plain  # type: ignore[method-assign]


@dataclass
class Engine:
    """Legs of the real engine in a thread, one statement a turn. A leg that gives up at a lock is begun again."""

    legs: list[tuple[str, Callable[[], object]]]
    judge: Connection
    gate: Gate = field(default_factory=Gate)
    given_up: int = 0
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="engine"))
    _leg: Future[object] | None = None
    done: list[str] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        """Whether all legs are done."""
        return len(self.done) == len(self.legs)

    @property
    def leg(self) -> str:
        """Name of the leg that is next or under way."""
        return "done" if self.is_done else self.legs[len(self.done)][0]

    def step(self) -> None:
        """Do one statement, or find out that it waits for a lock."""
        if self._leg is None:
            self._leg = self._pool.submit(self.legs[len(self.done)][1])
        elif self.gate.has_arrived(0):
            self.gate.let_through()
        self.look()

    def look(self) -> None:
        """Wait until the engine is before its next statement, at the end of a leg, or blocked."""
        for _ in range(round(PATIENCE_S / STEP_S)):
            if self._leg is None or self.gate.has_arrived(STEP_S):
                return
            if self._leg.done():
                self._end()
                return
            if blocked_engine(self.judge):
                return
        message = f"the engine does not come back in {self.leg}"
        raise Stuck(message)

    def _end(self) -> None:
        assert self._leg
        leg, self._leg = self._leg, None
        try:
            leg.result()
        except LockNotAcquired:
            self.given_up += 1
            return
        except Exception as exc:
            message = f"{self.leg} ended with {exc!r}"
            raise Stuck(message) from exc
        self.done.append(self.leg)

    def close(self) -> None:
        """Let a leg that is under way run to its end."""
        self.gate.open()
        self._pool.shutdown()


BLOCKED_ENGINE = """
select exists (
    select from pg_catalog.pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
    and application_name like 'pg-rehearsal %%' and application_name <> all(%s))
"""
BLOCKED = """
select pid from pg_catalog.pg_stat_activity where pid = any(%s) and wait_event_type = 'Lock'
"""


def blocked_engine(judge: Connection) -> bool:
    """Return whether a session of the engine waits for a lock."""
    row = judge.execute(BLOCKED_ENGINE, [list(ASIDE)]).fetchone()
    return bool(row and row[0])


@dataclass
class Session:
    """One session of the application; a statement that waits for a lock goes on by itself when it can."""

    number: int
    conn: Connection
    judge: Connection
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="session"))
    _work: Future[Any] | None = None

    @property
    def is_blocked(self) -> bool:
        """Whether a statement of it is under way."""
        return self._work is not None

    def begin(self, work: Callable[[Connection], Any]) -> None:
        """Send a statement."""
        self._work = self._pool.submit(work, self.conn)

    def result(self) -> tuple[bool, Any, psycopg.Error | None]:
        """Wait until the statement is done or waits for a lock; return whether it is done, its rows, its error."""
        assert self._work
        for _ in range(round(PATIENCE_S / STEP_S)):
            try:
                rows = self._work.result(STEP_S)
            except TimeoutError:
                if self.judge.execute(BLOCKED, [[self.conn.info.backend_pid]]).fetchone():
                    return False, None, None
                continue
            except psycopg.Error as exc:
                self._work = None
                return True, None, exc
            self._work = None
            return True, rows, None
        message = f"session {self.number} does not come back"
        raise Stuck(message)

    def close(self) -> None:
        """End the session."""
        self._pool.shutdown()
        self.conn.close()
