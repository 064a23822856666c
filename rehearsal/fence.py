"""The fence after an exchange in which rows move: writes with a snapshot from before fail instead of finding nothing.

Under REPEATABLE READ a statement that waits for the exchange's lock has its snapshot already. Afterwards it does not
see the rows that the exchange brought, so its UPDATE would find none of them and report success. The fence is a
statement trigger that the exchange makes; this module takes it off once no such snapshot is left.
"""

from __future__ import annotations

import time

from psycopg import sql

from rehearsal.catalog import Name
from rehearsal.postgres import Connection, LockPolicy, LockReport, with_lock

PATIENCE_S = 10.0
TRANSACTION = """
select convert_from(substring(t.tgargs from 1 for octet_length(t.tgargs) - 1), 'UTF8')
from pg_catalog.pg_trigger as t
join pg_catalog.pg_class as c on c.oid = t.tgrelid
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where n.nspname = %s and c.relname = %s and t.tgname = %s
"""
# Not pg_snapshot_xmin(): a transaction that has only read so far has a snapshot and no number.
PASSED = """
select not exists (
    select from pg_catalog.pg_stat_activity as a
    where a.datname = current_database() and a.pid <> pg_backend_pid() and a.backend_type = 'client backend'
          and age(a.backend_xmin) >= age(%s::text::xid8::xid)
)
"""


def current_transaction(conn: Connection) -> str:
    """Return the number of the caller's transaction, as a fence wants it."""
    row = conn.execute("select pg_catalog.pg_current_xact_id()::text").fetchone()
    return str(row[0]) if row else ""


def take_off(conn: Connection, table: Name, trigger: str, policy: LockPolicy) -> LockReport | None:
    """Take the fence off a table once every snapshot from before its exchange is gone; None if there is none yet.

    Waits a few seconds at most: a fence that stays costs a microsecond a statement, and the next run takes it off.
    Locks: ACCESS EXCLUSIVE on the table, for milliseconds.

    Raises:
        LockNotAcquired: the lock was not granted within its budget; the fence stays.
    """
    row = conn.execute(TRANSACTION, [*table, trigger]).fetchone()
    if row is None or not _passed(conn, row[0]):
        return None

    def work(held: Connection) -> None:
        drop = sql.SQL("drop trigger if exists {} on {}")
        held.execute(drop.format(sql.Identifier(trigger), sql.Identifier(*table)))

    lock = sql.SQL("lock table {} in access exclusive mode").format(sql.Identifier(*table))
    _, report = with_lock(conn, f"end of the fence of {'.'.join(table)}", work, lock=lock, policy=policy)
    return report


def _passed(conn: Connection, transaction: str) -> bool:
    until = time.monotonic() + PATIENCE_S
    while True:
        row = conn.execute(PASSED, [transaction]).fetchone()
        if row and row[0]:
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.02)  # there is no event to wait for: the oldest snapshot of other sessions
