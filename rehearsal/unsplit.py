"""What a split of history leaves behind, taken away: after its exchange, or before it when the way back is wanted.

Owns the removal of capture, logs and fine partitions around a history table. Must not know how they are filled.
"""

from __future__ import annotations

from psycopg import sql

from rehearsal import state
from rehearsal.catalog import dotted
from rehearsal.names import Names
from rehearsal.postgres import Connection, LockPolicy, LockReport, with_lock


def forget_copy(held: Connection, history: Names, migration: int) -> None:
    """Drop the logs and functions of the copy, and its state, in the caller's transaction.

    The functions' triggers go with them; what they stood on is history, its fine partitions, or both.
    """
    for log in (history.forward_log, history.reverse_log):
        held.execute(sql.SQL("drop table {}").format(sql.Identifier(*log)))
    for role in ("capture_forward", "capture_reverse", "refuse_truncate"):
        name = sql.Identifier(*history.function(role))
        held.execute(sql.SQL("drop function {}() cascade").format(name))
    held.execute("delete from rehearsal.migration where id = %s", [migration])


def undo_split(conn: Connection, history: Names, policy: LockPolicy) -> LockReport | None:
    """Take a split back that has not come to its exchange; None if there is none. History stays as it is.

    Locks: ACCESS EXCLUSIVE on history and on its fine partitions, for milliseconds.

    Raises:
        LockNotAcquired: the lock was not granted within its budget; the split can be gone on with.
    """
    found = state.find_migration(conn, history.source)
    if found is None:
        return None

    def work(held: Connection) -> None:
        held.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(*history.target)))
        forget_copy(held, history, found.id)

    lock = sql.SQL("lock table {} in access exclusive mode").format(sql.Identifier(*history.source))
    _, report = with_lock(conn, f"undo of the split of {dotted(history.source)}", work, lock=lock, policy=policy)
    return report
