"""The way back of a split of history, before its exchange and after it, and what both exchanges end with.

Before the exchange nothing but capture and copies is there, and they are dropped. After it history follows its fine
partitions by a key log: it is drained to zero under the lock and attached again. Must not know how a split is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from psycopg import sql

from rehearsal.catalog.tables import Catalog, Name, Table, dotted, split_name
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection, LockPolicy, LockReport, with_lock
from rehearsal.postgres.sqlfiles import SqlFiles, as_query, quote_ident
from rehearsal.switchover import state
from rehearsal.switchover.copy.replay import Drain, drain_to_zero
from rehearsal.switchover.drift import Watch
from rehearsal.switchover.names import Names
from rehearsal.switchover.snapshot_guard import Guard
from rehearsal.switchover.strategies.attach.layout import HistoryNames, Statements
from rehearsal.switchover.strategies.swap.exchange import finish_foreign_keys, lock_referenced, refuse_old_snapshots
from rehearsal.switchover.target.target import Shape


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


@dataclass(frozen=True, slots=True)
class SplitBack:
    """The way back of a split whose exchange was made."""

    files: SqlFiles
    plan: Plan
    spec: TableSpec
    statements: Statements
    tell: Callable[[LockReport], None]

    @property
    def names(self) -> Names:
        """Names around the partitioned table."""
        return Names(split_name(self.spec.name))

    @property
    def history(self) -> Names:
        """Names around history."""
        return Names(HistoryNames(self.names).history)

    @property
    def policy(self) -> LockPolicy:
        """Budget of each lock."""
        return LockPolicy(**self.plan.locks.model_dump())

    def drain(self, conn: Connection) -> Drain:
        """Return the drain by which history follows its fine partitions."""
        table = Catalog(conn, self.files).read(self.history.source)
        shape = Shape.of(table, self.spec.key, self.history)
        return Drain(self.files, shape, self.history.reverse_log, self.names.source, self.history.source)

    def go(self, conn: Connection, migration: int, watch: Watch) -> None:
        """Make history a partition again, with every row that was written since. Afterwards the table is attached.

        Locks: ACCESS EXCLUSIVE on the partitioned table for the last drain and the exchange.

        Raises:
            LockNotAcquired: the lock was not granted within its budget; history goes on following.
        """
        sub = state.read_migration(conn, self.history.source)
        drain, copying = self.drain(conn), self.plan.copying

        def between() -> None:
            watch.again(conn)
            drain.until(conn, copying.drain_until, copying.drain_batch)

        def work(held: Connection) -> None:
            watch.hold(held)
            refuse_old_snapshots(held)
            drain_to_zero(drain, held)
            parent = Catalog(held, self.files).read(self.names.source)
            lock_referenced(held, parent.foreign_keys)
            held.execute(as_query(self.sql(held, parent)))
            guard = Guard(self.files, self.names, migration).move(held)
            state.set_state(held, migration, state.ATTACHED, guard=guard)
            forget_copy(held, self.history, sub.id)

        self._prove_bound(conn)
        watch.look(conn)
        between()
        tables = sql.Identifier(*self.history.source), sql.Identifier(*self.names.source)
        lock = sql.SQL("lock table {}, {} in access exclusive mode").format(*tables)
        title = f"way back of the split of {self.spec.name}"
        _, report = with_lock(conn, title, work, lock=lock, policy=self.policy, between=between)
        self.tell(report)

    def _prove_bound(self, conn: Connection) -> None:
        """Prove the bound of history, which nobody uses, so that the exchange need not read its rows."""
        extra = HistoryNames(self.names)
        table = Catalog(conn, self.files).read(self.history.source)
        if not any(one.name == extra.bound for one in table.constraints):
            text = self.statements.render("attach_bound", of=self.history.source)
            conn.execute(as_query(text))
        conn.execute(as_query(self.statements.render("attach_validate", of=self.history.source)))

    def sql(self, conn: Connection, parent: Table) -> str:
        """Return the statements of the way back as the catalog is now."""
        detail = state.read_migration(conn, self.names.source).detail
        fine = [split_name(one) for one in detail["fine"]]
        there = {leaf.name for leaf in parent.partitions}
        kept = [name for name in there if name not in fine]
        return self.statements.render(
            "regrain_back",
            # One that the retention dropped meanwhile is no loss: its rows were to go.
            fine=[name for name in fine if name in there],
            foreign_keys=[key.name for key in parent.foreign_keys],
            weak_keys=weak_keys(parent, [self.history.source, *sorted(kept)]),
        )


def weak_keys(parent: Table, leaves: Sequence[Name]) -> list[str]:
    """Return the foreign keys of the parent for each leaf, not validated: enforced from this moment on."""
    return [
        f"alter table {quote_ident(leaf)} add constraint {quote_ident(key.name)} {key.definition} not valid"
        for key in parent.foreign_keys
        for leaf in leaves
    ]


def finish_split(
    conn: Connection, files: SqlFiles, spec: TableSpec, policy: LockPolicy, tell: Callable[[LockReport], None]
) -> int:
    """Take the guard off, validate the foreign keys of the leaves, let the parent adopt them; return how many acts.

    Locks: SHARE UPDATE EXCLUSIVE on each leaf while it is validated, SHARE ROW EXCLUSIVE for the adoption (ms).
    """
    names = Names(split_name(spec.name))
    found = state.read_migration(conn, names.source)
    report, _ = Guard(files, names, found.id).lower(conn, policy)
    if report:
        tell(report)
    keys = found.detail.get("foreign_keys", [])

    def validate(statements: list[str]) -> None:
        for one in statements:
            conn.execute(as_query(one))

    return finish_foreign_keys(conn, files, names.source, keys, policy, validate) + (report is not None)
