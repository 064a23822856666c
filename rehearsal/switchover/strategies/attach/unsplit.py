"""The rollback of a split of history, before its exchange and after it, and what both exchanges end with.

Before the exchange nothing but capture and copies is there, and they are dropped. After it history follows its fine
partitions by a change log: it is replayed to zero under the lock and attached again. Must not know how a split is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from rehearsal.catalog.tables import Name, Table, dotted, split_name
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.locks import Mode, lock_tables
from rehearsal.postgres.sqlfiles import as_query
from rehearsal.switchover import state
from rehearsal.switchover.copy.replay import replay_to_zero
from rehearsal.switchover.detail import Detail
from rehearsal.switchover.drift import Watch
from rehearsal.switchover.finish import finish_keys, lower_fence
from rehearsal.switchover.names import Names
from rehearsal.switchover.snapshot_fence import SnapshotFence, refuse_old_snapshots
from rehearsal.switchover.state import Migration
from rehearsal.switchover.strategies.attach.history import fine_partitions, replay_of_kept
from rehearsal.switchover.strategies.attach.layout import HistoryNames, Statements
from rehearsal.switchover.target.foreign_keys import comment_sql, lock_referenced, weak_keys
from rehearsal.switchover.work import TableWork


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


def undo_split(work: TableWork, conn: Connection) -> None:
    """Take a split back that has not come to its exchange, if there is one. History stays as it is.

    Locks: ACCESS EXCLUSIVE on history and on its fine partitions, for milliseconds.

    Raises:
        LockNotAcquired: the lock was not granted within its budget; the split can be gone on with.
    """
    history = Names(HistoryNames(work.names).history)
    found = state.find_migration(conn, history.source)
    if found is None:
        return

    def drop(held: Connection) -> None:
        held.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(*history.target)))
        forget_copy(held, history, found.id)

    lock = lock_tables(Mode.ACCESS_EXCLUSIVE, history.source)
    work.locked(conn, f"undo of the split of {dotted(history.source)}", drop, lock=lock)


@dataclass(frozen=True, slots=True)
class SplitBack:
    """The rollback of a split whose exchange was made."""

    work: TableWork
    statements: Statements

    @property
    def history(self) -> Names:
        """Names around history."""
        return Names(HistoryNames(self.work.names).history)

    def go(self, conn: Connection, migration: int, watch: Watch) -> None:
        """Make history a partition again, with every row that was written since. Afterwards the table is attached.

        Locks: ACCESS EXCLUSIVE on the partitioned table for the last replay and the exchange.

        Raises:
            LockNotAcquired: the lock was not granted within its budget; history goes on following.
        """
        sub = state.read_migration(conn, self.history.source)
        replay, copying = replay_of_kept(self.work, conn), self.work.plan.copying

        def between() -> None:
            watch.again(conn)
            replay.until(conn, copying.drain_until, copying.drain_batch)

        def exchange(held: Connection) -> None:
            watch.hold(held)
            refuse_old_snapshots(held)
            replay_to_zero(replay, held)
            parent = self.work.table(held)
            lock_referenced(held, parent.foreign_keys)
            fine = self.fine(held, parent)
            held.execute(as_query(self.sql(parent, fine)))
            fence = SnapshotFence(self.work.files, self.work.names, migration).move(held)
            detached = tuple(dotted(leaf) for leaf in fine)
            state.set_state(held, migration, state.ATTACHED, Detail(guard=fence, detached=detached))
            forget_copy(held, self.history, sub.id)

        self.prove_bound(conn)
        watch.look(conn)
        between()
        lock = lock_tables(Mode.ACCESS_EXCLUSIVE, self.history.source, self.work.names.source)
        title = f"rollback of the split of {self.work.spec.name}"
        self.work.locked(conn, title, exchange, lock=lock, between=between)

    def prove_bound(self, conn: Connection) -> None:
        """Prove the bound of history, which nobody uses, so that the exchange need not read its rows."""
        extra = HistoryNames(self.work.names)
        table = self.work.table(conn, self.history.source)
        if not any(constraint.name == extra.bound for constraint in table.constraints):
            text = self.statements.render("attach_bound", of=self.history.source)
            conn.execute(as_query(text))
        conn.execute(as_query(self.statements.render("attach_validate", of=self.history.source)))

    def fine(self, conn: Connection, parent: Table) -> list[Name]:
        """Return the partitions to take off; one that retention dropped is no loss: its rows were to go."""
        there = {leaf.name for leaf in parent.partitions}
        return [name for name in fine_partitions(self.work.migration(conn)) if name in there]

    def sql(self, parent: Table, fine: Sequence[Name]) -> str:
        """Return the statements of the rollback as the catalog is now."""
        kept = [leaf.name for leaf in parent.partitions if leaf.name not in fine]
        return self.statements.render(
            "split_back",
            fine=fine,
            foreign_keys=[key.name for key in parent.foreign_keys],
            # History is what the table is after the rollback; the parent gets the comments when it adopts its keys.
            weak_keys=[
                *weak_keys(parent, [self.history.source, *sorted(kept)]),
                *(comment_sql(self.history.source, key) for key in parent.foreign_keys if key.comment),
            ],
        )


def drop_detached(work: TableWork, conn: Connection) -> int:
    """Drop the partitions that the rollback of a split took off the table; return how many. Second run: none.

    Not within that exchange: to drop a table of 300 columns takes 0.15 s, to detach it a twentieth of that.
    Locks: ACCESS EXCLUSIVE on each of them, which nobody uses any more; a transaction each.

    Raises:
        LockNotAcquired: somebody reads one by its name; the others are gone, and the next run drops it.
    """
    found = work.migration(conn)
    left = list(found.detail.detached)
    for name in found.detail.detached:
        left.remove(name)
        _drop_one(work, conn, found, split_name(name), tuple(left))
    return len(found.detail.detached)


def _drop_one(work: TableWork, conn: Connection, found: Migration, leaf: Name, left: tuple[str, ...]) -> None:
    def drop(held: Connection) -> None:
        held.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(*leaf)))
        state.set_state(held, found.id, found.state, Detail(detached=left))

    work.locked(conn, f"drop of {dotted(leaf)}", drop)


def finish_split(work: TableWork, conn: Connection) -> int:
    """Take the fence off, validate the foreign keys of the leaves, let the parent adopt them; return how many acts.

    Locks: SHARE UPDATE EXCLUSIVE on each leaf while it is validated, SHARE ROW EXCLUSIVE for the adoption (ms).
    """
    lowered = lower_fence(work, conn)
    return finish_keys(work, conn, work.names.source) + lowered
