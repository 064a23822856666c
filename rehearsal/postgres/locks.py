"""Locks that the application could feel: one text for them, one way to ask, within a budget.

Owns the function that every such lock goes through, and how a lock is written. Must not know plans.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import psycopg
from psycopg import errors, sql

from rehearsal.errors import LockNotAcquired, StepFailed
from rehearsal.postgres.blockers import BlockerWatch, oldest_transactions
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.hold import Hold, held_at_most

T = TypeVar("T")

RETRIED = (errors.LockNotAvailable, errors.DeadlockDetected, errors.SerializationFailure)
# The server's own limit comes after ours, so that there is one of them that speaks.
BESIDE_MS = 1_000
# Work that is too slow under the lock will be so the next time as well, and the application waits each time.
MAX_OVERRUNS = 3


class Mode(StrEnum):
    """A lock mode, as PostgreSQL spells it."""

    SHARE_UPDATE_EXCLUSIVE = "SHARE UPDATE EXCLUSIVE"
    SHARE_ROW_EXCLUSIVE = "SHARE ROW EXCLUSIVE"
    ACCESS_EXCLUSIVE = "ACCESS EXCLUSIVE"


def lock_tables(mode: Mode, *tables: tuple[str, str]) -> sql.Composed:
    """Return the statement that locks tables, (schema, name) each, in the order given."""
    listed = sql.SQL(", ").join(sql.Identifier(*table) for table in tables)
    return sql.SQL("lock table {} in {} mode").format(listed, sql.SQL(mode.value.lower()))


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


class TooLong(Exception):
    """The work under a lock was ended, and rolled back: its statements together took longer than `hold_ms`."""


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
    role may do so, since autovacuum yields only after `deadlock_timeout` (measured: a lock_timeout of 500 ms
    against its default of 1 s failed 3 of 3 times). Where it may not, autovacuum is asked to yield before the next try,
    in a lock mode that the application does not feel. The commit waits for no disk and no standby while the lock is
    held; it is durable when this returns. The connection must be idle: the transaction is one of its own, READ
    COMMITTED whatever the session's default is, so that no snapshot under the lock is older than the lock.

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
        while attempt < policy.attempts and overruns < MAX_OVERRUNS and time.monotonic() - started < policy.budget_s:
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
            except TooLong:
                overruns += 1
                seen = (f"what is done under the lock takes longer than hold_ms = {policy.hold_ms} in [locks]",)
            except RETRIED as exc:
                # After a deadlock nobody may stand in the way any more; then the error itself is the reason.
                seen = watch.take() or oldest_transactions(conn) or (type(exc).__name__,)
            else:
                return result, LockReport(what, attempt, waited_ms, held_ms, merge(blockers, watch.take()))
            blockers = merge(blockers, seen)
    spent = time.monotonic() - started
    remedy = "End those sessions or wait for a quieter time, then run again"
    if overruns >= MAX_OVERRUNS:
        remedy = "Wait for a quieter time, or raise hold_ms in [locks] knowingly, then run again"
    message = (
        f"{what}: could not acquire lock after {attempt} {'attempt' if attempt == 1 else 'attempts'} ({spent:.1f} s); "
        f"blocked by: {'; '.join(blockers) or 'unknown'}. "
        f"{remedy}"
    )
    raise LockNotAcquired(message, blockers=blockers)


def drop_index(conn: Connection, index: tuple[str, str], budget_s: float) -> None:
    """Drop an index beside readers and writers; one that is gone is no error.

    It waits for every transaction that uses the table, and nobody waits for it; the wait is bounded all the same. What
    an ended wait leaves is an invalid index, which the next run drops.

    Raises:
        LockNotAcquired: a transaction did not end within the budget; names the oldest ones.
    """
    _require_idle(conn, f"drop of index {index[1]}")
    conn.execute(sql.SQL("set lock_timeout = {}").format(round(budget_s * 1e3)))
    try:
        conn.execute(sql.SQL("drop index concurrently if exists {}").format(sql.Identifier(*index)))
    except errors.LockNotAvailable as exc:
        old = oldest_transactions(conn)
        message = (
            f"index {index[1]} was not dropped within {budget_s:.0f} s: that waits for every transaction that uses its "
            f"table; blocked by: {'; '.join(old) or 'unknown'}. End those sessions or wait for them, then run again"
        )
        raise LockNotAcquired(message, blockers=old) from exc
    finally:
        if not conn.closed:
            conn.execute("set lock_timeout = 0")


def merge(known: tuple[str, ...], seen: tuple[str, ...]) -> tuple[str, ...]:
    """Return both without repeating a session: what is seen last of it stands."""
    lines = {line.partition("(")[0]: line for line in (*known, *seen)}
    return tuple(lines.values())


# The first statement under a lock. Whatever waits for a lock under REPEATABLE READ took its snapshot before: it would
# replay and read what was there before the wait, and miss what was acknowledged meanwhile.
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


FLUSH = "select pg_catalog.pg_logical_emit_message(true, 'pg-rehearsal', 'flush')"


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
        conn.execute(sql.SQL("set local statement_timeout = {}").format(hold_ms + BESIDE_MS))
        with held_at_most(conn, hold_ms) as hold:
            result = _within(hold, work, conn)
    held_ms = (time.monotonic() - granted) * 1e3
    # Now that nobody waits: a commit that is waited for, so that what is reported as done is durable.
    _flush(conn)
    return result, (granted - asked) * 1e3, held_ms


def _flush(conn: Connection) -> None:
    """Wait for what was committed to be on disk. A cancel that was late is not meant for this: it is done already."""
    try:
        conn.execute(FLUSH)
    except errors.QueryCanceled:
        conn.execute(FLUSH)


def _within(hold: Hold, work: Callable[[Connection], T], conn: Connection) -> T:
    try:
        return work(conn)
    except errors.QueryCanceled as exc:
        if hold.passed:
            raise TooLong from exc
        raise


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
            conn.execute(lock_tables(Mode.SHARE_UPDATE_EXCLUSIVE, (name[0], name[1])))
