"""Connections and locks: the only door to a database.

Owns session settings, the one function that asks for a lock which the application could feel, and the advisory lock
of a run. Must not know plans or tables.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg import errors, sql
from psycopg.rows import TupleRow

from rehearsal.environment import Database
from rehearsal.errors import ConnectionLost, LockNotAcquired, PreconditionError, RehearsalError, StepFailed
from rehearsal.postgres.blockers import BlockerWatch, oldest_transactions
from rehearsal.postgres.pinned import pinned_options, pinned_settings

Connection = psycopg.Connection[TupleRow]
T = TypeVar("T")

RETRIED = (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)
# SQLSTATEs of a session that is over; None is the driver's own, when nobody answers any more.
ENDED = (None, "57P01", "57P02", "57P03", "57P05", "25P03", "08000", "08003", "08006")
# Work that is too slow under the lock will be so the next time as well, and the application waits each time.
MOST_OVERRUNS = 3


def connect(database: Database, *, autocommit: bool = True, role: str = "engine") -> Connection:
    """Open a session with pinned settings; `role` names it in pg_stat_activity.

    No setting of the role, the database or the caller's shell decides what our statements mean. Server-side prepared
    statements are off: the statements of a migration change the tables under them.

    Raises:
        PreconditionError: the server does not answer or refuses the session, or the role has a setting that it may not
            take back; says where and why.
    """
    conn = _open(database, application_name=f"pg-rehearsal {role}", options=pinned_options())
    try:
        _pin(conn, database)
        conn.autocommit = autocommit
    except BaseException:
        conn.close()
        raise
    return conn


def connect_as_application(database: Database, *, role: str = "application") -> Connection:
    """Open a session as the application has it: with the defaults of its role and its database, nothing pinned.

    What a rehearsal would otherwise never meet (another isolation level, a short timeout) is met through this door.

    Raises:
        PreconditionError: the server does not answer or refuses the session; says where and why.
    """
    return _open(database, **as_application(role))


def as_application(role: str) -> dict[str, Any]:
    """Return what a session that plays the application gives to the driver: a name, and no setting at all.

    Empty options are not the same as none: then PGOPTIONS of the caller's shell would count.
    """
    return {"application_name": f"pg-rehearsal {role}", "options": ""}


PIN = """
select pg_catalog.current_setting('session_replication_role'),
       (select count(pg_catalog.set_config(name, value, false)) from unnest(%s::text[], %s::text[]) as p (name, value))
