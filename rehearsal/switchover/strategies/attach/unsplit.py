"""The rollback of a split of history, before its exchange and after it, and what both exchanges end with.

Before the exchange nothing but capture and copies is there, and they are dropped. After it history follows its fine
partitions by a change log: it is replayed to zero under the lock and attached again. Must not know how a split is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from rehearsal.catalog.tables import Index, Name, Table, dotted
from rehearsal.errors import PreconditionError
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.locks import Mode, lock_tables
from rehearsal.postgres.sqlfiles import as_query, quote_ident
from rehearsal.switchover import state
from rehearsal.switchover.copy.replay import replay_to_zero
from rehearsal.switchover.detail import Detail
from rehearsal.switchover.drift import Watch
from rehearsal.switchover.finish import finish_keys, lower_fence
from rehearsal.switchover.names import Names
from rehearsal.switchover.snapshot_fence import SnapshotFence, refuse_old_snapshots
from rehearsal.switchover.strategies.attach.history import fine_partitions, replay_of_kept
from rehearsal.switchover.strategies.attach.layout import HistoryNames, Statements
from rehearsal.switchover.target.foreign_keys import comment_sql, kept_key, lock_referenced, weak_keys
from rehearsal.switchover.work import TableWork


def forget_copy(held: Connection, history: Names, migration: int) -> None:
    """Drop the logs and functions of the copy, and its state, in the caller's transaction.

    The functions' triggers go with them; what they stood on is history, its fine partitions, or both.
    """
    held.execute(as_query(";\n".join(copy_dropping(history))))
    held.execute("delete from rehearsal.migration where id = %s", [migration])


def copy_dropping(history: Names) -> list[str]:
    """Return the statements that drop the logs and functions of the copy."""
    logs = [f"drop table {quote_ident(log)}" for log in (history.forward_log, history.reverse_log)]
    roles = ("capture_forward", "capture_reverse", "refuse_truncate")
    return [*logs, *(f"drop function {quote_ident(history.function(role))}() cascade" for role in roles)]


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
            self._require_unneeded(held, parent)
            held.execute(as_query(self.sql(parent, fine)))
            fence = SnapshotFence(self.work.files, self.work.names, migration).move(held)
            # As they are now: since the split some may have come, gone, or been commented on.
            keys = tuple(map(kept_key, parent.foreign_keys))
            state.set_state(held, migration, state.ATTACHED, Detail(guard=fence, foreign_keys=keys))
            forget_copy(held, self.history, sub.id)

        self.prove_bound(conn)
        watch.look(conn)
        parent = self.work.table(conn)
        self._require_indexes(conn, parent)
        self._require_unneeded(conn, parent)
        self._drop_indexes(conn, parent)
        between()
        lock = lock_tables(Mode.ACCESS_EXCLUSIVE, self.history.source, self.work.names.source)
        title = f"rollback of the split of {self.work.spec.name}"
        self.work.locked(conn, title, exchange, lock=lock, between=between)

    def _require_indexes(self, conn: Connection, parent: Table) -> None:
        """Refuse where the exchange would build an index of history, which reads its rows under the lock.

        Raises:
            PreconditionError: the table has an index that history has not; says how to make it.
        """
        # One that a broken-off build left invalid is none: the server would build another beside it.
        there = {_like(index) for index in self.work.table(conn, self.history.source).indexes if index.is_valid}
        for index in parent.indexes:
            if _like(index) not in there:
                kind = "constraint" if index.constraint_name else "unique index" if index.is_unique else "index"
                how = "create index concurrently, a constraint then using it"
                message = (
                    f"{kind} {index.name} of {self.work.spec.name} was made since its history was split, and the "
                    f"rollback would build it under the lock: make it on {dotted(self.history.source)} first ({how}), "
                    "or drop it, then run again. Nothing was changed"
                )
                raise PreconditionError(message)

    def _drop_indexes(self, conn: Connection, parent: Table) -> None:
        """Drop the indexes of history that the application dropped from the table since: else they would come back.

        Only those that the table had when it was attached: what somebody made on history alone is left alone.
        """
        there = {_like(index) for index in parent.indexes}
        known = {index.history for index in self.statements.split.indexes}
        for index in self.work.table(conn, self.history.source).indexes:
            if index.is_primary or _like(index) in there or index.name not in known:
                continue
            place = sql.Identifier(*self.history.source)
            text = sql.SQL("drop index {}").format(sql.Identifier(self.history.source[0], index.name))
            if index.constraint_name:
                text = sql.SQL("alter table {} drop constraint {}").format(place, sql.Identifier(index.constraint_name))
            self._without(conn, index.name, text)

    def _without(self, conn: Connection, name: str, text: sql.Composed) -> None:
        def drop(held: Connection) -> None:
            held.execute(text)

        self.work.locked(conn, f"drop of {name}", drop, lock=lock_tables(Mode.ACCESS_EXCLUSIVE, self.history.source))

    def _require_unneeded(self, conn: Connection, parent: Table) -> None:
        """Refuse while something else needs a partition that the rollback takes off: it would go on with a dead table.

        Raises:
            PreconditionError: names all of it.
        """
        fine = self.fine(conn, parent)
        leaves = [leaf.oid for leaf in parent.partitions if leaf.name in fine]
        query = self.work.files.query("switchover/strategies/attach/needed_by.sql")
        if found := [row[0] for row in conn.execute(query, {"leaves": leaves})]:
            message = (
                f"rollback of the split of {self.work.spec.name}: {', '.join(found)}: these partitions go. Drop what "
                f"needs them, or make it on {self.work.spec.name}, then run again. Nothing was changed"
            )
            raise PreconditionError(message)

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


def _like(index: Index) -> tuple[object, ...]:
    """Return what makes two indexes of two tables the same one to the server, which takes no index for a constraint."""
    return index.constraint_name is None, index.is_unique, index.method, index.tail.split(" WITH (")[0], index.predicate


def finish_split(work: TableWork, conn: Connection) -> int:
    """Take the fence off, validate the foreign keys of the leaves, let the parent adopt them; return how many acts.

    Locks: SHARE UPDATE EXCLUSIVE on each leaf while it is validated, SHARE ROW EXCLUSIVE for the adoption (ms).
    """
    lowered = lower_fence(work, conn)
    return finish_keys(work, conn, work.names.source) + lowered
