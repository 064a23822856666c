"""Snapshot fence of an exchange: nobody writes the table through a snapshot that is older than the exchange.

A transaction takes its snapshot before it waits for a lock. One of REPEATABLE READ that waited for the exchange, or
that read elsewhere before, goes on with the other table and does not see the rows that were replayed into it last: its
UPDATE or DELETE would find nothing and say so without an error. While such a snapshot may exist, a statement trigger
refuses it with 40001, which these transactions must expect anyway. READ COMMITTED takes a snapshot for each
statement, after the wait, and does not notice the fence. A plain SELECT fires no trigger: see decision 0010.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rehearsal.catalog.tables import Name
from rehearsal.postgres.connection import Connection, scalar
from rehearsal.postgres.locks import LockPolicy, LockReport, Mode, TryAgain, lock_tables, with_lock
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover import state
from rehearsal.switchover.names import Names

OLDER_SNAPSHOTS = """
select format('pid %%s (%%s, %%s since %%s)', pid, application_name, state, xact_start)
from pg_catalog.pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_xmin is not null
      and age(backend_xmin) >= age(%(event)s::text::xid)
      and backend_type not in ('autovacuum worker', 'parallel worker', 'walsender')
"""
# Sessions of others whose snapshots a role without pg_read_all_stats does not see. Whatever of them is in a transaction
# now may have one from before; its virtual transaction ends with it, and those that begin later see the exchange.
UNSEEN_TRANSACTIONS = """
select l.virtualtransaction,
       format('pid %%s (%%s, of which this role sees no more: it lacks pg_read_all_stats)', a.pid, a.usename)
from pg_catalog.pg_locks as l
join pg_catalog.pg_stat_activity as a using (pid)
where l.locktype = 'virtualxid' and l.granted and l.mode = 'ExclusiveLock'
      and a.datname = current_database() and a.pid <> pg_backend_pid() and a.query = '<insufficient privilege>'
"""
MAX_WAIT_S = 10.0
POLL_S = 0.05


def older_snapshots(conn: Connection, event: str, patience_s: float) -> tuple[str, ...]:
    """Wait until no snapshot is left from before the transaction `event`; return those that are left in the end.

    A prepared transaction has no snapshot any more. What it wrote it has locked, so the lock that comes next waits.
    Of sessions whose snapshots the role may not see, each transaction that is under way at first must have ended.
    """
    deadline = time.monotonic() + patience_s
    unseen: dict[str, str] = dict(conn.execute(UNSEEN_TRANSACTIONS, {}).fetchall())
    while old := [row[0] for row in conn.execute(OLDER_SNAPSHOTS, {"event": event})] + _left(conn, unseen):
        if time.monotonic() > deadline:
            return tuple(old)
        # PostgreSQL offers no event for the end of a snapshot; the condition is polled.
        time.sleep(POLL_S)
    return ()


def _left(conn: Connection, unseen: Mapping[str, str]) -> list[str]:
    """Return what is left of transactions whose snapshots cannot be seen."""
    now = {row[0] for row in conn.execute(UNSEEN_TRANSACTIONS, {})} if unseen else set[str]()
    return [who for transaction, who in unseen.items() if transaction in now]


@dataclass(frozen=True, slots=True)
class SnapshotFence:
    """The fence of one table's exchanges; it stands on whichever table has the name."""

    files: SqlFiles
    names: Names
    migration: int

    def on_sql(self, xid: str) -> str:
        """Return the statements that raise the fence; `xid` is the transaction of the exchange."""
        return self.files.render("switchover/fence_on.sql.j2", **self._values(self.names.source), xid=xid)

    def off_sql(self, table: Name) -> str:
        """Return the statements that take the fence off a table."""
        return self.files.render("switchover/fence_off.sql.j2", **self._values(table))

    def _values(self, table: Name) -> dict[str, Any]:
        trigger, function = self.names.fence_trigger, self.names.function("snapshot_guard")
        return {"table": table, "trigger": trigger, "function": function}

    def move(self, held: Connection, before: Name | None = None) -> str:
        """Within the exchange: off the table that had the name, now called `before`, and onto the one that has it.

        Returns the number of the exchange's transaction, to be kept as `guard` in the state of the migration. Without
        `before`, the table that had the name is gone, or has it still.
        """
        held.execute(as_query(self.off_sql(before or self.names.source)))
        xid = str(scalar(held, "select pg_catalog.pg_current_xact_id()::text"))
        held.execute(as_query(self.on_sql(xid)))
        return xid

    def lower(self, conn: Connection, policy: LockPolicy) -> tuple[LockReport | None, tuple[str, ...]]:
        """Take the fence off once nobody needs it; return the lock's report, and who needs it still.

        It stays while an older snapshot does, for a few seconds waited for; then the next run, the next exchange or
        the clean-up takes it off. A second run finds none and takes no lock.

        Raises:
            LockNotAcquired: the table was in use for longer than the budget; the fence stays.
        """
        xid = self._xid(conn)
        if xid is None:
            return None, ()
        # age() compares 32 bits; xid8 has the epoch above them.
        if old := older_snapshots(conn, str(int(xid) % 2**32), min(MAX_WAIT_S, policy.budget_s)):
            return None, old

        def work(held: Connection) -> None:
            held.execute(as_query(self.off_sql(self.names.source)))
            held.execute(
                "update rehearsal.migration set detail = detail - 'guard' where id = %s",
                [self.migration],
            )

        lock = lock_tables(Mode.ACCESS_EXCLUSIVE, self.names.source)
        title = f"end of the snapshot fence of {'.'.join(self.names.source)}"
        return with_lock(conn, title, work, lock=lock, policy=policy)[1], ()

    def _xid(self, conn: Connection) -> str | None:
        return state.read_migration(conn, self.names.source).detail.guard or None


OLD_SNAPSHOTS = """
select format('pid %s (%s, %s, snapshot held since %s)', pid, application_name, state, xact_start)
from pg_catalog.pg_stat_activity
where datname = current_database() and pid <> pg_backend_pid() and backend_xmin is not null
      and state like 'idle in transaction%'
"""


def refuse_old_snapshots(conn: Connection) -> None:
    """Refuse an exchange while a transaction that has not touched the table keeps a snapshot from before.

    Under REPEATABLE READ it would work on the other table after the exchange and not see what was replayed into it
    since: its UPDATE or DELETE of such a row would find nothing and say so without an error. Under READ
    COMMITTED an idle transaction keeps no snapshot.

    Raises:
        TryAgain: there is one; names it.
    """
    if old := [row[0] for row in conn.execute(OLD_SNAPSHOTS)]:
        message = "; ".join(old[:3])
        raise TryAgain(message)