"""
REPLICA = (
    "role {user} has session_replication_role = {role} in database {database} and may not take it back: its writes "
    "would fire no trigger. Run `alter role … reset session_replication_role` (or `alter database …`) as superuser, "
    "then run again"
)


def _open(database: Database, **more: Any) -> Connection:
    try:
        return psycopg.connect(
            **database.conninfo(), **more, autocommit=True, prepare_threshold=None, connect_timeout=10
        )
    except psycopg.OperationalError as exc:
        reason = " ".join(str(exc).split())
        message = (
            f"cannot connect to database {database.name} at {database.host}:{database.port} as {database.user}: "
            f"{reason}; is the server up, and is the password of the inventory right?"
        )
        raise PreconditionError(message) from exc


def _pin(conn: Connection, database: Database) -> None:
    """Set once more what the caller's variables beat, and what only this server's version has.

    Raises:
        PreconditionError: the session is one of replication, whose writes fire no ordinary trigger.
    """
    settings = pinned_settings(conn.info.server_version)
    # A killed client must not leave a long statement running on the server (PostgreSQL 14, runtime-config-connection).
    settings["client_connection_check_interval"] = "500ms"
    ((role, _),) = conn.execute(PIN, [list(settings), list(settings.values())]).fetchall()
    if role == "origin":
        return
    try:
        conn.execute("set session_replication_role = origin")
    except errors.InsufficientPrivilege as exc:
        raise PreconditionError(REPLICA.format(role=role, user=database.user, database=database.name)) from exc


@contextlib.contextmanager
def told_clearly(what: str) -> Generator[None]:
    """Turn what the driver says within the block into an error of ours that names the work and what to do next.

    Raises:
        ConnectionLost: the server ended the session or went away.
        StepFailed: any other error of the server.
    """
    try:
        yield
    except psycopg.Error as exc:
        raise clear_error(exc, what) from exc


def clear_error(exc: psycopg.Error, what: str) -> RehearsalError:
    """Return the error of ours for one of the driver."""
    reason = " ".join(str(exc).split())
    if isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError)) and exc.sqlstate in ENDED:
        message = (
            f"{what}: the server ended the session or went away ({reason}). What was under way is undone, what was "
            "done stays: when the server answers, run the same command again"
        )
        return ConnectionLost(message)
    return StepFailed(f"{what}: {exc.sqlstate or type(exc).__name__}: {reason}")


@dataclass(frozen=True, slots=True)
class LockPolicy:
    """Budget of one lock: timeouts grow from `timeout_ms` to `max_timeout_ms`; there is no unlimited last try."""

    timeout_ms: int = 150
    max_timeout_ms: int = 1_000
    hold_ms: int = 2_000
    attempts: int = 40
    budget_s: float = 120.0


@dataclass(frozen=True, slots=True)
class LockReport:
    """What one lock cost: tries, milliseconds until granted and held, and who stood in the way."""

    what: str
    attempts: int
    waited_ms: float
    held_ms: float
    blockers: tuple[str, ...]


class TryAgain(Exception):
    """Raised by the work under a lock: release everything, prepare outside, and ask again."""


def with_lock(
    conn: Connection,
    what: str,
    work: Callable[[Connection], T],
    *,
    lock: sql.SQL | sql.Composed | None = None,
    policy: LockPolicy | None = None,
    between: Callable[[], None] | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> tuple[T, LockReport]:
    """Run `work` in one transaction that may block the application, within a bounded budget.

    `lock` is run first, if given, so that the wait is measured apart from the hold. Lock timeouts, deadlocks and
    serialization failures are retried with growing timeouts and jittered pauses, as often as the policy allows, work
    that takes longer than `hold_ms` three times at most;
    `between` runs before each new try, with no lock held. `deadlock_timeout` is set below `lock_timeout` where the
    role may do so, since autovacuum yields only after `deadlock_timeout` (research: lock_timeout 500 ms against the
    default of 1 s failed 3 of 3 times). Where it may not, autovacuum is asked to yield before the next try, in a lock
    mode that the application does not feel. The commit waits for no disk and no standby while the lock is held; it is
    durable when this returns. The connection must be idle: the transaction is one of its own, READ COMMITTED whatever
    the session's default is, so that no snapshot under the lock is older than the lock.

    Raises:
        LockNotAcquired: the budget is spent; names the sessions that blocked it, as PostgreSQL sees them.
        StepFailed: the connection is within a transaction, whose snapshot might be older than the lock.
    """
    _require_idle(conn, what)
    policy = policy or LockPolicy()
    started = time.monotonic()
    blockers: tuple[str, ...] = ()
    attempt = overruns = 0
    with BlockerWatch(conn) as watch:
        while attempt < policy.attempts and overruns < MOST_OVERRUNS and time.monotonic() - started < policy.budget_s:
            if attempt:
                pause(random.uniform(0.5, 1.0) * min(2.0, 0.05 * 1.5 ** (attempt - 1)))  # noqa: S311 -- jitter
                _let_yield(conn, watch.take_maintained())
                if between:
                    between()
            attempt += 1
            timeout_ms = min(policy.max_timeout_ms, round(policy.timeout_ms * 1.3 ** (attempt - 1)))
            seen: tuple[str, ...] = ()
            try:
                result, waited_ms, held_ms = _locked(conn, work, lock, timeout_ms, policy.hold_ms)
            except TryAgain as exc:
                seen = (str(exc),)
            except errors.QueryCanceled as exc:
                overruns += 1
                seen = (f"{exc.diag.message_primary} (at most {policy.hold_ms} ms under the lock)",)
            except RETRIED as exc:
                # After a deadlock nobody may stand in the way any more; then the error itself is the reason.
                seen = watch.take() or oldest_transactions(conn) or (type(exc).__name__,)
            else:
                return result, LockReport(what, attempt, waited_ms, held_ms, merge(blockers, watch.take()))
            blockers = merge(blockers, seen)
    spent = time.monotonic() - started
    message = (
        f"{what}: no lock after {attempt} tries in {spent:.1f} s; in the way: {'; '.join(blockers) or 'unknown'}. "
        "End those sessions or wait for a quieter time, then run again"
    )
    raise LockNotAcquired(message, blockers=blockers)


def merge(known: tuple[str, ...], seen: tuple[str, ...]) -> tuple[str, ...]:
    """Return both without repeating a session: what is seen last of it stands."""
    lines = {line.partition("(")[0]: line for line in (*known, *seen)}
    return tuple(lines.values())


# The first statement under a lock. Whatever waits for a lock under REPEATABLE READ took its snapshot before: it would
# drain and read what was there before the wait, and miss what was acknowledged meanwhile.
FRESH = "set transaction isolation level read committed, read write"
# What is asked of the catalog while the application waits is planned as by default. A role that discourages scans makes
# plans so dear that they are compiled first, for half a minute, and no statement_timeout ends the compiler.
PLANNED_UNDER_LOCK = {"jit": "off"} | dict.fromkeys(
    (
        "enable_seqscan", "enable_indexscan", "enable_bitmapscan", "enable_nestloop", "enable_hashjoin",
        "enable_mergejoin", "enable_sort", "enable_hashagg", "enable_material",
    ),
    "on",
)  # fmt: skip


def _local(setting: tuple[str, str]) -> sql.Composed:
    return sql.SQL("pg_catalog.set_config({}, {}, true)").format(*setting)


def _require_idle(conn: Connection, what: str) -> None:
    if conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        message = (
            f"{what}: the session is within a transaction, whose snapshot may be older than its lock; commit first"
        )
        raise StepFailed(message)


def _locked(
    conn: Connection,
    work: Callable[[Connection], T],
    lock: sql.SQL | sql.Composed | None,
    timeout_ms: int,
    hold_ms: int,
) -> tuple[T, float, float]:
    asked = time.monotonic()
    with conn.transaction():
        conn.execute(FRESH)
        conn.execute(sql.SQL("set local lock_timeout = {}").format(timeout_ms))
        conn.execute(sql.SQL("set local idle_in_transaction_session_timeout = '10s'"))
        # The application must not wait for our commit to reach a disk or a standby: its own next commit flushes ours,
        # which comes before it in the log, so nothing acknowledged can survive a crash without it.
        conn.execute(sql.SQL("set local synchronous_commit = off"))
        conn.execute(sql.SQL("select {}").format(sql.SQL(", ").join(map(_local, PLANNED_UNDER_LOCK.items()))))
        _lower_deadlock_timeout(conn, timeout_ms)
        if lock is not None:
            conn.execute(lock)
        granted = time.monotonic()
        conn.execute(sql.SQL("set local statement_timeout = {}").format(hold_ms))
        result = work(conn)
    held_ms = (time.monotonic() - granted) * 1e3
    # Now that nobody waits: a commit that is waited for, so that what is reported as done is durable.
    conn.execute("select pg_catalog.pg_logical_emit_message(true, 'pg-rehearsal', 'flush')")
    return result, (granted - asked) * 1e3, held_ms


def _lower_deadlock_timeout(conn: Connection, timeout_ms: int) -> None:
    """Let autovacuum yield before our lock_timeout ends; needs superuser or GRANT SET ON PARAMETER."""
    row = conn.execute(
        "select pg_catalog.has_parameter_privilege('deadlock_timeout', 'SET')"
        if conn.info.server_version >= 150000
        else "select rolsuper from pg_catalog.pg_roles where rolname = current_user"
    ).fetchone()
    if row and row[0]:
        conn.execute(sql.SQL("set local deadlock_timeout = {}").format(max(10, timeout_ms // 3)))


NAME = """
select n.nspname, c.relname from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace where c.oid = %s::oid
"""
DEADLOCK_MS = "select setting::int from pg_catalog.pg_settings where name = 'deadlock_timeout'"
# The deadlock check, the cancel and the clean-up of the one who is cancelled.
YIELD_MS = 1_000


def _let_yield(conn: Connection, tables: set[int]) -> None:
    """Wait for maintenance of these tables to end, in SHARE UPDATE EXCLUSIVE mode, which blocks no reader or writer.

    Whoever waits longer than `deadlock_timeout` behind autovacuum has it cancelled, in this mode as in any other; the
    lock itself is asked for afterwards. A vacuum to prevent wraparound does not yield, nor does one by hand: then the
    wait ends, and the next try names them.
    """
    for oid in tables:
        name = conn.execute(NAME, [oid]).fetchone()
        if name is None:
            continue
        wait_ms = int(scalar(conn, DEADLOCK_MS)) + YIELD_MS
        with contextlib.suppress(*RETRIED, errors.InsufficientPrivilege, errors.UndefinedTable), conn.transaction():
            conn.execute(sql.SQL("set local lock_timeout = {}").format(wait_ms))
            conn.execute(sql.SQL("lock table {} in share update exclusive mode").format(sql.Identifier(*name)))


@contextlib.contextmanager
def advisory_lock(conn: Connection, key: str) -> Generator[None]:
    """Hold the session advisory lock of `key` for the block; frees itself when the process dies.

    Raises:
        PreconditionError: another session holds it; says which.
    """
    row = conn.execute("select pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended(%s, 0))", [key]).fetchone()
    if not row or not row[0]:
        raise PreconditionError(_holder_message(conn, key))
    try:
        yield
    finally:
        if not conn.closed:
            conn.execute("select pg_catalog.pg_advisory_unlock(pg_catalog.hashtextextended(%s, 0))", [key])


HOLDER = """
select a.pid, a.application_name, a.client_addr::text, a.backend_start::text
from pg_catalog.pg_locks as l
join pg_catalog.pg_stat_activity as a using (pid)
where l.locktype = 'advisory' and l.granted and l.objsubid = 1
      and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
      and (l.classid::bigint << 32) | l.objid::bigint = pg_catalog.hashtextextended(%s, 0)
"""


def _holder_message(conn: Connection, key: str) -> str:
    row = conn.execute(HOLDER, [key]).fetchone()
    who = (
        f"pid {row[0]} ({row[1]}, from {row[2] or 'a socket'}, since {row[3]})" if row else "a session that just ended"
    )
    return f"another run holds {key}: {who}; wait for it or end it, then run again"


def scalar(conn: Connection, query: Any, params: Any = None) -> Any:
    """Return the first column of the only row."""
    row = conn.execute(query, params).fetchone()
    if row is None:
        message = "the query returned no row"
        raise PreconditionError(message)
    return row[0]
