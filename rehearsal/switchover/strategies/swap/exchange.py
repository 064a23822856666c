"""Swap of names and its rollback, each in one short transaction under lock.

Owns what moves with the name: indexes, sequences, foreign keys, capture. Under the lock the log is replayed to zero,
so the table that takes the name has every acknowledged write; after the commit the other one follows by the log of
the opposite direction, so that the rollback loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rehearsal.catalog.tables import Catalog, Name, Table
from rehearsal.plan.model import Plan
from rehearsal.postgres.connection import Connection
from rehearsal.postgres.locks import LockPolicy, LockReport, Mode, lock_tables, with_lock
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover import state
from rehearsal.switchover.copy.replay import forward_of, replay_to_zero, reverse_of
from rehearsal.switchover.detail import Detail
from rehearsal.switchover.drift import Watch
from rehearsal.switchover.kept import IndexNames, StatisticsNames
from rehearsal.switchover.names import fit
from rehearsal.switchover.sightings import Sight
from rehearsal.switchover.snapshot_fence import SnapshotFence, refuse_old_snapshots
from rehearsal.switchover.strategies.swap.dependents import Moves, read_moves
from rehearsal.switchover.strategies.swap.partition_guard import PartitionGuard
from rehearsal.switchover.target.carry import exchange_values, read_carried, statistics_names
from rehearsal.switchover.target.foreign_keys import commented, kept_key, leaf_keys, lock_referenced, weak_keys
from rehearsal.switchover.target.indexes import plan_indexes
from rehearsal.switchover.target.references import require_prepared
from rehearsal.switchover.target.target import Shape


@dataclass(frozen=True, slots=True)
class Exchange:
    """The two directions of a swap of one table."""

    files: SqlFiles
    plan: Plan
    shape: Shape
    migration: int

    @property
    def fence(self) -> SnapshotFence:
        """Fence against snapshots from before the exchange."""
        return SnapshotFence(self.files, self.shape.names, self.migration)

    @property
    def guard(self) -> PartitionGuard:
        """Guard of the partitions while the application does not have them."""
        return PartitionGuard(self.files, self.shape.names)

    def swap_sql(self, conn: Connection, source: Table, target: Table, moved: Moves) -> str:
        """Return the statements of the swap; `moved` goes along."""
        values = self._values(conn, source, moved)
        values["indexes"] = self._index_names(source)
        values["statistics"] = self._statistics_names(conn, source)
        values["weak_keys"] = weak_keys(source, [leaf.name for leaf in target.partitions])
        return self.files.render("switchover/strategies/swap/swap.sql.j2", **values)

    def roll_back_sql(self, conn: Connection, moved: Moves) -> str:
        """Return the statements of the rollback as the catalog is now; `moved` goes along."""
        catalog, names = Catalog(conn, self.files), self.shape.names
        parted = catalog.read(names.source)
        kept = state.read_migration(conn, names.source).detail
        values = self._values(conn, parted, moved)
        values["indexes"] = kept.indexes
        values["statistics"] = kept.statistics
        values["weak_keys"] = commented(kept.foreign_keys or (), parted.foreign_keys)
        values["leaf_keys"] = leaf_keys(conn, parted)
        return self.files.render("switchover/strategies/swap/swap_back.sql.j2", **values)

    def _statistics_names(self, conn: Connection, source: Table) -> list[StatisticsNames]:
        return statistics_names(read_carried(conn, self.files, source.oid)["statistics"])

    def _values(self, conn: Connection, live: Table, moved: Moves) -> dict[str, Any]:
        names = self.shape.names
        return {
            "before": moved.before,
            "after": moved.after,
            "source": names.source,
            "target": names.target,
            "retired": names.retired,
            "foreign_keys": [key.name for key in live.foreign_keys],
            "capture_trigger": names.capture_trigger,
            "reverse_capture_trigger": names.reverse_capture_trigger,
            "truncate_trigger": names.truncate_trigger,
            **exchange_values(conn, self.files, live),
        }

    def _index_names(self, source: Table) -> list[IndexNames]:
        """Return the three names of each index: as the source's, as the target's (if it has one), as the retired's."""
        schema, target = self.shape.names.source[0], self.shape.names.target
        return [
            IndexNames(
                source=(schema, plan.source_name),
                target=(schema, plan.parent_name(target)) if plan.on_parent else None,
                retired=(schema, fit(plan.source_name, "_old")),
            )
            for plan in plan_indexes(source, self.shape)
        ]

    def swap(self, conn: Connection, policy: LockPolicy, between: Callable[[], None], watch: Watch) -> LockReport:
        """Give the target the source's name. Second run: see `rehearsal.migration.state`.

        `watch` has looked; what was altered since gives the lock back.

        Locks: ACCESS EXCLUSIVE on views, rules' and policies' tables that point at the source, then on the source,
        for the final replay and the renames; the referenced tables for milliseconds.

        Raises:
            LockNotAcquired: the budget is spent; nothing changed.
            PreconditionError: something points at the source that cannot be moved; nothing changed.
            StepFailed: something would be left behind; nothing changed.
        """
        # The target is ours alone, so it is read before anybody waits; the source may have changed until the lock.
        target = Catalog(conn, self.files).read(self.shape.names.target)

        def work(held: Connection) -> None:
            watch.hold(held)
            replay_to_zero(forward_of(self.files, self.shape), held)
            source = Catalog(held, self.files).read(self.shape.names.source)
            moved = self.moves(held, source)
            require_prepared(moved.references, self.shape.key)
            lock_referenced(held, source.foreign_keys)
            statistics = self._statistics_names(held, source)
            held.execute(as_query(self.guard.off_sql(target)))
            held.execute(as_query(self.swap_sql(held, source, target, moved)))
            moved.check(held, self.files, source, target)
            kept = Detail(
                foreign_keys=tuple(kept_key(key) for key in source.foreign_keys),
                indexes=tuple(self._index_names(source)),
                statistics=tuple(statistics),
                references=moved.references,
                guard=self.fence.move(held, self.shape.names.retired),
            )
            state.set_state(held, self.migration, state.SWAPPED, kept)
            watch.remember(held, self._sight(swapped=True))

        return self._locked(conn, "swap", self.shape.names.target, work, policy, between)

    def roll_back(self, conn: Connection, policy: LockPolicy, between: Callable[[], None], watch: Watch) -> LockReport:
        """Give the retired table its name again; it has every write acknowledged so far.

        Locks and errors as for `swap`. Afterwards the partitioned table follows, ready for the next swap.
        """

        def work(held: Connection) -> None:
            watch.hold(held)
            replay_to_zero(reverse_of(self.files, self.shape), held)
            catalog, names = Catalog(held, self.files), self.shape.names
            parted, retired = catalog.read(names.source), catalog.read(names.retired)
            moved = self.moves(held, parted)
            lock_referenced(held, parted.foreign_keys)
            held.execute(as_query(self.roll_back_sql(held, moved)))
            held.execute(as_query(self.guard.on_sql(parted)))
            moved.check(held, self.files, parted, retired)
            kept = Detail(guard=self.fence.move(held, names.target), rolled_back=True)
            state.set_state(held, self.migration, state.FOLLOWING, kept)
            watch.remember(held, self._sight(swapped=False))

        return self._locked(conn, "rollback of the swap", self.shape.names.retired, work, policy, between)

    def _sight(self, *, swapped: bool) -> Sight:
        names = self.shape.names
        tables = (names.retired, names.source) if swapped else (names.source, names.target)
        return Sight(self.files, names, *tables)

    def moves(self, conn: Connection, live: Table) -> Moves:
        """Return what goes along when the table that has the name just now gives it away."""
        return read_moves(conn, self.files, self.plan, self.shape.names.source, live)

    def _locked(
        self,
        conn: Connection,
        what: str,
        other: Name,
        work: Callable[[Connection], None],
        policy: LockPolicy,
        between: Callable[[], None],
    ) -> LockReport:
        live = Catalog(conn, self.files).read(self.shape.names.source)
        # The other table first: whoever reads it is waited for while the application still has its table.
        tables = lock_tables(Mode.ACCESS_EXCLUSIVE, other, live.name).as_string(conn)
        lock = as_query(";\n".join([*self.moves(conn, live).locks, tables]))
        title = f"{what} of {'.'.join(self.shape.names.source)}"

        def fenced(held: Connection) -> None:
            refuse_old_snapshots(held)
            work(held)

        _, report = with_lock(conn, title, fenced, lock=lock, policy=policy, between=between)
        return report
