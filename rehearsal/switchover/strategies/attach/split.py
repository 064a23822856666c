"""Regrain: the history partition is split into fine partitions while writers are at work.

History is a table like any other, so the engine of a swap does the work: keys are captured, rows copied, the log
drained. Only the end differs: instead of a name, partitions are exchanged. Owns that exchange and the way to it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from psycopg import errors, sql

from rehearsal.catalog.keys import read_key_range
from rehearsal.catalog.tables import Catalog, Name, dotted, split_name
from rehearsal.environment import Database
from rehearsal.errors import PreconditionError, StepFailed
from rehearsal.evidence import Run
from rehearsal.plan.model import Plan, TableSpec
from rehearsal.postgres.connection import Connection, LockPolicy, LockReport, connect, told_clearly, with_lock
from rehearsal.postgres.sqlfiles import SqlFiles, as_query
from rehearsal.switchover import state
from rehearsal.switchover.copy.replay import drain_to_zero
from rehearsal.switchover.names import Names, fit
from rehearsal.switchover.sightings import Sight
from rehearsal.switchover.snapshot_guard import Guard
from rehearsal.switchover.strategies.attach.layout import HistoryNames, Split, fine_bounds
from rehearsal.switchover.strategies.attach.unsplit import finish_split, weak_keys
from rehearsal.switchover.strategies.swap.exchange import Exchange, lock_referenced, refuse_old_snapshots
from rehearsal.switchover.table import Switchover
from rehearsal.switchover.target.target import Shape, mirror_values_of, placed, target_values


@dataclass(frozen=True, slots=True)
class Fine:
    """One fine partition: its name, its bounds as text of the key's type, and the check that proves them."""

    name: Name
    lower: str | None
    upper: str
    check: str


