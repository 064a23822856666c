"""Removal of a target that the application does not use, with all that was made for it.

Owns the list of what that is. What remains is the table as it was before `db.migrate`.
"""

from __future__ import annotations

from rehearsal.catalog.tables import Catalog, dotted
from rehearsal.postgres.connection import Connection, told_clearly
from rehearsal.postgres.locks import Mode, lock_tables
from rehearsal.postgres.sqlfiles import as_query
from rehearsal.switchover.names import change_name, trigger_names
from rehearsal.switchover.target.composite import Composites
from rehearsal.switchover.work import TableWork

ROLES = ("capture_forward", "capture_reverse", "refuse_truncate", "sync_to_partitioned", "sync_from_partitioned",
         "snapshot_guard")  # fmt: skip


def removal_sql(work: TableWork) -> str:
    """Return the statements that remove the target, its triggers and logs."""
    names = work.names
    return work.files.render(
        "switchover/target/remove_target.sql.j2",
        source=names.source,
        source_text=dotted(names.source),
        target=names.target,
        triggers=[*trigger_names(names), names.guard_trigger],
        functions=[names.function(role) for role in ROLES],
        forward_log=names.forward_log,
        reverse_log=names.reverse_log,
        changes=f"{work.plan.name}/{change_name(names.source)}/",
    )


def remove_target(work: TableWork, conn: Connection) -> None:
    """Remove the target with all that was made for it, in one transaction.

    Locks: ACCESS EXCLUSIVE on the table for milliseconds.

    Raises:
        LockNotAcquired: the lock was not granted within its budget; nothing was removed.
    """
    text, title = removal_sql(work), f"removal of the target of {work.spec.name}"

    def remove(held: Connection) -> None:
        held.execute(as_query(text))

    with told_clearly(title):
        work.locked(conn, title, remove, lock=lock_tables(Mode.ACCESS_EXCLUSIVE, work.names.source))


def give_up(work: TableWork, conn: Connection) -> None:
    """Take everything back that was made for a switchover: the target, and partition keys of referencing tables.

    Resumes after a kill at any point, since the target goes last. Locks: ACCESS EXCLUSIVE on each referencing table
    and on the table itself, for milliseconds.

    Raises:
        LockNotAcquired: a lock was not granted within its budget; what is left is removed by the next run.
    """
    live = Catalog(conn, work.files).read(work.names.source)
    Composites(work.files, work.plan, work.spec).undo(conn, live, work.tell_lock)
    work.begin("removal")
    remove_target(work, conn)
