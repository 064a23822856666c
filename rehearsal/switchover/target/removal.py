"""Removal of a target that the application does not use, with all that was made for it.

Owns the list of what that is. What remains is the table as it was before `db.migrate`.
"""

from __future__ import annotations

from collections.abc import Iterable

from rehearsal.catalog.definition import Difference
from rehearsal.catalog.tables import Catalog, Name, dotted
from rehearsal.errors import PreconditionError
from rehearsal.lifecycle.policy import forget_gone, require_nothing_held
from rehearsal.postgres.connection import Connection, told_clearly
from rehearsal.postgres.locks import Mode, lock_tables
from rehearsal.postgres.sqlfiles import as_query
from rehearsal.switchover import state
from rehearsal.switchover.acts import Act, lock_of
from rehearsal.switchover.drift import Watch
from rehearsal.switchover.finish import lower_fence
from rehearsal.switchover.names import change_name, trigger_names
from rehearsal.switchover.sightings import Sight, changed_partitions, read_remembered
from rehearsal.switchover.state import Migration
from rehearsal.switchover.target.composite import Composites
from rehearsal.switchover.work import TableWork

ROLES = ("capture_forward", "capture_reverse", "refuse_truncate", "sync_to_partitioned", "sync_from_partitioned",
         "snapshot_guard", "refuse_partition")  # fmt: skip


def removal_sql(work: TableWork) -> str:
    """Return the statements that remove the target, its triggers and logs."""
    names = work.names
    return work.files.render(
        "switchover/target/remove_target.sql.j2",
        source=names.source,
        source_text=dotted(names.source),
        target=names.target,
        triggers=[*trigger_names(names), names.fence_trigger],
        functions=[names.function(role) for role in ROLES],
        forward_log=names.forward_log,
        reverse_log=names.reverse_log,
        changes=f"{work.plan.name}/{change_name(names.source)}/",
    )


def removal_acts(work: TableWork) -> list[Act]:
    """Return the removal as an act, for a dry run."""
    text = removal_sql(work)
    return [Act(work.spec.name, "removal of the target", text, lock_of(text), 0.01)]


def require_no_fence(work: TableWork, conn: Connection) -> None:
    """Take the snapshot fence off, and refuse to end what keeps it while a snapshot needs it.

    Locks: ACCESS EXCLUSIVE on the table for milliseconds, if the fence is on.

    Raises:
        PreconditionError: a snapshot from before the last cutover is left.
    """
    lower_fence(work, conn)
    if work.migration(conn).detail.guard:
        message = (
            f"the snapshot fence of {work.spec.name} is on for snapshots from before the last cutover, whose writes "
            "would be lost without it; end their transactions, then run again. Nothing was removed"
        )
        raise PreconditionError(message)


def remove_target(work: TableWork, conn: Connection, watch: Watch | None = None) -> None:
    """Remove the target with all that was made for it, in one transaction; the snapshot fence first, by itself.

    `watch`: what has to be as it looks before the removal, or it is refused.
    Locks: ACCESS EXCLUSIVE on the target, then on the table, for milliseconds.

    Raises:
        PreconditionError: a snapshot from before the last cutover is left, which the fence refuses to write.
        LockNotAcquired: a lock was not granted within its budget; nothing was removed.
    """
    require_no_fence(work, conn)
    require_nothing_held(conn, work.names.target)
    text, title = removal_sql(work), f"removal of the target of {work.spec.name}"
    if watch:
        watch.look(conn)

    def remove(held: Connection) -> None:
        if watch:
            watch.hold(held)
        held.execute(as_query(text))
        forget_gone(held)

    def between() -> None:
        if watch:
            watch.again(conn)

    lock = lock_tables(Mode.ACCESS_EXCLUSIVE, *_locked_in_order(work, conn))
    with told_clearly(title):
        work.locked(conn, title, remove, lock=lock, between=between)


def _locked_in_order(work: TableWork, conn: Connection) -> list[Name]:
    """Return what is locked first: the target, whose maintenance and readers then make nobody wait for the table."""
    names = work.names
    # The application writes into a target that is mirrored before its copy, after its own row: in that order.
    is_mirrored = work.plan.traits.mirrors and work.migration(conn).state in (state.PREPARED, state.MIRRORED)
    there = Catalog(conn, work.files).find(names.target) is not None
    return [names.target, names.source] if there and not is_mirrored else [names.source]


def give_up(work: TableWork, conn: Connection, watch: Watch | None = None) -> None:
    """Take everything back that was made for a switchover: the target, and partition keys of referencing tables.

    `watch`: the target was in use, and nobody uses it any more; it looks once more, under the lock too.

    Resumes after a kill at any point, since the target goes last. Locks: ACCESS EXCLUSIVE on each referencing table
    and on the table itself, for milliseconds.

    Raises:
        PreconditionError: the application may use the target, another plan made it, or somebody added partitions.
        LockNotAcquired: a lock was not granted within its budget; what is left is removed by the next run.
    """
    found = work.migration(conn)
    # A kill between the two below leaves a table that is being copied, whichever way it goes on.
    unused = (*state.UNUSED, state.MIRRORED) if watch else state.UNUSED
    if found.state not in unused or found.plan != work.plan.name:
        message = f"{found.source} is {found.state} by plan {found.plan}; it is not this plan's to give up"
        raise PreconditionError(message)
    _refuse_strangers(work, conn, found)
    live = Catalog(conn, work.files).read(work.names.source)
    Composites(work.files, work.plan, work.spec).undo(conn, live, work.tell_lock)
    work.begin("removal")
    remove_target(work, conn, watch)


def _refuse_strangers(work: TableWork, conn: Connection, found: Migration) -> None:
    before = read_remembered(conn, found.id)
    if before is not None and Catalog(conn, work.files).find(work.names.target) is not None:
        now = Sight(work.files, work.names, work.names.source, work.names.target).read(conn)
        refuse_strangers(work, changed_partitions(before, now))


def refuse_strangers(work: TableWork, changed: Iterable[Difference]) -> None:
    """Refuse to drop a target to which somebody added a partition, whose rows may be nowhere else.

    Raises:
        PreconditionError: names each.
    """
    partitions = (
        difference for difference in changed if difference.subject.startswith("partition ") and not difference.facet
    )
    if came := [partition.subject for partition in partitions if partition.before is None]:
        message = (
            f"the target of {work.spec.name} has what was not made here: {', '.join(came)}; detach it, or drop it if "
            "its rows are not needed, then run again. Nothing was changed"
        )
        raise PreconditionError(message)