@dataclass(frozen=True, slots=True)
class Regrain:
    """The split of one attached table's history."""

    database: Database
    files: SqlFiles
    plan: Plan
    spec: TableSpec
    run: Run

    @property
    def names(self) -> Names:
        """Names around the partitioned table."""
        return Names(split_name(self.spec.name))

    @property
    def history(self) -> Names:
        """Names around history, which is the source of the copy."""
        return Names(HistoryNames(self.names).history)

    @property
    def policy(self) -> LockPolicy:
        """Budget of each lock."""
        return LockPolicy(**self.plan.locks.model_dump())

    @property
    def copying(self) -> Switchover:
        """The engine that brings the fine partitions to follow history."""
        spec = self.spec.model_copy(update={"name": dotted(self.history.source), "default_partition": False})
        plan = self.plan.model_copy(update={"strategy": "swap", "tables": [spec]})
        return Switchover(self.database, self.files, plan, spec, self.run)

    def split(self) -> bool:
        """Split history into partitions of the plan's interval. Returns whether anything was done.

        The old history table is kept, detached, and follows until `invoke db.cleanup`. Resumes after any kill.
        Locks: SHARE ROW EXCLUSIVE on history for milliseconds, then ACCESS EXCLUSIVE on the table for the exchange.

        Raises:
            PreconditionError: the table is not attached.
            LockNotAcquired: a lock was not granted within its budget; what is done is kept, run again.
        """
        with told_clearly(f"split of {self.spec.name}"), connect(self.database) as conn:
            found = state.read_migration(conn, self.names.source)
            if found.state not in (state.ATTACHED, state.REGRAINED):
                message = f"table {self.spec.name} is {found.state}; history can be split once it is attached"
                raise PreconditionError(message)
            if found.state == state.ATTACHED:
                split = Split.of_detail(found.detail)
                if state.find_migration(conn, self.history.source) is None:
                    self._make_twin(conn, split)
                self.copying.prepare()
                self._check_bounds(conn, split)
                self._lock_event(self._exchange(conn, found.id))
            finished = self._finish(conn)
            return found.state == state.ATTACHED or finished

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _make_twin(self, conn: Connection, split: Split) -> None:
        """Make the fine partitions and the capture of history, in one transaction; writers wait milliseconds."""
        extra = HistoryNames(self.names)
        # The copy of the old primary key is unique without the partition key: fine partitions cannot have it.
        index = sql.Identifier(extra.history[0], extra.back_index)
        conn.execute(sql.SQL("drop index concurrently if exists {}").format(index))
        texts = self.twin_sql(conn, split)

        def work(held: Connection) -> None:
            for text in texts:
                held.execute(as_query(text))

        lock = sql.SQL("lock table {} in share row exclusive mode").format(sql.Identifier(*self.history.source))
        _, report = with_lock(conn, f"capture on {dotted(self.history.source)}", work, lock=lock, policy=self.policy)
        self._lock_event(report)

    def twin_sql(self, conn: Connection, split: Split) -> list[str]:
        """Return the statements that make the fine partitions and the capture of history."""
        copying = self.copying
        values = target_values(conn, self.files, copying.plan, copying.spec, datetime.now(UTC))
        oldest, _ = read_key_range(conn, self.history.source, self.spec.key)
        bounds = fine_bounds(self.spec, split, oldest)
        leaves = [{"name": self.names.leaf(one.suffix), "bound": one.sql} for one in bounds]
        table = Catalog(conn, self.files).read(self.history.source)
        shape = Shape.of(table, self.spec.key, self.history)
        older = {"older": self.names.leaf("older"), "target": self.history.target, "first": bounds[0].lower}
        return [
            self.files.render("steps/target.sql.j2", **{**values, **placed(leaves, values["default_leaf"])}),
            self.files.render("steps/regrain_older.sql.j2", **older),
            self.files.render("steps/mirror.sql.j2", **mirror_values_of(shape, "swap")),
        ]

    def fine(self, conn: Connection) -> list[Fine]:
        """Return the fine partitions, as they stand under their temporary parent."""
        twin = Catalog(conn, self.files).read(self.history.target)
        return [
            Fine(leaf.name, leaf.lower, leaf.upper or "", fit(leaf.name[1], "_rehearsal_bounds"))
            for leaf in twin.partitions
        ]

    def check_sql(self, leaf: Fine, split: Split) -> str:
        """Return the statements that prove the bounds of a fine partition."""
        values = {"leaf": leaf.name, "check": leaf.check, "lower": leaf.lower, "upper": leaf.upper}
        return self.files.render("steps/regrain_check.sql.j2", key=self.spec.key, key_type=split.key_type, **values)

    def _check_bounds(self, conn: Connection, split: Split) -> None:
        catalog = Catalog(conn, self.files)
        for leaf in self.fine(conn):
            if not any(one.name == leaf.check for one in catalog.read(leaf.name).constraints):
                with conn.transaction():
                    conn.execute(as_query(self.check_sql(leaf, split)))

    def exchange_sql(self, conn: Connection) -> str:
        """Return the statements of the exchange as the catalog is now."""
        parent, fine = Catalog(conn, self.files).read(self.names.source), self.fine(conn)
        leaves = [leaf.name for leaf in fine]
        leaves += [one.name for one in parent.partitions if one.name != self.history.source]
        return self.files.render(
            "steps/regrain.sql.j2",
            source=self.names.source,
            history=self.history.source,
            twin=self.history.target,
            fine=[asdict(leaf) for leaf in fine],
            foreign_keys=[key.name for key in parent.foreign_keys],
            weak_keys=weak_keys(parent, leaves),
            capture_trigger=self.history.capture_trigger,
            truncate_trigger=self.history.truncate_trigger,
            reverse_capture_trigger=self.history.reverse_capture_trigger,
            capture_reverse=self.history.function("capture_reverse"),
            refuse_truncate=self.history.function("refuse_truncate"),
        )

    def _exchange(self, conn: Connection, migration: int) -> LockReport:
        copying = self.copying
        sub = state.read_migration(conn, self.history.source)
        drain = Exchange(self.files, copying.plan, copying.shape(conn), sub.id).forward

        watch = copying.examine(conn)

        def between() -> None:
            watch.again(conn)
            copying.follow(rest=self.plan.copying.drain_until)

        def work(held: Connection) -> None:
            watch.hold(held)
            refuse_old_snapshots(held)
            drain_to_zero(drain, held)
            parent = Catalog(held, self.files).read(self.names.source)
            lock_referenced(held, parent.foreign_keys)
            leaves = [leaf.name for leaf in self.fine(held)]
            self._swap_partitions(held)
            keys = [{"name": key.name, "definition": key.definition} for key in parent.foreign_keys]
            fine = [dotted(leaf) for leaf in leaves]
            guard = Guard(self.files, self.names, migration).move(held)
            state.set_state(held, migration, state.REGRAINED, foreign_keys=keys, fine=fine, guard=guard)
            state.set_state(held, sub.id, state.SWAPPED)
            sight = Sight(self.files, self.history, self.history.source, self.names.source)
            sight.remember(held, self.names.source)

        between()
        tables = sql.Identifier(*self.history.target), sql.Identifier(*self.names.source)
        lock = sql.SQL("lock table {}, {} in access exclusive mode").format(*tables)
        title = f"exchange of the history of {self.spec.name}"
        _, report = with_lock(conn, title, work, lock=lock, policy=self.policy, between=between)
        return report

    def _swap_partitions(self, held: Connection) -> None:
        said: list[str] = []

        def listen(notice: errors.Diagnostic) -> None:
            said.append(notice.message_primary or "")

        names = {leaf.name[1] for leaf in self.fine(held)}
        text = self.exchange_sql(held)
        held.add_notice_handler(listen)
        try:
            held.execute(as_query(text))
        finally:
            held.remove_notice_handler(listen)
        read = [name for name in names if f'verifying table "{name}"' in said]
        if read:
            message = f"split of {self.spec.name}: rows of {read[0]} were read to check its bounds; nothing was changed"
            raise StepFailed(message)

    def _finish(self, conn: Connection) -> bool:
        """Validate the foreign keys and let the parent adopt them; take the guard off; statistics of the parent."""
        done = finish_split(conn, self.files, self.spec, self.policy, self._lock_event)
        found = state.read_migration(conn, self.names.source)
        if state.is_done(conn, found.id, "regrain-statistics"):
            return done > 0
        conn.execute(sql.SQL("analyze {}").format(sql.Identifier(*self.names.source)))
        with conn.transaction():
            state.mark_done(conn, found.id, "regrain-statistics")
        return True

    def _lock_event(self, report: LockReport) -> None:
        self.run.event("lock", table=self.spec.name, **asdict(report))
